/*
 * What the manuals leave open, and what is not run on silicon: docs/undefined.md and
 * docs/silicon.md are written from these tables.
 */
#ifndef DOPPEL_SILICON_TABLES_H
#define DOPPEL_SILICON_TABLES_H

#include "case.h"

/* A result that the manual leaves undefined. */
struct undefined {
    const char *mnemonics;                         /* separated by blanks */
    const char *when;                              /* for people; "" always */
    const char *what;                              /* the same */
    const char *manual;                            /* where it is said */
    bool followed;                                 /* the engine does what AMD's processors do */
    bool (*applies)(const struct silicon_case *c); /* NULL: always */
    uint32_t flags;                                /* of RFLAGS */
};
extern const struct undefined undefined_results[];
extern const unsigned undefined_count;

/* RFLAGS bits that are not compared for this case. amd: the host is one of AMD's. */
uint32_t undefined_flags(const struct silicon_case *c, bool amd);

/* Why a form is not run; NULL: it is. */
const char *left_out(unsigned form);

bool host_is_amd(void);

void tables_write_undefined(void);
void tables_write_left_out(void);

#endif
