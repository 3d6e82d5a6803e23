/* Delivery of exceptions and interrupts: SDM 3, chapter 6. */
#include "x86/exception.h"

#include "x86/debug.h"
#include "x86_fixture.h"

static uint32_t dword(struct fixture *f, uint64_t gpa)
{
    return load_u32(at(f, gpa));
}

TEST(real_mode_uses_the_vector_table)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = f->c;
    c->s.idtr = (struct x86_table){.limit = 0x3ff};
    store_u32(at(f, 0x80 * 4), 0x12345678);
    c->s.rflags |= FLAG_IF | FLAG_TF;
    x86_software_interrupt(c, X86_SOFTWARE_INTERRUPT, 0x80);
    CHECK_EQ(c->s.rip, 0x5678);
    CHECK_EQ(c->s.seg[X86_CS].base, 0x12340);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 6);
    CHECK_EQ(load_u16(at(f, STACK0 - 6)), AT_CODE + 2);
    CHECK_EQ(load_u16(at(f, STACK0 - 2)), FLAG_IF | FLAG_TF | FLAG_1);
    CHECK(!(c->s.rflags & (FLAG_IF | FLAG_TF)));
    fixture_free(f);
}

TEST(gates_at_the_same_level)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    set_idt(f, X86_GP, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    set_idt(f, 0x20, gate(CODE0, 0x6000, DESC_TRAP_GATE32, 0, 0));
    c->s.rflags |= FLAG_IF;
    x86_deliver(c, X86_EXTERNAL_INTERRUPT, 0x20, false, 0);
    CHECK_EQ(c->s.rip, 0x6000);
    CHECK(c->s.rflags & FLAG_IF); /* a trap gate */
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 12);
    CHECK_EQ(dword(f, STACK0 - 4), FLAG_IF | FLAG_1); /* no RF: not a fault */

    c->fault.vector = X86_GP;
    c->fault.has_error = true;
    c->fault.error = 0x1234;
    x86_deliver_fault(c);
    CHECK_EQ(c->s.rip, 0x5000);
    CHECK(!(c->s.rflags & FLAG_IF));
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 28);
    CHECK_EQ(dword(f, STACK0 - 28), 0x1234);
    CHECK_EQ(dword(f, STACK0 - 24), AT_CODE); /* where the instruction began */
    CHECK_EQ(dword(f, STACK0 - 16), FLAG_IF | FLAG_1 | FLAG_RF);
    fixture_free(f);
}

TEST(gates_to_an_inner_level_switch_stacks)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    set_idt(f, 0x80, gate(CODE0, 0x5000, DESC_TRAP_GATE32, 3, 0));
    x86_software_interrupt(c, X86_SOFTWARE_INTERRUPT, 0x80);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(c->s.seg[X86_CS].selector, CODE0);
    CHECK_EQ(c->s.seg[X86_SS].selector, DATA0);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 20);
    CHECK_EQ(dword(f, STACK0 - 4), DATA3);
    CHECK_EQ(dword(f, STACK0 - 8), STACK3);
    CHECK_EQ(dword(f, STACK0 - 16), CODE3);
    CHECK_EQ(dword(f, STACK0 - 20), AT_CODE + 2);
    fixture_free(f);
}

TEST(gate_checks_name_the_vector)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    set_idt(f, 0x30, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    set_idt(f, 0x31, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 3, 0) & ~BIT(47));
    set_idt(f, 0x32, gate(DATA0, 0x5000, DESC_INTERRUPT_GATE32, 3, 0));
    set_idt(f, 0x33, gate(0, 0x5000, DESC_INTERRUPT_GATE32, 3, 0));
    c->s.idtr.limit = 0x40 * 8 - 1;
    const enum x86_event_type soft = X86_SOFTWARE_INTERRUPT;
    CHECK_RAISES(c, x86_software_interrupt(c, soft, 0x30), X86_GP, 0x30 * 8 + 2);
    CHECK_RAISES(c, x86_software_interrupt(c, soft, 0x31), X86_NP, 0x31 * 8 + 2);
    CHECK_RAISES(c, x86_software_interrupt(c, soft, 0x32), X86_GP, DATA0);
    CHECK_RAISES(c, x86_software_interrupt(c, soft, 0x33), X86_GP, 0);
    CHECK_RAISES(c, x86_software_interrupt(c, soft, 0x34), X86_GP, 0x34 * 8 + 2);
    CHECK_RAISES(c, x86_software_interrupt(c, soft, 0x40), X86_GP, 0x40 * 8 + 2);
    CHECK_EQ(c->cpl, 3);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK3);
    fixture_free(f);
}

TEST(faults_of_an_external_interrupt_say_so)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    set_idt(f, X86_GP, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    x86_deliver(c, X86_EXTERNAL_INTERRUPT, 0x55, false, 0);
    CHECK_EQ(c->s.rip, 0x5000);
    CHECK_EQ(dword(f, STACK0 - 16), 0x55 * 8 + ERROR_IDT + ERROR_EXT);
    CHECK_EQ(dword(f, STACK0 - 12), AT_CODE + 2);
    fixture_free(f);
}

TEST(contributory_faults_double)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    set_idt(f, X86_DF, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    x86_deliver(c, X86_HARDWARE_EXCEPTION, X86_NP, true, 0x10); /* its gate is not there: #GP */
    CHECK_EQ(c->s.rip, 0x5000);
    CHECK_EQ(dword(f, STACK0 - 16), 0);
    CHECK_EQ(c->s.activity, X86_ACTIVE);
    fixture_free(f);
}

TEST(benign_faults_do_not_double)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    set_idt(f, X86_GP, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    x86_deliver(c, X86_HARDWARE_EXCEPTION, X86_UD, false, 0);
    CHECK_EQ(c->s.rip, 0x5000);
    CHECK_EQ(dword(f, STACK0 - 16), X86_UD * 8 + ERROR_IDT + ERROR_EXT);
    fixture_free(f);
}

TEST(a_fault_in_the_double_fault_shuts_down)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    struct x86_state before = c->s;
    x86_deliver(c, X86_HARDWARE_EXCEPTION, X86_GP, true, 0);
    CHECK_EQ(c->s.activity, X86_SHUTDOWN);
    CHECK_EQ(c->s.rip, before.rip);
    CHECK_EQ(c->s.gpr[X86_RSP], before.gpr[X86_RSP]);
    CHECK_EQ(c->s.rflags, before.rflags);
    fixture_free(f);
}

TEST(long_mode_gates_align_the_stack)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_long(f, 0);
    set_idt(f, 0x40, gate(CODE64_0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    store_u32(at(f, AT_IDT + 0x40 * 16 + 8), 0xffff8000);
    c->s.gpr[X86_RSP] = STACK0 - 5;
    x86_deliver(c, X86_EXTERNAL_INTERRUPT, 0x40, false, 0);
    CHECK_EQ(c->s.rip, 0xffff800000005000);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 16 - 40);
    CHECK_EQ(load_u64(at(f, STACK0 - 16 - 8)), DATA0);
    CHECK_EQ(load_u64(at(f, STACK0 - 16 - 16)), STACK0 - 5);
    CHECK_EQ(c->s.seg[X86_SS].selector, DATA0); /* only a change of level makes it null */
    fixture_free(f);
}

TEST(long_mode_inner_stacks_and_ist)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_long(f, 3);
    set_idt(f, 0x40, gate(CODE64_0, 0x5000, DESC_INTERRUPT_GATE32, 3, 0));
    x86_deliver(c, X86_EXTERNAL_INTERRUPT, 0x40, false, 0);
    CHECK_EQ(c->cpl, 0);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 40);
    CHECK_EQ(c->s.seg[X86_SS].selector, 0);
    CHECK_EQ(load_u64(at(f, STACK0 - 8)), DATA3);
    CHECK_EQ(load_u64(at(f, STACK0 - 32)), CODE64_3);

    set_idt(f, 0x41, gate(CODE64_0, 0x5000, DESC_INTERRUPT_GATE32, 0, 1)); /* IST1 */
    x86_deliver(c, X86_EVENT_NMI, 0x41, false, 0);
    CHECK_EQ(c->s.gpr[X86_RSP], STACK1 - 40);
    CHECK(c->s.nmi_blocked);
    fixture_free(f);
}

TEST(v86_int_goes_to_the_monitor_or_faults)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    set_idt(f, 0x21, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 3, 0));
    c->s.rflags |= FLAG_VM | FLAG_IOPL;
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        c->s.seg[i] = (struct x86_segment){
            .base = 0x1000, .limit = 0xffff, .attr = 0xf3, .selector = (uint16_t)(0x100 + i)};
    x86_update_mode(c);
    x86_software_interrupt(c, X86_SOFTWARE_INTERRUPT, 0x21);
    CHECK_EQ(c->cpl, 0);
    CHECK(!(c->s.rflags & FLAG_VM));
    CHECK_EQ(c->s.gpr[X86_RSP], STACK0 - 36);
    CHECK_EQ(dword(f, STACK0 - 4), 0x100 + X86_GS);
    CHECK_EQ(dword(f, STACK0 - 16), 0x100 + X86_ES);
    CHECK_EQ(dword(f, STACK0 - 20), 0x100 + X86_SS);
    CHECK_EQ(dword(f, STACK0 - 28), FLAG_VM | FLAG_IOPL | FLAG_1);
    CHECK_EQ(c->s.seg[X86_DS].attr & SEG_UNUSABLE, SEG_UNUSABLE);

    c->s.rflags |= FLAG_VM;
    c->s.rflags &= ~(uint64_t)FLAG_IOPL;
    x86_update_mode(c);
    CHECK_RAISES(c, x86_software_interrupt(c, X86_SOFTWARE_INTERRUPT, 0x21), X86_GP, 0);
    fixture_free(f);
}

TEST(vme_redirects_by_the_bitmap)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    c->s.cr4 |= CR4_VME;
    c->s.tr.limit = 0x200;
    store_u16(at(f, AT_TSS + 102), 0x88);
    memset(at(f, AT_TSS + 0x68), 0xff, 32);
    *at(f, AT_TSS + 0x68 + 0x21 / 8) &= ~(1 << (0x21 & 7));
    store_u32(at(f, 0x21 * 4), 0x20005000);
    c->s.rflags |= FLAG_VM | FLAG_VIF;
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        c->s.seg[i] = (struct x86_segment){.limit = 0xffff, .attr = 0xf3};
    x86_update_mode(c);
    x86_software_interrupt(c, X86_SOFTWARE_INTERRUPT, 0x21);
    CHECK_EQ(c->s.rip, 0x5000);
    CHECK_EQ(c->s.seg[X86_CS].base, 0x20000);
    CHECK(c->s.rflags & FLAG_VM);
    CHECK(!(c->s.rflags & FLAG_VIF));
    CHECK_EQ(load_u16(at(f, STACK3 - 2)), FLAG_IF | FLAG_IOPL | FLAG_1);
    CHECK_RAISES(c, x86_software_interrupt(c, X86_SOFTWARE_INTERRUPT, 0x22), X86_GP, 0);
    fixture_free(f);
}

TEST(single_step_traps_behind_the_instruction)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    set_idt(f, X86_DB, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    c->s.rflags |= FLAG_TF;
    CHECK(x86_debug_rearm(c));
    CHECK(x86_debug_after_insn(c, true));
    CHECK_EQ(c->s.rip, 0x5000);
    CHECK_EQ(c->s.dr[6] & (DR6_BS | DR6_B), DR6_BS);
    CHECK_EQ(dword(f, STACK0 - 4), FLAG_TF | FLAG_1); /* a trap: no RF */
    fixture_free(f);
}

TEST(traps_wait_behind_mov_ss)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    set_idt(f, X86_DB, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    c->debug_hits = 2;
    c->s.shadow_ss = true;
    CHECK(!x86_debug_after_insn(c, true));
    c->s.shadow_ss = false;
    CHECK(x86_debug_after_insn(c, false));
    CHECK_EQ(c->s.dr[6] & (DR6_BS | DR6_B), 2);
    fixture_free(f);
}

TEST(instruction_breakpoints_mind_rf)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    set_idt(f, X86_DB, gate(CODE0, 0x5000, DESC_INTERRUPT_GATE32, 0, 0));
    c->s.dr[2] = AT_CODE + 2;
    c->s.dr[7] = DR7_FIXED | 1 << 4 | DR7_GD;
    c->s.rflags |= FLAG_RF;
    CHECK(!x86_debug_check_fetch(c));
    CHECK(!x86_debug_after_insn(c, false));
    CHECK(!(c->s.rflags & FLAG_RF));
    CHECK(x86_debug_check_fetch(c));
    CHECK_EQ(c->s.dr[6] & DR6_B, 4);
    CHECK(!(c->s.dr[7] & DR7_GD));
    CHECK_EQ(dword(f, STACK0 - 12), AT_CODE + 2);
    fixture_free(f);
}

TESTS(T(real_mode_uses_the_vector_table), T(gates_at_the_same_level),
      T(gates_to_an_inner_level_switch_stacks), T(gate_checks_name_the_vector),
      T(faults_of_an_external_interrupt_say_so), T(contributory_faults_double),
      T(benign_faults_do_not_double), T(a_fault_in_the_double_fault_shuts_down),
      T(long_mode_gates_align_the_stack), T(long_mode_inner_stacks_and_ist),
      T(v86_int_goes_to_the_monitor_or_faults), T(vme_redirects_by_the_bitmap),
      T(single_step_traps_behind_the_instruction), T(traps_wait_behind_mov_ss),
      T(instruction_breakpoints_mind_rf))
