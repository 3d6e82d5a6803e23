/* Table registers, bases, protection keys, time, MSRs, randomness, CPUID and HLT, through their
 * semantic functions. */
#include "system_rig.h"

SEM(lgdt)
SEM(lidt)
SEM(sgdt)
SEM(sidt)
SEM(rdfsbase)
SEM(wrgsbase)
SEM(swapgs)
SEM(rdpid)
SEM(rdpkru)
SEM(wrpkru)
SEM(cpuid)
SEM(rdtsc)
SEM(rdtscp)
SEM(rdpmc)
SEM(rdmsr)
SEM(wrmsr)
SEM(rdrand)
SEM(hlt)
SEM(pause)
SEM(wbinvd)
SEM(ud)

/* ---- tables ---- */

TEST(table_registers)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    store_u64(at(f, 0x5000), UINT64_C(0x7766554433221100));
    store_u64(at(f, 0x5008), UINT64_C(0xffff));
    memory_operand(f, 0x5000, 2);
    CHECK_EQ(run(f, &lgdt_sem), -1);
    CHECK_EQ(c->s.gdtr.limit, 0x1100);
    CHECK_EQ(c->s.gdtr.base, 0x443322); /* the 16-bit form loads 24 bits */
    f->op.size = 4;
    CHECK_EQ(run(f, &lidt_sem), -1);
    CHECK_EQ(c->s.idtr.base, 0x55443322);
    memory_operand(f, 0x6000, 4);
    store_u64(at(f, 0x6000), UINT64_MAX);
    CHECK_EQ(run(f, &sidt_sem), -1);
    CHECK_EQ(load_u64(at(f, 0x6000)), UINT64_C(0xffff554433221100));

    fixture_long(f, 0);
    memory_operand(f, 0x5000, 8);
    struct x86_table before = c->s.gdtr;
    store_u64(at(f, 0x5002), BIT(47));
    CHECK_EQ(run(f, &lgdt_sem), X86_GP);
    CHECK_EQ(c->s.gdtr.base, before.base);
    store_u64(at(f, 0x5002), UINT64_C(0xffff800000001000));
    CHECK_EQ(run(f, &lgdt_sem), -1);
    CHECK_EQ(c->s.gdtr.base, UINT64_C(0xffff800000001000));
    memory_operand(f, 0x6000, 8);
    CHECK_EQ(run(f, &sgdt_sem), -1);
    CHECK(memcmp(at(f, 0x6000), at(f, 0x5000), 10) == 0);

    fixture_long(f, 3);
    CHECK_EQ(run(f, &lgdt_sem), X86_GP);
    CHECK_EQ(run(f, &sgdt_sem), -1);
    c->s.cr4 |= CR4_UMIP;
    CHECK_EQ(run(f, &sgdt_sem), X86_GP);
    fixture_free(f);
}

/* ---- per-processor registers ---- */

TEST(bases_of_fs_and_gs)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 3);
    registers(f, 0, X86_RBX, 8);
    CHECK_EQ(run(f, &rdfsbase_sem), X86_UD);
    c->s.cr4 |= CR4_FSGSBASE;
    c->s.gpr[X86_RBX] = UINT64_C(0xffff900000000000);
    CHECK_EQ(run(f, &wrgsbase_sem), -1);
    CHECK_EQ(c->s.seg[X86_GS].base, UINT64_C(0xffff900000000000));
    c->s.gpr[X86_RBX] = BIT(50);
    CHECK_EQ(run(f, &wrgsbase_sem), X86_GP);
    f->op.size = 4;
    c->s.gpr[X86_RBX] = UINT64_C(0xaaaaaaaa55555555);
    CHECK_EQ(run(f, &wrgsbase_sem), -1);
    CHECK_EQ(c->s.seg[X86_GS].base, 0x55555555);
    c->s.seg[X86_FS].base = UINT64_C(0x7fff12345678);
    CHECK_EQ(run(f, &rdfsbase_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RBX], 0x12345678);

    CHECK_EQ(run(f, &swapgs_sem), X86_GP);
    fixture_long(f, 0);
    c->s.seg[X86_GS].base = 1;
    c->s.kernel_gs_base = 2;
    CHECK_EQ(run(f, &swapgs_sem), -1);
    CHECK(c->s.seg[X86_GS].base == 2 && c->s.kernel_gs_base == 1);
    c->s.tsc_aux = 0x12345;
    CHECK_EQ(run(f, &rdpid_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RBX], 0x12345);
    fixture_free(f);
}

TEST(protection_key_rights)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 3);
    CHECK_EQ(run(f, &rdpkru_sem), X86_UD);
    CHECK_EQ(run(f, &wrpkru_sem), X86_UD);
    c->s.cr4 |= CR4_PKE;
    x86_read8(c, 0x5000, X86_DS);
    c->s.gpr[X86_RCX] = c->s.gpr[X86_RDX] = 0;
    c->s.gpr[X86_RAX] = 3;
    CHECK_EQ(run(f, &wrpkru_sem), -1);
    CHECK_RAISES(c, x86_read8(c, 0x5000, X86_DS), X86_PF, 0x25);
    c->s.gpr[X86_RDX] = 9;
    CHECK_EQ(run(f, &rdpkru_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 3);
    CHECK_EQ(c->s.gpr[X86_RDX], 0);
    c->s.gpr[X86_RDX] = 1;
    CHECK_EQ(run(f, &wrpkru_sem), X86_GP);
    c->s.gpr[X86_RCX] = 1;
    CHECK_EQ(run(f, &rdpkru_sem), X86_GP);
    fixture_free(f);
}

/* ---- identity, time, MSRs, randomness ---- */

TEST(time_stamps)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 3);
    CHECK_EQ(run(f, &rdtsc_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x55667788);
    CHECK_EQ(c->s.gpr[X86_RDX], 0x11223344);
    c->s.tsc_aux = 7;
    CHECK_EQ(run(f, &rdtscp_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RCX], 7);
    c->s.cr4 |= CR4_TSD;
    CHECK_EQ(run(f, &rdtsc_sem), X86_GP);
    CHECK_EQ(run(f, &rdtscp_sem), X86_GP);
    CHECK_EQ(run(f, &rdpmc_sem), X86_GP);
    fixture_long(f, 0);
    CHECK_EQ(run(f, &rdtsc_sem), -1);
    fixture_free(f);
}

TEST(msr_instructions)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    c->s.gpr[X86_RCX] = UINT64_C(0xffffffff00000000) | MSR_LSTAR;
    c->s.gpr[X86_RAX] = UINT64_C(0x1234567887654321);
    c->s.gpr[X86_RDX] = UINT64_C(0x12345678ffff8000);
    CHECK_EQ(run(f, &wrmsr_sem), -1);
    CHECK_EQ(c->s.lstar, UINT64_C(0xffff800087654321));
    c->s.gpr[X86_RAX] = c->s.gpr[X86_RDX] = 0;
    CHECK_EQ(run(f, &rdmsr_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x87654321);
    CHECK_EQ(c->s.gpr[X86_RDX], 0xffff8000);
    c->s.gpr[X86_RCX] = 0xc0010000;
    CHECK_EQ(run(f, &rdmsr_sem), X86_GP);
    CHECK_EQ(run(f, &wrmsr_sem), X86_GP);
    fixture_long(f, 3);
    c->s.gpr[X86_RCX] = MSR_LSTAR;
    CHECK_EQ(run(f, &rdmsr_sem), X86_GP);
    CHECK_EQ(run(f, &wrmsr_sem), X86_GP);
    fixture_free(f);
}

TEST(random_numbers)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    registers(f, 0, X86_RBX, 2);
    x86_set_status(c, FLAGS_STATUS);
    c->s.gpr[X86_RBX] = UINT64_MAX;
    CHECK_EQ(run(f, &rdrand_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RBX], UINT64_C(0xffffffffffff5c5c));
    CHECK_EQ(x86_rflags(c) & FLAGS_STATUS, FLAG_CF);
    c->host.random = NULL;
    registers(f, 0, X86_RBX, 8);
    uint64_t first, changed = 0;
    CHECK_EQ(run(f, &rdrand_sem), -1);
    first = c->s.gpr[X86_RBX];
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ(run(f, &rdrand_sem), -1);
        changed |= first ^ c->s.gpr[X86_RBX];
    }
    CHECK(changed != 0);
    fixture_free(f);
}

TEST(identity)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    c->s.gpr[X86_RAX] = UINT64_MAX << 32;
    CHECK_EQ(run(f, &cpuid_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x16);
    CHECK_EQ(c->s.gpr[X86_RBX], 0x756e6547);
    fixture_free(f);
}

TEST(stopping)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 3);
    CHECK_EQ(run(f, &hlt_sem), X86_GP);
    CHECK_EQ(run(f, &wbinvd_sem), X86_GP);
    CHECK_EQ(c->s.activity, X86_ACTIVE);
    CHECK_EQ(run(f, &pause_sem), -1);
    CHECK_EQ(c->pauses, 1);
    CHECK_EQ(run(f, &ud_sem), X86_UD);
    fixture_long(f, 0);
    CHECK_EQ(run(f, &wbinvd_sem), -1);
    CHECK_EQ(run(f, &hlt_sem), -1);
    CHECK_EQ(c->s.activity, X86_HALTED);
    CHECK_EQ(c->s.rip, AT_CODE + 2);
    fixture_free(f);
}

TESTS(T(table_registers), T(bases_of_fs_and_gs), T(protection_key_rights), T(time_stamps),
      T(msr_instructions), T(random_numbers), T(identity), T(stopping))
