#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bits.h"
#include "oci/command.h"

/* "9", "KILL" or "SIGKILL". 0: no signal. */
static int signal_number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (!*end && end != text)
        return n > 0 && n <= SIGRTMAX ? (int)n : 0;
    if (strncasecmp(text, "SIG", 3) == 0)
        text += 3;
    if (strncasecmp(text, "RTMIN+", 6) == 0)
        n = SIGRTMIN + strtol(text + 6, &end, 10);
    else if (strncasecmp(text, "RTMAX-", 6) == 0)
        n = SIGRTMAX - strtol(text + 6, &end, 10);
    else
        n = 0;
    if (n)
        return !*end && n >= SIGRTMIN && n <= SIGRTMAX ? (int)n : 0;
    for (int number = 1; number < SIGRTMIN; number++) {
        const char *name = sigabbrev_np(number);
        if (name && strcasecmp(name, text) == 0)
            return number;
    }
    return 0;
}

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    bool all = false;
    const struct option_row rows[] = {{"all", 'a', OPTION_FLAG, &all}};
    int at = options_parse(argc, argv, rows, ARRAY_LEN(rows), err);
    if (at < 0)
        return false;
    if (at >= argc || at + 2 < argc)
        return error_usage(err, "kill: needs the container's id and perhaps a signal; see "
                                "doppel-oci --help");
    int number = at + 1 < argc ? signal_number(argv[at + 1]) : SIGTERM;
    if (!number)
        return error_usage(err, "kill: %s is no signal; see signal(7)", argv[at + 1]);
    return container_kill(argv[at], o, number, all, err);
}

const struct command command_kill = {
    .name = "kill",
    .usage = "[--all] ID [SIGNAL]",
    .summary = "signals a container's first process, or all",
    .run = run,
};
