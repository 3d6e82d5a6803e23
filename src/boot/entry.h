/*
 * The processor states in which boot protocols enter a kernel. Each starts from a state as after a
 * reset. They can't fail for a guest that has the first 640 KiB, which every guest has.
 */
#ifndef DOPPEL_BOOT_ENTRY_H
#define DOPPEL_BOOT_ENTRY_H

#include <stdint.h>

struct memory;
struct x86_state;

/* Flat 32-bit protected mode, paging and interrupts off. CS is 0x10, the data segments 0x18, in a
 * GDT in low memory. General registers are 0 but ESP. */
void entry_protected(struct memory *memory, struct x86_state *state, uint32_t eip);

/* Long mode with the first 4 GiB mapped to themselves, interrupts off; else the same. */
void entry_long(struct memory *memory, struct x86_state *state, uint64_t rip);

/* Real mode at cs:ip, every data segment data. */
void entry_real(struct x86_state *state, uint16_t cs, uint16_t ip, uint16_t data, uint16_t sp);

#endif
