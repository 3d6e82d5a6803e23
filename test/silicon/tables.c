#include "tables.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

/* Whether `name` is one of the blank-separated `names`. */
static bool one_of(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = names; (p = strstr(p, name)); p += n)
        if ((p == names || p[-1] == ' ') && (p[n] == 0 || p[n] == ' '))
            return true;
    return false;
}

/* ---- undefined results ---- */

/* What is undefined only for some operands is left uncompared for all: the others are compared on
 * AMD's processors, where nothing is left out. */
const struct undefined undefined_results[] = {
    {"aaa aas", "OF, SF, ZF, PF", "those of adding 106h to AX, or subtracting it",
     FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF},
    {"aad", "OF, AF, CF", "those of the sum", FLAG_OF | FLAG_AF | FLAG_CF},
    {"aam", "OF, AF, CF", "cleared", FLAG_OF | FLAG_AF | FLAG_CF},
    {"daa das", "OF", "the correction's signed overflow", FLAG_OF},
    {"and or xor test andn", "AF", "cleared", FLAG_AF},
    {"mul imul", "SF, ZF, AF, PF", "left as they were", FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF},
    {"div idiv", "all status flags", "AF set, SF, ZF and PF cleared, CF and OF left as they were",
     FLAGS_STATUS},
    {"shl shr sar", "AF; OF for counts above 1; CF for counts beyond the operand",
     "AF set; OF as for the last single shift (SAR: cleared); CF cleared (SAR: the sign)",
     FLAG_AF | FLAG_OF | FLAG_CF},
    {"rol ror rcl rcr", "OF for counts above 1", "as after the last single rotate", FLAG_OF},
    {"shld shrd", "AF; OF for counts above 1; everything for 16-bit operands and counts above 16",
     "AF set; OF from the result's top bits and CF; further bits are the second operand's again",
     FLAGS_STATUS},
    {"bt bts btr btc", "OF, SF, AF, PF", "left as they were",
     FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF},
    {"bsf bsr", "the destination for a source of 0; CF, OF, SF, AF, PF",
     "the destination is left as it was; PF of the result, the others cleared",
     FLAGS_STATUS & ~FLAG_ZF},
    {"tzcnt lzcnt", "OF, SF, PF, AF", "OF left as it was, the others cleared",
     FLAG_OF | FLAG_SF | FLAG_PF | FLAG_AF},
    {"bextr", "AF, SF, PF", "AF set, SF cleared, PF of the result", FLAG_AF | FLAG_SF | FLAG_PF},
    {"bzhi blsi blsr blsmsk", "AF, PF", "AF cleared, PF of the result", FLAG_AF | FLAG_PF},
};
const unsigned undefined_count = ARRAY_LEN(undefined_results);

bool host_is_amd(void)
{
    unsigned a, b = 0, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx;
}

uint32_t undefined_flags(const struct silicon_case *c)
{
    uint32_t flags = 0;
    for (unsigned i = 0; i < undefined_count; i++)
        if (one_of(undefined_results[i].mnemonics, x86_forms[c->form].mnemonic))
            flags |= undefined_results[i].flags;
    return flags;
}

/* ---- where makers, or processors, differ ---- */

static const struct {
    const char *what, *doppel, *amd;
} differences[] = {
    {"66 on a near branch in 64-bit code", "ignored (SDM 2, 2.2.1.7)", "a 16-bit RIP"},
    {"F2, F3 on LOOPE and LOOPNE", "ignored", "they choose the condition"},
    {"0F 0D with a register", "NOP", "#UD"},
    {"UD0, UD1 at the end of a page", "have a ModRM byte, which is fetched", "have none"},
    {"LOCK on MOV from and to CR0, VERR, VERW", "#UD", "CR8 is meant; ignored"},
    {"VEX.W set on VPEXTRD and VPINSRD outside of 64-bit code", "ignored", "#UD"},
    {"an offset in FS or GS that is not canonical, its linear address canonical", "works", "#GP"},
    {"an operand that wraps at the end of a 16- or 32-bit address size", "goes on behind it",
     "depends on the instruction"},
    {"an extended number or x87 image that is neither aligned (under AC) nor inside of its segment",
     "#GP", "#AC or #GP"},
    {"a masked operand (AVX-512) under an alignment check", "not checked", "elements are"},
    {"a masked operand (AVX-512) outside of 64-bit code", "must be inside of its segment",
     "chosen elements must be"},
    {"a masked operand (AVX-512), part of it canonical", "#GP or #PF by what is accessed first",
     "depends on the instruction"},
    {"POPA that faults halfway", "has changed nothing", "has changed the registers before"},
    {"CMPS whose operands both fault", "the second one's fault", "either's, by prefix and size"},
    {"RF of a single step between two iterations of a string instruction", "set (SDM 3, 17.3.1.1)",
     "not set"},
    {"MXCSR bit 17 (misaligned SSE)", "reserved: #GP", "there"},
    {"SYSENTER and SYSEXIT in long mode", "as the SDM has them", "#UD"},
    {"x87 pointers with an exception pending", "48 bits of address", "57 bits"},
    {"RCPPS, RCPSS, RSQRTPS, RSQRTSS", "correct to 12 bits, as the SDM asks for",
     "correct to 12 bits"},
    {"F2XM1, FYL2X, FYL2XP1, FPTAN, FPATAN, FSIN, FCOS, FSINCOS",
     "correctly rounded but for the rarest cases", "within one unit in the last place, and C1"},
};

/* ---- forms that are not run ---- */

static const struct {
    const char *mnemonics, *why;
} left_out_forms[] = {
    {"cpuid rdtsc rdtscp rdpid xgetbv", "the answer is the model's, or the moment's"},
    {"rdrand rdseed", "the answer is a random number"},
    {"syscall sysenter int", "they enter the host's kernel"},
    {"sysexit", "AMD's processors raise #UD in long mode, Intel's #GP(0)"},
    {"iret retf callf jmpf les lds lss lfs lgs",
     "they load segment registers of the host's process"},
    {"wrfsbase wrgsbase", "they change what the host's process stands on"},
    {"sgdt sidt sldt str smsw", "Linux answers in the processor's place (UMIP)"},
    {"int1", "a hypervisor below decides which RIP is reported"},
    {"rdpmc", "depends on what the host's kernel allows"},
};

/* MOV and POP to a segment register, by their semantic function. */
static const char segment_loads[] = "mov_to_seg pop_seg";

const char *left_out(unsigned form)
{
    const struct x86_form *f = &x86_forms[form];
    if (f->sem && one_of(segment_loads, f->sem))
        return "they load segment registers of the host's process";
    for (unsigned i = 0; i < ARRAY_LEN(left_out_forms); i++)
        if (one_of(left_out_forms[i].mnemonics, f->mnemonic))
            return left_out_forms[i].why;
    return NULL;
}

/* ---- for people ---- */

static void write_undefined(void)
{
    printf("## Results that the manual leaves undefined\n\n"
           "From each instruction's description in the SDM, volume 2. In its column Doppel does "
           "what AMD's processors do\n(Zen 4 was the oracle); on such a host all of it is "
           "compared, elsewhere it is not.\n\n"
           "| instructions | undefined | Doppel |\n| --- | --- | --- |\n");
    for (unsigned i = 0; i < undefined_count; i++) {
        const struct undefined *u = &undefined_results[i];
        printf("| %s | %s | %s |\n", u->mnemonics, u->what, u->followed);
    }
}

static void write_differences(void)
{
    printf("\n## Where processors differ\n\n"
           "None of this is compared.\n\n"
           "| what | Doppel | AMD Zen 4 |\n| --- | --- | --- |\n");
    for (unsigned i = 0; i < ARRAY_LEN(differences); i++)
        printf("| %s | %s | %s |\n", differences[i].what, differences[i].doppel,
               differences[i].amd);
}

static void write_left_out(void)
{
    printf("\n## Instructions that silicon is not asked about\n\n"
           "They change or read what the host's kernel keeps for the process. The guests in "
           "`guest/` run them.\n\n"
           "| instructions | why |\n| --- | --- |\n"
           "| mov and pop to a segment register | they load segment registers of the host's "
           "process |\n");
    for (unsigned i = 0; i < ARRAY_LEN(left_out_forms); i++)
        printf("| %s | %s |\n", left_out_forms[i].mnemonics, left_out_forms[i].why);
}

void tables_write(void)
{
    printf("# Undefined results\n\n"
           "Made from the tables of the silicon tests by `silicon --list undefined`; a test says "
           "when it is stale. Do not\nedit it.\n\n");
    write_undefined();
    write_differences();
    write_left_out();
}
