/*
 * Eventfds between devices and an engine that keeps the local APICs (struct engine_signals): a
 * vCPU's write to a doorbell reaches the event loop without an exit, and a device's message the
 * guest without a call of the engine. Devices know nothing of it: a doorbell's signal becomes the
 * write that it was, and a message is recognized by what it says, so nobody needs to follow what
 * the guest does to its MSI-X tables.
 *
 * The engine has them while it has the APICs: from eventfds_give() to eventfds_take(), behind which
 * nothing is under way. All of it under the machine's lock.
 */
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine/internal.h"

static const struct engine_signals *engine_of(const struct machine *m)
{
    return m->config.engine->signals;
}

/* How often it was signalled since the last look. */
static uint64_t take_signals(int fd)
{
    uint64_t n;
    return read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

/* ---- doorbells ---- */

/* What the vCPU did, or several times did, is done now. */
static void ring(struct doorbell *d)
{
    uint64_t n = take_signals(d->fd);
    d->machine->eventfds.rung += n;
    if (n)
        d->bar->ops->write(d->bar->device, d->at.offset, d->at.size, d->at.value);
}

/* The loop's thread. */
static void on_signal(void *doorbell, unsigned events)
{
    struct doorbell *d = doorbell;
    (void)events;
    machine_lock(d->machine);
    ring(d);
    machine_unlock(d->machine);
}

static bool is_wanted(const struct machine *m, const struct doorbell *d)
{
    return m->eventfds.given && d->bar->mapped;
}

static uint64_t place_of(const struct doorbell *d)
{
    return d->bar->mapped_at + d->at.offset;
}

/* The engine has the doorbells where the guest has them now, if it is to have them at all; those
 * that move make room for others first. A signal of the old place is still served. */
static void place_doorbells(void *machine)
{
    struct machine *m = machine;
    struct eventfds *s = &m->eventfds;
    const struct engine_signals *e = engine_of(m);
    for (unsigned i = 0; i < s->doorbells; i++) {
        struct doorbell *d = &s->doorbell[i];
        if (d->given && (!is_wanted(m, d) || d->gpa != place_of(d))) {
            e->remove_doorbell(m->vm, d->gpa, d->at.size, d->fd);
            d->given = false;
        }
    }
    for (unsigned i = 0; i < s->doorbells; i++) {
        struct doorbell *d = &s->doorbell[i];
        if (!d->given && is_wanted(m, d)) {
            d->gpa = place_of(d);
            d->given = e->add_doorbell(m->vm, d->gpa, d->at.size, d->fd);
        }
    }
}

/* ---- messages ---- */

static void drop_message(struct machine *m, struct message *g)
{
    if (g->given)
        engine_of(m)->remove_message(m->vm, g->fd);
    g->given = false;
    take_signals(g->fd); /* some kernels leave it there */
}

static bool is_same(const struct engine_msi *a, const struct engine_msi *b)
{
    return a->address == b->address && a->data == b->data;
}

static struct message *find_message(struct eventfds *s, const struct engine_msi *msi)
{
    for (unsigned i = 0; i < s->messages; i++)
        if (is_same(&s->message[i].msi, msi))
            return &s->message[i];
    return NULL;
}

/* The next one gets a free place or, in turn, that of another. */
static void remember(struct machine *m, const struct engine_msi *msi)
{
    struct eventfds *s = &m->eventfds;
    unsigned i = s->messages < ENGINE_MESSAGES ? s->messages : s->turn++ % ENGINE_MESSAGES;
    struct message *g = &s->message[i];
    if (i == s->messages) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0)
            return;
        *g = (struct message){.fd = fd};
        s->messages++;
    }
    drop_message(m, g);
    g->msi = *msi;
}

/* The engine hears of a message when it is sent for the second time: to tell it costs much more
 * than to send one, and a guest may have every one of its be another. */
bool eventfds_send(struct machine *m, const struct engine_msi *msi)
{
    const uint64_t one = 1;
    if (!m->eventfds.given)
        return false;
    struct message *g = find_message(&m->eventfds, msi);
    if (!g) {
        remember(m, msi);
        return false;
    }
    if (!g->given)
        g->given = engine_of(m)->add_message(m->vm, msi, g->fd);
    bool sent = g->given && write(g->fd, &one, sizeof one) == sizeof one;
    m->eventfds.sent += sent;
    return sent;
}

/* ---- there and back ---- */

void eventfds_give(struct machine *m)
{
    if (m->eventfds.given || !m->apics_lent || !engine_of(m))
        return;
    m->eventfds.given = true;
    place_doorbells(m);
}

/* What was rung and not served is served here, so that the devices know of it when they are saved,
 * and what was sent has arrived. */
void eventfds_take(struct machine *m)
{
    struct eventfds *s = &m->eventfds;
    if (!s->given)
        return;
    s->given = false;
    place_doorbells(m);
    for (unsigned i = 0; i < s->doorbells; i++)
        ring(&s->doorbell[i]);
    for (unsigned i = 0; i < s->messages; i++)
        drop_message(m, &s->message[i]);
}

/* ---- making ---- */

static bool any_engine_has_them(const struct machine *m)
{
    bool any = m->config.engine->signals;
    for (unsigned i = 0; i < m->config.other_count; i++)
        any |= m->config.other[i]->signals != NULL;
    return any;
}

static bool add_doorbell(struct machine *m, const struct pci_bar *bar,
                         const struct bus_doorbell *at, struct error *err)
{
    struct eventfds *s = &m->eventfds;
    if (s->doorbells == MACHINE_DOORBELLS)
        return true; /* its writes come as others do */
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return error_errno(err, "doorbell");
    struct doorbell *d = &s->doorbell[s->doorbells++];
    *d = (struct doorbell){.machine = m, .bar = bar, .at = *at, .fd = fd};
    return loop_watch(m->loop, fd, LOOP_READ, on_signal, d, err);
}

static bool add_doorbells(struct machine *m, const struct pci_bar *bar, struct error *err)
{
    struct bus_doorbell at;
    if (!bar->ops || !bar->ops->doorbell)
        return true;
    for (unsigned n = 0; bar->ops->doorbell(bar->device, n, &at); n++)
        if (!add_doorbell(m, bar, &at, err))
            return false;
    return true;
}

bool eventfds_init(struct machine *m, struct error *err)
{
    struct pci_bus *bus = &m->pc.pci;
    if (!any_engine_has_them(m))
        return true;
    for (unsigned n = 0; n < PCI_DEVFNS; n++)
        for (unsigned i = 0; bus->function[n] && i < PCI_BARS; i++)
            if (!add_doorbells(m, &bus->function[n]->bar[i], err))
                return false;
    bus->moved = place_doorbells;
    bus->moved_ctx = m;
    return true;
}

void eventfds_destroy(struct machine *m)
{
    struct eventfds *s = &m->eventfds;
    for (unsigned i = 0; i < s->doorbells; i++)
        close(s->doorbell[i].fd);
    for (unsigned i = 0; i < s->messages; i++)
        close(s->message[i].fd);
}
