/*
 * Direct execution: a guest's user code as it is, in a cage of its address space's.
 *
 * Translated code pays for each access to memory and each return, and pays little to get from a
 * program to the guest's kernel and back; a cage pays for nothing but the way there and back, a
 * hundred times as much. So a program runs in a cage while it computes, and not while it calls the
 * kernel all the time: what it does is watched, in either place.
 *
 * What a cage holds are pages that the address space's flat table for users has, with the rights
 * that it gives them, and so what a processor's TLB may hold: what is taken out of the table is
 * taken out of the cage before it runs again. Code is held as well, if it may be executed unseen
 * (sensitive.h); what may not be is run as translated code.
 */
#ifndef DOPPEL_ENGINE_BINARY_DIRECT_H
#define DOPPEL_ENGINE_BINARY_DIRECT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/binary/guard.h"
#include "engine/binary/mirror.h"

struct cage;
struct space;

/* Of an address space, whatever its process-context identifier. */
struct direct {
    uint64_t root;             /* of its paging structures */
    uint64_t last;             /* when it was last asked for */
    const struct space *space; /* whose table for users the cage follows */
    bool on;                   /* its programs run in the cage */
    bool filled;               /* that has had what was in the table when it was turned on */
    struct cage *cage;
    struct mirror mirror;
    struct guards guards;
    unsigned maps;    /* that have been made in it since it was empty */
    uint64_t since;   /* on the host's time-stamp counter: when the present watch began */
    uint64_t entered; /* the kernel by then: binary_vcpu's count */
    unsigned stops;   /* of the cage, since the watch began, and the time between them */
    uint64_t inside;
    uint64_t again; /* not before */
    uint64_t pause; /* how long it is off when it is next found not to pay */
};

/* Ends it, and what there is of it. */
void direct_end(struct direct *d);

#endif
