/*
 * The gate: nobody is inside while a section is open, and everybody gets through in the end.
 */
#include "base/gate.h"

#include <stdatomic.h>

#include "test.h"

enum { THREADS = 4, ROUNDS = 2000 };

struct shared {
    struct gate gate;
    atomic_bool asked;
    atomic_int inside; /* threads that run guest code, as it were */
    atomic_int exclusive;
    atomic_int broken; /* times that both were seen at once */
    atomic_int sections;
};

static void ask(void *ctx)
{
    struct shared *s = ctx;
    atomic_store(&s->asked, true);
}

static void look(struct shared *s)
{
    if (atomic_load(&s->exclusive))
        atomic_fetch_add(&s->broken, 1);
}

static void section(struct shared *s, bool insider)
{
    if (insider)
        atomic_fetch_sub(&s->inside, 1);
    gate_close(&s->gate, insider);
    if (atomic_fetch_add(&s->exclusive, 1) || atomic_load(&s->inside))
        atomic_fetch_add(&s->broken, 1);
    atomic_fetch_add(&s->sections, 1);
    atomic_fetch_sub(&s->exclusive, 1);
    gate_open(&s->gate, insider);
    if (insider)
        atomic_fetch_add(&s->inside, 1);
}

/* Runs "blocks", passes the gate when asked, and closes it itself now and then. */
static void *insider(void *ctx)
{
    struct shared *s = ctx;
    gate_enter(&s->gate);
    atomic_fetch_add(&s->inside, 1);
    for (unsigned i = 0; i < ROUNDS; i++) {
        look(s);
        if (atomic_exchange(&s->asked, false)) {
            atomic_fetch_sub(&s->inside, 1);
            gate_pass(&s->gate);
            atomic_fetch_add(&s->inside, 1);
        }
        if (i % 16 == 0)
            section(s, true);
    }
    atomic_fetch_sub(&s->inside, 1);
    gate_leave(&s->gate);
    return NULL;
}

static void *outsider(void *ctx)
{
    struct shared *s = ctx;
    for (unsigned i = 0; i < ROUNDS / 16; i++)
        section(s, false);
    return NULL;
}

TEST(sections_are_exclusive_and_nobody_starves)
{
    static struct shared s;
    pthread_t thread[THREADS + 1];
    gate_init(&s.gate, ask, &s);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, insider, &s), 0);
    CHECK_EQ(pthread_create(&thread[THREADS], NULL, outsider, &s), 0);
    for (unsigned i = 0; i <= THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(atomic_load(&s.broken), 0);
    CHECK_EQ(atomic_load(&s.sections), (THREADS + 1) * (ROUNDS / 16));
    gate_destroy(&s.gate);
}

TEST(a_closed_gate_refuses_who_will_not_wait)
{
    static struct shared s;
    gate_init(&s.gate, ask, &s);
    gate_close(&s.gate, false);
    CHECK(!gate_try_enter(&s.gate));
    gate_open(&s.gate, false);
    CHECK(gate_try_enter(&s.gate));
    gate_leave(&s.gate);
    gate_destroy(&s.gate);
}

TESTS(T(sections_are_exclusive_and_nobody_starves), T(a_closed_gate_refuses_who_will_not_wait))
