#include "monitor/difference.h"

#include <inttypes.h>

#include "base/archive.h"
#include "base/bits.h"
#include "monitor/disasm.h"
#include "x86/cpu.h"

/* Instructions shown where it is not known which one it was. */
enum { SHOWN = 10 };

static const char *const registers[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/* ---- code ---- */

static void print_bytes(FILE *to, const uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        fprintf(to, "%s%02x", i ? " " : "", bytes[i]);
}

/* Up to `most` instructions of n bytes that lie at `at`. */
static void print_insns(FILE *to, const uint8_t *code, unsigned n, unsigned width, uint64_t at,
                        uint64_t most)
{
    for (unsigned done = 0; done < n && most; most--) {
        char text[128];
        unsigned left = n - done;
        unsigned len = disasm(code + done, left, width, at + done, text, sizeof text);
        fprintf(to, "  %016" PRIx64 "  %-40s ", at + done, text);
        print_bytes(to, code + done, len ? len : left < 15 ? left : 15);
        fprintf(to, "\n");
        if (!len)
            break;
        done += len;
    }
}

static void print_code(FILE *to, const struct lockstep *l)
{
    const struct lockstep_difference *d = &l->difference;
    uint64_t rip = d->before.rip, insns = d->to - d->from;
    if (!d->code_size)
        fprintf(to, "  %016" PRIx64 "  (code that can't be fetched)\n", rip);
    print_insns(to, d->code, d->code_size, d->code_width, rip,
                d->exact || d->again ? insns : SHOWN);
    if (!d->host_size)
        return;
    fprintf(to, "Which %s runs as:\n", l->leader->name);
    print_insns(to, d->host, d->host_size < sizeof d->host ? d->host_size : sizeof d->host,
                X86_CODE64, d->host_at, UINT64_MAX);
}

static void print_before(FILE *to, const struct x86_state *s)
{
    for (unsigned i = 0; i < 16; i++)
        fprintf(to, "  %-3s %016" PRIx64 "%s", registers[i], s->gpr[i], i % 4 == 3 ? "\n" : "");
    fprintf(to,
            "  flags %08" PRIx64 "  cr0 %08" PRIx64 "  cr3 %016" PRIx64 "  cr4 %08" PRIx64
            "  cs %04x  ss %04x\n",
            s->rflags, s->cr0, s->cr3, s->cr4, s->seg[X86_CS].selector, s->seg[X86_SS].selector);
}

/* ---- values ---- */

static void print_pair(FILE *to, const char *what, const char *leader, const char *follower)
{
    fprintf(to, "  %-16s %-36s %s\n", what, leader, follower);
}

/* A number in one piece; anything longer from its highest byte down, as a register is read. */
static void format_value(char *text, size_t size, const uint8_t *bytes, unsigned n)
{
    size_t at = (size_t)snprintf(text, size, "0x");
    for (unsigned i = n; i-- && at + 2 < size;)
        at += (size_t)snprintf(text + at, size - at, "%02x", bytes[i]);
}

static void print_field(void *ctx, const struct archive_field *f, unsigned index, const void *a,
                        const void *b)
{
    char name[32], values[2][80];
    if (f->count == 16 && f->size == 8)
        snprintf(name, sizeof name, "%s", registers[index]);
    else if (f->count > 1)
        snprintf(name, sizeof name, "%s[%u]", f->name, index);
    else
        snprintf(name, sizeof name, "%s", f->name);
    format_value(values[0], sizeof values[0], a, f->size);
    format_value(values[1], sizeof values[1], b, f->size);
    print_pair(ctx, name, values[0], values[1]);
}

static const char *const exits[] = {
    [ENGINE_STOPPED] = "stopped", [ENGINE_HALTED] = "halted", [ENGINE_SHUTDOWN] = "shut down",
    [ENGINE_LIMIT] = "ran",       [ENGINE_PAUSED] = "paused", [ENGINE_FAILED] = "failed",
};

static void print_progress(FILE *to, const struct lockstep_difference *d)
{
    char text[2][48];
    if (d->count[0] == d->count[1] &&
        (d->exit[0] == ENGINE_SHUTDOWN) == (d->exit[1] == ENGINE_SHUTDOWN))
        return;
    for (unsigned i = 0; i < 2; i++)
        snprintf(text[i], sizeof text[i], "%" PRIu64 " (%s)", d->count[i], exits[d->exit[i]]);
    print_pair(to, "instructions", text[0], text[1]);
}

/* ---- requests ---- */

static void format_access(char *text, size_t size, const struct lockstep_access *a)
{
    static const char *const kinds[LOCKSTEP_KINDS] = {
        [LOCKSTEP_NOTHING] = "nothing",         [LOCKSTEP_PIO_READ] = "read of port",
        [LOCKSTEP_PIO_WRITE] = "write of port", [LOCKSTEP_MMIO_READ] = "read at",
        [LOCKSTEP_MMIO_WRITE] = "write at",     [LOCKSTEP_MSR_READ] = "RDMSR",
        [LOCKSTEP_MSR_WRITE] = "WRMSR",         [LOCKSTEP_CR8_READ] = "read of CR8",
        [LOCKSTEP_CR8_WRITE] = "write of CR8",  [LOCKSTEP_TSC_READ] = "read of the TSC",
        [LOCKSTEP_RANDOM] = "random number",    [LOCKSTEP_FPU_ERROR] = "FERR#",
        [LOCKSTEP_INTERRUPT] = "interrupt",     [LOCKSTEP_LEVEL] = "interrupt line",
    };
    if (a->kind == LOCKSTEP_NOTHING)
        snprintf(text, size, "nothing more");
    else
        snprintf(text, size,
                 "%s 0x%" PRIx64 " (%u bytes, 0x%" PRIx64 ") behind instruction %" PRIu64,
                 kinds[a->kind], a->address, a->size, a->value, a->at);
}

static void print_accesses(FILE *to, const struct lockstep *l)
{
    const struct lockstep_difference *d = &l->difference;
    const char *const names[2] = {l->leader->name, l->follower->name};
    if (!d->accesses_differ)
        return;
    fprintf(to, "What they asked of the machine:\n");
    for (unsigned i = 0; i < 2; i++) {
        char text[128];
        format_access(text, sizeof text, &d->access[i]);
        fprintf(to, "  %-10s %s\n", names[i], text);
    }
}

static void print_memory(FILE *to, const struct lockstep_difference *d)
{
    if (!d->memory_differs)
        return;
    fprintf(to, "Memory, %" PRIu64 " bytes; the first at 0x%" PRIx64 ":\n", d->memory_differs,
            d->gpa);
    for (unsigned i = 0; i < 2; i++) {
        fprintf(to, "  ");
        print_bytes(to, d->bytes[i], d->byte_count);
        fprintf(to, "\n");
    }
}

void difference_print(FILE *to, const struct lockstep *l)
{
    const struct lockstep_difference *d = &l->difference;
    if (d->exact)
        fprintf(to, "The engines differ behind instruction %" PRIu64 ":\n", d->to);
    else if (d->again)
        fprintf(to,
                "The engines differ behind instruction %" PRIu64 ", when all behind %" PRIu64
                " are done in one go, not when\none by one:\n",
                d->to, d->from);
    else
        fprintf(to,
                "The engines differ between the instructions %" PRIu64 " and %" PRIu64
                ", but not when those are\ndone again. The code begins with:\n",
                d->from, d->to);
    print_code(to, l);
    fprintf(to, "Before it:\n");
    print_before(to, &d->before);
    fprintf(to, "After it:\n");
    print_pair(to, "", l->leader->name, l->follower->name);
    print_progress(to, d);
    lockstep_compare(l, &d->after[0], &d->after[1], print_field, to);
    print_memory(to, d);
    print_accesses(to, l);
}
