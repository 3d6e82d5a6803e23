/* Page walks: every paging mode, every permission, accessed and dirty bits, reserved bits. */
#include "x86/paging.h"

#include "x86_fixture.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };
#define XD BIT(63)

/* Error codes. */
enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_ID = 16, E_PK = 32 };

/* Four levels of tables and what they map: linear LIN to PAGE. */
enum { L4 = 0x100000, L3 = 0x101000, L2 = 0x102000, L1 = 0x103000, PAGE = 0x180000 };
#define LIN UINT64_C(0x00007f8040a05123)

static unsigned index_at(uint64_t lin, unsigned level)
{
    return (lin >> (3 + 9 * level)) & 0x1ff;
}

static uint64_t entry_address(unsigned level)
{
    static const uint64_t table[] = {0, L1, L2, L3, L4};
    return table[level] + 8ull * index_at(LIN, level);
}

static void set_entry(struct fixture *f, unsigned level, uint64_t e)
{
    store_u64(at(f, entry_address(level)), e);
}

static uint64_t get_entry(struct fixture *f, unsigned level)
{
    return load_u64(at(f, entry_address(level)));
}

/* Maps LIN with all that upper levels can grant. */
static void map4(struct fixture *f, uint64_t leaf)
{
    set_entry(f, 4, L3 | P | W | U);
    set_entry(f, 3, L2 | P | W | U);
    set_entry(f, 2, L1 | P | W | U);
    set_entry(f, 1, leaf);
}

static uint64_t unclaimed_read(void *ctx, uint64_t gpa, unsigned size)
{
    return bits_mask(8 * size);
}

static void unclaimed_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value) {}

static void nothing(struct x86_cpu *c) {}

static struct fixture *four_levels(void)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = f->c;
    c->host.mmio_read = unclaimed_read;
    c->host.mmio_write = unclaimed_write;
    c->mappings_changed = nothing;
    c->s.cr0 |= CR0_PE | CR0_PG | CR0_WP;
    c->s.cr4 = CR4_PAE | CR4_PSE;
    c->s.efer = EFER_LME | EFER_LMA | EFER_NXE;
    c->s.cr3 = L4;
    x86_update_mode(c);
    map4(f, PAGE | P | W | U);
    return f;
}

/* The error code of a walk, or -1 when it succeeds. */
static int64_t walk(struct fixture *f, uint64_t lin, unsigned access, enum x86_privilege who)
{
    struct x86_walk w;
    return x86_walk(f->c, lin, access, who, &w) ? -1 : (int64_t)w.error;
}

static uint64_t walk_gpa(struct fixture *f, uint64_t lin)
{
    struct x86_walk w = {0};
    return x86_walk(f->c, lin, X86_READ, X86_AS_SUPERVISOR, &w) ? w.gpa : UINT64_MAX;
}

/* ---- addresses ---- */

TEST(no_paging_is_32_bits_wide)
{
    struct fixture *f = fixture_new();
    CHECK_EQ(walk_gpa(f, 0x12345678), 0x12345678);
    CHECK_EQ(walk_gpa(f, 0xfffffffff), 0xffffffff);
    fixture_free(f);
}

TEST(four_levels_translate)
{
    struct fixture *f = four_levels();
    uint64_t gpa = 0;
    CHECK_EQ(walk_gpa(f, LIN), PAGE | 0x123);
    CHECK(x86_translate_debug(f->c, LIN, &gpa));
    CHECK_EQ(gpa, PAGE | 0x123);
    CHECK_EQ(walk_gpa(f, LIN + 0x1000), UINT64_MAX);

    set_entry(f, 2, 0x40000000 | PS | P | W | U); /* 2 MiB */
    CHECK_EQ(walk_gpa(f, LIN), 0x40000000 | (LIN & 0x1fffff));
    set_entry(f, 3, 0x7fc0000000 | PS | P | W | U); /* 1 GiB, up to 40 bits */
    CHECK_EQ(walk_gpa(f, LIN), 0x7fc0000000 | (LIN & 0x3fffffff));
    fixture_free(f);
}

TEST(upper_half_translates)
{
    struct fixture *f = four_levels();
    /* Entry 511 of every table, at the very top. */
    store_u64(at(f, L4 + 8 * 511), L3 | P | W);
    store_u64(at(f, L3 + 8 * 511), L2 | P | W);
    store_u64(at(f, L2 + 8 * 511), L1 | P | W);
    store_u64(at(f, L1 + 8 * 511), PAGE | P | W);
    CHECK_EQ(walk_gpa(f, UINT64_MAX), PAGE | 0xfff);
    fixture_free(f);
}

TEST(two_levels_of_32_bits)
{
    struct fixture *f = four_levels();
    struct x86_cpu *c = f->c;
    c->s.efer = 0;
    c->s.cr4 = 0;
    c->s.cr3 = L4 | 0x18; /* PWT and PCD are not part of the address */
    x86_update_mode(c);
    uint32_t lin = 0xc0a05123;
    store_u32(at(f, L4 + 4 * (lin >> 22)), L1 | P | W | U);
    store_u32(at(f, L1 + 4 * ((lin >> 12) & 0x3ff)), PAGE | P | W | U);
    CHECK_EQ(walk_gpa(f, lin), PAGE | 0x123);
    /* PS counts under CR4.PSE only. */
    store_u32(at(f, L4 + 4 * (lin >> 22)), L1 | PS | P | W | U);
    CHECK_EQ(walk_gpa(f, lin), PAGE | 0x123);
    c->s.cr4 = CR4_PSE;
    store_u32(at(f, L4 + 4 * (lin >> 22)), 0x00800000 | PS | P | W | U);
    CHECK_EQ(walk_gpa(f, lin), 0x00800000 | (lin & 0x3fffff));
    /* PSE-36: bits 20 to 13 are address bits 39 to 32; bit 21 is reserved. */
    store_u32(at(f, L4 + 4 * (lin >> 22)), 0x00800000 | 0xff << 13 | PS | P | W | U);
    CHECK_EQ(walk_gpa(f, lin), UINT64_C(0xff00800000) | (lin & 0x3fffff));
    store_u32(at(f, L4 + 4 * (lin >> 22)), 0x00800000 | 1 << 21 | PS | P | W | U);
    CHECK_EQ(walk(f, lin, X86_READ, X86_AS_USER), E_P | E_RSVD | E_U);
    /* There is no execute-disable. */
    c->s.efer = EFER_NXE;
    store_u32(at(f, L4 + 4 * (lin >> 22)), 0x00800000 | PS | P | W | U);
    CHECK_EQ(walk(f, lin, X86_FETCH, X86_AS_USER), -1);
    store_u32(at(f, L4 + 4 * (lin >> 22)), 0);
    CHECK_EQ(walk(f, lin, X86_FETCH, X86_AS_USER), E_U);
    fixture_free(f);
}

TEST(pae_uses_the_loaded_pdptes)
{
    struct fixture *f = four_levels();
    struct x86_cpu *c = f->c;
    uint32_t lin = 0xc0a05123;
    c->s.efer = EFER_NXE;
    x86_update_mode(c);
    store_u64(at(f, L4 + 0x60 + 8 * 3), L2 | P);
    store_u64(at(f, L2 + 8 * ((lin >> 21) & 0x1ff)), L1 | P | W | U);
    store_u64(at(f, L1 + 8 * ((lin >> 12) & 0x1ff)), PAGE | P | W | U);
    CHECK(x86_load_pdptes(c, L4 + 0x60, c->s.cr0, c->s.cr4));
    c->s.cr3 = L4 + 0x60;
    CHECK_EQ(walk_gpa(f, lin), PAGE | 0x123);
    CHECK_EQ(walk(f, lin - 0x40000000, X86_WRITE, X86_AS_USER), E_W | E_U);
    /* Memory behind the registers does not count until they are loaded again. */
    store_u64(at(f, L4 + 0x60 + 8 * 3), 0);
    CHECK_EQ(walk_gpa(f, lin), PAGE | 0x123);
    /* Each reserved bit of a present one is refused and loads nothing. */
    static const uint64_t reserved[] = {BIT(1), BIT(2), BIT(5), BIT(8), BIT(40), BIT(63)};
    for (unsigned i = 0; i < ARRAY_LEN(reserved); i++) {
        store_u64(at(f, L4 + 0x60), L2 | P | reserved[i]);
        CHECK(!x86_load_pdptes(c, L4 + 0x60, c->s.cr0, c->s.cr4));
        CHECK_EQ(c->s.pdpte[3], L2 | P);
        store_u64(at(f, L4 + 0x60), L2 | reserved[i]);
        CHECK(x86_load_pdptes(c, L4 + 0x60, c->s.cr0, c->s.cr4));
        c->s.pdpte[3] = L2 | P;
    }
    /* Bits 62 to 52 are reserved in PAE's entries, unlike in those of four levels. */
    store_u64(at(f, L1 + 8 * ((lin >> 12) & 0x1ff)), PAGE | P | W | U | BIT(55));
    CHECK_EQ(walk(f, lin, X86_READ, X86_AS_USER), E_P | E_RSVD | E_U);
    store_u64(at(f, L1 + 8 * ((lin >> 12) & 0x1ff)), PAGE | P | W | U | XD);
    CHECK_EQ(walk(f, lin, X86_FETCH, X86_AS_USER), E_P | E_U | E_ID);
    store_u64(at(f, L2 + 8 * ((lin >> 21) & 0x1ff)), 0x00800000 | PS | P | W | U);
    CHECK_EQ(walk_gpa(f, lin), 0x00800000 | (lin & 0x1fffff));
    fixture_free(f);
}

/* ---- permissions ---- */

/* The manual's rules again (SDM 3, 4.6), said in another way than the walk does. */
static int64_t expected(const struct fixture *f, uint64_t leaf, unsigned access,
                        enum x86_privilege who)
{
    const struct x86_state *s = &f->c->s;
    bool user = who == X86_AS_USER, fetch = access == X86_FETCH, write = access & X86_WRITE;
    bool nxe = s->efer & EFER_NXE, wp = s->cr0 & CR0_WP;
    int64_t e = (user ? E_U : 0) | (write ? E_W : 0);
    if (fetch && (nxe || (s->cr4 & CR4_SMEP)))
        e |= E_ID;
    if (!(leaf & P))
        return e;
    e |= E_P;
    if ((leaf & XD) && !nxe)
        return e | E_RSVD;
    if (user && !(leaf & U))
        return e;
    if (write && !(leaf & W) && (user || wp))
        return e;
    if (fetch && (leaf & XD))
        return e;
    if (!user && (leaf & U)) {
        if (fetch && (s->cr4 & CR4_SMEP))
            return e;
        if (!fetch && (s->cr4 & CR4_SMAP) && who == X86_AS_SUPERVISOR)
            return e;
    }
    return -1;
}

TEST(every_permission_combination)
{
    static const unsigned accesses[] = {X86_READ, X86_WRITE, X86_RMW, X86_FETCH};
    struct fixture *f = four_levels();
    unsigned succeeded = 0, failed = 0;
    for (unsigned bits = 0; bits < 256; bits++) {
        uint64_t leaf = PAGE | (bits & 1 ? P : 0) | (bits & 2 ? W : 0) | (bits & 4 ? U : 0) |
                        (bits & 8 ? XD : 0);
        f->c->s.cr0 = CR0_PE | CR0_PG | (bits & 16 ? CR0_WP : 0);
        f->c->s.efer = EFER_LME | EFER_LMA | (bits & 32 ? EFER_NXE : 0);
        f->c->s.cr4 = CR4_PAE | (bits & 64 ? CR4_SMEP : 0) | (bits & 128 ? CR4_SMAP : 0);
        for (unsigned i = 0; i < 4; i++) {
            for (unsigned who = X86_AS_USER; who <= X86_AS_SUPERVISOR_AC; who++) {
                map4(f, leaf);
                int64_t want = expected(f, leaf, accesses[i], who);
                CHECK_EQ(walk(f, LIN, accesses[i], who), want);
                *(want < 0 ? &succeeded : &failed) += 1;
            }
        }
    }
    CHECK(succeeded > 300 && failed > 300);
    fixture_free(f);
}

TEST(each_level_can_deny)
{
    struct fixture *f = four_levels();
    for (unsigned level = 1; level <= 4; level++) {
        uint64_t e = get_entry(f, level);
        set_entry(f, level, e & ~(uint64_t)W);
        CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_USER), E_P | E_W | E_U);
        CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), -1);
        set_entry(f, level, e & ~(uint64_t)U);
        CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), E_P | E_U);
        CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_SUPERVISOR), -1);
        set_entry(f, level, e | XD);
        CHECK_EQ(walk(f, LIN, X86_FETCH, X86_AS_USER), E_P | E_U | E_ID);
        set_entry(f, level, 0);
        CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_SUPERVISOR), 0);
        set_entry(f, level, e);
    }
    fixture_free(f);
}

TEST(reserved_bits_fault)
{
    struct fixture *f = four_levels();
    /* Physical addresses have 40 bits; a PML4 entry can't be a page. */
    static const struct {
        unsigned level;
        uint64_t bits;
    } bad[] = {
        {4, BIT(40)}, {4, BIT(51)},      {4, PS},           {3, BIT(40)},      {3, PS | BIT(13)},
        {2, BIT(51)}, {2, PS | BIT(13)}, {2, PS | BIT(20)}, {3, PS | BIT(29)}, {1, BIT(40)},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        map4(f, PAGE | P | W | U);
        uint64_t table = bad[i].bits & PS ? 0 : get_entry(f, bad[i].level);
        set_entry(f, bad[i].level, table | bad[i].bits | P | W | U);
        CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_USER), E_P | E_RSVD | E_W | E_U);
    }
    /* Bits 52 to 62 are the software's. */
    map4(f, PAGE | P | W | U | BIT(52) | BIT(58));
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), -1);
    /* A reserved bit in an absent entry is nothing. */
    set_entry(f, 2, BIT(45));
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), E_U);
    fixture_free(f);
}

TEST(tables_outside_of_ram_read_all_ones)
{
    struct fixture *f = four_levels();
    set_entry(f, 2, 0xe0000000 | P | W | U);
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_SUPERVISOR), E_P | E_RSVD);
    f->c->s.cr3 = UINT64_C(0xff00000000);
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_SUPERVISOR), E_P | E_RSVD);
    fixture_free(f);
}

/* ---- protection keys ---- */

TEST(protection_keys)
{
    struct fixture *f = four_levels();
    struct x86_cpu *c = f->c;
    uint64_t key5 = UINT64_C(5) << 59;
    map4(f, PAGE | P | W | U | key5);
    c->s.pkru = 3u << 10;
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), -1); /* CR4.PKE is clear */
    c->s.cr4 |= CR4_PKE;
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), E_P | E_U | E_PK);
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_SUPERVISOR), E_P | E_PK);
    CHECK_EQ(walk(f, LIN, X86_FETCH, X86_AS_USER), -1);
    c->s.pkru = 2u << 10; /* writes only */
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), -1);
    CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_USER), E_P | E_W | E_U | E_PK);
    CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_SUPERVISOR), E_P | E_W | E_PK);
    c->s.cr0 &= ~(uint64_t)CR0_WP;
    CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_SUPERVISOR), -1);
    CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_USER), E_P | E_W | E_U | E_PK);
    c->s.pkru = ~(3u << 10); /* every other key denied */
    CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_USER), -1);
    map4(f, PAGE | P | W | key5); /* a supervisor page has no key */
    c->s.pkru = UINT32_MAX;
    CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_SUPERVISOR), -1);
    fixture_free(f);
}

/* ---- accessed and dirty ---- */

TEST(reads_set_accessed_and_writes_dirty)
{
    struct fixture *f = four_levels();
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), -1);
    for (unsigned level = 1; level <= 4; level++)
        CHECK_EQ(get_entry(f, level) & (A | D), A);
    CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_USER), -1);
    CHECK_EQ(get_entry(f, 1) & (A | D), A | D);
    CHECK_EQ(get_entry(f, 2) & (A | D), A);

    set_entry(f, 2, 0 | PS | P | W | U);
    CHECK_EQ(walk(f, LIN, X86_RMW, X86_AS_SUPERVISOR), -1);
    CHECK_EQ(get_entry(f, 2) & (A | D), A | D);
    fixture_free(f);
}

TEST(faults_set_nothing)
{
    struct fixture *f = four_levels();
    map4(f, PAGE | P | U);
    CHECK_EQ(walk(f, LIN, X86_WRITE, X86_AS_USER), E_P | E_W | E_U);
    for (unsigned level = 1; level <= 4; level++)
        CHECK_EQ(get_entry(f, level) & (A | D), 0);
    fixture_free(f);
}

TEST(the_debugger_sets_nothing)
{
    struct fixture *f = four_levels();
    uint64_t gpa;
    CHECK(x86_translate_debug(f->c, LIN, &gpa));
    CHECK(!x86_translate_debug(f->c, LIN + 0x1000, &gpa));
    CHECK(!x86_translate_debug(f->c, BIT(47), &gpa));
    for (unsigned level = 1; level <= 4; level++)
        CHECK_EQ(get_entry(f, level) & (A | D), 0);
    fixture_free(f);
}

TEST(setting_bits_makes_the_table_dirty)
{
    struct fixture *f = four_levels();
    atomic_store(memory_flags(&f->memory, L1), MEMORY_CLEAN | MEMORY_CODE);
    CHECK_EQ(walk(f, LIN, X86_READ, X86_AS_USER), -1);
    CHECK_EQ(atomic_load(memory_flags(&f->memory, L1)), MEMORY_CODE);
    fixture_free(f);
}

TEST(says_what_the_page_allows)
{
    struct fixture *f = four_levels();
    struct x86_walk w;
    CHECK(x86_walk(f->c, LIN, X86_READ, X86_AS_USER, &w));
    CHECK(w.readable && !w.writable && w.executable); /* not dirty yet */
    CHECK(x86_walk(f->c, LIN, X86_WRITE, X86_AS_USER, &w));
    CHECK(w.readable && w.writable);
    CHECK(x86_walk(f->c, LIN, X86_READ, X86_AS_USER, &w));
    CHECK(w.writable);
    map4(f, PAGE | P | U | D | XD);
    CHECK(x86_walk(f->c, LIN, X86_READ, X86_AS_USER, &w));
    CHECK(w.readable && !w.writable && !w.executable);
    /* A fetch may succeed where a read would not: SMAP. */
    f->c->s.cr4 |= CR4_SMAP;
    map4(f, PAGE | P | U);
    CHECK(x86_walk(f->c, LIN, X86_FETCH, X86_AS_SUPERVISOR, &w));
    CHECK(!w.readable && w.executable);
    fixture_free(f);
}

TEST(page_faults_set_cr2)
{
    struct fixture *f = four_levels();
    CHECK_EQ(RAISED(f->c, x86_page_fault(f->c, LIN, 7)), X86_PF);
    CHECK_EQ(f->c->fault.error, 7);
    CHECK_EQ(f->c->s.cr2, LIN);
    fixture_free(f);
}

TESTS(T(no_paging_is_32_bits_wide), T(four_levels_translate), T(upper_half_translates),
      T(two_levels_of_32_bits), T(pae_uses_the_loaded_pdptes), T(every_permission_combination),
      T(each_level_can_deny), T(reserved_bits_fault), T(tables_outside_of_ram_read_all_ones),
      T(protection_keys), T(reads_set_accessed_and_writes_dirty), T(faults_set_nothing),
      T(the_debugger_sets_nothing), T(setting_bits_makes_the_table_dirty),
      T(says_what_the_page_allows), T(page_faults_set_cr2))
