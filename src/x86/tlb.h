/*
 * The software TLB's inside, for access.c; others use access.h.
 */
#ifndef DOPPEL_X86_TLB_H
#define DOPPEL_X86_TLB_H

#include "x86/access.h"

/* Enters lin's page: hva is the host address of the page's first byte. */
void x86_tlb_fill(struct tlb *t, uint64_t lin, uint64_t gpa, uint8_t *hva, bool readable,
                  bool writable);

/* The entry that serves a read or a write at lin, or NULL. */
const struct tlb_entry *x86_tlb_find(struct tlb *t, uint64_t lin, bool write);

#endif
