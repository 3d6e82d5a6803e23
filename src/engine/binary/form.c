/*
 * What the translator is to know of each instruction form, worked out once for the machine's model:
 * by names, it would take as long as the rest of a translation.
 *
 * What is not named here, and is not system, privileged or outside the processor's model, computes
 * on registers, flags and the memory its ModRM byte names: it is copied.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "engine/binary/translator.h"
#include "x86/native.h"

/* Sorted tables whose entries begin with a name. */
static int compare(const void *name, const void *entry)
{
    /* Every entry has one. NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
    return strcmp(name, *(const char *const *)entry);
}

static const void *find(const char *name, const void *table, size_t n, size_t size)
{
    return bsearch(name, table, n, size, compare);
}

#define FIND(table, name) find(name, table, ARRAY_LEN(table), sizeof *(table))

/* ---- how it is run ---- */

/* In which modes a form is run so; in others it is emulated. */
enum mode { ANY, KERNEL, USER, WITH_PKU };
static const struct {
    uint8_t bits, are;
} modes[] = {
    [ANY] = {0, 0},
    [KERNEL] = {KEY_USER, 0},
    [USER] = {KEY_USER, KEY_USER},
    [WITH_PKU] = {KEY_PKU, KEY_PKU},
};

struct named {
    const char *sem;
    enum how how;
    enum mode mode;
};

/* By the name of the semantic function. Sorted. */
static const struct named named[] = {
    {"arpl", HOW_EMULATE},
    {"bt", HOW_BIT_STRING},
    {"btc", HOW_BIT_STRING},
    {"btr", HOW_BIT_STRING},
    {"bts", HOW_BIT_STRING},
    {"call", HOW_CALL},
    {"call_rm", HOW_CALL_RM},
    {"clac", HOW_CLAC, KERNEL},
    {"clflush", HOW_EMULATE},
    {"cli", HOW_CLI, KERNEL},
    {"cpuid", HOW_CPUID},
    {"enter", HOW_EMULATE},
    {"fldenv", HOW_EMULATE},
    {"fnsave", HOW_EMULATE},
    {"fnstenv", HOW_EMULATE},
    {"frstor", HOW_EMULATE},
    {"fxrstor", HOW_EMULATE},
    {"fxsave", HOW_EMULATE},
    {"in_dx", HOW_EMULATE},
    {"in_i", HOW_EMULATE},
    {"int", HOW_EMULATE},
    {"int1", HOW_EMULATE},
    {"int3", HOW_EMULATE},
    {"into", HOW_EMULATE},
    {"invlpg", HOW_INVLPG, KERNEL},
    {"invpcid", HOW_INVPCID, KERNEL},
    {"iret", HOW_IRET, KERNEL},
    {"jcc", HOW_JCC},
    {"jcxz", HOW_JCXZ},
    {"jmp", HOW_JMP},
    {"jmp_rm", HOW_JMP_RM},
    {"lds", HOW_EMULATE},
    {"lea", HOW_LEA},
    {"leave", HOW_LEAVE},
    {"les", HOW_EMULATE},
    {"lfs", HOW_EMULATE},
    {"lgs", HOW_EMULATE},
    {"loop", HOW_LOOP},
    {"lss", HOW_EMULATE},
    {"maskmovdqu", HOW_EMULATE},
    {"maskmovq", HOW_EMULATE},
    {"mov_from_cr", HOW_FROM_CR, KERNEL},
    {"mov_from_seg", HOW_FROM_SEG},
    {"mov_moffs_load", HOW_EMULATE},
    {"mov_moffs_store", HOW_EMULATE},
    {"mov_to_cr", HOW_TO_CR, KERNEL},
    {"mov_to_seg", HOW_EMULATE},
    {"movs", HOW_STRING},
    {"nop", HOW_NOTHING},
    {"out_dx", HOW_EMULATE},
    {"out_i", HOW_EMULATE},
    {"pause", HOW_PAUSE},
    {"pop_r", HOW_POP_REG},
    {"pop_rm", HOW_EMULATE},
    {"pop_seg", HOW_EMULATE},
    {"popf", HOW_POPF, KERNEL},
    {"prefetch", HOW_NOTHING},
    {"push_i", HOW_PUSH_IMM},
    {"push_r", HOW_PUSH_REG},
    {"push_rm", HOW_PUSH_RM},
    {"push_seg", HOW_EMULATE},
    {"pushf", HOW_PUSHF},
    {"rdfsbase", HOW_BASE},
    {"rdgsbase", HOW_BASE},
    {"rdmsr", HOW_RDMSR, KERNEL},
    {"rdpkru", HOW_RDPKRU, WITH_PKU},
    {"rdpmc", HOW_EMULATE},
    {"rdtsc", HOW_RDTSC},
    {"rdtscp", HOW_RDTSC},
    {"ret", HOW_RET},
    {"stac", HOW_STAC, KERNEL},
    {"sti", HOW_STI, KERNEL},
    {"stos", HOW_STRING},
    {"swapgs", HOW_SWAPGS, KERNEL},
    {"syscall", HOW_SYSCALL, USER},
    {"sysret", HOW_SYSRET, KERNEL},
    {"ud", HOW_EMULATE},
    {"vmaskmovdqu", HOW_EMULATE},
    {"wrfsbase", HOW_BASE},
    {"wrgsbase", HOW_BASE},
    {"wrmsr", HOW_WRMSR, KERNEL},
    {"xgetbv", HOW_XGETBV},
    {"xlat", HOW_EMULATE},
};

/* What a feature's forms need of the mode; forms of features that are not here are emulated. */
static const struct {
    uint8_t feature, needs;
} features[] = {
    {X86_FEATURE_BASE, 0},        {X86_FEATURE_X64, 0},          {X86_FEATURE_CMOV, 0},
    {X86_FEATURE_CX8, 0},         {X86_FEATURE_CX16, 0},         {X86_FEATURE_POPCNT, 0},
    {X86_FEATURE_LAHF, 0},        {X86_FEATURE_MOVBE, 0},        {X86_FEATURE_ABM, 0},
    {X86_FEATURE_PREFETCHW, 0},   {X86_FEATURE_BMI1, 0},         {X86_FEATURE_BMI2, 0},
    {X86_FEATURE_ADX, 0},         {X86_FEATURE_X87, KEY_X87},    {X86_FEATURE_MMX, KEY_X87},
    {X86_FEATURE_SSE, KEY_SSE},   {X86_FEATURE_SSE2, KEY_SSE},   {X86_FEATURE_SSE3, KEY_SSE},
    {X86_FEATURE_SSSE3, KEY_SSE}, {X86_FEATURE_SSE41, KEY_SSE},  {X86_FEATURE_SSE42, KEY_SSE},
    {X86_FEATURE_AES, KEY_SSE},   {X86_FEATURE_PCLMUL, KEY_SSE}, {X86_FEATURE_SHA, KEY_SSE},
    {X86_FEATURE_AVX, KEY_AVX},   {X86_FEATURE_AVX2, KEY_AVX},   {X86_FEATURE_FMA, KEY_AVX},
    {X86_FEATURE_F16C, KEY_AVX},
};

/* False: it is emulated. */
static bool find_feature(const struct x86_form *form, uint8_t *needs)
{
    for (size_t i = 0; i < ARRAY_LEN(features); i++) {
        if (features[i].feature == form->feature) {
            *needs = features[i].needs;
            return true;
        }
    }
    return false;
}

/* Memory that the ModRM byte does not name, or not all of it: strings, bit strings, gathers. */
static bool reaches_elsewhere(const struct x86_form *form)
{
    return x86_form_has(form, OPK_X) || x86_form_has(form, OPK_Y) || x86_form_has(form, OPK_O) ||
           x86_form_has(form, OPK_MV);
}

static void need(struct form_facts *f, uint8_t bits)
{
    f->mode_bits |= bits;
    f->mode |= bits;
}

/* Vector instructions that only the host's processor knows are copied like others: the operand is
 * at most a register's size, and of a masked one the processor touches what is chosen. */
static enum how how_native(const struct x86_form *form, struct form_facts *f)
{
    static const uint8_t needs[] = {
        [X86_NATIVE_SSE] = KEY_SSE, [X86_NATIVE_AVX] = KEY_AVX, [X86_NATIVE_AVX512] = KEY_AVX512};
    need(f, needs[x86_native_state(form)]);
    if (reaches_elsewhere(form) || (form->flags & (X86_FORM_BRANCH | X86_FORM_ADDRESS)))
        return HOW_EMULATE;
    return HOW_COPY;
}

static enum how how_modelled(const struct x86_form *form, struct form_facts *f)
{
    const struct named *known = FIND(named, form->sem);
    enum how how = known ? known->how : HOW_COPY;
    uint8_t needs = 0;
    if (known) {
        f->mode_bits = modes[known->mode].bits;
        f->mode = modes[known->mode].are;
    }
    if (how == HOW_NOTHING || how >= HOW_SYSTEM)
        return how;
    if ((form->flags & X86_FORM_PRIVILEGED) || !find_feature(form, &needs) ||
        reaches_elsewhere(form))
        return HOW_EMULATE;
    if (how == HOW_COPY && (form->flags & (X86_FORM_BRANCH | X86_FORM_ADDRESS)))
        return HOW_EMULATE;
    need(f, needs);
    return how;
}

/* ---- what it does to general registers and memory ---- */

/* By the mnemonic. Sorted. */
static const struct mnemonic {
    const char *name;
    uint8_t uses;
    int8_t adds_imm, adds;
} mnemonics[] = {
    {"adc", USES_NAMED},
    {"add", USES_NAMED, .adds_imm = 1},
    {"and", USES_NAMED},
    {"andn", USES_FIRST_AS_RESULT},
    {"bt", USES_FIRST_AS_SOURCE},
    {"call", USES_FIRST_AS_SOURCE},
    {"cmp", USES_FIRST_AS_SOURCE | USES_NAMED},
    {"dec", USES_NAMED, .adds = -1},
    {"div", USES_FIRST_AS_SOURCE},
    {"fbstp", USES_FIRST_AS_RESULT},
    {"fist", USES_FIRST_AS_RESULT},
    {"fistp", USES_FIRST_AS_RESULT},
    {"fnsave", USES_FIRST_AS_RESULT},
    {"fnstcw", USES_FIRST_AS_RESULT},
    {"fnstenv", USES_FIRST_AS_RESULT},
    {"fnstsw", USES_FIRST_AS_RESULT},
    {"fst", USES_FIRST_AS_RESULT},
    {"fstp", USES_FIRST_AS_RESULT},
    {"inc", USES_NAMED, .adds = 1},
    {"jmp", USES_FIRST_AS_SOURCE},
    {"lea", USES_FIRST_AS_RESULT | USES_NAMED},
    {"mov", USES_FIRST_AS_RESULT | USES_NAMED},
    {"movbe", USES_FIRST_AS_RESULT},
    {"movd", USES_NAMED},
    {"movq", USES_NAMED},
    {"movsx", USES_FIRST_AS_RESULT | USES_NAMED},
    {"movsxd", USES_FIRST_AS_RESULT | USES_NAMED},
    {"movzx", USES_FIRST_AS_RESULT | USES_NAMED},
    {"mul", USES_FIRST_AS_SOURCE},
    {"mulx", USES_FIRST_AS_RESULT | USES_TWO_RESULTS},
    {"neg", USES_NAMED},
    {"not", USES_NAMED},
    {"or", USES_NAMED},
    {"pdep", USES_FIRST_AS_RESULT},
    {"pext", USES_FIRST_AS_RESULT},
    {"push", USES_FIRST_AS_SOURCE},
    {"rol", USES_NAMED},
    {"ror", USES_NAMED},
    {"rorx", USES_FIRST_AS_RESULT},
    {"sar", USES_NAMED},
    {"sarx", USES_FIRST_AS_RESULT},
    {"sbb", USES_NAMED},
    {"shl", USES_NAMED},
    {"shlx", USES_FIRST_AS_RESULT},
    {"shr", USES_NAMED},
    {"shrx", USES_FIRST_AS_RESULT},
    {"sub", USES_NAMED, .adds_imm = -1},
    {"test", USES_FIRST_AS_SOURCE | USES_NAMED},
    {"xadd", USES_TWO_RESULTS},
    {"xchg", USES_TWO_RESULTS},
    {"xor", USES_NAMED},
};

/* Registers that are written without being named: none but these three, in what is copied (MUL and
 * its kin, CMPXCHG, CWD; PCMPESTRI). */
static uint8_t implied_writes(const struct x86_form *form, unsigned uses)
{
    enum { SOME = 1u << HOST_RAX | 1u << HOST_RDX | 1u << HOST_RCX };
    if ((uses & USES_NAMED) || (form->flags & X86_FORM_CC)) /* CMOVcc, SETcc */
        return 0;
    bool general = form->feature < X86_FEATURE_SSE || form->feature == X86_FEATURE_LAHF;
    return general ? SOME : 1u << HOST_RCX;
}

/* What is not in the table is taken to read and write its first operand; but memory that x87
 * instructions name is only read then. */
static uint8_t uses_of(const struct x86_form *form, const struct mnemonic *known)
{
    if (known)
        return known->uses;
    bool reads = form->feature == X86_FEATURE_X87 && x86_memory_operand(form) == 0;
    return reads ? USES_FIRST_AS_SOURCE : 0;
}

static void learn_uses(const struct x86_form *form, struct form_facts *f)
{
    const struct mnemonic *known = FIND(mnemonics, form->mnemonic);
    bool number = form->operand[1].kind == OPK_SI || form->operand[1].kind == OPK_I;
    f->uses = uses_of(form, known);
    f->implied_writes = implied_writes(form, f->uses);
    if (known && form->operand[0].kind == OPK_E) {
        f->adds_imm = number ? known->adds_imm : 0;
        f->adds = known->adds;
    }
}

struct form_facts *binary_learn_forms(const struct x86_model *model)
{
    struct form_facts *facts = calloc(x86_form_count, sizeof *facts);
    for (unsigned i = 0; facts && i < x86_form_count; i++) {
        const struct x86_form *form = &x86_forms[i];
        struct form_facts *f = &facts[i];
        if (x86_is_native(model, form))
            f->how = how_native(form, f);
        else if (form->sem && (form->flags & X86_FORM_MODELLED))
            f->how = how_modelled(form, f);
        else
            f->how = HOW_EMULATE;
        learn_uses(form, f);
    }
    return facts;
}
