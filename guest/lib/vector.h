/* Vector registers that a system has to switch on: those for which there is a bit in XCR0. */
#ifndef GUEST_VECTOR_H
#define GUEST_VECTOR_H

#include "run64.h"

enum { XCR0_X87 = 1, XCR0_SSE = 2, XCR0_AVX = 4 };
/* With everything that the instructions of that name take. */
enum { XCR0_TO_AVX = 7, XCR0_TO_AVX512 = 0xe7 };

/* Writes it at level 0, and returns what comes of that. */
uint64_t try_xcr0(uint64_t v);

/* CR0 and CR4 as they must be for all kinds of vector instructions, and XCR0. */
void enable_vectors(uint64_t xcr0);

#endif
