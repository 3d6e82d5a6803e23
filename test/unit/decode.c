/*
 * The decoder against libZydis: whether there is an instruction, which one, its length and its
 * operands, over random bytes of a fixed seed in each of the three modes. Differences are allowed
 * only where `quirks` has a reason.
 *
 * DOPPEL_KERNEL=FILE adds a pass over FILE (an unpacked vmlinux) from offset DOPPEL_KERNEL_TEXT=N
 * on, 16 MiB at most, as code of DOPPEL_KERNEL_BITS=16|32|64 (64). DOPPEL_DECODE_COUNT=N changes
 * how many random instructions are tried (in each mode), DOPPEL_DECODE_SEED the seed.
 */
#include "test.h"

#include <stdlib.h>
#include <Zydis/Zydis.h>

#include "base/bits.h"
#include "x86/cpu.h"
#include "x86/forms.h"

enum { BYTES = 24, COUNT = 2000000 };

/* ---- operands that can be compared ---- */

enum what { NOTHING, REGISTER, MEMORY, IMMEDIATE, FAR_POINTER };

struct operand {
    enum what what;
    unsigned size; /* bytes; 0: not said */
    ZydisRegisterClass class;
    unsigned number;
    int segment, base, index; /* -1: none; base 16: RIP */
    unsigned scale;
    int64_t value; /* displacement or immediate */
    int64_t value2;
};

static ZydisRegisterClass gpr_class(unsigned size)
{
    switch (size) {
    case 1: return ZYDIS_REGCLASS_GPR8;
    case 2: return ZYDIS_REGCLASS_GPR16;
    case 4: return ZYDIS_REGCLASS_GPR32;
    default: return ZYDIS_REGCLASS_GPR64;
    }
}

static struct operand reg_operand(ZydisRegisterClass class, unsigned number, unsigned size)
{
    return (struct operand){.what = REGISTER, .class = class, .number = number, .size = size};
}

/* Zydis numbers byte registers AL to BL, AH to BH, SPL to DIL, R8B to R15B. */
static struct operand gpr_operand(const struct x86_insn *insn, unsigned number, unsigned size)
{
    if (size == 1 && insn->rex && number >= 4)
        number += 4;
    return reg_operand(gpr_class(size ? size : insn->addrsize), number, 0);
}

static struct operand vector_operand(unsigned number, unsigned size)
{
    ZydisRegisterClass class = size <= 16   ? ZYDIS_REGCLASS_XMM
                               : size == 32 ? ZYDIS_REGCLASS_YMM
                                            : ZYDIS_REGCLASS_ZMM;
    return reg_operand(class, number, 0);
}

static int our_register(unsigned r)
{
    return r == X86_NO_REG ? -1 : r == X86_BASE_RIP ? 16 : (int)r;
}

static struct operand memory_operand(const struct x86_insn *insn, unsigned size)
{
    return (struct operand){.what = MEMORY,
                            .size = size,
                            .segment = insn->segment,
                            .base = our_register(insn->base),
                            .index = our_register(insn->index),
                            .scale = insn->index == X86_NO_REG ? 0 : 1u << insn->scale,
                            .value = insn->disp};
}

static struct operand string_operand(int segment, int base, unsigned size)
{
    return (struct operand){
        .what = MEMORY, .size = size, .segment = segment, .base = base, .index = -1};
}

static struct operand immediate(int64_t value)
{
    return (struct operand){.what = IMMEDIATE, .value = value};
}

/* Operand i as we decoded it. */
static struct operand ours(const struct x86_insn *insn, unsigned i)
{
    const struct x86_operand *o = &x86_form(insn)->operand[i];
    unsigned size = x86_operand_size(insn, i);
    unsigned full = insn->vl ? insn->vl : 16;
    switch (o->type) {
    case OPT_XH: full /= 2; break;
    case OPT_XQ: full /= 4; break;
    case OPT_XO: full /= 8; break;
    case OPT_X: break;
    case OPT_QQ: full = 32; break;
    case OPT_OQ: full = 64; break;
    default: full = 16; break;
    }
    switch (o->kind) {
    case OPK_NONE: return (struct operand){0};
    case OPK_A:
        return (struct operand){.what = FAR_POINTER, .value = insn->imm, .value2 = insn->imm2};
    case OPK_B: return gpr_operand(insn, insn->vvvv, size);
    case OPK_C: return reg_operand(ZYDIS_REGCLASS_CONTROL, insn->reg, 0);
    case OPK_D: return reg_operand(ZYDIS_REGCLASS_DEBUG, insn->reg, 0);
    case OPK_G:
    case OPK_Z: return gpr_operand(insn, insn->reg, size);
    case OPK_H: return vector_operand(insn->vvvv, full);
    case OPK_I:
        return immediate(i && x86_form(insn)->operand[i - 1].kind == OPK_I ? insn->imm2
                                                                           : insn->imm);
    case OPK_SI:
    case OPK_ONE:
    case OPK_J: return immediate(insn->imm);
    case OPK_L: return vector_operand(insn->imm >> 4 & (insn->mode64 ? 15 : 7), full);
    case OPK_P: return reg_operand(ZYDIS_REGCLASS_MMX, insn->reg, 0);
    case OPK_S: return reg_operand(ZYDIS_REGCLASS_SEGMENT, insn->reg, 0);
    case OPK_SEG: return reg_operand(ZYDIS_REGCLASS_SEGMENT, insn->reg, 0);
    case OPK_V: return vector_operand(insn->reg, full);
    case OPK_X: return string_operand(insn->segment, X86_RSI, size);
    case OPK_Y: return string_operand(X86_ES, X86_RDI, size);
    case OPK_KG: return reg_operand(ZYDIS_REGCLASS_MASK, insn->reg, 0);
    case OPK_KH: return reg_operand(ZYDIS_REGCLASS_MASK, insn->vvvv, 0);
    case OPK_TG: return reg_operand(ZYDIS_REGCLASS_TMM, insn->reg, 0);
    case OPK_TE: return reg_operand(ZYDIS_REGCLASS_TMM, insn->rm, 0);
    case OPK_TH: return reg_operand(ZYDIS_REGCLASS_TMM, insn->vvvv, 0);
    case OPK_ACC: return reg_operand(gpr_class(size), 0, 0);
    case OPK_AX: return reg_operand(ZYDIS_REGCLASS_GPR16, 0, 0);
    case OPK_CL: return reg_operand(ZYDIS_REGCLASS_GPR8, X86_RCX, 0);
    case OPK_DX: return reg_operand(ZYDIS_REGCLASS_GPR16, X86_RDX, 0);
    case OPK_ST0: return reg_operand(ZYDIS_REGCLASS_X87, 0, 0);
    case OPK_STI: return reg_operand(ZYDIS_REGCLASS_X87, insn->rm, 0);
    case OPK_XMM0: return reg_operand(ZYDIS_REGCLASS_XMM, 0, 0);
    default: break;
    }
    if (insn->is_mem)
        return memory_operand(insn, size);
    switch (o->kind) {
    case OPK_N:
    case OPK_Q: return reg_operand(ZYDIS_REGCLASS_MMX, insn->rm, 0);
    case OPK_U:
    case OPK_W: return vector_operand(insn->rm, full);
    case OPK_KE: return reg_operand(ZYDIS_REGCLASS_MASK, insn->rm, 0);
    default: return gpr_operand(insn, insn->rm, size);
    }
}

static int their_register(ZydisRegister r)
{
    if (r == ZYDIS_REGISTER_NONE)
        return -1;
    return ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_IP ? 16 : ZydisRegisterGetId(r);
}

static struct operand theirs(const ZydisDecodedOperand *o)
{
    switch (o->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return reg_operand(ZydisRegisterGetClass(o->reg.value),
                           (unsigned)ZydisRegisterGetId(o->reg.value), 0);
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return (struct operand){.what = MEMORY,
                                .size = o->size / 8,
                                .segment = ZydisRegisterGetId(o->mem.segment),
                                .base = their_register(o->mem.base),
                                .index = their_register(o->mem.index),
                                .scale = o->mem.index == ZYDIS_REGISTER_NONE ? 0 : o->mem.scale,
                                .value = o->mem.disp.value};
    case ZYDIS_OPERAND_TYPE_POINTER:
        return (struct operand){
            .what = FAR_POINTER, .value = o->ptr.offset, .value2 = o->ptr.segment};
    case ZYDIS_OPERAND_TYPE_IMMEDIATE: return immediate(o->imm.value.s);
    default: return (struct operand){0};
    }
}

/* Zydis 4.0 takes SIB's "no base" with REX.B for R13 where addresses have 32 bits (SDM 2, table
 * 2-5: the fourth bit plays no part). */
static bool is_false_r13(const struct x86_insn *insn, const struct operand *a,
                         const struct operand *b)
{
    return a->base == -1 && b->base == 13 && insn->mode64 && insn->addrsize == 4 && (insn->rex & 1);
}

/* insn is the instruction, whose operand a is. */
static bool same_operand(const struct x86_insn *insn, const struct operand *a,
                         const struct operand *b)
{
    if (a->what != b->what)
        return false;
    switch (a->what) {
    case REGISTER: return a->class == b->class && a->number == b->number;
    case MEMORY:
        if (is_false_r13(insn, a, b))
            return true;
        return (a->segment == b->segment || (x86_form(insn)->flags & X86_FORM_ADDRESS)) &&
               a->base == b->base && a->index == b->index && a->scale == b->scale &&
               !((a->value ^ b->value) & (int64_t)bits_mask(insn->addrsize * 8u)) &&
               (!a->size || !b->size || a->size == b->size);
    default: return a->value == b->value && a->value2 == b->value2;
    }
}

/* ---- names ---- */

static const char *const conditions[16] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe",
                                           "s", "ns", "p", "np", "l", "nl", "le", "nle"};

/* Where one of our mnemonics is several of theirs, or has another name there. */
static const struct {
    const char *ours, *theirs;
} aliases[] = {
    {"cbw", "cwde"},     {"cbw", "cdqe"},   {"cwd", "cdq"},      {"cwd", "cqo"},
    {"iret", "iretd"},   {"iret", "iretq"}, {"jcxz", "jecxz"},   {"jcxz", "jrcxz"},
    {"callf", "call"},   {"jmpf", "jmp"},   {"retf", "ret"},     {"wait", "fwait"},
    {"pusha", "pushad"}, {"popa", "popad"}, {"pushf", "pushfd"}, {"pushf", "pushfq"},
    {"popf", "popfd"},   {"popf", "popfq"},
};

static bool same_mnemonic(const struct x86_insn *insn, const char *name)
{
    const struct x86_form *f = x86_form(insn);
    char text[40];
    snprintf(text, sizeof text, "%s%s", f->mnemonic,
             f->flags & X86_FORM_CC ? conditions[insn->opcode & 15] : "");
    if (strcmp(text, name) == 0)
        return true;
    for (unsigned i = 0; i < ARRAY_LEN(aliases); i++)
        if (strcmp(text, aliases[i].ours) == 0 && strcmp(name, aliases[i].theirs) == 0)
            return true;
    /* FXSAVE64 and the like: REX.W; MOVSB and the like: the operand size */
    size_t n = strlen(text);
    if (strncmp(text, name, n) != 0)
        return false;
    if (f->flags & (X86_FORM_REP | X86_FORM_REPCC))
        return name[n] == "?bw?d???q"[insn->opsize] && name[n + 1] == 0;
    return (insn->rex & 8) && strcmp(name + n, "64") == 0;
}

/* ---- the comparison ---- */

struct oracle {
    ZydisDecoder decoder;
    unsigned code; /* enum x86_code */
    unsigned long compared, valid, differences, excused;
    char seen[4000]; /* kinds of differences printed so far */
};

static void oracle_init(struct oracle *o, unsigned code)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth width;
    } modes[] = {
        [X86_CODE16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        [X86_CODE32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [X86_CODE64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };
    /* Features whose encodings are reserved NOPs to a processor that lacks them. */
    static const ZydisDecoderMode off[] = {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CLDEMOTE};
    *o = (struct oracle){.code = code};
    ZydisDecoderInit(&o->decoder, modes[code].mode, modes[code].width);
    for (unsigned i = 0; i < ARRAY_LEN(off); i++)
        ZydisDecoderEnableMode(&o->decoder, off[i], ZYAN_FALSE);
}

struct case_ {
    const uint8_t *bytes;
    struct x86_insn insn;
    enum x86_decode_status status;
    bool zydis_valid;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
};

/* Zydis lists EVEX's write mask as an operand. */
static bool is_write_mask(const struct case_ *c, unsigned i)
{
    return c->zo[i].encoding == ZYDIS_OPERAND_ENCODING_MASK;
}

static unsigned mask_of(const struct case_ *c)
{
    for (unsigned i = 0; i < c->zi.operand_count; i++)
        if (is_write_mask(c, i))
            return (unsigned)ZydisRegisterGetId(c->zo[i].reg.value);
    return 0;
}

/* NULL when both say the same; otherwise what differs. */
static const char *difference(const struct case_ *c)
{
    bool valid = c->status == X86_DECODED;
    if (valid != c->zydis_valid)
        return valid ? "we say valid" : "Zydis says valid";
    if (!valid)
        return NULL;
    if (c->insn.len != c->zi.length)
        return "length";
    if (!same_mnemonic(&c->insn, ZydisMnemonicGetString(c->zi.mnemonic)))
        return "mnemonic";
    if ((c->insn.evex & 7) != mask_of(c))
        return "write mask";
    for (unsigned i = 0, j = 0; i < 4; i++, j++) {
        struct operand a = ours(&c->insn, i), b = {0};
        if (j < c->zi.operand_count && is_write_mask(c, j))
            j++;
        if (j < c->zi.operand_count)
            b = theirs(&c->zo[j]);
        if (a.what == NOTHING &&
            (j >= c->zi.operand_count || c->zo[j].visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT))
            return NULL;
        if (!same_operand(&c->insn, &a, &b))
            return (const char *[]){"operand 1", "operand 2", "operand 3", "operand 4"}[i];
    }
    return NULL;
}

/* ---- what may differ ---- */

/* Differences that are Zydis' or AMD's, by what either side takes the bytes for. */
static const struct {
    const char *ours, *theirs; /* mnemonics, "invalid", "*" for any, or their ISA in <> */
    bool valid;                /* both know it, by another name or with other operands */
    const char *reason;
} quirks[] = {
    {"invalid", "<AMD3DNOW>", false, "only AMD's old processors have 3DNow!"},
    {"invalid", "<XOP>", false, "only some of AMD's processors have XOP"},
    {"invalid", "<FMA4>", false, "only some of AMD's processors have FMA4"},
    {"invalid", "<TBM>", false, "only some of AMD's processors have TBM"},
    {"invalid", "<LWP>", false, "only some of AMD's processors have LWP"},
    {"invalid", "<SSE4A>", false, "only AMD's processors have SSE4A"},
    {"invalid", "<PADLOCK>", false, "only VIA's processors have PadLock"},
    {"invalid", "syscall", false, "outside 64-bit code on AMD's processors only"},
    {"invalid", "sysret", false, "outside 64-bit code on AMD's processors only"},
    {"invalid", "<KNC", false, "only Knights Corner has these"},
    {"lar", "lar", true, "Zydis shows 32 bits of a register of which 16 are used"},
    {"lsl", "lsl", true, "Zydis shows 32 bits of a register of which 16 are used"},
    {"fucomp", "fucomp", true, "Zydis shows ST(0) as well"},
    {"movsxd", "movsxd", true, "Zydis reads 4 bytes where the operand size is 2"},
    {"nop", "*", true, "a hint that this model does not know; Zydis shows ModRM.reg as well"},
    {"ud0", "ud0", true, "its operands mean nothing"},
    {"ud1", "ud1", true, "its operands mean nothing"},
    {"xchg", "pause", true, "F3 90 with REX.B exchanges R8 and RAX, as silicon says"},
    {"fnop", "*", true, "an 8087's or 80287's instruction"},
    {"vcvtsi2sd", "invalid", false, "no rounding in its 32-bit form: L'L is not looked at"},
    {"vcvtusi2sd", "invalid", false, "no rounding in its 32-bit form: L'L is not looked at"},
    {"fneni", "feni8087_nop", true, "another name"},
    {"fndisi", "fdisi8087_nop", true, "another name"},
    {"fnsetpm", "fsetpm287_nop", true, "another name"},
    {"fstp", "fstpnce", true, "a second encoding, which Zydis gives a name"},
};

static bool matches(const char *pattern, const char *name, const char *isa)
{
    return strcmp(pattern, "*") == 0 || strcmp(pattern, name) == 0 ||
           (pattern[0] == '<' && strncmp(pattern + 1, isa, strcspn(pattern + 1, ">")) == 0);
}

static const char *our_name(const struct case_ *c)
{
    return c->status == X86_DECODED ? x86_form(&c->insn)->mnemonic : "invalid";
}

static const char *their_name(const struct case_ *c)
{
    return c->zydis_valid ? ZydisMnemonicGetString(c->zi.mnemonic) : "invalid";
}

static bool excused(const struct case_ *c)
{
    bool both = c->status == X86_DECODED && c->zydis_valid;
    if (both && c->insn.len != c->zi.length)
        return false;
    if (both && (c->zi.attributes & ZYDIS_ATTRIB_HAS_NOTRACK))
        return true; /* Zydis does not take NOTRACK for a segment override as well */
    if (!both && (c->insn.prefixes & X86_PREFIX_EVEX) && c->insn.map == 5 && !c->insn.mode64 &&
        (c->insn.rex & 8) && !c->zydis_valid)
        return true; /* Zydis does not ignore EVEX.W in FP16's conversions there */
    const char *isa = c->zydis_valid ? ZydisISAExtGetString(c->zi.meta.isa_ext) : "";
    for (unsigned i = 0; i < ARRAY_LEN(quirks); i++)
        if (quirks[i].valid == both && matches(quirks[i].ours, our_name(c), "") &&
            matches(quirks[i].theirs, their_name(c), isa))
            return true;
    return false;
}

/* Whether a difference of this kind was not printed before. */
static bool is_news(struct oracle *o, const struct case_ *c, const char *what)
{
    char line[96];
    snprintf(line, sizeof line, "%s %s %s;", what, our_name(c), their_name(c));
    if (strstr(o->seen, line) || strlen(o->seen) + strlen(line) >= sizeof o->seen)
        return false;
    strcat(o->seen, line);
    return true;
}

static void report(const struct oracle *o, const struct case_ *c, const char *what)
{
    printf("# %u-bit %s:", 16u << o->code, what);
    for (unsigned i = 0; i < 15; i++)
        printf(" %02x", c->bytes[i]);
    printf("\n#   ours: ");
    if (c->status == X86_DECODED)
        printf("%u bytes, %s %s [%s]", c->insn.len, x86_form(&c->insn)->mnemonic,
               x86_form(&c->insn)->operands, x86_form(&c->insn)->encoding);
    else
        printf("status %u", c->status);
    printf("\n#   Zydis: ");
    if (c->zydis_valid) {
        ZydisFormatter f;
        char text[128];
        ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
        ZydisFormatterFormatInstruction(&f, &c->zi, c->zo, c->zi.operand_count_visible, text,
                                        sizeof text, 0, NULL);
        printf("%u bytes, %s\n", c->zi.length, text);
    } else
        printf("invalid\n");
}

static void compare(struct oracle *o, const uint8_t *bytes)
{
    struct case_ c = {.bytes = bytes};
    c.status = x86_decode(bytes, BYTES, o->code, &c.insn);
    c.zydis_valid = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&o->decoder, bytes, BYTES, &c.zi, c.zo));
    o->compared++;
    o->valid += c.status == X86_DECODED;
    const char *what = difference(&c);
    if (!what)
        return;
    if (excused(&c)) {
        o->excused++;
        return;
    }
    o->differences++;
    if (is_news(o, &c, what))
        report(o, &c, what);
}

/* ---- random instructions ---- */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Random bytes behind a beginning that looks like an instruction's. */
static void make_bytes(uint8_t bytes[BYTES], uint64_t *seed, unsigned code)
{
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0x67, 0x66, 0xf3, 0xf2,
                                       0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    static const uint8_t evex_maps[8] = {1, 1, 2, 2, 3, 3, 5, 6};
    uint8_t *p = bytes;
    for (unsigned i = 0; i < BYTES; i += 8)
        store_u64(bytes + i, next_random(seed));
    uint64_t r = next_random(seed);
    unsigned n = (unsigned)(r & 7);
    r >>= 3;
    if (n == 7) /* as the dice fell */
        return;
    for (n = n > 3 ? n - 3 : 0; n; n--, r >>= 4)
        *p++ = prefixes[(r & 15) % ARRAY_LEN(prefixes)];
    if (code == X86_CODE64 && (r & 3) == 0)
        *p++ = (uint8_t)(0x40 | (r >> 2 & 15));
    r >>= 6;
    switch (r & 7) {
    case 0:
    case 1: *p++ = 0x0f; break;
    case 2:
        *p++ = 0x0f;
        *p++ = 0x38;
        break;
    case 3:
        *p++ = 0x0f;
        *p++ = 0x3a;
        break;
    case 4: *p++ = (uint8_t)(0xd8 | (r >> 3 & 7)); break;
    case 5: /* VEX */
        *p++ = r & 8 ? 0xc5 : 0xc4;
        *p = (uint8_t)(*p | (code == X86_CODE64 ? 0 : 0xc0));
        if (!(r & 8))
            *p = (uint8_t)((*p & 0xe0) | (r >> 4 & 3));
        if ((r >> 6 & 7) != 0)
            p[!(r & 8)] |= 0x78;
        break;
    case 6: /* EVEX */
        *p = 0x62;
        p[1] = (uint8_t)((p[1] & 0xf0) | (code == X86_CODE64 ? 0 : 0xc0) | evex_maps[r >> 3 & 7]);
        p[2] |= 4;
        if ((r >> 6 & 3) != 0)
            p[2] |= 0x78;
        if ((r >> 8 & 3) != 0)
            p[3] &= 0x6f;
        if ((r >> 10 & 1) != 0)
            p[3] = (uint8_t)((p[3] & 0xf0) | 8);
        break;
    default: break;
    }
}

static unsigned long number_from(const char *variable, unsigned long standard)
{
    const char *text = getenv(variable);
    return text ? strtoul(text, NULL, 0) : standard;
}

static void random_code(unsigned code)
{
    static struct oracle o;
    uint8_t bytes[BYTES];
    uint64_t seed = number_from("DOPPEL_DECODE_SEED", 0x9e3779b97f4a7c15) + code;
    unsigned long count = number_from("DOPPEL_DECODE_COUNT", COUNT);
    oracle_init(&o, code);
    while (o.compared < count) {
        make_bytes(bytes, &seed, code);
        compare(&o, bytes);
    }
    printf("# %lu compared, %lu of them valid, %lu differ with a reason, %lu without\n", o.compared,
           o.valid, o.excused, o.differences);
    CHECK(o.valid > count / 4);
    CHECK_EQ(o.differences, 0);
}

TEST(random_16_bit_code_decodes_as_zydis_says)
{
    random_code(X86_CODE16);
}

TEST(random_32_bit_code_decodes_as_zydis_says)
{
    random_code(X86_CODE32);
}

TEST(random_64_bit_code_decodes_as_zydis_says)
{
    random_code(X86_CODE64);
}

/* The instructions of a kernel's text, one after the other; a byte at a time where there is none.
 */
TEST(kernel_text_decodes_as_zydis_says)
{
    static struct oracle o;
    static uint8_t text[16 << 20];
    const char *name = getenv("DOPPEL_KERNEL");
    if (!name)
        SKIP("DOPPEL_KERNEL names no file");
    FILE *f = fopen(name, "rb");
    if (!f)
        SKIP("the file of DOPPEL_KERNEL can't be opened");
    CHECK(fseek(f, (long)number_from("DOPPEL_KERNEL_TEXT", 0), SEEK_SET) == 0);
    size_t n = fread(text, 1, sizeof text, f), at = 0;
    fclose(f);
    unsigned code = (unsigned)number_from("DOPPEL_KERNEL_BITS", 64) / 32;
    oracle_init(&o, code);
    while (at + BYTES <= n) {
        struct x86_insn insn;
        compare(&o, text + at);
        at += x86_decode(text + at, BYTES, code, &insn) == X86_DECODED ? insn.len : 1;
    }
    printf("# %lu compared, %lu of them valid, %lu differ with a reason, %lu without\n", o.compared,
           o.valid, o.excused, o.differences);
    CHECK(o.compared > 0);
    CHECK_EQ(o.differences, 0);
}

TESTS(T(random_16_bit_code_decodes_as_zydis_says), T(random_32_bit_code_decodes_as_zydis_says),
      T(random_64_bit_code_decodes_as_zydis_says), T(kernel_text_decodes_as_zydis_says))
