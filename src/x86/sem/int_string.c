/*
 * String instructions: MOVS CMPS STOS LODS SCAS, alone and repeated.
 *
 * A repeated one works in strides: as many elements as lie in the pages that its pointers are in,
 * done in one go where both are plain RAM. After a stride the registers are as the manual has them
 * between two iterations, so faults and interrupts find an exact state; with more to do the
 * instruction lets pending requests in and begins again.
 */
#include "base/bytes.h"
#include "x86/sem/block.h"
#include "x86/sem/hot.h"

struct string {
    unsigned size;      /* of an element */
    unsigned addr_size; /* of RSI, RDI, RCX as the instruction sees them */
    int64_t step;       /* size, or -size under DF */
    bool repeated;
    uint64_t count; /* left; 1 when not repeated */
};

static struct string string_begin(const struct x86_cpu *c, const struct op *op)
{
    struct string s = {.size = op->size};
    s.addr_size = op->flags & OPF_ADDR16 ? 2 : op->flags & OPF_ADDR32 ? 4 : 8;
    s.step = c->s.rflags & FLAG_DF ? -(int64_t)s.size : s.size;
    s.repeated = op->flags & (OPF_REP | OPF_REPNE);
    s.count = s.repeated ? gpr_read(c, X86_RCX, s.addr_size) : 1;
    return s;
}

static uint64_t string_linear(struct x86_cpu *c, const struct string *s, unsigned reg, unsigned seg,
                              unsigned access)
{
    return x86_linear(c, seg, gpr_read(c, reg, s->addr_size), s->size, access);
}

static void string_advance(struct x86_cpu *c, const struct string *s, unsigned reg, uint64_t n)
{
    gpr_write(c, reg, s->addr_size, gpr_read(c, reg, s->addr_size) + (uint64_t)s->step * n);
}

/* n elements are done. */
static void string_count(struct x86_cpu *c, struct string *s, uint64_t n)
{
    s->count -= n;
    if (s->repeated)
        gpr_write(c, X86_RCX, s->addr_size, s->count);
}

/* How many elements from lin on, in the direction of the strings, lie wholly in lin's page. */
static uint64_t elements_in_page(const struct string *s, uint64_t lin)
{
    uint64_t in_page = lin & (X86_PAGE_SIZE - 1);
    if (s->step > 0)
        return (X86_PAGE_SIZE - in_page) / s->size;
    /* Elements have 1, 2, 4 or 8 bytes. NOLINTNEXTLINE(clang-analyzer-core.DivideZero) */
    return in_page + s->size <= X86_PAGE_SIZE ? in_page / s->size + 1 : 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The stride for a string at offset register reg whose page is lin's: also no further than the
 * segment and the address size let it go without another check. 0: its first element goes on in
 * another page. */
static uint64_t stride_limit(struct x86_cpu *c, const struct string *s, unsigned reg, unsigned seg,
                             uint64_t lin)
{
    uint64_t n = elements_in_page(s, lin);
    if (c->s.rflags & FLAG_TF)
        return least(n, 1);
    if (c->code == X86_CODE64 && s->addr_size == 8)
        return n;
    if (!c->flat[seg] && c->code != X86_CODE64)
        return least(n, 1);
    /* The offset must not wrap within the stride. */
    uint64_t offset = gpr_read(c, reg, s->addr_size);
    uint64_t room =
        s->step > 0 ? (bits_mask(s->addr_size * 8) - offset) / s->size + 1 : offset / s->size + 1;
    return n < room ? n : room;
}

/* The lowest host address of n elements from lin on, if they are plain RAM in the TLB. */
static uint8_t *string_host(struct x86_cpu *c, const struct string *s, uint64_t lin, uint64_t n,
                            bool write)
{
    const struct tlb_entry *e = &c->tlb->entry[(lin >> X86_PAGE_BITS) & (TLB_SIZE - 1)];
    if ((lin & X86_PAGE_MASK) != (write ? e->write : e->read))
        return NULL;
    return (uint8_t *)(e->addend + lin) - (s->step > 0 ? 0 : (n - 1) * s->size);
}

/* More to do after a stride: true when the instruction must be left to let something in. A single
 * step traps after each iteration. */
static bool string_interrupted(const struct x86_cpu *c)
{
    return atomic_load_explicit(&c->request, memory_order_relaxed) != 0;
}

#define STRING_OP(name)                                                                            \
    static void stride_##name(struct x86_cpu *c, const struct op *op, struct string *s);           \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        c->op = op;                                                                                \
        struct string s = string_begin(c, op);                                                     \
        while (s.count) {                                                                          \
            stride_##name(c, op, &s);                                                              \
            if (s.count && string_interrupted(c))                                                  \
                return block_restart(c, op);                                                       \
        }                                                                                          \
        return op + 1;                                                                             \
    }                                                                                              \
    const struct sem name##_sem = {.any = op_##name};                                              \
    static void stride_##name(struct x86_cpu *c, const struct op *op, struct string *s)

/* Element by element when the strings overlap such that earlier stores feed later loads. */
static void copy_elements(uint8_t *to, const uint8_t *from, uint64_t n, const struct string *s)
{
    uint64_t bytes = n * s->size;
    if (to + bytes <= from || from + bytes <= to || to == from) {
        bytes_copy(to, from, bytes);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = (s->step > 0 ? i : n - 1 - i) * s->size;
        uint8_t element[8];
        bytes_copy(element, from + at, s->size);
        bytes_copy(to + at, element, s->size);
    }
}

STRING_OP(movs)
{
    uint64_t from = string_linear(c, s, X86_RSI, op->seg, X86_READ);
    uint64_t to = string_linear(c, s, X86_RDI, X86_ES, X86_WRITE);
    uint64_t n = least(s->count, least(stride_limit(c, s, X86_RSI, op->seg, from),
                                       stride_limit(c, s, X86_RDI, X86_ES, to)));
    uint8_t *source = n ? string_host(c, s, from, n, false) : NULL;
    uint8_t *target = n ? string_host(c, s, to, n, true) : NULL;
    if (source && target) {
        copy_elements(target, source, n, s);
    } else {
        n = 1;
        lin_write_size(c, to, X86_ES, lin_read_size(c, from, op->seg, s->size), s->size);
    }
    string_advance(c, s, X86_RSI, n);
    string_advance(c, s, X86_RDI, n);
    string_count(c, s, n);
}

static void fill_elements(uint8_t *to, uint64_t v, uint64_t n, unsigned size)
{
    switch (size) {
    case 1: bytes_fill(to, (uint8_t)v, n); break;
    case 2:
        for (uint64_t i = 0; i < n; i++)
            store_u16(to + i * 2, (uint16_t)v);
        break;
    case 4:
        for (uint64_t i = 0; i < n; i++)
            store_u32(to + i * 4, (uint32_t)v);
        break;
    default:
        for (uint64_t i = 0; i < n; i++)
            store_u64(to + i * 8, v);
    }
}

STRING_OP(stos)
{
    uint64_t to = string_linear(c, s, X86_RDI, X86_ES, X86_WRITE);
    uint64_t n = least(s->count, stride_limit(c, s, X86_RDI, X86_ES, to));
    uint8_t *target = n ? string_host(c, s, to, n, true) : NULL;
    if (target) {
        fill_elements(target, c->s.gpr[X86_RAX], n, s->size);
    } else {
        n = 1;
        lin_write_size(c, to, X86_ES, c->s.gpr[X86_RAX], s->size);
    }
    string_advance(c, s, X86_RDI, n);
    string_count(c, s, n);
}

/* Only the last element stays; each is read all the same. */
STRING_OP(lods)
{
    uint64_t from = string_linear(c, s, X86_RSI, op->seg, X86_READ);
    gpr_write(c, X86_RAX, s->size, lin_read_size(c, from, op->seg, s->size));
    string_advance(c, s, X86_RSI, 1);
    string_count(c, s, 1);
}

/* REPE (F3) ends on a difference, REPNE (F2) on a match. */
static void compare_done(struct x86_cpu *c, const struct op *op, struct string *s, uint64_t a,
                         uint64_t b)
{
    string_count(c, s, 1);
    cc_compare(c, a, b, s->size);
    if (s->repeated && cc_zf(c) == !(op->flags & OPF_REP))
        s->count = 0;
}

STRING_OP(cmps)
{
    /* When both fault, it is the second operand's fault, as with AMD's processors. */
    uint64_t to = string_linear(c, s, X86_RDI, X86_ES, X86_READ);
    uint64_t b = lin_read_size(c, to, X86_ES, s->size);
    uint64_t from = string_linear(c, s, X86_RSI, op->seg, X86_READ);
    uint64_t a = lin_read_size(c, from, op->seg, s->size);
    string_advance(c, s, X86_RSI, 1);
    string_advance(c, s, X86_RDI, 1);
    compare_done(c, op, s, a, b);
}

STRING_OP(scas)
{
    uint64_t to = string_linear(c, s, X86_RDI, X86_ES, X86_READ);
    uint64_t b = lin_read_size(c, to, X86_ES, s->size);
    string_advance(c, s, X86_RDI, 1);
    compare_done(c, op, s, c->s.gpr[X86_RAX], b);
}
