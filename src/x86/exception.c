/*
 * Exceptions: raising them, and what becomes of one that meets another on its way.
 */
#include "x86/exception.h"

#include "x86/debug.h"
#include "x86/sem/op.h"

void x86_raise(struct x86_cpu *c, unsigned vector)
{
    c->fault.vector = (uint8_t)vector;
    c->fault.has_error = false;
    c->fault.error = 0;
    longjmp(c->fault_jump, 1);
}

void x86_raise_error(struct x86_cpu *c, unsigned vector, uint32_t error)
{
    c->fault.vector = (uint8_t)vector;
    c->fault.has_error = true;
    c->fault.error = error;
    longjmp(c->fault_jump, 1);
}

/* The classes of SDM 3, table 6-4. */
enum class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum class class_of(unsigned vector) {
    switch (vector){
        case X86_DE : case X86_TS : case X86_NP : case X86_SS_FAULT : case
        X86_GP : return CONTRIBUTORY;
        case X86_PF : return PAGE_FAULT;
        case X86_DF : return DOUBLE_FAULT;
        default : return BENIGN;
    }
}

enum outcome { SERIALLY, AS_DOUBLE_FAULT, AS_SHUTDOWN };

/* SDM 3, table 6-5: what a second fault makes of the delivery of the first. */
static enum outcome combine(const struct x86_event *first, unsigned second)
{
    static const uint8_t table[4][4] = {
        /* second:      benign    contributory     page fault       double fault */
        [BENIGN] = {SERIALLY, SERIALLY, SERIALLY, SERIALLY},
        [CONTRIBUTORY] = {SERIALLY, AS_DOUBLE_FAULT, SERIALLY, SERIALLY},
        [PAGE_FAULT] = {SERIALLY, AS_DOUBLE_FAULT, AS_DOUBLE_FAULT, SERIALLY},
        [DOUBLE_FAULT] = {SERIALLY, AS_SHUTDOWN, AS_SHUTDOWN, AS_SHUTDOWN},
    };
    if (first->type != X86_HARDWARE_EXCEPTION)
        return SERIALLY;
    return table[class_of(first->vector)][class_of(second)];
}

/* One try; a fault on the way ends up in c->fault and not at the caller's jump. */
static bool try_event(struct x86_cpu *c, const struct x86_event *e)
{
    jmp_buf outer;
    memcpy(&outer, &c->fault_jump, sizeof outer);
    volatile bool delivered = false;
    if (setjmp(c->fault_jump) == 0) {
        x86_deliver_event(c, e);
        delivered = true;
    }
    memcpy(&c->fault_jump, &outer, sizeof outer);
    return delivered;
}

/* Faults that follow each other for ever (an #AC whose handler's stack is misaligned, too) hang
 * a real processor; this many count as a failed delivery. */
enum { TRIES_MAX = 16 };

static bool deliver(struct x86_cpu *c, struct x86_event e)
{
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        if (try_event(c, &e))
            return true;
        enum outcome outcome = combine(&e, c->fault.vector);
        if (outcome == AS_SHUTDOWN)
            return false;
        e.type = X86_HARDWARE_EXCEPTION;
        if (outcome == AS_DOUBLE_FAULT) {
            e.vector = X86_DF;
            e.has_error = true;
            e.error = 0;
            e.fault = false;
        } else {
            e.vector = c->fault.vector;
            e.has_error = c->fault.has_error;
            e.error = c->fault.error;
            e.fault = true;
        }
    }
    return false;
}

static void deliver_first(struct x86_cpu *c, const struct x86_event *e)
{
    c->s.activity = X86_ACTIVE;
    c->s.shadow_sti = false;
    c->s.shadow_ss = false;
    c->debug_hits = 0;
    if (e->type == X86_EVENT_NMI)
        c->s.nmi_blocked = true;
    if (!deliver(c, *e))
        c->s.activity = X86_SHUTDOWN;
    c->task_switched = false;
}

void x86_deliver(struct x86_cpu *c, enum x86_event_type type, unsigned vector, bool has_error,
                 uint32_t error)
{
    bool trap_or_abort = vector == X86_DB || vector == X86_DF || vector == X86_MC;
    const struct x86_event e = {.type = type,
                                .vector = (uint8_t)vector,
                                .has_error = has_error,
                                .error = error,
                                .fault = type == X86_HARDWARE_EXCEPTION && !trap_or_abort};
    deliver_first(c, &e);
}

void x86_deliver_fault(struct x86_cpu *c)
{
    if (!c->task_switched)
        c->s.rip = x86_rip(c);
    c->task_switched = false;
    const struct x86_event e = {.type = X86_HARDWARE_EXCEPTION,
                                .vector = c->fault.vector,
                                .has_error = c->fault.has_error,
                                .error = c->fault.error,
                                .fault = true};
    deliver_first(c, &e);
}
