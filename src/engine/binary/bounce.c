/*
 * Vector instructions that have no semantics in C (x86/native.h), where translated code can't run
 * them: at an access that straddles pages, faults, hits a device or code, and in modes that are not
 * translated.
 *
 * The host's processor executes the instruction alone, with its registers being the guest's, on a
 * copy of its memory operand in a buffer. Memory is the guest's business only before and behind
 * that, by the accesses that `emulate` makes (x86/access.h), which check rights and raise faults:
 *
 *   load    the operand is read, then the instruction executed on the copy. Under a mask, what is
 *           not there is put on a page without access: only if the processor touches that there is
 *           a fault, which tells at which byte the guest's is.
 *   store   the instruction is executed on two buffers of different contents: the bytes that come
 *           out the same are those it writes. These are written, and no others.
 *
 * The copy has the place in its page that the operand has, so alignment is the processor's to
 * check. Executed is the guest's instruction with another address and, for a general register, RAX:
 *
 *     mov rax, [rdi]; vpinsrd xmm1, xmm2, eax, 3; mov [rdi], rax; pushfq; pop [rdi + 8]; ret
 */
#include "engine/binary/bounce.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/bytes.h"
#include "engine/binary/translator.h"
#include "x86/native.h"
#include "x86/paging.h"
#include "x86/sem/block.h"
#include "x86/sem/simd.h"

enum { PAGE = MEMORY_PAGE_SIZE, OPERAND_MAX = 64 };
/* The buffer's pages: two without access, two with, one without. */
enum { BUFFER_PAGES = 5, BUFFER_OPEN = 2 * PAGE, BUFFER_OPEN_SIZE = 2 * PAGE };
/* Pieces of code, one for each instruction executed lately; the last byte of each is a RET, where a
 * fault in it goes on. */
enum { PIECE_SIZE = 64, PIECES = PAGE / PIECE_SIZE, PIECE_RET = PIECE_SIZE - 1 };
enum { NO_TRAP = -1 };

struct bounce {
    int fd;
    uint8_t *write, *run; /* the pieces, mapped twice, as in code.h */
    uint8_t *buffer;
    struct {
        uint8_t bytes[X86_INSN_MAX], len;
        bool mode64;
    } piece[PIECES];
    int trap;          /* the vector of the fault in the piece, or NO_TRAP */
    uintptr_t address; /* of a page fault */
};

/* What is to be executed. */
struct native {
    uint8_t bytes[X86_INSN_MAX];
    struct x86_insn insn;
    const struct x86_form *form;
    void *code;
    int general; /* the general register that it names, or -1 */
    unsigned size;
    bool store, masked;
};

/* What a piece takes and gives. */
struct exchange {
    uint64_t general, flags;
};

/* ---- making and unmaking ---- */

static void *map(int fd, size_t size, int prot)
{
    void *p = mmap(NULL, size, prot, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool map_all(struct bounce *x)
{
    x->fd = memfd_create("doppel-bounce", MFD_CLOEXEC);
    if (x->fd < 0 || ftruncate(x->fd, PAGE) != 0)
        return false;
    x->write = map(x->fd, PAGE, PROT_READ | PROT_WRITE);
    x->run = map(x->fd, PAGE, PROT_READ | PROT_EXEC);
    x->buffer = map(-1, (size_t)BUFFER_PAGES * PAGE, PROT_NONE);
    return x->write && x->run && x->buffer &&
           mprotect(x->buffer + BUFFER_OPEN, BUFFER_OPEN_SIZE, PROT_READ | PROT_WRITE) == 0;
}

static const struct op *native_op(struct x86_cpu *c, const struct op *op);

bool bounce_create(struct binary_vcpu *b, struct error *err)
{
    struct x86_cpu *c = &b->v->cpu;
    if (!c->model->host)
        return true;
    b->bounce = calloc(1, sizeof *b->bounce);
    if (!b->bounce)
        return error_errno(err, "engine binary");
    b->bounce->trap = NO_TRAP;
    if (!map_all(b->bounce))
        return error_errno(err, "engine binary: a buffer for single instructions");
    c->native = native_op;
    return true;
}

void bounce_destroy(struct binary_vcpu *b)
{
    struct bounce *x = b->bounce;
    if (!x)
        return;
    if (x->write)
        munmap(x->write, PAGE);
    if (x->run)
        munmap(x->run, PAGE);
    if (x->buffer)
        munmap(x->buffer, (size_t)BUFFER_PAGES * PAGE);
    if (x->fd >= 0)
        close(x->fd);
    free(x);
    b->bounce = NULL;
}

/* ---- the instruction's piece of code ---- */

/* What was written through another mapping is executed behind an instruction that serializes: of
 * those a program may execute, IRET is the one that hypervisors leave alone (SDM 3, 9.1.3 and 9.3).
 */
static void serialize(void)
{
    uint64_t value, stack;
    __asm__ volatile("mov %%rsp, %1\n\t"
                     "sub $128, %%rsp\n\t" /* the red zone */
                     "mov %%ss, %k0\n\tpush %0\n\tpush %1\n\tpushfq\n\t"
                     "mov %%cs, %k0\n\tpush %0\n\t"
                     "lea 1f(%%rip), %0\n\tpush %0\n\tiretq\n1:"
                     : "=&r"(value), "=&r"(stack)
                     :
                     : "memory", "cc");
}

static void emit_exchange(struct emit *e, unsigned opcode)
{
    struct host_mem m = {.base = HOST_RDI, .index = HOST_NONE};
    emit_op_mem(e, 8, opcode, HOST_RAX, &m);
}

static void write_piece(const struct native *n, uint8_t *at)
{
    struct translator t = {.e = {.at = at, .end = at + PIECE_RET},
                           .bytes = n->bytes,
                           .insn = n->insn,
                           .form = n->form};
    struct host_mem flags = {.base = HOST_RDI, .index = HOST_NONE, .disp = 8};
    emit_exchange(&t.e, 0x8b);
    rewrite_alone(&t, HOST_RSI, HOST_RAX);
    emit_exchange(&t.e, 0x89);
    emit_byte(&t.e, 0x9c); /* pushfq */
    emit_op_mem(&t.e, 4, 0x8f, 0, &flags);
    while (t.e.at < t.e.end)
        emit_byte(&t.e, 0x90);
    *t.e.at = 0xc3; /* ret */
}

static bool same_bytes(const uint8_t *a, const uint8_t *b, unsigned n)
{
    while (n && *a == *b) {
        a++;
        b++;
        n--;
    }
    return n == 0;
}

static void *find_piece(struct binary_vcpu *b, const struct native *n)
{
    struct bounce *x = b->bounce;
    unsigned hash = 0, len = n->insn.len;
    for (unsigned i = 0; i < len; i++)
        hash = hash * 31 + n->bytes[i];
    unsigned at = hash % PIECES;
    bool known = x->piece[at].len == len && x->piece[at].mode64 == n->insn.mode64 &&
                 same_bytes(x->piece[at].bytes, n->bytes, len);
    if (!known) {
        binary_outside(b);
        x->piece[at].len = (uint8_t)len;
        x->piece[at].mode64 = n->insn.mode64;
        bytes_copy(x->piece[at].bytes, n->bytes, len);
        write_piece(n, x->write + at * PIECE_SIZE);
        serialize();
    }
    return x->run + at * PIECE_SIZE;
}

/* ---- executing it ---- */

bool bounce_take_fault(struct binary_vcpu *b, void *ucontext)
{
    ucontext_t *uc = ucontext;
    greg_t *regs = uc->uc_mcontext.gregs;
    struct bounce *x = b->bounce;
    uintptr_t offset = x ? (uintptr_t)regs[REG_RIP] - (uintptr_t)x->run : PAGE;
    if (offset >= PAGE)
        return false;
    x->trap = (int)regs[REG_TRAPNO];
    x->address = (uintptr_t)regs[REG_CR2];
    regs[REG_RIP] = (greg_t)(uintptr_t)(x->run + (offset | PIECE_RET));
    return true;
}

/* With its operand at `operand`. Returns the vector of its fault, or NO_TRAP. */
static int execute(struct binary_vcpu *b, const struct native *n, struct exchange *ex,
                   void *operand)
{
    struct bounce *x = b->bounce;
    void (*piece)(struct exchange *, void *) = (void (*)(struct exchange *, void *))n->code;
    binary_fpu_to_host(b);
    x->trap = NO_TRAP;
    piece(ex, operand);
    return x->trap;
}

/* Leaves the vector registers where whoever asked for the instruction wants them. */
static void settle(struct binary_vcpu *b)
{
    if (!b->keep_vectors)
        binary_fpu_to_state(b);
}

/* A fault that is not about memory. */
static void raise_trap(struct binary_vcpu *b, int trap)
{
    struct x86_cpu *c = &b->v->cpu;
    settle(b);
    if (trap == X86_GP)
        x86_raise_gp0(c);
    if (trap == X86_XM)
        x86_raise(c, c->s.cr4 & CR4_OSXMMEXCPT ? X86_XM : X86_UD);
    x86_raise(c, X86_UD);
}

/* ---- accesses ---- */

/* An access of all of the operand is looked at as a whole first: for what is not canonical, and for
 * alignment where that is checked (CR0.AM), to 16 bytes for what is larger. */
static bool is_misaligned(const struct x86_cpu *c, uint64_t lin, unsigned n)
{
    unsigned alignment = n > 16 ? 16 : n;
    return c->tlb == &c->view[TLB_NEVER] && (lin & (alignment - 1));
}

static bool is_canonical(const struct x86_cpu *c, uint64_t lin, unsigned n)
{
    return c->code != X86_CODE64 || (x86_canonical(lin) && x86_canonical(lin + n - 1));
}

static void check_whole(struct x86_cpu *c, const struct op *op, uint64_t lin, unsigned n)
{
    if (!is_canonical(c, lin, n))
        x86_raise_error(c, op->seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
    if (is_misaligned(c, lin, n))
        x86_raise_error(c, X86_AC, 0);
}

static uint64_t cut(const struct x86_cpu *c, uint64_t lin)
{
    return c->code == X86_CODE64 ? lin : (uint32_t)lin;
}

/* Whether it is to be made by pieces of 1, 2, 4 or 8 bytes, each of which is one access: what is
 * that small, and under an alignment check, which has been made, all. */
static bool is_by_pieces(const struct x86_cpu *c, unsigned n)
{
    return c->tlb == &c->view[TLB_NEVER] || n <= 8;
}

static void
in_pieces(struct x86_cpu *c, const struct op *op, uint64_t lin, uint8_t *bytes, unsigned n,
          void (*access)(struct x86_cpu *, const struct op *, uint64_t, uint8_t *, unsigned))
{
    for (unsigned done = 0, size; done < n; done += size) {
        for (size = 8; size > n - done; size /= 2)
            ;
        access(c, op, cut(c, lin + done), bytes + done, size);
    }
}

static void read_piece(struct x86_cpu *c, const struct op *op, uint64_t lin, uint8_t *to,
                       unsigned n)
{
    uint64_t v = x86_read_element(c, lin, n, op->seg);
    bytes_copy(to, &v, n);
}

static void write_one(struct x86_cpu *c, const struct op *op, uint64_t lin, uint8_t *from,
                      unsigned n)
{
    uint64_t v = 0;
    bytes_copy(&v, from, n);
    x86_write_element(c, lin, n, v, op->seg);
}

static void probe_one(struct x86_cpu *c, const struct op *op, uint64_t lin, uint8_t *from,
                      unsigned n)
{
    x86_probe_element(c, lin, n, X86_WRITE, op->seg);
}

static void read_bytes(struct x86_cpu *c, const struct op *op, uint64_t lin, uint8_t *to,
                       unsigned n)
{
    if (is_by_pieces(c, n))
        in_pieces(c, op, lin, to, n, read_piece);
    else
        x86_read_bytes(c, lin, to, n, op->seg);
}

static void write_bytes(struct x86_cpu *c, const struct op *op, uint64_t lin, uint8_t *from,
                        unsigned n, bool probe)
{
    if (is_by_pieces(c, n))
        in_pieces(c, op, lin, from, n, probe ? probe_one : write_one);
    else if (probe)
        x86_probe_write(c, lin, n, op->seg);
    else
        x86_write_bytes(c, lin, from, n, op->seg);
}

/* ---- loads ---- */

/* The operand's parts, one for each page it touches. */
struct source {
    struct source_part {
        uint64_t lin;
        unsigned n;
        bool there;
    } part[2];
    unsigned parts;
    uint8_t bytes[OPERAND_MAX];
};

static void divide(const struct x86_cpu *c, struct source *s, uint64_t lin, unsigned n)
{
    unsigned room = PAGE - (unsigned)(lin & (PAGE - 1));
    s->part[0] = (struct source_part){lin, n < room ? n : room, false};
    s->part[1] = (struct source_part){cut(c, lin + room), n - s->part[0].n, false};
    s->parts = s->part[1].n ? 2 : 1;
}

/* Reads a part if it is memory that the guest may read; raises nothing. (An accessed bit may be set
 * by what is read in advance.) */
static void look(struct x86_cpu *c, struct source_part *p, uint8_t *to)
{
    struct x86_walk w;
    if (c->debug_data || (c->code == X86_CODE64 && !x86_canonical(p->lin)))
        return; /* a breakpoint is for what is accessed indeed */
    if (!x86_walk(c, p->lin, X86_READ, x86_privilege(c), &w))
        return;
    const uint8_t *hva = memory_hva(c->memory, w.gpa);
    if (!hva)
        return;
    bytes_copy(to, hva, p->n);
    p->there = true;
}

/* Where the operand goes, for its parts that are there to be on pages with access and the others on
 * pages without. */
static uint8_t *place(const struct bounce *x, const struct source *s)
{
    unsigned offset = (unsigned)(s->part[0].lin & (PAGE - 1)), page;
    if (s->parts == 1)
        page = s->part[0].there ? 2 : 0;
    else if (s->part[0].there)
        page = s->part[1].there ? 2 : 3;
    else
        page = s->part[1].there ? 1 : 0;
    return x->buffer + page * PAGE + offset;
}

static void put(uint8_t *at, const struct source *s)
{
    for (unsigned i = 0, done = 0; i < s->parts; done += s->part[i].n, i++)
        if (s->part[i].there)
            bytes_copy(at + done, s->bytes + done, s->part[i].n);
}

/* The processor touched byte `at` of the operand, which is not there: reads it from there to the
 * end of its page, which raises the guest's fault or is a device's answer. */
static void fetch_part(struct x86_cpu *c, const struct op *op, struct source *s, unsigned at)
{
    unsigned i = s->parts == 2 && at >= s->part[0].n, before = i ? s->part[0].n : 0;
    unsigned skip = at - before;
    read_bytes(c, op, s->part[i].lin + skip, s->bytes + at, s->part[i].n - skip);
    s->part[i].there = true;
}

/* Under a mask: what is not chosen is not accessed. At most both parts are missed once. */
static int load_masked(struct binary_vcpu *b, const struct op *op, const struct native *n,
                       struct exchange *ex, uint64_t lin)
{
    struct x86_cpu *c = &b->v->cpu;
    struct source s = {.parts = 0};
    divide(c, &s, lin, n->size);
    for (unsigned i = 0; i < s.parts; i++)
        look(c, &s.part[i], s.bytes + (i ? s.part[0].n : 0));
    for (;;) {
        uint8_t *at = place(b->bounce, &s);
        put(at, &s);
        int trap = execute(b, n, ex, at);
        if (trap != X86_PF)
            return trap;
        uintptr_t missed = b->bounce->address - (uintptr_t)at;
        settle(b);
        if (missed >= n->size)
            x86_raise(c, X86_UD); /* no such access was to be */
        fetch_part(c, op, &s, (unsigned)missed);
    }
}

static int load(struct binary_vcpu *b, const struct op *op, const struct native *n,
                struct exchange *ex, uint64_t lin)
{
    struct x86_cpu *c = &b->v->cpu;
    if (n->masked)
        return load_masked(b, op, n, ex, lin);
    uint8_t *at = b->bounce->buffer + BUFFER_OPEN + (lin & (PAGE - 1));
    check_whole(c, op, lin, n->size);
    read_bytes(c, op, lin, at, n->size);
    return execute(b, n, ex, at);
}

/* ---- stores ---- */

/* The first byte from i on that is (or is not) written. */
static unsigned next_byte(const uint8_t *a, const uint8_t *b, unsigned i, unsigned n, bool written)
{
    /* n of both are filled. NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
    while (i < n && (a[i] == b[i]) != written)
        i++;
    return i;
}

static void write_runs(struct x86_cpu *c, const struct op *op, uint64_t lin, uint8_t *a,
                       const uint8_t *b, unsigned n, bool probe)
{
    for (unsigned i = next_byte(a, b, 0, n, true), end; i < n; i = next_byte(a, b, end, n, true)) {
        end = next_byte(a, b, i, n, false);
        write_bytes(c, op, cut(c, lin + i), a + i, end - i, probe);
    }
}

/* Looks at what the processor will write to with the operand there: false for nothing. */
static bool probe_at(struct binary_vcpu *b, const struct op *op, const struct native *n,
                     struct exchange *ex, uint64_t lin, uint8_t *at)
{
    struct x86_cpu *c = &b->v->cpu;
    int trap = execute(b, n, ex, at);
    uintptr_t first = b->bounce->address - (uintptr_t)at;
    settle(b);
    if (trap != X86_PF || first >= n->size)
        return false;
    x86_probe_element(c, cut(c, lin + first), 1, X86_WRITE, op->seg);
    return true;
}

/* Under a mask. The processor may look at memory that it has nothing to write to, in either page.
 */
static void probe_masked(struct binary_vcpu *b, const struct op *op, const struct native *n,
                         struct exchange *ex, uint64_t lin)
{
    struct source s;
    divide(&b->v->cpu, &s, lin, n->size);
    if (probe_at(b, op, n, ex, lin, place(b->bounce, &s)) && s.parts == 2) {
        s.part[0].there = true;
        probe_at(b, op, n, ex, lin, place(b->bounce, &s));
    }
}

static int store(struct binary_vcpu *b, const struct op *op, const struct native *n,
                 struct exchange *ex, uint64_t lin)
{
    struct x86_cpu *c = &b->v->cpu;
    uint8_t out[2][OPERAND_MAX], *at = b->bounce->buffer + BUFFER_OPEN + (lin & (PAGE - 1));
    if (n->masked) {
        probe_masked(b, op, n, ex, lin);
    } else {
        check_whole(c, op, lin, n->size);
        write_bytes(c, op, lin, out[0], n->size, true);
    }
    for (unsigned i = 0; i < 2; i++) {
        bytes_fill(at, i ? 0xff : 0, n->size);
        int trap = execute(b, n, ex, at);
        if (trap != NO_TRAP)
            return trap;
        bytes_copy(out[i], at, n->size);
    }
    settle(b);
    write_runs(c, op, lin, out[0], out[1], n->size, true);
    write_runs(c, op, lin, out[0], out[1], n->size, false);
    return NO_TRAP;
}

/* ---- the operation ---- */

static bool begins_with(const char *text, const char *with)
{
    while (*with && *text == *with) {
        text++;
        with++;
    }
    return !*with;
}

static uint64_t code_linear(const struct x86_cpu *c, uint64_t rip)
{
    return c->code == X86_CODE64 ? rip : (uint32_t)(c->s.seg[X86_CS].base + rip);
}

/* The instruction's bytes up to n, or to the end of its page. Returns how many. */
static unsigned fetch_bytes_at(struct x86_cpu *c, uint64_t lin, uint8_t *to, unsigned n)
{
    uint64_t gpa = x86_fetch_translate(c, lin);
    unsigned room = PAGE - (unsigned)(lin & (PAGE - 1));
    n = n < room ? n : room;
    const uint8_t *hva = memory_hva(c->memory, gpa);
    if (hva)
        bytes_copy(to, hva, n);
    for (unsigned i = 0; !hva && i < n; i++)
        to[i] = (uint8_t)c->host.mmio_read(c->host.ctx, gpa + i, 1);
    return n;
}

/* The general register that it names, or -1. */
static int general_register(const struct x86_insn *insn)
{
    for (unsigned i = 0; i < ARRAY_LEN(x86_form(insn)->operand); i++) {
        unsigned kind = x86_form(insn)->operand[i].kind;
        if (kind == OPK_G)
            return insn->reg;
        if ((kind == OPK_E || kind == OPK_R) && !insn->is_mem)
            return insn->rm;
    }
    return -1;
}

/* Accesses memory by elements, under whatever mask. */
static bool is_masked(const struct x86_form *form)
{
    static const char *const names[] = {"vcompress", "vpcompress", "vexpand", "vpexpand"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (begins_with(form->mnemonic, names[i]))
            return true;
    return false;
}

/* The instruction at RIP. False: it is another one than was decoded there. */
static bool take(struct x86_cpu *c, const struct op *op, struct native *n)
{
    enum { MASK = 7 };
    unsigned len = op->len;
    uint64_t rip = x86_rip(c);
    unsigned got = fetch_bytes_at(c, code_linear(c, rip), n->bytes, len);
    if (got < len)
        fetch_bytes_at(c, code_linear(c, rip + got), n->bytes + got, len - got);
    /* Decoded, it is whole. NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
    if (x86_decode(n->bytes, len, c->code, &n->insn) != X86_DECODED || n->insn.len != len ||
        !x86_runs_natively(c->model, &n->insn))
        return false;
    n->form = x86_form(&n->insn);
    n->size = n->insn.is_mem ? x86_memory_size(&n->insn) : 0;
    n->store = n->insn.is_mem && (n->form->flags & X86_FORM_STORE);
    n->masked = (n->insn.evex & MASK) || is_masked(n->form);
    return true;
}

static void check_enabled(struct x86_cpu *c, const struct x86_insn *insn)
{
    switch (x86_native_state(x86_form(insn))) {
    case X86_NATIVE_SSE: sse_check(c); break;
    case X86_NATIVE_AVX: avx_check(c); break;
    case X86_NATIVE_AVX512:
        if (c->no_avx512)
            x86_raise(c, x86_avx512_enabled(&c->s) ? X86_NM : X86_UD);
        break;
    }
}

/* An operand that must be aligned is looked at for that before it is accessed: by the processor,
 * where nothing may be. */
static void check_alignment(struct x86_cpu *c, const struct native *n, uint64_t lin)
{
    bool aligned =
        begins_with(n->form->mnemonic, "vmova") || begins_with(n->form->mnemonic, "vmovdqa") ||
        begins_with(n->form->mnemonic, "vmovnt") || x86_native_state(n->form) == X86_NATIVE_SSE;
    if (aligned && !n->masked && n->size && lin % n->size)
        x86_raise_gp0(c);
}

/* Instructions whose result is in the flags. */
static bool sets_flags(const struct x86_form *form)
{
    static const char *const names[] = {"kortest", "ktest", "vcomis", "vucomis", "vtestp"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (begins_with(form->mnemonic, names[i]))
            return true;
    /* VPTEST; VPTESTMB and its kin have a mask for their result. */
    return begins_with(form->mnemonic, "vptest") && !form->mnemonic[6];
}

static void commit(struct x86_cpu *c, const struct native *n, const struct exchange *ex)
{
    unsigned kind = n->form->operand[0].kind;
    if (n->general >= 0 && (kind == OPK_G || kind == OPK_E || kind == OPK_R))
        c->s.gpr[n->general] = c->code == X86_CODE64 ? ex->general : (uint32_t)ex->general;
    if (sets_flags(n->form))
        x86_set_status(c, ex->flags);
}

static void run(struct binary_vcpu *b, const struct op *op, struct native *n)
{
    struct x86_cpu *c = &b->v->cpu;
    struct exchange ex = {0, 0};
    int trap;
    n->general = general_register(&n->insn);
    n->code = find_piece(b, n);
    if (n->general >= 0)
        ex.general = c->s.gpr[n->general];
    if (n->insn.is_mem) {
        uint64_t lin = op_linear(c, op, n->size, n->store ? X86_WRITE : X86_READ);
        check_alignment(c, n, lin);
        trap = n->store ? store(b, op, n, &ex, lin) : load(b, op, n, &ex, lin);
    } else {
        trap = execute(b, n, &ex, NULL);
    }
    if (trap != NO_TRAP)
        raise_trap(b, trap);
    settle(b);
    commit(c, n, &ex);
}

static const struct op *native_op(struct x86_cpu *c, const struct op *op)
{
    struct binary_vcpu *b = binary_of(c->engine);
    struct native n;
    c->op = op;
    if (!take(c, op, &n))
        return block_restart(c, op);
    check_enabled(c, &n.insn);
    if (x86_form_has(n.form, OPK_MV)) {
        binary_fpu_to_state(b);
        if (!gather_run(c, op, &n.insn))
            return block_restart(c, op);
    } else {
        run(b, op, &n);
    }
    return op + 1;
}
