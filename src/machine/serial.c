/*
 * The console on the guest's first serial line. Output goes from the UART to the console as it
 * comes. Input is read ahead into a buffer here and handed to the UART as far as it has room, at a
 * moment that depends on the guest alone: so under --clock virtual a guest that is fed from a file
 * or a full pipe finds each byte at the same instruction in every run.
 */
#include "machine/internal.h"

void serial_transmit(void *machine, uint8_t byte)
{
    struct machine *m = machine;
    atomic_fetch_add_explicit(&m->serial.sent, 1, memory_order_relaxed);
    if (m->serial.console)
        m->serial.console->transmit(m->serial.console, &byte, 1);
}

/* ---- input; all under the machine's lock ---- */

static void push(void *machine)
{
    struct machine *m = machine;
    struct serial *s = &m->serial;
    bool was_full = s->count == SERIAL_AHEAD;
    while (s->count && uart_can_receive(&m->pc.com1) > 0 &&
           uart_receive(&m->pc.com1, s->ahead[s->head])) {
        s->head = (s->head + 1) % SERIAL_AHEAD;
        s->count--;
        atomic_fetch_add_explicit(&s->received, 1, memory_order_relaxed);
    }
    if (was_full && s->count < SERIAL_AHEAD && s->wanted)
        loop_ask(s->wanted);
}

/* The UART is in the middle of something: it gets its bytes right after. */
void serial_ready(void *machine)
{
    struct machine *m = machine;
    if (m->serial.count)
        timer_set(&m->serial.push, clock_now(&m->clock));
}

/* ---- the console's side: the loop's thread ---- */

static size_t receive(void *machine, const uint8_t *bytes, size_t n)
{
    struct machine *m = machine;
    struct serial *s = &m->serial;
    size_t taken = 0;
    machine_lock(m);
    for (; taken < n && s->count < SERIAL_AHEAD; taken++)
        s->ahead[(s->head + s->count++) % SERIAL_AHEAD] = bytes[taken];
    push(m);
    machine_unlock(m);
    return taken;
}

static void wanted(void *machine)
{
    struct machine *m = machine;
    if (m->serial.console)
        m->serial.console->wanted(m->serial.console);
}

void serial_init(struct machine *m)
{
    timer_init(&m->serial.push, &m->clock, push, m);
}

bool serial_start(struct machine *m, struct error *err)
{
    struct console *console = m->config.console;
    if (!console)
        return true;
    const struct console_line line = {receive, m};
    m->serial.wanted = loop_task(m->loop, wanted, m, err);
    if (!m->serial.wanted || !console->start(console, m->loop, &line, err))
        return false;
    machine_lock(m);
    m->serial.console = console;
    machine_unlock(m);
    /* What is there already is there from the first instruction on. */
    for (size_t before = SIZE_MAX; before != m->serial.count;) {
        before = m->serial.count;
        loop_round(m->loop, 0);
    }
    return true;
}

void serial_stop(struct machine *m)
{
    if (m->serial.console)
        m->serial.console->stop(m->serial.console);
    m->serial.console = NULL;
}
