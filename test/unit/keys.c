/*
 * The escape keys: what they do, what of the typing stays the guest's, however it is cut in pieces.
 */
#include "cli/keys.h"
#include "test.h"

struct seen {
    enum key_action actions[8];
    unsigned count;
};

static void note(void *ctx, enum key_action action)
{
    struct seen *s = ctx;
    if (s->count < 8)
        s->actions[s->count++] = action;
}

/* Types text in pieces of that many bytes; what is left for the guest goes to kept. */
static void type(struct seen *s, const char *text, size_t piece, char *kept)
{
    struct keys k = {.act = note, .ctx = s};
    uint8_t bytes[64];
    *s = (struct seen){0};
    size_t n = strlen(text), out = 0;
    for (size_t i = 0; i < n; i += piece) {
        size_t m = n - i < piece ? n - i : piece;
        memcpy(bytes, text + i, m);
        m = keys_filter(&k, bytes, m);
        memcpy(kept + out, bytes, m);
        out += m;
    }
    kept[out] = 0;
}

TEST(typing_is_the_guests)
{
    struct seen s;
    char kept[64];
    type(&s, "x h z \x03\x1a\x04\x1b[A", 4, kept);
    CHECK(strcmp(kept, "x h z \x03\x1a\x04\x1b[A") == 0);
    CHECK_EQ(s.count, 0);
}

TEST(sequences_act_and_vanish)
{
    static const char text[] = "a\x01xb\x01zc\x01hd";
    struct seen s;
    char kept[64];
    for (size_t piece = 1; piece < sizeof text; piece++) {
        type(&s, text, piece, kept);
        CHECK(strcmp(kept, "abcd") == 0);
        CHECK_EQ(s.count, 3);
        CHECK_EQ(s.actions[0], KEY_END);
        CHECK_EQ(s.actions[1], KEY_SUSPEND);
        CHECK_EQ(s.actions[2], KEY_HELP);
    }
}

TEST(ctrl_a_twice_is_one_for_the_guest)
{
    struct seen s;
    char kept[64];
    for (size_t piece = 1; piece < 8; piece++) {
        type(&s, "\x01\x01x\x01\x01\x01\x01", piece, kept);
        CHECK(strcmp(kept, "\x01x\x01\x01") == 0);
        CHECK_EQ(s.count, 0);
    }
}

TEST(unknown_sequences_do_nothing)
{
    struct seen s;
    char kept[64];
    type(&s, "a\x01qb", 8, kept);
    CHECK(strcmp(kept, "ab") == 0);
    CHECK_EQ(s.count, 0);
}

TESTS(T(typing_is_the_guests), T(sequences_act_and_vanish), T(ctrl_a_twice_is_one_for_the_guest),
      T(unknown_sequences_do_nothing))
