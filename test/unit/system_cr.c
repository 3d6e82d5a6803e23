/* Control and debug registers, through the semantic functions of the instructions that move them.
 */
#include "system_rig.h"

SEM(mov_to_dr)
SEM(mov_from_dr)
SEM(lmsw)
SEM(smsw)
SEM(clts)
SEM(invlpg)
SEM(invpcid)

/* ---- control registers ---- */

TEST(cr0_refuses_impossible_modes)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 0);
    uint64_t before = c->s.cr0;
    CHECK_EQ(write_cr(f, 0, CR0_PG), X86_GP);
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_NW), X86_GP);
    CHECK_EQ(c->s.cr0, before);
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_NW | CR0_CD | 0xfff0), -1);
    CHECK_EQ(read_cr(f, 0), CR0_PE | CR0_NW | CR0_CD | CR0_ET | CR0_NE);
    CHECK_EQ(write_cr(f, 1, 0), X86_UD);
    CHECK_EQ(write_cr(f, 5, 0), X86_UD);
    fixture_protected(f, 3);
    CHECK_EQ(write_cr(f, 0, CR0_PE), X86_GP);
    CHECK_EQ(write_cr(f, 1, 0), X86_UD);

    fixture_long(f, 0);
    CHECK_EQ(write_cr(f, 0, c->s.cr0 | BIT(32)), X86_GP);
    CHECK_EQ(write_cr(f, 0, c->s.cr0 & ~(uint64_t)CR0_PG), X86_GP); /* from 64-bit code */
    fixture_free(f);
}

TEST(paging_with_lme_is_long_mode)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 0);
    c->s.efer = EFER_LME;
    c->s.tr.attr = SEG_P | DESC_TSS32_BUSY;
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), X86_GP); /* without PAE */
    CHECK_EQ(write_cr(f, 4, CR4_PAE), -1);
    c->s.tr.attr = SEG_P | DESC_TSS16_BUSY;
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), X86_GP);
    c->s.tr.attr = SEG_P | DESC_TSS32_BUSY;
    c->s.seg[X86_CS].attr |= SEG_L;
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), X86_GP);
    c->s.seg[X86_CS].attr &= ~(uint32_t)SEG_L;
    unsigned before = ports.remapped;
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), -1);
    CHECK(c->long_mode && (c->s.efer & EFER_LMA) && c->paging);
    CHECK(ports.remapped > before);
    /* Compatibility code may leave it again. */
    CHECK_EQ(c->code, X86_CODE32);
    CHECK_EQ(write_cr(f, 4, 0), X86_GP); /* PAE is needed meanwhile */
    CHECK_EQ(write_cr(f, 0, CR0_PE), -1);
    CHECK(!c->long_mode && !(c->s.efer & EFER_LMA));
    fixture_free(f);
}

TEST(pae_loads_its_pdptes)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_protected(f, 0);
    c->s.cr4 = CR4_PAE;
    store_u64(at(f, 0x20000), 0x21000 | 1);
    store_u64(at(f, 0x20008), 0x21000 | 3); /* a reserved bit */
    CHECK_EQ(write_cr(f, 3, 0x20000), -1);
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), X86_GP);
    CHECK(!c->paging);
    store_u64(at(f, 0x20008), 0);
    CHECK_EQ(write_cr(f, 0, CR0_PE | CR0_PG), -1);
    CHECK_EQ(c->s.pdpte[0], 0x21001);
    store_u64(at(f, 0x20020), BIT(50) | 1);
    CHECK_EQ(write_cr(f, 3, 0x20020), X86_GP);
    CHECK_EQ(c->s.cr3, 0x20000);
    CHECK_EQ(c->s.pdpte[0], 0x21001);
    fixture_free(f);
}

TEST(cr3_and_cr4_have_reserved_bits)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    uint64_t cr3 = c->s.cr3;
    CHECK_EQ(write_cr(f, 3, cr3 | BIT(40)), X86_GP);
    CHECK_EQ(write_cr(f, 3, cr3 | BIT(63)), X86_GP);
    CHECK_EQ(c->s.cr3, cr3);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_VMXE), X86_GP);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | BIT(32)), X86_GP);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_UMIP), -1);
    c->s.cr4 |= CR4_VMXE; /* a processor with more has let it be set */
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_TSD), -1);
    CHECK((c->s.cr4 & CR4_VMXE) && (c->s.cr4 & CR4_TSD));
    CHECK_EQ(write_cr(f, 4, c->s.cr4 & ~(uint64_t)(CR4_VMXE | CR4_TSD)), -1);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_VMXE), X86_GP);

    /* PCIDs: only in long mode, only from PCID 0, and paging can't be left with them. */
    CHECK_EQ(write_cr(f, 3, cr3 | 5), -1);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_PCIDE), X86_GP);
    CHECK_EQ(write_cr(f, 3, cr3), -1);
    CHECK_EQ(write_cr(f, 4, c->s.cr4 | CR4_PCIDE), -1);
    CHECK_EQ(write_cr(f, 3, cr3 | 5 | BIT(63)), -1);
    CHECK_EQ(c->s.cr3, cr3 | 5);
    c->s.seg[X86_CS] = cached(f, CODE0);
    x86_update_mode(c);
    CHECK_EQ(write_cr(f, 0, CR0_PE), X86_GP);
    c = fixture_protected(f, 0);
    c->s.efer = 0;
    c->s.cr0 = CR0_PE;
    c->s.cr4 = 0;
    x86_update_mode(c);
    CHECK_EQ(write_cr(f, 4, CR4_PCIDE), X86_GP);
    fixture_free(f);
}

TEST(cr2_and_cr8)
{
    struct fixture *f = machine();
    fixture_long(f, 0);
    CHECK_EQ(write_cr(f, 2, UINT64_C(0x8000000000001234)), -1);
    CHECK_EQ(read_cr(f, 2), UINT64_C(0x8000000000001234));
    CHECK_EQ(write_cr(f, 8, 9), -1);
    CHECK_EQ(ports.tpr, 9);
    CHECK_EQ(read_cr(f, 8), 9);
    CHECK_EQ(write_cr(f, 8, 16), X86_GP);
    CHECK_EQ(ports.tpr, 9);
    fixture_free(f);
}

TEST(machine_status_word)
{
    struct fixture *f = machine();
    struct x86_cpu *c = f->c;
    c->s.cr0 = CR0_ET | CR0_NE;
    registers(f, 0, X86_RBX, 2);
    c->s.gpr[X86_RBX] = CR0_PE | CR0_TS | 0xfff0;
    CHECK_EQ(run(f, &lmsw_sem), -1);
    CHECK_EQ(c->s.cr0, CR0_PE | CR0_TS | CR0_ET | CR0_NE);
    c->s.gpr[X86_RBX] = 0;
    CHECK_EQ(run(f, &lmsw_sem), -1);
    CHECK_EQ(c->s.cr0, CR0_PE | CR0_ET | CR0_NE); /* PE stays */
    c->s.cr0 |= CR0_TS;
    x86_update_mode(c);
    CHECK(c->no_x87 && c->no_sse);
    CHECK_EQ(run(f, &clts_sem), -1);
    CHECK(!c->no_x87);

    fixture_protected(f, 3);
    CHECK_EQ(run(f, &lmsw_sem), X86_GP);
    CHECK_EQ(run(f, &clts_sem), X86_GP);
    memory_operand(f, 0x5000, 4);
    store_u32(at(f, 0x5000), UINT32_MAX);
    CHECK_EQ(run(f, &smsw_sem), -1);
    CHECK_EQ(load_u32(at(f, 0x5000)), 0xffff0000 | (c->s.cr0 & 0xffff));
    c->s.cr4 |= CR4_UMIP;
    CHECK_EQ(run(f, &smsw_sem), X86_GP);
    fixture_free(f);
}

TEST(invalidations)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    memory_operand(f, 0x5000, 8);
    x86_read8(c, 0x5000, X86_DS);
    CHECK_EQ(run(f, &invlpg_sem), -1);
    CHECK(c->view[TLB_SUPERVISOR].entry[5].read != 0x5000);
    CHECK_EQ(ports.remapped, 1);

    registers(f, X86_RBX, 0, 8);
    memory_operand(f, 0x5000, 16);
    f->op.reg = X86_RBX;
    static const struct {
        uint64_t type, pcid, lin;
        int raises;
    } rows[] = {
        {0, 0, 0x1000, -1}, {0, 0, BIT(47), X86_GP}, {1, 0, BIT(47), -1},     {2, 0, 0, -1},
        {3, 0, 0, -1},      {4, 0, 0, X86_GP},       {0, 1, 0, X86_GP},       {1, 1, 0, X86_GP},
        {2, 1, 0, -1},      {2, 0x1000, 0, X86_GP},  {3, BIT(63), 0, X86_GP},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        c->s.gpr[X86_RBX] = rows[i].type;
        store_u64(at(f, 0x5000), rows[i].pcid);
        store_u64(at(f, 0x5008), rows[i].lin);
        CHECK_EQ(run(f, &invpcid_sem), rows[i].raises);
    }
    c->s.cr4 |= CR4_PCIDE;
    c->s.gpr[X86_RBX] = 1;
    store_u64(at(f, 0x5000), 1);
    CHECK_EQ(run(f, &invpcid_sem), -1);
    fixture_long(f, 3);
    CHECK_EQ(run(f, &invpcid_sem), X86_GP);
    CHECK_EQ(run(f, &invlpg_sem), X86_GP);
    fixture_free(f);
}

/* ---- debug registers ---- */

static int write_dr(struct fixture *f, unsigned dr, uint64_t v)
{
    registers(f, dr, X86_RBX, 8);
    f->c->s.gpr[X86_RBX] = v;
    return run(f, &mov_to_dr_sem);
}

TEST(debug_registers)
{
    struct fixture *f = machine();
    struct x86_cpu *c = fixture_long(f, 0);
    CHECK_EQ(write_dr(f, 0, UINT64_C(0x1234567812345678)), -1);
    CHECK_EQ(c->s.dr[0], UINT64_C(0x1234567812345678));
    CHECK_EQ(write_dr(f, 6, 0), -1);
    CHECK_EQ(c->s.dr[6], 0xffff0ff0);
    CHECK_EQ(write_dr(f, 6, UINT32_MAX), -1);
    CHECK_EQ(c->s.dr[6], 0xffffefff);
    CHECK_EQ(write_dr(f, 6, BIT(32)), X86_GP);
    CHECK_EQ(write_dr(f, 7, BIT(32)), X86_GP);
    CHECK_EQ(write_dr(f, 5, 0xd800), -1); /* an alias of DR7 */
    CHECK_EQ(c->s.dr[7], 0x400);
    registers(f, 4, X86_RCX, 8);
    CHECK_EQ(run(f, &mov_from_dr_sem), -1);
    CHECK_EQ(c->s.gpr[X86_RCX], 0xffffefff);
    c->s.cr4 |= CR4_DE;
    CHECK_EQ(run(f, &mov_from_dr_sem), X86_UD);
    CHECK_EQ(write_dr(f, 5, 0), X86_UD);
    CHECK_EQ(write_dr(f, 8, 0), X86_UD);

    /* A data breakpoint; then general detect. */
    CHECK_EQ(write_dr(f, 7, 1 | 1 << 16), -1);
    CHECK(c->debug_data);
    CHECK_EQ(write_dr(f, 7, DR7_GD), -1);
    CHECK(!c->debug_data);
    CHECK_EQ(write_dr(f, 0, 0), X86_DB);
    CHECK(c->s.dr[6] & DR6_BD);
    CHECK_EQ(c->s.dr[0], UINT64_C(0x1234567812345678));
    fixture_long(f, 3);
    CHECK_EQ(write_dr(f, 0, 0), X86_GP);
    fixture_free(f);
}

TESTS(T(cr0_refuses_impossible_modes), T(paging_with_lme_is_long_mode), T(pae_loads_its_pdptes),
      T(cr3_and_cr4_have_reserved_bits), T(cr2_and_cr8), T(machine_status_word), T(invalidations),
      T(debug_registers))
