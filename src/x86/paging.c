#include "x86/paging.h"

#include "memory/memory.h"
#include "x86/cpuid.h"

/* Page-table entries (SDM 3, 4.3 to 4.5). */
enum {
    PTE_P = 1u << 0,
    PTE_W = 1u << 1,
    PTE_U = 1u << 2,
    PTE_A = 1u << 5,
    PTE_D = 1u << 6,
    PTE_PS = 1u << 7,
    PTE_G = 1u << 8,
};
#define PTE_XD BIT(63)

/* Page-fault error codes (SDM 3, 4.7). */
enum {
    PF_P = 1u << 0,
    PF_W = 1u << 1,
    PF_U = 1u << 2,
    PF_RSVD = 1u << 3,
    PF_ID = 1u << 4,
    PF_PK = 1u << 5,
};

enum { LEVELS = 4 };

/* One translation under way. Entries are remembered so that accessed and dirty bits are set only
 * once every check has passed, each against the value that was checked. */
struct walk {
    struct x86_cpu *c;
    uint64_t lin;
    unsigned used; /* entries read, the leaf last */
    struct {
        uint64_t gpa, value;
    } entry[LEVELS];
    unsigned entry_size; /* 4 or 8 bytes */
    uint64_t allowed;    /* PTE_W and PTE_U, the AND of every level */
    bool execute_disable;
    uint64_t gpa;  /* the byte's */
    unsigned bits; /* the page's size */
};

enum step { STEP_DOWN, STEP_LEAF, STEP_ABSENT, STEP_RESERVED };

/* ---- entries in memory ---- */

static uint64_t entry_read(const struct walk *w, uint64_t gpa)
{
    const uint8_t *p = memory_hva(w->c->memory, gpa);
    if (likely(p != NULL))
        return w->entry_size == 8 ? load_u64(p) : load_u32(p);
    return w->c->host.mmio_read(w->c->host.ctx, gpa, w->entry_size);
}

/* Sets bits in an entry that still has the value that was checked. False: another processor has
 * changed it, so walk again. */
static bool entry_set(const struct walk *w, uint64_t gpa, uint64_t value, uint64_t bits)
{
    struct memory *m = w->c->memory;
    uint8_t *p = memory_hva(m, gpa);
    if (!p) {
        w->c->host.mmio_write(w->c->host.ctx, gpa, w->entry_size, value | bits);
        return true;
    }
    bool done;
    if (w->entry_size == 8) {
        done = __atomic_compare_exchange_n((uint64_t *)p, &value, value | bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    } else {
        uint32_t was = (uint32_t)value;
        done = __atomic_compare_exchange_n((uint32_t *)p, &was, was | (uint32_t)bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    /* Code in a page of page tables is left alone: what changed is no byte of it unless a guest
     * runs its page-table entries as instructions. */
    if (done)
        memory_written(m, gpa, memory_flags(m, gpa));
    return done;
}

/* ---- the levels ---- */

/* Reads the entry at gpa, one level further down. big: a set PS bit makes it a leaf; mask: the
 * reserved bits of a leaf at this level and of a table entry. */
static enum step step(struct walk *w, uint64_t gpa, bool big, uint64_t leaf_reserved,
                      uint64_t table_reserved)
{
    uint64_t e = entry_read(w, gpa);
    w->entry[w->used].gpa = gpa;
    w->entry[w->used++].value = e;
    if (!(e & PTE_P))
        return STEP_ABSENT;
    bool leaf = big && (e & PTE_PS);
    if (e & (leaf ? leaf_reserved : table_reserved))
        return STEP_RESERVED;
    w->allowed &= e;
    w->execute_disable |= w->entry_size == 8 && (e & PTE_XD);
    return leaf ? STEP_LEAF : STEP_DOWN;
}

static void leaf_at(struct walk *w, uint64_t frame, unsigned bits)
{
    w->gpa = (frame & ~bits_mask(bits)) | (w->lin & bits_mask(bits));
    w->bits = bits;
}

/* 32-bit paging (SDM 3, 4.3), with PSE-36 for physical addresses of up to 40 bits. */
static enum step walk_32(struct walk *w)
{
    struct x86_cpu *c = w->c;
    unsigned physical = x86_physical_bits(c->model) < 40 ? x86_physical_bits(c->model) : 40;
    uint64_t big_reserved = bits_mask(22) & ~bits_mask(13 + physical - 32);

    w->entry_size = 4;
    uint64_t pde = (c->s.cr3 & 0xfffff000) | ((w->lin >> 22) & 0x3ff) << 2;
    enum step s = step(w, pde, c->s.cr4 & CR4_PSE, big_reserved, 0);
    uint64_t e = w->entry[0].value;
    if (s == STEP_LEAF)
        leaf_at(w, (e & 0xffc00000) | ((e >> 13) & 0xff) << 32, 22);
    if (s != STEP_DOWN)
        return s;

    uint64_t pte = (e & 0xfffff000) | ((w->lin >> 12) & 0x3ff) << 2;
    s = step(w, pte, false, 0, 0);
    if (s != STEP_DOWN)
        return s;
    leaf_at(w, w->entry[1].value & 0xfffff000, 12);
    return STEP_LEAF;
}

/* The levels that PAE and 4-level paging share, from `level` (4: PML4, 3: PDPT, 2: PD, 1: PT) down.
 * `high`: what is reserved above the physical address. */
static enum step walk_64(struct walk *w, uint64_t table, unsigned level, uint64_t high)
{
    uint64_t address = bits_mask(x86_physical_bits(w->c->model)) & X86_PAGE_MASK;
    w->entry_size = 8;
    for (;; level--) {
        unsigned shift = 3 + 9 * level;
        bool big = level == 2 || level == 3;
        /* Bits 13 up to the page size: bit 12 of a large page is PAT. */
        uint64_t leaf_reserved = high | (bits_mask(shift) & ~bits_mask(13));
        uint64_t table_reserved = high | (level == 4 ? PTE_PS : 0);
        enum step s =
            step(w, table | ((w->lin >> shift) & 0x1ff) << 3, big, leaf_reserved, table_reserved);
        uint64_t e = w->entry[w->used - 1].value;
        if (s == STEP_DOWN && level == 1)
            s = STEP_LEAF;
        if (s == STEP_LEAF)
            leaf_at(w, e & address, shift);
        if (s != STEP_DOWN)
            return s;
        table = e & address;
    }
}

static enum step walk_levels(struct walk *w)
{
    struct x86_cpu *c = w->c;
    if (!(c->s.cr4 & CR4_PAE))
        return walk_32(w);

    uint64_t over = ~bits_mask(x86_physical_bits(c->model));
    uint64_t xd = c->s.efer & EFER_NXE ? 0 : PTE_XD;
    if (c->s.efer & EFER_LMA) {
        uint64_t root = c->s.cr3 & ~over & X86_PAGE_MASK;
        return walk_64(w, root, 4, (over & bits_mask(52)) | xd);
    }
    /* PDPTEs are registers, and grant everything. */
    uint64_t pdpte = c->s.pdpte[(w->lin >> 30) & 3];
    if (!(pdpte & PTE_P))
        return STEP_ABSENT;
    return walk_64(w, pdpte & ~over & X86_PAGE_MASK, 2, (over & bits_mask(63)) | xd);
}

/* ---- permissions (SDM 3, 4.6) ---- */

struct rights {
    bool read, write, execute;
    bool key_denies_read, key_denies_write;
};

/* Protection keys (4.6.2): user pages under 4-level paging, data accesses only. */
static void apply_key(const struct walk *w, enum x86_privilege who, struct rights *r)
{
    const struct x86_cpu *c = w->c;
    if (!(c->s.cr4 & CR4_PKE) || !(c->s.efer & EFER_LMA) || !(w->allowed & PTE_U))
        return;
    unsigned key = (w->entry[w->used - 1].value >> 59) & 15;
    bool access_disable = (c->s.pkru >> (2 * key)) & 1;
    bool write_disable = (c->s.pkru >> (2 * key)) & 2;
    r->key_denies_read = access_disable;
    r->key_denies_write =
        access_disable || (write_disable && (who == X86_AS_USER || (c->s.cr0 & CR0_WP)));
    r->read &= !r->key_denies_read;
    r->write &= !r->key_denies_write;
}

static struct rights rights_of(const struct walk *w, enum x86_privilege who)
{
    const struct x86_cpu *c = w->c;
    bool user_page = w->allowed & PTE_U;
    struct rights r;
    if (who == X86_AS_USER) {
        r = (struct rights){
            .read = user_page, .write = user_page && (w->allowed & PTE_W), .execute = user_page};
    } else {
        bool smap = user_page && (c->s.cr4 & CR4_SMAP) && who != X86_AS_SUPERVISOR_AC;
        bool smep = user_page && (c->s.cr4 & CR4_SMEP);
        r = (struct rights){.read = !smap,
                            .write = !smap && ((w->allowed & PTE_W) || !(c->s.cr0 & CR0_WP)),
                            .execute = !smep};
    }
    r.execute &= !w->execute_disable;
    apply_key(w, who, &r);
    return r;
}

static bool permitted(const struct rights *r, unsigned access)
{
    switch (access) {
    case X86_PEEK:
    case X86_READ: return r->read;
    case X86_FETCH: return r->execute;
    default: return r->write;
    }
}

/* The error code's bits that say what was tried. */
static uint32_t attempt(const struct x86_cpu *c, unsigned access, enum x86_privilege who)
{
    uint32_t error = who == X86_AS_USER ? PF_U : 0;
    if (access & X86_WRITE)
        error |= PF_W;
    bool nx = (c->s.cr4 & CR4_PAE) && (c->s.efer & EFER_NXE);
    if (access == X86_FETCH && (nx || (c->s.cr4 & CR4_SMEP)))
        error |= PF_ID;
    return error;
}

/* Whether every entry used has its A bit. */
static bool was_used(const struct walk *w)
{
    uint64_t all = PTE_A;
    for (unsigned i = 0; i < w->used; i++)
        all &= w->entry[i].value;
    return all;
}

static bool is_global(const struct walk *w)
{
    return (w->c->s.cr4 & CR4_PGE) && (w->entry[w->used - 1].value & PTE_G);
}

/* Sets A in every entry used and, for a write, D in the leaf. */
static bool mark_used(struct walk *w, unsigned access)
{
    for (unsigned i = 0; i < w->used; i++) {
        bool leaf = i == w->used - 1;
        uint64_t bits = PTE_A | (leaf && (access & X86_WRITE) ? PTE_D : 0);
        if ((w->entry[i].value & bits) == bits)
            continue;
        if (!entry_set(w, w->entry[i].gpa, w->entry[i].value, bits))
            return false;
        w->entry[i].value |= bits;
    }
    return true;
}

static bool walk_fails(struct x86_walk *out, uint32_t error)
{
    out->error = error;
    return false;
}

bool x86_walk(struct x86_cpu *c, uint64_t lin, unsigned access, enum x86_privilege who,
              struct x86_walk *out)
{
    if (!c->paging) {
        *out = (struct x86_walk){.gpa = (uint32_t)lin,
                                 .readable = true,
                                 .writable = true,
                                 .executable = true,
                                 .bits = PAGE_4K_BITS};
        return true;
    }
    for (;;) {
        struct walk w = {.c = c, .lin = lin, .allowed = ~UINT64_C(0)};
        uint32_t error = attempt(c, access, who);
        switch (walk_levels(&w)) {
        case STEP_ABSENT: return walk_fails(out, error);
        case STEP_RESERVED: return walk_fails(out, error | PF_P | PF_RSVD);
        default: break;
        }
        struct rights r = rights_of(&w, who);
        if (!permitted(&r, access)) {
            bool key = access == X86_READ    ? r.key_denies_read
                       : access == X86_FETCH ? false
                                             : r.key_denies_write;
            return walk_fails(out, error | PF_P | (key ? PF_PK : 0));
        }
        if (access == X86_PEEK && !was_used(&w))
            return walk_fails(out, error);
        if (access != X86_PEEK && !mark_used(&w, access))
            continue;
        *out = (struct x86_walk){.gpa = w.gpa,
                                 .readable = r.read,
                                 .writable = r.write && (w.entry[w.used - 1].value & PTE_D),
                                 .executable = r.execute,
                                 .global = is_global(&w),
                                 .bits = w.bits};
        if (w.bits > PAGE_4K_BITS)
            large_pages_add(&c->large, lin, w.bits);
        return true;
    }
}

_Noreturn void x86_page_fault(struct x86_cpu *c, uint64_t lin, uint32_t error)
{
    c->s.cr2 = lin;
    x86_raise_error(c, X86_PF, error);
}

bool x86_translate_debug(struct x86_cpu *c, uint64_t lin, uint64_t *gpa)
{
    if (c->long_mode ? !x86_canonical(lin) : lin >> 32)
        return false;
    if (!c->paging) {
        *gpa = lin;
        return true;
    }
    struct walk w = {.c = c, .lin = lin, .allowed = ~UINT64_C(0)};
    if (walk_levels(&w) != STEP_LEAF)
        return false;
    *gpa = w.gpa;
    return true;
}

bool x86_load_pdptes(struct x86_cpu *c, uint64_t cr3, uint64_t cr0, uint64_t cr4)
{
    if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || (c->s.efer & EFER_LMA))
        return true;
    /* SDM 3, table 4-8: bits 1, 2, 5 to 8 and those above the physical address. */
    uint64_t reserved = 0x1e6 | ~bits_mask(x86_physical_bits(c->model));
    struct walk w = {.c = c, .entry_size = 8};
    uint64_t loaded[4];
    for (unsigned i = 0; i < 4; i++) {
        loaded[i] = entry_read(&w, (cr3 & 0xffffffe0) + 8 * i);
        if ((loaded[i] & PTE_P) && (loaded[i] & reserved))
            return false;
    }
    memcpy(c->s.pdpte, loaded, sizeof loaded);
    return true;
}
