/*
 * Interrupts: the local APIC sends them to us; when they are taken, what holds them back, HLT, NMI.
 */
#include "lib/apic.h"
#include "lib/run32.h"

const char guest_name[] = "interrupt";

enum {
    SEND_NMI = 4 << 8 | 1 << 14,
    VECTOR = 0x60,
};

static void apic_on(void)
{
    outb(0x21, 0xff); /* nothing from the old controllers */
    outb(0xa1, 0xff);
    apic_set(SVR, 0x1ff);
}

static void eoi(void)
{
    apic_set(EOI, 0);
}

/* ---- interrupt flag and shadows ---- */

/* EBX is the ICR. The interrupt is pending when the tested instructions begin. */
#define SEND "movl %ecx, (%ebx)\n"

static struct context with_icr(uint32_t icr)
{
    apic_on();
    struct context c = at_level(0);
    c.ebx = APIC + ICR;
    c.ecx = icr;
    return c;
}

static void interrupts_wait_for_if(void)
{
    CODE(pending, SEND "nop\n nop\n sti\n nop\n pending_at: nop\n nop");
    extern uint8_t pending_at[];
    struct context c = with_icr(SELF | VECTOR);
    run_code(&c, pending);
    CHECK_EQ(c.vector, VECTOR);
    CHECK_EQ(c.eip, (uint32_t)pending_at); /* one instruction behind STI runs */
    CHECK_EQ(c.eflags & FLAG_IF, FLAG_IF);
    CHECK_EQ(c.eflags & FLAG_RF, 0);
    CHECK_EQ(c.error, 0);
    eoi();
}

static void sti_only_shadows_when_if_was_clear(void)
{
    CODE(sti_sti, SEND "sti\n sti\n sti_sti_at: nop\n nop");
    extern uint8_t sti_sti_at[];
    struct context c = with_icr(SELF | VECTOR);
    run_code(&c, sti_sti);
    CHECK_EQ(c.vector, VECTOR);
    CHECK_EQ(c.eip, (uint32_t)sti_sti_at);
    eoi();
}

static void sti_cli_lets_nothing_in(void)
{
    CODE(sti_cli, SEND "sti\n cli\n nop\n nop");
    struct context c = with_icr(SELF | VECTOR);
    run_code(&c, sti_cli);
    CHECK_EQ(c.vector, DONE);
    CODE(take, "sti\n nop\n nop"); /* it is still there */
    CHECK_EQ(run_simple(take), VECTOR);
    eoi();
}

static void loads_of_ss_shadow_as_well(void)
{
    CODE(ss, "mov %ss, %eax\n" SEND "sti\n mov %eax, %ss\n nop\n ss_at: nop");
    extern uint8_t ss_at[];
    struct context c = with_icr(SELF | VECTOR);
    run_code(&c, ss);
    CHECK_EQ(c.vector, VECTOR);
    CHECK_EQ(c.eip, (uint32_t)ss_at);
    eoi();
}

static void popf_and_iret_do_not_shadow(void)
{
    CODE(popf, SEND "push $0x202\n popf\n popf_at: nop\n nop");
    extern uint8_t popf_at[];
    struct context c = with_icr(SELF | VECTOR);
    run_code(&c, popf);
    CHECK_EQ(c.vector, VECTOR);
    CHECK_EQ(c.eip, (uint32_t)popf_at);
    eoi();
    CODE(iret, SEND "push $0x202\n push %cs\n push $iret_at\n iret\n nop\n iret_at: nop");
    extern uint8_t iret_at[];
    c = with_icr(SELF | VECTOR);
    run_code(&c, iret);
    CHECK_EQ(c.vector, VECTOR);
    CHECK_EQ(c.eip, (uint32_t)iret_at);
    eoi();
}

static void interrupts_come_at_every_level(void)
{
    CODE(spin, "spin_at: jmp spin_at");
    for (unsigned level = 0; level < 4; level++) {
        struct context c = at_level(level);
        apic_on();
        apic_set(ICR, SELF | VECTOR);
        c.eflags |= FLAG_IF;
        run_code(&c, spin);
        CHECK_EQ(c.vector, VECTOR);
        CHECK_EQ(c.cs & 3, level);
        CHECK_EQ(c.eip, (uint32_t)spin);
        eoi();
    }
}

static void the_highest_comes_first(void)
{
    CODE(take_two, "sti\n nop\n nop");
    apic_on();
    apic_set(ICR, SELF | 0x61);
    apic_set(ICR, SELF | 0x92);
    apic_set(ICR, SELF | 0x75);
    CHECK_EQ(run_simple(take_two), 0x92);
    CHECK_EQ(run_simple(take_two), DONE); /* the others are below what is in service */
    eoi();
    CHECK_EQ(run_simple(take_two), 0x75);
    eoi();
    CHECK_EQ(run_simple(take_two), 0x61);
    eoi();
    CHECK_EQ(run_simple(take_two), DONE);
}

static void halt_ends_with_an_interrupt(void)
{
    CODE(halt, SEND "sti\n hlt\n halt_next: nop");
    extern uint8_t halt_next[];
    struct context c = with_icr(SELF | VECTOR);
    run_code(&c, halt);
    CHECK_EQ(c.vector, VECTOR);
    CHECK_EQ(c.eip, (uint32_t)halt_next);
    eoi();
}

/* ---- NMI ---- */

static uint32_t own_id(void)
{
    return apic_get(ID) & 0xff000000;
}

static void send_nmi(void)
{
    apic_on();
    apic_set(ICR_HIGH, own_id());
    apic_set(ICR, SEND_NMI);
}

static void nmi_minds_no_flag(void)
{
    CODE(nmi, SEND "nop\n nop\n nop\n nop");
    apic_on();
    apic_set(ICR_HIGH, own_id());
    struct context c = at_level(0);
    c.ebx = APIC + ICR;
    c.ecx = SEND_NMI;
    run_code(&c, nmi);
    CHECK_EQ(c.vector, NMI);
    CHECK_EQ(c.error, 0);
}

static void nmi_blocks_nmi_until_iret(void)
{
    CODE(nops, "nop\n nop\n nop");
    CODE(iret_here, "pushf\n push %cs\n push $iret_here_at\n iret\n iret_here_at: nop\n nop");
    /* The last test's NMI is still being handled: run() went on without IRET. Its own IRET at the
     * next run() unblocks, so a second NMI sent here comes at the first tested instruction. */
    send_nmi();
    struct context c = at_level(0);
    run_code(&c, nops);
    CHECK_EQ(c.vector, NMI);
    CHECK_EQ(c.eip, (uint32_t)nops);
    /* Now blocked again, and one more sent: it waits for the IRET of the next run(). */
    send_nmi();
    uint32_t waited = 0;
    for (unsigned i = 0; i < 1000; i++)
        waited++;
    CHECK_EQ(waited, 1000);
    c = at_level(0);
    run_code(&c, iret_here);
    CHECK_EQ(c.vector, NMI);
    CHECK_EQ(c.eip, (uint32_t)iret_here);
    c = at_level(0);
    run_code(&c, nops);
    CHECK_EQ(c.vector, DONE);
}

static void nmi_waits_behind_mov_ss(void)
{
    CODE(nmi_ss, "mov %ss, %eax\n" SEND "mov %eax, %ss\n nop\n nop");
    apic_on();
    apic_set(ICR_HIGH, own_id());
    struct context c = at_level(0);
    c.ebx = APIC + ICR;
    c.ecx = SEND_NMI;
    run_code(&c, nmi_ss);
    CHECK_EQ(c.vector, NMI); /* right behind the store, before MOV SS: or behind the shadow */
    CODE(nops2, "nop");
    CHECK_EQ(run_simple(nops2), DONE);
}

static void nmi_ends_a_halt(void)
{
    CODE(sent_halt, SEND "hlt\n sent_halt_next: nop\n nop");
    apic_on();
    apic_set(ICR_HIGH, own_id());
    struct context c = at_level(0);
    c.ebx = APIC + ICR;
    c.ecx = SEND_NMI;
    run_code(&c, sent_halt);
    CHECK_EQ(c.vector, NMI);
    CODE(nops3, "nop");
    CHECK_EQ(run_simple(nops3), DONE);
}

/* ---- the old controllers and the timer ---- */

static void pic_set(uint8_t mask)
{
    outb(0x20, 0x11);
    outb(0x21, 0x50); /* vectors from 0x50 */
    outb(0x21, 0x04);
    outb(0x21, 0x01);
    outb(0x21, mask);
}

static void the_timer_wakes_a_halt(void)
{
    apic_set(SVR, 0x0ff); /* off: the 8259 has the line */
    wrmsr(0x1b, rdmsr(0x1b) & ~(1ull << 11));
    pic_set(0xfe);
    outb(0x43, 0x34);
    outb(0x40, 0x00);
    outb(0x40, 0x10);
    CODE(wait, "sti\n hlt\n wait_next: nop");
    extern uint8_t wait_next[];
    for (unsigned i = 0; i < 3; i++) {
        struct context c = at_level(0);
        run_code(&c, wait);
        CHECK_EQ(c.vector, 0x50);
        CHECK_EQ(c.eip, (uint32_t)wait_next);
        outb(0x20, 0x20);
    }
    pic_set(0xff);
    wrmsr(0x1b, rdmsr(0x1b) | 1 << 11);
}

const struct guest_test guest_tests[] = {
    {"interrupts wait for IF", interrupts_wait_for_if},
    {"STI only shadows when IF was clear", sti_only_shadows_when_if_was_clear},
    {"STI CLI lets nothing in", sti_cli_lets_nothing_in},
    {"loads of SS shadow as well", loads_of_ss_shadow_as_well, .not_tcg = true},
    {"POPF and IRET do not shadow", popf_and_iret_do_not_shadow},
    {"interrupts come at every level", interrupts_come_at_every_level},
    {"the highest comes first", the_highest_comes_first},
    {"halt ends with an interrupt", halt_ends_with_an_interrupt},
    {"NMI minds no flag", nmi_minds_no_flag},
    {"NMI blocks NMI until IRET", nmi_blocks_nmi_until_iret},
    {"NMI waits behind MOV SS", nmi_waits_behind_mov_ss},
    {"NMI ends a halt", nmi_ends_a_halt},
    {"the timer wakes a halt", the_timer_wakes_a_halt},
    {0},
};
