/*
 * Two engines in lockstep: the same engine twice is alike, and whatever one of the two does wrong
 * is found, at the instruction that did it.
 */
#include <stdlib.h>

#include "base/archive.h"
#include "engine/lockstep/internal.h"
#include "machine/machine.h"
#include "test.h"
#include "x86/cpu.h"
#include "x86/state_archive.h"

/* ---- the guests: real mode, at 0x7c00 ---- */

enum { ORIGIN = 0x7c00 };

#define GUEST(name, ...)                                                                           \
    __asm__(".pushsection .rodata\n.code16\n" #name ":\n" __VA_ARGS__ "\n" #name                   \
            "_end:\n.code64\n.popsection");                                                        \
    extern const uint8_t name[], name##_end[];

/* Ends the run with EAX. */
#define EXIT "mov $0xf4, %dx\n out %eax, %dx\n 9: hlt\n jmp 9b\n"

/* Programs the 8259s and the PIT, and computes, stores, and looks at time and devices between
 * ticks, until there were 20. A tick's handler begins with an instruction that faults once. */
GUEST(guest_mixes,
      "xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n"
      "movw $0, 0x6000\n xor %esi, %esi\n"
      "movw $(tick - guest_mixes + 0x7c00), 32\n movw $0, 34\n"
      "movw $(invalid - guest_mixes + 0x7c00), 24\n movw $0, 26\n"
      "mov $0x11, %al\n out %al, $0x20\n mov $8, %al\n out %al, $0x21\n mov $4, %al\n"
      "out %al, $0x21\n mov $1, %al\n out %al, $0x21\n mov $0xfe, %al\n out %al, $0x21\n"
      "mov $0x34, %al\n out %al, $0x43\n mov $0xa9, %al\n out %al, $0x40\n mov $1, %al\n"
      "out %al, $0x40\n sti\n"
      "1: rdtsc\n add %eax, %esi\n rol $3, %esi\n in $0x40, %al\n movzbl %al, %eax\n"
      "add %eax, %esi\n mov %esi, 0x5000\n mov $0x4000, %di\n mov $40, %cx\n rep stosb\n ud2\n"
      "marked: lea 1(%esi), %ebx\n"
      "cmpw $20, 0x6000\n jb 1b\n"
      "mov %esi, %eax\n" EXIT
      "tick: incw 0x6000\n push %ax\n mov $0x20, %al\n out %al, $0x20\n pop %ax\n iret\n"
      "invalid: push %bp\n mov %sp, %bp\n addw $2, 2(%bp)\n pop %bp\n iret\n")

extern const uint8_t marked[];

GUEST(guest_triple_fault, "lidt %cs:2f - guest_triple_fault + 0x7c00\n int3\n 2: .long 0, 0\n")
/* Its first life resets the machine, its second ends. */
GUEST(guest_resets,
      "xor %ax, %ax\n mov %ax, %ds\n incw 0x500\n cmpw $2, 0x500\n jne 1f\n"
      "movzwl 0x500, %eax\n" EXIT "1: mov $0xcf9, %dx\n mov $6, %al\n out %al, %dx\n 2: jmp 2b\n")

struct program {
    const uint8_t *code, *end;
};

static bool load(struct machine *m, void *ctx, struct x86_state *bsp, struct error *err)
{
    const struct program *p = ctx;
    bsp->rip = ORIGIN;
    bsp->seg[X86_CS].selector = 0;
    bsp->seg[X86_CS].base = 0;
    return memory_write(machine_memory(m), ORIGIN, p->code, (uint64_t)(p->end - p->code)) ||
           error_set(err, "test guest does not fit");
}

/* ---- engines with a bug ---- */

#define EMULATE engine_emulate

/* What lies in front of `marked` leaves a wrong EBX behind whenever it is done. */
static enum engine_exit wrong_at_marked(struct engine_vcpu *v, uint64_t limit)
{
    const uint64_t rip = ORIGIN + (uint64_t)(marked - guest_mixes);
    struct x86_state s;
    while (EMULATE.instructions(v) < limit) {
        uint64_t at = EMULATE.instructions(v);
        EMULATE.get_state(v, &s);
        bool hit = s.rip == rip;
        enum engine_exit why = EMULATE.run(v, at + 1);
        if (hit && EMULATE.instructions(v) == at + 1) {
            EMULATE.get_state(v, &s);
            s.gpr[X86_RBX] ^= 0x10;
            EMULATE.set_state(v, &s);
        }
        if (why != ENGINE_LIMIT)
            return why;
    }
    return ENGINE_LIMIT;
}

/* Turns a bit behind 1,500 instructions of its own life: never again when they are repeated. */
static enum engine_exit wrong_once(struct engine_vcpu *v, uint64_t limit)
{
    bool before = EMULATE.instructions(v) < 1500;
    enum engine_exit why = EMULATE.run(v, before && limit > 1500 ? 1500 : limit);
    if (before && EMULATE.instructions(v) == 1500) {
        struct x86_state s;
        EMULATE.get_state(v, &s);
        s.gpr[X86_RBP] ^= 1;
        EMULATE.set_state(v, &s);
    }
    return why;
}

/* Writes something else to ports: what the machine would hear is wrong, nothing in the guest is. */
static struct x86_host real_host;

static void write_wrong(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    real_host.pio_write(ctx, port, size, port == 0x40 ? value ^ 1 : value);
}

static bool create_wrong_writer(struct engine_vcpu **v, struct engine_vm *vm, unsigned index,
                                const struct x86_host *host, struct error *err)
{
    struct x86_host wrong = real_host = *host;
    wrong.pio_write = write_wrong;
    return EMULATE.vcpu_create(v, vm, index, &wrong, err);
}

static void deaf(struct engine_vcpu *v, bool level)
{
    EMULATE.interrupt(v, level && EMULATE.instructions(v) < 2000);
}

/* ---- running them ---- */

struct trial {
    struct lockstep l;
    struct program program;
    bool no_reboot;
    struct machine_result result;
    bool alike;
};

static void trial_init(struct trial *t, const uint8_t *code, const uint8_t *end,
                       const struct engine *against)
{
    memset(t, 0, sizeof *t);
    lockstep_init(&t->l, &EMULATE, against);
    t->l.step = 50;
    t->l.checkpoint = 1000;
    t->program = (struct program){code, end};
}
#define TRIAL(t, name, against) trial_init(t, name, name##_end, against)

static void trial_run(struct trial *t)
{
    struct machine *m;
    struct error err = {0};
    const struct machine_config config = {
        .memory = 2 << 20,
        .cpus = 1,
        .engine = &t->l.engine,
        .virtual_clock = true,
        .no_reboot = t->no_reboot,
        .debug_exit = true,
        .load = load,
        .load_ctx = &t->program,
    };
    if (!machine_create(&m, &config, &err)) {
        printf("# %s\n", err.text);
        CHECK(!"the machine is made");
        return;
    }
    machine_run(m, &t->result);
    t->alike = lockstep_finish(&t->l);
    machine_destroy(m);
}

/* What comparisons of states want to know. */
static const struct lockstep plain = {.leader = &EMULATE, .follower = &EMULATE};

/* ---- alike ---- */

TEST(one_engine_twice_is_alike)
{
    static const uint64_t steps[] = {1, 2, 7, 50, 100000};
    struct trial t;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        TRIAL(&t, guest_mixes, &EMULATE);
        t.l.step = steps[i];
        trial_run(&t);
        CHECK(t.alike);
        CHECK_EQ(t.result.reason, MACHINE_DEBUG_EXIT);
        CHECK(t.l.interrupts >= 20);
        CHECK(t.l.accesses > 100);
        CHECK(t.l.instructions > 5000);
        CHECK(t.l.looks >= t.l.instructions / steps[i]);
        CHECK(t.l.checkpoints >= 2);
    }
}

TEST(a_crash_is_alike)
{
    struct trial t;
    TRIAL(&t, guest_triple_fault, &EMULATE);
    t.no_reboot = true;
    trial_run(&t);
    CHECK(t.alike);
    CHECK_EQ(t.result.reason, MACHINE_CRASHED);
    CHECK_EQ(t.l.instructions, 1);
}

TEST(a_reset_begins_anew)
{
    struct trial t;
    TRIAL(&t, guest_resets, &EMULATE);
    trial_run(&t);
    CHECK(t.alike);
    CHECK_EQ(t.result.reason, MACHINE_DEBUG_EXIT);
    CHECK_EQ(t.result.value, 2);
}

/* ---- not alike ---- */

static void check_exact(const struct trial *t, uint64_t behind)
{
    const struct lockstep_difference *d = &t->l.difference;
    CHECK(!t->alike);
    CHECK(d->found && d->exact);
    CHECK_EQ(d->from + 1, d->to);
    if (behind)
        CHECK_EQ(d->to, behind);
    CHECK_EQ(t->result.reason, MACHINE_FAILED);
}

static struct lockstep_difference plant(const struct lockstep_plant *p)
{
    struct trial t;
    TRIAL(&t, guest_mixes, &EMULATE);
    t.l.plant = *p;
    t.l.plant.wanted = true;
    trial_run(&t);
    check_exact(&t, p->at);
    return t.l.difference;
}

TEST(a_planted_bug_is_found_in_any_register)
{
    for (unsigned i = 0; i < 16; i++) {
        struct lockstep_difference d =
            plant(&(struct lockstep_plant){.at = 2345, .field = "vec", .index = i});
        CHECK_EQ(d.after[0].vec[i].u64[0] ^ d.after[1].vec[i].u64[0], 1);
        CHECK_EQ(lockstep_compare(&plain, &d.after[0], &d.after[1], NULL, NULL), 1);
    }
    struct lockstep_difference d = plant(&(struct lockstep_plant){.at = 3500, .field = "cr2"});
    CHECK_EQ(d.after[0].cr2 ^ d.after[1].cr2, 1);
    d = plant(&(struct lockstep_plant){.at = 3501, .field = "gpr", .index = X86_RBP});
    CHECK_EQ(d.after[0].gpr[X86_RBP] ^ d.after[1].gpr[X86_RBP], 1);
    CHECK_EQ(d.memory_differs, 0);
}

/* The carry soon is another one; with a look behind every instruction it is seen all the same. */
TEST(a_planted_bug_is_found_in_the_flags)
{
    struct trial t;
    TRIAL(&t, guest_mixes, &EMULATE);
    t.l.plant = (struct lockstep_plant){.wanted = true, .at = 4321, .field = "rflags"};
    t.l.step = 1;
    trial_run(&t);
    check_exact(&t, 4321);
    CHECK_EQ(t.l.difference.after[0].rflags ^ t.l.difference.after[1].rflags, FLAG_CF);
}

TEST(a_planted_bug_is_found_in_memory)
{
    struct lockstep_difference d = plant(&(struct lockstep_plant){.at = 2222, .gpa = 0x123456});
    CHECK_EQ(d.memory_differs, 1);
    CHECK_EQ(d.gpa, 0x123456);
    CHECK_EQ(d.bytes[0][0], 0);
    CHECK_EQ(d.bytes[1][0], 1);
}

/* Long before all of memory is looked at: the page is known to have been written. */
TEST(a_page_just_written_is_looked_at_soon)
{
    struct trial t;
    TRIAL(&t, guest_mixes, &EMULATE);
    t.l.checkpoint = UINT64_MAX;
    t.l.plant = (struct lockstep_plant){.wanted = true, .at = 3333, .gpa = 0x123456};
    trial_run(&t);
    check_exact(&t, 3333);
    CHECK(t.l.instructions < 3333 && t.l.pages > 0);
    CHECK_EQ(t.l.difference.gpa, 0x123456);
}

TEST(an_instruction_done_wrong_is_named)
{
    struct trial t;
    struct engine wrong = EMULATE;
    wrong.run = wrong_at_marked;
    TRIAL(&t, guest_mixes, &wrong);
    trial_run(&t);
    check_exact(&t, 0);
    const struct lockstep_difference *d = &t.l.difference;
    CHECK_EQ(d->before.rip, ORIGIN + (uint64_t)(marked - guest_mixes));
    CHECK_EQ(d->code_width, X86_CODE16);
    CHECK(d->code_size >= 5 && memcmp(d->code, marked, 5) == 0);
    CHECK_EQ(d->after[0].gpr[X86_RBX] ^ d->after[1].gpr[X86_RBX], 0x10);
    CHECK_EQ(d->after[0].gpr[X86_RBX], (uint32_t)(d->before.gpr[X86_RSI] + 1));
}

TEST(it_does_not_matter_which_of_the_two_is_wrong)
{
    struct trial t;
    struct engine wrong = EMULATE;
    wrong.run = wrong_at_marked;
    TRIAL(&t, guest_mixes, &EMULATE);
    t.l.leader = &wrong;
    trial_run(&t);
    check_exact(&t, 0);
    CHECK_EQ(t.l.difference.before.rip, ORIGIN + (uint64_t)(marked - guest_mixes));
}

TEST(what_does_not_come_again_is_told_as_seen)
{
    struct trial t;
    struct engine wrong = EMULATE;
    wrong.run = wrong_once;
    TRIAL(&t, guest_mixes, &wrong);
    trial_run(&t);
    const struct lockstep_difference *d = &t.l.difference;
    CHECK(!t.alike && d->found && !d->exact);
    CHECK(d->from < 1500 && d->to >= 1500 && d->to - d->from <= 50);
    CHECK_EQ(d->after[0].gpr[X86_RBP] ^ d->after[1].gpr[X86_RBP], 1);
}

TEST(a_device_written_wrong_is_found)
{
    struct trial t;
    struct engine wrong = EMULATE;
    wrong.vcpu_create = create_wrong_writer;
    TRIAL(&t, guest_mixes, &wrong);
    trial_run(&t);
    check_exact(&t, 0);
    const struct lockstep_difference *d = &t.l.difference;
    CHECK(d->accesses_differ);
    CHECK_EQ(d->access[0].kind, LOCKSTEP_PIO_WRITE);
    CHECK_EQ(d->access[0].address, 0x40);
    CHECK_EQ(d->access[0].value, 0xa9);
    CHECK_EQ(d->access[1].value, 0xa8);
    CHECK_EQ(d->access[0].at, d->from);
}

TEST(a_lost_interrupt_is_found)
{
    struct trial t;
    struct engine wrong = EMULATE;
    wrong.interrupt = deaf;
    TRIAL(&t, guest_mixes, &wrong);
    trial_run(&t);
    CHECK(!t.alike && t.l.difference.found);
    CHECK(t.l.difference.to >= 2000);
    CHECK(t.l.difference.accesses_differ);
    CHECK_EQ(t.l.difference.access[0].kind, LOCKSTEP_INTERRUPT);
}

/* ---- the comparison ---- */

TEST(every_field_is_looked_at)
{
    struct shape shape;
    struct x86_state a = {0}, b;
    shape_init(&shape, &plain);
    for (unsigned i = 0; i < x86_state_archive.field_count; i++) {
        const struct archive_field *f = &x86_state_archive.fields[i];
        for (unsigned k = 0; k < f->count * f->size; k++) {
            b = a;
            CHECK(states_equal(&shape, &a, &b));
            ((uint8_t *)&b)[f->offset + k] ^= 0x80;
            CHECK(!states_equal(&shape, &a, &b));
            CHECK_EQ(lockstep_compare(&plain, &a, &b, NULL, NULL), 1);
        }
    }
}

TEST(what_lies_between_fields_is_not)
{
    struct shape shape;
    struct x86_state a = {0}, b = {0};
    shape_init(&shape, &plain);
    memset((uint8_t *)&b.seg[X86_CS].selector + 2, 0xff, 6);
    b.gpr[X86_GPR_BLOCK] = 1;
    CHECK(states_equal(&shape, &a, &b));
}

/* With an engine that has a row for it, and with no other. */
TEST(what_is_masked_is_not)
{
    const struct lockstep_mask *m;
    for (unsigned i = 0; (m = lockstep_mask_at(i)); i++) {
        struct engine masked = {.name = m->engine};
        const struct lockstep with = {.leader = &EMULATE, .follower = &masked};
        struct shape shape;
        struct x86_state a = {0}, b = {0};
        for (unsigned k = 0; k < x86_state_archive.field_count; k++) {
            const struct archive_field *f = &x86_state_archive.fields[k];
            if (strcmp(f->name, m->field) == 0)
                ((uint8_t *)&b)[f->offset] = (uint8_t)m->ignored;
        }
        CHECK(m->why && m->why[0]);
        shape_init(&shape, &with);
        CHECK(states_equal(&shape, &a, &b));
        CHECK_EQ(lockstep_compare(&with, &a, &b, NULL, NULL), 0);
        CHECK_EQ(lockstep_compare(&plain, &a, &b, NULL, NULL), 1);
    }
}

/* ---- what can't be ---- */

TEST(several_processors_are_refused)
{
    struct lockstep l;
    struct machine *m;
    struct error err = {0};
    lockstep_init(&l, &EMULATE, &EMULATE);
    const struct machine_config config = {
        .memory = 2 << 20, .cpus = 2, .engine = &l.engine, .virtual_clock = true};
    CHECK(!machine_create(&m, &config, &err));
    CHECK_EQ(err.status, EXIT_STATUS_USAGE);
    CHECK(strstr(err.text, "--cpus 1"));
}

TESTS(T(one_engine_twice_is_alike), T(a_crash_is_alike), T(a_reset_begins_anew),
      T(a_planted_bug_is_found_in_any_register), T(a_planted_bug_is_found_in_the_flags),
      T(a_planted_bug_is_found_in_memory), T(a_page_just_written_is_looked_at_soon),
      T(an_instruction_done_wrong_is_named), T(it_does_not_matter_which_of_the_two_is_wrong),
      T(what_does_not_come_again_is_told_as_seen), T(a_device_written_wrong_is_found),
      T(a_lost_interrupt_is_found), T(every_field_is_looked_at), T(what_lies_between_fields_is_not),
      T(what_is_masked_is_not), T(several_processors_are_refused))
