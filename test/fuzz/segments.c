/*
 * Gives the processor descriptor tables, task state segments, stacks and page tables full of
 * nonsense, and lets it load segments, transfer far, switch tasks and deliver events. It looks for
 * crashes (under the sanitizers), hangs, and states that no processor can be in.
 *
 *   fuzz-segments [SEED [COUNT]]    COUNT machines; the same seed makes the same ones
 */
#include <stdio.h>

#include "unit/x86_fixture.h"
#include "x86/debug.h"
#include "x86/exception.h"
#include "x86/far.h"
#include "x86/segment.h"

static uint64_t seed;

static uint32_t number(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 32);
}

static uint64_t wide_number(void)
{
    return (uint64_t)number() << 32 | number();
}

static bool one_in(unsigned n)
{
    return number() % n == 0;
}

static uint64_t mmio_read(void *ctx, uint64_t gpa, unsigned size)
{
    (void)ctx;
    (void)size;
    return gpa * UINT64_C(0x9e3779b97f4a7c15);
}

static void mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)ctx;
    (void)gpa;
    (void)size;
    (void)value;
}

/* ---- nonsense, of the kind that gets past the first check ---- */

static uint16_t any_selector(void)
{
    return one_in(8) ? (uint16_t)number() : (uint16_t)(number() % GDT_END);
}

static uint64_t any_descriptor(void)
{
    uint64_t raw = wide_number();
    if (one_in(8))
        return raw;
    /* Present, a base and limit of some use; type, S and DPL at random. */
    uint32_t attr = (number() & (SEG_TYPE | SEG_S | SEG_DPL | SEG_L | SEG_DB | SEG_G)) | SEG_P;
    if (attr & SEG_S)
        return descriptor(one_in(2) ? 0 : number() & 0xffff, number() & 0xfffff, attr);
    if (one_in(2))
        return gate(any_selector(), number() & 0xffff, attr & SEG_TYPE, number() & 3,
                    number() & 31);
    return descriptor(AT_TSS + (number() & 0x1ff), number() & 0x1ff, attr);
}

static void spoil(struct fixture *f)
{
    for (unsigned n = number() % 8; n; n--)
        store_u64(at(f, AT_GDT + number() % (GDT_END / 8) * 8), any_descriptor());
    for (unsigned n = 0; n < 0x800; n += 8)
        store_u64(at(f, AT_IDT + n), any_descriptor());
    for (unsigned n = number() % 64; n; n--)
        store_u16(at(f, AT_TSS + number() % 0x300), one_in(2) ? any_selector() : number());
    for (unsigned n = 0; n < 8; n++)
        store_u64(at(f, AT_LDT + n * 8), any_descriptor());
    for (unsigned top = STACK0; top <= STACK3; top += 0x1000)
        for (unsigned n = 0; n < 16; n++)
            store_u32(at(f, top - 32 + n * 4), one_in(2)   ? any_selector()
                                               : one_in(2) ? number()
                                                           : number() & 0xffff);
    if (one_in(2))
        store_u64(at(f, AT_PML4 + number() % 3 * 0x1000), wide_number() | 1);
}

static void spoil_registers(struct x86_cpu *c)
{
    static const uint64_t flags[] = {FLAG_TF, FLAG_IF,  FLAG_NT,  FLAG_RF,
                                     FLAG_AC, FLAG_VIF, FLAG_VIP, FLAG_IOPL};
    c->s.rflags |= flags[number() % ARRAY_LEN(flags)];
    if (one_in(3))
        c->s.gpr[X86_RSP] = one_in(2) ? wide_number() : number() & 0xffff;
    if (one_in(4))
        c->s.gdtr.limit = number() & 0xff;
    if (one_in(4))
        c->s.idtr.limit = number() & 0xfff;
    if (one_in(8))
        c->s.gdtr.base = c->long_mode ? wide_number() : number();
    if (one_in(8))
        c->s.idtr.base = c->long_mode ? wide_number() : number();
    if (one_in(4))
        c->s.tr.limit = number() & 0x1ff;
    if (one_in(4))
        c->s.tr.base = c->long_mode ? wide_number() : number();
    if (one_in(4))
        c->s.tr.attr ^= 8;
    if (one_in(2))
        c->s.ldtr = (struct x86_segment){.base = AT_LDT, .limit = 0x3f, .attr = SEG_P | DESC_LDT};
    if (one_in(4))
        c->s.cr4 ^= CR4_VME;
    if (one_in(4))
        c->s.dr[7] = number();
}

static struct fixture *any_machine(void)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = f->c;
    static const uint8_t levels[] = {0, 1, 3};
    c->host.mmio_read = mmio_read;
    c->host.mmio_write = mmio_write;
    switch (number() % 4) {
    case 0: break; /* real mode */
    case 1: fixture_protected(f, levels[number() % 3]); break;
    case 2: fixture_long(f, one_in(2) ? 3 : 0); break;
    default:
        fixture_protected(f, 3);
        c->s.rflags |= FLAG_VM;
        for (unsigned i = 0; i < X86_SEG_COUNT; i++)
            c->s.seg[i] = x86_v86_segment((uint16_t)number());
    }
    spoil(f);
    spoil_registers(c);
    x86_update_mode(c);
    return f;
}

/* ---- what is done to it ---- */

static void act(struct x86_cpu *c)
{
    static const uint8_t sizes[] = {2, 4, 8};
    unsigned size = sizes[number() % (c->code == X86_CODE64 ? 3 : 2)];
    uint64_t offset = one_in(4) ? wide_number() : number() & 0xffff;
    offset &= bits_mask(size * 8);
    switch (number() % 10) {
    case 0: x86_far_jump(c, any_selector(), offset, size); break;
    case 1: x86_far_call(c, any_selector(), offset, size); break;
    case 2: x86_far_return(c, size, number() & 0xffff); break;
    case 3: x86_interrupt_return(c, size); break;
    case 4:
        x86_load_segment(c, number() % 2 ? X86_SS : number() % 3 + X86_DS, any_selector());
        break;
    case 5: x86_software_interrupt(c, X86_SOFTWARE_INTERRUPT, number() & 0xff); break;
    case 6:
        x86_linear(c, number() % X86_SEG_COUNT, offset, 1 + number() % 16, 1 + number() % 3);
        break;
    case 7:
        if (x86_protected(c) && c->cpl == 0)
            x86_load_ldtr(c, any_selector());
        break;
    case 8:
        if (x86_protected(c) && c->cpl == 0)
            x86_load_tr(c, any_selector());
        break;
    default: {
        bool has_error = one_in(2);
        x86_deliver(c, one_in(2) ? X86_EXTERNAL_INTERRUPT : X86_HARDWARE_EXCEPTION, number() & 0xff,
                    has_error, number());
    }
    }
}

static bool say(const char *what)
{
    printf("# %s\n", what);
    return false;
}

/* What holds for every processor between instructions. */
static bool possible(const struct x86_cpu *c)
{
    const struct x86_segment *cs = &c->s.seg[X86_CS], *ss = &c->s.seg[X86_SS];
    unsigned dpl = (ss->attr & SEG_DPL) >> SEG_DPL_SHIFT;
    if (c->task_switched)
        return say("a task switch is still on");
    if (c->s.activity == X86_SHUTDOWN)
        return true; /* where it happened to stop */
    if (!x86_protected(c))
        return c->code == X86_CODE16 || !x86_v86(c) || say("wide code in virtual-8086 mode");
    if ((cs->selector & SELECTOR_RPL) != c->cpl)
        return say("CS.RPL is not the CPL");
    if (dpl != c->cpl)
        return say("SS.DPL is not the CPL");
    if (!(cs->attr & SEG_CODE))
        return say("CS is no code segment");
    if (c->code == X86_CODE64 ? !x86_canonical(c->s.rip) : c->s.rip > UINT32_MAX)
        return say("RIP is out of range");
    if (c->long_mode && (cs->attr & SEG_L) && (cs->attr & SEG_DB))
        return say("CS has both L and D");
    return true;
}

static bool run_one(void)
{
    struct fixture *f = any_machine();
    struct x86_cpu *c = f->c;
    bool ok = true;
    for (unsigned n = 0; ok && n < 6 && c->s.activity != X86_SHUTDOWN; n++) {
        if (setjmp(c->fault_jump) == 0)
            act(c);
        else
            x86_deliver_fault(c);
        if (!x86_protected(c) || !(c->s.rflags & FLAG_VM))
            ok = possible(c);
        c->s.gpr[X86_GPR_BLOCK] = c->s.rip - f->op.end;
        x86_debug_check_fetch(c);
    }
    fixture_free(f);
    return ok;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 3000;
    for (uint64_t i = 0; i < count; i++) {
        seed = first + i;
        if (!run_one()) {
            printf("not ok seed %llu\n", (unsigned long long)(first + i));
            return 1;
        }
    }
    printf("ok %llu machines from seed %llu\n", (unsigned long long)count,
           (unsigned long long)first);
    return 0;
}
