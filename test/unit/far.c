/* Far transfers and task switches: SDM 3, 5.8 and chapter 7. */
#include "x86/far.h"

#include "x86/task.h"
#include "x86_fixture.h"

static uint32_t dword(struct fixture *f, uint64_t gpa)
{
    return load_u32(at(f, gpa));
}

TEST(direct_jumps_stay_at_their_level)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    x86_far_jump(c, CODE3 & ~3, 0x5000, 4);
    CHECK_EQ(c->s.rip, 0x5000);
    CHECK_EQ(c->s.seg[X86_CS].selector, CODE3);
    x86_far_jump(c, CONFORMING0, 0x6000, 4);
    CHECK_EQ(c->s.seg[X86_CS].selector, CONFORMING0 | 3);
    CHECK_EQ(c->cpl, 3);
    CHECK_RAISES(c, x86_far_jump(c, CODE0, 0, 4), X86_GP, CODE0);
    CHECK_RAISES(c, x86_far_jump(c, 0, 0, 4), X86_GP, 0);
    CHECK_RAISES(c, x86_far_jump(c, DATA3, 0, 4), X86_GP, DATA3 & ~3);
    fixture_free(f);
}

TEST(call_gates_copy_parameters_to_the_inner_stack)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    set_descriptor(f, GATE, gate(CODE0, 0x5000, DESC_CALL_GATE32, 3, 2));
    store_u32(at(f, STACK3 - 8), 0x11111111);
    store_u32(at(f, STACK3 - 4), 0x22222222);
    c->s.gpr[X86_RSP] = STACK3 - 8;
    x86_far_call(c, GATE, 0, 4);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(c->s.rip, 0x5000);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 24);
    CHECK_EQ(dword(f, STACK0 - 4), DATA3);
    CHECK_EQ(dword(f, STACK0 - 8), STACK3 - 8);
    CHECK_EQ(dword(f, STACK0 - 12), 0x22222222);
    CHECK_EQ(dword(f, STACK0 - 16), 0x11111111);
    CHECK_EQ(dword(f, STACK0 - 20), CODE3);
    CHECK_EQ(dword(f, STACK0 - 24), AT_CODE + 2);

    x86_far_return(c, 4, 8);
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->s.rip, AT_CODE + 2);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK3);
    CHECK_EQ(c->s.seg[X86_SS].selector, DATA3);
    CHECK_EQ(c->s.seg[X86_DS].selector, DATA3);
    fixture_free(f);
}

TEST(jumps_through_gates_change_no_level)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    set_descriptor(f, GATE, gate(CODE0, 0x5000, DESC_CALL_GATE32, 3, 0));
    CHECK_RAISES(c, x86_far_jump(c, GATE, 0, 4), X86_GP, CODE0);
    set_descriptor(f, GATE, gate(CODE0, 0x5000, DESC_CALL_GATE32, 0, 0));
    CHECK_RAISES(c, x86_far_call(c, GATE, 0, 4), X86_GP, GATE);
    set_descriptor(f, GATE, gate(CODE0, 0x5000, DESC_CALL_GATE32, 3, 0) & ~BIT(47));
    CHECK_RAISES(c, x86_far_call(c, GATE, 0, 4), X86_NP, GATE);
    fixture_free(f);
}

TEST(outer_returns_drop_inner_segments)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    c->s.seg[X86_ES] = cached(f, DATA3);
    c->s.seg[X86_GS] = cached(f, CONFORMING0);
    const uint32_t image[] = {0x7000, CODE3, STACK3, DATA3};
    memcpy(at(f, STACK0 - 16), image, sizeof image);
    c->s.gpr[X86_RSP] = STACK0 - 16;
    x86_far_return(c, 4, 0);
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->s.seg[X86_DS].selector, 0);
    CHECK_EQ(c->s.seg[X86_ES].selector, DATA3);
    CHECK_EQ(c->s.seg[X86_GS].selector, CONFORMING0);
    fixture_free(f);
}

TEST(returns_never_go_inward)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    const uint32_t image[] = {0x7000, CODE0, 0x2, 0, 0};
    memcpy(at(f, STACK3 - 20), image, sizeof image);
    c->s.gpr[X86_RSP] = STACK3 - 20;
    CHECK_RAISES(c, x86_far_return(c, 4, 0), X86_GP, CODE0);
    CHECK_RAISES(c, x86_interrupt_return(c, 4), X86_GP, CODE0);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK3 - 20);
    fixture_free(f);
}

TEST(iret_changes_what_the_level_may_change)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    const uint32_t image[] = {0x7000, CODE3, FLAG_IF | FLAG_IOPL | FLAG_CF | FLAG_AC | FLAG_1};
    memcpy(at(f, STACK3 - 12), image, sizeof image);
    c->s.gpr[X86_RSP] = STACK3 - 12;
    x86_interrupt_return(c, 4);
    CHECK_EQ(x86_rflags(c), FLAG_CF | FLAG_AC | FLAG_1);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK3);
    fixture_free(f);
}

TEST(iret_enters_virtual_8086_mode)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    const uint32_t image[] = {0x100, 0x200, FLAG_VM | FLAG_IF | FLAG_1, 0xfff0, 0x300, 0x301, 0x302,
                              0x303, 0x304};
    memcpy(at(f, STACK0 - 36), image, sizeof image);
    c->s.gpr[X86_RSP] = STACK0 - 36;
    x86_interrupt_return(c, 4);
    CHECK(c->s.rflags & FLAG_VM);
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->code, X86_CODE16);
    CHECK_EQ(c->s.seg[X86_CS].base, 0x2000);
    CHECK_EQ(c->s.seg[X86_SS].base, 0x3000);
    CHECK_EQ(c->s.seg[X86_ES].base, 0x3010);
    CHECK_EQ(c->s.seg[X86_GS].base, 0x3040);
    CHECK_EQ(c->s.gpr[X86_RSP], 0xfff0);
    fixture_free(f);
}

TEST(iretq_always_loads_the_stack)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_long(f, 0);
    c->s.nmi_blocked = true;
    const uint64_t same[] = {0x7000, CODE64_0, FLAG_1, STACK1, 0};
    memcpy(at(f, STACK0 - 40), same, sizeof same);
    c->s.gpr[X86_RSP] = STACK0 - 40;
    x86_interrupt_return(c, 8);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK1);
    CHECK_EQ(c->s.seg[X86_SS].selector, 0);
    CHECK_EQ(c->cpl, 0);
    CHECK(!c->s.nmi_blocked);

    const uint64_t compatibility[] = {0x7000, CODE3, FLAG_IF | FLAG_1, STACK3, DATA3};
    memcpy(at(f, STACK0 - 40), compatibility, sizeof compatibility);
    c->s.gpr[X86_RSP] = STACK0 - 40;
    x86_interrupt_return(c, 8);
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->code, X86_CODE32);
    fixture_free(f);
}

TEST(iretq_to_cpl_3_needs_a_stack_segment)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_long(f, 0);
    const uint64_t image[] = {0x7000, CODE64_3, FLAG_1, STACK3, 3};
    memcpy(at(f, STACK0 - 40), image, sizeof image);
    c->s.gpr[X86_RSP] = STACK0 - 40;
    CHECK_RAISES(c, x86_interrupt_return(c, 8), X86_GP, 0);
    const uint64_t wild[] = {0x800000000000, CODE64_3, FLAG_1, STACK3, DATA3};
    memcpy(at(f, STACK0 - 40), wild, sizeof wild);
    CHECK_RAISES(c, x86_interrupt_return(c, 8), X86_GP, 0);
    CHECK_EQ(c->cpl, 0);
    fixture_free(f);
}

TEST(long_mode_has_no_tasks)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_long(f, 0);
    CHECK_RAISES(c, x86_far_jump(c, TSS_LONG, 0, 4), X86_GP, TSS_LONG);
    c->s.rflags |= FLAG_NT;
    CHECK_RAISES(c, x86_interrupt_return(c, 8), X86_GP, 0);
    fixture_free(f);
}

/* Makes TSS_B a task at 0x7000, CPL 0. */
static void build_task(struct fixture *f)
{
    static const uint16_t selectors[] = {DATA0, CODE0, DATA0, DATA0, 0, 0};
    store_u32(at(f, AT_TSS2 + 32), 0x7000);
    store_u32(at(f, AT_TSS2 + 36), FLAG_CF | FLAG_1);
    for (unsigned i = 0; i < 8; i++)
        store_u32(at(f, AT_TSS2 + 40 + 4 * i), 0x100 + i);
    store_u32(at(f, AT_TSS2 + 40 + 4 * X86_RSP), STACK1);
    for (unsigned i = 0; i < 6; i++)
        store_u32(at(f, AT_TSS2 + 72 + 4 * i), selectors[i]);
}

static unsigned type_of(struct fixture *f, uint16_t selector)
{
    return get_descriptor(f, selector) >> 40 & 15;
}

TEST(task_calls_nest_and_return)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    build_task(f);
    c->s.gpr[X86_RAX] = 0xaaaa;
    x86_far_call(c, TSS_B, 0, 4);
    CHECK_EQ(c->s.rip, 0x7000);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x100);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK1);
    CHECK_EQ(c->s.tr.selector, TSS_B);
    CHECK_EQ(x86_rflags(c), FLAG_CF | FLAG_NT | FLAG_1);
    CHECK_EQ(load_u16(at(f, AT_TSS2)), TSS_A);
    CHECK_EQ(type_of(f, TSS_A), DESC_TSS32_BUSY);
    CHECK_EQ(type_of(f, TSS_B), DESC_TSS32_BUSY);
    CHECK_EQ(dword(f, AT_TSS + 32), AT_CODE + 2);
    CHECK(c->s.cr0 & CR0_TS);

    c->s.rip = 0x7010;
    x86_interrupt_return(c, 4);
    CHECK_EQ(c->s.rip, AT_CODE + 2);
    CHECK_EQ(c->s.gpr[X86_RAX], 0xaaaa);
    CHECK_EQ(c->s.tr.selector, TSS_A);
    CHECK_EQ(type_of(f, TSS_B), DESC_TSS32);
    CHECK_EQ(dword(f, AT_TSS2 + 32), 0x7010);
    CHECK(!(dword(f, AT_TSS2 + 36) & FLAG_NT));
    fixture_free(f);
}

TEST(task_jumps_free_the_old_task)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    build_task(f);
    x86_far_jump(c, TSS_B, 0, 4);
    CHECK_EQ(type_of(f, TSS_A), DESC_TSS32);
    CHECK_EQ(type_of(f, TSS_B), DESC_TSS32_BUSY);
    CHECK(!(c->s.rflags & FLAG_NT));
    CHECK_RAISES(c, x86_far_jump(c, TSS_B, 0, 4), X86_GP, TSS_B);
    fixture_free(f);
}

TEST(bad_segments_fault_as_the_new_task)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    build_task(f);
    store_u32(at(f, AT_TSS2 + 72 + 4 * X86_DS), CODE64_0 | 4);
    CHECK_RAISES(c, x86_far_jump(c, TSS_B, 0, 4), X86_TS, CODE64_0 | 4);
    CHECK(c->task_switched);
    CHECK_EQ(c->s.tr.selector, TSS_B);
    CHECK_EQ(c->s.rip, 0x7000);
    fixture_free(f);
}

TEST(bad_tasks_fault_as_the_old_one)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    build_task(f);
    set_descriptor(f, TSS_B, descriptor(AT_TSS2, 0x66, SEG_P | DESC_TSS32));
    CHECK_RAISES(c, x86_far_jump(c, TSS_B, 0, 4), X86_TS, TSS_B);
    set_descriptor(f, TSS_B, descriptor(AT_TSS2, 0x67, DESC_TSS32));
    CHECK_RAISES(c, x86_far_jump(c, TSS_B, 0, 4), X86_NP, TSS_B);
    CHECK(!c->task_switched);
    CHECK_EQ(c->s.tr.selector, TSS_A);
    fixture_free(f);
}

TESTS(T(direct_jumps_stay_at_their_level), T(call_gates_copy_parameters_to_the_inner_stack),
      T(jumps_through_gates_change_no_level), T(outer_returns_drop_inner_segments),
      T(returns_never_go_inward), T(iret_changes_what_the_level_may_change),
      T(iret_enters_virtual_8086_mode), T(iretq_always_loads_the_stack),
      T(iretq_to_cpl_3_needs_a_stack_segment), T(long_mode_has_no_tasks),
      T(task_calls_nest_and_return), T(task_jumps_free_the_old_task),
      T(bad_segments_fault_as_the_new_task), T(bad_tasks_fault_as_the_old_one))
