/* Single flags, PUSHF and POPF, and who may clear IF in which mode. */
#include "system_rig.h"

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

TESTS(T(single_flags), T(who_may_clear_the_interrupt_flag), T(pushf_hides_what_it_must),
      T(popf_changes_what_it_may), T(access_control_flag_switches_views))
