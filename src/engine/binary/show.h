/*
 * What a cage is shown of the address space whose user code it runs.
 *
 * Pages of data as the flat table for users has them, with the rights that it gives: a page that is
 * taken out of the table is taken out of the cage before that runs again, and who takes the right
 * to write away finds the page in the table. Pages of code that may be executed unseen, or in which
 * the cage is stopped before the instructions that may not (guard.h); such a page is watched as
 * translated code's pages are, and taken out when it is written.
 */
#ifndef DOPPEL_ENGINE_BINARY_SHOW_H
#define DOPPEL_ENGINE_BINARY_SHOW_H

#include <stdbool.h>
#include <stdint.h>

struct binary_vcpu;
struct direct;

enum show_state {
    SHOW_SAME,
    SHOW_OTHER,  /* most of what there was is gone: as if it were another program */
    SHOW_BROKEN, /* the cage is of no use any more */
};

/* Takes out what may not be there any more. */
enum show_state show_catch_up(struct binary_vcpu *b, struct direct *d);
/* Whether there is something to take out. */
bool show_is_behind(struct binary_vcpu *b);
/* Takes out everything. False: the cage is of no use any more. */
bool show_clear(struct direct *d);
/* Everything that translated code has used: what the program has done so far, it will go on to do.
 */
void show_table(struct binary_vcpu *b, struct direct *d);

/* The page of code at rip, and others near it. False: it is not for a cage. */
bool show_code_at(struct binary_vcpu *b, struct direct *d, uint64_t rip);
/* The page that an access was made to, or is to be, and others near it. False: it is not to be
 * shown, or was shown all the same. */
bool show_data_at(struct binary_vcpu *b, struct direct *d, uint64_t at, bool write);

/* Takes out the page at va, if it is there. False: the cage is of no use any more. */
bool show_hide(struct direct *d, uint64_t va);
/* Whether what is shown at `at` is a copy of the guest's page (guard.h). */
bool show_has_copy(const struct direct *d, uint64_t at);
/* Whether the page of code at rip is shown. */
bool show_has_code(const struct direct *d, uint64_t rip);
/* Whether data, or code as data, is shown at `at`, to be read at least. */
bool show_has(const struct direct *d, uint64_t at);

#endif
