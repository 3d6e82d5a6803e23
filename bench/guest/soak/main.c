// soak SECONDS: all parts at once, each in its own process, round after round, until the time is
// over or a round was wrong. A line every ten seconds says how many rounds there have been; the
// last says "soak: well" or "soak: failed". The status is 0 where nothing was wrong or lost.
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "soak.h"

static const struct {
    const char *name;
    bool (*round)(uint64_t seed);
} parts[] = {
    {"compile", soak_compile},   {"compress", soak_compress},
    {"forks", soak_forks},       {"pipes", soak_pipes},
    {"signals", soak_signals},   {"interrupted-floats", soak_interrupted_floats},
    {"counters", soak_counters}, {"clock", soak_clock},
    {"mappings", soak_mappings}, {"protection", soak_protection},
    {"code", soak_code},
};
enum { PARTS = sizeof parts / sizeof parts[0], REPORT_SECONDS = 10 };

// Shared by all processes.
struct board {
    volatile unsigned rounds[PARTS];
    volatile bool stop;
};

bool soak_wrong(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "soak: wrong: %s\n", line);
    return false;
}

static time_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

// A part's process: in a folder of its own.
static int run_part(struct board *board, int part)
{
    if ((mkdir(parts[part].name, 0700) != 0 && errno != EEXIST) || chdir(parts[part].name) != 0) {
        perror(parts[part].name);
        return 1;
    }
    while (!board->stop) {
        // Never zero, which the generator would not leave.
        if (!parts[part].round(board->rounds[part] * 2654435761u + (unsigned)part + 1)) {
            fprintf(stderr, "soak: failed: %s, round %u\n", parts[part].name, board->rounds[part]);
            return 1;
        }
        board->rounds[part]++;
    }
    return 0;
}

static void report(const struct board *board, time_t since)
{
    printf("soak: %ld s:", (long)(now() - since));
    for (int i = 0; i < PARTS; i++)
        printf(" %s %u", parts[i].name, board->rounds[i]);
    printf("\n");
}

// Until the time is over or a part has ended early; the number of parts that ended badly so far.
static int watch(struct board *board, time_t seconds, pid_t children[PARTS])
{
    time_t start = now(), reported = start;
    int failed = 0;
    while (!failed && now() - start < seconds) {
        sleep(1);
        if (now() - reported >= REPORT_SECONDS) {
            reported = now();
            report(board, start);
        }
        for (int i = 0; i < PARTS; i++)
            if (waitpid(children[i], NULL, WNOHANG) == children[i]) {
                children[i] = 0;
                failed++;
            }
    }
    board->stop = true;
    for (int i = 0, status; i < PARTS; i++)
        if (children[i] && (waitpid(children[i], &status, 0) < 0 || status != 0))
            failed++;
    report(board, start);
    return failed;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (argc != 2 || board == MAP_FAILED) {
        fprintf(stderr, "usage: soak SECONDS\n");
        return 2;
    }
    pid_t children[PARTS];
    for (int i = 0; i < PARTS; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(run_part(board, i));
        if (children[i] < 0) {
            perror("soak: fork");
            return 1;
        }
    }
    int failed = watch(board, atol(argv[1]), children);
    for (int i = 0; i < PARTS; i++)
        if (board->rounds[i] == 0) {
            soak_wrong("%s never ended a round", parts[i].name);
            failed++;
        }
    printf("soak: %s\n", failed ? "failed" : "well");
    return failed != 0;
}
