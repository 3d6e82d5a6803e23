// job-pair N: how much more work two processes do than one, at best of N tries: 2 where each has a
// processor.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TABLE = 4096, STEPS = 12000000 };

// Arithmetic, loads and stores that nothing can leave out.
static int compute(void)
{
    static unsigned table[TABLE];
    unsigned x = 1;
    for (int i = 0; i < STEPS; i++) {
        x = x * 1664525 + 1013904223;
        unsigned *at = &table[x >> 20];
        x ^= *at >> 3;
        *at += x;
    }
    return x == 0;
}

// Seconds until so many processes have done a job each; negative where one could not.
static double seconds(int jobs)
{
    struct timespec start, end;
    int failed = 0, status;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < jobs; i++) {
        pid_t child = fork();
        if (child < 0)
            return -1;
        if (child == 0)
            _exit(compute());
    }
    while (wait(&status) > 0)
        failed |= status;
    clock_gettime(CLOCK_MONOTONIC, &end);
    return failed ? -1 : (double)(end.tv_sec - start.tv_sec) + (end.tv_nsec - start.tv_nsec) / 1e9;
}

int main(int argc, char **argv)
{
    int tries = argc == 2 ? atoi(argv[1]) : 1;
    double one = 0, two = 0;
    for (int i = 0; i < tries; i++) {
        double now_one = seconds(1), now_two = seconds(2);
        if (now_one <= 0 || now_two <= 0)
            return 1;
        one = i == 0 || now_one < one ? now_one : one;
        two = i == 0 || now_two < two ? now_two : two;
    }
    printf("figure two-jobs %.3f x\n", 2 * one / two);
    return 0;
}
