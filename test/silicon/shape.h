/*
 * What a random state must have so that an instruction does more than fault: quotients that fit,
 * counts that end, selectors that exist, return addresses.
 */
#ifndef DOPPEL_SILICON_SHAPE_H
#define DOPPEL_SILICON_SHAPE_H

#include "case.h"
#include "random.h"

/* Registers; called before the memory operand's registers are made to fit. */
void shape_registers(struct rng *r, struct silicon_case *c);

/* The bytes of the memory operand; returns how many of `to` are meant. */
unsigned shape_operand(struct rng *r, const struct silicon_case *c, uint8_t *to, unsigned size);

#endif
