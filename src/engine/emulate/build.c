/*
 * Decoding guest code into blocks.
 *
 * A block begins where control arrives and ends with the first branch or other instruction that may
 * change what comes next, at the page's end, or after CACHE_BLOCK_INSNS. It never leaves its page,
 * so one translation of its first byte covers it.
 */
#include "engine/emulate/emulate.h"
#include "engine/emulate/lower.h"
#include "x86/insn.h"
#include "x86/native.h"

/* Beside enum x86_code. Blocks of code segments with a base or a limit are only entered by the run
 * loop, which checks both. In real and virtual-8086 mode there are no VEX prefixes. From KEY_SHORT
 * on: how many instructions the block was to have at most, where that was less than usual. */
enum { KEY_SEGMENTED = 1u << 2, KEY_REAL = 1u << 3, KEY_SHORT = 8 };

/* What x86_rip() goes by while an instruction is fetched. */
static const struct op fetching;

static uint32_t block_key(const struct x86_cpu *c)
{
    const struct x86_segment *cs = &c->s.seg[X86_CS];
    bool segmented = c->code != X86_CODE64 && (cs->base != 0 || cs->limit != UINT32_MAX);
    return c->code | (segmented ? KEY_SEGMENTED : 0) | (x86_protected(c) ? 0 : KEY_REAL);
}

/* The linear address of an offset in CS. */
static uint64_t code_linear(const struct x86_cpu *c, uint64_t rip)
{
    return c->code == X86_CODE64 ? rip : (uint32_t)(c->s.seg[X86_CS].base + rip);
}

/* Bytes from rip to the end of the code segment; raises #GP(0) when there are none. */
static uint64_t room_in_segment(struct x86_cpu *c, uint64_t rip)
{
    if (c->code == X86_CODE64)
        return UINT64_MAX;
    if (rip > c->s.seg[X86_CS].limit)
        x86_raise_gp0(c);
    return c->s.seg[X86_CS].limit - rip + 1;
}

static void begin_fetch(struct x86_cpu *c)
{
    c->block = NULL;
    c->op = &fetching;
    c->s.gpr[X86_GPR_BLOCK] = c->s.rip;
}

/* ---- where a block without a branch ends ---- */

static const struct op *op_end(struct x86_cpu *c, const struct op *op)
{
    uint64_t next = x86_next_rip(c, op);
    BLOCK_FOLLOW(c, BLOCK_NEXT, next);
}

/* The same for a scratch block: always back to the run loop. */
static const struct op *op_stop(struct x86_cpu *c, const struct op *op)
{
    c->s.rip = x86_next_rip(c, op);
    return NULL;
}

static void end_block(struct op *op, op_fn *fn, unsigned end)
{
    *op = (struct op){.fn = fn, .end = (uint16_t)end};
}

/* Makes an operation of what x86_decode() said of the bytes at offset `at`. Returns SEM_* flags. */
static unsigned lower(const struct x86_cpu *c, enum x86_decode_status status, struct x86_insn *insn,
                      unsigned at, struct op *op)
{
    bool vex = insn->prefixes & (X86_PREFIX_VEX | X86_PREFIX_EVEX);
    if (status == X86_DECODED && (!vex || x86_protected(c))) {
        if (c->native && x86_runs_natively(c->model, insn))
            return lower_native(insn, c->code, at + insn->len, c->native, op);
        return lower_insn(insn, c->code, at + insn->len, op);
    }
    insn->len = insn->len ? insn->len : 1;
    lower_invalid(insn->len, at + insn->len, status == X86_DECODE_TOO_LONG, op);
    return SEM_ENDS;
}

/* ---- blocks that are kept ---- */

/* Decodes n bytes at host into b, `most` instructions at most. Returns how many operations came of
 * it; 0: the first instruction goes on behind the n bytes. */
static unsigned decode_block(const struct x86_cpu *c, const uint8_t *host, uint64_t n,
                             unsigned most, struct block *b)
{
    unsigned at = 0, count = 0;
    bool ended = false;
    while (count < most && at < n && !ended) {
        struct x86_insn insn;
        enum x86_decode_status status = x86_decode(host + at, n - at, c->code, &insn);
        if (status == X86_DECODE_SHORT)
            break;
        ended = lower(c, status, &insn, at, &b->ops[count]) & SEM_ENDS;
        at += insn.len;
        count++;
    }
    if (count == 0)
        return 0;
    b->insns = (uint16_t)count;
    b->bytes = (uint16_t)at;
    if (!ended)
        end_block(&b->ops[count++], op_end, at);
    return count;
}

static struct block *new_block(struct engine_vcpu *v, uint64_t gpa, uint32_t key, uint64_t room,
                               unsigned most)
{
    const uint8_t *host = memory_hva(v->vm->memory, gpa);
    if (!host)
        return NULL;
    emulate_watch_code(v, gpa);
    struct block *b = cache_room(&v->cache);
    if (!b) {
        cache_flush(&v->cache);
        emulate_forget_jumps(v);
        b = cache_room(&v->cache);
    }
    uint64_t in_page = MEMORY_PAGE_SIZE - (gpa & (MEMORY_PAGE_SIZE - 1));
    *b = (struct block){.gpa = gpa, .key = key};
    unsigned ops = decode_block(&v->cpu, host, in_page < room ? in_page : room, most, b);
    if (ops == 0)
        return NULL;
    cache_commit(&v->cache, b, ops);
    return b;
}

/* A block remembers where it goes on within its page, and the jump cache where it is: only what
 * needs no look at the code segment, and nothing if another vCPU dropped code while this one waited
 * to decode. */
static void remember(struct engine_vcpu *v, struct block *from, struct block *b)
{
    struct x86_cpu *c = &v->cpu;
    if ((b->key & KEY_SEGMENTED) || b->key >> KEY_SHORT || c->jump_key == NO_JUMP_KEY)
        return;
    c->jump[jump_hash(c->s.rip)] = (struct jump_entry){c->s.rip, c->jump_key, b};
    bool same_page = ((v->from_rip ^ c->s.rip) & X86_PAGE_MASK) == 0;
    if (from && same_page && !from->dropped && from->key == b->key)
        from->link[c->link_slot] = b;
}

struct block *emulate_find_block(struct engine_vcpu *v, uint64_t most)
{
    struct x86_cpu *c = &v->cpu;
    struct block *from = c->link_from;
    v->from_rip = c->s.gpr[X86_GPR_BLOCK];
    c->link_from = NULL;
    begin_fetch(c);
    uint64_t room = room_in_segment(c, c->s.rip);
    uint64_t flushes = v->cache.flushes;
    uint64_t gpa = x86_fetch_translate(c, code_linear(c, c->s.rip));
    unsigned insns = most < CACHE_BLOCK_INSNS ? (unsigned)most : CACHE_BLOCK_INSNS;
    uint32_t key = block_key(c) | (insns < CACHE_BLOCK_INSNS ? insns << KEY_SHORT : 0);
    struct block *b = cache_find(&v->cache, gpa, key);
    if (!b)
        b = new_block(v, gpa, key, room, insns);
    if (!b || b->bytes > room)
        return NULL;
    remember(v, v->cache.flushes == flushes ? from : NULL, b);
    return b;
}

/* ---- one instruction, wherever it lies ---- */

/* Up to n bytes of code at linear address lin, which lie in one page. */
static void fetch_bytes(struct x86_cpu *c, uint64_t lin, uint8_t *to, unsigned n)
{
    uint64_t gpa = x86_fetch_translate(c, lin);
    if (memory_read(c->memory, gpa, to, n))
        return;
    for (unsigned i = 0; i < n; i++)
        to[i] = (uint8_t)c->host.mmio_read(c->host.ctx, gpa + i, 1);
}

/* A block of one instruction that goes nowhere by itself. */
static void make_single(const struct x86_cpu *c, enum x86_decode_status status,
                        struct x86_insn *insn, struct block *b)
{
    *b = (struct block){.insns = 1};
    lower(c, status, insn, 0, &b->ops[0]);
    b->bytes = insn->len;
    end_block(&b->ops[1], op_stop, insn->len);
}

struct block *emulate_scratch_block(struct engine_vcpu *v)
{
    struct x86_cpu *c = &v->cpu;
    struct block *b = emulate_scratch(v);
    uint8_t bytes[X86_INSN_MAX];
    struct x86_insn insn;
    begin_fetch(c);
    uint64_t room = room_in_segment(c, c->s.rip);
    uint64_t lin = code_linear(c, c->s.rip);
    unsigned n = X86_INSN_MAX < room ? X86_INSN_MAX : (unsigned)room;
    unsigned first = MEMORY_PAGE_SIZE - (lin & (MEMORY_PAGE_SIZE - 1));
    first = first < n ? first : n;
    fetch_bytes(c, lin, bytes, first);
    enum x86_decode_status status = x86_decode(bytes, first, c->code, &insn);
    if (status == X86_DECODE_SHORT && first < n) {
        /* Only now is the second page the instruction's business. */
        fetch_bytes(c, code_linear(c, c->s.rip + first), bytes + first, n - first);
        status = x86_decode(bytes, n, c->code, &insn);
    }
    if (status == X86_DECODE_SHORT) /* it runs over the segment's limit, or is too long */
        x86_raise_gp0(c);
    make_single(c, status, &insn, b);
    return b;
}

bool emulate_single(struct engine_vcpu *v, const uint8_t *bytes, unsigned n, struct x86_insn *insn,
                    struct block *b)
{
    enum x86_decode_status status = x86_decode(bytes, n, v->cpu.code, insn);
    if (status == X86_DECODE_SHORT)
        return false;
    make_single(&v->cpu, status, insn, b);
    return true;
}
