/*
 * How each instruction form is run. What is not named here, and is not system, privileged or
 * outside the processor's model, computes on registers, flags and the memory its ModRM byte names:
 * it is copied.
 */
#include <string.h>

#include "base/bits.h"
#include "engine/binary/translator.h"
#include "x86/native.h"

/* At which levels a form is run so; at the others it is emulated. */
enum level { ANY, KERNEL, USER };

struct named {
    const char *sem;
    enum how how;
    enum level level;
};

/* By the name of the semantic function. Sorted. */
static const struct named named[] = {
    {"arpl", HOW_EMULATE},
    {"call", HOW_CALL},
    {"call_rm", HOW_CALL_RM},
    {"clflush", HOW_EMULATE},
    {"cli", HOW_CLI, KERNEL},
    {"cpuid", HOW_EMULATE},
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
    {"rdpkru", HOW_RDPKRU},
    {"rdpmc", HOW_EMULATE},
    {"rdtsc", HOW_RDTSC},
    {"rdtscp", HOW_RDTSC},
    {"ret", HOW_RET},
    {"sti", HOW_STI, KERNEL},
    {"stos", HOW_STRING},
    {"swapgs", HOW_SWAPGS, KERNEL},
    {"syscall", HOW_SYSCALL, USER},
    {"sysret", HOW_SYSRET, KERNEL},
    {"ud", HOW_EMULATE},
    {"vmaskmovdqu", HOW_EMULATE},
    {"wrfsbase", HOW_BASE},
    {"wrgsbase", HOW_BASE},
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

static bool mode_allows(const struct x86_form *form, uint32_t key)
{
    for (size_t i = 0; i < ARRAY_LEN(features); i++)
        if (features[i].feature == form->feature)
            return (key & features[i].needs) == features[i].needs;
    return false;
}

static const struct named *find_named(const char *sem)
{
    size_t low = 0, high = ARRAY_LEN(named);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(sem, named[middle].sem);
        if (order == 0)
            return &named[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Memory that the ModRM byte does not name, or not all of it: strings, bit strings, gathers. */
static bool reaches_elsewhere(const struct x86_form *form)
{
    return x86_form_has(form, OPK_X) || x86_form_has(form, OPK_Y) || x86_form_has(form, OPK_O) ||
           x86_form_has(form, OPK_MV);
}

/* BT and its kin, with a bit number in a register. */
static bool is_bit_string(const struct x86_insn *insn, const struct x86_form *form)
{
    return insn->is_mem && form->operand[1].kind == OPK_G && form->mnemonic[0] == 'b' &&
           form->mnemonic[1] == 't';
}

/* Vector instructions that only the host's processor knows are copied like others: the operand is
 * at most a register's size, and of a masked one the processor touches what is chosen. */
static enum how how_native(const struct x86_insn *insn, uint32_t key)
{
    static const uint32_t needs[] = {
        [X86_NATIVE_SSE] = KEY_SSE, [X86_NATIVE_AVX] = KEY_AVX, [X86_NATIVE_AVX512] = KEY_AVX512};
    const struct x86_form *form = x86_form(insn);
    if (!(key & needs[x86_native_state(insn)]) || reaches_elsewhere(form) ||
        (form->flags & (X86_FORM_BRANCH | X86_FORM_ADDRESS)))
        return HOW_EMULATE;
    return HOW_COPY;
}

enum how binary_how(const struct x86_insn *insn, uint32_t key, const struct x86_model *model)
{
    const struct x86_form *form = x86_form(insn);
    if (x86_is_native(model, form))
        return how_native(insn, key);
    if (!form->sem || !(form->flags & X86_FORM_MODELLED))
        return HOW_EMULATE;
    if (form->feature == X86_FEATURE_SMAP && !(key & KEY_USER))
        return insn->modrm == 0xcb ? HOW_STAC : HOW_CLAC;
    const struct named *known = find_named(form->sem);
    enum how how = known ? known->how : HOW_COPY;
    if (known && known->level != ANY && (known->level == USER) != !!(key & KEY_USER))
        return HOW_EMULATE;
    if (how == HOW_RDPKRU && !(key & KEY_PKU))
        return HOW_EMULATE;
    if (how == HOW_NOTHING || how >= HOW_SYSTEM)
        return how;
    if ((form->flags & X86_FORM_PRIVILEGED) || !mode_allows(form, key) || reaches_elsewhere(form))
        return HOW_EMULATE;
    if (is_bit_string(insn, form))
        return HOW_BIT_STRING;
    if (how == HOW_COPY && (form->flags & (X86_FORM_BRANCH | X86_FORM_ADDRESS)))
        return HOW_EMULATE;
    return how;
}
