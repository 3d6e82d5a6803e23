/*
 * Wild pointers: a guest that reaches for what is not its own, in every way that an instruction can
 * name memory, and checks that each access either ends in the fault that the manual asks for, with
 * nothing changed, or hits the one page of its own that is mapped there.
 *
 * A monitor that keeps guest memory in its own address space might look at some bits of an address
 * only. So pages are mapped at addresses that differ in nothing but their upper bits, and the forms
 * below are tried at those, at addresses that differ in other upper bits, and at what is not
 * canonical; each time right behind an access to a page of the guest's that has the lower bits.
 */
#include "lib/page.h"
#include "lib/run64.h"

const char guest_name[] = "reach";

/* ---- the places ---- */

struct place {
    uint64_t at;
    unsigned rights;
};
/* In groups that have bits 43:12 in common. */
static const struct place places[] = {
    {0x0000000040000000, W | U}, {0xffff900040000000, W | U}, {0xffffb00040000000, U},
    {0x0000512345678000, W | U}, {0xffffa12345678000, W | U}, {0xffffe12345678000, W},
    {0x00007ffffffff000, W | U}, {0xfffffffffffff000, W | U}, {0x00000ffffffff000, W},
    {0xffff800000000000, W | U}, {0x0000700000000000, 0},
};
/* A place of each group, that all may write to. */
static const uint8_t group[] = {0, 3, 6, 9};

/* A page of something else stands between any two. */
static uint8_t frame[2 * ARRAY_LEN(places) + 1][4096] __attribute__((aligned(4096)));
static uint64_t tables[40][512] __attribute__((aligned(4096)));
static unsigned tables_used;
extern uint64_t boot_pml4[512];

static uint8_t *frame_of(unsigned place)
{
    return frame[2 * place + 1];
}

static uint64_t *table_below(uint64_t *entry)
{
    if (!(*entry & P) || (*entry & LARGE)) {
        if (tables_used == ARRAY_LEN(tables))
            guest_panic("no more tables", tables_used, 0);
        *entry = (uint64_t)tables[tables_used++] | P | W | U;
    }
    return (uint64_t *)(*entry & 0x000ffffffffff000);
}

static void map(uint64_t at, const void *to, unsigned rights)
{
    uint64_t *table = boot_pml4;
    for (unsigned shift = 39; shift > 12; shift -= 9)
        table = table_below(&table[at >> shift & 511]);
    table[at >> 12 & 511] = to ? (uint64_t)to | P | rights : 0;
}

/* What a word of a frame holds: no two are the same. */
static uint64_t tag(unsigned place, unsigned offset)
{
    return 0x0101010000000000u + (uint64_t)place * 0x10000 + offset;
}

static int place_of(uint64_t at)
{
    for (unsigned i = 0; i < ARRAY_LEN(places); i++)
        if (places[i].at == (at & ~4095ull))
            return (int)i;
    return -1;
}

static bool canonical(uint64_t at)
{
    return (uint64_t)((int64_t)(at << 16) >> 16) == at;
}

/* ---- the forms ---- */

/* Which registers the address goes into. */
enum how {
    BASE,
    STACK,
    RSI,
    RDI,
    SUM,
    INDEX2,
    INDEX4,
    INDEX8,
    DISP_HIGH,
    DISP_LOW,
    DISP_64,
    FS_BASE,
    GS_BASE,
    FS_32,
    LOW_32,
    BITS_64,
    BITS_32,
    XLAT,
    MOFFS,
    RIP,
    ABSOLUTE
};
enum {
    WRITES = 1,
    VALUE = 2,   /* RAX is what was there */
    ON_SS = 4,   /* not canonical: #SS */
    BELOW = 8,   /* the operand lies below the address */
    NO_HIT = 16, /* not for what is mapped: what is there would have to make sense */
    TO_END = 32, /* what is there is where to go on */
    NEVER = 64,  /* makes no access */
    AVX = 128,
    AVX2 = 256,
    LOOSE = 512,    /* made of several accesses: CR2 and memory, when it faults, are some of them */
    ALIGNED = 1024, /* faults when it is not aligned, or what it leaves depends on where it is */
    AVX512 = 4096,
    UPDATES = 2048, /* asks for a page that can be written, and writes what was there */
};

struct form {
    const char *name;
    uint8_t *code, *at, *end;
    enum how how;
    unsigned size, flags;
};

/* K1 chooses the first element. */
#define ONE_ELEMENT "kxnorw %k1, %k1, %k1\n kshiftrw $15, %k1, %k1\n"

/* The operand is at [rbx] and so on, as `how` says; RCX is 1 where it is not in the address. */
#define FORMS(F)                                                                                   \
    F(load_rbx, BASE, 8, VALUE, "", "mov (%rbx), %rax")                                            \
    F(load_rsi, BASE, 8, VALUE, "", "mov (%rsi), %rax")                                            \
    F(load_r12, BASE, 8, VALUE, "", "mov (%r12), %rax")                                            \
    F(load_r13, BASE, 8, VALUE, "", "mov (%r13), %rax")                                            \
    F(load_r14, BASE, 8, VALUE, "", "mov (%r14), %rax")                                            \
    F(load_r15, BASE, 8, VALUE, "", "mov (%r15), %rax")                                            \
    F(load_rbp, BASE, 8, VALUE | ON_SS, "", "mov (%rbp), %rax")                                    \
    F(load_rbp_ds, BASE, 8, VALUE | ON_SS, "", "mov %ds:(%rbp), %rax")                             \
    F(load_rsp, STACK, 8, VALUE | ON_SS, "", "mov (%rsp), %rax")                                   \
    F(load_into_r15, BASE, 8, 0, "", "mov (%r14), %r15")                                           \
    F(rex_in_front_of_a_prefix, BASE, 8, VALUE, "", ".byte 0x4b, 0x3e, 0x48, 0x8b, 0x03")          \
    F(many_prefixes, BASE, 8, 0, "", ".byte 0x66, 0x66, 0x66, 0x66, 0xf3, 0x0f, 0x7e, 0x03")       \
    F(two_rex, BASE, 8, VALUE, "", ".byte 0x4f, 0x48, 0x8b, 0x03")                                 \
    F(load_byte, BASE, 1, 0, "", "movzbl (%rbx), %eax")                                            \
    F(load_high_byte, BASE, 1, 0, "", "mov (%rbx), %ah")                                           \
    F(store, BASE, 8, WRITES, "", "mov %rax, (%rbx)")                                              \
    F(store_byte, BASE, 1, WRITES, "", "mov %al, (%rdi)")                                          \
    F(store_high_byte, BASE, 1, WRITES, "", "mov %ah, (%rdi)")                                     \
    F(store_r14, BASE, 8, WRITES, "", "mov %rax, (%r14)")                                          \
    F(store_r15_r15, BASE, 8, WRITES | ALIGNED, "", "mov %r15, (%r15)")                            \
    F(store_imm, BASE, 4, WRITES, "", "movl $0x55667788, (%r15)")                                  \
    F(sum, SUM, 8, VALUE, "", "mov (%rbx, %rcx), %rax")                                            \
    F(sum_r, SUM, 8, VALUE, "", "mov (%r14, %r15), %rax")                                          \
    F(sum_store, SUM, 8, WRITES, "", "mov %rax, (%rbx, %rcx)")                                     \
    F(index2, INDEX2, 8, VALUE, "", "mov (%rbx, %rcx, 2), %rax")                                   \
    F(index4, INDEX4, 8, VALUE, "", "mov (%rbx, %rcx, 4), %rax")                                   \
    F(index8, INDEX8, 8, VALUE, "", "mov (%rbx, %rcx, 8), %rax")                                   \
    F(index8_store, INDEX8, 8, WRITES, "", "mov %rax, (%rbx, %rcx, 8)")                            \
    F(disp_high, DISP_HIGH, 8, VALUE, "", "mov 0x7fffffc0(%rbx), %rax")                            \
    F(disp_high_store, DISP_HIGH, 8, WRITES, "", "mov %rax, 0x7fffffc0(%rbx)")                     \
    F(disp_low, DISP_LOW, 8, VALUE, "", "mov -0x80000000(%rbx), %rax")                             \
    F(absolute, ABSOLUTE, 8, VALUE, "", "mov 0x11223344, %rax")                                    \
    F(rip, RIP, 8, VALUE, "", "mov 0x11223344(%rip), %rax")                                        \
    F(moffs_load, MOFFS, 8, VALUE, "", "movabs 0x1122334455667788, %rax")                          \
    F(moffs_store, MOFFS, 8, WRITES, "", "movabs %rax, 0x1122334455667788")                        \
    F(fs, FS_BASE, 8, VALUE, "", "mov %fs:(%rbx), %rax")                                           \
    F(fs_store, FS_BASE, 8, WRITES, "", "mov %rax, %fs:(%rbx)")                                    \
    F(gs, GS_BASE, 8, VALUE, "", "mov %gs:(%rbx), %rax")                                           \
    F(gs_store, GS_BASE, 8, WRITES, "", "mov %rax, %gs:(%rbx)")                                    \
    F(fs_32, FS_32, 8, VALUE, "", "mov %fs:(%ebx), %rax")                                          \
    F(low_32, LOW_32, 8, VALUE, "", "mov (%ebx), %rax")                                            \
    F(low_32_store, LOW_32, 8, WRITES, "", "mov %rax, (%ebx)")                                     \
    F(add, BASE, 8, WRITES, "", "add %rax, (%rbx)")                                                \
    F(lock_add, BASE, 4, WRITES, "", "lock addl $5, (%rbx)")                                       \
    F(xchg, BASE, 8, WRITES | VALUE, "", "xchg %rax, (%rbx)")                                      \
    F(xadd, BASE, 8, WRITES | VALUE, "", "xadd %rax, (%rbx)")                                      \
    F(cmpxchg, BASE, 8, VALUE | UPDATES, "", "cmpxchg %rdx, (%rbx)")                               \
    F(cmpxchg8b, BASE, 8, UPDATES, "", "cmpxchg8b (%rsi)")                                         \
    F(cmpxchg16b, BASE, 16, VALUE | UPDATES | ALIGNED, "", "lock cmpxchg16b (%rsi)")               \
    F(setcc, BASE, 1, WRITES, "", "setne (%rbx)")                                                  \
    F(mul, BASE, 8, 0, "", "mulq (%rbx)")                                                          \
    F(shift, BASE, 8, WRITES, "", "rolq $3, (%rbx)")                                               \
    F(lea, BASE, 8, NEVER, "", "lea (%rbx), %rax")                                                 \
    F(nop, BASE, 8, NEVER, "", "nopl (%rbx)")                                                      \
    F(prefetch, BASE, 8, NEVER, "", "prefetcht0 (%rbx)")                                           \
    F(bt, BITS_64, 8, ALIGNED, "", "bt %rcx, (%rbx)")                                              \
    F(btc, BITS_64, 8, WRITES | ALIGNED, "", "btc %rcx, (%rbx)")                                   \
    F(lock_bts, BITS_64, 8, WRITES | ALIGNED, "", "lock btc %rcx, (%r15)")                         \
    F(btc_32, BITS_32, 4, WRITES | ALIGNED, "", "btc %ecx, (%rbx)")                                \
    F(xlat, XLAT, 1, 0, "", "xlat")                                                                \
    F(push, STACK, 8, WRITES | ON_SS | BELOW, "", "push %rax")                                     \
    F(push_r15, STACK, 8, WRITES | ON_SS | BELOW, "", "push %r15")                                 \
    F(push_imm, STACK, 8, WRITES | ON_SS | BELOW, "", "push $0x12345678")                          \
    F(push_16, STACK, 2, WRITES | ON_SS | BELOW, "", "pushw %ax")                                  \
    F(push_mem, BASE, 8, 0, "", "push (%rbx)")                                                     \
    F(pushf, STACK, 8, WRITES | ON_SS | BELOW, "", "pushf")                                        \
    F(pop, STACK, 8, VALUE | ON_SS, "", "pop %rax")                                                \
    F(pop_r14, STACK, 8, ON_SS, "", "pop %r14")                                                    \
    F(pop_mem, BASE, 8, WRITES, "", "pop (%rbx)")                                                  \
    F(popf, STACK, 8, ON_SS | NO_HIT, "", "popf")                                                  \
    F(call, STACK, 8, WRITES | ON_SS | BELOW, "", "call 1f\n 1:")                                  \
    F(call_reg, STACK, 8, WRITES | ON_SS | BELOW, "lea 1f(%rip), %rdi\n", "call *%rdi\n 1:")       \
    F(call_mem, BASE, 8, TO_END | ALIGNED, "", "call *(%rbx)")                                     \
    F(jmp_mem, BASE, 8, TO_END | ALIGNED, "", "jmp *(%rbx)")                                       \
    F(ret, STACK, 8, ON_SS | TO_END | ALIGNED, "", "ret")                                          \
    F(ret_imm, STACK, 8, ON_SS | TO_END | ALIGNED, "", "ret $16")                                  \
    F(lret, STACK, 8, ON_SS | NO_HIT | LOOSE, "", "lretq")                                         \
    F(iret, STACK, 8, ON_SS | NO_HIT | LOOSE, "", "iretq")                                         \
    F(leave, BASE, 8, ON_SS | ALIGNED, "", "leave")                                                \
    F(enter, STACK, 8, WRITES | ON_SS | BELOW, "", "enter $0, $0")                                 \
    F(movs_from, RSI, 8, 0, "", "movsq")                                                           \
    F(movs_to, RDI, 8, WRITES, "", "movsq")                                                        \
    F(rep_movs_from, RSI, 16, LOOSE, "mov $2, %ecx\n", "rep movsq")                                \
    F(rep_movs_to, RDI, 16, WRITES | LOOSE, "mov $16, %ecx\n", "rep movsb")                        \
    F(stos, RDI, 8, WRITES, "", "stosq")                                                           \
    F(rep_stos, RDI, 32, WRITES | LOOSE, "mov $4, %ecx\n", "rep stosq")                            \
    F(lods, RSI, 8, VALUE, "", "lodsq")                                                            \
    F(scas, RDI, 1, 0, "", "repne scasb")                                                          \
    F(cmps, RSI, 1, 0, "", "cmpsb")                                                                \
    F(sgdt, BASE, 10, WRITES | LOOSE, "", "sgdt (%rbx)")                                           \
    F(verw, BASE, 2, 0, "", "verw (%rbx)")                                                         \
    F(mov_fs, BASE, 2, NO_HIT, "", "mov (%rbx), %fs")                                              \
    F(fld, BASE, 10, NO_HIT, "", "fldt (%rbx)")                                                    \
    F(fst, BASE, 8, WRITES, "fninit\n fldpi\n", "fstpl (%rbx)")                                    \
    F(fstp80, BASE, 10, WRITES, "fninit\n fldpi\n", "fstpt (%rbx)")                                \
    F(fnsave, BASE, 108, WRITES | ALIGNED | LOOSE, "", "fnsave (%rbx)")                            \
    F(fldenv, BASE, 28, NO_HIT | LOOSE, "", "fldenv (%rbx)")                                       \
    F(fxsave, BASE, 512, WRITES | ALIGNED | LOOSE, "", "fxsave64 (%rbx)")                          \
    F(fxrstor, BASE, 512, NO_HIT | ALIGNED | LOOSE, "", "fxrstor64 (%rbx)")                        \
    F(ldmxcsr, BASE, 4, NO_HIT, "", "ldmxcsr (%rbx)")                                              \
    F(stmxcsr, BASE, 4, WRITES, "", "stmxcsr (%rbx)")                                              \
    F(movd, BASE, 4, 0, "", "movd (%rbx), %xmm0")                                                  \
    F(movaps, BASE, 16, ALIGNED, "", "movaps (%rbx), %xmm0")                                       \
    F(movups, BASE, 16, 0, "", "movups (%r15), %xmm0")                                             \
    F(movaps_store, BASE, 16, WRITES | ALIGNED, "", "movaps %xmm15, (%rbx)")                       \
    F(movups_store, BASE, 16, WRITES, "", "movups %xmm15, (%r15)")                                 \
    F(paddd, BASE, 16, ALIGNED, "", "paddd (%rbx), %xmm0")                                         \
    F(movnti, BASE, 8, WRITES, "", "movnti %rax, (%rbx)")                                          \
    F(maskmovdqu, RDI, 16, WRITES | LOOSE, "pcmpeqd %xmm14, %xmm14\n",                             \
      "maskmovdqu %xmm14, %xmm15")                                                                 \
    F(ymm_load, BASE, 32, AVX, "", "vmovups (%rbx), %ymm0")                                        \
    F(ymm_store, BASE, 32, AVX | WRITES, "", "vmovups %ymm15, (%rbx)")                             \
    F(ymm_store_r14, SUM, 32, AVX | WRITES | ALIGNED, "", "vmovaps %ymm15, (%r14, %r15)")          \
    F(maskmov, BASE, 16, AVX | WRITES, "vpcmpeqd %xmm14, %xmm14, %xmm14\n",                        \
      "vmaskmovps %ymm15, %ymm14, (%rbx)")                                                         \
    F(gather, INDEX8, 8, AVX2 | LOOSE, "vmovq %rcx, %xmm13\n vmovq %rax, %xmm14\n",                \
      "vgatherqpd %xmm14, (%rbx, %xmm13, 8), %xmm12")                                              \
    F(zmm_load, BASE, 64, AVX512, "", "vmovups (%rbx), %zmm0")                                     \
    F(zmm_load_r15, SUM, 64, AVX512, "", "vmovdqu64 (%r14, %r15), %zmm29")                         \
    F(zmm_load_disp8, DISP_64, 64, AVX512, "", "vmovdqu8 64(%rbx), %zmm0")                         \
    F(zmm_store, BASE, 64, AVX512 | WRITES, "", "vmovdqu64 %zmm31, (%r15)")                        \
    F(zmm_store_disp8, DISP_64, 64, AVX512 | WRITES, "", "vmovdqu32 %zmm31, 64(%rbx)")             \
    F(ymm_store_evex, SUM, 32, AVX512 | WRITES, "", "vmovdqu64 %ymm31, (%rbx, %rcx)")              \
    F(broadcast, BASE, 4, AVX512, "", "vpaddd (%rbx){1to16}, %zmm31, %zmm0")                       \
    F(broadcast_disp8, DISP_64, 8, AVX512, "", "vpaddq 64(%rbx){1to8}, %zmm31, %zmm0")             \
    F(xmm_high, BASE, 16, AVX512, "", "vpternlogq $0x55, (%r14), %xmm30, %xmm0")                   \
    F(masked_load, BASE, 4, AVX512, ONE_ELEMENT, "vmovdqu32 (%rbx), %zmm0{%k1}{z}")                \
    F(masked_store, BASE, 4, AVX512 | WRITES, ONE_ELEMENT, "vmovdqu32 %zmm31, (%rbx){%k1}")        \
    F(compress, BASE, 8, AVX512 | WRITES, ONE_ELEMENT, "vpcompressq %zmm31, (%rbx){%k1}")          \
    F(expand, BASE, 8, AVX512, ONE_ELEMENT, "vpexpandq (%rbx), %zmm0{%k1}{z}")                     \
    F(narrow_store, BASE, 16, AVX512 | WRITES, "", "vpmovdb %zmm31, (%rbx)")                       \
    F(mask_load, BASE, 8, AVX512, "", "kmovq (%r14), %k3")                                         \
    F(mask_store, BASE, 8, AVX512 | WRITES, "", "kmovq %k0, (%r15)")                               \
    F(gather_512, INDEX8, 8, AVX512 | LOOSE, ONE_ELEMENT "vmovq %rcx, %xmm13\n",                   \
      "vgatherqpd (%rbx, %zmm13, 8), %zmm12{%k1}")                                                 \
    F(scatter_512, INDEX8, 8, AVX512 | WRITES | LOOSE, ONE_ELEMENT "vmovq %rcx, %xmm13\n",         \
      "vscatterqpd %zmm31, (%rbx, %zmm13, 8){%k1}")

/* Each begins with an access to a page that has the same lower bits. */
#define DEFINE(name, how, size, flags, before, text)                                               \
    CODE(form_##name, "orq $0, (%r8)\n" before "form_" #name "_at: " text);                        \
    extern uint8_t form_##name##_at[];
FORMS(DEFINE)
#define ROW(name, how, size, flags, before, text)                                                  \
    {#name, form_##name, form_##name##_at, form_##name##_end, how, size, flags},
static const struct form forms[] = {FORMS(ROW)};

/* ---- registers ---- */

static uint64_t seed = 1;

/* SplitMix64. */
static uint64_t chance(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint8_t scratch[4096] __attribute__((aligned(64)));

#define RAX_FULL 0x8877665555443322

static void set_base(uint32_t msr, uint64_t *rest)
{
    static const uint64_t bases[] = {0x00007ffffffff000, 0xffff800000000000, 0xffffffffffffffff,
                                     0x40000000, 0};
    uint64_t base = bases[chance() % ARRAY_LEN(bases)];
    wrmsr(msr, base);
    *rest -= base;
}

static void put_scaled(struct context *c, uint64_t at, unsigned shift)
{
    c->rcx = at >> shift | chance() << (64 - shift);
    c->rbx = at & ((1u << shift) - 1);
}

static bool patch(const struct form *f, unsigned where, uint64_t v, unsigned size)
{
    memcpy(f->at + where, &v, size);
    return true;
}

static bool is_int32(uint64_t v)
{
    return (uint64_t)(int64_t)(int32_t)v == v;
}

static bool put_bits(struct context *c, uint64_t at, uint64_t bit)
{
    c->rcx = bit;
    c->rbx = c->r15 = at - (uint64_t)((int64_t)bit >> 6) * 8;
    return true;
}

/* False: this form can't name that address. */
static bool put_address(const struct form *f, struct context *c, uint64_t at)
{
    uint64_t rest = at, other = chance();
    c->rax = RAX_FULL;
    c->rcx = 1;
    c->rdx = 0x1234567812345678;
    c->rsi = c->rdi = (uint64_t)scratch;
    c->rbx = c->rbp = c->r12 = c->r13 = c->r14 = c->r15 = at;
    switch (f->how) {
    case BASE: c->rsi = c->rdi = at; return true;
    case STACK:
        c->rsp = at + (f->flags & BELOW ? f->size : 0);
        c->rbp = c->r15 = RAX_FULL;
        return true;
    case RSI: c->rsi = at; return true;
    case RDI: c->rdi = at; return true;
    case SUM:
        c->rbx = c->r14 = other;
        c->rcx = c->r15 = at - other;
        return true;
    case INDEX2: put_scaled(c, at, 1); return true;
    case INDEX4: put_scaled(c, at, 2); return true;
    case INDEX8: put_scaled(c, at, 3); return true;
    case DISP_HIGH: c->rbx = at - 0x7fffffc0; return true;
    case DISP_LOW: c->rbx = at + 0x80000000; return true;
    case DISP_64: c->rbx = at - 64; return true;
    case FS_BASE: set_base(MSR_FS_BASE, &rest); break;
    case GS_BASE: set_base(MSR_GS_BASE, &rest); break;
    case FS_32:
        rest = other & 0xffffffff;
        if (!canonical(at - rest))
            return false;
        wrmsr(MSR_FS_BASE, at - rest);
        rest |= chance() << 32;
        break;
    case LOW_32:
        rest |= other << 32;
        c->rbx = rest;
        return at >> 32 == 0;
    case BITS_64: return put_bits(c, at, other);
    case BITS_32: return put_bits(c, at, (uint64_t)(int64_t)((int32_t)other & ~0x20));
    case XLAT: c->rbx = at - (uint8_t)c->rax; return true;
    case MOFFS: return patch(f, 2, at, 8);
    case RIP: rest = at - ((uint64_t)f->at + 7); return is_int32(rest) && patch(f, 3, rest, 4);
    case ABSOLUTE: return is_int32(at) && patch(f, 4, at, 4);
    }
    c->rbx = rest;
    return true;
}

/* ---- one access ---- */

static unsigned complaints;
static bool avx, avx2, avx512;

static void complain(const struct form *f, unsigned level, uint64_t at, const char *what,
                     uint64_t got, uint64_t want)
{
    if (complaints++ < 60) {
        print("  ");
        print(f->name);
        print(level ? " at level 3, " : " at level 0, ");
        print_hex(at);
        print(": ");
        check_differs(__FILE__, __LINE__, what, got, want);
    } else {
        check_failed(__FILE__, __LINE__, f->name);
    }
}

/* The line at an offset, in every frame. */
static void fill_lines(unsigned offset, const struct form *f)
{
    for (unsigned place = 0; place < ARRAY_LEN(places); place++) {
        for (unsigned i = 0; i < 64; i += 8)
            *(uint64_t *)(frame_of(place) + offset + i) = tag(place, offset + i);
        if (f->flags & TO_END) /* the INT at its end */
            *(uint64_t *)(frame_of(place) + offset) = (uint64_t)f->end - 2;
    }
}

static bool line_is_whole(unsigned place, unsigned offset, const struct form *f)
{
    bool whole = true;
    for (unsigned i = f->flags & TO_END ? 8 : 0; i < 64; i += 8)
        whole &= *(uint64_t *)(frame_of(place) + offset + i) == tag(place, offset + i);
    return whole;
}

struct end {
    uint64_t vector, error;
};

static struct end expected(const struct form *f, unsigned level, uint64_t at)
{
    int place = place_of(at);
    bool write = f->flags & (WRITES | UPDATES);
    if (f->flags & NEVER)
        return (struct end){DONE, 0};
    if (!canonical(at))
        return (struct end){f->flags & ON_SS ? SS : GP, 0};
    unsigned e = (write ? E_W : 0) | (level ? E_U : 0);
    if (place < 0)
        return (struct end){PF, e};
    if ((level && !(places[place].rights & U)) || (write && !(places[place].rights & W)))
        return (struct end){PF, e | E_P};
    return (struct end){DONE, 0};
}

static void check_hit(const struct form *f, unsigned level, uint64_t at, const struct context *c)
{
    unsigned place = (unsigned)place_of(at), offset = at & 4095;
    if (f->flags & VALUE && c->rax != tag(place, offset))
        complain(f, level, at, "value", c->rax, tag(place, offset));
    if (f->flags & WRITES && line_is_whole(place, offset, f))
        complain(f, level, at, "written", 0, 1);
}

static void check_fault(const struct form *f, unsigned level, uint64_t at, const struct context *c,
                        const struct context *before)
{
    if (c->rip != (uint64_t)f->at)
        complain(f, level, at, "RIP", c->rip, (uint64_t)f->at);
    if (c->vector == PF && (read_cr2() ^ at) & ~(f->flags & LOOSE ? 4095ull : 0))
        complain(f, level, at, "CR2", read_cr2(), at);
    bool same = c->rsp == before->rsp && c->rax == before->rax && c->rbx == before->rbx &&
                c->rdx == before->rdx && c->rbp == before->rbp && c->rsi == before->rsi &&
                c->r12 == before->r12 && c->r13 == before->r13 && c->r14 == before->r14 &&
                c->r15 == before->r15;
    if (!same)
        complain(f, level, at, "registers kept", same, 1);
}

static void reach(const struct form *f, unsigned level, uint64_t at, uint64_t neighbour)
{
    struct context c = at_level(level), before;
    struct end want = expected(f, level, at);
    unsigned offset = at & 4095;
    int hit = want.vector == DONE && !(f->flags & NEVER) ? place_of(at) : -1;
    if ((hit >= 0 && f->flags & NO_HIT) || !put_address(f, &c, at))
        return;
    fill_lines(offset, f);
    memset(scratch, 0xee, 64);
    c.r8 = neighbour;
    before = c;
    run_code(&c, f->code);
    if (c.vector != want.vector || (c.vector == PF && c.error != want.error))
        complain(f, level, at, "end", c.vector << 8 | c.error, want.vector << 8 | want.error);
    else if (c.vector != DONE)
        check_fault(f, level, at, &c, &before);
    else if (hit >= 0)
        check_hit(f, level, at, &c);
    for (unsigned place = 0; place < ARRAY_LEN(places); place++)
        if ((int)place != hit && !line_is_whole(place, offset, f))
            complain(f, level, at, "another page changed", places[place].at, 0);
}

/* ---- the tests ---- */

static void prepare(void)
{
    uint32_t a, b, c, d;
    if (tables_used)
        return;
    for (unsigned i = 0; i < ARRAY_LEN(places); i++)
        map(places[i].at, memset(frame_of(i), 0x99, 4096), places[i].rights);
    write_cr3(read_cr3());
    for (unsigned v = 0; v < 256; v++) /* wild stacks are not for handlers */
        idt[v] = gate(CODE0, trap_entry(v), G_INTERRUPT | dpl(v == DONE ? 3 : 0), 1);
    write_cr0((read_cr0() | CR0_MP | CR0_NE | CR0_WP) & ~(unsigned long)(CR0_EM | CR0_TS));
    write_cr4(read_cr4() | CR4_OSFXSR | 1 << 10);
    cpuid(1, &a, &b, &c, &d);
    avx = c & 1 << 28;
    cpuid(7, &a, &b, &c, &d);
    avx2 = avx && b & 1 << 5;
    avx512 = avx2 && b & 1 << 16;
    if (avx) {
        write_cr4(read_cr4() | 1 << 18);
        __asm__ volatile("xsetbv" : : "a"(avx512 ? 0xe7 : 7), "d"(0), "c"(0));
        __asm__ volatile(
            "vpcmpeqd %xmm15, %xmm15, %xmm15\n\tvinsertf128 $1, %xmm15, %ymm15, %ymm15");
    }
    if (avx512)
        __asm__ volatile("vpternlogd $0xff, %zmm31, %zmm31, %zmm31");
    __asm__ volatile("fninit\n\tpcmpeqd %xmm15, %xmm15");
}

static bool can_run(const struct form *f)
{
    return !(f->flags & AVX2 && !avx2) && !(f->flags & AVX && !avx) &&
           !(f->flags & AVX512 && !avx512);
}

/* Low memory is mapped where it is, and not looked at here. */
static bool is_low(uint64_t at)
{
    return at < 0x100000000 && place_of(at) < 0;
}

static void sweep(uint64_t upper, unsigned level)
{
    for (unsigned g = 0; g < ARRAY_LEN(group); g++) {
        uint64_t neighbour = places[group[g]].at;
        uint64_t at = upper << 44 | (neighbour & 0xffffffff000) | (chance() & 0xc00);
        for (unsigned i = 0; i < ARRAY_LEN(forms) && !is_low(at); i++)
            if (can_run(&forms[i]))
                reach(&forms[i], level, at, neighbour);
    }
}

/* Every slot of 2^44 bytes that is canonical. */
static void canonical_slots(void)
{
    prepare();
    for (unsigned level = 0; level < 4; level += 3)
        for (unsigned slot = 0; slot < 16; slot++)
            sweep(slot < 8 ? slot : 0xffff0 | slot, level);
}

/* Bits 63:48 that are not copies of bit 47, one wrong bit at a time, and all. */
static void slots_that_are_not_canonical(void)
{
    prepare();
    for (unsigned level = 0; level < 4; level += 3) {
        for (unsigned bit = 48; bit < 64; bit++) {
            uint64_t slot = chance() & 15, right = slot < 8 ? slot : 0xffff0 | slot;
            sweep(right ^ 1u << (bit - 44), level);
        }
        sweep(0xffff0, level);
        sweep(0x0000f, level);
        sweep(0x00008, level);
        sweep(0xffff7, level);
    }
}

/* Every value of bits 63:44, with a load and a store by turns. */
static void all_slots(void)
{
    prepare();
    for (uint64_t upper = chance() % 61; upper < 1 << 20; upper += 61) {
        uint64_t neighbour = places[group[upper % ARRAY_LEN(group)]].at;
        uint64_t at = upper << 44 | (neighbour & 0xffffffff000) | 0x340;
        if (!is_low(at))
            reach(&forms[chance() % 16], chance() & 1 ? 3 : 0, at, neighbour);
    }
}

/* Random addresses: next to nothing is mapped. */
static void anywhere(void)
{
    prepare();
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at = chance() >> (chance() % 32) & ~63ull;
        if (chance() & 1)
            at = ~at & ~63ull;
        const struct form *f = &forms[chance() % ARRAY_LEN(forms)];
        if (can_run(f) && !is_low(at) && (at & 4095) < 4096 - 512)
            reach(f, chance() & 1 ? 3 : 0, at, places[0].at);
    }
}

/* ---- straddles ---- */

/* Two pages side by side whose frames are not, and nothing behind them. */
#define PAIR 0x0000600012340000ull

enum { LOW_FRAME = 2 * ARRAY_LEN(places), HIGH_FRAME = 0, ROOM = 256, BEFORE = 64 };

/* What an instruction leaves that looked at, or changed, the bytes round its operand. */
struct left {
    uint64_t vector, rip, cr2, rax, rdx;
    uint8_t bytes[ROOM], xmm[16];
};

static uint8_t *byte_at(uint64_t at)
{
    int place = place_of(at);
    uint8_t *page = place >= 0           ? frame_of((unsigned)place)
                    : (at ^ PAIR) < 4096 ? frame[LOW_FRAME]
                    : (at ^ PAIR) < 8192 ? frame[HIGH_FRAME]
                                         : NULL;
    return page ? page + (at & 4095) : NULL;
}

/* Runs a form with known bytes round its operand. */
static bool run_at(const struct form *f, unsigned level, uint64_t at, struct left *left)
{
    struct context c = at_level(level);
    *left = (struct left){0};
    if (!put_address(f, &c, at))
        return false;
    memset(scratch, 0xee, 64);
    for (unsigned i = 0; i < ROOM; i++)
        if (byte_at(at - BEFORE + i))
            *byte_at(at - BEFORE + i) = (uint8_t)(0x11 + 7 * i);
    c.r8 = at & ~4095ull;
    run_code(&c, f->code);
    *left = (struct left){.vector = c.vector, .rip = c.rip, .rax = c.rax, .rdx = c.rdx};
    left->cr2 = c.vector == PF ? read_cr2() : 0;
    for (unsigned i = 0; i < ROOM; i++)
        left->bytes[i] = byte_at(at - BEFORE + i) ? *byte_at(at - BEFORE + i) : 0;
    __asm__ volatile("movups %%xmm0, %0" : "=m"(left->xmm));
    return true;
}

static bool bytes_unchanged(const struct left *l, uint64_t at)
{
    for (unsigned i = 0; i < ROOM; i++)
        if (byte_at(at - BEFORE + i) && l->bytes[i] != (uint8_t)(0x11 + 7 * i))
            return false;
    return true;
}

/* Over two pages an instruction does what it does within one. */
static void check_over(const struct form *f, unsigned level, unsigned k)
{
    struct left in, over;
    uint64_t at = PAIR + 4096 - k;
    if (!run_at(f, level, PAIR + 512, &in) || !run_at(f, level, at, &over))
        return;
    if (over.vector != DONE)
        complain(f, level, at, "end", over.vector, DONE);
    if (in.rax != over.rax || in.rdx != over.rdx)
        complain(f, level, at, "RAX", over.rax, in.rax);
    for (unsigned i = 0; i < ROOM; i++)
        if (in.bytes[i] != over.bytes[i])
            complain(f, level, at - BEFORE + i, "byte", over.bytes[i], in.bytes[i]);
    if (memcmp(in.xmm, over.xmm, 16) != 0)
        complain(f, level, at, "XMM0", *(uint64_t *)over.xmm, *(uint64_t *)in.xmm);
}

/* The page behind is not there, or not canonical: nothing is changed in the first. */
static void check_into(const struct form *f, unsigned level, uint64_t end, unsigned k)
{
    struct left l;
    unsigned vector = canonical(end) ? PF : f->flags & ON_SS ? SS : GP;
    if (!run_at(f, level, end - k, &l))
        return;
    if (l.vector != vector || l.rip != (uint64_t)f->at)
        complain(f, level, end - k, "end", l.vector, vector);
    else if (vector == PF && l.cr2 != end)
        complain(f, level, end - k, "CR2", l.cr2, end);
    if (!(f->flags & LOOSE) && !bytes_unchanged(&l, end - k))
        complain(f, level, end - k, "changed", 1, 0);
}

/* At the top of the address space the next byte is at 0, or it faults; the processors differ. */
static void check_top(const struct form *f, unsigned level, unsigned k)
{
    struct left l;
    uint64_t at = 0ull - k;
    if (!run_at(f, level, at, &l))
        return;
    if (l.vector != DONE && l.vector != GP && l.vector != SS && l.vector != PF)
        complain(f, level, at, "end", l.vector, DONE);
    if (l.vector != DONE && !(f->flags & LOOSE) && !bytes_unchanged(&l, at))
        complain(f, level, at, "changed", 1, 0);
}

static void straddle(const struct form *f, unsigned level, unsigned k)
{
    check_over(f, level, k);
    check_into(f, level, PAIR + 8192, k);
    check_into(f, level, 0x0000800000000000, k);
    check_top(f, level, k);
}

static void straddles(void)
{
    prepare();
    map(PAIR, frame[LOW_FRAME], W | U);
    map(PAIR + 4096, frame[HIGH_FRAME], W | U);
    for (unsigned level = 0; level < 4; level += 3) {
        for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
            const struct form *f = &forms[i];
            if (f->size == 1 || f->flags & (ALIGNED | NO_HIT | NEVER) || !can_run(f))
                continue;
            straddle(f, level, 1);
            straddle(f, level, f->size / 2);
            straddle(f, level, f->size - 1);
        }
    }
}

const struct guest_test guest_tests[] = {
    {"pages that differ in upper bits only", canonical_slots},
    {"addresses that are not canonical", slots_that_are_not_canonical},
    {"all values of bits 63 to 44", all_slots},
    {"random addresses", anywhere},
    {"straddles", straddles},
    {NULL},
};
