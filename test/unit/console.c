/* The console on file descriptors: what goes out, what comes in, and what happens at the ends. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine/console.h"
#include "test.h"

/* The guest's side: a line with a little room. */
struct line {
    uint8_t got[64];
    size_t count, room;
};

static size_t receive(void *ctx, const uint8_t *bytes, size_t n)
{
    struct line *l = ctx;
    size_t taken = n < l->room ? n : l->room;
    memcpy(l->got + l->count, bytes, taken);
    l->count += taken;
    l->room -= taken;
    return taken;
}

struct setup {
    struct loop *loop;
    struct console_fds *c;
    struct line line;
    int in[2], out[2]; /* pipes: we write in[1] and read out[0] */
};

static void open_all(struct setup *s)
{
    *s = (struct setup){.loop = loop_create(NULL), .c = calloc(1, sizeof *s->c)};
    if (!s->loop || !s->c || pipe(s->in) != 0 || pipe(s->out) != 0)
        exit(1);
    console_fds_init(s->c, s->in[0], s->out[1]);
}

static void start(struct setup *s)
{
    const struct console_line line = {receive, &s->line};
    CHECK(s->c->console.start(&s->c->console, s->loop, &line, NULL));
}

static void close_all(struct setup *s)
{
    s->c->console.stop(&s->c->console);
    console_fds_destroy(s->c);
    free(s->c);
    loop_destroy(s->loop);
    for (unsigned i = 0; i < 2; i++) {
        close(s->in[i]);
        close(s->out[i]);
    }
}

TEST(output_arrives_whole_and_in_order)
{
    struct setup s;
    open_all(&s);
    start(&s);
    s.c->console.transmit(&s.c->console, (const uint8_t *)"hel", 3);
    s.c->console.transmit(&s.c->console, (const uint8_t *)"lo", 2);
    loop_round(s.loop, LOOP_NEVER);
    char got[8] = {0};
    CHECK_EQ(read(s.out[0], got, sizeof got), 5);
    CHECK(strcmp(got, "hello") == 0);
    close_all(&s);
}

TEST(what_is_held_is_written_at_the_end)
{
    struct setup s;
    open_all(&s);
    start(&s);
    s.c->console.transmit(&s.c->console, (const uint8_t *)"bye", 3);
    /* the loop has no turn */
    s.c->console.stop(&s.c->console);
    char got[8] = {0};
    CHECK_EQ(read(s.out[0], got, sizeof got), 3);
    close_all(&s);
}

TEST(input_waits_in_the_pipe_while_the_guest_has_no_room)
{
    struct setup s;
    open_all(&s);
    start(&s);
    CHECK_EQ(write(s.in[1], "abcdef", 6), 6);
    s.line.room = 2;
    loop_round(s.loop, LOOP_NEVER);
    CHECK_EQ(s.line.count, 2);
    loop_round(s.loop, loop_now()); /* no room: not even looked at */
    CHECK_EQ(s.line.count, 2);
    s.line.room = 3;
    s.c->console.wanted(&s.c->console);
    CHECK_EQ(s.line.count, 5);
    s.line.room = 8;
    s.c->console.wanted(&s.c->console);
    CHECK_EQ(s.line.count, 6);
    CHECK(memcmp(s.line.got, "abcdef", 6) == 0);
    CHECK_EQ(write(s.in[1], "g", 1), 1);
    loop_round(s.loop, LOOP_NEVER);
    CHECK_EQ(s.line.count, 7);
    close_all(&s);
}

static size_t upper_only(void *ctx, uint8_t *bytes, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] >= 'A' && bytes[i] <= 'Z')
            bytes[kept++] = bytes[i];
        else
            ++*(unsigned *)ctx;
    }
    return kept;
}

TEST(a_filter_sees_every_byte_even_when_the_guest_takes_none)
{
    struct setup s;
    unsigned filtered = 0;
    open_all(&s);
    s.c->filter = upper_only;
    s.c->ctx = &filtered;
    start(&s);
    CHECK_EQ(write(s.in[1], "aBcD", 4), 4);
    loop_round(s.loop, LOOP_NEVER);
    CHECK_EQ(write(s.in[1], "e", 1), 1);
    loop_round(s.loop, LOOP_NEVER);
    CHECK_EQ(filtered, 3);
    s.line.room = 8;
    s.c->console.wanted(&s.c->console);
    CHECK_EQ(s.line.count, 2);
    CHECK(memcmp(s.line.got, "BD", 2) == 0);
    close_all(&s);
}

static void closed(void *ctx)
{
    ++*(unsigned *)ctx;
}

TEST(the_end_of_input_is_told_once_and_output_goes_on)
{
    struct setup s;
    unsigned ends = 0;
    open_all(&s);
    s.c->closed = closed;
    s.c->ctx = &ends;
    start(&s);
    close(s.in[1]);
    loop_round(s.loop, LOOP_NEVER);
    loop_round(s.loop, loop_now());
    CHECK_EQ(ends, 1);
    s.c->console.transmit(&s.c->console, (const uint8_t *)"x", 1);
    loop_round(s.loop, LOOP_NEVER);
    char got;
    CHECK_EQ(read(s.out[0], &got, 1), 1);
    s.in[1] = dup(s.in[0]);
    close_all(&s);
}

TEST(a_reader_that_went_away_is_no_one)
{
    struct setup s;
    signal(SIGPIPE, SIG_IGN);
    open_all(&s);
    start(&s);
    close(s.out[0]);
    s.c->console.transmit(&s.c->console, (const uint8_t *)"x", 1);
    loop_round(s.loop, LOOP_NEVER);
    CHECK_EQ(s.c->count, 0);
    s.out[0] = dup(s.in[0]);
    close_all(&s);
}

TEST(output_waits_for_the_first_client_of_a_socket)
{
    struct setup s;
    int pair[2];
    open_all(&s);
    console_fds_attach(s.c, -1, -1);
    start(&s);
    s.c->console.transmit(&s.c->console, (const uint8_t *)"early", 5);
    loop_round(s.loop, LOOP_NEVER);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    console_fds_attach(s.c, pair[0], pair[0]);
    char got[8] = {0};
    CHECK_EQ(read(pair[1], got, sizeof got), 5);
    s.line.room = 8;
    CHECK_EQ(write(pair[1], "in", 2), 2);
    loop_round(s.loop, LOOP_NEVER);
    CHECK_EQ(s.line.count, 2);
    close_all(&s);
    close(pair[0]);
    close(pair[1]);
}

TEST(the_terminals_own_descriptor_keeps_its_mode)
{
    struct setup s;
    open_all(&s);
    CHECK(!(fcntl(s.out[1], F_GETFL) & O_NONBLOCK));
    CHECK(fcntl(s.c->out, F_GETFL) & O_NONBLOCK);
    start(&s);
    close_all(&s);
}

TESTS(T(output_arrives_whole_and_in_order), T(what_is_held_is_written_at_the_end),
      T(input_waits_in_the_pipe_while_the_guest_has_no_room),
      T(a_filter_sees_every_byte_even_when_the_guest_takes_none),
      T(the_end_of_input_is_told_once_and_output_goes_on), T(a_reader_that_went_away_is_no_one),
      T(output_waits_for_the_first_client_of_a_socket),
      T(the_terminals_own_descriptor_keeps_its_mode))
