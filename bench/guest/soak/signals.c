#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "soak.h"

// Signals that are queued with a value: as many as were sent, in their order.
enum { QUEUED = 3000 };

static int send_all(pid_t to, int count)
{
    for (int i = 0; i < count; i++) {
        union sigval value = {.sival_int = i};
        while (sigqueue(to, SIGRTMIN, value) != 0) {
            if (errno != EAGAIN) // the receiver's queue is full
                return 1;
            sched_yield();
        }
    }
    return 0;
}

static bool receive_all(const sigset_t *set, int count)
{
    for (int i = 0; i < count; i++) {
        siginfo_t info;
        struct timespec patience = {.tv_sec = 300};
        int signal = sigtimedwait(set, &info, &patience);
        if (signal != SIGRTMIN)
            return soak_wrong("signals: number %d of %d never came", i, count);
        if (info.si_value.sival_int != i)
            return soak_wrong("signals: %d came instead of %d", info.si_value.sival_int, i);
    }
    return true;
}

bool soak_signals(uint64_t seed)
{
    int count = QUEUED + (int)(seed % 100), status;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        return soak_wrong("signals: fork failed");
    if (child == 0)
        _exit(send_all(parent, count));
    bool right = receive_all(&set, count);
    if (waitpid(child, &status, 0) != child || status != 0)
        right = soak_wrong("signals: the sender ended with %#x", status);
    return right;
}

// Arithmetic in x87, SSE and integer registers that is interrupted by a timer's signals, whose
// handler computes as well, and moved from processor to processor: it must come to the same result
// as alone.
enum { STEPS = 400000, TIMER_US = 700 };

static volatile double handled;
static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
    handled = sin(handled + 1.0) * 3.5L;
}

static void compute(uint64_t seed, double *d, long double *l, uint64_t *n)
{
    double a = (double)(seed % 1000), b = 0.5;
    long double c = 1.25L;
    uint64_t x = seed;
    for (int i = 0; i < STEPS; i++) {
        a = a * 1.0000001 + b;
        b = b * 0.999 + (double)(soak_random(&x) & 0xff) * 0.001;
        c = c * 0.9999999L + (long double)a;
    }
    *d = a + b;
    *l = c;
    *n = x;
}

static void go_to_processor(int n)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(n, &set);
    sched_setaffinity(0, sizeof set, &set); // without effect where there is no such processor
}

static void set_timer(int us)
{
    struct itimerval t = {.it_interval.tv_usec = us, .it_value.tv_usec = us};
    setitimer(ITIMER_REAL, &t, NULL);
}

bool soak_interrupted_floats(uint64_t seed)
{
    double d[2];
    long double l[2];
    uint64_t n[2];
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    compute(seed, &d[0], &l[0], &n[0]);
    for (int i = 0; i < 6; i++) {
        alarms = 0;
        go_to_processor(i % 2);
        set_timer(TIMER_US);
        compute(seed, &d[1], &l[1], &n[1]);
        while (!alarms) // a fast processor may be done before the first
            pause();
        set_timer(0);
        if (d[0] != d[1] || l[0] != l[1] || n[0] != n[1])
            return soak_wrong(
                "interrupted-floats: %.17g %.20Lg %#llx instead of %.17g %.20Lg %#llx", d[1], l[1],
                (unsigned long long)n[1], d[0], l[0], (unsigned long long)n[0]);
    }
    return true;
}
