/*
 * x87 control: the control and status words, the environment and the whole state in memory, the
 * stack's pointer and tags (SDM 1, 8.3.10 and figures 8-9 to 8-12).
 */
#include "x86/sem/x87.h"

/* ---- control and status words ---- */

OP(fninit)
{
    x87_begin_no_wait(c);
    x86_x87_init(&c->s, false);
    x87_update_summary(c);
}

OP(fnclex)
{
    x87_begin_no_wait(c);
    fsw_clear(c, SF_ALL | FSW_SF);
    x87_update_summary(c);
}

static void write_fcw(struct x86_cpu *c, uint16_t v)
{
    c->s.fcw = (v & FCW_WRITABLE) | FCW_FIXED;
    x87_update_summary(c);
}

OP(fnstcw)
{
    x87_begin_no_wait(c);
    op_store(c, op, &c->s.fcw, 2);
}

OP(fldcw)
{
    uint16_t v;
    x87_begin(c);
    op_load(c, op, &v, sizeof v);
    write_fcw(c, v);
}

OP(fnstsw_m)
{
    x87_begin_no_wait(c);
    op_store(c, op, &c->s.fsw, 2);
}

OP(fnstsw_ax)
{
    x87_begin_no_wait(c);
    gpr_write(c, X86_RAX, 2, c->s.fsw);
}

OP(fwait)
{
    if ((c->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        x86_raise(c, X86_NM);
    x87_wait(c);
}

/* ---- the environment ---- */

/* The full tag word: 00 valid, 01 zero, 10 special, 11 empty. */
static uint16_t full_tags(const struct x86_cpu *c)
{
    unsigned tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        sf80 v = c->s.st[i];
        unsigned exp = v.se & 0x7fff, tag = 2;
        if (!(c->s.ftag >> i & 1))
            tag = 3;
        else if (exp == 0 && v.mantissa == 0)
            tag = 1;
        else if (exp != 0 && exp != 0x7fff && v.mantissa >> 63)
            tag = 0;
        tags |= tag << (2 * i);
    }
    return (uint16_t)tags;
}

static uint8_t abridged_tags(uint16_t full)
{
    unsigned tags = 0;
    for (unsigned i = 0; i < 8; i++)
        tags |= (unsigned)((full >> (2 * i) & 3) != 3) << i;
    return (uint8_t)tags;
}

/* The layout's two choices. Real-address and virtual-8086 mode have 20-bit linear pointers
 * instead of selectors and offsets. */
static bool env_is_wide(const struct op *op)
{
    return op->size != 2;
}
static unsigned env_size(const struct op *op)
{
    return env_is_wide(op) ? 28 : 14;
}

static void env_write(const struct x86_cpu *c, const struct op *op, uint8_t *to)
{
    uint32_t fip = (uint32_t)c->s.fip, fdp = (uint32_t)c->s.fdp;
    bool protected = x86_protected(c);
    if (!protected) {
        fip += (uint32_t)c->s.fcs << 4;
        fdp += (uint32_t)c->s.fds << 4;
    }
    if (!env_is_wide(op)) {
        const uint16_t words[7] = {
            c->s.fcw,
            c->s.fsw,
            full_tags(c),
            (uint16_t)fip,
            protected ? c->s.fcs : (uint16_t)((fip >> 4 & 0xf000) | c->s.fop),
            (uint16_t)fdp,
            protected ? c->s.fds : (uint16_t)(fdp >> 4 & 0xf000),
        };
        memcpy(to, words, sizeof words);
        return;
    }
    /* The unused upper halves are ones. */
    const uint32_t ones = 0xffff0000;
    const uint32_t words[7] = {
        ones | c->s.fcw,
        ones | c->s.fsw,
        ones | full_tags(c),
        protected ? fip : ones | (uint16_t)fip,
        protected ? c->s.fcs | (uint32_t)c->s.fop << 16 : (fip >> 4 & 0xffff000) | c->s.fop,
        protected ? fdp : ones | (uint16_t)fdp,
        protected ? ones | c->s.fds : fdp >> 4 & 0xffff000,
    };
    memcpy(to, words, sizeof words);
}

static void env_read(struct x86_cpu *c, const struct op *op, const uint8_t *from)
{
    bool wide = env_is_wide(op), protected = x86_protected(c);
    uint32_t words[7];
    for (unsigned i = 0; i < 7; i++)
        words[i] = wide ? load_u32(from + 4 * i) : load_u16(from + 2 * i);
    c->s.fcw = ((uint16_t)words[0] & FCW_WRITABLE) | FCW_FIXED;
    c->s.fsw = (uint16_t)words[1];
    c->s.ftag = abridged_tags((uint16_t)words[2]);
    c->s.fcs = c->s.fds = 0;
    if (protected) {
        c->s.fip = words[3];
        c->s.fdp = words[5];
        c->s.fop = words[4] >> 16 & 0x7ff; /* none in 16 bits: it becomes 0 */
    } else {
        uint32_t upper = wide ? 0xffff000 : 0xf000;
        c->s.fip = (uint16_t)words[3] | (words[4] & upper) << 4;
        c->s.fdp = (uint16_t)words[5] | (words[6] & upper) << 4;
        c->s.fop = words[4] & 0x7ff;
    }
    x87_update_summary(c);
}

static void store_image(struct x86_cpu *c, const struct op *op, const uint8_t *image, unsigned n)
{
    uint64_t lin = op_linear(c, op, n, X86_WRITE);
    x86_probe_image(c, lin, n, X86_WRITE, op->seg, X86_FIRST_WORD_FIRST);
    x86_write_bytes(c, lin, image, n, op->seg);
}

static void load_image(struct x86_cpu *c, const struct op *op, uint8_t *image, unsigned n)
{
    uint64_t lin = op_linear(c, op, n, X86_READ);
    x86_probe_image(c, lin, n, X86_READ, op->seg, X86_FIRST_WORD_FIRST);
    x86_read_bytes(c, lin, image, n, op->seg);
}

OP(fnstenv)
{
    uint8_t image[28];
    x87_begin_no_wait(c);
    env_write(c, op, image);
    store_image(c, op, image, env_size(op));
    c->s.fcw |= SF_ALL;
    x87_update_summary(c);
}

OP(fldenv)
{
    uint8_t image[28];
    x87_begin(c);
    load_image(c, op, image, env_size(op));
    env_read(c, op, image);
}

/* ---- the whole state: the environment, then ST(0) to ST(7) of 10 bytes each ---- */

OP(fnsave)
{
    uint8_t image[28 + 80], *st = image + env_size(op);
    x87_begin_no_wait(c);
    env_write(c, op, image);
    for (unsigned i = 0; i < 8; i++) {
        sf80 v = x87_read(c, i);
        store_u64(st + 10 * i, v.mantissa);
        store_u16(st + 10 * i + 8, v.se);
    }
    store_image(c, op, image, env_size(op) + 80);
    x86_x87_init(&c->s, false);
    x87_update_summary(c);
}

OP(frstor)
{
    uint8_t image[28 + 80];
    const uint8_t *st = image + env_size(op);
    x87_begin(c);
    load_image(c, op, image, env_size(op) + 80);
    env_read(c, op, image);
    for (unsigned i = 0; i < 8; i++)
        c->s.st[x87_physical(c, i)] =
            (sf80){.mantissa = load_u64(st + 10 * i), .se = load_u16(st + 10 * i + 8)};
}

/* ---- the stack ---- */

/* These clear C1, which the SDM leaves undefined, as AMD's processors do. */
static void free_register(struct x86_cpu *c, const struct op *op)
{
    x87_begin(c);
    x87_note(c, op);
    c->s.ftag &= (uint8_t) ~(1u << x87_physical(c, op->rm & 7));
    fsw_clear(c, FSW_C1);
}

OP(ffree)
{
    free_register(c, op);
}

OP(ffreep)
{
    free_register(c, op);
    x87_pop(c);
}

OP(fdecstp)
{
    x87_begin(c);
    x87_note(c, op);
    x87_rotate(c, 7);
    fsw_clear(c, FSW_C1);
}

OP(fincstp)
{
    x87_begin(c);
    x87_note(c, op);
    x87_rotate(c, 1);
    fsw_clear(c, FSW_C1);
}

/* What the 8087 and the 80287 had for FNENI, FNDISI and FNSETPM. */
OP(fnop_no_wait)
{
    x87_begin_no_wait(c);
}

OP(fnop)
{
    x87_begin(c);
    x87_note(c, op);
}
