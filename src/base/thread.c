#include "base/thread.h"

#include <errno.h>
#include <signal.h>

bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *ctx), void *ctx,
                  struct error *err)
{
    sigset_t blocked, before;
    sigfillset(&blocked);
    static const int synchronous[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (unsigned i = 0; i < sizeof synchronous / sizeof synchronous[0]; i++)
        sigdelset(&blocked, synchronous[i]);
    /* A new thread begins with its creator's mask. */
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int failed = pthread_create(thread, NULL, run, ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        errno = failed;
        return error_errno(err, "starting thread %s", name);
    }
    pthread_setname_np(*thread, name);
    return true;
}
