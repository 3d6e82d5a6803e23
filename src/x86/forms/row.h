/*
 * A row of the form tables, as generate.c reads it and writes it out again.
 */
#ifndef DOPPEL_X86_FORMS_ROW_H
#define DOPPEL_X86_FORMS_ROW_H

#include <stdbool.h>

#include "x86/decode_tables.h"
#include "x86/forms.h"

enum { MAX_ROWS = 6000, MAX_OPERANDS = 4 };

enum encoding { LEGACY, VEX, EVEX };

struct row {
    char encoding[64], mnemonic[32], operands[64], sem[32];
    unsigned feature;

    enum encoding kind;
    unsigned map, opcode, opcodes; /* opcodes: how many in a row, from opcode on */
    unsigned mask, value;          /* of the key */
    unsigned flags;                /* X86_FORM_* */
    unsigned match_flags, size, imm, n8, cc;
    bool modrm;
    struct x86_operand operand[MAX_OPERANDS];
};

struct rows {
    struct row row[MAX_ROWS];
    unsigned count;
};

struct feature {
    const char *name, *text;
    bool modelled;
};

extern const struct feature row_features[X86_FEATURES];

/* Appends a file's rows. Ends the program, with a message, when one is wrong. */
void rows_read(struct rows *rows, const char *file_name);

/* Text without the blanks round it, in place. */
char *row_trim(char *s);

/* Writes docs/instructions.md. cases names the file that says how many cases of each form were run
 * on silicon; NULL: none was. */
void rows_write_docs(const struct rows *rows, const char *cases);

#endif
