/*
 * What the files of this engine share.
 *
 * Where a vCPU's state is: in KVM while `loaded`, and in cpu.s else. state.c moves it; cpu.s is
 * also always right for what KVM is never given (MTRRs, MISC_ENABLE and the like), and cpu is what
 * answers the guest's accesses to such registers.
 */
#ifndef DOPPEL_ENGINE_HARDWARE_H
#define DOPPEL_ENGINE_HARDWARE_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/hardware/offer.h"
#include "engine/hardware/tables.h"
#include "memory/memory.h"
#include "x86/cpu.h"
#include "x86/cpuid.h"

/* KVM's structs end in arrays of any length; ours put the arrays behind them. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

enum { HARDWARE_VCPUS = 16, HARDWARE_COMPONENTS = 10 };

/* /dev/kvm, and what it can do. */
struct kvm {
    int fd;
    size_t run_size;   /* of the area shared with each vCPU */
    size_t xsave_size; /* what KVM_GET_XSAVE2 fills; 0: KVM_GET_XSAVE and its 4096 bytes */
    bool sregs2;
};

/* What guests of a few bytes find out about a KVM (measure.c). */
struct kvm_facts {
    unsigned tsc_khz;      /* of the counter that guests read; 0: KVM does not tell */
    bool obeys_cpuid;      /* guests see what KVM_SET_CPUID2 says, and not the host's CPUID */
    bool obeys_tsc_offset; /* guests read the counter with the offset that KVM was given */
    bool users_only;       /* it gives up on kernels, but runs users: see users.c */
    uint64_t cr4;          /* bits that CR4 can have although no CPUID says so */
};

/* Bits of engine_vcpu.request; any thread sets them. */
enum {
    REQUEST_INTR = 1u << 0, /* the machine offers an interrupt (a level) */
    REQUEST_NMI = 1u << 1,
    REQUEST_STOP = 1u << 2,
};

/* Exits are numbered from 0; this is none. */
enum { GO_ON = -1 };

/* What of the neutral state is in KVM's XSAVE area, PKRU apart. */
enum { FPU_BEGIN = offsetof(struct x86_state, st), FPU_END = offsetof(struct x86_state, activity) };

/* Programs that have begun not long ago (begin.c). */
struct beginnings {
    _Atomic uint64_t of[1024];
};

/* Where a vCPU's thread is, for whoever has something for it. */
enum hardware_place {
    PLACE_OUTSIDE,
    PLACE_INSIDE, /* in KVM_RUN, or about to be: a request needs a signal */
    PLACE_KICKED, /* the same, and someone has sent it, or is about to */
};

struct engine_vcpu {
    struct x86_cpu cpu;
    struct engine_vm *vm;
    int fd;
    struct kvm_run *run;
    uint8_t *xsave; /* a buffer */
    struct {
        bool known; /* KVM has these */
        uint32_t pkru;
        uint8_t bytes[FPU_END - FPU_BEGIN];
    } fpu;
    struct engine_vcpu *assist; /* an `emulate` vCPU for what KVM gives up on */

    bool loaded;     /* KVM has the state */
    bool begins;     /* what the machine's offer is of begins anew with the state */
    bool fresh;      /* it was given since the last KVM_RUN, whose answers are stale */
    bool incomplete; /* KVM has yet to finish the instruction whose access was served */
    bool assisting;  /* the emulate vCPU runs */
    bool broken;     /* error says why it can't go on */
    struct error error;

    _Atomic uint32_t request;
    _Atomic enum hardware_place place;
    pthread_t thread; /* while not outside */

    /* Where KVM runs users alone (users.c). */
    bool lent;      /* the emulating vCPU has the same state as cpu.s */
    bool from_user; /* cpu.s is what the emulating vCPU had, but for what a user changed */
    bool users;     /* the next instruction is a user's, and KVM's */
    bool prepared;  /* KVM has what is the same for all users */
    struct {
        uint64_t xcr0, tsc_aux;
    } given;        /* what KVM has of these */
    bool unsettled; /* KVM still holds an exception that is not its to deliver */
    struct {
        uint64_t space, insns; /* who was looked at last, and when */
    } looked;
    uint8_t exception; /* that made the user leave, or NO_EXCEPTION */

    /* Where KVM keeps the local APIC (apic.c); run->cr8 is right when the state was fetched. */
    uint64_t apic_base;
    bool same_sregs; /* KVM has the segments and control registers */
    bool stepping;   /* between what KVM gave up on and going on: it keeps pending NMIs */

    bool tsc_known;
    int64_t tsc_offset; /* what KVM adds to the host's counter */

    uint64_t exits, assists, stretches, interrupts, halts, pio, mmio;
};

/* A state component's place in KVM's XSAVE area; size 0: it has none. */
struct component {
    unsigned offset, size;
};

/* A message that an eventfd sends. */
struct hardware_message {
    bool used;
    int fd;
    struct engine_msi msi;
};

struct engine_vm {
    struct kvm kvm;
    struct kvm_facts facts;
    int fd;
    struct memory *memory;
    const struct x86_model *model;
    unsigned vcpus, created, slots;
    struct engine_vcpu *vcpu[HARDWARE_VCPUS];
    struct x86_cpu *cpus[HARDWARE_VCPUS];
    struct engine_vm *assist; /* a VM of `emulate` on the same memory */
    uint32_t native_msrs;     /* which of msr.c's table KVM has, a bit each */
    struct component component[HARDWARE_COMPONENTS];
    bool keeps_apics;                     /* KVM keeps the local APICs */
    struct offer offer;                   /* what the guest has beside its model */
    struct engine_msi level[ENGINE_PINS]; /* that KVM has routes for */
    struct hardware_message message[ENGINE_MESSAGES];
    uint8_t *reset_vector; /* a page, or NULL */
    bool compacts;         /* the kernel saves in the compacted form */
    atomic_bool stale;     /* KVM may hold translations that the guest has dropped */
    pthread_mutex_t lock;  /* of what follows, and held while KVM drops translations */
    struct beginnings beginnings;
    struct tables *tables; /* NULL: what vm->stale says has to do */
    struct {
        bool on;
        uint64_t *page, *watched; /* owned; bitmaps of the largest region's pages */
    } log;                        /* memory.c */
    _Atomic int64_t tsc_offset;   /* what vCPUs that agree share */
    atomic_bool tsc_known;
};

/* host.c: false and a sentence that says what to do about it. */
bool kvm_open(struct kvm *k, struct error *err);
void kvm_close(struct kvm *k);

/* measure.c */
bool kvm_find_out(const struct kvm *k, struct kvm_facts *facts);
/* Whether an interrupt that KVM's local APIC gives is in service then, until it is ended. */
bool kvm_serves_interrupts(const struct kvm *k);
/* Whether guests would run on the processor itself, at its speed. */
bool kvm_measure(char *why, size_t size);

/* cpuid.c */
/* Takes from the model what this host's KVM can't give. */
bool hardware_limit(struct x86_model *model, struct error *err);
/* What a guest with that model could get beside it. */
bool kvm_find_offer(const struct kvm *k, const struct x86_model *model, struct offer *o,
                    struct error *err);
/* The guest gets it, if KVM keeps the local APICs. Before vCPUs are made. */
bool hardware_make_offer(struct engine_vm *vm, struct error *err);
bool hardware_set_cpuid(struct engine_vcpu *v, struct error *err);

/* hardware.c: whether KVM tells also of a user's instruction that it gives up on. */
bool hardware_tell_failures(struct engine_vm *vm, bool users_too, struct error *err);

/* state.c: false when KVM refuses; v->error says what. */
bool hardware_load(struct engine_vcpu *v);
/* cpu.s := the state, which stays where it is. */
bool hardware_fetch(struct engine_vcpu *v);
/* The segments and control registers as KVM gets them, and whether they still are the same. */
void hardware_put_sregs(struct engine_vcpu *v, struct kvm_sregs2 *to);
bool hardware_same_sregs(struct engine_vcpu *v, const struct kvm_sregs2 *then);
/* Notes why the vCPU can't go on; false. `what` failed with errno. */
bool hardware_fail(struct engine_vcpu *v, const char *what);

/* The same where KVM runs users alone: what they can see or change of it. v->exception: what KVM
 * was to deliver. */
bool hardware_load_user(struct engine_vcpu *v);
bool hardware_fetch_user(struct engine_vcpu *v);

/* memory.c */
bool hardware_memory_init(struct engine_vm *vm, struct error *err);
void hardware_memory_fini(struct engine_vm *vm);
/* Tells KVM of the regions anew. */
bool hardware_map_memory(struct engine_vm *vm, struct error *err);
/* Who watches a page that KVM has written is told; false: KVM refuses. */
bool hardware_take_writes(struct engine_vm *vm);
/* The next write to each page that is watched will be told. No vCPU runs. */
bool hardware_watch_writes(struct engine_vm *vm, struct error *err);
/* KVM walks the guest's page tables anew if it has to (vm->stale), before a user runs on those at
 * cr3. */
bool hardware_drop_translations(struct engine_vm *vm, uint64_t cr3);

/* A processor that gets INIT and starts at once finds there what makes a reset of it. */
bool hardware_map_reset_vector(struct engine_vm *vm, struct error *err);

/* fpu.c */
void hardware_find_components(struct engine_vm *vm);
bool hardware_load_fpu(struct engine_vcpu *v);
bool hardware_fetch_fpu(struct engine_vcpu *v);
/* Whether the area that was fetched has registers in use that the model lacks. */
bool hardware_fpu_exceeds_model(const struct engine_vcpu *v);

/* msr.c */
bool hardware_filter_msrs(struct engine_vm *vm, struct error *err);
bool hardware_load_msrs(struct engine_vcpu *v);
bool hardware_fetch_msrs(struct engine_vcpu *v);
/* Those that came with the offer are as after a reset. */
bool hardware_reset_offered_msrs(struct engine_vcpu *v);
/* What KVM has to know of them for users. */
bool hardware_load_user_msrs(struct engine_vcpu *v);
/* The guest's access to a register that is not KVM's. */
void hardware_msr_exit(struct engine_vcpu *v);

/* tsc.c: sees that KVM's counter shows what the machine's does. moved: the guest has set it. */
bool hardware_set_tsc(struct engine_vcpu *v, bool moved);

/* apic.c */
extern const struct engine_apics hardware_apics;
bool hardware_tune(struct engine_vm *vm, const struct engine_tuning *t, struct error *err);
/* KVM's counter moved: the APIC's timer with it. */
void hardware_deadline_moved(struct engine_vcpu *v);
/* The guest takes this interrupt first of all; it can. */
bool hardware_inject_external(struct engine_vcpu *v, uint8_t vector);
int hardware_exit_eoi(struct engine_vcpu *v);
/* KVM gets its table of interrupts anew: vm->level and vm->message. */
bool hardware_set_routes(struct engine_vm *vm);

/* signals.c */
extern const struct engine_signals hardware_signals;

/* run.c */
/* KVM does what it has put off until the next KVM_RUN (a timer's interrupt, telling an EOI), but
 * runs nothing. On any thread while the vCPU does not run. */
bool hardware_settle(struct engine_vcpu *v);
enum engine_exit hardware_run(struct engine_vcpu *v, uint64_t insns_limit);
/* Has the vCPU look at its request word soon. */
void hardware_kick(struct engine_vcpu *v);
/* Brings the vCPU to an instruction boundary after an access was served; it does not run. */
bool hardware_complete(struct engine_vcpu *v);

/* KVM_RUN, unless something was asked for meanwhile that nobody has seen. False: it was
 * interrupted, or failed. */
bool hardware_enter(struct engine_vcpu *v);
/* Does what the exit asks for. Returns an exit, or GO_ON. */
int hardware_dispatch(struct engine_vcpu *v);

/* assist.c: `emulate` does the one instruction that KVM gave up on. Returns an exit, or GO_ON. */
int hardware_assist(struct engine_vcpu *v);

/* begin.c: whether the user that c is about to run is one that `emulate` is to run for a while. To
 * be asked between a user's instructions. */
bool hardware_is_beginning(struct engine_vcpu *v, const struct x86_cpu *c);

/* users.c */
/* Where users' system calls go in KVM: a page that systems leave out, because small negative
 * numbers taken for addresses are in it. */
#define USERS_SYSCALL UINT64_C(0xfffffffffffff000)
enum { NO_EXCEPTION = 0xff };
/* The run loop where KVM runs users alone. Returns an exit. */
int hardware_run_users(struct engine_vcpu *v);
/* cpu.s := the state, which KVM has no more. */
bool hardware_take_over(struct engine_vcpu *v);

#endif
