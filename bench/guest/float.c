// float N: a product of two matrices, and a sum of sines, N times over. Prints both to nine digits:
// the mathematics library differs in the last ones with what the processor offers.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 160, SINES = 100000 };

static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

static void fill(double seed)
{
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = (i * 7 + j * 3) % 11 + seed;
            b[i][j] = (i * 5 + j * 13) % 17 - seed;
        }
}

static double product_trace(void)
{
    double trace = 0;
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            double sum = 0;
            for (int k = 0; k < SIZE; k++)
                sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
    for (int i = 0; i < SIZE; i++)
        trace += c[i][i];
    return trace;
}

static double sines(void)
{
    double sum = 0;
    for (int i = 0; i < SINES; i++)
        sum += sin(i * 0.001);
    return sum;
}

int main(int argc, char **argv)
{
    int count = argc == 2 ? atoi(argv[1]) : 1;
    double trace = 0, sum = 0;
    for (int i = 0; i < count; i++) {
        fill(i * 0.25);
        trace += product_trace();
        sum += sines();
    }
    printf("%.9g %.9g\n", trace, sum);
    return 0;
}
