/*
 * Copies of the guest's page tables, to find out what has changed in them since KVM looked.
 */
#ifndef DOPPEL_ENGINE_HARDWARE_TABLES_H
#define DOPPEL_ENGINE_HARDWARE_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/memory.h"

struct tables;

/* NULL: no memory. */
struct tables *tables_new(const struct memory *m);
void tables_free(struct tables *t);

/* A user is about to run on the tables (of 64-bit mode) at CR3: whether all that KVM can have made
 * of any tables since it last forgot is still right. False: it has to forget. */
bool tables_still_right(struct tables *t, uint64_t cr3);

#endif
