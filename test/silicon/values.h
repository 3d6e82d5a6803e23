/*
 * Random values of each kind, with the ones that matter more often than chance has them.
 */
#ifndef DOPPEL_SILICON_VALUES_H
#define DOPPEL_SILICON_VALUES_H

#include "case.h"
#include "random.h"

/* A general register's content: numbers, and pointers into data and code. */
uint64_t value_gpr(struct rng *r);

/* Where an INT3 is that no case's instruction stands near. */
uint64_t value_code_pointer(struct rng *r);

/* A linear address for an operand of so many bytes: mostly in the writable pages, at times across
 * a page's end, in the read-only page, where nothing is, or not canonical. */
uint64_t value_address(struct rng *r, unsigned size, unsigned code);

/* 16 bytes of vector or memory: floats, doubles, extended numbers, letters, small numbers. */
void value_lane(struct rng *r, uint8_t to[16]);

/* An extended-precision number, 10 bytes. */
void value_f80(struct rng *r, uint8_t to[10]);

/* x87 and SSE state that FXRSTOR takes: CASE_FX bytes. */
void value_fx(struct rng *r, uint8_t *fx);

#endif
