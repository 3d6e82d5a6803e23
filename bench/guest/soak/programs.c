#include <stdlib.h>
#include <sys/wait.h>

#include "soak.h"

static bool run(const char *what, const char *line)
{
    int status = system(line);
    return status == 0 || soak_wrong("%s: status %#x", what, status);
}

bool soak_compile(uint64_t seed)
{
    return run("compile", seed % 2 ? "gcc -O2 -o program /bench/data/program.c"
                                   : "gcc -O1 -g0 -o program /bench/data/program.c") &&
           run("compiled program",
               "./program > result && busybox cmp result /bench/expected/compile");
}

bool soak_compress(uint64_t seed)
{
    return run("compress", seed % 2 ? "zstd -q -f -9 --single-thread /bench/data/text -o packed"
                                    : "zstd -q -f -3 --single-thread /bench/data/text -o packed") &&
           run("decompress",
               "zstd -q -dc packed | sha256sum > sum && busybox cmp sum /bench/expected/zstd");
}
