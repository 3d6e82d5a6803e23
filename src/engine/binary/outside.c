/*
 * What the processor calls of the machine: with the guest's vector registers put away, since the
 * machine may use the host's.
 */
#include "engine/binary/binary.h"
#include "x86/msr.h"

static struct binary_vcpu *go_outside(void *ctx)
{
    struct binary_vcpu *b = ctx;
    binary_outside(b);
    return b;
}

static uint32_t pio_read(void *ctx, uint16_t port, unsigned size)
{
    struct binary_vcpu *b = go_outside(ctx);
    return b->host.pio_read(b->host.ctx, port, size);
}

static void pio_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    struct binary_vcpu *b = go_outside(ctx);
    b->host.pio_write(b->host.ctx, port, size, value);
}

static uint64_t mmio_read(void *ctx, uint64_t gpa, unsigned size)
{
    struct binary_vcpu *b = go_outside(ctx);
    return b->host.mmio_read(b->host.ctx, gpa, size);
}

static void mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    struct binary_vcpu *b = go_outside(ctx);
    b->host.mmio_write(b->host.ctx, gpa, size, value);
}

static int interrupt_acknowledge(void *ctx)
{
    struct binary_vcpu *b = go_outside(ctx);
    return b->host.interrupt_acknowledge(b->host.ctx);
}

static uint64_t tsc_read(void *ctx)
{
    if (binary_tsc_on(ctx))
        return binary_tsc_read(ctx);
    struct binary_vcpu *b = go_outside(ctx);
    b->tsc_asked = true;
    return b->host.tsc_read(b->host.ctx);
}

static bool msr_read(void *ctx, uint32_t msr, uint64_t *value)
{
    if (msr == MSR_TSC && binary_tsc_on(ctx)) {
        *value = binary_tsc_read(ctx);
        return true;
    }
    struct binary_vcpu *b = go_outside(ctx);
    return b->host.msr_read(b->host.ctx, msr, value);
}

static bool msr_write(void *ctx, uint32_t msr, uint64_t value)
{
    struct binary_vcpu *b = go_outside(ctx);
    bool moves = msr == MSR_TSC || msr == MSR_TSC_ADJUST;
    uint64_t old = 0;
    if (moves && !msr_read(ctx, msr, &old))
        return false;
    if (!b->host.msr_write(b->host.ctx, msr, value))
        return false;
    if (moves)
        binary_tsc_written(b, (int64_t)(value - old));
    return true;
}

static uint64_t cr8_read(void *ctx)
{
    struct binary_vcpu *b = go_outside(ctx);
    return b->host.cr8_read(b->host.ctx);
}

static void cr8_write(void *ctx, uint64_t value)
{
    struct binary_vcpu *b = go_outside(ctx);
    b->host.cr8_write(b->host.ctx, value);
}

static void random_bytes(void *ctx, void *to, unsigned n)
{
    struct binary_vcpu *b = go_outside(ctx);
    b->host.random(b->host.ctx, to, n);
}

static void fpu_error(void *ctx, bool level)
{
    struct binary_vcpu *b = go_outside(ctx);
    b->host.fpu_error(b->host.ctx, level);
}

static void code_write(struct x86_cpu *c, uint64_t gpa, unsigned len)
{
    struct binary_vcpu *b = go_outside(binary_of(c->engine));
    b->code_write(c, gpa, len);
}

static void outside(struct x86_cpu *c)
{
    binary_outside(binary_of(c->engine));
}

void binary_take_over_host(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    b->host = c->host;
    b->code_write = c->code_write;
    c->host = (struct x86_host){
        .ctx = b,
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
        .random = b->host.random ? random_bytes : NULL,
        .fpu_error = b->host.fpu_error ? fpu_error : NULL,
    };
    c->code_write = code_write;
    c->outside = outside;
}
