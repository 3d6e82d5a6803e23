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

/* ---- results ---- */

const struct undefined undefined_results[] = {
    {"aaa aas", "", "OF, SF, ZF, PF", "SDM 2, AAA and AAS", true, NULL,
     FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF},
};
const unsigned undefined_count = ARRAY_LEN(undefined_results);

uint32_t undefined_flags(const struct silicon_case *c, bool amd)
{
    uint32_t flags = 0;
    for (unsigned i = 0; i < undefined_count; i++) {
        const struct undefined *u = &undefined_results[i];
        if ((amd && u->followed) || !one_of(u->mnemonics, x86_forms[c->form].mnemonic))
            continue;
        if (!u->applies || u->applies(c))
            flags |= u->flags;
    }
    return flags;
}

bool host_is_amd(void)
{
    unsigned a, b = 0, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx;
}

/* ---- forms ---- */

static const struct {
    const char *mnemonics, *why;
} left_out_forms[] = {
    {"cpuid rdtsc rdtscp rdpid xgetbv", "answers with what the model or the moment is"},
    {"rdrand rdseed", "answers with a random number"},
    {"syscall sysenter", "enters the host's kernel"},
    {"sysexit", "AMD's processors raise #UD in long mode, Intel's #GP(0)"},
    {"int", "enters the host's kernel, or raises #GP there is an IDT to compare for"},
    {"iret retf callf jmpf les lds lss lfs lgs", "loads segment registers of the host's process"},
    {"wrfsbase wrgsbase", "changes the host process's thread pointer"},
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
        return "loads segment registers of the host's process";
    for (unsigned i = 0; i < ARRAY_LEN(left_out_forms); i++)
        if (one_of(left_out_forms[i].mnemonics, f->mnemonic))
            return left_out_forms[i].why;
    return NULL;
}

/* ---- for people ---- */

void tables_write_undefined(void)
{
    printf(
        "| instruction | when | undefined | manual | Doppel |\n| --- | --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < undefined_count; i++) {
        const struct undefined *u = &undefined_results[i];
        printf("| %s | %s | %s | %s | %s |\n", u->mnemonics, *u->when ? u->when : "always", u->what,
               u->manual, u->followed ? "does what AMD Zen 4 does" : "its own");
    }
}

void tables_write_left_out(void)
{
    printf("| instructions | why |\n| --- | --- |\n");
    printf("| mov and pop to a segment register | loads segment registers of the host's process "
           "|\n");
    for (unsigned i = 0; i < ARRAY_LEN(left_out_forms); i++)
        printf("| %s | %s |\n", left_out_forms[i].mnemonics, left_out_forms[i].why);
}
