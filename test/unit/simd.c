/*
 * MMX, SSE, AES, SHA and CRC32 against the processor underneath: every register and memory form of
 * these features is put together from its row in the forms' table, run natively and by its semantic
 * function, on random and on special operands, under every rounding mode and random exception
 * masks; registers, flags, MXCSR, memory and the fault taken must be the same.
 *
 * What the host can't run is left out. What it can't be asked, the control registers, is below.
 */
#include "simd_fixture.h"

#include "x86/forms.h"

/* ---- an instruction from its form ---- */

struct encoding {
    uint8_t prefix, map, opcode; /* map: 1 for 0F, 2 for 0F38, 3 for 0F3A */
    int group;                   /* ModRM.reg, or -1 */
    bool w1;
};

static bool parse_encoding(const char *text, struct encoding *e)
{
    *e = (struct encoding){.group = -1};
    bool opcode = false;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " ");
        if (n == 2 && e->map == 0 && strncmp(p, "NP", 2) != 0 && strncmp(p, "0F", 2) != 0)
            e->prefix = (uint8_t)strtoul(p, NULL, 16);
        else if (strncmp(p, "0F38", 4) == 0)
            e->map = 2;
        else if (strncmp(p, "0F3A", 4) == 0)
            e->map = 3;
        else if (n == 2 && strncmp(p, "0F", 2) == 0 && e->map == 0)
            e->map = 1;
        else if (n == 2 && e->map && !opcode && p[0] != '/') {
            e->opcode = (uint8_t)strtoul(p, NULL, 16);
            opcode = true;
        } else if (n == 2 && p[0] == '/' && p[1] != 'r')
            e->group = p[1] - '0';
        else if (strncmp(p, "W1", 2) == 0)
            e->w1 = true;
        p += n;
        p += strspn(p, " ");
    }
    return opcode;
}

static bool has_kind(const struct x86_form *f, const char *kinds)
{
    static const struct {
        char letter;
        uint8_t kind;
    } map[] = {{'V', OPK_V}, {'W', OPK_W}, {'U', OPK_U}, {'P', OPK_P}, {'Q', OPK_Q}, {'N', OPK_N},
               {'E', OPK_E}, {'G', OPK_G}, {'R', OPK_R}, {'M', OPK_M}, {'I', OPK_I}};
    for (unsigned i = 0; i < ARRAY_LEN(f->operand); i++)
        for (unsigned j = 0; j < ARRAY_LEN(map); j++)
            if (f->operand[i].kind == map[j].kind && strchr(kinds, map[j].letter))
                return true;
    return false;
}

static bool has_type(const struct x86_form *f, unsigned type)
{
    for (unsigned i = 0; i < ARRAY_LEN(f->operand); i++)
        if (f->operand[i].type == type)
            return true;
    return false;
}

/* Ours to test: what lies between MMX and SHA and works on vectors. */
static bool is_ours(const struct x86_form *f, const struct sem *sem)
{
    static const char *const others[] = {"crc32", "movnti"};
    if (!sem || !sem->any || !f->sem)
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(f->sem, others[i]) == 0)
            return true;
    return has_kind(f, "VWUPQN") && (f->flags & X86_FORM_MODRM) &&
           !(f->flags & (X86_FORM_VEX | X86_FORM_EVEX));
}

struct trial {
    const struct x86_form *form;
    const struct sem *sem;
    struct encoding encoding;
    bool memory;
    struct op op;
    uint8_t code[16];
    unsigned length;
};

static unsigned size_of(const struct trial *t, bool wide)
{
    const struct x86_form *f = t->form;
    if (strcmp(f->sem, "crc32") == 0 && (f->flags & X86_FORM_RM_BYTE))
        return 1;
    if (strncmp(f->sem, "cvt", 3) == 0 && has_kind(f, "EG"))
        return wide ? 8 : 4;
    if (!has_kind(f, "VWUPQN"))
        return wide ? 8 : 4;
    return has_kind(f, "VWU") ? 16 : 8;
}

/* Random registers out of the first three and a random immediate, as machine code and as op. */
static void assemble(struct trial *t)
{
    const struct encoding *e = &t->encoding;
    bool wide = e->w1 || ((has_type(t->form, OPT_Y) || has_type(t->form, OPT_V)) && below(2));
    unsigned reg = e->group >= 0 ? (unsigned)e->group : below(3), rm = below(3);
    bool stores = t->form->flags & X86_FORM_STORE;
    t->op = (struct op){.size = (uint8_t)size_of(t, wide),
                        .ea = t->memory ? EA_FLAT : EA_REG,
                        .reg = (uint8_t)reg,
                        .rm = (uint8_t)rm,
                        .base = X86_RDI,
                        .index = X86_GPR_ZERO,
                        .seg = X86_DS,
                        .flags = stores ? OPF_STORE : 0};
    if (t->form->flags & X86_FORM_RM_BYTE)
        t->op.rm = (uint8_t)(rm * 8);
    uint8_t *p = t->code;
    if (e->prefix)
        *p++ = e->prefix;
    if (wide)
        *p++ = 0x48;
    *p++ = 0x0f;
    if (e->map > 1)
        *p++ = e->map == 2 ? 0x38 : 0x3a;
    *p++ = e->opcode;
    *p++ = (uint8_t)(t->memory ? reg << 3 | 7 : 0xc0 | reg << 3 | rm);
    if (has_kind(t->form, "I")) {
        *p = (uint8_t)(below(4) ? random64() : below(16));
        t->op.imm = *p++;
    }
    *p++ = 0xc3;
    t->length = (unsigned)(p - t->code);
}

/* ---- one trial: the same state into both ---- */

/* Approximations may differ by twice their relative error of 1.5 * 2^-12, in units of 2^-23. */
static bool close_enough(uint32_t a, uint32_t b)
{
    int64_t d = (int64_t)a - (int64_t)b;
    return a == b || (d < 2 * 1.5 * 2048 + 2 && d > -(2 * 1.5 * 2048 + 2));
}

static bool same_vectors(const struct trial *t, const uint8_t *a, const uint8_t *b)
{
    bool approximate = strncmp(t->form->sem, "rcp", 3) == 0 || strncmp(t->form->sem, "rsq", 3) == 0;
    if (!approximate)
        return memcmp(a, b, 256) == 0;
    for (unsigned i = 0; i < 256; i += 4)
        if (!close_enough(load_u32(a + i), load_u32(b + i)))
            return false;
    return true;
}

/* False: they differ (and it is said how). *unsupported: the host raised #UD. */
static bool run_trial(struct trial *t, bool *unsupported)
{
    struct native before, host, ours;
    assemble(t);
    memcpy(code_page, t->code, t->length);
    random_state_into(&before);

    /* The operand ends where memory does, if it is aligned as it mostly is. */
    unsigned bytes = t->memory ? 0 : 16;
    for (unsigned i = 0; t->memory && i < ARRAY_LEN(t->form->operand); i++) {
        unsigned kind = t->form->operand[i].kind;
        struct x86_insn insn = {.form = (uint16_t)(t->form - x86_forms),
                                .opsize = t->op.size,
                                .is_mem = true,
                                .mode64 = true,
                                .rex = t->op.size == 8 ? 0x48 : 0};
        if (kind == OPK_W || kind == OPK_Q || kind == OPK_M || kind == OPK_E)
            bytes = x86_operand_size(&insn, i);
    }
    unsigned back = below(8) ? bytes : bytes + below(17);
    uint8_t window[WINDOW];
    union simd_lane operand[WINDOW / 16];
    for (unsigned i = 0; i < ARRAY_LEN(operand); i++)
        random_lane(&operand[i]);
    /* What the instruction reads starts with a whole lane. */
    for (unsigned i = 0; i < WINDOW; i++)
        window[(WINDOW - back + i) % WINDOW] = operand[i / 16].u8[i % 16];
    uint8_t *host_window = native_ram + 4096 - WINDOW;
    uint8_t *our_window = memory_hva(&ram, RAM_SIZE - WINDOW);
    memcpy(host_window, window, WINDOW);
    memcpy(our_window, window, WINDOW);

    host = before;
    host.rdi = (uint64_t)(uintptr_t)(native_ram + 4096 - back);
    int host_fault = run_native(&host, code_page);
    if (host_fault == X86_UD) {
        *unsupported = true;
        return true;
    }

    load_ours(&before);
    cpu->s.gpr[X86_RDI] = RAM_SIZE - back;
    outside_reads = 0;
    int our_fault = run_ours(t->sem, &t->op);
    ours = before;
    store_ours(&ours);

    bool same = host_fault == our_fault && same_vectors(t, host.fx + 160, ours.fx + 160) &&
                same_x87(host.fx, ours.fx) && load_u32(host.fx + 24) == load_u32(ours.fx + 24) &&
                ((host.flags ^ ours.flags) & FLAGS_STATUS) == 0 && host.rax == ours.rax &&
                host.rcx == ours.rcx && host.rdx == ours.rdx && outside_reads == 0 &&
                memcmp(host_window, our_window, WINDOW) == 0;
    if (!same) {
        printf("# %s %s (%s) reg %u rm %u%s imm %02x, %u accesses outside\n", t->form->mnemonic,
               t->form->operands, t->form->encoding, t->op.reg, t->op.rm,
               t->memory ? " memory" : "", (unsigned)t->op.imm, outside_reads);
        print_state("before", &before, -1);
        if (t->memory)
            print_bytes("mem ", window + WINDOW - back, bytes);
        print_state("host", &host, host_fault);
        print_state("ours", &ours, our_fault);
        if (t->memory) {
            print_bytes("host memory ", host_window, WINDOW);
            print_bytes("our memory  ", our_window, WINDOW);
        }
    }
    return same;
}

enum { TRIALS = 1200 };

static void try_form(unsigned index, bool memory, unsigned *tried, unsigned *skipped)
{
    struct trial t = {.form = &x86_forms[index], .sem = x86_form_sem[index], .memory = memory};
    if (!is_ours(t.form, t.sem))
        return;
    if (memory ? !has_kind(t.form, "WQEM") : !has_kind(t.form, "WQEUNR"))
        return;
    bool parsed = parse_encoding(t.form->encoding, &t.encoding);
    CHECK(parsed);
    bool unsupported = false;
    for (unsigned i = 0; parsed && i < TRIALS && !unsupported; i++) {
        if (!run_trial(&t, &unsupported)) {
            test_failed = true;
            return;
        }
    }
    *(unsupported ? skipped : tried) += 1;
}

static void try_all(bool memory, unsigned at_least)
{
    unsigned tried = 0, skipped = 0;
    CHECK(set_up());
    if (!cpu)
        return;
    for (unsigned i = 0; i < x86_form_count; i++)
        try_form(i, memory, &tried, &skipped);
    printf("# %u forms tried, %u not offered by this host\n", tried, skipped);
    CHECK(tried + skipped >= at_least);
}

TEST(register_forms_do_what_silicon_does)
{
    try_all(false, 280);
}

TEST(memory_forms_do_what_silicon_does)
{
    try_all(true, 250);
}

/* ---- control registers ---- */

extern const struct sem paddb_sem, divps_sem, movaps_sem;

static int with_control(const struct sem *sem, unsigned size, uint64_t cr0, uint64_t cr4)
{
    struct op op = {.size = (uint8_t)size, .ea = EA_REG, .reg = 1, .rm = 2};
    cpu->s.cr0 = cr0;
    cpu->s.cr4 = cr4;
    x86_update_mode(cpu);
    return run_ours(sem, &op);
}

TEST(control_registers_switch_sse_and_mmx_off)
{
    CHECK(fresh());
    const uint64_t cr0 = CR0_PE | CR0_NE, cr4 = CR4_OSFXSR;
    CHECK_EQ(with_control(&paddb_sem, 16, cr0, cr4), -1);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0, 0), X86_UD);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0 | CR0_EM, cr4), X86_UD);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0 | CR0_TS, cr4), X86_NM);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0 | CR0_TS | CR0_EM, cr4), X86_UD);
    CHECK_EQ(with_control(&paddb_sem, 8, cr0, 0), -1);
    CHECK_EQ(with_control(&paddb_sem, 8, cr0 | CR0_EM, cr4), X86_UD);
    CHECK_EQ(with_control(&paddb_sem, 8, cr0 | CR0_TS, cr4), X86_NM);
    cpu->s.fcw = 0x37e; /* a pending invalid operation */
    cpu->s.fsw = 0x8081;
    CHECK_EQ(with_control(&paddb_sem, 8, cr0, cr4), X86_MF);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0, cr4), -1);
}

extern const struct sem vpaddb_sem, vzeroupper_sem;

static int with_avx(uint64_t cr0, uint64_t cr4, uint64_t xcr0)
{
    cpu->s.xcr0 = xcr0;
    int zero = with_control(&vzeroupper_sem, 16, cr0, cr4);
    int add = with_control(&vpaddb_sem, 32, cr0, cr4);
    CHECK_EQ(zero, add);
    return add;
}

TEST(avx_must_be_enabled)
{
    CHECK(fresh());
    const uint64_t cr0 = CR0_PE | CR0_NE, cr4 = CR4_OSXSAVE, all = XCR0_X87 | XCR0_VECTORS;
    CHECK_EQ(with_avx(cr0, cr4, all), -1);
    CHECK_EQ(with_avx(cr0 | CR0_EM, cr4, all), -1);
    CHECK_EQ(with_avx(cr0 | CR0_TS, cr4, all), X86_NM);
    CHECK_EQ(with_avx(cr0, 0, all), X86_UD);
    CHECK_EQ(with_avx(cr0, CR4_OSFXSR, all), X86_UD);
    CHECK_EQ(with_avx(cr0, cr4, XCR0_X87 | XCR0_SSE), X86_UD);
    CHECK_EQ(with_avx(cr0, cr4, XCR0_X87), X86_UD);
    CHECK_EQ(with_avx(cr0 | CR0_TS, 0, all), X86_UD);
}

TEST(vex_128_forms_clear_the_upper_half_of_ymm)
{
    CHECK(fresh());
    cpu->s.xcr0 = XCR0_X87 | XCR0_VECTORS;
    x86_update_mode(cpu);
    for (unsigned i = 0; i < 4; i++)
        cpu->s.vec[1].u64[i] = cpu->s.vec[2].u64[i] = 0x1111111111111111 * (i + 1);
    struct op op = {.size = 16, .ea = EA_REG, .reg = 1, .rm = 2, .cc = 2};
    CHECK_EQ(run_ours(&vpaddb_sem, &op), -1);
    CHECK_EQ(cpu->s.vec[1].u64[1], 0x4444444444444444);
    CHECK_EQ(cpu->s.vec[1].u64[2] | cpu->s.vec[1].u64[3], 0);
    op.size = 32;
    CHECK_EQ(run_ours(&vpaddb_sem, &op), -1);
    CHECK_EQ(cpu->s.vec[1].u64[3], 0x8888888888888888);
}

TEST(unmasked_simd_exceptions_are_xm_or_ud)
{
    CHECK(fresh());
    const uint64_t cr0 = CR0_PE | CR0_NE, cr4 = CR4_OSFXSR;
    *xmm(cpu, 1) = (union simd_lane){.u32 = {0x3f800000, 0, 0, 0}};
    *xmm(cpu, 2) = (union simd_lane){.u32 = {0, 0x3f800000, 0x3f800000, 0x3f800000}};
    cpu->s.mxcsr = 0x1f80 & ~(uint32_t)(SF_ZE << 7);
    CHECK_EQ(with_control(&divps_sem, 16, cr0, cr4), X86_UD);
    CHECK_EQ(with_control(&divps_sem, 16, cr0, cr4 | CR4_OSXMMEXCPT), X86_XM);
    CHECK_EQ(cpu->s.mxcsr & SF_ALL, SF_ZE);
    CHECK_EQ(xmm(cpu, 1)->u32[0], 0x3f800000);
    cpu->s.mxcsr = 0x1f80;
    CHECK_EQ(with_control(&divps_sem, 16, cr0, cr4), -1);
    CHECK_EQ(xmm(cpu, 1)->u32[0], 0x7f800000);
}

TEST(legacy_instructions_keep_the_upper_half_of_ymm)
{
    CHECK(fresh());
    for (unsigned i = 0; i < 4; i++)
        cpu->s.vec[1].u64[i] = cpu->s.vec[2].u64[i] = 0x1111111111111111 * (i + 1);
    struct op op = {.size = 16, .ea = EA_REG, .reg = 1, .rm = 2};
    CHECK_EQ(run_ours(&paddb_sem, &op), -1);
    CHECK_EQ(run_ours(&movaps_sem, &op), -1);
    CHECK_EQ(cpu->s.vec[1].u64[0], 0x1111111111111111);
    CHECK_EQ(cpu->s.vec[1].u64[2], 0x3333333333333333);
    CHECK_EQ(cpu->s.vec[1].u64[3], 0x4444444444444444);
}

TESTS(T(register_forms_do_what_silicon_does), T(memory_forms_do_what_silicon_does),
      T(control_registers_switch_sse_and_mmx_off), T(avx_must_be_enabled),
      T(vex_128_forms_clear_the_upper_half_of_ymm), T(unmasked_simd_exceptions_are_xm_or_ud),
      T(legacy_instructions_keep_the_upper_half_of_ymm))
