/*
 * Short random pieces of code, run straight and a step at a time (RFLAGS.TF): both must come to the
 * same. Engines that run blocks of guest code do the one in a block and the other not.
 *
 * Registers have one of two uses throughout a piece: some hold addresses within a few hundred bytes
 * of a page's end, others small numbers. What lies there is addresses of that kind, too.
 */
#include "lib/run64.h"
#include "lib/window.h"

const char guest_name[] = "mixed";

enum { PIECES = 1500, INSNS = 24, STEPS_MOST = 4000, TIMES = 3, NEAR = 256, ASTRAY_MOST = 2 };

/* The window's first page has the data, in a few small pages on both sides of what addresses are
 * near to; the third has the code. What is close in the window is not in memory. */
#define DATA_AT WINDOW
#define CODE_AT (WINDOW + 2ul * LARGE_SIZE)
enum { PAGES = 5, ENDS = 3, WORDS = 512 };
static const uint16_t page_at[PAGES] = {15, 16, 32, 33, 511}, end_at[ENDS] = {16, 33, 512};

static uint64_t page_table[512] __attribute__((aligned(4096)));
static uint64_t data[2 * PAGES][WORDS] __attribute__((aligned(4096)));
static uint8_t code[LARGE_SIZE] LARGE_PAGE;
static uint64_t before[PAGES][WORDS];
static unsigned astray; /* pieces that came to something else, perhaps by other memory */

static uint64_t state; /* 0 at first, and so not in .data, which may share a page with code */

/* SplitMix64. */
static uint64_t chance(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static unsigned below(unsigned n)
{
    return (unsigned)(chance() >> 20) % n;
}

static bool one_in(unsigned n)
{
    return below(n) == 0;
}

/* ---- memory ---- */

/* Behind the last end there is nothing. */
static uint64_t some_address(void)
{
    unsigned i = one_in(12) ? ENDS - 1 : below(ENDS - 1);
    return DATA_AT + 4096 * end_at[i] - NEAR + 8 * (1 + below(2 * NEAR / 8 - 2));
}

static uint64_t *page(unsigned i)
{
    return data[(i * 7 + 3) % (2 * PAGES)];
}

static void copy(uint64_t *to, const uint64_t *from)
{
    unsigned words = WORDS;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
}

static void restore(void)
{
    for (unsigned i = 0; i < PAGES; i++)
        copy(page(i), before[i]);
}

static void map_data(void)
{
    for (unsigned i = 0; i < PAGES; i++)
        page_table[page_at[i]] = (uint64_t)page(i) | P | U | W;
    map_page(1, NULL, 0);
    map_page(2, code, 0);
    boot_pd[1][0] = (uint64_t)page_table | P | U | W;
    write_cr3(read_cr3());
}

/* Of all but the window. */
static void keep_users_out(void)
{
    for (unsigned i = 0; i < 512; i++)
        boot_pd[0][i] &= ~(uint64_t)U;
    write_cr3(read_cr3());
}

static void fill(void)
{
    for (unsigned i = 0; i < PAGES; i++)
        for (unsigned k = 0; k < WORDS; k++)
            before[i][k] = some_address();
}

/* ---- code ---- */

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

static uint8_t *at;
/* Registers that hold addresses and small numbers. R15 counts what goes back. */
static uint8_t address[14], number[14];
static unsigned addresses, numbers;

static void choose_registers(void)
{
    addresses = numbers = 0;
    for (unsigned i = 0; i < R15; i++) {
        bool small = i == RCX || i == RDX || i == R9 || ((i == R10 || i == R11) && one_in(4));
        if (small)
            number[numbers++] = (uint8_t)i;
        else if (i != R14 && i != RSP)
            address[addresses++] = (uint8_t)i;
    }
}

/* R10 and R11 oftener than others. */
static unsigned an_address(void)
{
    unsigned reg = address[below(addresses)];
    for (unsigned tries = 0; tries < 2 && reg != R10 && reg != R11; tries++)
        reg = address[below(addresses)];
    return one_in(8) ? RSP : reg;
}

static unsigned a_number(void)
{
    return number[below(numbers)];
}

static void put(unsigned byte)
{
    *at++ = (uint8_t)byte;
}

static void put32(uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        put(v >> 8 * i);
}

static void put_opcode(unsigned opcode)
{
    if (opcode > 0xffff)
        put(opcode >> 16);
    if (opcode > 0xff)
        put(opcode >> 8);
    put(opcode);
}

/* A displacement: mostly by whole words. */
static int displacement(void)
{
    return one_in(8) ? (int)below(200) - 100 : 8 * ((int)below(24) - 12);
}

/* REX, opcode, and ModRM of [address + number * scale + displacement]. */
static void put_memory(unsigned rex_w, unsigned opcode, unsigned reg)
{
    unsigned base = an_address(), index = one_in(3) ? a_number() : RSP, scale = below(4);
    int disp = displacement();
    bool sib = index != RSP || (base & 7) == RSP, wide = one_in(8);
    put(0x40 | rex_w << 3 | reg >> 3 << 2 | index >> 3 << 1 | base >> 3);
    put_opcode(opcode);
    put((wide ? 0x80 : 0x40) | (reg & 7) << 3 | (sib ? 4 : (base & 7)));
    if (sib)
        put(scale << 6 | (index & 7) << 3 | (base & 7));
    if (wide)
        put32((uint32_t)disp);
    else
        put((unsigned)disp);
}

static void put_registers(unsigned rex_w, unsigned opcode, unsigned reg, unsigned rm)
{
    put(0x40 | rex_w << 3 | reg >> 3 << 2 | rm >> 3);
    put_opcode(opcode);
    put(0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* BMI's, with a third register. */
static void put_vex(unsigned pp, unsigned map, unsigned opcode, bool memory)
{
    unsigned reg = a_number(), vvvv = a_number(), rm = memory ? an_address() : a_number();
    put(0xc4);
    put((reg & 8 ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) | map);
    put((one_in(2) ? 0x80 : 0) | (~vvvv & 15) << 3 | pp);
    put(opcode);
    put((memory ? 0x40 : 0xc0) | (reg & 7) << 3 | (rm & 7));
    if (memory && (rm & 7) == RSP)
        put(0x24);
    if (memory)
        put((unsigned)displacement());
}

/* One that leaves addresses addresses and numbers small. */
static void put_plain(void)
{
    static const uint8_t arithmetic[] = {0x01, 0x29, 0x21, 0x09, 0x31, 0x39, 0x11, 0x19};
    unsigned a = an_address(), b = an_address(), n = a_number(), m = a_number();
    switch (below(30)) {
    case 0:
    case 1: put_memory(1, 0x8b, a == RSP ? b : a); break; /* mov */
    case 2:
    case 3: put_memory(1, 0x89, a); break;                     /* mov to memory */
    case 4: put_memory(1, 0x87, a); break;                     /* xchg */
    case 5: put_memory(1, 0x0fb1, a); break;                   /* cmpxchg */
    case 6: put_memory(0, 0x00, n); break;                     /* add of a byte */
    case 7: put_memory(0, 0x0fb6, n); break;                   /* movzx */
    case 8: put_memory(0, 0x0fc0, n); break;                   /* xadd of a byte */
    case 9: put_memory(1, 0x3b, n); break;                     /* cmp */
    case 10: put_memory(1, 0x8d, a == RSP ? b : RBX); break;   /* lea */
    case 11: put_memory(1, 0x0f44, a == RSP ? RSI : a); break; /* cmov */
    case 12: put_memory(0, 0x0f9c, 0); break;                  /* setl */
    case 13: put_memory(1, 0x01, n); break;                    /* add */
    case 14: put_registers(1, 0x89, a, b); break;              /* mov */
    case 15: put_registers(1, 0x87, a, b); break;              /* xchg */
    case 16: put_registers(0, 0x89, a, b); break;              /* mov of 32 bits */
    case 17: put_registers(1, 0x0f44 + below(2), a, b); break; /* cmov */
    case 18:
        put_registers(1, 0x83, one_in(2) ? 0 : 5, a); /* add, sub */
        put(8 * below(8));
        break;
    case 19: put_registers(1, 0xff, below(2), one_in(2) ? a : n); break; /* inc, dec */
    case 20: put_registers(below(2), arithmetic[below(8)], n, m); break;
    case 21: put_registers(0, 0x88, n, m); break;   /* mov of a byte */
    case 22: put_registers(0, 0x0fb6, n, m); break; /* movzx */
    case 23: put_registers(0, 0x0fc0, n, m); break; /* xadd of a byte */
    case 24: put_vex(3, 2, 0xf6, one_in(2)); break; /* mulx */
    case 25: put_vex(2, 2, 0xf5, one_in(2)); break; /* pext */
    case 26: put_vex(3, 2, 0xf5, one_in(2)); break; /* pdep */
    case 27:
        put_registers(1, 0x8d, a == RSP ? b : a, 0); /* lea reg, [rbx + disp] */
        at[-1] = (uint8_t)(0x43 | (at[-1] & 0x38));
        put((unsigned)displacement());
        break;
    case 28:
        put_registers(1, 0x83, 7, n);
        put(below(16));
        break;                              /* cmp */
    default: put_memory(0, 0x3a, n); break; /* cmp of a byte */
    }
}

static void put_stack(void)
{
    unsigned a = an_address();
    switch (below(8)) {
    case 0:
    case 1:
    case 2: put(0x40 | a >> 3), put(0x50 | (a & 7)); break; /* push */
    case 3:
    case 4: put(0x40 | a >> 3), put(0x58 | (a & 7)); break; /* pop */
    case 5: put_memory(0, 0xff, 6); break;                  /* push of memory */
    case 6: put(0xc9); break;                               /* leave */
    default: put(0x68), put32((uint32_t)some_address()); break;
    }
}

/* Where instructions begin, and branches that are still to be led to one in front or behind. */
static uint8_t *begin[INSNS + 1], *branch[INSNS];

/* A branch to one of the next few, straight or by a register. */
static void put_branch(unsigned i)
{
    unsigned reg = one_in(2) ? R10 : R11, kind = below(6);
    branch[i] = NULL;
    if (kind < 3) {
        put(0x0f), put(0x80 | below(16));
    } else if (kind == 3) {
        put(0xe9);
    } else if (kind == 4) { /* call, and its address off the stack */
        put(0xe8), put32(5);
        put(0xe9), put32(0);
        put(0x48), put(0x8d), put(0x64), put(0x24), put(8);
        return;
    } else { /* lea reg, [rip + to]; jmp reg; or through the stack */
        put(0x4c), put(0x8d), put(0x05 | (reg & 7) << 3), put32(0);
        branch[i] = at;
        put(0x41);
        if (one_in(2))
            put(0xff), put(0xe0 | (reg & 7));
        else
            put(0x50 | (reg & 7)), put(0xc3);
        return;
    }
    put32(0);
    branch[i] = at;
}

/* dec r15; jg to one of those before. */
static void put_back(unsigned i)
{
    put(0x49), put(0xff), put(0xcf);
    put(0x0f), put(0x8f);
    put32((uint32_t)(begin[below(i + 1)] - (at + 4)));
}

static void lead(uint8_t *from, const uint8_t *to)
{
    uint8_t *end = at;
    at = from - 4;
    put32((uint32_t)(to - from));
    at = end;
}

static void write_piece(void)
{
    unsigned n = 4 + below(INSNS - 4);
    for (unsigned i = 0; i < n; i++) {
        unsigned kind = below(16);
        begin[i] = at;
        branch[i] = NULL;
        if (kind < 10)
            put_plain();
        else if (kind < 13)
            put_stack();
        else if (kind < 15)
            put_branch(i);
        else
            put_back(i);
    }
    begin[n] = at;
    put(0xcd), put(DONE);
    for (unsigned i = 0; i < n; i++)
        if (branch[i])
            lead(branch[i], begin[i + 1 + below(n - i < 5 ? n - i : 5)]);
}

/* ---- both ways ---- */

/* Without what is undefined behind some instructions, and what single steps are. */
enum { COMPARED = FLAG_CF | FLAG_PF | FLAG_ZF | FLAG_SF | FLAG_DF | FLAG_OF };

static struct context some_context(unsigned level)
{
    struct context c = at_level(level);
    uint64_t *registers[] = {&c.rax, &c.rcx, &c.rdx, &c.rbx, &c.rsp, &c.rbp, &c.rsi, &c.rdi,
                             &c.r8,  &c.r9,  &c.r10, &c.r11, &c.r12, &c.r13, &c.r14, &c.r15};
    for (unsigned i = 0; i < R15; i++)
        *registers[i] = some_address();
    for (unsigned i = 0; i < numbers; i++)
        *registers[number[i]] = below(8);
    c.r15 = 2 + below(6);
    c.rflags |= chance() & COMPARED & ~(uint64_t)FLAG_DF;
    return c;
}

static void step_to_end(struct context *c)
{
    unsigned steps = 0;
    do {
        c->rflags |= FLAG_TF;
        run(c);
    } while (c->vector == DB && ++steps < STEPS_MOST);
    CHECK(steps < STEPS_MOST);
}

static void show(const uint8_t *piece)
{
    print("  ");
    for (const uint8_t *p = piece; p < at; p++) {
        print_hex(*p);
        print(" ");
    }
    print("\n");
}

/* What came of a piece. */
struct outcome {
    struct context c;
    uint64_t memory[PAGES][WORDS];
};

static void find_outcome(const struct context *first, void (*how)(struct context *),
                         struct outcome *o)
{
    restore();
    o->c = *first;
    how(&o->c);
    o->c.rflags &= COMPARED;
    for (unsigned i = 0; i < PAGES; i++)
        copy(o->memory[i], page(i));
}

static bool same(const struct outcome *a, const struct outcome *b)
{
    const uint64_t *x = (const uint64_t *)a, *y = (const uint64_t *)b;
    uint64_t all = 0;
    for (unsigned i = 0; i < sizeof *a / 8; i++)
        all |= x[i] ^ y[i];
    return all == 0;
}

/* Registers by their place in struct context. */
static void say_difference(const struct outcome *a, const struct outcome *b)
{
    const uint64_t *x = (const uint64_t *)a, *y = (const uint64_t *)b;
    for (unsigned i = 0; i < sizeof *a / 8; i++) {
        if (x[i] != y[i]) {
            print_hex(i);
            CHECK_EQ(x[i], y[i]);
        }
    }
}

/* Straight more than once: what an engine learns the first time, it goes by from then on. Nothing
 * keeps supervisors' code from this program's own memory, so a few such pieces are let pass. */
static bool run_both_ways(unsigned level, const uint8_t *piece)
{
    static struct outcome steps, straight, again;
    struct context first = some_context(level);
    first.rip = CODE_AT + (uint64_t)(piece - code);
    find_outcome(&first, step_to_end, &steps);
    for (unsigned time = 0; time < TIMES; time++) {
        find_outcome(&first, run, &straight);
        if (same(&straight, &steps))
            continue;
        find_outcome(&first, step_to_end, &again);
        if (level == 3 || (same(&again, &steps) && astray++ == ASTRAY_MOST)) {
            say_difference(&straight, &steps);
            return false;
        }
        return true;
    }
    return true;
}

static void pieces_at(unsigned level)
{
    map_data();
    keep_users_out();
    astray = 0;
    write_cr0(read_cr0() | CR0_WP);
    for (unsigned v = 0; v < 256; v++) /* nothing is pushed where a piece has its stack */
        idt[v].low |= 1ul << 32;
    at = code + 1;
    for (unsigned i = 0; i < PIECES; i++) {
        if (one_in(4)) /* near a page's end */
            at = code + (((uint64_t)(at - code) | 4095) - below(120));
        if (at > code + LARGE_SIZE - 8192)
            at = code;
        uint8_t *piece = at;
        choose_registers();
        fill();
        write_piece();
        if (!run_both_ways(level, piece)) {
            show(piece);
            break;
        }
    }
}

static void pieces_of_supervisors(void)
{
    pieces_at(0);
}

static void pieces_of_users(void)
{
    pieces_at(3);
}

const struct guest_test guest_tests[] = {
    {"supervisors' code, straight and by steps", pieces_of_supervisors},
    {"users' code, straight and by steps", pieces_of_users},
    {0},
};
