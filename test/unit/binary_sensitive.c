/*
 * Which instructions are found to be sensitive, and which bytes are not taken for them.
 */
#include "test.h"

#include "base/bits.h"
#include "engine/binary/sensitive.h"

enum { PAGE = 4096, MOST = 4, NOP = 0x90 };

static uint8_t page[PAGE], next_page[PAGE];
static uint16_t at[MOST];

static unsigned find_at(unsigned where, const void *bytes, unsigned size)
{
    memset(page, NOP, sizeof page);
    memcpy(page + where, bytes, size);
    return sensitive_find(page, at, MOST);
}

static const struct {
    uint8_t size, bytes[6];
} sensitive[] = {
    {2, {0x0f, 0xa2}},                   /* CPUID */
    {2, {0x0f, 0x31}},                   /* RDTSC */
    {2, {0x0f, 0x34}},                   /* SYSENTER */
    {3, {0x0f, 0x01, 0xd0}},             /* XGETBV */
    {3, {0x0f, 0x01, 0xf9}},             /* RDTSCP */
    {3, {0x0f, 0x01, 0xee}},             /* RDPKRU */
    {3, {0x0f, 0x01, 0x07}},             /* SGDT */
    {3, {0x0f, 0x01, 0x0f}},             /* SIDT */
    {3, {0x0f, 0x01, 0xe0}},             /* SMSW */
    {3, {0x0f, 0x00, 0xc0}},             /* SLDT */
    {3, {0x0f, 0x00, 0xc8}},             /* STR */
    {3, {0x0f, 0x00, 0xe1}},             /* VERR */
    {3, {0x0f, 0x02, 0xc1}},             /* LAR */
    {3, {0x0f, 0x03, 0xc1}},             /* LSL */
    {3, {0x0f, 0xae, 0x27}},             /* XSAVE */
    {3, {0x0f, 0xae, 0x2f}},             /* XRSTOR */
    {3, {0x0f, 0xae, 0x37}},             /* XSAVEOPT */
    {4, {0x48, 0x0f, 0xc7, 0x27}},       /* XSAVEC64 */
    {4, {0xf3, 0x0f, 0xc7, 0xf9}},       /* RDPID */
    {4, {0x66, 0x66, 0x0f, 0xa2}},       /* CPUID */
    {5, {0x2e, 0x48, 0x0f, 0x01, 0xe0}}, /* SMSW */
    {2, {0xcd, 0x80}},
    {2, {0xcd, 0x04}},
};

TEST(each_is_found_wherever_it_is)
{
    for (unsigned i = 0; i < ARRAY_LEN(sensitive); i++) {
        const unsigned last = PAGE - sensitive[i].size, where[] = {0, 1, 7, 300, last - 1, last};
        for (unsigned k = 0; k < ARRAY_LEN(where); k++) {
            CHECK_EQ(find_at(where[k], sensitive[i].bytes, sensitive[i].size), 1);
            CHECK_EQ(at[0], where[k]);
        }
    }
}

TEST(others_are_not)
{
    static const uint8_t others[][6] = {
        {0x0f, 0x05},             /* SYSCALL */
        {0x0f, 0x0b},             /* UD2 */
        {0x0f, 0xae, 0x07},       /* FXSAVE */
        {0x0f, 0xae, 0x1f},       /* STMXCSR */
        {0x0f, 0xae, 0xf0},       /* MFENCE */
        {0xf3, 0x0f, 0xae, 0xd0}, /* WRFSBASE */
        {0x0f, 0xc7, 0x0f},       /* CMPXCHG8B */
        {0x0f, 0xc7, 0xf0},       /* RDRAND */
        {0x49, 0x0f, 0xc7, 0xfa}, /* RDSEED */
        {0x0f, 0x01, 0xd7},       /* ENCLU */
        {0x0f, 0x01, 0xd6},       /* XTEST */
        {0xcd, 0x03},
        {0x0f, 0x1f, 0x00},
    };
    for (unsigned i = 0; i < ARRAY_LEN(others); i++)
        CHECK_EQ(find_at(500, others[i], sizeof others[i]), 0);
}

TEST(constants_are_not_taken_for_them)
{
    static const uint8_t constants[][8] = {
        {0xb8, 0x0f, 0xa2, 0x00, 0x00, NOP, NOP, NOP},   /* MOV EAX, 0A20FH */
        {0x48, 0x8d, 0x05, 0x0f, 0x31, 0x00, 0x00, NOP}, /* LEA RAX, [RIP+310FH] */
        {0xe8, 0x10, 0x0f, 0x01, 0xd0, NOP, NOP, NOP},   /* CALL */
        {0xc7, 0x47, 0x10, 0x00, 0x0f, 0xa2, 0x00, NOP}, /* MOV [RDI+10H], 0A20F00H */
        {0x3d, 0xcd, 0x80, 0x00, 0x00, NOP, NOP, NOP},   /* CMP EAX, 80CDH */
    };
    for (unsigned i = 0; i < ARRAY_LEN(constants); i++)
        CHECK_EQ(find_at(800, constants[i], sizeof constants[i]), 0);
}

TEST(no_more_are_told_than_asked_for)
{
    memset(page, NOP, sizeof page);
    for (unsigned n = 1; n <= MOST + 3; n++) {
        page[n * 100] = 0x0f;
        page[n * 100 + 1] = 0xa2;
        CHECK_EQ(sensitive_find(page, at, MOST), n <= MOST ? n : MOST + 1);
    }
    for (unsigned n = 0; n < MOST; n++)
        CHECK_EQ(at[n], (n + 1) * 100);
}

/* However much of one is in the page before; and it is for one of the two to find. */
TEST(those_over_a_page_end)
{
    for (unsigned i = 0; i < ARRAY_LEN(sensitive); i++) {
        for (unsigned before = 0; before <= sensitive[i].size; before++) {
            unsigned behind = sensitive[i].size - before;
            bool over = before && behind;
            memset(page, NOP, sizeof page);
            memset(next_page, NOP, sizeof next_page);
            memcpy(page + PAGE - before, sensitive[i].bytes, before);
            memcpy(next_page, sensitive[i].bytes + before, behind);
            CHECK_EQ(sensitive_across(page, next_page), over);
            CHECK_EQ(sensitive_find(page, at, MOST), !over && before);
            if (!over)
                CHECK_EQ(sensitive_find(next_page, at, MOST), !before);
        }
    }
}

/* What is said to begin a page is told from the rest of an instruction by the page before. */
TEST(what_comes_before_says_more)
{
    static const uint8_t add[] = {0x05, 0x00, 0x00, 0x0f, 0xa2}; /* ADD EAX, 0A20F0000H */
    memset(page, NOP, sizeof page);
    memset(next_page, NOP, sizeof next_page);
    memcpy(next_page, add + 3, 2);
    CHECK_EQ(sensitive_find(next_page, at, MOST), 1);
    CHECK(sensitive_behind(page, next_page, at[0]));
    memcpy(page + PAGE - 3, add, 3);
    CHECK(!sensitive_behind(page, next_page, at[0]));
    memcpy(next_page + 40, add + 3, 2);
    CHECK_EQ(sensitive_find(next_page, at, MOST), 2);
    CHECK(sensitive_behind(page, next_page, at[1]));
}

TESTS(T(each_is_found_wherever_it_is), T(others_are_not), T(constants_are_not_taken_for_them),
      T(no_more_are_told_than_asked_for), T(those_over_a_page_end), T(what_comes_before_says_more))
