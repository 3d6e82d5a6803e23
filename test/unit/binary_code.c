/*
 * The code cache: blocks are found by address and mode, dropped by what was written, and whoever
 * comes to a dropped one is led away.
 */
#include "test.h"

#include <stdlib.h>

#include "base/bits.h"
#include "engine/binary/code.h"
#include "memory/memory.h"

enum { NEAR = 8, INSN_HOST = 6, INSN_GUEST = 3 };

/* Something to lead to, as the pieces at the start of the code are. */
static const uint8_t *fix_stale(struct code *c)
{
    c->used = c->fixed = 64;
    return c->write + 32;
}

static bool open_code(struct code *c, const uint8_t **stale)
{
    struct error err;
    if (!code_create(c, &err))
        return false;
    *stale = fix_stale(c);
    return true;
}

#define WITH_CODE(c, stale)                                                                        \
    static struct code c;                                                                          \
    const uint8_t *stale = NULL;                                                                   \
    if (!open_code(&c, &stale))                                                                    \
    SKIP("the host gives no memory to run code from")

/* A block of NOPs, with a link to `target` in its page if that is not negative. */
static uint32_t make_linked(struct code *c, uint64_t gpa, uint32_t key, unsigned insns, int target)
{
    struct emit e = code_begin(c);
    const uint8_t *start = e.at;
    struct translation t = {.gpa = gpa,
                            .key = key,
                            .near = NEAR,
                            .insns = (uint16_t)insns,
                            .bytes = (uint16_t)(insns * INSN_GUEST),
                            .points = c->points,
                            .first_link = c->links};
    while (e.at - start < NEAR)
        emit_byte(&e, 0x90);
    for (unsigned i = 0; i < insns; i++) {
        c->point[c->points + i] =
            (struct point){(uint16_t)(e.at - start), (uint16_t)(i * INSN_GUEST)};
        for (unsigned k = 0; k < INSN_HOST; k++)
            emit_byte(&e, 0x90);
    }
    uint8_t *rel32 = emit_patchable_jump(&e);
    while (e.at - start < NEAR + CODE_STALE_BYTES)
        emit_byte(&e, 0xcc);
    c->point[c->points + insns] = (struct point){(uint16_t)(e.at - start), t.bytes};
    if (target >= 0) {
        c->link[c->links++] = (struct link){.patch = (uint32_t)(rel32 - c->write),
                                            .stub = (uint32_t)(e.at - c->write),
                                            .block = code_next(c, 0),
                                            .target = target};
        t.links = 1;
    }
    emit_point(rel32, e.at);
    emit_byte(&e, 0xcc); /* the stub */
    return code_commit(c, &e, &t);
}

static uint32_t make(struct code *c, uint64_t gpa, uint32_t key, unsigned insns)
{
    return make_linked(c, gpa, key, insns, -1);
}

/* Where the rel32 at `at` leads. */
static const uint8_t *leads_to(const uint8_t *at)
{
    int32_t rel;
    memcpy(&rel, at, 4);
    return at + 4 + rel;
}

static uint8_t *near_entry(const struct code *c, uint32_t b)
{
    return c->write + c->block[b].code + c->block[b].near;
}

TEST(blocks_are_found_by_address_and_mode)
{
    WITH_CODE(c, stale);
    uint32_t a = make(&c, 0x1000, 1, 3), b = make(&c, 0x1000, 2, 3), d = make(&c, 0x1003, 1, 2);
    CHECK(stale && a && b && d && a != b && b != d);
    CHECK_EQ(code_find(&c, 0x1000, 1, 0, 0), a);
    CHECK_EQ(code_find(&c, 0x1000, 2, 0, 0), b);
    CHECK_EQ(code_find(&c, 0x1003, 1, 0, 0), d);
    CHECK_EQ(code_find(&c, 0x1003, 2, 0, 0), NO_BLOCK);
    CHECK_EQ(code_find(&c, 0x2000, 1, 0, 0), NO_BLOCK);
    CHECK_EQ(code_find(&c, 0x1000, 1, 0x2000, 0), NO_BLOCK);
    CHECK(code_has_page(&c, 0x1fff) && !code_has_page(&c, 0x2000));
    code_destroy(&c);
}

TEST(what_is_written_is_dropped_and_nothing_else)
{
    WITH_CODE(c, stale);
    /* Bytes [100, 109) and [109, 115) of the page, and the same of the next. */
    make(&c, 0x5100, 1, 3);
    make(&c, 0x5109, 1, 2);
    make(&c, 0x6100, 1, 3);
    CHECK_EQ(code_drop(&c, 0x50ff, 1, stale), 0);
    CHECK_EQ(code_drop(&c, 0x510f, 0xef1, stale), 0);
    CHECK_EQ(code_drop(&c, 0x5109, 1, stale), 1);
    CHECK(code_find(&c, 0x5100, 1, 0, 0) && !code_find(&c, 0x5109, 1, 0, 0));
    CHECK_EQ(code_drop(&c, 0x5108, 1, stale), 1);
    CHECK(!code_has_page(&c, 0x5000));
    CHECK(code_find(&c, 0x6100, 1, 0, 0));
    CHECK_EQ(code_drop(&c, 0x5000, MEMORY_PAGE_SIZE, stale), 0);
    CHECK_EQ(code_drop(&c, 0x6000, MEMORY_PAGE_SIZE, stale), 1);
    CHECK_EQ(c.dropped, 3);
    code_destroy(&c);
}

/* What leads away from a dropped block is as long as some instructions were: the second one has not
 * begun when half of it is done. */
TEST(a_dropped_block_has_no_instructions_but_the_first)
{
    WITH_CODE(c, stale);
    uint32_t b = make(&c, 0x5100, 1, 4);
    bool exact;
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ(code_point(&c, b, code_run(&c, c.block[b].code + NEAR + i * INSN_HOST), &exact),
                 i);
        CHECK(exact);
    }
    CHECK_EQ(code_drop(&c, 0x5100, 1, stale), 1);
    for (unsigned i = 0; i < 4; i++) {
        code_point(&c, b, code_run(&c, c.block[b].code + NEAR + i * INSN_HOST), &exact);
        CHECK_EQ(exact, i == 0);
    }
    code_destroy(&c);
}

TEST(a_dropped_blocks_inner_entry_leads_away_with_its_number)
{
    WITH_CODE(c, stale);
    make(&c, 0x5100, 1, 1);
    uint32_t b = make(&c, 0x5200, 1, 1);
    CHECK_EQ(code_drop(&c, 0x5200, 1, stale), 1);
    const uint8_t *near = near_entry(&c, b);
    uint32_t number;
    memcpy(&number, near + 2, 4);
    CHECK(near[0] == 0x41 && near[1] == 0xbb); /* mov r11d */
    CHECK_EQ(number, b);
    CHECK_EQ(near[6], 0xe9);
    CHECK(leads_to(near + 7) == stale);
    CHECK_EQ(near[-1], 0x90); /* the way in from elsewhere is whole */
    /* What is made next for the address is another block. */
    CHECK(make(&c, 0x5200, 1, 1) != b);
    CHECK(code_find(&c, 0x5200, 1, 0, 0) != b);
    code_destroy(&c);
}

TEST(links_to_a_dropped_block_lead_out)
{
    WITH_CODE(c, stale);
    uint32_t to = make(&c, 0x5200, 1, 2);
    uint32_t other = make(&c, 0x5300, 1, 2);
    uint32_t from = make_linked(&c, 0x5100, 1, 2, 0x200);
    uint32_t stays = make_linked(&c, 0x5180, 1, 2, 0x300);
    const struct link *l = &c.link[c.block[from].first_link];
    const struct link *m = &c.link[c.block[stays].first_link];
    code_lead(&c, c.block[from].first_link, to);
    code_lead(&c, c.block[stays].first_link, other);
    CHECK(leads_to(c.write + l->patch) == near_entry(&c, to));
    CHECK_EQ(code_drop(&c, 0x5200, 1, stale), 1);
    CHECK(leads_to(c.write + l->patch) == c.write + l->stub);
    CHECK(leads_to(c.write + m->patch) == near_entry(&c, other));
    code_drop_one(&c, other, stale);
    CHECK(leads_to(c.write + m->patch) == c.write + m->stub);
    CHECK(code_find(&c, 0x5100, 1, 0, 0) == from && code_find(&c, 0x5180, 1, 0, 0) == stays);
    code_destroy(&c);
}

TEST(a_block_that_goes_on_in_another_page_is_dropped_from_there)
{
    WITH_CODE(c, stale);
    struct emit e = code_begin(&c);
    for (unsigned i = 0; i < 40; i++)
        emit_byte(&e, 0x90);
    struct translation t = {.gpa = 0x5ffe,
                            .gpa2 = 0x9000,
                            .key = 1,
                            .near = NEAR,
                            .insns = 1,
                            .bytes = 4,
                            .points = c.points,
                            .first_link = c.links};
    uint32_t b = code_commit(&c, &e, &t);
    CHECK_EQ(code_find(&c, 0x5ffe, 1, 0x9000, 0), b);
    CHECK_EQ(code_find(&c, 0x5ffe, 1, 0x6000, 0), NO_BLOCK); /* the next page is another now */
    CHECK(code_has_page(&c, 0x5000) && code_has_page(&c, 0x9000));
    CHECK_EQ(code_at(&c, code_run(&c, c.block[b].code + 3)), b);
    CHECK_EQ(code_drop(&c, 0x9f00, 1, stale), 0);
    CHECK_EQ(code_drop(&c, 0x9001, 1, stale), 1);
    CHECK_EQ(code_find(&c, 0x5ffe, 1, 0x9000, 0), NO_BLOCK);
    CHECK(!code_has_page(&c, 0x5000) && !code_has_page(&c, 0x9000));
    code_destroy(&c);
}

/* ---- from host addresses back ---- */

TEST(host_addresses_lead_back_to_instructions)
{
    WITH_CODE(c, stale);
    uint32_t number[3];
    for (unsigned i = 0; i < 3; i++)
        number[i] = make(&c, 0x1000 + 64 * i, 1, 2 + i);
    CHECK(stale != NULL);
    for (unsigned k = 0; k < 3; k++) {
        const struct translation *t = &c.block[number[k]];
        for (unsigned at = 0; at < t->size; at++) {
            const uint8_t *host = code_run(&c, t->code + at);
            bool exact = false;
            CHECK_EQ(code_at(&c, host), number[k]);
            int point = code_point(&c, number[k], host, &exact);
            int want = at < NEAR ? -1 : (int)(at - NEAR) / INSN_HOST;
            CHECK_EQ(point, want < t->insns ? want : t->insns - 1);
            CHECK_EQ(exact, at >= NEAR && want < t->insns && (at - NEAR) % INSN_HOST == 0);
        }
        CHECK(code_at(&c, code_run(&c, t->code + t->size)) != number[k]);
    }
    CHECK_EQ(code_at(&c, code_run(&c, 0)), NO_BLOCK); /* the pieces */
    CHECK_EQ(code_at(&c, code_run(&c, c.used + 100)), NO_BLOCK);
    CHECK_EQ(code_at(&c, c.run - 1), NO_BLOCK);
    CHECK_EQ(code_at(&c, c.run + c.size), NO_BLOCK);
    CHECK(!code_holds(&c, c.write) || c.write == c.run);
    code_destroy(&c);
}

/* ---- the room ---- */

TEST(a_flush_gives_the_room_back)
{
    WITH_CODE(c, stale);
    c.write[10] = 0x77; /* of the pieces */
    unsigned n = 0;
    while (code_has_room(&c)) {
        CHECK(make(&c, 0x1000 + 16 * (uint64_t)n, 1, 60));
        n++;
    }
    CHECK(n > 1000 && stale);
    CHECK(c.used <= c.size);
    code_flush(&c);
    CHECK(code_has_room(&c));
    CHECK_EQ(code_find(&c, 0x1000, 1, 0, 0), NO_BLOCK);
    CHECK(!code_has_page(&c, 0x1000));
    CHECK_EQ(c.used, c.fixed);
    CHECK_EQ(c.write[10], 0x77);
    CHECK_EQ(c.flushes, 1);
    CHECK_EQ(make(&c, 0x1000, 1, 1), 1);
    code_destroy(&c);
}

/* The number behind the last is another's memory, and none in a chain. */
TEST(blocks_that_count_for_two_have_room_as_well)
{
    WITH_CODE(c, stale);
    while (code_has_room(&c)) {
        struct translation t = {
            .gpa = 0x1fff, .gpa2 = 0x2000, .points = c.points, .first_link = c.links, .insns = 1};
        struct emit e = code_begin(&c);
        emit_byte(&e, 0xcc);
        uint32_t b = code_commit(&c, &e, &t);
        if (b >= 1u << CODE_NUMBER_BITS)
            CHECK_EQ(b, 0);
    }
    CHECK(c.blocks > 1u << (CODE_NUMBER_BITS - 1) && stale);
    CHECK(c.blocks <= 1u << CODE_NUMBER_BITS);
    code_destroy(&c);
}

TEST(code_is_never_writable_and_executable_at_once)
{
    WITH_CODE(c, stale);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned writable = 0, executable = 0;
    CHECK(maps != NULL && stale);
    while (maps && fgets(line, sizeof line, maps)) {
        uintptr_t begin = strtoull(line, NULL, 16);
        if (begin != (uintptr_t)c.write && begin != (uintptr_t)c.run)
            continue;
        const char *rights = strchr(line, ' ') + 1;
        CHECK(!(rights[1] == 'w' && rights[2] == 'x'));
        writable += rights[1] == 'w';
        executable += rights[2] == 'x';
    }
    CHECK_EQ(writable, 1);
    CHECK_EQ(executable, 1);
    /* And yet they are one: what is written is what is run. */
    c.write[1000] = 0x5a;
    CHECK_EQ(c.run[1000], 0x5a);
    if (maps)
        fclose(maps);
    code_destroy(&c);
}

/* ---- at random, against a list ---- */

enum { ADDRESSES = 64, STEPS = 20000 };

static uint64_t seed = 1;

static unsigned chance(unsigned n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(seed >> 33) % n;
}

TEST(random_blocks_and_drops_agree_with_a_list)
{
    static uint32_t listed[4][ADDRESSES];
    WITH_CODE(c, stale);
    for (unsigned i = 0; i < STEPS; i++) {
        unsigned page = chance(4), slot = chance(ADDRESSES);
        uint64_t gpa = 0x40000 + page * UINT64_C(0x8000) + slot * INSN_GUEST;
        if (chance(2)) {
            if (!listed[page][slot] && code_has_room(&c))
                listed[page][slot] = make(&c, gpa, 7, 1 + chance(4));
        } else {
            unsigned want = 0, len = 1 + chance(8);
            for (unsigned k = 0; k < ADDRESSES; k++) {
                const struct translation *t = &c.block[listed[page][k]];
                if (listed[page][k] && t->gpa < gpa + len && gpa < t->gpa + t->bytes) {
                    listed[page][k] = 0;
                    want++;
                }
            }
            CHECK_EQ(code_drop(&c, gpa, len, stale), want);
        }
        slot = chance(ADDRESSES);
        CHECK_EQ(code_find(&c, 0x40000 + page * UINT64_C(0x8000) + slot * INSN_GUEST, 7, 0, 0),
                 listed[page][slot]);
    }
    code_destroy(&c);
}

TESTS(T(blocks_are_found_by_address_and_mode), T(what_is_written_is_dropped_and_nothing_else),
      T(a_dropped_blocks_inner_entry_leads_away_with_its_number),
      T(a_dropped_block_has_no_instructions_but_the_first), T(links_to_a_dropped_block_lead_out),
      T(a_block_that_goes_on_in_another_page_is_dropped_from_there),
      T(host_addresses_lead_back_to_instructions), T(a_flush_gives_the_room_back),
      T(blocks_that_count_for_two_have_room_as_well),
      T(code_is_never_writable_and_executable_at_once),
      T(random_blocks_and_drops_agree_with_a_list))
