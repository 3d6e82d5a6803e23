/*
 * A thread that has something for a running vCPU sends its thread a signal, and may be slow to: the
 * vCPU has come back from its run for another reason by then. The signal is not to come behind
 * that: the thread's next engine may not know it, and the vCPU whose it is may be gone.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "engine/hardware/hardware.h"

static const struct engine *engine;
#define RIG_ENGINE (*engine)
#include "emulate_rig.h"

static atomic_bool sending;  /* someone is about to send a signal */
static atomic_bool returned; /* from run() */

/* The engines' pthread_kill(): it sends the signal when the vCPU has come back, or does not.
 * NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
int pthread_kill(pthread_t thread, int signal)
{
    enum { PATIENCE = 20000 };
    int (*really)(pthread_t, int);
    *(void **)&really = dlsym(RTLD_NEXT, "pthread_kill");
    atomic_store(&sending, true);
    for (unsigned i = 0; i < PATIENCE && !atomic_load(&returned); i++)
        sched_yield();
    return really(thread, signal);
}

CODE(tell_again_and_again, "again: mov $200, %ecx; 1: loop 1b; out %al, $0x80; jmp again");

static void come_back(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    const struct rig *r = ctx;
    if (atomic_load(&sending))
        engine->stop(r->vcpu);
}

/* The guest takes no interrupts. */
static void *interrupt_it(void *rig)
{
    const struct rig *r = rig;
    while (!atomic_load(&sending)) {
        engine->interrupt(r->vcpu, true);
        engine->interrupt(r->vcpu, false);
    }
    return NULL;
}

static bool open_rig(struct rig *r)
{
    if (!rig_open(r, tell_again_and_again, tell_again_and_again_end))
        return false;
    r->host.ctx = r;
    r->host.pio_write = come_back;
    return rig_remake(r, x86_model_find("x86-64-v2"));
}

static bool signal_is_left(void)
{
    sigset_t pending;
    sigpending(&pending);
    for (int i = SIGRTMIN; i <= SIGRTMAX; i++)
        if (sigismember(&pending, i))
            return true;
    return false;
}

static void check_no_signal_is_left(struct rig *r)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    atomic_store(&sending, false);
    atomic_store(&returned, false);
    CHECK_EQ(pthread_create(&thread, NULL, interrupt_it, r), 0);
    CHECK_EQ(engine->run(r->vcpu, UINT64_MAX), ENGINE_STOPPED);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    atomic_store(&returned, true);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(!signal_is_left());
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

TEST(binary_waits_for_its_kick)
{
    struct rig r;
    engine = &engine_binary;
    if (!open_rig(&r)) {
        CHECK(false);
        return;
    }
    check_no_signal_is_left(&r);
    rig_close(&r);
}

TEST(hardware_waits_for_its_kick)
{
    static char why[256];
    struct rig r;
    engine = &engine_hardware;
    if (!engine->usable(why, sizeof why))
        SKIP(why);
    if (!open_rig(&r)) {
        CHECK(false);
        return;
    }
    r.vm->facts.users_only = false; /* also where KVM is to run users alone */
    check_no_signal_is_left(&r);
    rig_close(&r);
}

TESTS(T(binary_waits_for_its_kick), T(hardware_waits_for_its_kick))
