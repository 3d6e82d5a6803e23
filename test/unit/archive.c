/* The saved form of state: round trips, refusals, and hostile bytes. */
#include "base/archive.h"

#include <stdlib.h>

#include "base/bits.h"
#include "test.h"

struct thing {
    uint8_t a;
    uint16_t b;
    uint32_t c[3];
    uint64_t d;
    bool flag;
    uint8_t blob[5];
    unsigned saved;
};

static const struct archive_field fields[] = {
    ARCHIVE_FIELD(struct thing, a),    ARCHIVE_FIELD(struct thing, b),
    ARCHIVE_ARRAY(struct thing, c),    ARCHIVE_FIELD(struct thing, d),
    ARCHIVE_FIELD(struct thing, flag), ARCHIVE_FIELD(struct thing, blob),
};

static void before_save(void *object)
{
    ((struct thing *)object)->saved++;
}

static bool after_load(void *object, struct error *err)
{
    const struct thing *t = object;
    return t->a != 0xff || error_set(err, "thing: a must not be 255");
}

static const struct archive_type type = {"thing",           3,           fields,
                                         ARRAY_LEN(fields), before_save, after_load};

static const struct thing example = {.a = 1,
                                     .b = 0x202,
                                     .c = {3, 4, 0x50505050},
                                     .d = 0x6060606060606060,
                                     .flag = true,
                                     .blob = {7, 8, 9, 10, 11}};

static bool same(const struct thing *x, const struct thing *y)
{
    return x->a == y->a && x->b == y->b && memcmp(x->c, y->c, sizeof x->c) == 0 && x->d == y->d &&
           x->flag == y->flag && memcmp(x->blob, y->blob, sizeof x->blob) == 0;
}

static struct archive saved(void)
{
    struct archive a;
    struct thing t = example;
    archive_init(&a);
    CHECK(archive_save(&a, &type, 0, &t, NULL));
    return a;
}

TEST(loads_what_it_saved)
{
    struct archive a = saved();
    struct thing second = example, got = {0};
    second.d = 99;
    CHECK(archive_save(&a, &type, 7, &second, NULL));
    CHECK_EQ(second.saved, 1);
    /* In any order. */
    CHECK(archive_load(&a, &type, 7, &got, NULL));
    CHECK(same(&got, &second));
    CHECK(archive_load(&a, &type, 0, &got, NULL));
    CHECK(same(&got, &example));
    CHECK(archive_load(&a, &type, 7, &got, NULL));
    CHECK(archive_end(&a, NULL));
    archive_free(&a);
}

TEST(refuses_a_part_that_nobody_wants)
{
    struct archive a = saved();
    struct thing t = example;
    struct error err = {0};
    CHECK(archive_save(&a, &type, 1, &t, NULL));
    CHECK(archive_load(&a, &type, 0, &t, NULL));
    CHECK(!archive_end(&a, &err));
    CHECK(strstr(err.text, "thing") != NULL);
    archive_free(&a);
}

/* Loads with a type that differs, and says whether that was refused with nothing changed. */
static bool refused(struct archive *a, const struct archive_type *other, unsigned instance)
{
    struct thing got = {.a = 42};
    struct error err = {0};
    struct thing before = got;
    bool loaded = archive_load(a, other, instance, &got, &err);
    return !loaded && err.text[0] && same(&got, &before);
}

TEST(refuses_what_it_does_not_know)
{
    struct archive a = saved();
    struct archive_type other = type;
    CHECK(refused(&a, &type, 1));
    other.name = "other";
    CHECK(refused(&a, &other, 0));
    other = type;
    other.version = 2;
    CHECK(refused(&a, &other, 0));

    /* A field too many in the archive, and one too few. */
    struct archive_field more[ARRAY_LEN(fields) + 1];
    memcpy(more, fields, sizeof fields);
    other = type;
    other.fields = more;
    other.field_count = ARRAY_LEN(fields) - 1;
    CHECK(refused(&a, &other, 0));
    more[ARRAY_LEN(fields)] = (struct archive_field){"new", 0, 1, 1, false, false};
    other.field_count = ARRAY_LEN(fields) + 1;
    CHECK(refused(&a, &other, 0));

    /* Another size, another count, another name. */
    other.field_count = ARRAY_LEN(fields);
    more[1].size = 1;
    CHECK(refused(&a, &other, 0));
    more[1].size = 2;
    more[2].count = 2;
    CHECK(refused(&a, &other, 0));
    more[2].count = 3;
    more[3].name = "e";
    CHECK(refused(&a, &other, 0));
    archive_free(&a);
}

TEST(keeps_an_optional_field_that_is_missing)
{
    struct archive a = saved();
    struct archive_field more[ARRAY_LEN(fields) + 1];
    memcpy(more, fields, sizeof fields);
    more[ARRAY_LEN(fields)] =
        (struct archive_field){"saved", offsetof(struct thing, saved), 4, 1, false, true};
    struct archive_type newer = type;
    newer.fields = more;
    newer.field_count++;
    struct thing got = {.saved = 5};
    CHECK(archive_load(&a, &newer, 0, &got, NULL));
    CHECK(same(&got, &example));
    CHECK_EQ(got.saved, 5);
    archive_free(&a);
}

TEST(asks_the_object)
{
    struct archive a;
    struct thing t = example;
    struct error err = {0};
    archive_init(&a);
    t.a = 0xff;
    CHECK(archive_save(&a, &type, 0, &t, NULL));
    CHECK(!archive_load(&a, &type, 0, &t, &err));
    CHECK(strstr(err.text, "255") != NULL);
    archive_free(&a);
}

TEST(refuses_an_impossible_bool)
{
    struct archive a = saved();
    uint8_t *at = NULL;
    for (size_t i = 0; i + 5 <= a.size; i++)
        if (memcmp(a.data + i, "\4flag", 5) == 0)
            at = a.data + i + 5 + 8;
    CHECK(at && *at == 1);
    if (at) {
        *at = 2;
        CHECK(refused(&a, &type, 0));
    }
    archive_free(&a);
}

/* A copy in a block of just that size: the sanitizer sees any byte read behind it. */
static struct archive exact(const uint8_t *bytes, size_t n)
{
    struct archive a = {.data = malloc(n ? n : 1), .size = n, .capacity = n};
    if (a.data && n)
        memcpy(a.data, bytes, n);
    return a;
}

TEST(refuses_it_cut_short_anywhere)
{
    struct archive whole = saved();
    for (size_t n = 0; n < whole.size; n++) {
        struct archive a = exact(whole.data, n);
        CHECK(refused(&a, &type, 0));
        if (n > 8)
            CHECK(!archive_end(&a, NULL));
        archive_free(&a);
    }
    archive_free(&whole);
}

/* Any byte changed: it may load or not, but only ever touches the object's fields. */
TEST(survives_any_damage)
{
    struct archive whole = saved();
    uint64_t seed = 0x9e3779b97f4a7c15;
    for (unsigned round = 0; round < 20000; round++) {
        struct archive a = exact(whole.data, whole.size);
        for (unsigned hits = 1 + round % 4; hits; hits--) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t at = (seed >> 33) % a.size;
            static const uint8_t nasty[] = {0, 1, 0x7f, 0x80, 0xff};
            a.data[at] = seed & 1 << 20 ? nasty[(seed >> 21) % 5] : (uint8_t)(seed >> 24);
        }
        struct {
            uint64_t guard_before;
            struct thing t;
            uint64_t guard_after;
        } box = {.guard_before = 0x1111, .guard_after = 0x2222, .t.saved = 77};
        struct error err = {0};
        bool loaded = archive_load(&a, &type, 0, &box.t, &err);
        CHECK(loaded || err.text[0]);
        CHECK_EQ(box.guard_before, 0x1111);
        CHECK_EQ(box.guard_after, 0x2222);
        CHECK_EQ(box.t.saved, 77);
        archive_free(&a);
    }
    archive_free(&whole);
}

TESTS(T(loads_what_it_saved), T(refuses_a_part_that_nobody_wants), T(refuses_what_it_does_not_know),
      T(keeps_an_optional_field_that_is_missing), T(asks_the_object), T(refuses_an_impossible_bool),
      T(refuses_it_cut_short_anywhere), T(survives_any_damage))
