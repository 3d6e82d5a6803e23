// faults N: maps 4 MiB, writes to each page, gives them back; N times. Prints a sum of what it
// read.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 1024 };

int main(int argc, char **argv)
{
    int count = argc == 2 ? atoi(argv[1]) : 1;
    unsigned long sum = 0;
    for (int i = 0; i < count; i++) {
        unsigned char *at = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            return 1;
        for (int p = 0; p < PAGES; p++) {
            sum += at[p * PAGE + 1]; // zero, or the kernel gave away someone's page
            at[p * PAGE + p] = (unsigned char)(i + p);
        }
        for (int p = 0; p < PAGES; p++)
            sum += at[p * PAGE + p];
        if (munmap(at, (size_t)PAGES * PAGE) != 0)
            return 1;
    }
    printf("%lu\n", sum);
    return 0;
}
