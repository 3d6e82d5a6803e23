/*
 * A machine that does little, for tests that run one system instruction at a time through its
 * semantic function.
 */
#ifndef DOPPEL_TEST_SYSTEM_RIG_H
#define DOPPEL_TEST_SYSTEM_RIG_H

#include "x86/debug.h"
#include "x86/msr.h"
#include "x86/paging.h"
#include "x86_fixture.h"

#define SEM(name) extern const struct sem name##_sem;
SEM(mov_to_cr)
SEM(mov_from_cr)

/* ---- what the machine does ---- */

struct ports {
    uint32_t next; /* what a read gives; counts up */
    struct {
        uint16_t port;
        unsigned size;
        uint32_t value;
    } last;
    unsigned reads, writes;
    uint64_t tpr;
    unsigned remapped;
};

static inline uint32_t pio_read(void *ctx, uint16_t port, unsigned size)
{
    struct ports *p = ctx;
    p->reads++;
    p->last.port = port;
    p->last.size = size;
    return p->next++;
}

static inline void pio_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    struct ports *p = ctx;
    p->writes++;
    p->last.port = port;
    p->last.size = size;
    p->last.value = value;
}

static inline uint64_t cr8_read(void *ctx)
{
    return ((struct ports *)ctx)->tpr;
}

static inline void cr8_write(void *ctx, uint64_t v)
{
    ((struct ports *)ctx)->tpr = v;
}

static inline uint64_t tsc_read(void *ctx)
{
    return UINT64_C(0x1122334455667788);
}

static inline void random_bytes(void *ctx, void *to, unsigned n)
{
    memset(to, 0x5c, n);
}

static inline void remapped(struct x86_cpu *c)
{
    ((struct ports *)c->host.ctx)->remapped++;
}

static struct ports ports;

static inline struct fixture *machine(void)
{
    struct fixture *f = fixture_new();
    ports = (struct ports){0};
    f->c->host = (struct x86_host){.ctx = &ports,
                                   .pio_read = pio_read,
                                   .pio_write = pio_write,
                                   .cr8_read = cr8_read,
                                   .cr8_write = cr8_write,
                                   .tsc_read = tsc_read,
                                   .random = random_bytes};
    f->c->mappings_changed = remapped;
    return f;
}

/* Virtual-8086 mode. */
static inline struct x86_cpu *v86(struct fixture *f, unsigned iopl)
{
    struct x86_cpu *c = fixture_protected(f, 3);
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        c->s.seg[i] = (struct x86_segment){
            .limit = 0xffff, .attr = SEG_P | SEG_S | SEG_DPL | SEG_WRITABLE | SEG_ACCESSED};
    c->s.rflags |= FLAG_VM | iopl << 12;
    x86_update_mode(c);
    return c;
}

/* Runs one instruction; the vector it raised, or -1. */
static inline int run(struct fixture *f, const struct sem *sem)
{
    return RAISED(f->c, sem->any(f->c, &f->op));
}

static inline void registers(struct fixture *f, unsigned reg, unsigned rm, unsigned size)
{
    f->op.ea = EA_REG;
    f->op.reg = (uint8_t)reg;
    f->op.rm = (uint8_t)rm;
    f->op.size = (uint8_t)size;
}

static inline void memory_operand(struct fixture *f, uint64_t address, unsigned size)
{
    f->op.ea = EA_SEGMENT;
    f->op.base = f->op.index = X86_GPR_ZERO;
    f->op.disp = (int32_t)address;
    f->op.seg = X86_DS;
    f->op.size = (uint8_t)size;
}

static inline int write_cr(struct fixture *f, unsigned cr, uint64_t v)
{
    registers(f, cr, X86_RBX, 8);
    f->c->s.gpr[X86_RBX] = v;
    return run(f, &mov_to_cr_sem);
}

static inline uint64_t read_cr(struct fixture *f, unsigned cr)
{
    registers(f, cr, X86_RCX, 8);
    f->c->s.gpr[X86_RCX] = 0x5555;
    CHECK_EQ(run(f, &mov_from_cr_sem), -1);
    return f->c->s.gpr[X86_RCX];
}

#endif
