#include "engine/binary/sensitive.h"

#include <stddef.h>

#include "base/bits.h"
#include "base/bytes.h"
#include "memory/memory.h"
#include "x86/cpu.h"
#include "x86/insn.h"

/* Instructions that are sensitive without being privileged, all of two bytes' opcodes (SDM 2, table
 * A-3), by the second and what ModRM must have. (With selectors, PUSHF and POPF, code in a cage
 * finds what a guest's user code has there: direct.c.) */
struct pattern {
    uint8_t opcode;
    uint8_t regs; /* a bit for each value of ModRM.reg; 0: there is no ModRM byte */
    bool memory, registers;
};
static const struct pattern patterns[] = {
    {0x00, 0x33, true, true},  /* SLDT, STR, VERR, VERW */
    {0x01, 0xff, true, true},  /* SGDT, SIDT, SMSW, XGETBV, RDTSCP, RDPKRU, ... */
    {0x02, 0xff, true, true},  /* LAR */
    {0x03, 0xff, true, true},  /* LSL */
    {0x31, 0, false, false},   /* RDTSC */
    {0x34, 0, false, false},   /* SYSENTER, after which RIP is lost */
    {0xa2, 0, false, false},   /* CPUID */
    {0xae, 0x70, true, false}, /* XSAVE, XRSTOR, XSAVEOPT: what they save, the host's XCR0 says */
    {0xc7, 0x38, true, false}, /* XRSTORS, XSAVEC, XSAVES */
    {0xc7, 0x80, false, true}, /* RDPID (with F3; else RDSEED) */
};

enum { ELSEWHERE = -1 }; /* the ModRM byte: in the next page */

/* Whether the bytes behind a 0F could be such an instruction's. XEND, XTEST and ENCLU are not:
 * where the host's processor does not know them they raise #UD as they should. */
static bool looks_sensitive(uint8_t opcode, int modrm)
{
    bool memory = modrm < 0xc0;
    if (opcode == 0x01 && modrm >= 0xd5 && modrm <= 0xd7)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        const struct pattern *p = &patterns[i];
        if (p->opcode != opcode)
            continue;
        if (!p->regs)
            return true;
        if (modrm != ELSEWHERE && (p->regs >> (modrm >> 3 & 7) & 1) &&
            (memory ? p->memory : p->registers))
            return true;
    }
    return false;
}

static bool is_prefix(uint8_t byte)
{
    return byte == 0x66 || byte == 0xf2 || byte == 0xf3 || byte == 0x2e || byte == 0x36 ||
           byte == 0x3e || byte == 0x26 || byte == 0x64 || byte == 0x65 || byte == 0x67 ||
           byte == 0xf0 || (byte & 0xf0) == 0x40;
}

/* Where the opcode of an instruction's begins, behind prefixes. */
static unsigned opcode_at(const uint8_t *bytes, unsigned n)
{
    unsigned at = 0;
    while (at < n && is_prefix(bytes[at]))
        at++;
    return at;
}

/* Whether there is an F3 among what may be prefixes before the opcode at `at`. */
static bool may_have_rep(const uint8_t *bytes, unsigned at)
{
    while (at && is_prefix(bytes[at - 1]))
        if (bytes[--at] == 0xf3)
            return true;
    return !at; /* it may be in the page before */
}

/*
 * The bytes of a sensitive instruction may also be part of another one, most often of a constant.
 * Which it is, nothing in them says: but decoding falls into step with the code soon, wherever in
 * it one begins. So what most places well before lead to is taken to be an instruction.
 */
enum { DISTANCE = 96, NOWHERE = 0xff };

/* Where the instruction begins whose opcode is at `at`, in bytes before that; or NOWHERE: there is
 * none. */
static unsigned prefixes_of(const uint8_t *bytes, unsigned all, unsigned at)
{
    unsigned first = at > DISTANCE ? at - DISTANCE : 0, starts = 0, votes[X86_INSN_MAX] = {0};
    unsigned all_votes = 0, most = 0;
    uint8_t leads[DISTANCE + 1] = {0}; /* where decoding from there comes upon the opcode at `at` */
    for (unsigned from = at + 1; from-- > first;) {
        struct x86_insn insn;
        uint8_t *here = &leads[from - first];
        *here = NOWHERE;
        if (at - from < X86_INSN_MAX && from + opcode_at(bytes + from, all - from) == at) {
            *here = (uint8_t)(at - from);
            continue;
        }
        unsigned len = 1;
        if (x86_decode(bytes + from, all - from, X86_CODE64, &insn) == X86_DECODED)
            len = insn.len;
        if (from + len <= at)
            *here = leads[from + len - first];
    }
    for (unsigned from = first; from <= first + (at - first) / 2; from++) {
        starts++;
        if (leads[from - first] != NOWHERE)
            votes[leads[from - first]]++;
    }
    /* Near a page's beginning those from among the prefixes say they are fewer. */
    for (unsigned i = 0; i < X86_INSN_MAX; i++) {
        all_votes += votes[i];
        if (votes[i] >= votes[most])
            most = i;
    }
    return all_votes && all_votes * 2 >= starts ? most : NOWHERE;
}

/* Beside those of two bytes' opcodes: INT 4, after which Linux says no more than after #GP, and INT
 * 80H, by which it forgets half of RAX. */
static bool may_be_sensitive(const uint8_t *bytes, unsigned all, unsigned at)
{
    if (bytes[at] == 0xcd)
        return bytes[at + 1] == 4 || bytes[at + 1] == 0x80;
    int modrm = at + 2 < all ? bytes[at + 2] : ELSEWHERE;
    if (bytes[at] != 0x0f || !looks_sensitive(bytes[at + 1], modrm))
        return false;
    return bytes[at + 1] != 0xc7 || modrm < 0xc0 || may_have_rep(bytes, at);
}

unsigned sensitive_find(const uint8_t *page, uint16_t *at, unsigned most)
{
    unsigned found = 0;
    for (unsigned i = 0; i < MEMORY_PAGE_SIZE - 1 && found <= most; i++) {
        unsigned prefixes = may_be_sensitive(page, MEMORY_PAGE_SIZE, i)
                                ? prefixes_of(page, MEMORY_PAGE_SIZE, i)
                                : NOWHERE;
        if (prefixes == NOWHERE)
            continue;
        if (found < most)
            at[found] = (uint16_t)(i - prefixes);
        found++;
    }
    return found;
}

bool sensitive_behind(const uint8_t *before, const uint8_t *page, unsigned at)
{
    enum { ALL = 2 * DISTANCE + 2 * X86_INSN_MAX };
    uint8_t bytes[ALL] = {0};
    if (at >= DISTANCE)
        return true;
    bytes_copy(bytes, before + MEMORY_PAGE_SIZE - DISTANCE, DISTANCE);
    bytes_copy(bytes + DISTANCE, page, ALL - DISTANCE);
    at += opcode_at(page + at, X86_INSN_MAX);
    return prefixes_of(bytes, ALL, DISTANCE + at) != NOWHERE;
}

bool sensitive_across(const uint8_t *page, const uint8_t *next)
{
    enum { ALL = DISTANCE + 2 * X86_INSN_MAX };
    uint8_t bytes[ALL] = {0};
    bytes_copy(bytes, page + MEMORY_PAGE_SIZE - DISTANCE, DISTANCE);
    bytes_copy(bytes + DISTANCE, next, ALL - DISTANCE);
    for (unsigned at = DISTANCE - 2; at < DISTANCE + X86_INSN_MAX; at++) {
        /* One that ends there is sensitive_find()'s. */
        if (!may_be_sensitive(bytes, ALL, at) ||
            (at == DISTANCE - 2 && may_be_sensitive(bytes, DISTANCE, at)))
            continue;
        unsigned prefixes = prefixes_of(bytes, ALL, at);
        if (prefixes != NOWHERE && at - prefixes < DISTANCE)
            return true;
    }
    return false;
}
