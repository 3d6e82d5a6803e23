/*
 * doppel run: one virtual machine on this terminal.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/console.h"
#include "cli/keys.h"
#include "cli/option.h"
#include "cli/signals.h"
#include "cli/stats.h"
#include "cli/terminal.h"
#include "lib/guest.h"

struct run {
    struct config config;
    struct cli_console console;
    struct terminal terminal;
    struct signals signals;
    struct keys keys;
    struct guest guest;
    bool stats, json, help;
};

/* ------------------------------------------------------------------------------------------- *
 * Options
 * ------------------------------------------------------------------------------------------- */

/* The options that are the command's own; true: name was one, and *ok says whether it went well. */
static bool own_option(struct run *r, const char *name, const char *value, bool *ok,
                       struct error *err)
{
    *ok = true;
    if (strcmp(name, "stats") == 0)
        r->stats = r->config.tuning.measure = true;
    else if (strcmp(name, "json") == 0)
        r->json = true;
    else if (strcmp(name, "help") == 0)
        r->help = true;
    else if (strcmp(name, "console") == 0)
        *ok = value ? cli_console_parse(&r->console, value, err)
                    : error_usage(err, "--console: its value is missing; write --console stdio");
    else
        return false;
    return true;
}

static bool takes_value(const char *name)
{
    const struct config_option *o = config_option_find(name);
    return o ? o->value != NULL : strcmp(name, "console") == 0;
}

static bool parse_option(struct run *r, int argc, char **argv, int *i, struct error *err)
{
    struct option o;
    if (!option_take(&o, argc, argv, i, takes_value, "run", err))
        return false;
    bool ok;
    if (own_option(r, o.name, o.value, &ok, err))
        return ok;
    return config_set(&r->config, o.name, o.value, err);
}

static bool parse(struct run *r, int argc, char **argv, struct error *err)
{
    for (int i = 1; i < argc && !r->help; i++)
        if (!parse_option(r, argc, argv, &i, err))
            return false;
    return r->help || config_check(&r->config, err);
}

/* ------------------------------------------------------------------------------------------- *
 * What comes from outside, on the loop's thread
 * ------------------------------------------------------------------------------------------- */

static void end_run(void *ctx)
{
    struct run *r = ctx;
    machine_end(r->guest.machine);
}

/* Stops this process as Ctrl-Z stops others; SIGCONT goes on here. */
static void suspend_run(void *ctx)
{
    struct run *r = ctx;
    terminal_restore(&r->terminal);
    kill(0, SIGSTOP);
    terminal_raw(&r->terminal);
}

/* Also after we were stopped by others (SIGSTOP, SIGTTIN). */
static void continue_run(void *ctx)
{
    struct run *r = ctx;
    terminal_raw(&r->terminal);
}

static void act_on_key(void *ctx, enum key_action action)
{
    struct run *r = ctx;
    switch (action) {
    case KEY_END: end_run(r); break;
    case KEY_SUSPEND: suspend_run(r); break;
    case KEY_HELP: terminal_say(&r->terminal, keys_help); break;
    case KEY_NONE: break;
    }
}

static size_t filter_input(void *ctx, uint8_t *bytes, size_t n)
{
    struct run *r = ctx;
    return keys_filter(&r->keys, bytes, n);
}

/* ------------------------------------------------------------------------------------------- *
 * The run
 * ------------------------------------------------------------------------------------------- */

/* The terminal is the guest's only when the console is there. */
static bool prepare(struct run *r, struct error *err)
{
    bool stdio = r->console.kind == CONSOLE_STDIO;
    if (!signals_take(&r->signals, err) || !cli_console_open(&r->console, err) ||
        (stdio && !terminal_open(&r->terminal, STDIN_FILENO, err)))
        return false;
    if (r->terminal.fd >= 0) {
        r->keys = (struct keys){.act = act_on_key, .ctx = r};
        r->console.fds.filter = filter_input;
        r->console.fds.ctx = r;
    }
    if (!guest_create(&r->guest, &r->config, cli_console_get(&r->console), err))
        return false;
    struct loop *loop = machine_loop(r->guest.machine);
    return cli_console_watch(&r->console, loop, err) && signals_watch(&r->signals, loop, err);
}

static void finish(struct run *r)
{
    guest_destroy(&r->guest);
    cli_console_close(&r->console);
    terminal_close(&r->terminal);
    signals_release(&r->signals);
}

/* The exit status that a result stands for (docs/cli.md). */
static int status_of(const struct machine_result *result, struct error *err)
{
    switch (result->reason) {
    case MACHINE_POWERED_OFF:
    case MACHINE_RESET: return EXIT_STATUS_OK;
    case MACHINE_CRASHED: return EXIT_STATUS_CRASHED;
    case MACHINE_DEBUG_EXIT: return (int)(((result->value << 1) | 1) & 0xff);
    case MACHINE_ENDED: return EXIT_STATUS_ENDED;
    case MACHINE_FAILED: break;
    }
    *err = result->error;
    if (err->status == EXIT_STATUS_OK)
        error_set(err, "machine: failed without saying why; report this");
    return err->status;
}

static int run_machine(struct run *r, struct error *err)
{
    struct machine_result result = {0};
    struct machine_stats stats;
    int status = EXIT_STATUS_FAILURE;
    bool ok = prepare(r, err);
    if (ok) {
        terminal_raw(&r->terminal);
        machine_run(r->guest.machine, &result);
        status = status_of(&result, err);
        machine_stats(r->guest.machine, &stats);
    } else {
        status = err->status;
    }
    finish(r);
    if (ok && r->stats)
        stats_print(stderr, &stats, r->json);
    return status;
}

static int run(int argc, char **argv, struct error *err)
{
    struct run r = {
        .console = {.fd = -1, .client = -1, .pty_slave = -1},
        .terminal = {.fd = -1, .guard_pipe = -1},
        .signals = {.fd = -1, .end = end_run, .suspend = suspend_run, .continued = continue_run}};
    r.signals.ctx = &r;
    config_init(&r.config);
    int status;
    if (!parse(&r, argc, argv, err)) {
        status = err->status;
    } else if (r.help) {
        fputs(command_run.help, stdout);
        status = EXIT_STATUS_OK;
    } else {
        status = run_machine(&r, err);
    }
    config_free(&r.config);
    return status;
}

const struct command command_run = {
    .name = "run",
    .summary = "run a virtual machine",
    .help =
        "doppel run --kernel FILE [OPTIONS]\n"
        "\n"
        "Runs a virtual machine; its first serial line is this terminal. Ctrl-A x ends it, Ctrl-A "
        "h\n"
        "lists the keys.\n"
        "\n"
        "The guest:\n"
        "  --kernel FILE          a Linux bzImage, an ELF kernel (plain or PVH), or a Multiboot "
        "image\n"
        "  --initrd FILE          an initial RAM disk; the first module of PVH and Multiboot "
        "kernels\n"
        "  --append STRING        the kernel's command line\n"
        "  --module FILE[,ARGS]   a further module with its command line; repeatable\n"
        "  --boot WAY             how the kernel is entered, where there is a choice:\n"
        "                         auto; payload (a Linux image unpacked on the host); 64, 32 or "
        "16\n"
        "                         (the image's own code at that entry); pvh; multiboot\n"
        "The machine:\n"
        "  --engine NAME          auto, emulate, translate, binary or hardware; see `doppel "
        "engines`\n"
        "  --switch-every TIME[,ENGINE]...\n"
        "                         change engines so often (100ms, 2s), round all that work here or "
        "these\n"
        "  --cpu MODEL            what the guest is told its processor is\n"
        "  --cpus N               1 to 16 virtual processors; 1 without it\n"
        "  --memory SIZE          512M, 2G, or a number of MiB; 512M without it\n"
        "  --clock host|virtual   guest time follows the host, or the count of instructions, so "
        "that\n"
        "                         a run can be repeated exactly\n"
        "  --rng                  a virtio device that gives the guest random bytes\n"
        "  --name NAME            the machine's name\n"
        "  --console WHERE        stdio, null, file:PATH, unix:PATH (a socket to connect to) or "
        "pty\n"
        "The end:\n"
        "  --no-reboot            the guest's reset ends the run\n"
        "  --debug-exit           the guest ends the run by writing V to port 0xf4; the exit "
        "status\n"
        "                         is then V * 2 + 1\n"
        "  --stats [--json]       say at the end what was executed and how, on standard error; "
        "to\n"
        "                         count it all, engine binary runs slower\n"
        "  --apic auto|machine|kernel\n"
        "                         whether engine hardware has KVM keep the local APICs\n"
        "  --direct auto|never|always\n"
        "                         whether engine binary runs programs of the guest in processes "
        "of\n"
        "                         their own, as they are, while they compute\n"
        "For those who look inside the engine binary:\n"
        "  --perf-map             tell perf(1) what is translated code (/tmp/perf-PID.map)\n"
        "  --code-cache SIZE      translated code to keep at most, 256K to 24M; 24M without it\n"
        "\n"
        "Exit status: 0 the guest powered itself off (or asked for a reset under --no-reboot); 1 "
        "a\n"
        "failure; 2 a command line that can't be taken; 3 the guest crashed (a triple fault under\n"
        "--no-reboot); 4 ended from outside (Ctrl-A x, SIGTERM, SIGHUP, SIGINT).\n",
    .run = run,
};
