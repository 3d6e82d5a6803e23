/*
 * Writes what is made of the form tables (forms/ *.def), on standard output:
 *
 *   generate tables DEF...       C: x86_forms, and the decoder's tables
 *   generate sems DEF...         C: x86_form_sem, the forms' semantic functions
 *   generate docs CASES DEF...   docs/instructions.md
 *
 * Runs at build time, on the build machine. It may exit: it is not part of Doppel.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "row.h"

#define BANNER "/* Made by forms/generate.c from the form tables. */\n"

/* ---- the decoder's tables ---- */

enum { MAX_MATCHES = 65536, MAX_SPLITS = 16 * 1024 };

struct cell {
    unsigned first, count, flags;
};

struct tables {
    const struct rows *rows;
    unsigned match[MAX_MATCHES]; /* rows, by number */
    unsigned matches;
    struct cell split[MAX_SPLITS];
    unsigned splits;
    struct cell opcode[TABLES][256];
};

static unsigned table_of(const struct row *r)
{
    static const unsigned first[] = {
        [LEGACY] = TABLE_LEGACY, [VEX] = TABLE_VEX, [EVEX] = TABLE_EVEX};
    return first[r->kind] + r->map;
}

static bool is_more_particular(const struct row *a, const struct row *b)
{
    return __builtin_popcount(a->mask) > __builtin_popcount(b->mask);
}

/* Forms of one opcode, in the order they are tried: particular before general. */
static unsigned candidates(const struct rows *rows, unsigned table, unsigned opcode, unsigned *list)
{
    unsigned n = 0;
    for (unsigned i = 0; i < rows->count; i++) {
        const struct row *r = &rows->row[i];
        if (table_of(r) != table || opcode < r->opcode || opcode >= r->opcode + r->opcodes)
            continue;
        unsigned at = n++;
        for (; at > 0 && is_more_particular(r, &rows->row[list[at - 1]]); at--)
            list[at] = list[at - 1];
        list[at] = i;
    }
    return n;
}

static void add_match(struct tables *t, unsigned row)
{
    if (t->matches == MAX_MATCHES) {
        fprintf(stderr, "generate: MAX_MATCHES is too small\n");
        exit(1);
    }
    t->match[t->matches++] = row;
}

/* One list for each mod (register or not) and reg. */
static void split_by_modrm(struct tables *t, const unsigned *list, unsigned n)
{
    for (unsigned s = 0; s < 16; s++) {
        unsigned key = (s >= 8 ? KEY_MOD3 : 0) | (s & 7) << KEY_REG_SHIFT;
        struct cell *cell = &t->split[t->splits++];
        *cell = (struct cell){.first = t->matches};
        for (unsigned i = 0; i < n; i++) {
            const struct row *r = &t->rows->row[list[i]];
            unsigned mask = r->mask & (KEY_MOD3 | KEY_REG);
            if ((key & mask) != (r->value & mask))
                continue;
            add_match(t, list[i]);
            cell->count++;
        }
    }
}

static struct cell make_opcode(struct tables *t, unsigned table, unsigned opcode)
{
    unsigned list[MAX_ROWS];
    unsigned n = candidates(t->rows, table, opcode, list);
    struct cell cell = {t->matches, n, 0};
    bool modrm = n && t->rows->row[list[0]].modrm;
    for (unsigned i = 0; i < n; i++)
        if (t->rows->row[list[i]].modrm != modrm) {
            fprintf(stderr, "generate: forms of opcode %02x differ in having ModRM\n", opcode);
            exit(1);
        }
    cell.flags = modrm ? OPCODE_MODRM : 0;
    if (modrm && n > 2) {
        cell = (struct cell){t->splits, 16, OPCODE_MODRM | OPCODE_SPLIT};
        split_by_modrm(t, list, n);
        return cell;
    }
    for (unsigned i = 0; i < n; i++)
        add_match(t, list[i]);
    return cell;
}

static void write_cells(const struct cell *cells, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        printf("{%u, %u, %u},%c", cells[i].first, cells[i].count, cells[i].flags,
               i % 8 == 7 ? '\n' : ' ');
}

static void write_decoder(const struct rows *rows)
{
    static struct tables t;
    t.rows = rows;
    for (unsigned i = 0; i < TABLES; i++)
        for (unsigned o = 0; o < 256; o++)
            t.opcode[i][o] = make_opcode(&t, i, o);
    printf("const struct match decode_matches[] = {\n");
    for (unsigned i = 0; i < t.matches; i++) {
        const struct row *r = &rows->row[t.match[i]];
        printf("    {0x%x, 0x%x, 0x%x, %u, %u, %u, 0x%x, {0}},\n", r->mask, r->value,
               r->match_flags, t.match[i], r->size, r->imm, r->n8);
    }
    printf("};\n\nconst struct opcode decode_split[] = {\n");
    write_cells(t.split, t.splits);
    printf("};\n\nconst struct opcode decode_opcodes[TABLES][256] = {\n");
    for (unsigned i = 0; i < TABLES; i++) {
        printf("{\n");
        write_cells(t.opcode[i], 256);
        printf("},\n");
    }
    printf("};\n");
}

static void write_form(const struct row *r)
{
    const char *quote = *r->sem ? "\"" : "";
    printf("    {\"%s\", \"%s\", \"%s\", %s%s%s, {", r->mnemonic, r->operands, r->encoding, quote,
           *r->sem ? r->sem : "0", quote);
    for (unsigned i = 0; i < MAX_OPERANDS; i++)
        printf("{%u, %u},", r->operand[i].kind, r->operand[i].type);
    printf("}, 0x%x, %u, %u},\n", r->flags, r->feature, r->cc);
}

static void write_tables(const struct rows *rows)
{
    printf(BANNER "#include \"x86/decode_tables.h\"\n#include \"x86/forms.h\"\n\n"
                  "const struct x86_form x86_forms[] = {\n");
    for (unsigned i = 0; i < rows->count; i++)
        write_form(&rows->row[i]);
    printf("};\nconst unsigned x86_form_count = %u;\n\n", rows->count);
    printf("const char *const x86_feature_names[X86_FEATURES] = {\n");
    for (unsigned i = 0; i < X86_FEATURES; i++)
        printf("    \"%s\",\n", row_features[i].text);
    printf("};\n\n");
    write_decoder(rows);
}

/* ---- the semantics ---- */

static bool is_first_of_sem(const struct rows *rows, unsigned i)
{
    for (unsigned j = 0; j < i; j++)
        if (strcmp(rows->row[i].sem, rows->row[j].sem) == 0)
            return false;
    return true;
}

static void write_sems(const struct rows *rows)
{
    printf(BANNER "#include \"x86/forms.h\"\n\n");
    for (unsigned i = 0; i < rows->count; i++)
        if (*rows->row[i].sem && is_first_of_sem(rows, i))
            printf("extern const struct sem %s_sem;\n", rows->row[i].sem);
    printf("\nconst struct sem *const x86_form_sem[] = {\n");
    for (unsigned i = 0; i < rows->count; i++)
        if (*rows->row[i].sem)
            printf("    &%s_sem,\n", rows->row[i].sem);
        else
            printf("    0,\n");
    printf("};\n");
}

int main(int argc, char **argv)
{
    static struct rows rows;
    const char *what = argc > 1 ? argv[1] : "";
    bool docs = strcmp(what, "docs") == 0;
    for (int i = docs ? 3 : 2; i < argc; i++)
        rows_read(&rows, argv[i]);
    if (rows.count && strcmp(what, "tables") == 0)
        write_tables(&rows);
    else if (rows.count && strcmp(what, "sems") == 0)
        write_sems(&rows);
    else if (rows.count && docs)
        rows_write_docs(&rows, argv[2]);
    else {
        fprintf(stderr, "usage: generate tables|sems DEF..., or docs CASES DEF...\n");
        return 2;
    }
    return fflush(stdout) != 0;
}
