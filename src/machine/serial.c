/*
 * The console on the guest's first serial line: output goes from the UART to the console as it
 * comes, input from the console to the UART as far as there is room.
 */
#include "machine/internal.h"

void serial_transmit(void *machine, uint8_t byte)
{
    struct machine *m = machine;
    atomic_fetch_add_explicit(&m->console_out, 1, memory_order_relaxed);
    if (m->console)
        m->console->transmit(m->console, &byte, 1);
}

/* The UART has room again: under the machine's lock, on any thread. */
void serial_ready(void *machine)
{
    struct machine *m = machine;
    if (m->console_wanted)
        loop_ask(m->console_wanted);
}

static void wanted(void *machine)
{
    struct machine *m = machine;
    if (m->console)
        m->console->wanted(m->console);
}

static size_t receive(void *machine, const uint8_t *bytes, size_t n)
{
    struct machine *m = machine;
    size_t taken = 0;
    machine_lock(m);
    while (taken < n && uart_can_receive(&m->pc.com1) > 0 &&
           uart_receive(&m->pc.com1, bytes[taken]))
        taken++;
    machine_unlock(m);
    atomic_fetch_add_explicit(&m->console_in, taken, memory_order_relaxed);
    return taken;
}

bool serial_start(struct machine *m, struct error *err)
{
    if (!m->config.console)
        return true;
    struct loop_task *t = loop_task(m->loop, wanted, m, err);
    const struct console_line line = {receive, m};
    if (!t || !m->config.console->start(m->config.console, m->loop, &line, err))
        return false;
    machine_lock(m);
    m->console = m->config.console;
    m->console_wanted = t;
    machine_unlock(m);
    loop_ask(t);
    return true;
}

void serial_stop(struct machine *m)
{
    if (m->console)
        m->console->stop(m->console);
    m->console = NULL;
}
