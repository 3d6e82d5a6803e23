/*
 * Machine code for a form: every field that the encoding leaves open is random.
 */
#ifndef DOPPEL_SILICON_ENCODE_H
#define DOPPEL_SILICON_ENCODE_H

#include "case.h"
#include "random.h"

/* Fills in bytes, len and insn; *disp_at is where the ModRM displacement is, *disp_size its bytes
 * (0: none). False: the form can't be met in this code. */
bool encode_form(struct rng *r, struct silicon_case *c, unsigned *disp_at, unsigned *disp_size);

#endif
