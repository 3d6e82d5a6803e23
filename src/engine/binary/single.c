/*
 * One instruction in C: by the semantics that `emulate` has, made ready once for each place.
 */
#include "engine/binary/loop.h"
#include "x86/native.h"

/* What the host's processor executes finds the vector registers wherever they are; gathers and
 * scatters are done in C. */
static bool is_bounced(const struct x86_model *m, const struct x86_insn *insn)
{
    return x86_runs_natively(m, insn) && !x86_form_has(x86_form(insn), OPK_MV);
}

static bool uses_fpu(const struct x86_model *m, const struct x86_insn *insn)
{
    if (is_bounced(m, insn))
        return false;
    switch (x86_form(insn)->feature) {
    case X86_FEATURE_BASE:
    case X86_FEATURE_SYS:
    case X86_FEATURE_X64:
    case X86_FEATURE_TSC:
    case X86_FEATURE_MSR:
    case X86_FEATURE_CMOV:
    case X86_FEATURE_CX8:
    case X86_FEATURE_CX16:
    case X86_FEATURE_SYSCALL:
    case X86_FEATURE_INVPCID:
    case X86_FEATURE_SMAP:
    case X86_FEATURE_RDTSCP:
    case X86_FEATURE_FSGSBASE: return false;
    default: return true;
    }
}

/* The instruction at gpa in guest memory. False: it can't be told. */
bool binary_decode_at(struct binary_vcpu *b, uint64_t gpa, struct x86_insn *insn)
{
    const uint8_t *bytes = memory_hva(b->v->vm->memory, gpa);
    unsigned room = MEMORY_PAGE_SIZE - (gpa & (MEMORY_PAGE_SIZE - 1));
    return bytes && x86_decode(bytes, room, X86_CODE64, insn) == X86_DECODED;
}

/* Executes the instruction at RIP in C, whatever it is. */
enum engine_exit binary_emulate_one(struct binary_vcpu *b)
{
    binary_forget_place(b);
    binary_fpu_to_state(b);
    b->emulated++;
    return emulate_run_inside(b->v, b->v->cpu.insns + 1);
}

static struct block *block_of(struct single *s)
{
    return (struct block *)(void *)s->room;
}

/* The host code of block n's instruction at an offset in the guest page, and how many there are
 * from there on; or NULL. */
static void *host_code(const struct code *code, uint32_t n, unsigned offset, unsigned *behind)
{
    const struct translation *t = &code->block[n];
    const struct point *p = &code->point[t->points];
    for (unsigned i = 0; i < t->insns; i++) {
        if (p[i].guest == offset && !p[i].tied) {
            *behind = t->insns - i;
            return code_run(code, t->code + p[i].host);
        }
    }
    return NULL;
}

/* Makes the instruction at RIP, of block n, ready. False: it is not one that can be. */
static bool make_single(struct binary_vcpu *b, struct single *s, uintptr_t site, uint32_t n)
{
    const struct code *code = &b->vm->code;
    unsigned offset = b->v->cpu.s.rip & (MEMORY_PAGE_SIZE - 1);
    uint64_t gpa = (code->block[n].gpa & X86_PAGE_MASK) | offset;
    const uint8_t *bytes = memory_hva(b->v->vm->memory, gpa);
    struct x86_insn insn;
    s->site = 0;
    if (!bytes || !emulate_single(b->v, bytes, MEMORY_PAGE_SIZE - offset, &insn, block_of(s)))
        return false;
    block_of(s)->gpa = gpa;
    s->block = n;
    s->next = (uint16_t)(offset + insn.len);
    s->fpu = uses_fpu(b->v->cpu.model, &insn);
    s->iret = insn.map == 0 && insn.opcode == 0xcf;
    s->form = insn.form;
    unsigned behind = 0;
    s->resume = host_code(code, n, s->next, &behind);
    s->behind = (uint16_t)behind;
    s->site = site;
    return true;
}

/* Whether the guest goes straight on behind the instruction, and nothing changed that the block
 * depends on. */
static bool goes_on(const struct binary_vcpu *b, const struct single *s, uint64_t forgotten)
{
    const struct x86_cpu *c = &b->v->cpu;
    const struct translation *t = &b->vm->code.block[s->block];
    return s->resume && c->s.rip == binary_page(b, s->block) + s->next &&
           b->forgotten == forgotten && !t->dropped && (t->key & KEY_MODE) == binary_mode_key(b);
}

/* Where translated code was left, and whether by a fault: an instruction that is always for C
 * leaves with the address behind it, where the next one, with a site of its own, may fault. */
uintptr_t binary_site(const void *at, bool fault)
{
    return (uintptr_t)at << 1 | fault;
}

/* Executes the instruction at RIP in C. site: see binary_site(), in block n if that is known. */
enum engine_exit binary_emulate_at(struct binary_vcpu *b, uintptr_t site, uint32_t n)
{
    struct single *s = &b->single[(site >> 1 ^ site >> 13) % SINGLES];
    binary_forget_place(b);
    if (s->site != site) {
        if (!n)
            n = code_at(&b->vm->code, (void *)((site >> 1) - 1));
        if (!n || !make_single(b, s, site, n))
            return binary_emulate_one(b);
    }
    if (s->fpu)
        binary_fpu_to_state(b);
    uint64_t forgotten = b->forgotten, before = b->v->cpu.insns;
    b->emulated++;
    b->on = &b->cause[site & 1][s->form];
    b->on->count++;
    b->keep_vectors = !s->fpu;
    emulate_run_single(b->v, block_of(s));
    b->whole = b->v->cpu.insns > before;
    b->keep_vectors = false;
    if (s->iret && b->whole)
        binary_iret_learn(b);
    if (goes_on(b, s, forgotten)) {
        b->resume = s->resume;
        b->resume_tied = false;
        b->resume_block = s->block;
        b->resume_insns = s->behind;
    }
    return ENGINE_LIMIT;
}
