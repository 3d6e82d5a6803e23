/*
 * Cages: what runs in one, and what does not.
 */
#include "test.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/binary/cage.h"

enum { PAGE = 4096, PAGES = 16 };
static const uint64_t code_at = 0x400000, data_at = 0x7f0000000000;

static const char *cannot;
static uint8_t *ram;

/* With the bytes as code at code_at, and a page of data. */
static struct cage *cage_with(const void *code, size_t size)
{
    static int fd = -1;
    static struct error err;
    if (fd < 0) {
        fd = memfd_create("ram", 0);
        if (fd < 0 || ftruncate(fd, PAGES * PAGE) != 0)
            return NULL;
        ram = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    memset(ram, 0x90, PAGE);
    memcpy(ram, code, size);
    struct cage *c = cage_create(fd, &err);
    if (!c) {
        cannot = err.text;
        return NULL;
    }
    CHECK(cage_map(c, code_at, PAGE, 0, CAGE_READ | CAGE_EXECUTE));
    CHECK(cage_map(c, data_at, PAGE, PAGE, CAGE_READ | CAGE_WRITE));
    return c;
}

#define CAGE(c, ...)                                                                               \
    static const uint8_t code[] = {__VA_ARGS__};                                                   \
    struct cage *c = cage_with(code, sizeof code);                                                 \
    if (!c)                                                                                        \
    SKIP(cannot)

static struct user_regs_struct from(uint64_t rip)
{
    return (struct user_regs_struct){.rip = rip, .rsp = data_at + PAGE, .eflags = 0x202};
}

TEST(runs_to_a_system_call)
{
    /* LEA RBX, [RAX+1]; SYSCALL */
    CAGE(c, 0x48, 0x8d, 0x58, 0x01, 0x0f, 0x05);
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    r.rax = 39; /* getpid */
    r.r15 = 0x1234567890abcdef;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    CHECK_EQ(r.rip, code_at + 6);
    CHECK_EQ(r.rax, 39);
    CHECK_EQ(r.rbx, 40);
    CHECK_EQ(r.r15, 0x1234567890abcdef);
    r.rip = code_at; /* now nothing is left to be mapped */
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    CHECK_EQ(r.rax, 39);
    cage_destroy(c);
}

TEST(tells_of_faults_and_goes_on)
{
    CAGE(c, 0x48, 0x89, 0x07, 0x0f, 0x0b); /* MOV [RDI], RAX; UD2 */
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    r.rdi = data_at + PAGE + 8;
    r.rax = 77;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_FAULT);
    CHECK_EQ(address, data_at + PAGE + 8);
    CHECK_EQ(r.rip, code_at);
    CHECK(cage_map(c, data_at + PAGE, PAGE, 2 * PAGE, CAGE_READ));
    CHECK_EQ(cage_run(c, &r, &address), CAGE_FAULT); /* not to be written */
    CHECK(cage_map(c, data_at + PAGE, PAGE, 2 * PAGE, CAGE_READ | CAGE_WRITE));
    CHECK_EQ(cage_run(c, &r, &address), CAGE_EXCEPTION);
    CHECK_EQ(r.rip, code_at + 3);
    CHECK_EQ(ram[2 * PAGE + 8], 77);
    r.rip = data_at; /* not to be executed */
    CHECK_EQ(cage_run(c, &r, &address), CAGE_FAULT);
    CHECK_EQ(address, data_at);
    cage_destroy(c);
}

TEST(tells_traps_from_each_other)
{
    CAGE(c, 0x90, 0xcc, 0x90, 0x90); /* NOP; INT3; NOP; NOP */
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    CHECK(cage_break(c, 0, code_at + 2));
    CHECK_EQ(cage_run(c, &r, &address), CAGE_TRAP);
    CHECK_EQ(r.rip, code_at + 2);
    CHECK_EQ(cage_run(c, &r, &address), CAGE_BREAK);
    CHECK_EQ(r.rip, code_at + 2);
    CHECK(cage_break(c, 0, 0));
    r.eflags |= 0x100;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_STEP);
    CHECK_EQ(r.rip, code_at + 3);
    cage_destroy(c);
}

TEST(wakes_nobody_but_its_tracer)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* as vCPU threads do */
    CAGE(c, 0x0f, 0x05);                        /* SYSCALL */
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    CHECK_EQ(sigpending(&signals), 0);
    CHECK(!sigismember(&signals, SIGCHLD));
    cage_destroy(c);
}

TEST(is_interrupted)
{
    CAGE(c, 0xeb, 0xfe); /* JMP to itself */
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    CHECK(cage_settle(c));
    for (unsigned i = 0; i < 3; i++) {
        cage_interrupt(c);
        CHECK_EQ(cage_run(c, &r, &address), CAGE_ASKED);
        CHECK_EQ(r.rip, code_at);
    }
    cage_destroy(c);
}

TEST(is_cleared)
{
    CAGE(c, 0x0f, 0x05);
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    CHECK(cage_clear(c));
    r.rip = code_at;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_FAULT);
    CHECK_EQ(address, code_at);
    CHECK(cage_map(c, code_at, PAGE, 0, CAGE_READ | CAGE_EXECUTE));
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    cage_destroy(c);
}

TEST(shows_a_page_of_its_own)
{
    CAGE(c, 0x0f, 0x0b); /* UD2 */
    static const uint8_t other[] = {0x0f, 0x05};
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    memcpy(cage_page(c, 3), other, sizeof other);
    CHECK(cage_map_page(c, code_at, 3, CAGE_READ | CAGE_EXECUTE));
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    r.rip = code_at;
    CHECK(cage_map(c, code_at, PAGE, 0, CAGE_READ | CAGE_EXECUTE));
    CHECK_EQ(cage_run(c, &r, &address), CAGE_EXCEPTION);
    CHECK_EQ(r.rip, code_at);
    cage_destroy(c);
}

TEST(stops_at_the_time_stamp_counter)
{
    CAGE(c, 0x0f, 0x31, 0x0f, 0x05); /* RDTSC; SYSCALL */
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    r.rip = code_at;
    CHECK(cage_fault_tsc(c, true));
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(cage_run(c, &r, &address), CAGE_EXCEPTION);
        CHECK_EQ(r.rip, code_at);
        CHECK(cage_clear(c) && cage_map(c, code_at, PAGE, 0, CAGE_READ | CAGE_EXECUTE));
    }
    CHECK(cage_fault_tsc(c, false));
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    cage_destroy(c);
}

/* The guest goes to every byte of the cage's own page with what would map all of its memory at
 * 10000000H, or end the process: nothing comes of it. */
TEST(its_own_code_does_nothing_for_the_guest)
{
    static const uint64_t numbers[] = {9, 60, 1};
    CAGE(c, 0x48, 0x8b, 0x07, 0x0f, 0x05); /* MOV RAX, [RDI]; SYSCALL */
    struct user_regs_struct r;
    uint64_t address, call[7] = {9, 0x10000000, PAGES * PAGE, 3, MAP_SHARED | MAP_FIXED, 0, 0};
    memcpy(ram + PAGE, call, sizeof call);
    CHECK(cage_settle(c));
    for (unsigned at = 0; at < 512; at++) {
        r = from(c->base + at);
        r.rax = numbers[at % 3];
        r.rbx = data_at;
        r.rdi = 0x10000000;
        r.rsi = PAGES * PAGE;
        r.rdx = 3;
        r.r10 = MAP_SHARED | MAP_FIXED;
        r.r12 = 1;
        enum cage_stop stop = cage_run(c, &r, &address);
        CHECK(stop != CAGE_LOST && stop != CAGE_STUCK);
    }
    r = from(code_at);
    r.rdi = 0x10000000;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_FAULT);
    CHECK_EQ(address, 0x10000000);
    cage_destroy(c);
}

TEST(a_failed_call_ends_it)
{
    CAGE(c, 0x0f, 0x05);
    struct user_regs_struct r = from(code_at);
    uint64_t address;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_CALL);
    CHECK(cage_map(c, 0x500001, PAGE, 0, CAGE_READ)); /* mmap fails */
    CHECK(cage_unmap(c, code_at, PAGE));
    CHECK(!cage_fault_tsc(c, true));
    r.rip = code_at;
    CHECK_EQ(cage_run(c, &r, &address), CAGE_STUCK);
    cage_destroy(c);
}

TESTS(T(a_failed_call_ends_it), T(runs_to_a_system_call), T(tells_of_faults_and_goes_on),
      T(tells_traps_from_each_other), T(wakes_nobody_but_its_tracer), T(is_interrupted),
      T(is_cleared), T(shows_a_page_of_its_own), T(stops_at_the_time_stamp_counter),
      T(its_own_code_does_nothing_for_the_guest))
