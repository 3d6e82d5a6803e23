/*
 * User code as Linux has it for its programs: its system calls, descriptors and features, and four
 * pages at WINDOW that it can read, write and execute.
 */
#ifndef GUEST_PROGRAM_H
#define GUEST_PROGRAM_H

#include "vector.h"
#include "window.h"

enum { PAGE = 4096, PAGES = 4 };
enum { EBX = 1, ECX = 2, EDX = 3 };
enum { CR4_FSGSBASE = 1 << 16, SYSCALL_MASK = 0x257fd5 };

extern uint64_t boot_pml4[512], boot_pdpt[512];
extern uint8_t code_pages[PAGES * PAGE];
extern uint64_t code_table[512]; /* the page table of WINDOW, where those are the first */

/* User code, in a page of its own: nobody writes there. */
#define USER(name, text)                                                                           \
    TESTED(name, ".balign 4096\n" #name "_code:" text "\nint $0x30\n.balign 4096");                \
    extern uint8_t name##_code[]

/* A bit of what CPUID says; reg: EBX, ECX, EDX. */
bool feature(uint32_t leaf, unsigned reg, unsigned bit);
/* Makes everything so. */
void prepare(void);
/* The pages again. */
void map_code(void);
/* What run_code() is to begin with: CPL 3, interrupts on, in each register another number. */
struct context user(void);

/* After prepare(): the root of another address space with the same pages. Its own is this table. */
extern uint64_t other_table[512];
uint64_t other_space(void);

#endif
