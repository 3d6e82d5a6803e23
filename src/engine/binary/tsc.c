/*
 * The time-stamp counter in translated code.
 *
 * The machine's counter counts guest time, which follows the host's monotonic clock. To read that
 * clock takes libc; so translated code reads the host's own counter and moves it onto the guest's
 * by a line that all vCPUs share: host * mult / 2^64 + offset. The line is drawn again when it has
 * come away from guest time by more than TOLERANCE: to a little slower where it is ahead, so that
 * no vCPU sees its counter go back; and with no vCPU in translated code, so that all change at
 * once.
 *
 * Where the host's counter does not count at one rate, or instructions are counted (--clock
 * virtual), RDTSC is left to C.
 */
#include <cpuid.h>
#include <time.h>

#include "engine/binary/loop.h"
#include "x86/cpuid.h"

enum { NS_PER_S = 1000000000, SAMPLES = 3 };

/* In ns. LOOK_AGAIN: translated code runs no longer without a look; BASELINE: the rate is told from
 * what the host's clocks did for so long at least. */
enum { TOLERANCE = 8000, MAY_GO_BACK = 1000000, LOOK_AGAIN = 8000000, BASELINE = 500000 };

static uint64_t host_counter(void)
{
    return __builtin_ia32_rdtsc();
}

static uint64_t host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static bool counts_evenly(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & BIT(8));
}

static void begin(struct binary_tsc *t)
{
    t->drawn = false;
    t->host_0 = host_counter();
    t->ns_0 = host_ns();
}

void binary_tsc_init(struct binary_tsc *t)
{
    t->usable = counts_evenly();
    begin(t);
}

static uint64_t on_line(const struct binary_tsc *t, uint64_t host)
{
    return (uint64_t)((unsigned __int128)host * t->mult >> 64) + t->offset;
}

/* The machine's counter less the line, as exactly as can be told, and when that was. */
static int64_t distance(const struct binary_vcpu *b, uint64_t *host)
{
    const struct binary_tsc *t = &b->vm->tsc;
    uint64_t least = UINT64_MAX;
    int64_t by = 0;
    for (unsigned i = 0; i < SAMPLES; i++) {
        uint64_t before = host_counter();
        uint64_t machine = b->host.tsc_read(b->host.ctx) - b->tsc_moved;
        uint64_t took = host_counter() - before;
        if (took >= least)
            continue;
        least = took;
        *host = before + took / 2;
        by = (int64_t)(machine - on_line(t, *host));
    }
    return by;
}

/* ---- drawing the line ---- */

/* Guest ticks for each of the host's, times 2^64; 0 while that can't be told, or is no fraction. */
static uint64_t rate(struct binary_tsc *t, uint64_t hz)
{
    uint64_t host = host_counter() - t->host_0, ns = host_ns() - t->ns_0;
    unsigned __int128 ticks = (unsigned __int128)ns * hz / NS_PER_S;
    if (ns < BASELINE || ticks >= host)
        return 0;
    return (uint64_t)((ticks << 64) / host);
}

static void tell_all(const struct engine_vm *vm)
{
    for (unsigned i = 0; i < vm->created; i++) {
        struct binary_vcpu *b = binary_of(vm->vcpu[i]);
        if (!b)
            continue;
        b->context->tsc_mult = b->vm->tsc.mult;
        b->context->tsc_offset = b->vm->tsc.offset + b->tsc_moved;
    }
}

/* No vCPU is in translated code. */
static void draw(struct binary_vcpu *b)
{
    struct binary_tsc *t = &b->vm->tsc;
    uint64_t hz = b->v->vm->model->tsc_hz, host = 0;
    int64_t ahead = 0;
    if (t->drawn)
        ahead = -distance(b, &host);
    if (t->drawn && ((uint64_t)ahead + hz > 2 * hz || host < t->host_0)) {
        begin(t); /* the host slept, or its counter began anew */
        return;
    }
    uint64_t mult = rate(t, hz);
    bool slow = ahead > 0 && (uint64_t)ahead < hz / NS_PER_S * MAY_GO_BACK;
    if (!mult)
        return;
    if (!t->drawn || !slow) {
        t->mult = mult;
        t->offset = 0;
        t->offset = (uint64_t)distance(b, &host);
    } else { /* as much less as loses `ahead` in 1/16 s */
        uint64_t now = on_line(t, host);
        t->mult = mult - mult / hz * 16 * (uint64_t)ahead;
        t->offset = 0;
        t->offset = now - on_line(t, host);
    }
    t->drawn = true;
    tell_all(b->v->vm);
}

/* ---- looking at it ---- */

static uint64_t magnitude(int64_t x)
{
    return x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
}

/* The guest's writes that were not seen here: before this engine, or by a reset. Processors that
 * agree as far as can be told agree wholly. */
static void find_out_moved(struct binary_vcpu *b)
{
    uint64_t hz = b->v->vm->model->tsc_hz, host;
    b->tsc_moved = 0;
    int64_t by = distance(b, &host);
    if (magnitude(by) > hz / NS_PER_S * MAY_GO_BACK / 10)
        b->tsc_moved = (uint64_t)by;
    b->context->tsc_offset = b->vm->tsc.offset + b->tsc_moved;
    b->tsc_known = true;
}

/* Hosts' counters run at 1 GHz and more. */
static bool is_due(const struct binary_vcpu *b)
{
    return host_counter() - b->tsc_looked > LOOK_AGAIN;
}

void binary_tsc_look(struct binary_vcpu *b)
{
    struct binary_tsc *t = &b->vm->tsc;
    uint64_t hz = b->v->vm->model->tsc_hz, host;
    b->tsc_asked = false;
    if (b->counted || !is_due(b) || !t->usable || b->v->vm->model->tsc != X86_TSC_OWN ||
        !b->host.tsc_read)
        return;
    binary_outside(b);
    b->tsc_looked = host_counter();
    if (t->drawn && !b->tsc_known)
        find_out_moved(b);
    if (t->drawn && magnitude(distance(b, &host)) <= hz / NS_PER_S * TOLERANCE)
        return;
    bool closed = binary_close_gate(b);
    draw(b);
    if (closed)
        gate_open(&b->v->vm->gate, true);
    b->tsc_known |= t->drawn;
}

/* ---- what C reads and writes ---- */

bool binary_tsc_on(const struct binary_vcpu *b)
{
    return !b->counted && b->tsc_known && b->vm->tsc.drawn;
}

uint64_t binary_tsc_read(const struct binary_vcpu *b)
{
    return on_line(&b->vm->tsc, host_counter()) + b->tsc_moved;
}

void binary_tsc_written(struct binary_vcpu *b, int64_t by)
{
    b->tsc_known = binary_tsc_on(b); /* else it is found out with the rest */
    b->tsc_moved += (uint64_t)by;
    b->context->tsc_offset = b->vm->tsc.offset + b->tsc_moved;
}
