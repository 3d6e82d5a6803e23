/*
 * libdoppel as a program sees it: only its public header, only what it exports. argv[1] is a guest
 * of our own, which leaves by the debug exit.
 */
#include "doppel/doppel.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void check(bool ok, const char *what)
{
    static int count;
    failures += !ok;
    printf("%sok %d %s\n", ok ? "" : "not ", ++count, what);
    fflush(stdout);
}

static doppel_config *configure(const char *kernel)
{
    doppel_config *c = doppel_config_new();
    if (!c || doppel_config_set(c, "kernel", kernel) != 0 ||
        doppel_config_set(c, "memory", "64M") != 0 || doppel_config_set(c, "no-reboot", NULL) != 0)
        abort();
    return c;
}

static void run_to_the_debug_exit(const char *kernel)
{
    doppel_config *c = configure(kernel);
    check(doppel_config_set(c, "debug-exit", NULL) == 0, "options without a value can be set");
    doppel_machine *m = doppel_machine_new(c);
    check(m != NULL, "a machine can be made");
    check(m && doppel_machine_run(m) == DOPPEL_DEBUG_EXIT, "it runs to the debug exit");
    check(m && doppel_machine_value(m) == 0x10, "the exit's value is there");
    check(m && doppel_machine_instructions(m) > 1000, "instructions were counted");
    doppel_machine_free(m);
    doppel_config_free(c);
}

static void *end_it(void *machine)
{
    doppel_machine_end(machine);
    return NULL;
}

/* Before it runs or while it does: both end it. */
static void end_from_another_thread(const char *kernel)
{
    doppel_config *c = configure(kernel);
    doppel_machine *m = doppel_machine_new(c);
    pthread_t thread;
    bool ok = m && pthread_create(&thread, NULL, end_it, m) == 0;
    check(ok && doppel_machine_run(m) == DOPPEL_ENDED, "another thread can end it");
    if (ok)
        pthread_join(thread, NULL);
    doppel_machine_free(m);
    doppel_config_free(c);
}

static void fail_with_a_sentence(void)
{
    doppel_config *c = configure("/nonexistent/kernel");
    check(doppel_config_set(c, "memory", "much") == -1, "a bad value is refused");
    check(strstr(doppel_config_error(c), "--memory") != NULL, "the sentence names it");
    check(doppel_config_set(c, "warp", "9") == -1, "an unknown option is refused");
    doppel_machine *m = doppel_machine_new(c);
    check(m && doppel_machine_run(m) == DOPPEL_FAILED, "a missing kernel fails the run");
    check(m && strstr(doppel_machine_error(m), "/nonexistent/kernel"), "the sentence names it");
    doppel_machine_free(m);
    doppel_config_free(c);
}

int main(int argc, char **argv)
{
    printf("1..12\n");
    if (argc != 2)
        return 2;
    check(doppel_version()[0] != 0, "the library has a version");
    run_to_the_debug_exit(argv[1]);
    end_from_another_thread(argv[1]);
    fail_with_a_sentence();
    return failures != 0;
}
