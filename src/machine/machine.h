/*
 * A whole PC put together: memory map, buses, chips, firmware tables, vCPU threads, clock.
 *
 * The life of a machine: machine_create(), machine_run() on the thread that will look after devices
 * (it returns when the guest is done), machine_destroy(). machine_end() may be called at any time,
 * from any thread or a signal handler. See docs/machine.md for the map and the locks.
 */
#ifndef DOPPEL_MACHINE_MACHINE_H
#define DOPPEL_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/archive.h"
#include "base/error.h"
#include "base/loop.h"
#include "boot/boot.h"
#include "engine/engine.h"
#include "machine/console.h"
#include "memory/memory.h"
#include "x86/state.h"

struct machine;

enum { MACHINE_CPUS = 16, MACHINE_ENGINES = 4 };

struct machine_config {
    const char *name;      /* for messages and the guest's DMI tables; NULL: "doppel" */
    uint64_t memory;       /* bytes */
    unsigned cpus;         /* 1 to MACHINE_CPUS */
    const char *cpu_model; /* as --cpu takes it; NULL: the default model */
    const struct engine *engine;
    /* Engines to go round, from `engine` on and over again, staying so long with each. */
    const struct engine *other[MACHINE_ENGINES];
    unsigned other_count;
    uint64_t switch_every_ns;
    struct engine_tuning tuning;
    bool virtual_clock;      /* time is the count of executed instructions */
    bool no_reboot;          /* a reset ends the run */
    bool debug_exit;         /* port 0xf4 ends the run */
    bool rng;                /* a virtio entropy device */
    struct console *console; /* NULL: nothing. The caller's; must outlive the machine. */

    /* Puts the guest in memory and says how its first vCPU begins. *bsp comes in as the processor's
     * reset state. Called before the first instruction and again at every reset, with RAM as it was
     * then (as on a PC) and the firmware's tables written anew. Under the machine's lock. */
    bool (*load)(struct machine *m, void *ctx, struct x86_state *bsp, struct error *err);
    void *load_ctx;
};

enum machine_reason {
    MACHINE_POWERED_OFF,
    MACHINE_RESET,      /* the guest asked for a reset under no_reboot */
    MACHINE_CRASHED,    /* a triple fault under no_reboot */
    MACHINE_DEBUG_EXIT, /* value: what the guest wrote */
    MACHINE_ENDED,      /* machine_end() */
    MACHINE_FAILED,     /* a failure of ours: error */
};

struct machine_result {
    enum machine_reason reason;
    uint32_t value;
    struct error error;
};

/* Makes the machine; memory is there, tables are not written and nothing runs. False leaves *m
 * NULL. */
bool machine_create(struct machine **m, const struct machine_config *config, struct error *err);
void machine_destroy(struct machine *m);

/* Runs the guest to its end on the calling thread (which serves devices and timers) and one thread
 * per vCPU. Once per machine. */
void machine_run(struct machine *m, struct machine_result *result);

/* Ends the run from outside. Any thread, or a signal handler. */
void machine_end(struct machine *m);

/* Stops and continues vCPUs and guest time. Not from the loop's thread, nor from a vCPU's.
 * machine_pause() returns when nothing runs; it is false when the run is over or has not begun. */
bool machine_pause(struct machine *m);
void machine_continue(struct machine *m);

/* Everything a guest can tell apart: RAM, vCPUs, devices, time. Before machine_run() or while
 * paused. Load expects a machine of the same shape; on failure the machine is good for nothing but
 * destruction. A guest of the processor model `host` can't be saved. */
bool machine_save(struct machine *m, struct archive *to, struct error *err);
bool machine_load(struct machine *m, struct archive *from, struct error *err);

struct machine_stats {
    struct engine_stats engine;             /* of all vCPUs */
    struct engine_stats vcpu[MACHINE_CPUS]; /* each of them */
    unsigned cpus;
    uint64_t run_ns;     /* host time in machine_run() */
    uint64_t guest_ns;   /* guest time */
    uint64_t lock_waits; /* how often a vCPU found the machine's lock taken */
    uint64_t resets;
    uint64_t switches;                /* from one engine to another */
    uint64_t doorbells, messages;     /* that an engine took by eventfds */
    uint64_t console_in, console_out; /* bytes */
};
/* Any thread; exact when the machine does not run. */
void machine_stats(struct machine *m, struct machine_stats *out);

/* ---- for loaders ---- */

struct memory *machine_memory(struct machine *m);
/* The event loop that machine_run() serves. */
struct loop *machine_loop(struct machine *m);

enum { MACHINE_E820_MAX = 16 };
/* The memory map that firmware would tell (struct boot_range is what boot_load() takes), sorted;
 * returns how many. A loader may use every byte of its RAM but the first 0x500. */
unsigned machine_e820(const struct machine *m, struct boot_range map[MACHINE_E820_MAX]);

/* Guest-physical address of the ACPI root pointer (RSDP). */
uint64_t machine_rsdp(const struct machine *m);

#endif
