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
#include "memory/memory.h"
#include "x86/cpu.h"
#include "x86/cpuid.h"

/* KVM's structs end in arrays of any length; ours put the arrays behind them. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

enum { HARDWARE_VCPUS = 16, HARDWARE_BREAKPOINTS = 3 };

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
    bool raises_syscall;   /* SYSCALL goes to CPL 0; if not, see route.c */
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

struct engine_vcpu {
    struct x86_cpu cpu;
    struct engine_vm *vm;
    int fd;
    struct kvm_run *run;
    uint8_t *xsave;             /* a buffer */
    struct engine_vcpu *assist; /* an `emulate` vCPU for what KVM gives up on */

    bool loaded;     /* KVM has the state */
    bool fresh;      /* it was given since the last KVM_RUN, whose answers are stale */
    bool incomplete; /* KVM has yet to finish the instruction whose access was served */
    bool assisting;  /* the emulate vCPU runs */
    bool broken;     /* error says why it can't go on */
    struct error error;

    _Atomic uint32_t request;
    atomic_bool inside; /* in KVM_RUN, or about to be: a request needs a signal */
    atomic_bool kicked; /* someone has sent it, or is about to */
    pthread_t thread;   /* while inside */

    uint64_t breakpoint[HARDWARE_BREAKPOINTS]; /* of KVM's, on the guest's code (route.c) */

    bool tsc_known;
    int64_t tsc_offset; /* what KVM adds to the host's counter */

    uint64_t exits, assists, interrupts, halts, pio, mmio;
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
    struct engine_vm *assist;   /* a VM of `emulate` on the same memory */
    uint32_t native_msrs;       /* which of msr.c's table KVM has, a bit each */
    _Atomic int64_t tsc_offset; /* what vCPUs that agree share */
    atomic_bool tsc_known;
};

/* host.c: false and a sentence that says what to do about it. */
bool kvm_open(struct kvm *k, struct error *err);
void kvm_close(struct kvm *k);

/* measure.c */
bool kvm_find_out(const struct kvm *k, struct kvm_facts *facts);
/* Whether guests would run on the processor itself, at its speed. */
bool kvm_measure(char *why, size_t size);

/* cpuid.c */
/* Takes from the model what this host's KVM can't give. */
bool hardware_limit(struct x86_model *model, struct error *err);
bool hardware_set_cpuid(struct engine_vcpu *v, struct error *err);

/* state.c: false when KVM refuses; v->error says what. */
bool hardware_load(struct engine_vcpu *v);
/* cpu.s := the state, which stays where it is. */
bool hardware_fetch(struct engine_vcpu *v);
/* The same for segments and control registers alone. */
bool hardware_fetch_sregs(struct engine_vcpu *v);
/* Notes why the vCPU can't go on; false. `what` failed with errno. */
bool hardware_fail(struct engine_vcpu *v, const char *what);

/* fpu.c */
bool hardware_load_fpu(struct engine_vcpu *v);
bool hardware_fetch_fpu(struct engine_vcpu *v);

/* msr.c */
bool hardware_filter_msrs(struct engine_vm *vm, struct error *err);
bool hardware_load_msrs(struct engine_vcpu *v);
bool hardware_fetch_msrs(struct engine_vcpu *v);
/* The guest's access to a register that is not KVM's. */
void hardware_msr_exit(struct engine_vcpu *v);

/* tsc.c: sees that KVM's counter shows what the machine's does. moved: the guest has set it. */
bool hardware_set_tsc(struct engine_vcpu *v, bool moved);

/* run.c */
enum engine_exit hardware_run(struct engine_vcpu *v, uint64_t insns_limit);
/* Has the vCPU look at its request word soon. */
void hardware_kick(struct engine_vcpu *v);
/* Brings the vCPU to an instruction boundary after an access was served; it does not run. */
bool hardware_complete(struct engine_vcpu *v);

/* assist.c: `emulate` does one instruction, of the guest's state or of what cpu.s holds of it.
 * Return an exit, or GO_ON. */
int hardware_assist(struct engine_vcpu *v);
int hardware_step(struct engine_vcpu *v);

/* route.c */
/* Puts KVM's breakpoints where cpu.s asks for them. */
bool hardware_set_breakpoints(struct engine_vcpu *v);
int hardware_debug_exit(struct engine_vcpu *v);
/* Mends a state that was taken from KVM. */
void hardware_mend(struct engine_vcpu *v);

#endif
