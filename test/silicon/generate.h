/*
 * Cases: from a form, a kind of code and a seed to everything that both worlds start with.
 */
#ifndef DOPPEL_SILICON_GENERATE_H
#define DOPPEL_SILICON_GENERATE_H

#include "case.h"

/* False: the form does not exist in this code. */
bool case_generate(struct silicon_case *c, unsigned form, unsigned code, uint64_t seed);

/* The common content of the data pages. */
void case_pattern(struct case_pattern *p);

#endif
