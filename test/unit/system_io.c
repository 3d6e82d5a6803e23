/* IN, OUT and their string forms: what reaches the ports, and what the TSS lets through. */
#include "system_rig.h"

SEM(in_i)
SEM(in_dx)
SEM(out_i)
SEM(out_dx)
SEM(ins)
SEM(outs)

/* ---- ports ---- */

TEST(in_and_out)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    f->op.size = 1;
    f->op.imm = UINT64_C(0xffffffffffffff80); /* as a sign-extended byte */
    ports.next = 0x11223344;
    c->s.gpr[X86_RAX] = 0x8877665544332211;
    CHECK_EQ(run(f, &in_i_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x8877665544332244);
    CHECK_EQ(ports.last.port, 0x80);
    f->op.size = 4;
    c->s.gpr[X86_RDX] = 0xffffcf8;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RAX], 0x11223345);
    CHECK_EQ(ports.last.port, 0xfcf8);
    f->op.size = 2;
    CHECK_EQ(run(f, &out_dx_sem), -1);
    CHECK_EQ(ports.last.value, 0x3345);
    CHECK_EQ(ports.last.size, 2);
    CHECK_EQ(run(f, &out_i_sem), -1);
    CHECK_EQ(ports.last.port, 0x80);
    fixture_free(f);
}

TEST(ports_are_guarded_by_the_bitmap)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 3);
    enum { MAP = 0x68 };
    f->op.size = 1;
    c->s.gpr[X86_RDX] = 0x3f8;
    store_u16(at(f, AT_TSS + 102), MAP);
    memset(at(f, AT_TSS + MAP), 0xff, 0x90);
    c->s.tr.limit = MAP + 0x80;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    *at(f, AT_TSS + MAP + 0x3f8 / 8) = 0xfe;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    f->op.size = 2;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    *at(f, AT_TSS + MAP + 0x3f8 / 8) = 0xf0;
    f->op.size = 4;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    /* Over the edge of a byte. */
    c->s.gpr[X86_RDX] = 0x3f7;
    f->op.size = 2;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    *at(f, AT_TSS + MAP + 0x3f0 / 8) = 0x7f;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    /* Both bytes must be inside of the TSS. */
    c->s.gpr[X86_RDX] = 0x3f8;
    f->op.size = 1;
    c->s.tr.limit = MAP + 0x3f8 / 8;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    c->s.tr.limit++;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    /* IOPL lets it pass, but not virtual-8086 mode; a 16-bit TSS has no map. */
    c->s.tr.attr = (c->s.tr.attr & ~(uint32_t)SEG_TYPE) | DESC_TSS16_BUSY;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    c->s.rflags |= FLAG_IOPL;
    CHECK_EQ(run(f, &in_dx_sem), -1);
    c->s.rflags |= FLAG_VM;
    x86_update_mode(c);
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    unsigned reads = ports.reads;
    CHECK_EQ(run(f, &in_dx_sem), X86_GP);
    CHECK_EQ(ports.reads, reads);
    fixture_free(f);
}

TEST(string_io_restarts)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 0);
    f->op.size = 2;
    f->op.flags = OPF_REP | OPF_ADDR32;
    f->op.seg = X86_DS;
    c->s.gpr[X86_RDX] = 0x1f0;
    c->s.gpr[X86_RDI] = 0x6000;
    c->s.gpr[X86_RCX] = 256;
    atomic_store(&c->request, 0);
    unsigned runs = 0;
    do {
        CHECK_EQ(run(f, &ins_sem), -1);
        runs++;
    } while (c->s.rip == AT_CODE && runs < 100);
    CHECK_EQ(c->s.rip, AT_CODE + 2);
    CHECK(runs > 1 && runs < 20);
    CHECK_EQ(c->s.gpr[X86_RCX], 0);
    CHECK_EQ(c->s.gpr[X86_RDI], 0x6200);
    for (unsigned i = 0; i < 256; i++)
        CHECK_EQ(load_u16(at(f, 0x6000 + 2 * i)), i);

    /* Something waits: one element, then a look. */
    atomic_store(&c->request, X86_REQUEST_INTR);
    c->s.gpr[X86_RSI] = 0x6010;
    c->s.gpr[X86_RCX] = 3;
    c->s.rflags |= FLAG_DF;
    CHECK_EQ(run(f, &outs_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RCX], 2);
    CHECK_EQ(c->s.gpr[X86_RSI], 0x600e);
    CHECK_EQ(c->s.rip, AT_CODE);
    CHECK_EQ(ports.last.value, 8);
    /* Nothing to do touches nothing. */
    c->s.gpr[X86_RCX] = 0;
    unsigned reads = ports.reads;
    CHECK_EQ(run(f, &ins_sem), -1);
    CHECK_EQ(ports.reads, reads);
    CHECK_EQ(c->s.rip, AT_CODE + 2);
    fixture_free(f);
}

TEST(a_fault_loses_no_input)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    f->op.size = 4;
    f->op.flags = OPF_REP;
    c->s.gpr[X86_RDI] = 0x1ffff8; /* two elements, then the end of what is mapped */
    c->s.gpr[X86_RCX] = 5;
    atomic_store(&c->request, 0);
    CHECK_EQ(run(f, &ins_sem), X86_PF);
    CHECK_EQ(c->s.cr2, 0x200000);
    CHECK_EQ(c->s.gpr[X86_RCX], 3);
    CHECK_EQ(c->s.gpr[X86_RDI], 0x200000);
    CHECK_EQ(ports.reads, 2);
    fixture_free(f);
}

TESTS(T(in_and_out), T(ports_are_guarded_by_the_bitmap), T(string_io_restarts),
      T(a_fault_loses_no_input))
