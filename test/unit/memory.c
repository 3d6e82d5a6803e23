/* Guest memory: sizes, regions, and the checked accessors at every edge. */
#include "memory/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "test.h"

enum { SIZE = 4 << 20 };

TEST(refuses_sizes_with_a_sentence)
{
    struct memory m;
    struct error err = {0};
    CHECK(!memory_create(&m, MEMORY_MIN - 1, &err));
    CHECK_EQ(err.status, EXIT_STATUS_USAGE);
    CHECK(strstr(err.text, "at least 1M") != NULL);
    CHECK(!memory_create(&m, MEMORY_MAX + 1, &err));
    CHECK_EQ(err.status, EXIT_STATUS_USAGE);
    /* More than any host that runs this test has. */
    CHECK(!memory_create(&m, MEMORY_MAX, &err));
    CHECK(strstr(err.text, "the host") != NULL);
    memory_destroy(&m);
}

TEST(rounds_up_to_whole_pages)
{
    struct memory m;
    CHECK(memory_create(&m, MEMORY_MIN + 1, NULL));
    CHECK_EQ(m.size, MEMORY_MIN + MEMORY_PAGE_SIZE);
    CHECK_EQ(m.region_count, 1);
    CHECK(memory_hva(&m, MEMORY_MIN + MEMORY_PAGE_SIZE - 1) != NULL);
    CHECK(memory_hva(&m, MEMORY_MIN + MEMORY_PAGE_SIZE) == NULL);
    CHECK_EQ(lseek(m.fd, 0, SEEK_END), m.size);
    memory_destroy(&m);
    CHECK(memory_hva(&m, 0) == NULL);
}

TEST(leaves_the_hole_below_4_gib)
{
    struct memory m;
    uint64_t size = MEMORY_LOW_TOP + (1 << 20);
    struct error err = {0};
    if (!memory_create(&m, size, &err))
        SKIP("the host has no 3 GiB");
    CHECK_EQ(m.region_count, 2);
    CHECK(memory_hva(&m, MEMORY_LOW_TOP - 1) != NULL);
    CHECK(memory_hva(&m, MEMORY_LOW_TOP) == NULL);
    CHECK(memory_hva(&m, MEMORY_HIGH - 1) == NULL);
    CHECK(memory_hva(&m, MEMORY_HIGH) == m.region[1].hva);
    CHECK(memory_hva(&m, MEMORY_HIGH + (1 << 20) - 1) != NULL);
    CHECK(memory_hva(&m, MEMORY_HIGH + (1 << 20)) == NULL);
    CHECK(memory_flags(&m, MEMORY_HIGH) == m.region[1].flags);

    uint64_t v = 0x1122334455667788, got = 0;
    CHECK(memory_write(&m, MEMORY_HIGH, &v, 8));
    CHECK(memory_read(&m, MEMORY_HIGH, &got, 8));
    CHECK_EQ(got, v);
    CHECK(!memory_write(&m, MEMORY_LOW_TOP - 4, &v, 8));
    CHECK(!memory_write(&m, MEMORY_HIGH - 4, &v, 8));
    CHECK(memory_read(&m, MEMORY_LOW_TOP - 8, &got, 8));
    CHECK_EQ(got, 0);
    memory_destroy(&m);
}

TEST(does_all_or_nothing)
{
    struct memory m;
    uint8_t bytes[16], got[16] = {0};
    memset(bytes, 0xa5, sizeof bytes);
    CHECK(memory_create(&m, SIZE, NULL));
    CHECK(memory_write(&m, SIZE - 16, bytes, 16));
    CHECK(memory_read(&m, SIZE - 16, got, 16));
    CHECK(memcmp(bytes, got, 16) == 0);

    memset(bytes, 0x5a, sizeof bytes);
    CHECK(!memory_write(&m, SIZE - 15, bytes, 16));
    CHECK(!memory_fill(&m, SIZE - 15, 0x5a, 16));
    CHECK(memory_read(&m, SIZE - 16, got, 16));
    CHECK_EQ(got[0], 0xa5);
    CHECK_EQ(got[15], 0xa5);

    memset(got, 0x33, sizeof got);
    CHECK(!memory_read(&m, SIZE - 15, got, 16));
    CHECK_EQ(got[0], 0x33);
    memory_destroy(&m);
}

TEST(takes_any_address_and_length)
{
    static const uint64_t address[] = {
        SIZE, SIZE - 1, MEMORY_HIGH, UINT64_MAX, 1ull << 63, UINT64_MAX - 7, 0};
    static const uint64_t length[] = {1, 2, 8, SIZE, 1ull << 32, 1ull << 63, UINT64_MAX};
    static uint8_t buffer[SIZE];
    struct memory m;
    CHECK(memory_create(&m, SIZE, NULL));
    for (unsigned i = 0; i < ARRAY_LEN(address); i++) {
        for (unsigned j = 0; j < ARRAY_LEN(length); j++) {
            bool inside = address[i] < SIZE && length[j] <= SIZE - address[i];
            CHECK_EQ(memory_read(&m, address[i], buffer, length[j]), inside);
            CHECK_EQ(memory_write(&m, address[i], buffer, length[j]), inside);
            CHECK_EQ(memory_fill(&m, address[i], 0, length[j]), inside);
        }
        uint8_t nothing = 0;
        CHECK(memory_read(&m, address[i], &nothing, 0));
        CHECK(memory_write(&m, address[i], &nothing, 0));
    }
    memory_destroy(&m);
}

struct told {
    unsigned times;
    uint64_t gpa, len;
    struct memory *m;
    uint8_t before;
};

static void code_write(void *ctx, uint64_t gpa, uint64_t len)
{
    struct told *t = ctx;
    t->times++;
    t->gpa = gpa;
    t->len = len;
    t->before = *memory_hva(t->m, gpa);
}

TEST(tells_of_code_before_it_changes)
{
    struct memory m;
    struct told told = {.m = &m};
    uint8_t bytes[8192];
    memset(bytes, 1, sizeof bytes);
    CHECK(memory_create(&m, SIZE, NULL));
    m.code_write = code_write;
    m.code_ctx = &told;
    atomic_store(memory_flags(&m, 0x3000), MEMORY_CODE);

    CHECK(memory_write(&m, 0x2000, bytes, 0x1000));
    CHECK_EQ(told.times, 0);
    CHECK(memory_write(&m, 0x2fff, bytes, 2));
    CHECK_EQ(told.times, 1);
    CHECK_EQ(told.gpa, 0x3000);
    CHECK_EQ(told.len, 1);
    CHECK_EQ(told.before, 0);
    CHECK(memory_fill(&m, 0x3ffe, 7, 4));
    CHECK_EQ(told.times, 2);
    CHECK_EQ(told.gpa, 0x3ffe);
    CHECK_EQ(told.len, 2);
    CHECK(memory_write(&m, 0x2800, bytes, 8192));
    CHECK_EQ(told.times, 3);
    CHECK_EQ(told.len, 0x1000);
    CHECK(memory_read(&m, 0x3000, bytes, 8));
    CHECK_EQ(told.times, 3);
    memory_destroy(&m);
}

TEST(marks_written_pages_dirty)
{
    struct memory m;
    uint8_t byte = 1;
    CHECK(memory_create(&m, SIZE, NULL));
    for (uint64_t at = 0; at < 0x6000; at += 0x1000)
        atomic_store(memory_flags(&m, at), MEMORY_CLEAN);
    CHECK(memory_write(&m, 0x1000, &byte, 1));
    CHECK(memory_fill(&m, 0x2fff, 1, 2));
    CHECK(memory_read(&m, 0x4000, &byte, 1));
    CHECK(memory_write(&m, 0x5000, &byte, 0));
    static const uint8_t want[] = {MEMORY_CLEAN, 0, 0, 0, MEMORY_CLEAN, MEMORY_CLEAN};
    for (unsigned i = 0; i < 6; i++)
        CHECK_EQ(atomic_load(memory_flags(&m, i * 0x1000)), want[i]);
    memory_destroy(&m);
}

TEST(discards_whole_pages_as_a_write)
{
    struct memory m;
    struct told told = {.m = &m};
    uint8_t bytes[0x4000];
    CHECK(memory_create(&m, SIZE, NULL));
    m.code_write = code_write;
    m.code_ctx = &told;
    CHECK(memory_fill(&m, 0, 0x5a, sizeof bytes));
    atomic_store(memory_flags(&m, 0x1000), MEMORY_CODE);
    atomic_store(memory_flags(&m, 0x2000), MEMORY_CLEAN);
    CHECK(memory_discard(&m, 0x1000, 0x2000));
    CHECK_EQ(told.times, 1);
    CHECK_EQ(told.gpa, 0x1000);
    CHECK_EQ(told.before, 0x5a);
    CHECK_EQ(atomic_load(memory_flags(&m, 0x2000)) & MEMORY_CLEAN, 0);
    CHECK(memory_read(&m, 0, bytes, sizeof bytes));
    for (unsigned i = 0; i < sizeof bytes; i += 0x800)
        CHECK_EQ(bytes[i], i < 0x1000 || i >= 0x3000 ? 0x5a : 0);
    CHECK(!memory_discard(&m, 0x1800, 0x1000));
    CHECK(!memory_discard(&m, 0x1000, 0x800));
    CHECK(!memory_discard(&m, SIZE - 0x1000, 0x2000));
    memory_destroy(&m);
}

TESTS(T(refuses_sizes_with_a_sentence), T(rounds_up_to_whole_pages), T(leaves_the_hole_below_4_gib),
      T(does_all_or_nothing), T(takes_any_address_and_length), T(tells_of_code_before_it_changes),
      T(marks_written_pages_dirty), T(discards_whole_pages_as_a_write))
