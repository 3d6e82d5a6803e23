#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "soak.h"

enum { STORM = 40, STORMS = 5 };

// A child that computes in memory that it shares with its parent until it writes, or runs a
// program.
static void child_of_storm(unsigned char *memory, size_t size, int i)
{
    if (i % 4 == 0)
        execl("/bench/bin/nothing", "nothing", (char *)NULL);
    unsigned sum = 0;
    for (size_t at = 0; at < size; at += 512) {
        memory[at] = (unsigned char)(memory[at] + i);
        sum += memory[at];
    }
    _exit((int)(sum & 0x7f));
}

static unsigned char memory[64 * 1024];

static int status_due(int i)
{
    unsigned sum = 0;
    for (size_t at = 0; at < sizeof memory; at += 512)
        sum += (unsigned char)(memory[at] + i);
    return i % 4 == 0 ? 0 : (int)(sum & 0x7f);
}

// Many children at once; every one must be heard of, with the status that it must have, and must
// not have written to its parent's memory.
static bool storm(void)
{
    pid_t children[STORM];
    int born = 0, lost = 0;
    for (; born < STORM; born++) {
        children[born] = fork();
        if (children[born] == 0)
            child_of_storm(memory, sizeof memory, born);
        if (children[born] < 0)
            break;
    }
    for (int i = 0; i < born; i++) {
        int status;
        if (waitpid(children[i], &status, 0) != children[i] || !WIFEXITED(status) ||
            WEXITSTATUS(status) != status_due(i))
            lost++;
    }
    return (born == STORM || soak_wrong("forks: %s", strerror(errno))) &&
           (lost == 0 || soak_wrong("forks: %d of %d children lost or wrong", lost, STORM));
}

bool soak_forks(uint64_t seed)
{
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (unsigned char)soak_random(&seed);
    for (int i = 0; i < STORMS; i++)
        if (!storm())
            return false;
    return true;
}

enum { PIPED = 4 << 20 };

// Writes pieces of every size; ends with a status.
static int write_all(int fd, uint64_t seed)
{
    unsigned char piece[9000];
    uint64_t data = seed, sizes = seed + 1;
    for (size_t left = PIPED; left;) {
        size_t size = soak_random(&sizes) % sizeof piece + 1;
        size = size < left ? size : left;
        for (size_t i = 0; i < size; i++)
            piece[i] = (unsigned char)soak_random(&data);
        for (size_t done = 0; done < size;) {
            ssize_t n = write(fd, piece + done, size - done);
            if (n <= 0)
                return 1;
            done += (size_t)n;
        }
        left -= size;
    }
    return 0;
}

static bool read_all(int fd, uint64_t seed)
{
    unsigned char piece[5000];
    uint64_t data = seed;
    size_t have = 0;
    ssize_t n;
    while ((n = read(fd, piece, sizeof piece)) > 0)
        for (ssize_t i = 0; i < n; i++, have++)
            if (piece[i] != (unsigned char)soak_random(&data))
                return soak_wrong("pipes: byte %zu is not what was written", have);
    return (n == 0 && have == PIPED) || soak_wrong("pipes: %zu of %d bytes", have, PIPED);
}

bool soak_pipes(uint64_t seed)
{
    int ends[2], status = 0;
    if (pipe(ends) != 0)
        return soak_wrong("pipes: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        _exit(write_all(ends[1], seed));
    }
    close(ends[1]);
    bool right = child > 0 ? read_all(ends[0], seed) : soak_wrong("pipes: fork failed");
    close(ends[0]);
    if (child > 0 && (waitpid(child, &status, 0) != child || status != 0) && right)
        right = soak_wrong("pipes: the writer ended with %#x", status);
    return right;
}
