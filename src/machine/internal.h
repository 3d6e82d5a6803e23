/*
 * What the files of machine/ share.
 *
 * Locks, outermost first (docs/machine.md says why):
 *   machine.lock   every device, the clock, the interrupt controllers: "the machine's lock"
 *   control.lock   who runs, stops and waits
 *   wakeup.lock    where a vCPU's thread sleeps; a leaf
 * A vCPU's thread that must wait for the machine's lock leaves its engine's gate first.
 */
#ifndef DOPPEL_MACHINE_INTERNAL_H
#define DOPPEL_MACHINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/bits.h"
#include "device/clock.h"
#include "machine/firmware.h"
#include "machine/machine.h"
#include "machine/pc.h"
#include "x86/cpuid.h"

/* Bits of vcpu.events: what its own thread has to do before it runs guest code again. */
enum {
    VCPU_STOP = 1u << 0,    /* look at control */
    VCPU_INIT = 1u << 1,    /* INIT came */
    VCPU_STARTUP = 1u << 2, /* a start-up IPI came; startup_vector */
};

/* Where a vCPU's thread sleeps. */
struct wakeup {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool woken;
};

struct vcpu {
    struct machine *machine;
    unsigned index;
    struct engine_vcpu *engine;
    struct lapic *lapic;
    pthread_t thread;
    bool threaded; /* thread is there */

    _Atomic uint32_t events;
    _Atomic uint32_t startup_vector;
    bool waiting; /* wait-for-SIPI; its own thread's */

    struct wakeup own, *wakeup; /* under --clock virtual all vCPUs share the first one's */
    atomic_bool stirred;        /* something may have ended its HLT or its wait */
    bool halted;                /* virtual.c: skip it until it is stirred */

    /* IA32_TSC is machine_ticks() plus this (SDM 3, 17.17.3: both MSRs move together). */
    _Atomic int64_t tsc_offset;
    int64_t tsc_adjust;
    uint64_t lock_waits, pio, mmio; /* for --stats */
    struct engine_stats past;       /* of engines that it has left */
};

/* What ended the run or shall happen next; the first of each wins. */
struct outcome {
    bool over;
    struct machine_result result;
};

struct control {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned running;  /* vCPU threads that are not standing still */
    unsigned stoppers; /* who wants them to */
    bool over;         /* they shall go home */
    bool begun;        /* the threads are there, or about to be */
};

/* --clock virtual: all vCPUs take turns on one thread (virtual.c). */
struct virtual_time {
    unsigned turn; /* whose turn it is, until guest time turn_end */
    uint64_t turn_end;
    uint64_t base;              /* instructions of all vCPUs before the running slice */
    struct vcpu *current;       /* whose slice it is, or NULL */
    uint64_t begun_at;          /* its own count when the slice began */
    uint64_t slice_end;         /* guest time at which the slice is to end */
    uint64_t random;            /* state of the guest's random numbers */
    _Atomic unsigned outsiders; /* who waits for the machine's lock between slices */
};

/* The console's side of the first serial line (serial.c). */
enum { SERIAL_AHEAD = 1 << 16 };
struct serial {
    struct console *console; /* while it is started */
    struct loop_task *wanted;
    struct timer push;
    _Atomic uint64_t sent, received;
    size_t head, count; /* of input read ahead */
    uint8_t ahead[SERIAL_AHEAD];
};

/* Of the time-stamp counters (ticks.c). */
struct ticks {
    _Atomic uint64_t base;  /* by how much the host's is ahead while they run */
    _Atomic uint64_t stand; /* what they show while they stand */
};

/* Going from engine to engine (switch.c); the loop's thread's. */
struct switching {
    const struct engine *first;
    unsigned turn; /* 0: the first's, else that of other[turn - 1] */
    uint64_t due;  /* host time */
    uint64_t changes;
};

/* Eventfds between devices and the engine (eventfds.c). */
enum { MACHINE_DOORBELLS = 32 };
struct doorbell {
    struct machine *machine;
    const struct pci_bar *bar;
    struct bus_doorbell at;
    int fd;
    bool given; /* the engine has it, at gpa */
    uint64_t gpa;
};
struct message {
    struct engine_msi msi;
    int fd;
    bool given;
};
struct eventfds {
    bool given; /* the engine may have some */
    unsigned doorbells, messages, turn;
    uint64_t rung, sent; /* for --stats */
    struct doorbell doorbell[MACHINE_DOORBELLS];
    struct message message[ENGINE_MESSAGES];
};

struct machine {
    struct machine_config config; /* its engine is the one that runs now */
    char name[64];
    struct x86_model model_here; /* the model, less what the engine can't give */
    const struct x86_model *model;
    struct memory memory;
    struct engine_vm *vm;
    struct vcpu vcpu[MACHINE_CPUS];
    unsigned cpus;

    pthread_mutex_t lock;
    struct clock clock;
    struct ticks ticks;
    struct switching switching;
    struct pc pc;
    bool apics_lent; /* the local APICs are with the engine */
    struct eventfds eventfds;
    bool reset_wanted;
    bool loaded, ran;       /* machine_load(), machine_run() were called */
    struct outcome outcome; /* under lock */

    struct control control;
    struct virtual_time virtual;

    struct loop *loop;
    _Atomic uint64_t loop_deadline; /* guest ns until which the loop sleeps; 0: it is awake */
    atomic_bool end_asked;

    struct serial serial;

    uint64_t run_ns, resets;
};

/* ---- machine.c ---- */

/* The machine's lock, for threads that are no vCPU's. */
void machine_lock(struct machine *m);
void machine_unlock(struct machine *m);

/* The run is over, for this reason; under the machine's lock. The first reason stands. */
void machine_over(struct machine *m, enum machine_reason reason, uint32_t value);
void machine_failed(struct machine *m, const struct error *err);
void machine_add_stats(struct engine_stats *sum, const struct engine_stats *one);
/* The guest (or a triple fault) asks for a reset; under the machine's lock. */
void machine_ask_reset(struct machine *m);

/* ---- switch.c ---- */

/* What all of the machine's engines ask of it, before anything is made. */
bool switch_init(struct machine *m, struct error *err);
bool switch_make_engine(struct machine *m, struct error *err);
void switch_begin(struct machine *m);
/* When (in host time) to call switch_serve(), on the loop's thread; LOOP_NEVER: don't. */
uint64_t switch_due(const struct machine *m);
void switch_serve(struct machine *m);

/* ---- ticks.c ---- */

/* What the time-stamp counters show before each vCPU's offset, and the guest time at which they
 * show so much; 500 years are in range. */
uint64_t machine_ticks(const struct machine *m);
uint64_t machine_ticks_at(const struct machine *m, uint64_t ticks);
/* The clock runs and stands, and they with it; under the machine's lock. */
void machine_start_clock(struct machine *m);
void machine_stop_clock(struct machine *m);
/* The clock, which stands, shows `now`, and they what belongs to it. */
void machine_set_clock(struct machine *m, uint64_t now);

/* ---- apics.c ---- */

/* The local APICs go to the engine, if it keeps them, and come back: under the machine's lock,
 * while the clock runs and no vCPU does. */
void apics_give(struct machine *m);
void apics_take(struct machine *m);

/* ---- eventfds.c ---- */

/* When devices are there, and the loop does not run. */
bool eventfds_init(struct machine *m, struct error *err);
void eventfds_destroy(struct machine *m);
/* For apics.c, under the machine's lock: after the APICs went to the engine, before they come back.
 */
void eventfds_give(struct machine *m);
void eventfds_take(struct machine *m);
/* A device's message, while the engine has the APICs. False: it is to be delivered otherwise. */
bool eventfds_send(struct machine *m, const struct engine_msi *msi);

/* ---- vcpu.c ---- */

bool vcpu_create(struct vcpu *v, struct machine *m, unsigned index, struct error *err);
void vcpu_destroy(struct vcpu *v);
/* Its part of the machine's engine. */
bool vcpu_make_engine(struct vcpu *v, struct error *err);
void vcpu_unmake_engine(struct vcpu *v);
/* Asks its thread to look at `events` bits; any thread. */
void vcpu_ask(struct vcpu *v, uint32_t events);
void vcpu_wake(struct vcpu *v);
/* Until someone wakes it; its own thread only. */
void vcpu_sleep(struct vcpu *v);
/* Power-on state: runs at the reset vector, or waits for a start-up IPI. It must not run. */
void vcpu_set_state(struct vcpu *v, const struct x86_state *s);
/* What the thread of a vCPU does. */
void *vcpu_main(void *vcpu);
/* Handles INIT and start-up IPIs that came; true when the vCPU may run guest code. */
bool vcpu_prepare(struct vcpu *v);
/* Handles an exit that both kinds of threads treat alike: shutdown and failure. */
void vcpu_exited(struct vcpu *v, enum engine_exit why);
uint64_t vcpu_tsc(const struct vcpu *v);

/* ---- host.c ---- */

extern const struct x86_host vcpu_host; /* all but ctx and random */
void vcpu_virtual_random(void *vcpu, void *to, unsigned size);
extern const struct lapic_host vcpu_lapic_host;

/* ---- control.c ---- */

void control_init(struct control *c);
void control_destroy(struct control *c);
/* Wants every vCPU thread to stand still at an instruction boundary: each call is to be made good
 * by control_continue(). Any thread, under any lock but control's own. */
void control_hold(struct machine *m);
/* Waits until they all do. Not from one of them, and without any lock held. */
void control_wait(struct machine *m);
void control_continue(struct machine *m);
/* A vCPU thread stands still here while it is to be stopped; false: it shall go home. */
bool control_stand(struct machine *m);

/* ---- virtual.c ---- */

void *virtual_main(void *machine);
/* Instructions of all vCPUs so far: nanoseconds. */
uint64_t virtual_now(void *machine);
/* The clock's earliest deadline moved: the running slice may be too long now. */
void virtual_changed(void *machine);

/* The same random numbers in each run, under the machine's lock. */
bool virtual_random(void *machine, void *to, size_t n);

/* Wall-clock time at guest time 0 under --clock virtual: 2026-01-01 00:00:00 UTC. */
#define VIRTUAL_EPOCH_NS (INT64_C(1767225600) * 1000000000)

/* ---- serial.c: the console on the first serial line ---- */

void serial_init(struct machine *m);
bool serial_start(struct machine *m, struct error *err);
void serial_stop(struct machine *m);
void serial_transmit(void *machine, uint8_t byte);
void serial_ready(void *machine);

#endif
