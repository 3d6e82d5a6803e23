/*
 * Guest memory as instructions see it: linear addresses, through the software TLB.
 *
 * The inline functions are the fast path: one compare, one access. Whatever they can't do (TLB
 * miss, page straddle, MMIO, code pages, alignment checks, faults) the _slow functions of access.c
 * do. All of them raise the fault the manual asks for and then do not return; an access that faults
 * changes nothing in memory. `seg` is the segment the address came through: a non-canonical address
 * raises #SS for X86_SS, #GP otherwise. Segment limits were checked before (ea.h).
 */
#ifndef DOPPEL_X86_ACCESS_H
#define DOPPEL_X86_ACCESS_H

#include "x86/cpu.h"

enum { X86_PAGE_BITS = 12, X86_PAGE_SIZE = 1 << X86_PAGE_BITS };
#define X86_PAGE_MASK (~(uint64_t)(X86_PAGE_SIZE - 1))

/* X86_PEEK: whether an access has been made already, as far as the page tables tell. */
enum x86_access { X86_READ = 1, X86_WRITE = 2, X86_RMW = 3, X86_FETCH = 4, X86_PEEK = 8 };

/* size is 1, 2, 4 or 8. */
COLD uint64_t x86_read_slow(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned seg);
COLD void x86_write_slow(struct x86_cpu *c, uint64_t lin, unsigned size, uint64_t value,
                         unsigned seg);

/* Any n from 1 to 4096: all or nothing. */
void x86_read_bytes(struct x86_cpu *c, uint64_t lin, void *to, unsigned n, unsigned seg);
void x86_write_bytes(struct x86_cpu *c, uint64_t lin, const void *from, unsigned n, unsigned seg);

/* Raises now what a write of n bytes (1 to 4096) would raise, and changes no memory but A and D
 * bits. */
void x86_probe_write(struct x86_cpu *c, uint64_t lin, unsigned n, unsigned seg);
void x86_probe_read(struct x86_cpu *c, uint64_t lin, unsigned n, unsigned seg);
/* The same for the images of FXSAVE, XSAVE and FNSAVE and their kin, of which AMD's processors look
 * at the last byte first (FXSAVE, FXRSTOR), or at the first word and then the last byte: that is
 * what a page fault reports. */
enum x86_image_order { X86_LAST_BYTE_FIRST, X86_FIRST_WORD_FIRST };
void x86_probe_image(struct x86_cpu *c, uint64_t lin, unsigned n, unsigned access, unsigned seg,
                     enum x86_image_order order);

/* Elements of masked moves and gathers, which alignment checks leave alone (SDM 2, table 2-24).
 * size is 4 or 8. */
uint64_t x86_read_element(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned seg);
void x86_write_element(struct x86_cpu *c, uint64_t lin, unsigned size, uint64_t value,
                       unsigned seg);
void x86_probe_element(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned access,
                       unsigned seg);

/* Implicit supervisor accesses (descriptor tables, TSS, interrupt stacks): at any CPL, SMAP does
 * not let AC off the hook. size is 1, 2, 4 or 8. */
uint64_t x86_sys_read(struct x86_cpu *c, uint64_t lin, unsigned size);
void x86_sys_write(struct x86_cpu *c, uint64_t lin, unsigned size, uint64_t value);
/* Compare-and-exchange of 8 aligned-or-not bytes as a supervisor: busy and accessed bits of
 * descriptors. Returns what was there. */
uint64_t x86_sys_cmpxchg(struct x86_cpu *c, uint64_t lin, uint64_t expected, uint64_t desired);

/* The host address of RAM at [lin, lin + size), for reading and writing in place: the fast path of
 * read-modify-write, and of LOCKed operations when aligned. NULL: go the slow way (nothing was
 * raised). */
static ALWAYS_INLINE void *x86_rmw_host(struct x86_cpu *c, uint64_t lin, unsigned size)
{
    const struct tlb_entry *e = &c->tlb->entry[(lin >> X86_PAGE_BITS) & (TLB_SIZE - 1)];
    if (likely(((lin + size - 1) & X86_PAGE_MASK) == e->write))
        return (void *)(e->addend + lin);
    return NULL;
}

/* For LOCKed instructions: makes [lin, lin + size) writable RAM reachable and returns its host
 * address when a host atomic operation may be used on it (size 1 to 16, naturally aligned, RAM).
 * Otherwise enters an exclusive section, in which plain reads and writes are atomic, and returns
 * NULL; the caller then calls x86_lock_end(). Raises what a write would raise, before entering. */
void *x86_lock_begin(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned seg);
void x86_lock_end(struct x86_cpu *c);

#define X86_ACCESSOR(bits)                                                                         \
    static ALWAYS_INLINE uint##bits##_t x86_read##bits(struct x86_cpu *c, uint64_t lin,            \
                                                       unsigned seg)                               \
    {                                                                                              \
        const struct tlb_entry *e = &c->tlb->entry[(lin >> X86_PAGE_BITS) & (TLB_SIZE - 1)];       \
        if (likely(((lin + bits / 8 - 1) & X86_PAGE_MASK) == e->read))                             \
            return load_u##bits((const void *)(e->addend + lin));                                  \
        return (uint##bits##_t)x86_read_slow(c, lin, bits / 8, seg);                               \
    }                                                                                              \
    static ALWAYS_INLINE void x86_write##bits(struct x86_cpu *c, uint64_t lin,                     \
                                              uint##bits##_t value, unsigned seg)                  \
    {                                                                                              \
        const struct tlb_entry *e = &c->tlb->entry[(lin >> X86_PAGE_BITS) & (TLB_SIZE - 1)];       \
        if (likely(((lin + bits / 8 - 1) & X86_PAGE_MASK) == e->write)) {                          \
            store_u##bits((void *)(e->addend + lin), value);                                       \
            return;                                                                                \
        }                                                                                          \
        x86_write_slow(c, lin, bits / 8, value, seg);                                              \
    }
X86_ACCESSOR(8)
X86_ACCESSOR(16)
X86_ACCESSOR(32)
X86_ACCESSOR(64)
#undef X86_ACCESSOR

/* ---- the TLB (tlb.c) ---- */
void x86_tlb_init(struct x86_cpu *c);
void x86_tlb_flush(struct x86_cpu *c); /* every view, every entry */
/* What is known of lin's page, as large as it was when it was looked up (large_pages.h). */
void x86_tlb_flush_page(struct x86_cpu *c, uint64_t lin);
/* Every entry as well; global pages, and where CR4.PCIDE is set and `keep` is those of the other
 * process-context identifiers, need not be forgotten by who can tell them apart. */
void x86_tlb_switch(struct x86_cpu *c, bool keep);
/* Takes the page out of every view's write tags (a page that holds code, or is watched for dirt).
 */
void x86_tlb_write_protect(struct x86_cpu *c, uint64_t gpa);

/* ---- paging (paging.c; SDM 3, chapter 4) ---- */

/* Translates lin for an instruction fetch at the current CPL; raises #PF (or #GP when lin is not
 * canonical). Returns the guest-physical address. */
uint64_t x86_fetch_translate(struct x86_cpu *c, uint64_t lin);

/* Translates without raising and without setting A or D bits, as a debugger would. */
bool x86_translate_debug(struct x86_cpu *c, uint64_t lin, uint64_t *gpa);

#endif
