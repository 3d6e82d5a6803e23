/*
 * The whole machine, with small guests that nothing else runs on: raw code at 0x7c00, in real mode
 * or in flat 32-bit protected mode, on the engine `emulate`, and where that tells something more,
 * on the one that keeps the local APICs itself.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "machine/machine.h"
#include "test.h"

/* ---- the guests ---- */

enum { ORIGIN = 0x7c00 };

#define GUEST(name, bits, ...)                                                                     \
    __asm__(".pushsection .rodata\n.code" #bits "\n" #name ":\n" __VA_ARGS__ "\n" #name            \
            "_end:\n.code64\n.popsection");                                                        \
    extern const uint8_t name[], name##_end[];

/* Ends the run with EAX; in both code sizes. */
#define EXIT "mov $0xf4, %dx\n out %eax, %dx\n 9: hlt\n jmp 9b\n"

GUEST(guest_exit, 16, "mov $0x12345, %eax\n" EXIT)

/* Programs the 8259s (vectors 8 and 0x70) and the PIT (about 1 kHz), and takes three ticks. */
#define PIC_AND_PIT                                                                                \
    "mov $0x11, %al\n out %al, $0x20\n mov $8, %al\n out %al, $0x21\n mov $4, %al\n"               \
    "out %al, $0x21\n mov $1, %al\n out %al, $0x21\n mov $0xfe, %al\n out %al, $0x21\n"            \
    "mov $0x34, %al\n out %al, $0x43\n mov $0xa9, %al\n out %al, $0x40\n mov $4, %al\n"            \
    "out %al, $0x40\n"
#define TICK_VECTOR(name) "movw $(tick_" name " - " name " + 0x7c00), 32\n movw $0, 34\n"
#define TICK_HANDLER(name)                                                                         \
    "tick_" name ": incw 0x6000\n push %ax\n mov $0x20, %al\n out %al, $0x20\n pop %ax\n iret\n"

GUEST(
    guest_ticks, 16,
    "xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x7000, %sp\n movw $0, 0x6000\n" TICK_VECTOR(
        "guest_ticks") PIC_AND_PIT "sti\n"
                                   "1: hlt\n cmpw $3, 0x6000\n jb 1b\n"
                                   "movzwl 0x6000, %eax\n" EXIT TICK_HANDLER("guest_ticks"))

/* Counts between ticks for a while; the count, the TSC and the PIT make up what it exits with. */
GUEST(guest_mixes, 16,
      "xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x7000, %sp\n movw $0, 0x6000\n"
      "xor %esi, %esi\n" TICK_VECTOR("guest_mixes") PIC_AND_PIT
      "sti\n"
      "1: rdtsc\n add %eax, %esi\n rol $3, %esi\n in $0x40, %al\n movzbl %al, %eax\n"
      "add %eax, %esi\n cmpw $20, 0x6000\n jb 1b\n"
      "mov %esi, %eax\n" EXIT TICK_HANDLER("guest_mixes"))

GUEST(guest_reset_cf9, 16, "mov $0xcf9, %dx\n mov $6, %al\n out %al, %dx\n 1: jmp 1b\n")
GUEST(guest_reset_i8042, 16, "mov $0xfe, %al\n out %al, $0x64\n 1: jmp 1b\n")
GUEST(guest_reset_92, 16, "mov $1, %al\n out %al, $0x92\n 1: jmp 1b\n")
/* Turns x2APIC on, and sends itself an INIT. */
GUEST(guest_reset_init, 16,
      "mov $0x1b, %ecx\n rdmsr\n or $0xc00, %eax\n wrmsr\n"
      "mov $0x830, %ecx\n mov $0x4500, %eax\n xor %edx, %edx\n wrmsr\n 1: jmp 1b\n")
GUEST(guest_triple_fault, 16, "lidt %cs:2f - guest_triple_fault + 0x7c00\n int3\n 2: .long 0, 0\n")
GUEST(guest_power_off, 16, "mov $0x604, %dx\n mov $0x3c00, %ax\n out %ax, %dx\n 1: jmp 1b\n")
GUEST(guest_spins, 16, "cli\n 1: jmp 1b\n")
GUEST(guest_halts, 16, "cli\n 1: hlt\n jmp 1b\n")
GUEST(guest_prints, 16,
      "mov $0x3f8, %dx\n mov $1300000, %ecx\n 1: mov $'x', %al\n out %al, %dx\n dec %ecx\n jnz 1b\n"
      "mov $7, %eax\n" EXIT)

/* Reads bytes from the serial line up to a full stop, and mixes them with the times of their
 * arrival. */
GUEST(guest_reads, 16,
      "xor %esi, %esi\n"
      "1: mov $0x3fd, %dx\n in %dx, %al\n test $1, %al\n jz 1b\n"
      "rdtsc\n rol $5, %esi\n add %eax, %esi\n mov $0x3f8, %dx\n in %dx, %al\n"
      "movzbl %al, %ebx\n xor %ebx, %esi\n cmp $'.', %al\n jne 1b\n"
      "mov %esi, %eax\n" EXIT)

/* Mixes, says so, waits for a byte, and mixes that and its registers in. */
GUEST(
    guest_asks, 16,
    "xor %ax, %ax\n mov %ax, %ds\n mov $0x1234567, %esi\n mov $1000, %ecx\n"
    "1: imul $1103515245, %esi, %esi\n add $12345, %esi\n mov %esi, (0x5000)\n dec %ecx\n jnz 1b\n"
    "mov $0x3f8, %dx\n mov $'?', %al\n out %al, %dx\n"
    "2: pause\n mov $0x3fd, %dx\n in %dx, %al\n test $1, %al\n jz 2b\n"
    "mov $0x3f8, %dx\n in %dx, %al\n movzbl %al, %eax\n add (0x5000), %eax\n xor %esi, %eax\n" EXIT)

/* The boot processor starts the others (as many as 0x9004 says) with INIT and two start-up IPIs,
 * waits for their signs of life, sends them an NMI while they halt with interrupts off, and waits
 * for that to arrive. */
GUEST(guest_boot, 32,
      "movl $0, 0x9000\n movl $0x000c4500, 0xfee00300\n"
      "movl $0x000c4608, 0xfee00300\n movl $0x000c4608, 0xfee00300\n mov 0x9004, %cl\n"
      "1: pause\n cmpb 0x9000, %cl\n jne 1b\n"
      "movl $0x000c4400, 0xfee00300\n"
      "2: pause\n cmpb 0x9001, %cl\n jne 2b\n"
      "mov 0x9000, %eax\n" EXIT)
GUEST(guest_other, 16,
      "xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x8f00, %sp\n"
      "movw $(nmi_other - guest_other + 0x8000), 8\n movw $0, 10\n"
      "lock incb 0x9000\n cli\n 1: hlt\n jmp 1b\n"
      "nmi_other: lock incb 0x9001\n iret\n")

/* ---- running them ---- */

static void failed(const struct error *err)
{
    printf("# %s\n", err->text);
    CHECK(!"a call that must succeed");
}

struct program {
    const uint8_t *code, *end;
    bool protected_mode;
    const uint8_t *after_reset, *after_reset_end; /* what the second load puts there instead */
    const uint8_t *other, *other_end;             /* at 0x8000 */
    uint8_t others;                               /* at 0x9004 */
    unsigned loads;
};
#define PROGRAM(name) .code = name, .end = name##_end

static bool load(struct machine *m, void *ctx, struct x86_state *bsp, struct error *err)
{
    struct program *p = ctx;
    bool again = p->loads++ > 0 && p->after_reset;
    const uint8_t *code = again ? p->after_reset : p->code;
    const uint8_t *end = again ? p->after_reset_end : p->end;
    struct memory *memory = machine_memory(m);
    if (!memory_write(memory, ORIGIN, code, (uint64_t)(end - code)) ||
        !memory_write(memory, 0x8000, p->other, (uint64_t)(p->other_end - p->other)) ||
        !memory_write(memory, 0x9004, &p->others, 1))
        return error_set(err, "test guest does not fit");
    bsp->rip = ORIGIN;
    bsp->seg[X86_CS].selector = 0;
    bsp->seg[X86_CS].base = 0;
    bsp->gpr[X86_RSP] = 0x7000;
    if (p->protected_mode) {
        bsp->cr0 |= CR0_PE;
        for (unsigned i = 0; i < X86_SEG_COUNT; i++) {
            bsp->seg[i] = (struct x86_segment){
                .limit = 0xffffffff, .attr = 0x93 | SEG_DB | SEG_G, .selector = 16};
        }
        bsp->seg[X86_CS].attr = 0x9b | SEG_DB | SEG_G;
        bsp->seg[X86_CS].selector = 8;
    }
    return true;
}

/* What the next machines run on. */
static const struct engine *engine = &engine_emulate;
static struct engine_tuning tuning;

static struct machine_config config_of(struct program *p)
{
    return (struct machine_config){
        .memory = 2 << 20,
        .cpus = 1,
        .engine = engine,
        .tuning = tuning,
        .debug_exit = true,
        .load = load,
        .load_ctx = p,
    };
}

static struct machine *make(const struct machine_config *config)
{
    struct machine *m;
    struct error err = {0};
    if (!machine_create(&m, config, &err)) {
        failed(&err);
        exit(1);
    }
    return m;
}

static struct machine_result run(const struct machine_config *config)
{
    struct machine *m = make(config);
    struct machine_result r = {0};
    machine_run(m, &r);
    if (r.reason == MACHINE_FAILED)
        printf("# %s\n", r.error.text);
    machine_destroy(m);
    return r;
}

#define CHECK_EXIT(result, v)                                                                      \
    do {                                                                                           \
        struct machine_result r_ = (result);                                                       \
        CHECK_EQ(r_.reason, MACHINE_DEBUG_EXIT);                                                   \
        CHECK_EQ(r_.value, v);                                                                     \
    } while (0)

/* ---- ends ---- */

TEST(a_guest_ends_the_run_by_the_debug_exit)
{
    struct program p = {PROGRAM(guest_exit)};
    struct machine_config c = config_of(&p);
    CHECK_EXIT(run(&c), 0x12345);
    c.virtual_clock = true;
    CHECK_EXIT(run(&c), 0x12345);
}

TEST(a_guest_powers_itself_off)
{
    struct program p = {PROGRAM(guest_power_off)};
    struct machine_config c = config_of(&p);
    CHECK_EQ(run(&c).reason, MACHINE_POWERED_OFF);
}

/* Each way to reset ends the run under no_reboot; without it, loads the guest again. */
static void resets(const uint8_t *code, const uint8_t *end, enum machine_reason reason)
{
    struct program p = {.code = code, .end = end};
    struct machine_config c = config_of(&p);
    c.no_reboot = true;
    CHECK_EQ(run(&c).reason, reason);
    CHECK_EQ(p.loads, 1);

    p.loads = 0;
    p.after_reset = guest_exit;
    p.after_reset_end = guest_exit_end;
    c.no_reboot = false;
    CHECK_EXIT(run(&c), 0x12345);
    CHECK_EQ(p.loads, 2);
}

TEST(a_guest_resets_by_0xcf9)
{
    resets(guest_reset_cf9, guest_reset_cf9_end, MACHINE_RESET);
}

TEST(a_guest_resets_by_the_keyboard_controller)
{
    resets(guest_reset_i8042, guest_reset_i8042_end, MACHINE_RESET);
}

TEST(a_guest_resets_by_port_92)
{
    resets(guest_reset_92, guest_reset_92_end, MACHINE_RESET);
}

TEST(an_init_to_the_boot_processor_is_a_reset)
{
    resets(guest_reset_init, guest_reset_init_end, MACHINE_RESET);
}

TEST(a_triple_fault_resets_or_is_a_crash)
{
    resets(guest_triple_fault, guest_triple_fault_end, MACHINE_CRASHED);
}

/* The console tells that the guest runs; its first byte ends the machine, from the vCPU's thread.
 */
static void *run_in_thread(void *ctx)
{
    struct machine_result r;
    machine_run(ctx, &r);
    return (void *)(uintptr_t)r.reason;
}

static void ended(const uint8_t *code, const uint8_t *end, bool virtual_clock)
{
    struct program p = {.code = code, .end = end};
    struct machine_config c = config_of(&p);
    c.virtual_clock = virtual_clock;
    c.cpus = 2;
    struct machine *m = make(&c);
    pthread_t thread;
    void *reason;
    CHECK(thread_start(&thread, "machine", run_in_thread, m, NULL));
    while (!machine_pause(m)) /* until it runs */
        ;
    machine_continue(m);
    machine_end(m);
    pthread_join(thread, &reason);
    CHECK_EQ((uintptr_t)reason, MACHINE_ENDED);
    machine_destroy(m);
}

TEST(a_guest_that_spins_with_interrupts_off_can_be_ended)
{
    ended(guest_spins, guest_spins_end, false);
    ended(guest_spins, guest_spins_end, true);
}

TEST(a_guest_that_halts_for_good_can_be_ended)
{
    ended(guest_halts, guest_halts_end, false);
    ended(guest_halts, guest_halts_end, true);
}

TEST(an_end_asked_for_before_the_run_ends_it)
{
    struct program p = {PROGRAM(guest_spins)};
    struct machine_config c = config_of(&p);
    struct machine *m = make(&c);
    struct machine_result r;
    machine_end(m);
    machine_run(m, &r);
    CHECK_EQ(r.reason, MACHINE_ENDED);
    machine_destroy(m);
}

/* ---- interrupts and processors ---- */

TEST(a_timer_interrupt_wakes_a_halted_processor)
{
    struct program p = {PROGRAM(guest_ticks)};
    struct machine_config c = config_of(&p);
    CHECK_EXIT(run(&c), 3);
    c.virtual_clock = true;
    CHECK_EXIT(run(&c), 3);
}

static void starts_others(unsigned cpus, bool virtual_clock)
{
    struct program p = {PROGRAM(guest_boot), .protected_mode = true};
    p.other = guest_other;
    p.other_end = guest_other_end;
    p.others = (uint8_t)(cpus - 1);
    struct machine_config c = config_of(&p);
    c.cpus = cpus;
    c.virtual_clock = virtual_clock;
    CHECK_EXIT(run(&c), p.others | (uint32_t)p.others << 8);
}

TEST(init_and_startup_start_processors_and_an_nmi_wakes_them)
{
    starts_others(2, false);
    starts_others(2, true);
    starts_others(16, false);
    starts_others(16, true);
}

/* ---- time ---- */

struct asked {
    struct machine *machine;
    struct machine_result result;
};

static void *run_asked(void *ctx)
{
    struct asked *a = ctx;
    machine_run(a->machine, &a->result);
    return NULL;
}

TEST(under_the_virtual_clock_two_runs_are_the_same)
{
    uint64_t instructions[2];
    uint32_t value[2];
    for (unsigned i = 0; i < 2; i++) {
        struct program p = {PROGRAM(guest_mixes)};
        struct machine_config c = config_of(&p);
        c.virtual_clock = true;
        struct machine *m = make(&c);
        struct machine_result r;
        struct machine_stats s;
        machine_run(m, &r);
        machine_stats(m, &s);
        CHECK_EQ(r.reason, MACHINE_DEBUG_EXIT);
        value[i] = r.value;
        instructions[i] = s.engine.instructions;
        /* 20 ticks of 1193 PIT clocks are about 20 ms. */
        CHECK(s.guest_ns > 19000000 && s.guest_ns < 21000000);
        machine_destroy(m);
    }
    CHECK_EQ(instructions[0], instructions[1]);
    CHECK_EQ(value[0], value[1]);
}

/* Runs the guest that mixes, and pauses it as often as it can. */
static uint32_t mixed(bool pauses)
{
    struct program p = {PROGRAM(guest_mixes)};
    struct machine_config c = config_of(&p);
    c.virtual_clock = true;
    c.cpus = 2;
    struct asked a = {.machine = make(&c)};
    pthread_t thread;
    CHECK(thread_start(&thread, "machine", run_asked, &a, NULL));
    while (pauses && !machine_pause(a.machine)) /* until it runs */
        ;
    if (pauses)
        do
            machine_continue(a.machine);
        while (machine_pause(a.machine));
    pthread_join(thread, NULL);
    machine_destroy(a.machine);
    CHECK_EQ(a.result.reason, MACHINE_DEBUG_EXIT);
    return a.result.value;
}

TEST(under_the_virtual_clock_a_pause_changes_nothing)
{
    uint32_t value = mixed(false);
    CHECK_EQ(mixed(true), value);
}

/* ---- the console ---- */

struct pipes {
    int to_guest[2], from_guest[2];
    struct console_fds *console;
};

static void pipes_open(struct pipes *p)
{
    p->console = calloc(1, sizeof *p->console);
    if (!p->console || pipe(p->to_guest) != 0 || pipe(p->from_guest) != 0)
        exit(1);
    console_fds_init(p->console, p->to_guest[0], p->from_guest[1]);
}

static void pipes_close(struct pipes *p)
{
    console_fds_destroy(p->console);
    free(p->console);
    for (unsigned i = 0; i < 2; i++) {
        close(p->to_guest[i]);
        close(p->from_guest[i]);
    }
}

TEST(output_that_nobody_reads_does_not_stall_the_guest)
{
    struct pipes pipes;
    pipes_open(&pipes);
    struct program p = {PROGRAM(guest_prints)};
    struct machine_config c = config_of(&p);
    c.console = &pipes.console->console;
    CHECK_EXIT(run(&c), 7);
    CHECK(pipes.console->dropped > 0);
    uint8_t first = 0;
    CHECK(read(pipes.from_guest[0], &first, 1) == 1);
    CHECK_EQ(first, 'x');
    pipes_close(&pipes);
}

TEST(under_the_virtual_clock_input_that_is_there_comes_at_the_same_instruction)
{
    uint32_t value[2];
    for (unsigned i = 0; i < 2; i++) {
        struct pipes pipes;
        pipes_open(&pipes);
        struct program p = {PROGRAM(guest_reads)};
        struct machine_config c = config_of(&p);
        c.virtual_clock = true;
        c.console = &pipes.console->console;
        CHECK_EQ(write(pipes.to_guest[1], "0123456789abcdef0123456789abcdef.", 33), 33);
        struct machine_result r = run(&c);
        CHECK_EQ(r.reason, MACHINE_DEBUG_EXIT);
        value[i] = r.value;
        pipes_close(&pipes);
    }
    CHECK_EQ(value[0], value[1]);
}

/* ---- saving and loading ---- */

/* Answers the guest's question and lets it run to its end. */
static void answer(struct pipes *pipes, pthread_t thread)
{
    CHECK(write(pipes->to_guest[1], "!", 1) == 1);
    pthread_join(thread, NULL);
}

static void save_and_load(bool virtual_clock, unsigned cpus)
{
    struct program p = {PROGRAM(guest_asks)};
    struct machine_config c = config_of(&p);
    c.virtual_clock = virtual_clock;
    c.cpus = cpus;
    struct asked first = {0}, second = {0};
    struct pipes pipes[2];
    struct archive archive;
    struct error err = {0};
    pthread_t thread;
    char question;
    archive_init(&archive);
    pipes_open(&pipes[0]);
    pipes_open(&pipes[1]);

    c.console = &pipes[0].console->console;
    first.machine = make(&c);
    CHECK(thread_start(&thread, "first", run_asked, &first, NULL));
    CHECK(read(pipes[0].from_guest[0], &question, 1) == 1);
    CHECK_EQ(question, '?');
    CHECK(machine_pause(first.machine));
    if (!machine_save(first.machine, &archive, &err))
        failed(&err);
    machine_continue(first.machine);
    answer(&pipes[0], thread);
    machine_destroy(first.machine);

    c.console = &pipes[1].console->console;
    p.code = p.end = NULL; /* a loaded machine loads nothing */
    second.machine = make(&c);
    if (!machine_load(second.machine, &archive, &err))
        failed(&err);
    CHECK(thread_start(&thread, "second", run_asked, &second, NULL));
    answer(&pipes[1], thread);
    machine_destroy(second.machine);

    CHECK_EQ(first.result.reason, MACHINE_DEBUG_EXIT);
    CHECK_EXIT(second.result, first.result.value);
    CHECK_EQ(p.loads, 1);
    archive_free(&archive);
    pipes_close(&pipes[0]);
    pipes_close(&pipes[1]);
}

TEST(a_machine_saved_in_the_middle_goes_on_elsewhere)
{
    save_and_load(false, 1);
    save_and_load(false, 2);
    save_and_load(true, 2);
}

TEST(a_saved_machine_of_another_shape_is_refused)
{
    struct program p = {PROGRAM(guest_exit)};
    struct machine_config c = config_of(&p);
    struct machine *m = make(&c);
    struct archive archive;
    struct error err = {0};
    archive_init(&archive);
    CHECK(machine_save(m, &archive, &err));
    machine_destroy(m);
    c.memory *= 2;
    m = make(&c);
    CHECK(!machine_load(m, &archive, &err));
    CHECK(strstr(err.text, "same shape") != NULL);
    machine_destroy(m);
    archive_free(&archive);
}

/* ---- configurations ---- */

TEST(what_can_not_be_made_is_refused)
{
    struct program p = {PROGRAM(guest_exit)};
    struct machine *m;
    struct error err = {0};
    struct machine_config c = config_of(&p);
    c.cpus = 17;
    CHECK(!machine_create(&m, &c, &err));
    CHECK_EQ(err.status, EXIT_STATUS_USAGE);
    c.cpus = 1;
    c.cpu_model = "80286";
    CHECK(!machine_create(&m, &c, &err));
    CHECK_EQ(err.status, EXIT_STATUS_USAGE);
    c.cpu_model = NULL;
    c.memory = 4096;
    CHECK(!machine_create(&m, &c, &err));
    CHECK(m == NULL);
}

/* ---- engines of this host ---- */

#if defined(__x86_64__)
static char why[512];

static const char *performance_counters(const struct engine_vm *vm)
{
    return "performance counters";
}

/* The line names what no state would tell. */
TEST(a_guest_with_the_hosts_processor_is_not_saved)
{
    if (!engine_binary.usable(why, sizeof why))
        SKIP(why);
    struct program p = {PROGRAM(guest_exit)};
    struct machine_config c = config_of(&p);
    struct archive archive;
    struct machine *m;
    struct error err = {0};
    struct engine with_counters = engine_binary;
    with_counters.untold = performance_counters;
    c.engine = &with_counters;
    c.cpu_model = "host";
    if (!machine_create(&m, &c, &err)) { /* under a sanitizer there is no room for it */
        snprintf(why, sizeof why, "%s", err.text);
        SKIP(why);
    }
    archive_init(&archive);
    CHECK(!machine_save(m, &archive, &err));
    CHECK(strstr(err.text, "--cpu host") != NULL);
    CHECK(strstr(err.text, "performance counters") != NULL);
    CHECK_EQ(err.status, EXIT_STATUS_USAGE);
    machine_destroy(m);
    archive_free(&archive);
}

/* ---- local APICs that the engine keeps ---- */

static void keep_no_apics(void)
{
    engine = &engine_emulate;
    tuning = (struct engine_tuning){0};
}

/* Machines have such an engine from here on. False: they can't; `why` says why. */
static bool keep_apics(void)
{
    struct program p = {PROGRAM(guest_exit)};
    struct machine *m;
    struct error err = {0};
    if (!engine_hardware.usable(why, sizeof why))
        return false;
    engine = &engine_hardware;
    tuning.apics = ENGINE_APICS_KEPT;
    struct machine_config c = config_of(&p);
    if (machine_create(&m, &c, &err)) {
        machine_destroy(m);
        return true;
    }
    snprintf(why, sizeof why, "%s", err.text);
    keep_no_apics();
    return false;
}

TEST(kept_apics_are_reset_with_the_machine)
{
    if (!keep_apics())
        SKIP(why);
    resets(guest_reset_cf9, guest_reset_cf9_end, MACHINE_RESET);
    resets(guest_reset_init, guest_reset_init_end, MACHINE_RESET);
    keep_no_apics();
}

TEST(kept_apics_wake_and_start_processors)
{
    if (!keep_apics())
        SKIP(why);
    struct program p = {PROGRAM(guest_ticks)};
    struct machine_config c = config_of(&p);
    CHECK_EXIT(run(&c), 3);
    starts_others(2, false);
    starts_others(16, false);
    ended(guest_spins, guest_spins_end, false);
    ended(guest_halts, guest_halts_end, false);
    keep_no_apics();
}

TEST(kept_apics_are_saved_and_loaded)
{
    if (!keep_apics())
        SKIP(why);
    save_and_load(false, 1);
    save_and_load(false, 2);
    keep_no_apics();
}
#define WITH_ENGINES_OF_THE_HOST                                                                   \
    , T(a_guest_with_the_hosts_processor_is_not_saved), T(kept_apics_are_reset_with_the_machine),  \
        T(kept_apics_wake_and_start_processors), T(kept_apics_are_saved_and_loaded)
#else
#define WITH_ENGINES_OF_THE_HOST
#endif

TESTS(T(a_guest_ends_the_run_by_the_debug_exit), T(a_guest_powers_itself_off),
      T(a_guest_resets_by_0xcf9), T(a_guest_resets_by_the_keyboard_controller),
      T(a_guest_resets_by_port_92), T(an_init_to_the_boot_processor_is_a_reset),
      T(a_triple_fault_resets_or_is_a_crash),
      T(a_guest_that_spins_with_interrupts_off_can_be_ended),
      T(a_guest_that_halts_for_good_can_be_ended), T(an_end_asked_for_before_the_run_ends_it),
      T(a_timer_interrupt_wakes_a_halted_processor),
      T(init_and_startup_start_processors_and_an_nmi_wakes_them),
      T(under_the_virtual_clock_two_runs_are_the_same),
      T(under_the_virtual_clock_a_pause_changes_nothing),
      T(output_that_nobody_reads_does_not_stall_the_guest),
      T(under_the_virtual_clock_input_that_is_there_comes_at_the_same_instruction),
      T(a_machine_saved_in_the_middle_goes_on_elsewhere),
      T(a_saved_machine_of_another_shape_is_refused),
      T(what_can_not_be_made_is_refused) WITH_ENGINES_OF_THE_HOST)
