/*
 * A cage: a process in which nothing is but pages of guest memory, for code of the guest that runs
 * as it is, at its own addresses.
 *
 * It is traced (ptrace(2)) from its first instruction on, so that every system call, fault and trap
 * of what runs in it stops it and is told to the monitor. What is mapped in it is changed by a few
 * instructions of the monitor's that it also holds (cage_code.S): a filter (seccomp(2)) lets them
 * make three system calls, with a secret of 64 bits that is in no memory and in no register while
 * the guest runs. A cage belongs to the thread that made it: no other may use it.
 */
#ifndef DOPPEL_ENGINE_BINARY_CAGE_H
#define DOPPEL_ENGINE_BINARY_CAGE_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/error.h"

/* Addresses that can be mapped: the lower half but for its last page, as Linux has it. */
#define CAGE_TOP UINT64_C(0x7ffffffff000)

/* What code and stack segment 64-bit programs have on Linux. */
enum { CAGE_CS = 0x33, CAGE_SS = 0x2b };

enum { CAGE_READ = 1, CAGE_WRITE = 2, CAGE_EXECUTE = 4 }; /* as mmap(2) has them */

/* What ended a run. */
enum cage_stop {
    CAGE_CALL,      /* SYSCALL or INT 80H, behind which RIP is */
    CAGE_FAULT,     /* an access to what is not mapped, or not so */
    CAGE_TRAP,      /* INT3 or INT1, behind which RIP is */
    CAGE_STEP,      /* a single step, behind which RIP is */
    CAGE_BREAK,     /* a breakpoint, at RIP */
    CAGE_EXCEPTION, /* another exception, at RIP */
    CAGE_ASKED,     /* cage_interrupt() */
    CAGE_STUCK,     /* nothing ran: something could not be mapped; it is of no more use */
    CAGE_LOST,      /* the process is gone, and what it computed with it */
    CAGE_STOPS
};

struct cage_call {
    uint64_t number, argument[6];
};

enum { CAGE_BREAKPOINTS = 4 }; /* that the processor has, for instructions */
enum { CAGE_PAGES = 8 };       /* of its own, that the monitor writes */

struct cage {
    pid_t pid, tracer;
    cpu_set_t cpus;          /* where its maker may run */
    int cpu;                 /* where it may, or -1: there as well */
    size_t area;             /* bytes of the host's XSAVE area */
    uint64_t base;           /* where its code and the calls are, in the cage */
    uint8_t *image;          /* of its code and the calls, as the monitor sees it */
    struct cage_call *calls; /* that it makes next, as the monitor sees them */
    unsigned queued;
    uint64_t secret[2];                    /* without which it can't make a call */
    uint64_t breakpoint[CAGE_BREAKPOINTS]; /* or 0 */
    bool tsc_faults;
    bool stuck; /* a call has failed: what it holds is not what it should */
};

/* memory_fd is what its pages come from. NULL: the host does not let us; err says why. */
struct cage *cage_create(int memory_fd, struct error *err);
void cage_destroy(struct cage *c);

/* Whether the calling thread made it. */
bool cage_is_mine(const struct cage *c);
/* Whether it was killed. It is not running. */
bool cage_is_gone(const struct cage *c);
/* Whether pages there would be in the way of what is the cage's own. */
bool cage_overlaps(const struct cage *c, uint64_t at, uint64_t size);

/* From the next run or settling on, `size` bytes at `at` are those of guest memory at `offset`, or
 * nothing. All are whole pages. False: the cage is of no more use. */
bool cage_map(struct cage *c, uint64_t at, uint64_t size, uint64_t offset, unsigned rights);
bool cage_unmap(struct cage *c, uint64_t at, uint64_t size);
/* Or its own page n, which is the caller's to write. */
bool cage_map_page(struct cage *c, uint64_t at, unsigned n, unsigned rights);
uint8_t *cage_page(const struct cage *c, unsigned n);
/* Takes out all that was mapped. */
bool cage_clear(struct cage *c);
bool cage_settle(struct cage *c);

/* Breakpoint n stops it before the instruction at `address`; 0: nothing. */
bool cage_break(struct cage *c, unsigned n, uint64_t address);
/* Whether RDTSC and RDTSCP stop it as well (CAGE_EXCEPTION). On some hosts each stop takes twice as
 * long then. */
bool cage_fault_tsc(struct cage *c, bool fault);

/* Runs from regs until something stops it, and says how far it came. address: of a CAGE_FAULT; ~0
 * where there is none to tell. */
enum cage_stop cage_run(struct cage *c, struct user_regs_struct *regs, uint64_t *address);
/* The vector and x87 registers that it goes on with, or has come to, as an XSAVE area of the
 * standard format and `size` bytes, of which the host's own may have more. */
bool cage_set_vectors(const struct cage *c, void *area, size_t size);
bool cage_get_vectors(const struct cage *c, void *area, size_t size);
/* In a signal handler of the same thread: the run that is under way, or else the next one, stops.
 */
void cage_interrupt(const struct cage *c);

/* Keeps cage and caller on the processor that the caller is on: they take turns, and waking another
 * processor each time costs more than what is computed between. Then lets the caller go. */
void cage_stay(struct cage *c);
void cage_roam(const struct cage *c);

#endif
