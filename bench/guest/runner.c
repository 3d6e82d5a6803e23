// Runs workloads and says how long they took: the first process of a guest, or a program in a
// chroot of the same files.
//
// A workload is a shell script in /bench/workloads that defines run() and check(). run() is timed,
// from before the fork of its shell until it was waited for; check() prints what must be the
// contents of /bench/expected/NAME. Lines on the console, for people and programs alike:
//     begin NAME                      a run starts
//     done NAME NANOSECONDS USED      that run; USED: processor time of all its processes
//     failed NAME: REASON             of a run that did not end well, or came to a wrong result
//     figure NAME VALUE UNIT          handed through from what run() prints
//     workloads end FAILURES
// Options: --runs N, --scale N ($SCALE in the scripts), --shell; then names, or none for all; "--"
// ends them.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKLOADS "/bench/workloads"
#define OUTPUT    "/tmp/output"
#define WORK      "/tmp/work"

enum { NAMES_MAX = 64, OUTPUT_MAX = 4096, PAUSE_US = 30000 };

struct options {
    int runs;
    double budget;
    const char *scale;
    const char *soak;
    bool shell;
    int count;
    const char *names[NAMES_MAX];
};

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

// Processor time of all processes that were waited for.
static long long used_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000ll +
           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000ll;
}

// Runs a line of shell with its output in a file. What wait() says of it, or -1.
static int run_shell(const char *line)
{
    pid_t child = fork();
    if (child < 0)
        return -1;
    if (child == 0) {
        int out = open(OUTPUT, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || chdir(WORK) != 0)
            _exit(126);
        execl("/bin/sh", "sh", "-ec", line, (char *)NULL);
        _exit(127);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

// The first OUTPUT_MAX - 1 bytes of a file; nothing where there is none.
static void read_text(const char *path, char text[OUTPUT_MAX])
{
    text[0] = 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return;
    size_t have = 0;
    ssize_t n;
    while (have < OUTPUT_MAX - 1 && (n = read(fd, text + have, OUTPUT_MAX - 1 - have)) > 0)
        have += (size_t)n;
    text[have] = 0;
    close(fd);
}

static bool fail(const char *name, const char *why, const char *text)
{
    printf("failed %s: %s\n%s\n", name, why, text);
    return false;
}

static void print_figures(char *text)
{
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "figure ", 7) == 0)
            puts(line);
}

// Whether the result was right; adds the time to *total.
static bool run_once(const char *name, double *total)
{
    char line[256], path[256], text[OUTPUT_MAX], expected[OUTPUT_MAX];
    if (run_shell("rm -rf " WORK "/*") != 0) {
        read_text(OUTPUT, text);
        return fail(name, "its folder could not be emptied", text);
    }
    snprintf(line, sizeof line, ". " WORKLOADS "/%s; run", name);
    printf("begin %s\n", name);
    usleep(PAUSE_US);
    long long used = used_ns(), start = now_ns();
    int status = run_shell(line);
    long long took = now_ns() - start;
    used = used_ns() - used;
    *total += (double)took / 1e9;
    read_text(OUTPUT, text);
    if (status != 0)
        return fail(name,
                    WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "run() did not end well",
                    text);
    printf("done %s %lld %lld\n", name, took, used);
    usleep(PAUSE_US);
    print_figures(text);
    snprintf(line, sizeof line, ". " WORKLOADS "/%s; check", name);
    status = run_shell(line);
    read_text(OUTPUT, text);
    snprintf(path, sizeof path, "/bench/expected/%s", name);
    read_text(path, expected);
    if (status != 0)
        return fail(name, "check() did not end well", text);
    if (strcmp(text, expected) != 0)
        return fail(name, "a wrong result", text);
    return true;
}

// The number of workloads of which a run failed.
static int run_all(const struct options *options)
{
    int failures = 0;
    for (int i = 0; i < options->count; i++) {
        bool right = true;
        double took = 0;
        for (int run = 0; run < options->runs && right && took <= options->budget; run++)
            right = run_once(options->names[i], &took);
        failures += !right;
    }
    return failures;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void find_all(struct options *options)
{
    DIR *folder = opendir(WORKLOADS);
    if (!folder)
        return;
    for (struct dirent *e; (e = readdir(folder)) && options->count < NAMES_MAX;)
        if (e->d_name[0] != '.')
            options->names[options->count++] = strdup(e->d_name);
    closedir(folder);
    qsort(options->names, (size_t)options->count, sizeof options->names[0], compare_names);
}

static struct options parse(char **argv)
{
    struct options options = {.runs = 1, .budget = 1e9, .scale = "10"};
    for (argv++; *argv && strcmp(*argv, "--") != 0; argv++) {
        if (strcmp(*argv, "--runs") == 0 && argv[1])
            options.runs = atoi(*++argv);
        else if (strcmp(*argv, "--budget") == 0 && argv[1])
            options.budget = atof(*++argv);
        else if (strcmp(*argv, "--scale") == 0 && argv[1])
            options.scale = *++argv;
        else if (strcmp(*argv, "--soak") == 0 && argv[1])
            options.soak = *++argv;
        else if (strcmp(*argv, "--shell") == 0)
            options.shell = true;
        else if (options.count < NAMES_MAX)
            options.names[options.count++] = *argv;
    }
    if (options.count == 0)
        find_all(&options);
    return options;
}

// What programs expect to find. What can't be made is missed by those that need it.
static void furnish(void)
{
    static const struct {
        const char *path;
        int minor;
    } devices[] = {{"/dev/null", 3}, {"/dev/zero", 5}, {"/dev/random", 8}, {"/dev/urandom", 9}};
    umask(0);
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++)
        mknod(devices[i].path, S_IFCHR | 0666, makedev(1, devices[i].minor));
    mkdir("/tmp", 01777);
    mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mkdir(WORK, 0777);
    umask(022);
}

// 0 where it went well.
static int run_soak(const char *seconds)
{
    char line[256];
    snprintf(line, sizeof line, "cd " WORK " && exec /bench/bin/soak %s", seconds);
    return system(line) != 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct options options = parse(argv);
    furnish();
    setenv("PATH", "/usr/bin:/bench/bin", 1);
    setenv("LC_ALL", "C", 1);
    setenv("SCALE", options.scale, 1);
    setenv("TMPDIR", "/tmp", 1);
    int failures = 0;
    if (options.shell)
        failures = system("exec busybox setsid -c busybox sh");
    else if (options.soak)
        failures = run_soak(options.soak);
    else
        failures = run_all(&options);
    printf("workloads end %d\n", failures);
    fflush(stdout);
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    return failures != 0;
}
