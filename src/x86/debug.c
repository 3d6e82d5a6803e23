/*
 * Debug exceptions: what DR0 to DR3, TF and a task's T flag ask for.
 */
#include "x86/debug.h"

#include "x86/exception.h"
#include "x86/segment.h"

/* DR7.R/Wn. */
enum { RW_EXECUTE = 0, RW_IO = 2 };

static bool enabled(const struct x86_cpu *c, unsigned n)
{
    return c->s.dr[7] >> (2 * n) & 3;
}

static unsigned kind(const struct x86_cpu *c, unsigned n)
{
    return c->s.dr[7] >> (16 + 4 * n) & 3;
}

/* Bytes that breakpoint n covers: DR7.LENn. */
static unsigned length(const struct x86_cpu *c, unsigned n)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};
    return lengths[c->s.dr[7] >> (18 + 4 * n) & 3];
}

void x86_debug_record(struct x86_cpu *c, uint32_t dr6)
{
    c->s.dr[6] |= dr6 & (DR6_B | DR6_BD | DR6_BS | DR6_BT);
    c->s.dr[7] &= ~(uint64_t)DR7_GD;
}

void x86_debug_raise(struct x86_cpu *c, uint32_t dr6)
{
    x86_debug_record(c, dr6);
    x86_raise(c, X86_DB);
}

static void deliver(struct x86_cpu *c, uint32_t dr6)
{
    x86_debug_record(c, dr6);
    x86_deliver(c, X86_HARDWARE_EXCEPTION, X86_DB, false, 0);
}

bool x86_debug_check_fetch(struct x86_cpu *c)
{
    if (!(c->s.dr[7] & 0xff) || (c->s.rflags & FLAG_RF) || c->s.shadow_ss)
        return false;
    uint64_t lin = c->s.rip;
    if (c->code != X86_CODE64)
        lin = (uint32_t)(c->s.seg[X86_CS].base + lin);
    uint32_t hits = 0;
    for (unsigned n = 0; n < 4; n++) {
        if (enabled(c, n) && kind(c, n) == RW_EXECUTE && c->s.dr[n] == lin)
            hits |= 1u << n;
    }
    if (!hits)
        return false;
    deliver(c, hits);
    return true;
}

bool x86_debug_after_insn(struct x86_cpu *c, bool tf_before)
{
    if (!(c->debug_hits & X86_DEBUG_KEEP_RF))
        c->s.rflags &= ~(uint64_t)FLAG_RF;
    bool step = tf_before && !(c->debug_hits & X86_DEBUG_NO_STEP);
    c->debug_hits &= ~(uint32_t)(X86_DEBUG_KEEP_RF | X86_DEBUG_NO_STEP);
    if (c->s.shadow_ss)
        return false;
    uint32_t hits = c->debug_hits | (step ? DR6_BS : 0);
    if (!hits)
        return false;
    deliver(c, hits);
    return true;
}

static bool wants_fetch_checks(const struct x86_cpu *c)
{
    for (unsigned n = 0; n < 4; n++) {
        if (enabled(c, n) && kind(c, n) == RW_EXECUTE)
            return true;
    }
    return false;
}

bool x86_debug_rearm(struct x86_cpu *c)
{
    bool wanted = (c->s.rflags & (FLAG_TF | FLAG_RF)) || c->s.shadow_sti || c->s.shadow_ss ||
                  c->debug_hits || ((c->s.dr[7] & 0xff) && wants_fetch_checks(c));
    if (wanted)
        atomic_fetch_or_explicit(&c->request, X86_REQUEST_STEP, memory_order_relaxed);
    return wanted;
}

void x86_debug_io(struct x86_cpu *c, uint16_t port, unsigned size)
{
    if (likely(!(c->s.dr[7] & 0xff)) || !(c->s.cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++) {
        unsigned len = length(c, n);
        uint64_t first = c->s.dr[n] & ~(uint64_t)(len - 1);
        if (enabled(c, n) && kind(c, n) == RW_IO && port < first + len && first < port + size)
            c->debug_hits |= 1u << n;
    }
    if (c->debug_hits)
        atomic_fetch_or_explicit(&c->request, X86_REQUEST_STEP, memory_order_relaxed);
}
