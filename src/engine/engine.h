/*
 * The engine interface: what runs guest code, however it does it.
 *
 * An engine runs one vCPU on the thread that calls run(), until something needs the outside. It
 * reaches the machine only through the vCPU's x86_host (x86/host.h) and guest memory. The vCPU's
 * state is the engine-neutral struct x86_state, which it gives and takes at any instruction
 * boundary.
 */
#ifndef DOPPEL_ENGINE_ENGINE_H
#define DOPPEL_ENGINE_ENGINE_H

#include <stddef.h>

#include "base/error.h"
#include "x86/host.h"
#include "x86/state.h"

struct engine_vm;   /* an engine's part that all vCPUs share */
struct engine_vcpu; /* an engine's part of one vCPU */
struct memory;
struct x86_model;

/* Why run() came back. */
enum engine_exit {
    ENGINE_STOPPED,  /* engine_stop() asked for it */
    ENGINE_HALTED,   /* HLT with nothing pending: wait for an interrupt, NMI or stop */
    ENGINE_SHUTDOWN, /* triple fault */
    ENGINE_LIMIT,    /* the instruction limit was reached */
    ENGINE_PAUSED,   /* the guest spins (PAUSE): let others run, then call again */
    ENGINE_FAILED,   /* a failure of ours: engine_vcpu's error says what */
};

/* Something that cost time, and how often. */
struct engine_cause {
    const char *name, *detail; /* for people; NULL where there are no more */
    uint64_t count;
    uint64_t ns; /* where it was measured */
};
enum { ENGINE_CAUSES = 40 };

struct engine_stats {
    uint64_t instructions;
    uint64_t interrupts, exceptions; /* delivered */
    uint64_t pio, mmio, halts, pauses;
    uint64_t blocks_decoded, blocks_dropped, cache_flushes;
    uint64_t blocks_bound; /* to their addresses: they lead straight on to other pages */
    uint64_t traces;       /* of those, the ones that go on where a branch of theirs leads */
    uint64_t tlb_misses, tlb_flushes;
    uint64_t emulated;           /* instructions that a faster engine left to `emulate` */
    uint64_t faults;             /* of the host's, taken by a guest's access */
    uint64_t entries_filled;     /* in address tables */
    uint64_t direct, translated; /* instructions run as they were, or as translated code */
    uint64_t jump_misses;        /* branches whose target translated code did not know */
    uint64_t longest_stop_ns;    /* of a vCPU, while the translated code was recycled */
    uint64_t exits, assists;     /* of KVM: returns from it, instructions that it gave up on */
    uint64_t stretches;          /* of code that `emulate` ran between two of KVM's */
    /* The reasons to leave translated code that cost most, the first the most. */
    struct engine_cause cause[ENGINE_CAUSES];
};

/* Whether user code runs in processes of its own, as it is (engine/binary/direct.h). */
enum engine_direct { ENGINE_DIRECT_AUTO, ENGINE_DIRECT_NEVER, ENGINE_DIRECT_ALWAYS };

/* How an engine is looked at, or put under strain. */
struct engine_tuning {
    bool measure;  /* stats() is to tell shares and times as well; that takes time itself */
    bool perf_map; /* tell perf(1) where translated code is */
    /* Where the local APICs are to be. */
    enum {
        ENGINE_APICS_BEST,
        ENGINE_APICS_MACHINE,
        ENGINE_APICS_KEPT, /* with the engine (struct engine_apics) */
    } apics;
    enum engine_direct direct;
    uint64_t code_cache; /* bytes of translated code to keep at most; 0: as many as is good */
};

/*
 * Local APICs that an engine keeps itself, while the machine's clock runs: then its vCPUs wait for
 * interrupts and start-up IPIs in run(), and interrupt() is about the 8259s' alone.
 */
struct engine_apic {
    uint64_t base, tsc_deadline; /* IA32_APIC_BASE, IA32_TSC_DEADLINE */
    /* The registers, the ID in bits 31 to 24 in either mode; a timer's count that is over, and its
     * interrupt given, is zero and so is its initial count. */
    uint8_t page[0x400];
};

struct engine_msi {
    uint32_t address, data; /* SDM 3, 10.11 */
};

enum { ENGINE_PINS = 24 }; /* of the I/O APIC */

struct engine_apics {
    /* Whether this VM's vCPUs have theirs, as it was made and tuned. */
    bool (*kept)(const struct engine_vm *vm);
    /* The state goes to the engine, which has the vCPU's or gets it, and comes back. No vCPU runs
     * from before the first one's take() until after the last one's give(); the clock does. */
    bool (*give)(struct engine_vcpu *vcpu, const struct engine_apic *from);
    bool (*take)(struct engine_vcpu *vcpu, struct engine_apic *to);
    /* From here on under the machine's lock, on any thread: a message for local APICs; and what the
     * I/O APIC's level-triggered pins send (address 0: nothing), whose EOIs x86_host is to hear
     * of. */
    void (*deliver)(struct engine_vm *vm, const struct engine_msi *m);
    void (*routes)(struct engine_vm *vm, const struct engine_msi level[ENGINE_PINS]);
    /* What the vCPU, on its thread, asks x86_host of its APIC all the same. */
    uint32_t (*read_page)(struct engine_vcpu *vcpu, uint32_t offset);
    bool (*msr)(struct engine_vcpu *vcpu, uint32_t msr, bool write, uint64_t *value);
    void (*cr8)(struct engine_vcpu *vcpu, bool write, uint64_t *value);
};

/*
 * Eventfds that an engine signals instead of coming out, and sends messages for, while it keeps the
 * local APICs and the machine's clock runs. Under the machine's lock, on any thread.
 */
enum { ENGINE_MESSAGES = 16 };

struct engine_signals {
    /* From now on a vCPU's write of so many bytes to gpa, whatever they are, signals fd and does
     * not come to x86_host. False: it comes there. When it was removed, fd is signalled no more. */
    bool (*add_doorbell)(struct engine_vm *vm, uint64_t gpa, unsigned size, int fd);
    void (*remove_doorbell)(struct engine_vm *vm, uint64_t gpa, unsigned size, int fd);
    /* From now on whoever signals fd sends the message. False: it is to be delivered by
     * engine_apics; so it is from the 17th on. When it was removed, all that was signalled before
     * has been sent. */
    bool (*add_message)(struct engine_vm *vm, const struct engine_msi *m, int fd);
    void (*remove_message)(struct engine_vm *vm, int fd);
};

struct engine {
    const char *name;    /* as --engine takes it */
    const char *summary; /* one line for `doppel engines` */

    bool host_model; /* carries what `--cpu host` adds to the models */

    bool uncounted; /* instructions can't be counted: no limit holds, there is no virtual clock */

    /* Whether it works on this host; why gets a sentence either way. */
    bool (*usable)(char *why, size_t size);
    /* Whether it is fast enough here to be picked unasked; measured, in less than 5 ms. NULL:
     * always. */
    bool (*advisable)(char *why, size_t size);

    /* Takes from the model what this engine can't give here, before anything is made. NULL: it
     * gives all. */
    bool (*limit)(struct x86_model *model, struct error *err);

    /* What the guest has that states do not tell ("performance counters"), or NULL. A NULL member:
     * nothing. */
    const char *(*untold)(const struct engine_vm *vm);

    bool (*vm_create)(struct engine_vm **vm, struct memory *memory, const struct x86_model *model,
                      unsigned vcpus, struct error *err);
    /* Called instead of vm_create() where it is not NULL: an engine that is made of others finds
     * them round itself. */
    bool (*vm_compose)(struct engine_vm **vm, const struct engine *self, struct memory *memory,
                       const struct x86_model *model, unsigned vcpus, struct error *err);
    /* Between vm_create() and the first vcpu_create(). NULL: there is nothing to tune. */
    bool (*tune)(struct engine_vm *vm, const struct engine_tuning *t, struct error *err);
    void (*vm_destroy)(struct engine_vm *vm);

    bool (*vcpu_create)(struct engine_vcpu **vcpu, struct engine_vm *vm, unsigned index,
                        const struct x86_host *host, struct error *err);
    void (*vcpu_destroy)(struct engine_vcpu *vcpu);

    /* Runs until an exit. insns_limit: the count of this vCPU's instructions not to exceed, or
     * UINT64_MAX. At the limit the last instruction is done, traps of its own delivered, and
     * nothing of the next one is, not even a fault. */
    enum engine_exit (*run)(struct engine_vcpu *vcpu, uint64_t insns_limit);

    /* The same, and comes back (ENGINE_LIMIT) as soon as what this engine does in one go is done: a
     * block of its own, or a few short ones. NULL: it does not look at blocks in this way. */
    enum engine_exit (*run_block)(struct engine_vcpu *vcpu, uint64_t insns_limit);

    /* From any thread. interrupt: whether the machine has an interrupt to offer (a level: lowering
     * it is allowed). nmi: one NMI. stop: run() returns soon, or at once when next called. */
    void (*interrupt)(struct engine_vcpu *vcpu, bool level);
    void (*nmi)(struct engine_vcpu *vcpu);
    void (*stop)(struct engine_vcpu *vcpu);

    /* Called by a host callback on the vCPU's thread, round anything that may wait: between the two
     * the vCPU counts as standing still, so that exclusive sections need not wait for it. unpark()
     * waits for a section to end only if told that it may; otherwise it gives up with false. Nobody
     * may wait in it with a lock held: the section may want that lock. Both may be NULL. */
    void (*park)(struct engine_vcpu *vcpu);
    bool (*unpark)(struct engine_vcpu *vcpu, bool wait);

    /* While the vCPU does not run, on any thread. */
    void (*get_state)(struct engine_vcpu *vcpu, struct x86_state *to);
    void (*set_state)(struct engine_vcpu *vcpu, const struct x86_state *from);

    const struct engine_apics *apics;     /* NULL: it keeps none */
    const struct engine_signals *signals; /* NULL: it has none */

    /* What the engine made of the guest's code at RIP: copies `size` bytes of it at most, says
     * where it lies and how many there are. 0: nothing, or not yet. May be NULL. */
    unsigned (*host_code)(struct engine_vcpu *vcpu, uint8_t *to, unsigned size, uint64_t *at);

    /* Instructions executed so far; exact when called on the vCPU's thread from a host callback
     * (the current instruction not counted), else at least as old as the last exit. */
    uint64_t (*instructions)(const struct engine_vcpu *vcpu);
    void (*stats)(const struct engine_vcpu *vcpu, struct engine_stats *out);
    /* What ENGINE_FAILED was about, a sentence, or NULL. May itself be NULL. */
    const char *(*failure)(const struct engine_vcpu *vcpu);

    /* All pages, or that of gpa, were marked MEMORY_CLEAN: the next write to each is to take the
     * mark away. No vCPU runs. Both NULL: this engine does not keep track of what it writes. */
    void (*watch_writes)(struct engine_vm *vm);
    void (*watch_page)(struct engine_vm *vm, uint64_t gpa);

    /* Guest-physical mappings changed (a region was added, moved or removed); no vCPU runs. */
    void (*remapped)(struct engine_vm *vm);
};

extern const struct engine engine_emulate;
/* On x86-64 hosts. */
extern const struct engine engine_binary, engine_hardware;

#endif
