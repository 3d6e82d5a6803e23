/*
 * Several vCPUs of the emulating engine at once: atomic instructions, code that another vCPU
 * changes.
 */
#include "emulate_rig.h"

#include <pthread.h>

static void *run_vcpu(void *ctx)
{
    enum engine_exit exit;
    do {
        exit = engine_emulate.run(ctx, UINT64_MAX);
    } while (exit == ENGINE_PAUSED);
    return exit == ENGINE_HALTED ? ctx : NULL;
}

/* Runs the same code on each vCPU, its number in RDX, until all have halted. */
static void run_all(struct rig *r)
{
    pthread_t thread[RIG_VCPUS];
    for (unsigned i = 0; i < r->vcpus; i++) {
        struct x86_state s;
        engine_emulate.get_state(r->all[i], &s);
        s.gpr[X86_RDX] = i;
        engine_emulate.set_state(r->all[i], &s);
    }
    for (unsigned i = 0; i < r->vcpus; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, run_vcpu, r->all[i]), 0);
    for (unsigned i = 0; i < r->vcpus; i++) {
        void *halted = NULL;
        pthread_join(thread[i], &halted);
        CHECK(halted != NULL);
    }
}

static void run_on(struct rig *r, unsigned vcpus, const uint8_t *code, const uint8_t *end)
{
    if (rig_open_many(r, vcpus, code, end))
        run_all(r);
    else
        test_failed = true;
}

static uint64_t word_at(struct rig *r, uint64_t gpa)
{
    uint64_t v = 0;
    CHECK(memory_read(&r->memory, gpa, &v, 8));
    return v;
}

/* ADD, INC, XADD, BTS+BTR and CMPXCHG loops on an aligned word. */
CODE(aligned, "mov $0x200000, %edi; mov $20000, %ecx;"
              "1: lock incq (%rdi); lock addq $2, (%rdi); mov $3, %eax; lock xadd %rax, (%rdi);"
              "mov (%rdi), %rax; 2: lea 4(%rax), %rbx; lock cmpxchg %rbx, (%rdi); jnz 2b;"
              "dec %ecx; jnz 1b");

TEST(locked_instructions_lose_nothing)
{
    struct rig r;
    run_on(&r, 3, aligned, aligned_end);
    CHECK_EQ(word_at(&r, 0x200000), 3 * 20000 * 10);
    rig_close(&r);
}

/* The same word across two pages: no host atomic can do that. */
CODE(straddling, "mov $0x200ffd, %edi; mov $2000, %ecx;"
                 "1: lock incq (%rdi); lock addq $2, (%rdi); mov $3, %eax; lock xadd %rax, (%rdi);"
                 "dec %ecx; jnz 1b");

TEST(locked_instructions_across_pages_lose_nothing)
{
    struct rig r;
    run_on(&r, 3, straddling, straddling_end);
    CHECK_EQ(word_at(&r, 0x200ffd), 3 * 2000 * 6);
    rig_close(&r);
}

/* XCHG as a lock round a plain counter. */
CODE(spinlock, "mov $0x200000, %edi; mov $5000, %ecx;"
               "1: mov $1, %eax; 2: xchg %eax, (%rdi); test %eax, %eax; jz 3f; pause; jmp 2b;"
               "3: incq 64(%rdi); movl $0, (%rdi); dec %ecx; jnz 1b");

TEST(a_spin_lock_of_the_guest_holds)
{
    struct rig r;
    run_on(&r, 3, spinlock, spinlock_end);
    CHECK_EQ(word_at(&r, 0x200040), 3 * 5000);
    rig_close(&r);
}

/* The first vCPU patches a routine that the others call until they see the new result. */
CODE(cross_modify, "lea 5f+1(%rip), %rdi; test %edx, %edx; jnz 2f; mov $100000, %ecx;"
                   "1: dec %ecx; jnz 1b; movl $7, (%rdi); jmp 9f;"
                   "2: call 5f; cmp $7, %eax; je 9f; pause; jmp 2b;"
                   "5: mov $1, %eax; ret; 9: nop");

TEST(code_that_another_vcpu_patches_is_seen)
{
    struct rig r;
    run_on(&r, 3, cross_modify, cross_modify_end);
    rig_close(&r);
}

/* Each vCPU writes and calls routines in one page that all of them run code from. */
CODE(shared_page, "mov %edx, %eax; shl $8, %eax; lea 0x200000(%rax), %rdi; mov $3000, %ecx;"
                  "1: movb $0xb8, (%rdi); mov %ecx, 1(%rdi); movb $0xc3, 5(%rdi); call *%rdi;"
                  "cmp %ecx, %eax; jne 2f; dec %ecx; jnz 1b; 2: mov %rcx, 64(%rdi)");

TEST(vcpus_that_write_code_into_one_page_run_their_own)
{
    struct rig r;
    run_on(&r, 3, shared_page, shared_page_end);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(word_at(&r, 0x200000 + i * 0x100 + 64), 0);
    rig_close(&r);
}

TESTS(T(locked_instructions_lose_nothing), T(locked_instructions_across_pages_lose_nothing),
      T(a_spin_lock_of_the_guest_holds), T(code_that_another_vcpu_patches_is_seen),
      T(vcpus_that_write_code_into_one_page_run_their_own))
