/*
 * The engine `emulate`: vCPUs, their state in and out, and what other threads ask of them.
 */
#include "engine/emulate/emulate.h"

#include <stdio.h>
#include <stdlib.h>

#include "x86/flags.h"

/* All vCPUs' block caches together, and the least each gets. */
enum { CACHE_TOTAL = 12 << 20, CACHE_LEAST = 1 << 20 };

static bool usable(char *why, size_t size)
{
    snprintf(why, size, "works on every host");
    return true;
}

/* ---- code that is watched ---- */

void emulate_forget_jumps(struct engine_vcpu *v)
{
    v->generation++;
    v->cpu.jump_key = NO_JUMP_KEY;
    v->cpu.link_from = NULL;
}

static bool alone(const struct engine_vm *vm)
{
    return vm->vcpus == 1;
}

/* An exclusive section from whatever thread calls: a vCPU's own is inside the gate, unless its
 * LOCKed instruction has closed it already. */
static bool close_gate(struct engine_vm *vm, bool *inside)
{
    *inside = false;
    for (unsigned i = 0; i < vm->created; i++) {
        struct engine_vcpu *v = vm->vcpu[i];
        if (v->inside && pthread_equal(v->thread, pthread_self())) {
            *inside = true;
            if (v->cpu.lock_closed_gate || alone(vm))
                return false;
        }
    }
    gate_close(&vm->gate, *inside);
    return true;
}

void emulate_watch_code(struct engine_vcpu *v, uint64_t gpa)
{
    struct engine_vm *vm = v->vm;
    _Atomic uint8_t *flags = memory_flags(vm->memory, gpa);
    if (atomic_load(flags) & MEMORY_CODE)
        return;
    bool inside, closed = close_gate(vm, &inside);
    atomic_fetch_or(flags, MEMORY_CODE);
    for (unsigned i = 0; i < vm->created; i++)
        x86_tlb_write_protect(vm->cpus[i], gpa);
    if (vm->hooks)
        vm->hooks->watch(vm, gpa);
    if (closed)
        gate_open(&vm->gate, inside);
}

static void drop_in_page(struct engine_vm *vm, uint64_t gpa, uint64_t len)
{
    _Atomic uint8_t *flags = memory_flags(vm->memory, gpa);
    if (!flags || !(atomic_load(flags) & MEMORY_CODE))
        return;
    if (vm->hooks && vm->hooks->give_up(vm, gpa)) {
        gpa &= ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
        len = MEMORY_PAGE_SIZE;
    }
    bool left = vm->hooks && vm->hooks->drop(vm, gpa, len);
    for (unsigned i = 0; i < vm->created; i++) {
        struct engine_vcpu *v = vm->vcpu[i];
        if (cache_drop(&v->cache, gpa, len))
            emulate_forget_jumps(v);
        left |= cache_has_page(&v->cache, gpa);
    }
    if (!left)
        atomic_fetch_and(flags, (uint8_t)~MEMORY_CODE);
}

void emulate_drop_code(struct engine_vm *vm, uint64_t gpa, uint64_t len)
{
    while (len) {
        uint64_t in_page = MEMORY_PAGE_SIZE - (gpa & (MEMORY_PAGE_SIZE - 1));
        uint64_t n = len < in_page ? len : in_page;
        drop_in_page(vm, gpa, n);
        gpa += n;
        len -= n;
    }
}

/* A store of the vCPU's own. The block that runs ends here if it is hit: its instruction is begun
 * again, alone. */
static void code_write(struct x86_cpu *c, uint64_t gpa, unsigned len)
{
    struct engine_vcpu *v = c->engine;
    const struct block *b = c->block;
    bool hit = b && b != emulate_scratch(v) && b->gpa < gpa + len && gpa < b->gpa + b->bytes;
    bool inside, closed = close_gate(v->vm, &inside);
    emulate_drop_code(v->vm, gpa, len);
    if (closed)
        gate_open(&v->vm->gate, inside);
    if (hit)
        longjmp(c->fault_jump, JUMP_RESTART);
}

/* The same from a device or loader. */
static void memory_code_write(void *ctx, uint64_t gpa, uint64_t len)
{
    struct engine_vm *vm = ctx;
    bool inside, closed = close_gate(vm, &inside);
    emulate_drop_code(vm, gpa, len);
    if (closed)
        gate_open(&vm->gate, inside);
}

static void mappings_changed(struct x86_cpu *c)
{
    emulate_forget_jumps(c->engine);
}

/* ---- the virtual machine ---- */

static void ask_all(void *ctx)
{
    struct engine_vm *vm = ctx;
    for (unsigned i = 0; i < vm->created; i++)
        atomic_fetch_or(&vm->cpus[i]->request, X86_REQUEST_GATE);
}

static bool vm_create(struct engine_vm **out, struct memory *memory, const struct x86_model *model,
                      unsigned vcpus, struct error *err)
{
    struct engine_vm *vm = calloc(1, sizeof *vm);
    *out = vm;
    if (!vm || vcpus > EMULATE_VCPUS) {
        free(vm);
        *out = NULL;
        return error_set(err, "engine emulate: no memory for %u vCPUs", vcpus);
    }
    vm->memory = memory;
    vm->model = model;
    vm->vcpus = vcpus;
    gate_init(&vm->gate, ask_all, vm);
    memory->code_write = memory_code_write;
    memory->code_ctx = vm;
    return true;
}

static void vm_destroy(struct engine_vm *vm)
{
    vm->memory->code_write = NULL;
    gate_destroy(&vm->gate);
    free(vm);
}

/* ---- a vCPU ---- */

static size_t cache_share(unsigned vcpus)
{
    size_t share = (size_t)CACHE_TOTAL / vcpus;
    return share > CACHE_LEAST ? share : CACHE_LEAST;
}

bool emulate_vcpu_init(struct engine_vcpu *v, struct engine_vm *vm, unsigned index,
                       const struct x86_host *host, struct error *err)
{
    if (!cache_init(&v->cache, cache_share(vm->vcpus)))
        return error_set(err, "engine emulate: no memory for vCPU %u's decoded code", index);
    struct x86_cpu *c = &v->cpu;
    v->vm = vm;
    c->index = index;
    c->host = *host;
    c->memory = vm->memory;
    c->model = vm->model;
    c->gate = alone(vm) ? NULL : &vm->gate;
    c->peers = vm->cpus;
    c->peer_count = vm->vcpus;
    c->engine = v;
    c->jump = v->jump;
    c->code_write = code_write;
    c->mappings_changed = mappings_changed;
    x86_tlb_init(c);
    x86_state_reset(&c->s, index == 0, false);
    x86_set_rflags(c, c->s.rflags);
    x86_update_mode(c);
    vm->vcpu[index] = v;
    vm->cpus[index] = c;
    vm->created++;
    return true;
}

void emulate_vcpu_fini(struct engine_vcpu *v)
{
    v->vm->created = 0;
    cache_free(&v->cache);
}

static bool vcpu_create(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                        const struct x86_host *host, struct error *err)
{
    struct engine_vcpu *v = aligned_alloc(64, (sizeof *v + 63) & ~(size_t)63);
    *out = NULL;
    if (!v)
        return error_set(err, "engine emulate: no memory for vCPU %u", index);
    memset(v, 0, sizeof *v);
    if (!emulate_vcpu_init(v, vm, index, host, err)) {
        free(v);
        return false;
    }
    *out = v;
    return true;
}

/* The machine destroys all of them, or none is run again. */
static void vcpu_destroy(struct engine_vcpu *v)
{
    emulate_vcpu_fini(v);
    free(v);
}

static void get_state(struct engine_vcpu *v, struct x86_state *to)
{
    /* An NMI that was asked for and not looked at yet is part of the state. */
    uint32_t nmi = (uint32_t)X86_REQUEST_NMI;
    if (atomic_fetch_and(&v->cpu.request, ~nmi) & nmi)
        v->cpu.s.nmi_pending = true;
    *to = v->cpu.s;
    to->rflags = x86_rflags(&v->cpu);
    to->gpr[X86_GPR_BLOCK] = 0;
}

static void set_state(struct engine_vcpu *v, const struct x86_state *from)
{
    struct x86_cpu *c = &v->cpu;
    c->s = *from;
    c->s.gpr[X86_GPR_ZERO] = 0;
    x86_set_rflags(c, from->rflags);
    x86_tlb_flush(c);
    x86_update_mode(c);
    emulate_forget_jumps(v);
}

/* ---- from other threads ---- */

static void interrupt(struct engine_vcpu *v, bool level)
{
    if (level)
        atomic_fetch_or(&v->cpu.request, X86_REQUEST_INTR);
    else
        atomic_fetch_and(&v->cpu.request, ~(uint32_t)X86_REQUEST_INTR);
}

static void nmi(struct engine_vcpu *v)
{
    atomic_fetch_or(&v->cpu.request, X86_REQUEST_NMI);
}

static void stop(struct engine_vcpu *v)
{
    atomic_fetch_or(&v->cpu.request, X86_REQUEST_STOP);
}

/* ---- waiting in a host callback ---- */

/* The vCPU stands in the middle of an instruction of a block that others may drop meanwhile: a
 * dropped block's memory stays until this vCPU decodes again, so the block is run to its end.
 * A vCPU in its own exclusive section is outside the gate already, and nobody waits for it. */
static void park(struct engine_vcpu *v)
{
    if (v->cpu.lock_closed_gate)
        return;
    v->inside = false;
    gate_leave(&v->vm->gate);
}

static bool unpark(struct engine_vcpu *v, bool wait)
{
    if (v->cpu.lock_closed_gate)
        return true;
    if (wait)
        gate_enter(&v->vm->gate);
    else if (!gate_try_enter(&v->vm->gate))
        return false;
    v->inside = true;
    return true;
}

/* ---- figures ---- */

static uint64_t instructions(const struct engine_vcpu *v)
{
    const struct x86_cpu *c = &v->cpu;
    const struct block *b = c->block;
    return b ? c->insns - b->insns + (uint64_t)(c->op - b->ops) : c->insns;
}

static void stats(const struct engine_vcpu *v, struct engine_stats *out)
{
    *out = (struct engine_stats){
        .instructions = v->cpu.insns,
        .interrupts = v->interrupts,
        .exceptions = v->exceptions,
        .halts = v->halts,
        .pauses = v->cpu.pauses,
        .blocks_decoded = v->cache.decoded,
        .blocks_dropped = v->cache.dropped,
        .cache_flushes = v->cache.flushes,
        .tlb_misses = v->cpu.tlb_misses,
        .tlb_flushes = v->cpu.tlb_flushes,
    };
}

/* A clean page may be in no write entry; all entries go, as this is asked for now and then. */
static void watch_writes(struct engine_vm *vm)
{
    for (unsigned i = 0; i < vm->created; i++)
        x86_tlb_flush(vm->cpus[i]);
}

static void watch_page(struct engine_vm *vm, uint64_t gpa)
{
    for (unsigned i = 0; i < vm->created; i++)
        x86_tlb_write_protect(vm->cpus[i], gpa);
}

static void remapped(struct engine_vm *vm)
{
    for (unsigned i = 0; i < vm->created; i++) {
        x86_tlb_flush(vm->cpus[i]);
        emulate_forget_jumps(vm->vcpu[i]);
    }
}

const struct engine engine_emulate = {
    .name = "emulate",
    .summary = "full emulation: the reference, on any host",
    .usable = usable,
    .vm_create = vm_create,
    .vm_destroy = vm_destroy,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .run = emulate_run,
    .interrupt = interrupt,
    .nmi = nmi,
    .stop = stop,
    .park = park,
    .unpark = unpark,
    .get_state = get_state,
    .set_state = set_state,
    .instructions = instructions,
    .stats = stats,
    .watch_writes = watch_writes,
    .watch_page = watch_page,
    .remapped = remapped,
};
