/* The system instructions, run one at a time through their semantic functions. */
#include "x86/debug.h"
#include "x86/msr.h"
#include "x86/paging.h"
#include "x86_fixture.h"

#define SEM(name) extern const struct sem name##_sem;
SEM(mov_to_cr)
SEM(mov_from_cr)
SEM(mov_to_dr)
SEM(mov_from_dr)
SEM(lmsw)
SEM(smsw)
SEM(clts)
SEM(invlpg)
SEM(invpcid)
SEM(cli)
SEM(sti)
SEM(pushf)
SEM(popf)
SEM(lahf)
SEM(sahf)
SEM(clc)
SEM(stc)
SEM(cmc)
SEM(cld)
SEM(std)
SEM(stac)
SEM(clac)
SEM(in_i)
SEM(in_dx)
SEM(out_i)
SEM(out_dx)
SEM(ins)
SEM(outs)
SEM(lgdt)
SEM(lidt)
SEM(sgdt)
SEM(sidt)
SEM(rdfsbase)
SEM(wrgsbase)
SEM(swapgs)
SEM(rdpid)
SEM(rdpkru)
SEM(wrpkru)
SEM(cpuid)
SEM(rdtsc)
SEM(rdtscp)
SEM(rdpmc)
SEM(rdmsr)
SEM(wrmsr)
SEM(rdrand)
SEM(hlt)
SEM(pause)
SEM(wbinvd)
SEM(ud)

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

static uint32_t pio_read(void *ctx, uint16_t port, unsigned size)
{
    struct ports *p = ctx;
    p->reads++;
    p->last.port = port;
    p->last.size = size;
    return p->next++;
}
static void pio_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    struct ports *p = ctx;
    p->writes++;
    p->last.port = port;
    p->last.size = size;
    p->last.value = value;
}
static uint64_t cr8_read(void *ctx)
{
    return ((struct ports *)ctx)->tpr;
}
static void cr8_write(void *ctx, uint64_t v)
{
    ((struct ports *)ctx)->tpr = v;
}
static uint64_t tsc_read(void *ctx)
{
    return UINT64_C(0x1122334455667788);
}
static void random_bytes(void *ctx, void *to, unsigned n)
{
    memset(to, 0x5c, n);
}
static void remapped(struct x86_cpu *c)
{
    ((struct ports *)c->host.ctx)->remapped++;
}

static struct ports ports;

static struct fixture *machine(void)
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
static struct x86_cpu *v86(struct fixture *f, unsigned iopl)
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
static int run(struct fixture *f, const struct sem *sem)
{
    return RAISED(f->c, sem->any(f->c, &f->op));
}

static void registers(struct fixture *f, unsigned reg, unsigned rm, unsigned size)
{
    f->op.ea = EA_REG;
    f->op.reg = (uint8_t)reg;
    f->op.rm = (uint8_t)rm;
    f->op.size = (uint8_t)size;
}

static void memory_operand(struct fixture *f, uint64_t address, unsigned size)
{
    f->op.ea = EA_SEGMENT;
    f->op.base = f->op.index = X86_GPR_ZERO;
    f->op.disp = (int32_t)address;
    f->op.seg = X86_DS;
    f->op.size = (uint8_t)size;
}

static int write_cr(struct fixture *f, unsigned cr, uint64_t v)
{
    registers(f, cr, X86_RBX, 8);
    f->c->s.gpr[X86_RBX] = v;
    return run(f, &mov_to_cr_sem);
}

static uint64_t read_cr(struct fixture *f, unsigned cr)
{
    registers(f, cr, X86_RCX, 8);
    f->c->s.gpr[X86_RCX] = 0x5555;
    CHECK_EQ(run(f, &mov_from_cr_sem), -1);
    return f->c->s.gpr[X86_RCX];
}

/* ---- control registers ---- */

TEST(cr0_refuses_impossible_modes)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 0);
    uint64_t before = c->s.cr0;
    CHECK_EQ(write_cr(f, 0, CR0_PG), X86_GP);
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_NW), X86_GP);
    CHECK_EQ(c->s.cr0, before);
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_NW | CR0_CD | 0xfff0), -1);
    CHECK_EQ(read_cr(f, 0), CR0_PE | CR0_NW | CR0_CD | CR0_ET | CR0_NE);
    CHECK_EQ(write_cr(f, 1, 0), X86_UD);
    CHECK_EQ(write_cr(f, 5, 0), X86_UD);
    fixture_protected(f, 3);
    CHECK_EQ(write_cr(f, 0, CR0_PE), X86_GP);
    CHECK_EQ(write_cr(f, 1, 0), X86_UD);

    fixture_long(f, 0);
    CHECK_EQ(write_cr(f, 0, c->s.cr0 | BIT(32)), X86_GP);
    CHECK_EQ(write_cr(f, 0, c->s.cr0 & ~(uint64_t)CR0_PG), X86_GP); /* from 64-bit code */
    fixture_free(f);
}

TEST(paging_with_lme_is_long_mode)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 0);
    c->s.efer = EFER_LME;
    c->s.tr.attr = SEG_P | DESC_TSS32_BUSY;
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), X86_GP); /* without PAE */
    CHECK_EQ(write_cr(f, 4, CR4_PAE), -1);
    c->s.tr.attr = SEG_P | DESC_TSS16_BUSY;
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), X86_GP);
    c->s.tr.attr = SEG_P | DESC_TSS32_BUSY;
    c->s.seg[X86_CS].attr |= SEG_L;
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), X86_GP);
    c->s.seg[X86_CS].attr &= ~(uint32_t)SEG_L;
    unsigned before = ports.remapped;
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), -1);
    CHECK(c->long_mode && (c->s.efer & EFER_LMA) && c->paging);
    CHECK(ports.remapped > before);
    /* Compatibility code may leave it again. */
    CHECK_EQ(c->code, X86_CODE32);
    CHECK_EQ(write_cr(f, 4, 0), X86_GP); /* PAE is needed meanwhile */
    CHECK_EQ(write_cr(f, 0, CR0_PE), -1);
    CHECK(!c->long_mode && !(c->s.efer & EFER_LMA));
    fixture_free(f);
}

TEST(pae_loads_its_pdptes)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 0);
    c->s.cr4 = CR4_PAE;
    store_u64(at(f, 0x20000), 0x21000 | 1);
    store_u64(at(f, 0x20008), 0x21000 | 3); /* a reserved bit */
    CHECK_EQ(write_cr(f, 3, 0x20000), -1);
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), X86_GP);
    CHECK(!c->paging);
    store_u64(at(f, 0x20008), 0);
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), -1);
    CHECK_EQ(c->s.pdpte[0], 0x21001);
    store_u64(at(f, 0x20020), BIT(50) | 1);
    CHECK_EQ(write_cr(f, 3, 0x20020), X86_GP);
    CHECK_EQ(c->s.cr3, 0x20000);
    CHECK_EQ(c->s.pdpte[0], 0x21001);
    fixture_free(f);
}

TEST(cr3_and_cr4_have_reserved_bits)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    uint64_t cr3 = c->s.cr3;
    CHECK_EQ(write_cr(f, 3, cr3 | BIT(40)), X86_GP);
    CHECK_EQ(write_cr(f, 3, cr3 | BIT(63)), X86_GP);
    CHECK_EQ(c->s.cr3, cr3);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | 1u << 13), X86_GP); /* VMXE */
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | BIT(32)), X86_GP);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_UMIP), -1);

    /* PCIDs: only in long mode, only from PCID 0, and paging can't be left with them. */
    CHECK_EQ(write_cr(f, 3, cr3 | 5), -1);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_PCIDE), X86_GP);
    CHECK_EQ(write_cr(f, 3, cr3), -1);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_PCIDE), -1);
    CHECK_EQ(write_cr(f, 3, cr3 | 5 | BIT(63)), -1);
    CHECK_EQ(c->s.cr3, cr3 | 5);
    c->s.seg[X86_CS] = cached(f, CODE0);
    x86_update_mode(c);
    CHECK_EQ(write_cr(f, 0, CR0_PE), X86_GP);
    c = fixture_protected(f, 0);
    c->s.efer = 0;
    c->s.cr0 = CR0_PE;
    c->s.cr4 = 0;
    x86_update_mode(c);
    CHECK_EQ(write_cr(f, 4, CR4_PCIDE), X86_GP);
    fixture_free(f);
}

TEST(cr2_and_cr8)
{
    struct fixture *f = machine();
    fixture_long(f, 0);
    CHECK_EQ(write_cr(f, 2, UINT64_C(0x8000000000001234)), -1);
    CHECK_EQ(read_cr(f, 2), UINT64_C(0x8000000000001234));
    CHECK_EQ(write_cr(f, 8, 9), -1);
    CHECK_EQ(ports.tpr, 9);
    CHECK_EQ(read_cr(f, 8), 9);
    CHECK_EQ(write_cr(f, 8, 16), X86_GP);
    CHECK_EQ(ports.tpr, 9);
    fixture_free(f);
}

TEST(machine_status_word)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    c->s.cr0 = CR0_ET | CR0_NE;
    registers(f, 0, X86_RBX, 2);
    c->s.gpr[X86_RBX] = CR0_PE | CR0_TS | 0xfff0;
    CHECK_EQ(run(f, &lmsw_sem), -1);
    CHECK_EQ(c->s.cr0, CR0_PE | CR0_TS | CR0_ET | CR0_NE);
    c->s.gpr[X86_RBX] = 0;
    CHECK_EQ(run(f, &lmsw_sem), -1);
    CHECK_EQ(c->s.cr0, CR0_PE | CR0_ET | CR0_NE); /* PE stays */
    c->s.cr0 |= CR0_TS;
    x86_update_mode(c);
    CHECK(c->no_x87 && c->no_sse);
    CHECK_EQ(run(f, &clts_sem), -1);
    CHECK(!c->no_x87);

    fixture_protected(f, 3);
    CHECK_EQ(run(f, &lmsw_sem), X86_GP);
    CHECK_EQ(run(f, &clts_sem), X86_GP);
    memory_operand(f, 0x5000, 4);
    store_u32(at(f, 0x5000), UINT32_MAX);
    CHECK_EQ(run(f, &smsw_sem), -1);
    CHECK_EQ(load_u32(at(f, 0x5000)), 0xffff0000 | (c->s.cr0 & 0xffff));
    c->s.cr4 |= CR4_UMIP;
    CHECK_EQ(run(f, &smsw_sem), X86_GP);
    fixture_free(f);
}

TEST(invalidations)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    memory_operand(f, 0x5000, 8);
    x86_read8(c, 0x5000, X86_DS);
    CHECK_EQ(run(f, &invlpg_sem), -1);
    CHECK(c->view[TLB_SUPERVISOR].entry[5].read != 0x5000);
    CHECK_EQ(ports.remapped, 1);

    registers(f, X86_RBX, 0, 8);
    memory_operand(f, 0x5000, 16);
    f->op.reg = X86_RBX;
    static const struct {
        uint64_t type, pcid, lin;
        int raises;
    } rows[] = {
        {0, 0, 0x1000, -1}, {0, 0, BIT(47), X86_GP}, {1, 0, BIT(47), -1},     {2, 0, 0, -1},
        {3, 0, 0, -1},      {4, 0, 0, X86_GP},       {0, 1, 0, X86_GP},       {1, 1, 0, X86_GP},
        {2, 1, 0, -1},      {2, 0x1000, 0, X86_GP},  {3, BIT(63), 0, X86_GP},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        c->s.gpr[X86_RBX] = rows[i].type;
        store_u64(at(f, 0x5000), rows[i].pcid);
        store_u64(at(f, 0x5008), rows[i].lin);
        CHECK_EQ(run(f, &invpcid_sem), rows[i].raises);
    }
    c->s.cr4 |= CR4_PCIDE;
    c->s.gpr[X86_RBX] = 1;
    store_u64(at(f, 0x5000), 1);
    CHECK_EQ(run(f, &invpcid_sem), -1);
    fixture_long(f, 3);
    CHECK_EQ(run(f, &invpcid_sem), X86_GP);
    CHECK_EQ(run(f, &invlpg_sem), X86_GP);
    fixture_free(f);
}

/* ---- debug registers ---- */

static int write_dr(struct fixture *f, unsigned dr, uint64_t v)
{
    registers(f, dr, X86_RBX, 8);
    f->c->s.gpr[X86_RBX] = v;
    return run(f, &mov_to_dr_sem);
}

TEST(debug_registers)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    CHECK_EQ(write_dr(f, 0, UINT64_C(0x1234567812345678)), -1);
    CHECK_EQ(c->s.dr[0], UINT64_C(0x1234567812345678));
    CHECK_EQ(write_dr(f, 6, 0), -1);
    CHECK_EQ(c->s.dr[6], 0xffff0ff0);
    CHECK_EQ(write_dr(f, 6, UINT32_MAX), -1);
    CHECK_EQ(c->s.dr[6], 0xffffefff);
    CHECK_EQ(write_dr(f, 6, BIT(32)), X86_GP);
    CHECK_EQ(write_dr(f, 7, BIT(32)), X86_GP);
    CHECK_EQ(write_dr(f, 5, 0xd800), -1); /* an alias of DR7 */
    CHECK_EQ(c->s.dr[7], 0x400);
    registers(f, 4, X86_RCX, 8);
    CHECK_EQ(run(f, &mov_from_dr_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RCX], 0xffffefff);
    c->s.cr4 |= CR4_DE;
    CHECK_EQ(run(f, &mov_from_dr_sem), X86_UD);
    CHECK_EQ(write_dr(f, 5, 0), X86_UD);
    CHECK_EQ(write_dr(f, 8, 0), X86_UD);

    /* A data breakpoint; then general detect. */
    CHECK_EQ(write_dr(f, 7, 1 | 1 << 16), -1);
    CHECK(c->debug_data);
    CHECK_EQ(write_dr(f, 7, DR7_GD), -1);
    CHECK(!c->debug_data);
    CHECK_EQ(write_dr(f, 0, 0), X86_DB);
    CHECK(c->s.dr[6] & DR6_BD);
    CHECK_EQ(c->s.dr[0], UINT64_C(0x1234567812345678));
    fixture_long(f, 3);
    CHECK_EQ(write_dr(f, 0, 0), X86_GP);
    fixture_free(f);
}

/* ---- flags ---- */

TEST(single_flags)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    x86_set_rflags(c, FLAG_CF | FLAG_ZF | FLAG_PF | FLAG_OF);
    run(f, &cmc_sem);
    CHECK_EQ(x86_rflags(c), FLAG_1 | FLAG_ZF | FLAG_PF | FLAG_OF);
    run(f, &stc_sem);
    run(f, &std_sem);
    CHECK_EQ(x86_rflags(c), FLAG_1 | FLAG_CF | FLAG_ZF | FLAG_PF | FLAG_OF | FLAG_DF);
    run(f, &clc_sem);
    run(f, &cld_sem);
    CHECK_EQ(x86_rflags(c), FLAG_1 | FLAG_ZF | FLAG_PF | FLAG_OF);
    c->s.gpr[X86_RAX] = 0x1234;
    run(f, &lahf_sem);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x4634);
    c->s.gpr[X86_RAX] = 0xff00;
    run(f, &sahf_sem);
    CHECK_EQ(x86_rflags(c), FLAG_1 | FLAGS_STATUS);
    fixture_free(f);
}

enum { REAL, PROTECTED0, PROTECTED3, V86 };

static struct x86_cpu *in_mode(struct fixture *f, unsigned mode, unsigned iopl, uint32_t cr4)
{
    struct x86_cpu *c = f->c;
    x86_state_reset(&c->s, true, false);
    c->s.gpr[X86_GPR_BLOCK] = AT_CODE;
    c->s.gpr[X86_RSP] = STACK0;
    if (mode == V86)
        v86(f, iopl);
    else if (mode != REAL)
        fixture_protected(f, mode == PROTECTED3 ? 3 : 0);
    c->s.rflags |= iopl << 12;
    c->s.cr4 = cr4;
    x86_update_mode(c);
    return c;
}

TEST(who_may_clear_the_interrupt_flag)
{
    static const struct {
        unsigned mode, iopl;
        uint32_t cr4;
        int raises;
        uint64_t left; /* of IF | VIF */
    } rows[] = {
        {REAL, 0, 0, -1, FLAG_VIF},
        {PROTECTED0, 0, 0, -1, FLAG_VIF},
        {PROTECTED3, 3, 0, -1, FLAG_VIF},
        {PROTECTED3, 2, 0, X86_GP, FLAG_IF | FLAG_VIF},
        {PROTECTED3, 2, CR4_VME, X86_GP, FLAG_IF | FLAG_VIF},
        {PROTECTED3, 2, CR4_PVI, -1, FLAG_IF},
        {V86, 3, 0, -1, FLAG_VIF},
        {V86, 0, 0, X86_GP, FLAG_IF | FLAG_VIF},
        {V86, 0, CR4_PVI, X86_GP, FLAG_IF | FLAG_VIF},
        {V86, 0, CR4_VME, -1, FLAG_IF},
    };
    struct fixture *f = machine();
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct x86_cpu *c = in_mode(f, rows[i].mode, rows[i].iopl, rows[i].cr4);
        c->s.rflags |= FLAG_IF | FLAG_VIF;
        CHECK_EQ(run(f, &cli_sem), rows[i].raises);
        CHECK_EQ(c->s.rflags & (FLAG_IF | FLAG_VIF), rows[i].left);

        /* STI mirrors it. */
        c->s.rflags &= ~(uint64_t)(FLAG_IF | FLAG_VIF);
        atomic_store(&c->request, 0);
        CHECK_EQ(run(f, &sti_sem), rows[i].raises);
        uint64_t set = (FLAG_IF | FLAG_VIF) & ~rows[i].left;
        CHECK_EQ(c->s.rflags & (FLAG_IF | FLAG_VIF), set);
        CHECK_EQ(c->s.shadow_sti, set == FLAG_IF);
        CHECK_EQ(atomic_load(&c->request) & X86_REQUEST_STEP,
                 set == FLAG_IF ? X86_REQUEST_STEP : 0);
        if (set == FLAG_VIF) {
            c->s.rflags |= FLAG_VIP;
            CHECK_EQ(run(f, &sti_sem), X86_GP);
        }
        c->s.shadow_sti = false;
        if (set == FLAG_IF) {
            CHECK_EQ(run(f, &sti_sem), -1); /* already set: no shadow */
            CHECK(!c->s.shadow_sti);
        }
    }
    fixture_free(f);
}

static uint64_t pushed(struct fixture *f, unsigned size)
{
    f->op.size = (uint8_t)size;
    CHECK_EQ(run(f, &pushf_sem), -1);
    uint64_t sp = x86_stack_pointer(f->c);
    return size == 2 ? load_u16(at(f, sp)) : load_u32(at(f, sp));
}

TEST(pushf_hides_what_it_must)
{
    struct fixture *f = machine();
    struct x86_cpu *c = in_mode(f, PROTECTED0, 0, 0);
    c->s.rflags |= FLAG_RF | FLAG_AC | FLAG_IF;
    CHECK_EQ(pushed(f, 4), FLAG_1 | FLAG_AC | FLAG_IF | (x86_rflags(c) & FLAGS_STATUS));
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 4);
    c = in_mode(f, V86, 3, 0);
    CHECK_EQ(pushed(f, 4) & (FLAG_VM | FLAG_IOPL), FLAG_IOPL);
    c = in_mode(f, V86, 0, CR4_VME);
    c->s.rflags |= FLAG_IF;
    CHECK_EQ(pushed(f, 2) & (FLAG_IF | FLAG_IOPL), FLAG_IOPL);
    c->s.rflags |= FLAG_VIF;
    CHECK_EQ(pushed(f, 2) & (FLAG_IF | FLAG_IOPL), FLAG_IOPL | FLAG_IF);
    f->op.size = 4;
    CHECK_EQ(run(f, &pushf_sem), X86_GP);
    in_mode(f, V86, 2, 0);
    f->op.size = 2;
    CHECK_EQ(run(f, &pushf_sem), X86_GP);
    fixture_free(f);
}

static int pop(struct fixture *f, unsigned size, uint32_t v)
{
    uint64_t sp = x86_stack_pointer(f->c);
    store_u32(at(f, sp), v);
    f->op.size = (uint8_t)size;
    int raised = run(f, &popf_sem);
    CHECK_EQ(x86_stack_pointer(f->c), raised < 0 ? sp + size : sp);
    return raised;
}

TEST(popf_changes_what_it_may)
{
    enum {
        USER = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT,
        WIDE = USER | FLAG_AC | FLAG_ID,
        ALL = 0x3f7fd7, /* every flag there is */
    };
    static const struct {
        unsigned mode, iopl, size;
        uint32_t set;
    } rows[] = {
        {REAL, 0, 2, USER | FLAG_IF | FLAG_IOPL},
        {REAL, 0, 4, WIDE | FLAG_IF | FLAG_IOPL},
        {PROTECTED0, 0, 4, WIDE | FLAG_IF | FLAG_IOPL},
        {PROTECTED3, 0, 4, WIDE},
        {PROTECTED3, 3, 4, WIDE | FLAG_IF | FLAG_IOPL},
        {PROTECTED3, 0, 2, USER},
        {V86, 3, 4, WIDE | FLAG_IF | FLAG_IOPL | FLAG_VM},
        {V86, 3, 2, USER | FLAG_IF | FLAG_IOPL | FLAG_VM},
    };
    struct fixture *f = machine();
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct x86_cpu *c = in_mode(f, rows[i].mode, rows[i].iopl, 0);
        c->s.rflags |= FLAG_RF;
        CHECK_EQ(pop(f, rows[i].size, ALL), -1);
        CHECK_EQ(x86_rflags(c), rows[i].set | FLAG_1);
        CHECK(atomic_load(&c->request) & X86_REQUEST_STEP);
    }
    in_mode(f, V86, 2, 0);
    CHECK_EQ(pop(f, 2, 0), X86_GP);
    in_mode(f, V86, 2, CR4_VME);
    CHECK_EQ(pop(f, 4, 0), X86_GP);
    CHECK_EQ(pop(f, 2, FLAG_TF), X86_GP);
    CHECK_EQ(pop(f, 2, FLAG_IF), -1);
    CHECK_EQ(f->c->s.rflags & (FLAG_IF | FLAG_VIF), FLAG_VIF);
    f->c->s.rflags |= FLAG_VIP;
    CHECK_EQ(pop(f, 2, FLAG_IF), X86_GP);
    CHECK_EQ(pop(f, 2, 0), -1);
    CHECK_EQ(f->c->s.rflags & (FLAG_IF | FLAG_VIF), 0);
    fixture_free(f);
}

TEST(access_control_flag_switches_views)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    c->s.cr4 |= CR4_SMAP;
    x86_update_mode(c);
    CHECK_EQ(run(f, &stac_sem), -1);
    CHECK(c->tlb == &c->view[TLB_SUPERVISOR_AC] && (c->s.rflags & FLAG_AC));
    CHECK_EQ(run(f, &clac_sem), -1);
    CHECK(c->tlb == &c->view[TLB_SUPERVISOR]);
    fixture_long(f, 3);
    CHECK_EQ(run(f, &stac_sem), X86_UD);
    fixture_free(f);
}

/* ---- ports ---- */

TEST(in_and_out)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    f->op.size = 1;
    f->op.imm = UINT64_C(0xffffffffffffff80); /* as a sign-extended byte */
    ports.next = 0x11223344;
    c->s.gpr[X86_RAX] = 0x8877665544332211;
    CHECK_EQ(run(f, &in_i_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x8877665544332244);
    CHECK_EQ(ports.last.port, 0x80);
    f->op.size = 4;
    c->s.gpr[X86_RDX] = 0xffffcf8;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x11223345);
    CHECK_EQ(ports.last.port, 0xfcf8);
    f->op.size = 2;
    CHECK_EQ(run(f, &out_dx_sem), -1);
    CHECK_EQ(ports.last.value, 0x3345);
    CHECK_EQ(ports.last.size, 2);
    CHECK_EQ(run(f, &out_i_sem), -1);
    CHECK_EQ(ports.last.port, 0x80);
    fixture_free(f);
}

TEST(ports_are_guarded_by_the_bitmap)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 3);
    enum { MAP = 0x68 };
    f->op.size = 1;
    c->s.gpr[X86_RDX] = 0x3f8;
    store_u16(at(f, AT_TSS + 102), MAP);
    memset(at(f, AT_TSS + MAP), 0xff, 0x90);
    c->s.tr.limit = MAP + 0x80;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    *at(f, AT_TSS + MAP + 0x3f8 / 8) = 0xfe;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    f->op.size = 2;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    *at(f, AT_TSS + MAP + 0x3f8 / 8) = 0xf0;
    f->op.size = 4;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    /* Over the edge of a byte. */
    c->s.gpr[X86_RDX] = 0x3f7;
    f->op.size = 2;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    *at(f, AT_TSS + MAP + 0x3f0 / 8) = 0x7f;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    /* Both bytes must be inside of the TSS. */
    c->s.gpr[X86_RDX] = 0x3f8;
    f->op.size = 1;
    c->s.tr.limit = MAP + 0x3f8 / 8;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    c->s.tr.limit++;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    /* IOPL lets it pass, but not virtual-8086 mode; a 16-bit TSS has no map. */
    c->s.tr.attr = (c->s.tr.attr & ~(uint32_t)SEG_TYPE) | DESC_TSS16_BUSY;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    c->s.rflags |= FLAG_IOPL;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    c->s.rflags |= FLAG_VM;
    x86_update_mode(c);
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    unsigned reads = ports.reads;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    CHECK_EQ(ports.reads, reads);
    fixture_free(f);
}

TEST(string_io_restarts)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 0);
    f->op.size = 2;
    f->op.flags = OPF_REP | OPF_ADDR32;
    f->op.seg = X86_DS;
    c->s.gpr[X86_RDX] = 0x1f0;
    c->s.gpr[X86_RDI] = 0x6000;
    c->s.gpr[X86_RCX] = 256;
    atomic_store(&c->request, 0);
    unsigned runs = 0;
    do {
        CHECK_EQ(run(f, &ins_sem), -1);
        runs++;
    } while (c->s.rip == AT_CODE && runs < 100);
    CHECK_EQ(c->s.rip, AT_CODE + 2);
    CHECK(runs > 1 && runs < 20);
    CHECK_EQ(c->s.gpr[X86_RCX], 0);
    CHECK_EQ(c->s.gpr[X86_RDI], 0x6200);
    for (unsigned i = 0; i < 256; i++)
        CHECK_EQ(load_u16(at(f, 0x6000 + 2 * i)), i);

    /* Something waits: one element, then a look. */
    atomic_store(&c->request, X86_REQUEST_INTR);
    c->s.gpr[X86_RSI] = 0x6010;
    c->s.gpr[X86_RCX] = 3;
    c->s.rflags |= FLAG_DF;
    CHECK_EQ(run(f, &outs_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RCX], 2);
    CHECK_EQ(c->s.gpr[X86_RSI], 0x600e);
    CHECK_EQ(c->s.rip, AT_CODE);
    CHECK_EQ(ports.last.value, 8);
    /* Nothing to do touches nothing. */
    c->s.gpr[X86_RCX] = 0;
    unsigned reads = ports.reads;
    CHECK_EQ(run(f, &ins_sem), -1);
    CHECK_EQ(ports.reads, reads);
    CHECK_EQ(c->s.rip, AT_CODE + 2);
    fixture_free(f);
}

TEST(a_fault_loses_no_input)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    f->op.size = 4;
    f->op.flags = OPF_REP;
    c->s.gpr[X86_RDI] = 0x1ffff8; /* two elements, then the end of what is mapped */
    c->s.gpr[X86_RCX] = 5;
    atomic_store(&c->request, 0);
    CHECK_EQ(run(f, &ins_sem), X86_PF);
    CHECK_EQ(c->s.cr2, 0x200000);
    CHECK_EQ(c->s.gpr[X86_RCX], 3);
    CHECK_EQ(c->s.gpr[X86_RDI], 0x200000);
    CHECK_EQ(ports.reads, 2);
    fixture_free(f);
}

/* ---- tables ---- */

TEST(table_registers)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    store_u64(at(f, 0x5000), UINT64_C(0x7766554433221100));
    store_u64(at(f, 0x5008), UINT64_C(0xffff));
    memory_operand(f, 0x5000, 2);
    CHECK_EQ(run(f, &lgdt_sem), -1);
    CHECK_EQ(c->s.gdtr.limit, 0x1100);
    CHECK_EQ(c->s.gdtr.base, 0x443322); /* the 16-bit form loads 24 bits */
    f->op.size = 4;
    CHECK_EQ(run(f, &lidt_sem), -1);
    CHECK_EQ(c->s.idtr.base, 0x55443322);
    memory_operand(f, 0x6000, 4);
    store_u64(at(f, 0x6000), UINT64_MAX);
    CHECK_EQ(run(f, &sidt_sem), -1);
    CHECK_EQ(load_u64(at(f, 0x6000)), UINT64_C(0xffff554433221100));

    fixture_long(f, 0);
    memory_operand(f, 0x5000, 8);
    struct x86_table before = c->s.gdtr;
    store_u64(at(f, 0x5002), BIT(47));
    CHECK_EQ(run(f, &lgdt_sem), X86_GP);
    CHECK_EQ(c->s.gdtr.base, before.base);
    store_u64(at(f, 0x5002), UINT64_C(0xffff800000001000));
    CHECK_EQ(run(f, &lgdt_sem), -1);
    CHECK_EQ(c->s.gdtr.base, UINT64_C(0xffff800000001000));
    memory_operand(f, 0x6000, 8);
    CHECK_EQ(run(f, &sgdt_sem), -1);
    CHECK(memcmp(at(f, 0x6000), at(f, 0x5000), 10) == 0);

    fixture_long(f, 3);
    CHECK_EQ(run(f, &lgdt_sem), X86_GP);
    CHECK_EQ(run(f, &sgdt_sem), -1);
    c->s.cr4 |= CR4_UMIP;
    CHECK_EQ(run(f, &sgdt_sem), X86_GP);
    fixture_free(f);
}

/* ---- per-processor registers ---- */

TEST(bases_of_fs_and_gs)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 3);
    registers(f, 0, X86_RBX, 8);
    CHECK_EQ(run(f, &rdfsbase_sem), X86_UD);
    c->s.cr4 |= CR4_FSGSBASE;
    c->s.gpr[X86_RBX] = UINT64_C(0xffff900000000000);
    CHECK_EQ(run(f, &wrgsbase_sem), -1);
    CHECK_EQ(c->s.seg[X86_GS].base, UINT64_C(0xffff900000000000));
    c->s.gpr[X86_RBX] = BIT(50);
    CHECK_EQ(run(f, &wrgsbase_sem), X86_GP);
    f->op.size = 4;
    c->s.gpr[X86_RBX] = UINT64_C(0xaaaaaaaa55555555);
    CHECK_EQ(run(f, &wrgsbase_sem), -1);
    CHECK_EQ(c->s.seg[X86_GS].base, 0x55555555);
    c->s.seg[X86_FS].base = UINT64_C(0x7fff12345678);
    CHECK_EQ(run(f, &rdfsbase_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RBX], 0x12345678);

    CHECK_EQ(run(f, &swapgs_sem), X86_GP);
    fixture_long(f, 0);
    c->s.seg[X86_GS].base = 1;
    c->s.kernel_gs_base = 2;
    CHECK_EQ(run(f, &swapgs_sem), -1);
    CHECK(c->s.seg[X86_GS].base == 2 && c->s.kernel_gs_base == 1);
    c->s.tsc_aux = 0x12345;
    CHECK_EQ(run(f, &rdpid_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RBX], 0x12345);
    fixture_free(f);
}

TEST(protection_key_rights)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 3);
    CHECK_EQ(run(f, &rdpkru_sem), X86_UD);
    CHECK_EQ(run(f, &wrpkru_sem), X86_UD);
    c->s.cr4 |= CR4_PKE;
    x86_read8(c, 0x5000, X86_DS);
    c->s.gpr[X86_RCX] = c->s.gpr[X86_RDX] = 0;
    c->s.gpr[X86_RAX] = 3;
    CHECK_EQ(run(f, &wrpkru_sem), -1);
    CHECK_RAISES(c, x86_read8(c, 0x5000, X86_DS), X86_PF, 0x25);
    c->s.gpr[X86_RDX] = 9;
    CHECK_EQ(run(f, &rdpkru_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 3);
    CHECK_EQ(c->s.gpr[X86_RDX], 0);
    c->s.gpr[X86_RDX] = 1;
    CHECK_EQ(run(f, &wrpkru_sem), X86_GP);
    c->s.gpr[X86_RCX] = 1;
    CHECK_EQ(run(f, &rdpkru_sem), X86_GP);
    fixture_free(f);
}

/* ---- identity, time, MSRs, randomness ---- */

TEST(time_stamps)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 3);
    CHECK_EQ(run(f, &rdtsc_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x55667788);
    CHECK_EQ(c->s.gpr[X86_RDX], 0x11223344);
    c->s.tsc_aux = 7;
    CHECK_EQ(run(f, &rdtscp_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RCX], 7);
    c->s.cr4 |= CR4_TSD;
    CHECK_EQ(run(f, &rdtsc_sem), X86_GP);
    CHECK_EQ(run(f, &rdtscp_sem), X86_GP);
    CHECK_EQ(run(f, &rdpmc_sem), X86_GP);
    fixture_long(f, 0);
    CHECK_EQ(run(f, &rdtsc_sem), -1);
    fixture_free(f);
}

TEST(msr_instructions)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    c->s.gpr[X86_RCX] = UINT64_C(0xffffffff00000000) | MSR_LSTAR;
    c->s.gpr[X86_RAX] = UINT64_C(0x1234567887654321);
    c->s.gpr[X86_RDX] = UINT64_C(0x12345678ffff8000);
    CHECK_EQ(run(f, &wrmsr_sem), -1);
    CHECK_EQ(c->s.lstar, UINT64_C(0xffff800087654321));
    c->s.gpr[X86_RAX] = c->s.gpr[X86_RDX] = 0;
    CHECK_EQ(run(f, &rdmsr_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x87654321);
    CHECK_EQ(c->s.gpr[X86_RDX], 0xffff8000);
    c->s.gpr[X86_RCX] = 0xc0010000;
    CHECK_EQ(run(f, &rdmsr_sem), X86_GP);
    CHECK_EQ(run(f, &wrmsr_sem), X86_GP);
    fixture_long(f, 3);
    c->s.gpr[X86_RCX] = MSR_LSTAR;
    CHECK_EQ(run(f, &rdmsr_sem), X86_GP);
    CHECK_EQ(run(f, &wrmsr_sem), X86_GP);
    fixture_free(f);
}

TEST(random_numbers)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    registers(f, 0, X86_RBX, 2);
    x86_set_status(c, FLAGS_STATUS);
    c->s.gpr[X86_RBX] = UINT64_MAX;
    CHECK_EQ(run(f, &rdrand_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RBX], UINT64_C(0xffffffffffff5c5c));
    CHECK_EQ(x86_rflags(c) & FLAGS_STATUS, FLAG_CF);
    c->host.random = NULL;
    registers(f, 0, X86_RBX, 8);
    uint64_t first, changed = 0;
    CHECK_EQ(run(f, &rdrand_sem), -1);
    first = c->s.gpr[X86_RBX];
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ(run(f, &rdrand_sem), -1);
        changed |= first ^ c->s.gpr[X86_RBX];
    }
    CHECK(changed != 0);
    fixture_free(f);
}

TEST(identity)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    c->s.gpr[X86_RAX] = UINT64_MAX << 32;
    CHECK_EQ(run(f, &cpuid_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x16);
    CHECK_EQ(c->s.gpr[X86_RBX], 0x756e6547);
    fixture_free(f);
}

TEST(stopping)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 3);
    CHECK_EQ(run(f, &hlt_sem), X86_GP);
    CHECK_EQ(run(f, &wbinvd_sem), X86_GP);
    CHECK_EQ(c->s.activity, X86_ACTIVE);
    CHECK_EQ(run(f, &pause_sem), -1);
    CHECK_EQ(c->pauses, 1);
    CHECK_EQ(run(f, &ud_sem), X86_UD);
    fixture_long(f, 0);
    CHECK_EQ(run(f, &wbinvd_sem), -1);
    CHECK_EQ(run(f, &hlt_sem), -1);
    CHECK_EQ(c->s.activity, X86_HALTED);
    CHECK_EQ(c->s.rip, AT_CODE + 2);
    fixture_free(f);
}

TESTS(T(cr0_refuses_impossible_modes), T(paging_with_lme_is_long_mode), T(pae_loads_its_pdptes),
      T(cr3_and_cr4_have_reserved_bits), T(cr2_and_cr8), T(machine_status_word), T(invalidations),
      T(debug_registers), T(single_flags), T(who_may_clear_the_interrupt_flag),
      T(pushf_hides_what_it_must), T(popf_changes_what_it_may),
      T(access_control_flag_switches_views), T(in_and_out), T(ports_are_guarded_by_the_bitmap),
      T(string_io_restarts), T(a_fault_loses_no_input), T(table_registers), T(bases_of_fs_and_gs),
      T(protection_key_rights), T(time_stamps), T(msr_instructions), T(random_numbers), T(identity),
      T(stopping))
