/*
 * The processor's identity, time, model-specific registers, randomness, and what stops it.
 */
#include <sys/random.h>

#include "x86/cpuid.h"
#include "x86/msr.h"
#include "x86/sem/op.h"

OP(cpuid)
{
    uint32_t out[4];
    x86_cpuid(c, (uint32_t)c->s.gpr[X86_RAX], (uint32_t)c->s.gpr[X86_RCX], out);
    c->s.gpr[X86_RAX] = out[0];
    c->s.gpr[X86_RBX] = out[1];
    c->s.gpr[X86_RCX] = out[2];
    c->s.gpr[X86_RDX] = out[3];
}

/* ---- time ---- */

static void set_edx_eax(struct x86_cpu *c, uint64_t v)
{
    c->s.gpr[X86_RAX] = (uint32_t)v;
    c->s.gpr[X86_RDX] = v >> 32;
}

static void read_tsc(struct x86_cpu *c)
{
    if ((c->s.cr4 & CR4_TSD) && c->cpl > 0)
        x86_raise_gp0(c);
    set_edx_eax(c, c->host.tsc_read(c->host.ctx));
}

OP_END(rdtsc)
{
    read_tsc(c);
}

OP_END(rdtscp)
{
    read_tsc(c);
    c->s.gpr[X86_RCX] = c->s.tsc_aux;
}

/* There are no performance counters, so each counter's number is one too high. */
OP(rdpmc)
{
    x86_raise_gp0(c);
}

/* ---- model-specific registers ---- */

OP_END(rdmsr)
{
    uint64_t v;
    x86_need_cpl0(c);
    if (!x86_msr_read(c, (uint32_t)c->s.gpr[X86_RCX], &v))
        x86_raise_gp0(c);
    set_edx_eax(c, v);
}

OP_END(wrmsr)
{
    uint64_t v = c->s.gpr[X86_RDX] << 32 | (uint32_t)c->s.gpr[X86_RAX];
    x86_need_cpl0(c);
    if (!x86_msr_write(c, (uint32_t)c->s.gpr[X86_RCX], v))
        x86_raise_gp0(c);
}

/* ---- randomness ---- */

/* CF says whether there was any; the other status flags are cleared (SDM 2, RDRAND). */
static void random_to_register(struct x86_cpu *c, const struct op *op)
{
    uint64_t v = 0;
    bool got = true;
    if (c->host.random)
        c->host.random(c->host.ctx, &v, op->size);
    else
        got = getrandom(&v, op->size, GRND_NONBLOCK) == op->size;
    gpr_write(c, op->rm, op->size, got ? v : 0);
    x86_set_status(c, got ? FLAG_CF : 0);
}

OP(rdrand)
{
    random_to_register(c, op);
}
OP(rdseed)
{
    random_to_register(c, op);
}

/* ---- stopping and waiting ---- */

OP_END(hlt)
{
    x86_need_cpl0(c);
    c->s.activity = X86_HALTED;
}

OP_END(pause)
{
    c->pauses++;
}

/* Guest memory has no caches in front of it. */
OP(wbinvd)
{
    x86_need_cpl0(c);
}
OP(invd)
{
    x86_need_cpl0(c);
}

OP(ud)
{
    x86_raise(c, X86_UD);
}
