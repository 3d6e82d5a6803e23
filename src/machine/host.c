/*
 * What a vCPU finds round it: the functions behind struct x86_host, and what its local APIC asks of
 * it (struct lapic_host).
 */
#include "machine/internal.h"

/* ---- the machine's lock, from a vCPU's thread ---- */

/* The vCPU may be inside its engine's gate, where it must not wait for the lock: an exclusive
 * section of another vCPU would wait for it in turn, and that one's thread may hold the lock. Nor
 * may it wait for the gate with the lock held: the section may want the lock for a device. */
static COLD void enter_contended(struct vcpu *v)
{
    struct machine *m = v->machine;
    const struct engine *e = m->config.engine;
    v->lock_waits++;
    for (;;) {
        if (e->park)
            e->park(v->engine);
        pthread_mutex_lock(&m->lock);
        if (!e->unpark || e->unpark(v->engine, false))
            return;
        pthread_mutex_unlock(&m->lock);
        e->unpark(v->engine, true);
    }
}

/* Under --clock virtual the thread holds the lock for its whole slice (virtual.c). */
static inline struct machine *enter(struct vcpu *v)
{
    struct machine *m = v->machine;
    if (!m->config.virtual_clock && unlikely(pthread_mutex_trylock(&m->lock) != 0))
        enter_contended(v);
    return m;
}

static inline void leave(struct machine *m)
{
    if (!m->config.virtual_clock)
        pthread_mutex_unlock(&m->lock);
}

/* ---- ports and memory ---- */

static uint32_t pio_read(void *ctx, uint16_t port, unsigned size)
{
    struct vcpu *v = ctx;
    struct machine *m = enter(v);
    v->pio++;
    uint32_t value = (uint32_t)bus_read(&m->pc.ports, port, size);
    leave(m);
    return value;
}

static void pio_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    struct vcpu *v = ctx;
    struct machine *m = enter(v);
    v->pio++;
    bus_write(&m->pc.ports, port, size, value);
    leave(m);
}

static uint64_t mmio_read(void *ctx, uint64_t gpa, unsigned size)
{
    struct vcpu *v = ctx;
    struct machine *m = enter(v);
    v->mmio++;
    uint64_t value = lapic_claims(v->lapic, gpa) ? lapic_read(v->lapic, gpa & 0xfff, size)
                                                 : bus_read(&m->pc.memory, gpa, size);
    leave(m);
    return value;
}

static void mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    struct vcpu *v = ctx;
    struct machine *m = enter(v);
    v->mmio++;
    if (lapic_claims(v->lapic, gpa))
        lapic_write(v->lapic, gpa & 0xfff, size, value);
    else
        bus_write(&m->pc.memory, gpa, size, value);
    leave(m);
}

static int interrupt_acknowledge(void *ctx)
{
    struct vcpu *v = ctx;
    struct machine *m = enter(v);
    int vector = lapic_acknowledge(v->lapic);
    leave(m);
    return vector;
}

static void apic_eoi(void *ctx, uint8_t vector)
{
    struct machine *m = enter(ctx);
    apic_bus_eoi(&m->pc.apics, vector);
    leave(m);
}

static uint64_t cr8_read(void *ctx)
{
    struct vcpu *v = ctx;
    struct machine *m = enter(v);
    uint64_t value = lapic_cr8(v->lapic);
    leave(m);
    return value;
}

static void cr8_write(void *ctx, uint64_t value)
{
    struct vcpu *v = ctx;
    struct machine *m = enter(v);
    lapic_set_cr8(v->lapic, value);
    leave(m);
}

static void fpu_error(void *ctx, bool level)
{
    struct machine *m = enter(ctx);
    pc_fpu_error(&m->pc, level);
    leave(m);
}

/* ---- time ---- */

uint64_t vcpu_tsc(const struct vcpu *v)
{
    return machine_ticks(v->machine) +
           (uint64_t)atomic_load_explicit(&v->tsc_offset, memory_order_relaxed);
}

static uint64_t tsc_read(void *ctx)
{
    return vcpu_tsc(ctx);
}

/* Moves the TSC by `by`, and TSC_ADJUST with it (SDM 3, 17.17.3). */
static void tsc_move(struct vcpu *v, int64_t by)
{
    if (v->machine->model->tsc == X86_TSC_FIXED)
        return;
    atomic_fetch_add(&v->tsc_offset, by);
    v->tsc_adjust = (int64_t)((uint64_t)v->tsc_adjust + (uint64_t)by);
    lapic_tsc_changed(v->lapic);
}

/* ---- MSRs ---- */

enum { MSR_TSC = 0x10, MSR_TSC_ADJUST = 0x3b };

static bool msr_read(void *ctx, uint32_t msr, uint64_t *value)
{
    struct vcpu *v = ctx;
    bool known = true;
    struct machine *m = enter(v);
    if (msr == MSR_TSC)
        *value = vcpu_tsc(v);
    else if (msr == MSR_TSC_ADJUST)
        *value = (uint64_t)v->tsc_adjust;
    else
        known = lapic_msr_read(v->lapic, msr, value);
    leave(m);
    return known;
}

static bool msr_write(void *ctx, uint32_t msr, uint64_t value)
{
    struct vcpu *v = ctx;
    bool known = true;
    struct machine *m = enter(v);
    if (msr == MSR_TSC)
        tsc_move(v, (int64_t)(value - vcpu_tsc(v)));
    else if (msr == MSR_TSC_ADJUST)
        tsc_move(v, (int64_t)(value - (uint64_t)v->tsc_adjust));
    else
        known = lapic_msr_write(v->lapic, msr, value);
    leave(m);
    return known;
}

/* ---- randomness ---- */

/* --clock virtual: all of the guest's are from there. */
void vcpu_virtual_random(void *vcpu, void *to, unsigned size)
{
    struct vcpu *v = vcpu;
    virtual_random(v->machine, to, size);
}

const struct x86_host vcpu_host = {
    .pio_read = pio_read,
    .pio_write = pio_write,
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .interrupt_acknowledge = interrupt_acknowledge,
    .tsc_read = tsc_read,
    .msr_read = msr_read,
    .msr_write = msr_write,
    .cr8_read = cr8_read,
    .cr8_write = cr8_write,
    .fpu_error = fpu_error,
    .apic_eoi = apic_eoi,
};

/* ---- what the local APIC asks; under the machine's lock, on any thread ---- */

static void lapic_interrupt(void *ctx, bool level)
{
    struct vcpu *v = ctx;
    v->machine->config.engine->interrupt(v->engine, level);
    if (level)
        vcpu_wake(v);
}

static void lapic_nmi(void *ctx)
{
    struct vcpu *v = ctx;
    v->machine->config.engine->nmi(v->engine);
    vcpu_wake(v);
}

/* The boot processor would begin at the reset vector, where firmware is: there is none, so its INIT
 * is the reset that firmware would make of it. */
static void lapic_init_signal(void *ctx)
{
    struct vcpu *v = ctx;
    if (v->index == 0) {
        machine_ask_reset(v->machine);
        return;
    }
    atomic_fetch_and(&v->events, ~(uint32_t)VCPU_STARTUP);
    vcpu_ask(v, VCPU_INIT);
}

static void lapic_startup(void *ctx, uint8_t vector)
{
    struct vcpu *v = ctx;
    atomic_store(&v->startup_vector, vector);
    vcpu_ask(v, VCPU_STARTUP);
}

static int lapic_extint(void *ctx)
{
    struct vcpu *v = ctx;
    return pic_acknowledge(&v->machine->pc.pic);
}

static uint64_t lapic_tsc_to_ns(void *ctx, uint64_t tsc)
{
    const struct vcpu *v = ctx;
    uint64_t now = vcpu_tsc(v);
    if (tsc <= now)
        return 0;
    uint64_t at = tsc - (uint64_t)atomic_load(&v->tsc_offset);
    return at < tsc - now ? CLOCK_NEVER : machine_ticks_at(v->machine, at);
}

const struct lapic_host vcpu_lapic_host = {
    .interrupt = lapic_interrupt,
    .nmi = lapic_nmi,
    .init = lapic_init_signal,
    .startup = lapic_startup,
    .extint = lapic_extint,
    .tsc_to_ns = lapic_tsc_to_ns,
};
