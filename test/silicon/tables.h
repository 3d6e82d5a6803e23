/*
 * What the manuals leave open, and what is not run on silicon. docs/undefined.md is made from it.
 */
#ifndef DOPPEL_SILICON_TABLES_H
#define DOPPEL_SILICON_TABLES_H

#include "case.h"

/* Results that the manual leaves undefined. */
struct undefined {
    const char *mnemonics; /* separated by blanks */
    const char *what;      /* is undefined, and when */
    const char *followed;  /* what the engine does: as AMD's processors do */
    uint32_t flags;        /* of RFLAGS */
};
extern const struct undefined undefined_results[];
extern const unsigned undefined_count;

/* RFLAGS bits of this case that are undefined: what processors of other makers may do otherwise. */
uint32_t undefined_flags(const struct silicon_case *c);

/* Why a form is not run; NULL: it is. */
const char *left_out(unsigned form);

bool host_is_amd(void);

/* docs/undefined.md, on stdout. */
void tables_write(void);

#endif
