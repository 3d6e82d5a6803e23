/*
 * CMPXCHG XADD CMPXCHG8B CMPXCHG16B, locked and not, and the host atomics under every LOCK.
 */
#include "x86/sem/hot.h"

uint64_t x86_host_load(const void *p, unsigned size)
{
    switch (size) {
    case 1: return __atomic_load_n((const uint8_t *)p, __ATOMIC_SEQ_CST);
    case 2: return __atomic_load_n((const uint16_t *)p, __ATOMIC_SEQ_CST);
    case 4: return __atomic_load_n((const uint32_t *)p, __ATOMIC_SEQ_CST);
    default: return __atomic_load_n((const uint64_t *)p, __ATOMIC_SEQ_CST);
    }
}

#define CAS_CASE(bytes, type)                                                                      \
    case bytes: {                                                                                  \
        type e = (type)*expected;                                                                  \
        bool done = __atomic_compare_exchange_n((type *)p, &e, (type)desired, false,               \
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);               \
        *expected = e;                                                                             \
        return done;                                                                               \
    }

/* On failure *expected gets what is there. */
bool x86_host_cas(void *p, unsigned size, uint64_t *expected, uint64_t desired)
{
    switch (size) {
        CAS_CASE(1, uint8_t)
        CAS_CASE(2, uint16_t)
        CAS_CASE(4, uint32_t)
    default: CAS_CASE(8, uint64_t)
    }
}

uint64_t lin_read_size(struct x86_cpu *c, uint64_t lin, unsigned seg, unsigned size)
{
    switch (size) {
    case 1: return x86_read8(c, lin, seg);
    case 2: return x86_read16(c, lin, seg);
    case 4: return x86_read32(c, lin, seg);
    default: return x86_read64(c, lin, seg);
    }
}

void lin_write_size(struct x86_cpu *c, uint64_t lin, unsigned seg, uint64_t v, unsigned size)
{
    switch (size) {
    case 1: x86_write8(c, lin, (uint8_t)v, seg); break;
    case 2: x86_write16(c, lin, (uint16_t)v, seg); break;
    case 4: x86_write32(c, lin, (uint32_t)v, seg); break;
    default: x86_write64(c, lin, v, seg); break;
    }
}

/* The accumulator is compared; on a difference it gets the old value, and the memory is written
 * with what it held (the processor always writes). */
OP(cmpxchg)
{
    uint64_t accumulator = gpr_read(c, X86_RAX, op->size);
    uint64_t source = gpr_read(c, op->reg, op->size), old;
    if (op->ea == EA_REG) {
        old = gpr_read(c, op->rm, op->size);
        if (old == accumulator)
            gpr_write(c, op->rm, op->size, source);
        else
            gpr_write(c, X86_RAX, op->size, old);
        cc_compare(c, accumulator, old, op->size);
        return;
    }
    uint64_t lin = op_linear(c, op, op->size, X86_RMW);
    if (op->flags & OPF_LOCK) {
        void *p = x86_lock_begin(c, lin, op->size, op->seg);
        old = accumulator;
        if (p) {
            x86_host_cas(p, op->size, &old, source);
        } else {
            old = lin_read_size(c, lin, op->seg, op->size);
            lin_write_size(c, lin, op->seg, old == accumulator ? source : old, op->size);
            x86_lock_end(c);
        }
    } else {
        x86_probe_write(c, lin, op->size, op->seg);
        old = lin_read_size(c, lin, op->seg, op->size);
        lin_write_size(c, lin, op->seg, old == accumulator ? source : old, op->size);
    }
    if (old != accumulator)
        gpr_write(c, X86_RAX, op->size, old);
    cc_compare(c, accumulator, old, op->size);
}

static void cc_sum(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned size)
{
    cc_arith(c, a + b, carries_of_add(a, b, a + b), size * 8);
}

OP(xadd)
{
    uint64_t source = gpr_read(c, op->reg, op->size), old;
    if (op->ea == EA_REG) {
        old = gpr_read(c, op->rm, op->size);
        gpr_write(c, op->reg, op->size, old);
        gpr_write(c, op->rm, op->size, old + source);
        cc_sum(c, old, source, op->size);
        return;
    }
    uint64_t lin = op_linear(c, op, op->size, X86_RMW);
    if (op->flags & OPF_LOCK) {
        void *p = x86_lock_begin(c, lin, op->size, op->seg);
        if (p) {
            old = x86_host_load(p, op->size);
            while (!x86_host_cas(p, op->size, &old, old + source))
                ;
        } else {
            old = lin_read_size(c, lin, op->seg, op->size);
            lin_write_size(c, lin, op->seg, old + source, op->size);
            x86_lock_end(c);
        }
    } else {
        x86_probe_write(c, lin, op->size, op->seg);
        old = lin_read_size(c, lin, op->seg, op->size);
        lin_write_size(c, lin, op->seg, old + source, op->size);
    }
    gpr_write(c, op->reg, op->size, old);
    cc_sum(c, old, source, op->size);
}

static void set_zf(struct x86_cpu *c, bool zf)
{
    x86_set_status(c, (x86_rflags(c) & ~(uint64_t)FLAG_ZF) | (zf ? FLAG_ZF : 0));
}

OP(cmpxchg8b)
{
    uint64_t expected = (uint64_t)(uint32_t)c->s.gpr[X86_RDX] << 32 | (uint32_t)c->s.gpr[X86_RAX];
    uint64_t desired = (uint64_t)(uint32_t)c->s.gpr[X86_RCX] << 32 | (uint32_t)c->s.gpr[X86_RBX];
    uint64_t lin = op_linear(c, op, 8, X86_RMW), old = expected;
    if (op->flags & OPF_LOCK) {
        void *p = x86_lock_begin(c, lin, 8, op->seg);
        if (p) {
            x86_host_cas(p, 8, &old, desired);
        } else {
            old = x86_read64(c, lin, op->seg);
            x86_write64(c, lin, old == expected ? desired : old, op->seg);
            x86_lock_end(c);
        }
    } else {
        x86_probe_write(c, lin, 8, op->seg);
        old = x86_read64(c, lin, op->seg);
        x86_write64(c, lin, old == expected ? desired : old, op->seg);
    }
    set_zf(c, old == expected);
    if (old != expected) {
        gpr_write(c, X86_RAX, 4, old);
        gpr_write(c, X86_RDX, 4, old >> 32);
    }
}

/* The host's 16-byte compare-and-exchange. Where the host has none as an instruction, a failed one
 * is all the exclusive section's: x86_lock_begin() hands out no 16-byte host addresses there. */
#if defined(__x86_64__)
static bool host_cas128(void *p, unsigned __int128 *expected, unsigned __int128 desired)
{
    unsigned __int128 seen =
        __sync_val_compare_and_swap((unsigned __int128 *)p, *expected, desired);
    bool done = seen == *expected;
    *expected = seen;
    return done;
}
#else
static bool host_cas128(void *p, unsigned __int128 *expected, unsigned __int128 desired)
{
    return __atomic_compare_exchange_n((unsigned __int128 *)p, expected, desired, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#endif

OP(cmpxchg16b)
{
    unsigned __int128 expected = (unsigned __int128)c->s.gpr[X86_RDX] << 64 | c->s.gpr[X86_RAX];
    unsigned __int128 desired = (unsigned __int128)c->s.gpr[X86_RCX] << 64 | c->s.gpr[X86_RBX];
    unsigned __int128 old = expected;
    uint64_t lin = op_linear(c, op, 16, X86_RMW);
    if (lin & 15)
        x86_raise_gp0(c);
    void *p = x86_lock_begin(c, lin, 16, op->seg);
    if (p) {
        host_cas128(p, &old, desired);
    } else {
        old =
            (unsigned __int128)x86_read64(c, lin + 8, op->seg) << 64 | x86_read64(c, lin, op->seg);
        unsigned __int128 v = old == expected ? desired : old;
        x86_write64(c, lin, (uint64_t)v, op->seg);
        x86_write64(c, lin + 8, (uint64_t)(v >> 64), op->seg);
        x86_lock_end(c);
    }
    set_zf(c, old == expected);
    if (old != expected) {
        c->s.gpr[X86_RAX] = (uint64_t)old;
        c->s.gpr[X86_RDX] = (uint64_t)(old >> 64);
    }
}
