/*
 * docs/instructions.md: every form and its state.
 *
 * The file of cases says how many cases of a form the silicon tests run, one form a line:
 * "encoding | mnemonic | operands | cases", the first three as in the form tables.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "row.h"

/* How many cases the file has for the row; 0 when it says nothing. */
static unsigned long cases_of(const struct row *r, const char *file_name)
{
    char line[256];
    unsigned long cases = 0;
    FILE *f = fopen(file_name, "r");
    if (!f)
        return 0;
    while (cases == 0 && fgets(line, sizeof line, f)) {
        char *part[4] = {0}, *save = NULL;
        unsigned n = 0;
        /* strtok would skip an empty column */
        for (save = line; save && n < 4; n++) {
            part[n] = save;
            if ((save = strchr(save, '|')))
                *save++ = 0;
        }
        if (n == 4 && strcmp(row_trim(part[0]), r->encoding) == 0 &&
            strcmp(row_trim(part[1]), r->mnemonic) == 0 &&
            strcmp(row_trim(part[2]), r->operands) == 0)
            cases = strtoul(part[3], NULL, 10);
    }
    fclose(f);
    return cases;
}

static const char *modes(const struct row *r)
{
    if (r->flags & X86_FORM_NO64)
        return "16, 32";
    return r->flags & X86_FORM_ONLY64 ? "64" : "16, 32, 64";
}

static void write_row(const struct row *r, const char *cases_file)
{
    unsigned long cases = cases_of(r, cases_file);
    printf("| %s | %s%s | %s | %s | %s | %s | ", r->encoding, r->mnemonic,
           r->flags & X86_FORM_CC ? "*cc*" : "", r->operands, row_features[r->feature].text,
           modes(r), *r->sem ? "done" : "#UD");
    if (cases)
        printf("%lu", cases);
    printf(" |\n");
}

static void write_summary(const struct rows *rows)
{
    printf("| feature | forms | state |\n| --- | --- | --- |\n");
    for (unsigned f = 0; f < X86_FEATURES; f++) {
        unsigned n = 0;
        for (unsigned i = 0; i < rows->count; i++)
            n += rows->row[i].feature == f;
        if (n)
            printf("| %s | %u | %s |\n", row_features[f].text, n,
                   row_features[f].modelled ? "done" : "#UD");
    }
}

/* AMD's extensions that no Intel processor has, nor the model: to the decoder they are invalid, so
 * they need no rows of their own (APM 3, APM 4, APM 6). */
static const struct {
    const char *family, *encodings, *mnemonics;
} without_rows[] = {
    {"3DNow! and its extensions", "0F 0E; 0F 0F /r ib",
     "femms pi2fw pi2fd pf2iw pf2id pfnacc pfpnacc pfcmpge pfmin pfrcp pfrsqrt pfsub pfadd pfcmpgt "
     "pfmax pfrcpit1 pfrsqit1 pfsubr pfacc pfcmpeq pfmul pfrcpit2 pmulhrw pswapd pavgusb"},
    {"SSE4A", "66 0F 78, 66 0F 79, F2 0F 78, F2 0F 79; F3 0F 2B, F2 0F 2B",
     "extrq insertq movntss movntsd"},
    {"FMA4", "VEX 0F 3A 5C to 5F, 68 to 6F, 78 to 7F",
     "vfmaddpd vfmaddps vfmaddsd vfmaddss vfmaddsubpd vfmaddsubps vfmsubaddpd vfmsubaddps vfmsubpd "
     "vfmsubps vfmsubsd vfmsubss vfnmaddpd vfnmaddps vfnmaddsd vfnmaddss vfnmsubpd vfnmsubps "
     "vfnmsubsd vfnmsubss"},
    {"XOP", "8F with a map of 8, 9 or A",
     "vfrczpd vfrczps vfrczsd vfrczss vpcmov vpcomb vpcomd vpcomq vpcomub vpcomud vpcomuq vpcomuw "
     "vpcomw vphaddbd vphaddbq vphaddbw vphadddq vphaddubd vphaddubq vphaddubw vphaddudq vphadduwd "
     "vphadduwq vphaddwd vphaddwq vphsubbw vphsubdq vphsubwd vpmacsdd vpmacsdqh vpmacsdql "
     "vpmacssdd vpmacssdqh vpmacssdql vpmacsswd vpmacssww vpmacswd vpmacsww vpmadcsswd vpmadcswd "
     "vpperm vpermil2pd vpermil2ps vprotb vprotd vprotq vprotw vpshab vpshad vpshaq vpshaw vpshlb "
     "vpshld vpshlq vpshlw"},
    {"TBM", "8F map 9: 01, 02; map A: 10",
     "bextr (immediate) blcfill blci blcic blcmsk blcs blsfill blsic t1mskc tzmsk"},
    {"LWP", "8F map 9: 12; map A: 12", "llwpcb slwpcb lwpins lwpval"},
};

static void write_without_rows(void)
{
    printf("\n## AMD's own extensions\n\nNo Intel processor has them, nor has the model: all raise "
           "#UD.\n\n"
           "| extension | encodings | instructions | state |\n| --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < sizeof without_rows / sizeof without_rows[0]; i++)
        printf("| %s | %s | %s | #UD |\n", without_rows[i].family, without_rows[i].encodings,
               without_rows[i].mnemonics);
}

void rows_write_docs(const struct rows *rows, const char *cases_file)
{
    unsigned done = 0;
    for (unsigned i = 0; i < rows->count; i++)
        done += *rows->row[i].sem != 0;
    printf("# Instruction forms\n\n"
           "Made from the decoder's tables (src/x86/forms) by `generate-forms docs`; `ninja "
           "instructions` in a build\nfolder writes it anew, and a test says when it is stale. "
           "Do not edit it.\n\n"
           "%u forms: %u done, %u that raise #UD because the processor models lack them (under "
           "`--cpu host` the host's processor\nexecutes those of them that cpu.md names). "
           "What is listed nowhere here is no instruction, and raises #UD as well.\n\n"
           "Operands are in the manual's notation (SDM 2, A.2). *Cases* is how many cases of the "
           "form the tests compare\nwith a real processor; empty where it can't be run there.\n\n",
           rows->count, done, rows->count - done);
    write_summary(rows);
    printf("\n| encoding | instruction | operands | feature | code | state | cases |\n"
           "| --- | --- | --- | --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < rows->count; i++)
        write_row(&rows->row[i], cases_file);
    write_without_rows();
}
