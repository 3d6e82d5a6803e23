/*
 * What may differ between silicon and the engine, and what does.
 */
#ifndef DOPPEL_SILICON_COMPARE_H
#define DOPPEL_SILICON_COMPARE_H

#include <stdio.h>

#include "case.h"

/* True: both ended alike, but for what tables.c names as undefined. */
bool case_same(const struct silicon_case *c, const struct case_end *host,
               const struct case_end *ours, const uint8_t *our_data);

/* Says what the case is and how the ends differ, in TAP's comments. */
void case_report(const struct silicon_case *c, const struct case_end *host,
                 const struct case_end *ours, const uint8_t *our_data);

/* The case alone. */
void case_print(const struct silicon_case *c);

#endif
