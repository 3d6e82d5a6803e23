/*
 * The engine on KVM: states in and out, accesses, interrupts, what KVM gives up on, what it writes.
 * Where there is no KVM all of it is skipped. All of it is code at CPL 0, which is KVM's here also
 * where the engine would leave it to `emulate`; users are in hardware_users.c.
 */
#include <pthread.h>

#include "engine/hardware/hardware.h"
#include "hardware_rig.h"

static void leave_systems_to_kvm(struct rig *r)
{
    r->vm->facts.users_only = false;
}

#define OPEN(r, code)                                                                              \
    do {                                                                                           \
        if (!rig_open(r, code, code##_end)) {                                                      \
            CHECK(false);                                                                          \
            return;                                                                                \
        }                                                                                          \
        leave_systems_to_kvm(r);                                                                   \
    } while (0)

/* ---- states ---- */

CODE(endless, "1: pause; jmp 1b");

/* A value for each register that KVM has to keep apart. */
static void fill(struct x86_state *s)
{
    for (unsigned i = 0; i < 16; i++) {
        s->gpr[i] = UINT64_C(0x1111000011110000) * (i + 1) + i;
        for (unsigned j = 0; j < 2; j++)
            s->vec[i].u64[j] = UINT64_C(0x0102030405060708) * (i + 1) + j;
    }
    for (unsigned i = 0; i < 8; i++)
        s->st[i] = (struct x86_f80){UINT64_C(0x8000000000000000) + i, (uint16_t)(0x3fff + i)};
    s->gpr[X86_RSP] = STACK;
    s->rflags = FLAG_1 | FLAG_CF | FLAG_ZF | FLAG_OF | FLAG_DF;
    s->fcw = 0x027f;
    s->fsw = 3 << 11;
    s->ftag = 0xa5;
    s->mxcsr = 0x1fa0;
    s->cr2 = UINT64_C(0x123456789000);
    s->dr[0] = 0x1000;
    s->dr[3] = 0x4000;
    s->star = UINT64_C(0x0023001000000000);
    s->lstar = UINT64_C(0xffffffff81000000);
    s->sfmask = 0x47700;
    s->kernel_gs_base = UINT64_C(0xffff888000001000);
    s->sysenter_cs = 0x10;
    s->sysenter_eip = 0x2000;
    s->seg[X86_FS].base = UINT64_C(0x7fff12345000);
    s->seg[X86_GS].base = UINT64_C(0xffff888000000000);
    s->gdtr = (struct x86_table){0x3000, 0x7f};
    s->idtr = (struct x86_table){0x5000, 0xfff};
    s->mtrr_base[2] = 0xc0000000;
    s->misc_enable |= 1;
    s->nmi_blocked = true;
}

static void check_same(const struct x86_state *got, const struct x86_state *want)
{
    for (unsigned i = 0; i < 16; i++) {
        CHECK_EQ(got->gpr[i], want->gpr[i]);
        CHECK_EQ(got->vec[i].u64[0], want->vec[i].u64[0]);
        CHECK_EQ(got->vec[i].u64[1], want->vec[i].u64[1]);
    }
    for (unsigned i = 0; i < 8; i++) {
        CHECK_EQ(got->st[i].mantissa, want->st[i].mantissa);
        CHECK_EQ(got->st[i].se, want->st[i].se);
    }
    for (unsigned i = 0; i < X86_SEG_COUNT; i++) {
        CHECK_EQ(got->seg[i].base, want->seg[i].base);
        CHECK_EQ(got->seg[i].limit, want->seg[i].limit);
        CHECK_EQ(got->seg[i].attr, want->seg[i].attr);
        CHECK_EQ(got->seg[i].selector, want->seg[i].selector);
    }
#define SAME(member) CHECK_EQ(got->member, want->member)
    SAME(rip);
    SAME(rflags);
    SAME(cr0);
    SAME(cr2);
    SAME(cr3);
    SAME(cr4);
    SAME(efer);
    SAME(fcw);
    SAME(fsw);
    SAME(ftag);
    SAME(mxcsr);
    SAME(dr[0]);
    SAME(dr[3]);
    SAME(dr[7]);
    SAME(star);
    SAME(lstar);
    SAME(sfmask);
    SAME(kernel_gs_base);
    SAME(sysenter_cs);
    SAME(sysenter_eip);
    SAME(gdtr.base);
    SAME(gdtr.limit);
    SAME(idtr.base);
    SAME(idtr.limit);
    SAME(mtrr_base[2]);
    SAME(misc_enable);
    SAME(nmi_blocked);
    SAME(activity);
    SAME(pat);
#undef SAME
}

/* A run that is stopped before the first instruction takes the state to KVM and back. */
TEST(state_comes_back_from_kvm_as_it_was)
{
    struct rig r;
    NEEDS_KVM();
    OPEN(&r, endless);
    struct x86_state s = rig_state(&r);
    fill(&s);
    engine_hardware.set_state(r.vcpu, &s);
    engine_hardware.stop(r.vcpu);
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
    struct x86_state got = rig_state(&r);
    check_same(&got, &s);
    rig_close(&r);
}

/* What `--cpu host` adds, where the host has it. */
TEST(registers_of_avx512_come_back_from_kvm)
{
    struct rig r;
    NEEDS_KVM();
    struct x86_model model = *x86_model_find("host");
    x86_model_add_host(&model);
    if (!(model.xcr0 & XCR0_OPMASK))
        SKIP("this host has no AVX-512");
    OPEN(&r, endless);
    CHECK(rig_remake(&r, &model));
    leave_systems_to_kvm(&r);
    struct x86_state s = rig_state(&r);
    for (unsigned i = 0; i < 8; i++)
        s.opmask[i] = UINT64_C(0x1234567800000000) + i;
    for (unsigned i = 0; i < 16; i++) {
        s.zmm_upper[i][3] = 0x1000 + i;
        s.zmm_more[i][0] = 0x2000 + i;
        s.zmm_more[i][7] = 0x3000 + i;
    }
    s.xcr0 = model.xcr0 & ~(uint64_t)XCR0_PKRU; /* which KVM may lack */
    s.cr4 |= CR4_OSXSAVE;
    engine_hardware.set_state(r.vcpu, &s);
    engine_hardware.stop(r.vcpu);
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
    struct x86_state got = rig_state(&r);
    CHECK(memcmp(got.opmask, s.opmask, sizeof s.opmask) == 0);
    CHECK(memcmp(got.zmm_upper, s.zmm_upper, sizeof s.zmm_upper) == 0);
    CHECK(memcmp(got.zmm_more, s.zmm_more, sizeof s.zmm_more) == 0);
    CHECK_EQ(got.xcr0, s.xcr0);
    rig_close(&r);
}

TEST(pending_event_comes_back_from_kvm)
{
    struct rig r;
    NEEDS_KVM();
    OPEN(&r, endless);
    struct x86_state s = rig_state(&r);
    s.event_pending = true;
    s.event_vector = 0x55;
    engine_hardware.set_state(r.vcpu, &s);
    engine_hardware.stop(r.vcpu);
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
    struct x86_state got = rig_state(&r);
    CHECK(got.event_pending);
    CHECK_EQ(got.event_vector, 0x55);
    rig_close(&r);
}

/* ---- running ---- */

CODE(sum_loop, "mov $1000, %ecx; xor %eax, %eax; 1: add %rcx, %rax; dec %ecx; jnz 1b");

TEST(loop_runs_to_its_halt)
{
    struct rig r;
    NEEDS_KVM();
    OPEN(&r, sum_loop);
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    struct x86_state s = rig_state(&r);
    CHECK_EQ(s.gpr[X86_RAX], 500500);
    CHECK_EQ(s.rip, GUEST + (uint64_t)(sum_loop_end - sum_loop));
    CHECK_EQ(s.activity, X86_HALTED);
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    rig_close(&r);
}

/* What the last access was. */
static struct {
    uint64_t at, value;
    unsigned size, count;
} last;

static uint32_t pio_read(void *ctx, uint16_t port, unsigned size)
{
    last.at = port;
    return 0x12345678;
}

static void pio_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    last.at = port;
    last.value = value;
    last.size = size;
    last.count++;
}

static uint64_t mmio_read(void *ctx, uint64_t gpa, unsigned size)
{
    last.at = gpa;
    return UINT64_C(0x8877665544332211);
}

static void mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    last.at = gpa;
    last.value = value;
    last.size = size;
}

static bool open_with_devices(struct rig *r, const uint8_t *code, const uint8_t *end)
{
    last.count = 0;
    if (!rig_open(r, code, end))
        return false;
    r->host.pio_read = pio_read;
    r->host.pio_write = pio_write;
    r->host.mmio_read = mmio_read;
    r->host.mmio_write = mmio_write;
    if (!rig_remake(r, x86_model_find("x86-64-v2")))
        return false;
    leave_systems_to_kvm(r);
    return true;
}

CODE(ports, "mov $0x3f8, %edx; in %dx, %eax; mov %eax, %ebx; mov $0x5a, %eax; out %al, %dx; inc "
            "%edx; out %ax, %dx");

TEST(ports_reach_the_machine)
{
    struct rig r;
    NEEDS_KVM();
    CHECK(open_with_devices(&r, ports, ports_end));
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    CHECK_EQ(rig_state(&r).gpr[X86_RBX], 0x12345678);
    CHECK_EQ(last.at, 0x3f9);
    CHECK_EQ(last.value, 0x5a);
    CHECK_EQ(last.size, 2);
    CHECK_EQ(last.count, 2);
    rig_close(&r);
}

/* The page behind the guest's RAM. */
CODE(mmio, "mov $0x8000000, %edi; mov (%rdi), %rbx; movl $0x1234, 4(%rdi)");

TEST(memory_that_is_no_ram_reaches_the_machine)
{
    struct rig r;
    NEEDS_KVM();
    CHECK(open_with_devices(&r, mmio, mmio_end));
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    CHECK_EQ(rig_state(&r).gpr[X86_RBX], UINT64_C(0x8877665544332211));
    CHECK_EQ(last.at, 0x8000004);
    CHECK_EQ(last.value, 0x1234);
    CHECK_EQ(last.size, 4);
    rig_close(&r);
}

/* ---- what KVM may give up on ---- */

CODE(wide,
     "mov $0x30000, %esi; xor %eax, %eax; xor %edx, %edx; mov $5, %ebx; mov $6, %ecx;"
     "lock cmpxchg16b (%rsi); setz %dil; fninit; fld1; fxsave 64(%rsi); fninit; fxrstor 64(%rsi);"
     "fstpl 16(%rsi); popcnt %rcx, %r8; crc32b %cl, %r9d");

TEST(what_kvm_gives_up_on_is_done_all_the_same)
{
    struct rig r;
    NEEDS_KVM();
    OPEN(&r, wide);
    struct x86_state s = rig_state(&r);
    s.gpr[X86_RDI] = s.gpr[9] = 0;
    engine_hardware.set_state(r.vcpu, &s);
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    uint64_t pair[2];
    double one;
    memory_read(&r.memory, 0x30000, pair, sizeof pair);
    memory_read(&r.memory, 0x30010, &one, sizeof one);
    s = rig_state(&r);
    CHECK_EQ(pair[0], 5);
    CHECK_EQ(pair[1], 6);
    CHECK_EQ(s.gpr[X86_RDI], 1);
    CHECK_EQ(s.rip, GUEST + (uint64_t)(wide_end - wide));
    CHECK(one == 1.0);
    CHECK_EQ(s.gpr[8], 2);
    rig_close(&r);
}

/* ---- dirty tracking ---- */

CODE(writer, "movb $1, 0x30000; movb $2, 0x33fff; mov 0x31000, %eax");

static bool clean(struct rig *r, uint64_t gpa)
{
    return atomic_load(memory_flags(&r->memory, gpa)) & MEMORY_CLEAN;
}

static void mark_clean(struct rig *r)
{
    for (uint64_t gpa = 0; gpa < GUEST_MEMORY; gpa += MEMORY_PAGE_SIZE)
        atomic_fetch_or(memory_flags(&r->memory, gpa), MEMORY_CLEAN);
    engine_hardware.watch_writes(r->vm);
}

static void run_writer(struct rig *r)
{
    struct x86_state s = rig_state(r);
    s.rip = GUEST;
    s.activity = X86_ACTIVE;
    engine_hardware.set_state(r->vcpu, &s);
    CHECK_EQ(engine_hardware.run(r->vcpu, UINT64_MAX), ENGINE_HALTED);
}

TEST(pages_that_kvm_writes_are_no_longer_clean)
{
    struct rig r;
    NEEDS_KVM();
    OPEN(&r, writer);
    for (unsigned i = 0; i < 3; i++) {
        mark_clean(&r);
        CHECK(clean(&r, 0x30000) && clean(&r, 0x33000));
        run_writer(&r);
        CHECK(!clean(&r, 0x30000) && !clean(&r, 0x33000));
        CHECK(clean(&r, 0x2f000) && clean(&r, 0x31000) && clean(&r, 0x32000));
        CHECK(clean(&r, 0x34000) && clean(&r, GUEST));
    }
    CHECK(r.vcpu->exits >= 3 && r.vcpu->stretches == 0); /* it was KVM */
    rig_close(&r);
}

TEST(writes_before_the_mark_do_not_count)
{
    struct rig r;
    NEEDS_KVM();
    OPEN(&r, writer);
    mark_clean(&r);
    run_writer(&r);
    mark_clean(&r);
    engine_hardware.stop(r.vcpu);
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
    CHECK(clean(&r, 0x30000) && clean(&r, 0x33000));
    rig_close(&r);
}

/* ---- from other threads ---- */

static void *stop_it(void *rig)
{
    struct rig *r = rig;
    engine_hardware.stop(r->vcpu);
    return NULL;
}

TEST(stop_ends_an_endless_loop)
{
    struct rig r;
    pthread_t thread;
    NEEDS_KVM();
    OPEN(&r, endless);
    for (unsigned i = 0; i < 20; i++) {
        CHECK(pthread_create(&thread, NULL, stop_it, &r) == 0);
        CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
        pthread_join(thread, NULL);
    }
    rig_close(&r);
}

/* ---- the model ---- */

TEST(model_keeps_no_more_than_it_had)
{
    NEEDS_KVM();
    struct error err;
    const struct x86_model *whole = x86_model_at(0);
    struct x86_model m = *whole;
    CHECK(engine_hardware.limit(&m, &err));
    for (unsigned i = 0; i < X86_FEATURE_WORDS; i++)
        CHECK_EQ(m.features[i] & ~whole->features[i], 0);
    CHECK_EQ(m.xcr0 & ~whole->xcr0, 0);
    CHECK_EQ(m.arch_capabilities & ~whole->arch_capabilities, 0);
    CHECK(m.tsc != X86_TSC_OWN && m.tsc_hz > 0);
    CHECK(x86_model_has(&m, "lm") && x86_model_has(&m, "apic"));
}

TESTS(T(state_comes_back_from_kvm_as_it_was), T(registers_of_avx512_come_back_from_kvm),
      T(pending_event_comes_back_from_kvm), T(loop_runs_to_its_halt), T(ports_reach_the_machine),
      T(memory_that_is_no_ram_reaches_the_machine), T(what_kvm_gives_up_on_is_done_all_the_same),
      T(pages_that_kvm_writes_are_no_longer_clean), T(writes_before_the_mark_do_not_count),
      T(stop_ends_an_endless_loop), T(model_keeps_no_more_than_it_had))
