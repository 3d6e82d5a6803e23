#include "generate.h"

#include <string.h>

#include "encode.h"
#include "shape.h"
#include "values.h"

/* ---- the memory operand ---- */

static bool is_memory_kind(unsigned kind)
{
    switch (kind) {
    case OPK_E:
    case OPK_KE:
    case OPK_M:
    case OPK_O:
    case OPK_Q:
    case OPK_W:
    case OPK_X:
    case OPK_Y: return true;
    default: return false;
    }
}

static unsigned operand_size(const struct silicon_case *c)
{
    unsigned size = 0;
    const struct x86_form *f = &x86_forms[c->form];
    for (unsigned i = 0; i < ARRAY_LEN(f->operand); i++) {
        if (!is_memory_kind(f->operand[i].kind))
            continue;
        unsigned n =
            f->operand[i].type == OPT_XS ? 576 + CASE_UPPER : x86_operand_size(&c->insn, i);
        size = n > size ? n : size;
    }
    return size ? size : 8;
}

/* A scatter as well. */
static bool is_gather(const struct silicon_case *c)
{
    return x86_form_has(&x86_forms[c->form], OPK_MV);
}

static uint64_t segment_base(const struct silicon_case *c)
{
    bool wide = c->code == X86_CODE64;
    switch (c->insn.segment) {
    case X86_FS: return wide ? CASE_FS64_BASE : CASE_FS32_BASE;
    case X86_GS: return wide ? CASE_GS64_BASE : CASE_GS32_BASE;
    default: return 0;
    }
}

static uint64_t address_mask(const struct silicon_case *c)
{
    return c->insn.addrsize == 8 ? UINT64_MAX : bits_mask(c->insn.addrsize * 8u);
}

/* Sets a register that takes part in an address; what the address size cuts off is random. */
static void set_address_register(struct rng *r, struct silicon_case *c, unsigned reg, uint64_t v)
{
    uint64_t mask = address_mask(c);
    uint64_t above = rng_one_in(r, 2) ? rng_next(r) : 0;
    c->before.gpr[reg] = (v & mask) | (above & ~mask);
    if (c->code != X86_CODE64)
        c->before.gpr[reg] = (uint32_t)c->before.gpr[reg];
}

static void patch_code(struct silicon_case *c, unsigned at, uint64_t v, unsigned size)
{
    memcpy(c->bytes + at, &v, size);
    x86_decode(c->bytes, c->len, c->code, &c->insn);
}

/* Makes the operand's offset what it should be, by its registers or else its displacement. */
static void aim(struct rng *r, struct silicon_case *c, uint64_t offset, unsigned disp_at,
                unsigned disp_size)
{
    const struct x86_insn *i = &c->insn;
    uint64_t rest = offset - (uint64_t)i->disp;
    if (x86_forms[c->form].operand[0].kind == OPK_O ||
        x86_forms[c->form].operand[1].kind == OPK_O) {
        patch_code(c, c->len - i->addrsize, offset, i->addrsize);
    } else if (i->base == X86_BASE_RIP) {
        patch_code(c, disp_at, offset - c->before.rip - c->len, disp_size);
    } else if (i->base == X86_NO_REG && i->index == X86_NO_REG) {
        patch_code(c, disp_at, offset, disp_size);
    } else if (i->base == X86_NO_REG) {
        set_address_register(r, c, i->index, rest >> i->scale);
    } else if (i->base == i->index) {
        set_address_register(r, c, i->base, rest / ((1u << i->scale) + 1));
    } else {
        uint64_t index = i->index == X86_NO_REG ? 0 : c->before.gpr[i->index] << i->scale;
        set_address_register(r, c, i->base, rest - index);
    }
}

/* The linear address that came of it. */
static uint64_t effective_address(const struct silicon_case *c)
{
    const struct x86_insn *i = &c->insn;
    uint64_t a = (uint64_t)i->disp;
    if (i->base == X86_BASE_RIP)
        a += c->before.rip + c->len;
    else if (i->base != X86_NO_REG)
        a += c->before.gpr[i->base];
    if (i->index != X86_NO_REG)
        a += c->before.gpr[i->index] << i->scale;
    a = (a & address_mask(c)) + segment_base(c);
    return c->code == X86_CODE64 ? a : (uint32_t)a;
}

/* ---- data ---- */

static void add_patch(struct silicon_case *c, uint64_t lin, const uint8_t *bytes, unsigned size)
{
    uint64_t at = lin - CASE_DATA;
    if (c->patches == CASE_PATCHES || at >= CASE_WRITABLE)
        return;
    struct case_patch *p = &c->patch[c->patches++];
    p->at = (uint16_t)at;
    p->size = (uint16_t)(size < CASE_WRITABLE - at ? size : CASE_WRITABLE - at);
    memcpy(p->bytes, bytes, p->size);
}

static void random_bytes(struct rng *r, uint8_t *to, unsigned size)
{
    for (unsigned i = 0; i < size; i += 16) {
        uint8_t lane[16];
        value_lane(r, lane);
        memcpy(to + i, lane, size - i < 16 ? size - i : 16);
    }
}

static void patch_operand(struct rng *r, struct silicon_case *c)
{
    uint8_t bytes[CASE_PATCH];
    unsigned size = c->operand_size < CASE_PATCH ? c->operand_size : CASE_PATCH;
    random_bytes(r, bytes, size);
    add_patch(c, c->operand, bytes, shape_operand(r, c, bytes, size));
}

/* What RET and POP find: code addresses, half of the time. */
static void patch_stack(struct rng *r, struct silicon_case *c)
{
    uint8_t bytes[32];
    random_bytes(r, bytes, sizeof bytes);
    unsigned slot = c->code == X86_CODE64 ? 8 : 4;
    for (unsigned i = 0; i < sizeof bytes; i += slot) {
        uint64_t v = rng_one_in(r, 2) ? value_code_pointer(r) : value_gpr(r);
        memcpy(bytes + i, &v, slot);
    }
    add_patch(c, c->before.gpr[X86_RSP], bytes, sizeof bytes);
}

static void patch_string(struct rng *r, struct silicon_case *c, unsigned reg)
{
    uint8_t bytes[64];
    random_bytes(r, bytes, sizeof bytes);
    if (rng_one_in(r, 2))
        memset(bytes, bytes[0], sizeof bytes); /* so that comparisons go on for a while */
    add_patch(c, c->before.gpr[reg] & address_mask(c), bytes, sizeof bytes);
}

/* ---- registers ---- */

static uint64_t random_rsp(struct rng *r, unsigned code)
{
    if (rng_one_in(r, 12))
        return value_address(r, 8, code);
    uint64_t at = CASE_DATA + 0x400 + rng_below(r, 0x180) * 16;
    return rng_one_in(r, 6) ? at + rng_below(r, 16) : at;
}

static uint64_t random_rip(struct rng *r, unsigned len)
{
    switch (rng_below(r, 40)) {
    case 0: return CASE_CODE + CASE_PAGE - rng_below(r, len + 1);
    case 1: return CASE_CODE + CASE_CODE_SIZE - len + rng_below(r, len);
    case 2: return CASE_CODE + CASE_CODE_SIZE - len;
    default: return CASE_CODE + 0x400 + rng_below(r, 0x400);
    }
}

static uint64_t random_rflags(struct rng *r)
{
    uint64_t f = FLAG_1 | FLAG_IF | (rng_next(r) & FLAGS_STATUS);
    f |= rng_one_in(r, 4) ? FLAG_DF : 0;
    f |= rng_one_in(r, 10) ? FLAG_AC : 0;
    return rng_one_in(r, 16) ? f | FLAG_TF : f;
}

/* Masks of all, few or some elements. */
static uint64_t random_mask(struct rng *r)
{
    switch (rng_below(r, 5)) {
    case 0: return UINT64_MAX;
    case 1: return UINT64_C(1) << rng_below(r, 64) | UINT64_C(1) << rng_below(r, 16);
    case 2: return rng_below(r, 2) ? 0 : rng_next(r) & rng_next(r) & rng_next(r);
    case 3: return (UINT64_C(1) << rng_below(r, 64)) - 1;
    default: return rng_next(r);
    }
}

static void random_avx512(struct rng *r, struct silicon_case *c)
{
    struct case_regs *s = &c->before;
    memset(s->masks, 0, sizeof s->masks);
    memset(s->zmm_upper, 0, sizeof s->zmm_upper);
    memset(s->zmm_more, 0, sizeof s->zmm_more);
    if (!c->avx512)
        return;
    for (unsigned i = 0; i < sizeof s->masks; i += 8) {
        uint64_t mask = random_mask(r);
        memcpy(s->masks + i, &mask, 8);
    }
    for (unsigned i = 0; i < sizeof s->zmm_upper; i += 16)
        value_lane(r, s->zmm_upper + i);
    for (unsigned i = 0; i < sizeof s->zmm_more; i += 16)
        value_lane(r, s->zmm_more + i);
}

static void random_registers(struct rng *r, struct silicon_case *c)
{
    struct case_regs *s = &c->before;
    bool wide = c->code == X86_CODE64;
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = wide ? value_gpr(r) : i < 8 ? (uint32_t)value_gpr(r) : 0;
    s->gpr[X86_RSP] = random_rsp(r, c->code);
    s->rip = random_rip(r, c->len);
    s->rflags = random_rflags(r);
    value_fx(r, s->fx);
    for (unsigned i = 0; i < sizeof s->upper; i += 16)
        value_lane(r, s->upper + i);
    random_avx512(r, c);
}

/* ---- branches ---- */

/* A target behind, before or far from the instruction; never inside of it, where its own bytes
 * would be code. */
static bool fix_branch(struct rng *r, struct silicon_case *c)
{
    const struct x86_form *f = &x86_forms[c->form];
    if (f->operand[0].kind != OPK_J)
        return true;
    unsigned size = f->operand[0].type == OPT_B ? 1 : c->insn.opsize == 2 ? 2 : 4;
    if (size == 4 && rng_below(r, 8))
        patch_code(c, c->len - 4, (uint64_t)((int64_t)rng_below(r, 0x1000) - 0x800), 4);
    return (uint64_t)(c->insn.imm + c->len) >= c->len;
}

/* Where Intel's and AMD's processors differ on purpose; the model is of Intel's kind. */

/* 66 on a near branch in 64-bit code: ignored, or a 16-bit RIP (SDM 2, 2.2.1.7; APM 3, 1.2.7). */
static bool is_short_branch(const struct silicon_case *c)
{
    unsigned branch = X86_FORM_F64 | X86_FORM_BRANCH;
    return c->code == X86_CODE64 && (x86_forms[c->form].flags & branch) == branch &&
           (c->insn.prefixes & X86_PREFIX_OPSIZE);
}

/* F2 and F3 on LOOPcc: reserved (SDM 2, 2.1.1), or they choose the condition. */
static bool is_repeated_loop(const struct silicon_case *c)
{
    return c->insn.map == 0 && (c->insn.opcode & 0xfe) == 0xe0 &&
           (c->insn.prefixes & (X86_PREFIX_REP | X86_PREFIX_REPNE));
}

/* 0F 0D with a register: NOP, or #UD. */
static bool is_prefetch_of_register(const struct silicon_case *c)
{
    return c->insn.map == 1 && c->insn.opcode == 0x0d && !c->insn.is_mem;
}

/* UD0 and UD1 have a ModRM byte and what follows from it, or none: seen at the end of a page. */
static bool is_ud_at_page_end(const struct silicon_case *c)
{
    uint64_t last = c->before.rip + c->len - 1;
    return strncmp(x86_forms[c->form].mnemonic, "ud", 2) == 0 &&
           (last ^ c->before.rip) >= CASE_PAGE;
}

/* LOCK on MOV from and to CR0 (#UD, or CR8 is meant), and on VERR and VERW. */
static bool is_locked_system(const struct silicon_case *c)
{
    bool cr0 = c->insn.opcode == 0x20 || c->insn.opcode == 0x22, verr = c->insn.opcode == 0;
    return c->insn.map == 1 && (cr0 || verr) && (c->insn.prefixes & X86_PREFIX_LOCK);
}

/* VEX.W set on VPEXTRD and VPINSRD outside of 64-bit code: ignored, or #UD. */
static bool is_wide_element(const struct silicon_case *c)
{
    bool ours = c->insn.map == 3 && (c->insn.opcode == 0x16 || c->insn.opcode == 0x22);
    return ours && (c->insn.prefixes & X86_PREFIX_VEX) && !c->insn.mode64 && (c->insn.rex & 8);
}

static bool maker_decides(const struct silicon_case *c)
{
    return is_wide_element(c) || is_short_branch(c) || is_locked_system(c) || is_repeated_loop(c) ||
           is_prefetch_of_register(c) || is_ud_at_page_end(c);
}

/* An offset through FS or GS that is not canonical, while the linear address is: nothing, or #GP.
 */
static bool maker_decides_offset(const struct silicon_case *c)
{
    const uint64_t *g = c->before.gpr;
    if (c->code != X86_CODE64 || c->insn.segment < X86_FS)
        return false;
    if (c->insn.is_mem)
        return is_gather(c) || !x86_canonical(c->operand - segment_base(c));
    return !x86_canonical(g[X86_RSI]) || !x86_canonical(g[X86_RDI]) || !x86_canonical(g[X86_RBX]);
}

/* An operand that wraps round at the address size's end. */
static bool wraps(const struct silicon_case *c)
{
    uint64_t mask = address_mask(c), first = (c->operand - segment_base(c)) & mask;
    return c->insn.is_mem && first + c->operand_size - 1 > mask;
}

/* Extended numbers and images of the x87's state that are not aligned, through a segment that may
 * forbid them: #GP or #AC first. */
static bool is_bad_image(const struct silicon_case *c)
{
    bool special = c->insn.segment == X86_CS || c->insn.segment >= X86_FS;
    return c->code == X86_CODE32 && special && (c->before.rflags & FLAG_AC) &&
           (c->operand_size == 10 || c->operand_size == 14 || c->operand_size > 16);
}

/* Accessed element by element: alignment may be checked of each, and each be canonical or not. */
static bool is_by_element(const struct silicon_case *c)
{
    const char *m = x86_forms[c->form].mnemonic;
    return c->insn.is_mem && (c->insn.prefixes & X86_PREFIX_EVEX) &&
           ((c->insn.evex & 7) || strstr(m, "compress") || strstr(m, "expand"));
}

/* Through a segment whose rights and limit are checked of the operand as a whole. */
static bool is_limited(const struct silicon_case *c)
{
    return c->code == X86_CODE32 && (c->insn.segment == X86_CS || c->insn.segment >= X86_FS);
}

static bool is_bad_element(const struct silicon_case *c)
{
    uint64_t last = c->operand + c->operand_size - 1;
    return is_by_element(c) && (is_limited(c) || (c->before.rflags & FLAG_AC) ||
                                x86_canonical(c->operand) != x86_canonical(last));
}

static bool maker_decides_address(const struct silicon_case *c)
{
    return maker_decides_offset(c) || wraps(c) || is_bad_image(c) || is_bad_element(c);
}

/* The masks in EDX:EAX must stay as they were shaped: other components differ. */
static bool spoils_components(const struct silicon_case *c)
{
    const char *m = x86_forms[c->form].mnemonic;
    bool ours = strncmp(m, "xsave", 5) == 0 || strncmp(m, "xrstor", 6) == 0;
    return ours && ((c->before.gpr[X86_RAX] & ~(uint64_t)(XCR0_X87 | XCR0_VECTORS)) ||
                    (uint32_t)c->before.gpr[X86_RDX]);
}

/* ---- gathers: the index is a vector, each of whose elements makes an address ---- */

/* Element i, of so many bytes, of a vector register. */
static uint8_t *vector_element(struct silicon_case *c, unsigned reg, unsigned i, unsigned size)
{
    unsigned at = i * size;
    if (reg >= 16)
        return c->before.zmm_more + 64 * (reg - 16) + at;
    if (at >= 32)
        return c->before.zmm_upper + 32 * reg + at - 32;
    uint8_t *half = at < 16 ? c->before.fx + FX_XMM : c->before.upper;
    return half + 16 * reg + at % 16;
}

/* Chooses element i, of so many bytes, or not: by a mask register, or its sign in a vector. */
static void choose(struct silicon_case *c, unsigned i, unsigned size, bool chosen)
{
    if (c->insn.prefixes & X86_PREFIX_EVEX) {
        uint8_t *mask = c->before.masks + 8 * (c->insn.evex & 7) + i / 8;
        *mask = (uint8_t)((*mask & ~(1u << i % 8)) | (unsigned)chosen << i % 8);
    } else {
        uint8_t *sign = vector_element(c, c->insn.vvvv, i, size) + size - 1;
        *sign = (uint8_t)((*sign & 0x7f) | (chosen ? 0x80 : 0));
    }
}

/* Base and displacement point into the data; most elements' indices lead from there to where
 * operands are, some anywhere. Half of the elements are chosen by the mask, or all. */
static void place_gather(struct rng *r, struct silicon_case *c, unsigned disp_at,
                         unsigned disp_size)
{
    const struct x86_insn *i = &c->insn;
    unsigned memory = x86_forms[c->form].operand[0].kind == OPK_MV ? 0 : 1;
    unsigned index_size = i->opcode & 1 ? 8 : 4, size = x86_operand_size(i, memory);
    unsigned count = i->vl / (index_size > size ? index_size : size);
    uint64_t offset = CASE_DATA + 0x800 + rng_below(r, 0x800) - segment_base(c);
    if (i->base != X86_NO_REG)
        set_address_register(r, c, i->base, offset - (uint64_t)i->disp);
    else
        patch_code(c, disp_at, offset, disp_size);
    bool all = rng_one_in(r, 2);
    for (unsigned n = 0; n < count; n++) {
        uint64_t at = value_address(r, size, c->code) - segment_base(c);
        uint64_t index = (uint64_t)((int64_t)(at - offset) >> i->scale);
        if (rng_below(r, 40))
            memcpy(vector_element(c, i->index, n, index_size), &index, index_size);
        choose(c, n, size, all || rng_one_in(r, 2));
    }
    c->operand = offset + segment_base(c);
    c->operand_size = size;
}

/* ---- all together ---- */

static void place_operand(struct rng *r, struct silicon_case *c, unsigned disp_at,
                          unsigned disp_size)
{
    c->operand = 0;
    c->operand_size = 0;
    if (!c->insn.is_mem)
        return;
    if (is_gather(c)) {
        place_gather(r, c, disp_at, disp_size);
        return;
    }
    c->operand_size = operand_size(c);
    uint64_t offset = value_address(r, c->operand_size, c->code) - segment_base(c);
    aim(r, c, offset & address_mask(c), disp_at, disp_size);
    c->operand = effective_address(c);
}

/* The instruction, and the state that it begins in but for memory. */
static bool make_instruction(struct rng *r, struct silicon_case *c)
{
    unsigned disp_at = 0, disp_size = 0;
    do {
        if (!encode_form(r, c, &disp_at, &disp_size))
            return false;
        random_registers(r, c);
        if (maker_decides(c) || !fix_branch(r, c))
            continue;
        shape_registers(r, c);
        place_operand(r, c, disp_at, disp_size);
        if (!maker_decides_address(c) && !spoils_components(c))
            return true;
    } while (true);
}

bool case_generate(struct silicon_case *c, unsigned form, unsigned code, uint64_t seed)
{
    struct rng rng = {seed}, *r = &rng;
    c->seed = seed;
    c->form = form;
    c->code = code;
    c->patches = 0;
    if (!make_instruction(r, c))
        return false;
    patch_stack(r, c);
    if (c->insn.is_mem)
        patch_operand(r, c);
    if (x86_forms[form].flags & (X86_FORM_REP | X86_FORM_REPCC)) {
        patch_string(r, c, X86_RSI);
        patch_string(r, c, X86_RDI);
    }
    return true;
}

void case_pattern(struct case_pattern *p)
{
    struct rng r = {0x5115c011};
    for (unsigned i = 0; i < sizeof p->bytes; i += 16)
        value_lane(&r, p->bytes + i);
}
