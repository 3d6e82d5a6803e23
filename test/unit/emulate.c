/*
 * The emulating engine: blocks, their chaining and dropping, exact instruction counts, restarts.
 */
#include "emulate_rig.h"

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

/* ---- an event that another engine left ---- */

/* The handler of vector 0x21, behind the guest's own code. */
CODE(wait_and_handle, "nop; hlt; 1: mov $77, %ebx");

TEST(event_left_by_another_engine_is_delivered_first)
{
    enum { HANDLER = 2 /* behind nop and hlt */ };
    struct rig r;
    if (!rig_open(&r, wait_and_handle, wait_and_handle_end)) {
        CHECK(false);
        return;
    }
    struct x86_state s = rig_state_with_event(&r, HANDLER);
    engine_emulate.set_state(r.vcpu, &s);
    CHECK_EQ(engine_emulate.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    s = rig_state(&r);
    CHECK_EQ(s.gpr[X86_RBX], 77);
    CHECK(!s.event_pending);
    rig_close(&r);
}

TESTS(T(loop_runs_and_is_counted_exactly), T(limit_stops_at_any_instruction_and_goes_on),
      T(store_into_the_next_instruction_is_seen), T(patched_routine_is_decoded_again),
      T(device_writes_drop_code_too), T(instruction_across_two_pages_runs),
      T(full_cache_is_thrown_away_and_filled_again), T(repeated_strings_cross_pages),
      T(overlapping_move_repeats_its_source), T(partial_registers_keep_what_is_above),
      T(event_left_by_another_engine_is_delivered_first))
