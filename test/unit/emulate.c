/*
 * The emulating engine: blocks, their chaining and dropping, exact instruction counts, restarts.
 *
 * The guests are 64-bit code, assembled below, that runs at GUEST with memory mapped one to one and
 * ends with HLT.
 */
#include <stdlib.h>

#include "engine/engine.h"
#include "memory/memory.h"
#include "test.h"
#include "x86/cpuid.h"
#include "x86/state.h"

#define GUEST        UINT64_C(0x10000)
#define STACK        UINT64_C(0x80000)
#define TABLES       UINT64_C(0x1000)
#define GUEST_MEMORY (UINT64_C(64) << 20)

/* CODE(name, "text") assembles guest code between name and name_end. */
#define CODE(name, text)                                                                           \
    extern const uint8_t name[], name##_end[];                                                     \
    __asm__(".pushsection .rodata\n.code64\n" #name ":\n" text "\nhlt\n" #name                     \
            "_end:\n.popsection\n")

struct rig {
    struct memory memory;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu;
    struct x86_host host;
};

static uint32_t no_pio_read(void *ctx, uint16_t port, unsigned size)
{
    return UINT32_MAX;
}
static void no_pio_write(void *ctx, uint16_t port, unsigned size, uint32_t value) {}
static uint64_t no_mmio_read(void *ctx, uint64_t gpa, unsigned size)
{
    return UINT64_MAX;
}
static void no_mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value) {}
static int no_interrupt(void *ctx)
{
    return -1;
}

static void rig_segment(struct x86_segment *s, uint16_t selector, uint32_t attr)
{
    *s = (struct x86_segment){.limit = UINT32_MAX, .attr = attr, .selector = selector};
}

/* Long mode at CPL 0, the first GiB mapped one to one by a single entry. */
static void rig_long_mode(struct rig *r)
{
    uint64_t top = (TABLES + 0x1000) | 7, gib = 0x87;
    memory_write(&r->memory, TABLES, &top, 8);
    memory_write(&r->memory, TABLES + 0x1000, &gib, 8);
    struct x86_state s;
    engine_emulate.get_state(r->vcpu, &s);
    rig_segment(&s.seg[X86_CS], 8, SEG_CODE | SEG_WRITABLE | SEG_ACCESSED | SEG_S | SEG_P | SEG_L);
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        if (i != X86_CS)
            rig_segment(&s.seg[i], 16,
                        SEG_WRITABLE | SEG_ACCESSED | SEG_S | SEG_P | SEG_DB | SEG_G);
    s.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP;
    s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    s.cr3 = TABLES;
    s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    s.rip = GUEST;
    s.gpr[X86_RSP] = STACK;
    engine_emulate.set_state(r->vcpu, &s);
}

static bool rig_open(struct rig *r, const uint8_t *code, const uint8_t *end)
{
    struct error err;
    *r = (struct rig){.host = {.pio_read = no_pio_read,
                               .pio_write = no_pio_write,
                               .mmio_read = no_mmio_read,
                               .mmio_write = no_mmio_write,
                               .interrupt_acknowledge = no_interrupt}};
    if (!memory_create(&r->memory, GUEST_MEMORY, &err) ||
        !engine_emulate.vm_create(&r->vm, &r->memory, x86_model_find("x86-64-v2"), 1, &err) ||
        !engine_emulate.vcpu_create(&r->vcpu, r->vm, 0, &r->host, &err)) {
        printf("# %s\n", err.text);
        return false;
    }
    rig_long_mode(r);
    return memory_write(&r->memory, GUEST, code, (uint64_t)(end - code));
}

static void rig_close(struct rig *r)
{
    engine_emulate.vcpu_destroy(r->vcpu);
    engine_emulate.vm_destroy(r->vm);
    memory_destroy(&r->memory);
}

static struct x86_state rig_state(struct rig *r)
{
    struct x86_state s;
    engine_emulate.get_state(r->vcpu, &s);
    return s;
}

/* Runs code to its HLT and returns the state there. */
static struct x86_state run_to_halt(struct rig *r, const uint8_t *code, const uint8_t *end)
{
    if (!rig_open(r, code, end)) {
        test_failed = true;
        return (struct x86_state){0};
    }
    CHECK_EQ(engine_emulate.run(r->vcpu, UINT64_MAX), ENGINE_HALTED);
    return rig_state(r);
}

/* ---- loops and counts ---- */

CODE(sum_loop, "mov $100000, %ecx; xor %eax, %eax; 1: add %rcx, %rax; dec %ecx; jnz 1b");

TEST(loop_runs_and_is_counted_exactly)
{
    struct rig r;
    struct x86_state s = run_to_halt(&r, sum_loop, sum_loop_end);
    CHECK_EQ(s.gpr[X86_RAX], UINT64_C(5000050000));
    CHECK_EQ(s.rip, GUEST + (uint64_t)(sum_loop_end - sum_loop));
    CHECK_EQ(engine_emulate.instructions(r.vcpu), 2 + 3 * 100000 + 1);
    rig_close(&r);
}

TEST(limit_stops_at_any_instruction_and_goes_on)
{
    struct rig r;
    if (!rig_open(&r, sum_loop, sum_loop_end)) {
        CHECK(false);
        return;
    }
    uint64_t limit = 0;
    enum engine_exit exit = ENGINE_LIMIT;
    for (unsigned stride = 1; exit == ENGINE_LIMIT; stride = stride * 3 % 10007) {
        limit += stride;
        exit = engine_emulate.run(r.vcpu, limit);
        if (exit == ENGINE_LIMIT)
            CHECK_EQ(engine_emulate.instructions(r.vcpu), limit);
    }
    CHECK_EQ(exit, ENGINE_HALTED);
    CHECK_EQ(rig_state(&r).gpr[X86_RAX], UINT64_C(5000050000));
    rig_close(&r);
}

/* ---- code that changes ---- */

/* Patches the immediate of the instruction right behind the store, in the same block. */
CODE(patch_next, "lea 1f+1(%rip), %rdi; movl $0x1234, (%rdi); 1: mov $1, %eax");

TEST(store_into_the_next_instruction_is_seen)
{
    struct rig r;
    CHECK_EQ(run_to_halt(&r, patch_next, patch_next_end).gpr[X86_RAX], 0x1234);
    rig_close(&r);
}

/* Runs a routine, patches it, runs it again. */
CODE(patch_routine, "call 2f; mov %eax, %ebx; lea 2f+1(%rip), %rdi; incl (%rdi); call 2f; jmp 3f;"
                    "2: mov $7, %eax; ret; 3: nop");

TEST(patched_routine_is_decoded_again)
{
    struct rig r;
    struct x86_state s = run_to_halt(&r, patch_routine, patch_routine_end);
    CHECK_EQ(s.gpr[X86_RBX], 7);
    CHECK_EQ(s.gpr[X86_RAX], 8);
    rig_close(&r);
}

TEST(device_writes_drop_code_too)
{
    struct rig r;
    run_to_halt(&r, sum_loop, sum_loop_end);
    struct x86_state s = rig_state(&r);
    uint32_t count = 3;
    CHECK(memory_write(&r.memory, GUEST + 1, &count, 4));
    s.rip = GUEST;
    s.activity = X86_ACTIVE;
    engine_emulate.set_state(r.vcpu, &s);
    CHECK_EQ(engine_emulate.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    CHECK_EQ(rig_state(&r).gpr[X86_RAX], 6);
    rig_close(&r);
}

/* The routine sits across a page boundary: its second instruction's bytes lie in both pages. */
CODE(across_pages, "jmp 1f; .skip 0xff5 - 2, 0x90; 1: mov $1, %eax; movabs $0x1122334455667788, "
                   "%rbx; mov $2, %ecx");

TEST(instruction_across_two_pages_runs)
{
    struct rig r;
    struct x86_state s = run_to_halt(&r, across_pages, across_pages_end);
    CHECK_EQ(s.gpr[X86_RAX], 1);
    CHECK_EQ(s.gpr[X86_RBX], UINT64_C(0x1122334455667788));
    CHECK_EQ(s.gpr[X86_RCX], 2);
    rig_close(&r);
}

/* Writes and calls 200,000 routines of its own, each at another address: more than the cache holds.
 */
CODE(many_routines, "mov $0x100000, %edi; mov $200000, %ecx; xor %ebx, %ebx;"
                    "1: movb $0xb8, (%rdi); mov %ecx, 1(%rdi); movb $0xc3, 5(%rdi);"
                    "call *%rdi; add %rax, %rbx; add $16, %rdi; dec %ecx; jnz 1b");

TEST(full_cache_is_thrown_away_and_filled_again)
{
    struct rig r;
    struct x86_state s = run_to_halt(&r, many_routines, many_routines_end);
    CHECK_EQ(s.gpr[X86_RBX], UINT64_C(200000) * 200001 / 2);
    struct engine_stats stats;
    engine_emulate.stats(r.vcpu, &stats);
    CHECK(stats.cache_flushes > 0);
    rig_close(&r);
}

/* ---- strings ---- */

CODE(copy, "mov $0x200000, %edi; mov $0x5a, %al; mov $10000, %ecx; rep stosb;"
           "mov $0x200003, %esi; mov $0x300001, %edi; mov $9000, %ecx; rep movsb;"
           "mov $0x200000, %edi; mov $0x300001, %esi; mov $20000, %ecx; repe cmpsb;"
           "mov %rcx, %r8; setz %bl");

TEST(repeated_strings_cross_pages)
{
    struct rig r;
    struct x86_state s = run_to_halt(&r, copy, copy_end);
    uint8_t edge[2];
    CHECK(memory_read(&r.memory, 0x300001 + 8999, edge, 2));
    CHECK_EQ(edge[0], 0x5a);
    CHECK_EQ(edge[1], 0);
    /* The comparison ends one behind the first difference: 9000 equal bytes, then 0x5a against 0.
     */
    CHECK_EQ(s.gpr[8], 20000 - 9001);
    CHECK_EQ(s.gpr[X86_RBX] & 0xff, 0);
    rig_close(&r);
}

/* A forward copy onto itself, one byte up, repeats the first byte. */
CODE(smear,
     "mov $0x200000, %esi; movb $0x77, (%rsi); lea 1(%rsi), %rdi; mov $100, %ecx; rep movsb");

TEST(overlapping_move_repeats_its_source)
{
    struct rig r;
    run_to_halt(&r, smear, smear_end);
    uint8_t last;
    CHECK(memory_read(&r.memory, 0x200000 + 100, &last, 1));
    CHECK_EQ(last, 0x77);
    rig_close(&r);
}

/* ---- high bytes, partial registers, flags ---- */

CODE(partial, "movabs $0x1111111122222222, %rax; mov %rax, %rbx; mov $0x33, %ah; mov %ah, %cl;"
              "mov $0x4444, %bx; mov %ebx, %edx; mov $0xff, %al; add $1, %al; adc $0, %esi;"
              "mov $0x7fffffff, %r9d; add $1, %r9d; seto %r10b");

TEST(partial_registers_keep_what_is_above)
{
    struct rig r;
    struct x86_state s = run_to_halt(&r, partial, partial_end);
    CHECK_EQ(s.gpr[X86_RAX], UINT64_C(0x1111111122223300));
    CHECK_EQ(s.gpr[X86_RCX] & 0xff, 0x33);
    CHECK_EQ(s.gpr[X86_RBX], UINT64_C(0x1111111122224444));
    CHECK_EQ(s.gpr[X86_RDX], 0x22224444);
    CHECK_EQ(s.gpr[X86_RSI], 1);
    CHECK_EQ(s.gpr[10] & 0xff, 1);
    rig_close(&r);
}

TESTS(T(loop_runs_and_is_counted_exactly), T(limit_stops_at_any_instruction_and_goes_on),
      T(store_into_the_next_instruction_is_seen), T(patched_routine_is_decoded_again),
      T(device_writes_drop_code_too), T(instruction_across_two_pages_runs),
      T(full_cache_is_thrown_away_and_filled_again), T(repeated_strings_cross_pages),
      T(overlapping_move_repeats_its_source), T(partial_registers_keep_what_is_above))
