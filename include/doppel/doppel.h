/*
 * libdoppel: run a virtual machine from a program.
 *
 *     doppel_config *config = doppel_config_new();
 *     doppel_config_set(config, "kernel", "vmlinuz");
 *     doppel_config_set(config, "memory", "512M");
 *     doppel_config_set(config, "no-reboot", NULL);
 *     doppel_machine *machine = doppel_machine_new(config);
 *     if (!machine)
 *         puts(doppel_config_error(config));
 *     else
 *         end = doppel_machine_run(machine);
 *     doppel_machine_free(machine);
 *     doppel_config_free(config);
 *
 * A machine may be run on any thread; another may end it. Nothing here prints, exits, or installs a
 * signal handler.
 */
#ifndef DOPPEL_H
#define DOPPEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DOPPEL_API __attribute__((visibility("default")))

typedef struct doppel_config doppel_config;
typedef struct doppel_machine doppel_machine;

/* "MAJOR.MINOR.PATCH". */
DOPPEL_API const char *doppel_version(void);

/* A configuration with every option at its default; NULL: no memory. */
DOPPEL_API doppel_config *doppel_config_new(void);
DOPPEL_API void doppel_config_free(doppel_config *config);

/* Sets an option of `doppel run` by its name without the dashes ("kernel", "append", "cpus", ...);
 * value is NULL for options that take none. Returns 0, or -1 and doppel_config_error() says why. */
DOPPEL_API int doppel_config_set(doppel_config *config, const char *option, const char *value);

/* The guest's first serial line on file descriptors, which stay the caller's and must outlive the
 * machine; -1 for none. Without this call the line leads nowhere. */
DOPPEL_API void doppel_config_console(doppel_config *config, int in, int out);

/* What the last failure was, as one sentence. */
DOPPEL_API const char *doppel_config_error(const doppel_config *config);

/* Makes a machine; NULL, and doppel_config_error() says why, when that is not possible. The
 * configuration must outlive it, and be left alone while it lives. */
DOPPEL_API doppel_machine *doppel_machine_new(doppel_config *config);
DOPPEL_API void doppel_machine_free(doppel_machine *machine);

enum doppel_end {
    DOPPEL_POWERED_OFF, /* the guest powered itself off */
    DOPPEL_RESET,       /* it asked for a reset, under "no-reboot" */
    DOPPEL_CRASHED,     /* a triple fault, under "no-reboot" */
    DOPPEL_DEBUG_EXIT,  /* it wrote doppel_machine_value() to the debug exit's port */
    DOPPEL_ENDED,       /* doppel_machine_end() */
    DOPPEL_FAILED,      /* doppel_machine_error() says why */
};

/* Runs the guest to its end, once per machine, on the calling thread and one more for each of the
 * guest's processors. */
DOPPEL_API enum doppel_end doppel_machine_run(doppel_machine *machine);
/* Ends the run; from any thread, or a signal handler. */
DOPPEL_API void doppel_machine_end(doppel_machine *machine);

DOPPEL_API uint32_t doppel_machine_value(const doppel_machine *machine);
DOPPEL_API const char *doppel_machine_error(const doppel_machine *machine);
/* Instructions that the guest has executed so far; from any thread. */
DOPPEL_API uint64_t doppel_machine_instructions(doppel_machine *machine);

#ifdef __cplusplus
}
#endif

#endif
