/*
 * A guest in long mode: the cases' pages for CPL 3, and above them, for CPL 0 alone, descriptor
 * tables, an IDT whose gates all lead to HLTs, and the stack that exceptions are delivered on.
 */
#include "emulated.h"

#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "memory/memory.h"
#include "x86/cpuid.h"

/* Guest-physical pages. */
enum {
    TABLES = 0x10000, /* the page map; further tables follow */
    SYSTEM = 0x40000, /* what CPL 0 has */
    GDT = SYSTEM,
    LDT = SYSTEM + 0x200,
    TSS = SYSTEM + 0x400,
    STUBS = SYSTEM + 0x600, /* 256 HLTs */
    IDT = SYSTEM + 0x1000,
    STACK = SYSTEM + 0x2000,
    STACK_TOP = SYSTEM + 0x3000,
    SYSTEM_SIZE = 0x3000,
    DATA = 0x50000,
    CODE = 0x60000,
    LEAD_IN = 0x70000,
    RAM = 1 << 20,
};

/* Where the system pages are in linear memory: at their guest-physical address from here. */
#define HIGH UINT64_C(0xffffffff80000000)

/* Where no case has anything: a NOP, and a jump to the case. An engine that runs code as it is
 * looks at what the last case has left to be looked at before the first instruction, which it
 * emulates then; that is to be none of the case's. */
#define LEAD_IN_AT UINT64_C(0x5abc0000)

/* Selectors at CPL 0. */
enum { KERNEL_CS = 0x10, KERNEL_DS = 0x18, TSS_SELECTOR = 0x40, LDT_SELECTOR = 0x50 };

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40 };
#define PTE_NX (UINT64_C(1) << 63)

/* More instructions than any case takes. */
enum { INSNS = 100000 };

struct emulated {
    const struct engine *engine;
    struct x86_model model;
    struct memory memory;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu;
    const struct case_pattern *pattern;
    struct x86_state start[2]; /* 32-bit and 64-bit code */
    uint64_t next_table;
};

/* ---- the guest's memory ---- */

static void write64(struct emulated *e, uint64_t gpa, uint64_t v)
{
    memory_write(&e->memory, gpa, &v, 8);
}

static uint64_t read64(struct emulated *e, uint64_t gpa)
{
    uint64_t v = 0;
    memory_read(&e->memory, gpa, &v, 8);
    return v;
}

static void map_page(struct emulated *e, uint64_t lin, uint64_t gpa, uint64_t rights)
{
    uint64_t table = TABLES;
    for (unsigned shift = 39; shift > 12; shift -= 9) {
        uint64_t at = table + (lin >> shift & 511) * 8, entry = read64(e, at);
        if (!entry) {
            entry = e->next_table | PTE_P | PTE_W | PTE_U | PTE_A;
            e->next_table += 4096;
            write64(e, at, entry);
        }
        table = entry & ~UINT64_C(0xfff);
    }
    write64(e, table + (lin >> 12 & 511) * 8, gpa | rights | PTE_P | PTE_A | PTE_D);
}

static void map_pages(struct emulated *e, uint64_t lin, uint64_t gpa, uint64_t size,
                      uint64_t rights)
{
    for (uint64_t i = 0; i < size; i += 4096)
        map_page(e, lin + i, gpa + i, rights);
}

/* ---- descriptors ---- */

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(attr >> 12 & 15) << 52 |
           (uint64_t)(base >> 24) << 56;
}

static void system_descriptor(struct emulated *e, unsigned selector, uint64_t base, uint32_t limit,
                              uint32_t attr)
{
    write64(e, GDT + selector, descriptor((uint32_t)base, limit, attr));
    write64(e, GDT + selector + 8, base >> 32);
}

/* Linux's GDT, so that LAR and LSL see the same. */
static void write_gdt(struct emulated *e, bool segments)
{
    static const struct {
        unsigned selector;
        uint64_t value;
    } entries[] = {{0x08, 0x00cf9b000000ffff},      {KERNEL_CS, 0x00af9b000000ffff},
                   {KERNEL_DS, 0x00cf93000000ffff}, {0x20, 0x00cffb000000ffff},
                   {0x28, 0x00cff3000000ffff},      {0x30, 0x00affb000000ffff},
                   {0x78, 0x0040f50000000000}};
    for (unsigned i = 0; i < ARRAY_LEN(entries); i++)
        write64(e, GDT + entries[i].selector, entries[i].value);
    system_descriptor(e, TSS_SELECTOR, HIGH + TSS, 0x67, 0x8b);
    system_descriptor(e, LDT_SELECTOR, HIGH + LDT, 15, 0x82);
    if (segments) {
        write64(e, LDT,
                descriptor((uint32_t)CASE_FS32_BASE, CASE_WRITABLE - 1, SEG_AVL | SEG_DB | 0xf3));
        write64(e, LDT + 8,
                descriptor((uint32_t)CASE_GS32_BASE, 0xfffff, SEG_AVL | SEG_G | SEG_DB | 0xf1));
    }
}

/* Every vector has a gate to its own HLT; #BP and #OF can be asked for at CPL 3. */
static void write_idt(struct emulated *e)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t to = HIGH + STUBS + i, dpl = i == X86_BP || i == X86_OF ? 3 : 0;
        write64(e, IDT + 16 * i,
                (to & 0xffff) | KERNEL_CS << 16 | (uint64_t)0x8e << 40 | dpl << 45 |
                    (to >> 16 & 0xffff) << 48);
        write64(e, IDT + 16 * i + 8, to >> 32);
    }
    memory_fill(&e->memory, STUBS, 0xf4, 256);
}

static void write_system(struct emulated *e, bool segments)
{
    write_gdt(e, segments);
    write_idt(e);
    uint64_t rsp0 = HIGH + STACK_TOP;
    uint16_t io_map = 0x68;
    memory_write(&e->memory, TSS + 4, &rsp0, 8);
    memory_write(&e->memory, TSS + 102, &io_map, 2);
    map_pages(e, HIGH + SYSTEM, SYSTEM, SYSTEM_SIZE, PTE_W);
    map_pages(e, CASE_DATA, DATA, CASE_WRITABLE, PTE_W | PTE_U | PTE_NX);
    map_pages(e, CASE_DATA + CASE_WRITABLE, DATA + CASE_WRITABLE, CASE_PAGE, PTE_U | PTE_NX);
    map_pages(e, CASE_CODE, CODE, CASE_CODE_SIZE, PTE_U);
    map_page(e, LEAD_IN_AT, LEAD_IN, PTE_U);
    memory_fill(&e->memory, CODE, 0xcc, CASE_CODE_SIZE);
}

/* ---- the state that cases begin in ---- */

static struct x86_segment segment(uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr)
{
    return (struct x86_segment){
        .base = base, .limit = limit, .attr = attr | SEG_P | SEG_ACCESSED, .selector = selector};
}

static void make_start(struct x86_state *s, bool wide, bool segments)
{
    const uint32_t data = SEG_S | 3 << SEG_DPL_SHIFT | SEG_WRITABLE | SEG_DB;
    const uint32_t code = SEG_S | 3 << SEG_DPL_SHIFT | SEG_CODE | SEG_WRITABLE | SEG_G;
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        s->seg[i] = segment(CASE_DS, 0, UINT32_MAX, data | SEG_G);
    s->seg[X86_CS] = wide ? segment(CASE_CS64, 0, UINT32_MAX, code | SEG_L)
                          : segment(CASE_CS32, 0, UINT32_MAX, code | SEG_DB);
    s->seg[X86_FS] = (struct x86_segment){.attr = SEG_UNUSABLE};
    s->seg[X86_GS] = (struct x86_segment){.attr = SEG_UNUSABLE};
    if (wide) {
        s->seg[X86_FS].base = CASE_FS64_BASE;
        s->seg[X86_GS].base = CASE_GS64_BASE;
    } else if (segments) {
        s->seg[X86_FS] = segment(CASE_FS32, CASE_FS32_BASE, CASE_WRITABLE - 1, data);
        s->seg[X86_GS] = segment(CASE_GS32, CASE_GS32_BASE, UINT32_MAX,
                                 (data | SEG_G) & ~(uint32_t)SEG_WRITABLE);
    }
    s->tr = segment(TSS_SELECTOR, HIGH + TSS, 0x67, 0xb);
    s->ldtr = segment(LDT_SELECTOR, HIGH + LDT, 15, 2);
    s->ldtr.attr &= ~(uint32_t)SEG_ACCESSED;
    s->gdtr = (struct x86_table){HIGH + GDT, 127};
    s->idtr = (struct x86_table){HIGH + IDT, 4095};
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    s->cr3 = TABLES;
    s->cr4 = CR4_PAE | CR4_PGE | CR4_DE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_OSXSAVE |
             CR4_SMEP | CR4_SMAP | CR4_UMIP;
    s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
}

/* ---- setting up ---- */

static uint32_t no_pio_read(void *ctx, uint16_t port, unsigned size)
{
    return UINT32_MAX;
}
static void no_pio_write(void *ctx, uint16_t port, unsigned size, uint32_t value) {}
static uint64_t no_mmio_read(void *ctx, uint64_t gpa, unsigned size)
{
    return UINT64_MAX;
}
static void no_mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value) {}
static int no_interrupt(void *ctx)
{
    return -1;
}

bool emulated_open(struct emulated **out, const struct engine *engine, const char *model,
                   const struct case_pattern *pattern, bool segments, bool avx, struct error *err)
{
    static const struct x86_host host = {.pio_read = no_pio_read,
                                         .pio_write = no_pio_write,
                                         .mmio_read = no_mmio_read,
                                         .mmio_write = no_mmio_write,
                                         .interrupt_acknowledge = no_interrupt};
    struct emulated *e = calloc(1, sizeof *e);
    *out = e;
    if (!e)
        return error_set(err, "no memory");
    e->engine = engine;
    e->model = *x86_model_find(model);
    x86_model_add_host(&e->model);
    if ((engine->limit && !engine->limit(&e->model, err)) || !memory_create(&e->memory, RAM, err) ||
        !e->engine->vm_create(&e->vm, &e->memory, &e->model, 1, err) ||
        !e->engine->vcpu_create(&e->vcpu, e->vm, 0, &host, err))
        return false;
    e->pattern = pattern;
    e->next_table = TABLES + 4096;
    write_system(e, segments);
    for (unsigned wide = 0; wide < 2; wide++) {
        e->engine->get_state(e->vcpu, &e->start[wide]);
        make_start(&e->start[wide], wide, segments);
        e->start[wide].xcr0 =
            XCR0_X87 | XCR0_SSE | (avx ? XCR0_AVX : 0) | (avx ? e->model.xcr0 & XCR0_AVX512 : 0);
    }
    return true;
}

void emulated_close(struct emulated *e)
{
    e->engine->vcpu_destroy(e->vcpu);
    e->engine->vm_destroy(e->vm);
    memory_destroy(&e->memory);
    free(e);
}

/* ---- x87, SSE and AVX state ---- */

static void load_fx(struct x86_state *s, const uint8_t *fx)
{
    s->fcw = load_u16(fx + FX_FCW);
    s->fsw = load_u16(fx + FX_FSW);
    s->ftag = fx[FX_FTW];
    s->fop = load_u16(fx + FX_FOP);
    s->fip = load_u64(fx + FX_FIP);
    s->fdp = load_u64(fx + FX_FDP);
    s->mxcsr = load_u32(fx + FX_MXCSR);
    for (unsigned i = 0; i < 8; i++) {
        struct x86_f80 *st = &s->st[((s->fsw >> 11) + i) & 7];
        st->mantissa = load_u64(fx + FX_ST + 16 * i);
        st->se = load_u16(fx + FX_ST + 16 * i + 8);
    }
    for (unsigned i = 0; i < 16; i++)
        memcpy(&s->vec[i], fx + FX_XMM + 16 * i, 16);
}

static void store_fx(const struct x86_state *s, uint8_t *fx)
{
    memset(fx, 0, CASE_FX);
    store_u16(fx + FX_FCW, s->fcw);
    store_u16(fx + FX_FSW, s->fsw);
    fx[FX_FTW] = s->ftag;
    store_u16(fx + FX_FOP, s->fop);
    store_u64(fx + FX_FIP, s->fip);
    store_u64(fx + FX_FDP, s->fdp);
    store_u32(fx + FX_MXCSR, s->mxcsr);
    for (unsigned i = 0; i < 8; i++) {
        const struct x86_f80 *st = &s->st[((s->fsw >> 11) + i) & 7];
        store_u64(fx + FX_ST + 16 * i, st->mantissa);
        store_u16(fx + FX_ST + 16 * i + 8, st->se);
    }
    for (unsigned i = 0; i < 16; i++)
        memcpy(fx + FX_XMM + 16 * i, &s->vec[i], 16);
}

/* ---- a case ---- */

static void put_memory(struct emulated *e, const struct silicon_case *c)
{
    uint8_t *data = memory_hva(&e->memory, DATA);
    memcpy(data, e->pattern->bytes, CASE_READABLE);
    for (unsigned i = 0; i < c->patches; i++)
        memcpy(data + c->patch[i].at, c->patch[i].bytes, c->patch[i].size);
}

static void put_code(struct emulated *e, const struct silicon_case *c, bool in)
{
    uint64_t at = c->before.rip - CASE_CODE, room = CASE_CODE_SIZE - at;
    uint64_t n = c->len < room ? c->len : room;
    if (in)
        memory_write(&e->memory, CODE + at, c->bytes, n);
    else
        memory_fill(&e->memory, CODE + at, 0xcc, n);
}

/* Where to begin: at the case, or at what leads in to it. */
static uint64_t begin_at(struct emulated *e, const struct silicon_case *c)
{
    uint8_t code[6] = {0x90, 0xe9};
    if (e->engine == &engine_emulate || c->code != X86_CODE64 ||
        (c->before.rflags & (FLAG_TF | FLAG_RF)))
        return c->before.rip;
    store_u32(code + 2, (uint32_t)(c->before.rip - (LEAD_IN_AT + sizeof code)));
    memory_write(&e->memory, LEAD_IN, code, sizeof code);
    return LEAD_IN_AT;
}

static bool has_error_code(unsigned vector)
{
    return vector == X86_DF || (vector >= X86_TS && vector <= X86_PF) || vector == X86_AC;
}

/* What the exception's delivery has left on the stack. */
static bool read_end(struct emulated *e, const struct x86_state *s, struct case_end *end)
{
    uint64_t vector = s->rip - 1 - (HIGH + STUBS);
    if (vector > 255)
        return false;
    uint64_t frame = s->gpr[X86_RSP] - HIGH;
    *end =
        (struct case_end){.vector = (uint32_t)vector, .no_pointers = e->engine != &engine_emulate};
    if (has_error_code(end->vector)) {
        end->error = (uint32_t)read64(e, frame);
        frame += 8;
    }
    end->cr2 = end->vector == X86_PF ? s->cr2 : 0;
    memcpy(end->after.gpr, s->gpr, sizeof end->after.gpr);
    end->after.rip = read64(e, frame);
    end->after.rflags = read64(e, frame + 16);
    end->after.gpr[X86_RSP] = read64(e, frame + 24);
    store_fx(s, end->after.fx);
    for (unsigned i = 0; i < 16; i++)
        memcpy(end->after.upper + 16 * i, &s->vec[i].u8[16], 16);
    memcpy(end->after.masks, s->opmask, CASE_MASKS);
    memcpy(end->after.zmm_upper, s->zmm_upper, CASE_ZMM_UPPER);
    memcpy(end->after.zmm_more, s->zmm_more, CASE_ZMM_MORE);
    return true;
}

bool emulated_run(struct emulated *e, const struct silicon_case *c, struct case_end *end,
                  const uint8_t **data, const char **why)
{
    struct x86_state s = e->start[c->code == X86_CODE64];
    memcpy(s.gpr, c->before.gpr, sizeof c->before.gpr);
    s.rip = begin_at(e, c);
    s.rflags = c->before.rflags;
    load_fx(&s, c->before.fx);
    for (unsigned i = 0; i < 16; i++)
        memcpy(&s.vec[i].u8[16], c->before.upper + 16 * i, 16);
    memcpy(s.opmask, c->before.masks, CASE_MASKS);
    memcpy(s.zmm_upper, c->before.zmm_upper, CASE_ZMM_UPPER);
    memcpy(s.zmm_more, c->before.zmm_more, CASE_ZMM_MORE);
    put_memory(e, c);
    put_code(e, c, true);
    e->engine->set_state(e->vcpu, &s);
    uint64_t limit = e->engine->instructions(e->vcpu) + INSNS;
    enum engine_exit exit = e->engine->run(e->vcpu, limit);
    e->engine->get_state(e->vcpu, &s);
    put_code(e, c, false);
    *data = memory_hva(&e->memory, DATA);
    *why = exit == ENGINE_SHUTDOWN ? "the engine shut down"
           : exit == ENGINE_LIMIT  ? "the engine did not come to an end"
                                   : "the engine halted elsewhere";
    return exit == ENGINE_HALTED && read_end(e, &s, end);
}
