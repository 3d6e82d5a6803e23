/*
 * Local APICs that an engine keeps (engine.h): they are its while the clock runs, and the machine's
 * while it stands, when a machine is saved, loaded, reset and moved to another engine.
 */
#include "machine/internal.h"

_Static_assert((int)ENGINE_PINS == (int)IOAPIC_PINS, "the I/O APIC's pins");
_Static_assert(sizeof((struct engine_apic){0}.page) == sizeof((struct lapic_image){0}.page),
               "the registers' page");

static const struct engine_apics *apics_of(const struct machine *m)
{
    const struct engine_apics *a = m->config.engine->apics;
    return a && m->vm && a->kept(m->vm) ? a : NULL;
}

/* ---- what the APICs' places in the machine pass on ---- */

static struct engine_msi to_msi(const struct apic_message *m)
{
    enum { LOGICAL = 1u << 2, ASSERT = 1u << 14, LEVEL = 1u << 15 };
    return (struct engine_msi){
        .address = (uint32_t)LAPIC_DEFAULT_BASE | (m->destination & 0xff) << 12 |
                   (m->logical ? LOGICAL : 0),
        .data = m->vector | (uint32_t)m->mode << 8 | (m->level ? LEVEL | ASSERT : 0),
    };
}

/* No processor here has an SMM for SMIs. */
static void deliver(void *machine, const struct apic_message *message)
{
    struct machine *m = machine;
    struct engine_msi msi = to_msi(message);
    if (message->mode != APIC_SMI)
        m->config.engine->apics->deliver(m->vm, &msi);
}

static bool message(void *machine, const struct apic_message *message)
{
    struct engine_msi msi = to_msi(message);
    return eventfds_send(machine, &msi);
}

static void routes(void *machine, const struct ioapic *a)
{
    struct machine *m = machine;
    struct engine_msi level[ENGINE_PINS] = {0};
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        struct apic_message message = ioapic_message(a, pin);
        if (message.level)
            level[pin] = to_msi(&message);
    }
    m->config.engine->apics->routes(m->vm, level);
}

/* What accesses the page otherwise than an engine's processor does is wider than 32 bits, or a
 * vector: undefined (SDM 3, 10.4.1), and such a write does nothing. */
static bool access_apic(void *vcpu, enum lapic_access kind, uint32_t where, bool write,
                        uint64_t *value)
{
    struct vcpu *v = vcpu;
    const struct engine_apics *a = v->machine->config.engine->apics;
    switch (kind) {
    case LAPIC_ACCESS_MSR: return a->msr(v->engine, where, write, value);
    case LAPIC_ACCESS_CR8: a->cr8(v->engine, write, value); break;
    case LAPIC_ACCESS_PAGE:
        if (!write)
            *value = a->read_page(v->engine, where);
        break;
    }
    return true;
}

/* ---- there and back ---- */

/* INIT and start-up IPIs that came to the machine's are done first: from now on they are the
 * engine's. */
static bool give(struct vcpu *v, const struct engine_apics *a)
{
    const struct lapic_keeper keeper = {v, access_apic};
    struct lapic_image image;
    struct engine_apic to;
    vcpu_prepare(v);
    lapic_lend(v->lapic, &keeper, &image);
    to.base = image.base;
    to.tsc_deadline = image.tsc_deadline;
    memcpy(to.page, image.page, sizeof to.page);
    return a->give(v->engine, &to);
}

static bool take(struct vcpu *v, const struct engine_apics *a)
{
    struct lapic_image image;
    struct engine_apic from;
    struct x86_state s;
    bool ok = a->take(v->engine, &from);
    if (!ok) {
        v->lapic->keeper = (struct lapic_keeper){0};
        return false;
    }
    image.base = from.base;
    image.tsc_deadline = from.tsc_deadline;
    memcpy(image.page, from.page, sizeof image.page);
    lapic_take_back(v->lapic, &image);
    v->machine->config.engine->get_state(v->engine, &s);
    v->waiting = s.activity == X86_WAIT_FOR_SIPI;
    return true;
}

static void fail(struct machine *m, const struct vcpu *v)
{
    const struct engine *e = m->config.engine;
    const char *why = e->failure ? e->failure(v->engine) : NULL;
    struct error err = {0};
    error_set(&err, "%s", why ? why : "the local APICs can't be moved");
    machine_failed(m, &err);
}

void apics_give(struct machine *m)
{
    const struct engine_apics *a = apics_of(m);
    if (!a || m->apics_lent || !m->vcpu[m->cpus - 1].engine)
        return;
    m->apics_lent = true;
    for (unsigned i = 0; i < m->cpus; i++)
        if (!give(&m->vcpu[i], a)) {
            fail(m, &m->vcpu[i]);
            return;
        }
    m->pc.apics.keeper = (struct apic_keeper){m, deliver, routes, message};
    routes(m, &m->pc.ioapic);
    eventfds_give(m);
}

void apics_take(struct machine *m)
{
    if (!m->apics_lent)
        return;
    eventfds_take(m);
    m->apics_lent = false;
    m->pc.apics.keeper = (struct apic_keeper){0};
    for (unsigned i = 0; i < m->cpus; i++)
        if (!take(&m->vcpu[i], m->config.engine->apics))
            fail(m, &m->vcpu[i]);
}
