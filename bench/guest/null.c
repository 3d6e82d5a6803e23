// null N: the least that a system call takes, of N batches. The number is one that no kernel has,
// so that nothing is measured but the way in and out.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1000, NO_SUCH_CALL = 100000 };

int main(int argc, char **argv)
{
    int count = argc == 2 ? atoi(argv[1]) : 1;
    double best = 0;
    for (int i = 0; i < count; i++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int j = 0; j < BATCH; j++)
            if (syscall(NO_SUCH_CALL) != -1 || errno != ENOSYS)
                return 1;
        clock_gettime(CLOCK_MONOTONIC, &end);
        double ns = (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
        if (i == 0 || ns < best)
            best = ns;
    }
    printf("figure null-system-call %.1f ns\n", best / BATCH);
    return 0;
}
