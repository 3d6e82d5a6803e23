/*
 * Instructions that would tell of the host where they should tell of the guest's processor, and
 * raise no fault about it: what code in a cage has to be stopped at.
 */
#ifndef DOPPEL_ENGINE_BINARY_SENSITIVE_H
#define DOPPEL_ENGINE_BINARY_SENSITIVE_H

#include <stdbool.h>
#include <stdint.h>

/* Where those of a page's 4096 bytes begin, `most` of them at most, in order; returns how many
 * there are, if not more than `most`, and `most` + 1 else. An instruction at its end whose opcode
 * goes on in the next page is left out. */
unsigned sensitive_find(const uint8_t *page, uint16_t *at, unsigned most);
/* Whether the one at `at` is still taken for an instruction where it is known what comes before. */
bool sensitive_behind(const uint8_t *before, const uint8_t *page, unsigned at);
/* Whether there is one such, and it is sensitive, where `next` comes behind `page`. */
bool sensitive_across(const uint8_t *page, const uint8_t *next);

#endif
