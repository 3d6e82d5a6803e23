/*
 * A rig to run guest code on an engine (the emulating one) without a machine: 64-bit code at GUEST,
 * memory mapped one to one, CPL 0, no devices. Guests are assembled in the test's own source and
 * end with HLT.
 */
#ifndef DOPPEL_TEST_EMULATE_RIG_H
#define DOPPEL_TEST_EMULATE_RIG_H

#include <stdlib.h>

#include "engine/engine.h"
#include "memory/memory.h"
#include "test.h"
#include "x86/cpuid.h"
#include "x86/state.h"

#ifndef RIG_ENGINE
#define RIG_ENGINE engine_emulate
#endif

#define GUEST        UINT64_C(0x10000)
#define STACK        UINT64_C(0x80000)
#define TABLES       UINT64_C(0x1000)
#define GUEST_MEMORY (UINT64_C(64) << 20)

/* CODE(name, "text") assembles guest code between name and name_end. */
#define CODE(name, text)                                                                           \
    extern const uint8_t name[], name##_end[];                                                     \
    __asm__(".pushsection .rodata\n.code64\n" #name ":\n" text "\nhlt\n" #name                     \
            "_end:\n.popsection\n")

enum { RIG_VCPUS = 4 };

struct rig {
    struct memory memory;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu; /* the first */
    struct engine_vcpu *all[RIG_VCPUS];
    unsigned vcpus;
    struct x86_host host;
};

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

static void rig_segment(struct x86_segment *s, uint16_t selector, uint32_t attr)
{
    *s = (struct x86_segment){.limit = UINT32_MAX, .attr = attr, .selector = selector};
}

/* Long mode at CPL 0, the first GiB mapped one to one in pages of 2 MiB. */
static void rig_long_mode(struct rig *r, unsigned index)
{
    uint64_t top = (TABLES + 0x1000) | 7, next = (TABLES + 0x2000) | 7;
    memory_write(&r->memory, TABLES, &top, 8);
    memory_write(&r->memory, TABLES + 0x1000, &next, 8);
    for (uint64_t i = 0, page = 0x87; i < 512; i++, page += 2 << 20)
        memory_write(&r->memory, TABLES + 0x2000 + 8 * i, &page, 8);
    struct x86_state s;
    RIG_ENGINE.get_state(r->all[index], &s);
    rig_segment(&s.seg[X86_CS], 8, SEG_CODE | SEG_WRITABLE | SEG_ACCESSED | SEG_S | SEG_P | SEG_L);
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        if (i != X86_CS)
            rig_segment(&s.seg[i], 16,
                        SEG_WRITABLE | SEG_ACCESSED | SEG_S | SEG_P | SEG_DB | SEG_G);
    s.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP;
    s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    s.cr3 = TABLES;
    s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    s.rip = GUEST;
    s.gpr[X86_RSP] = STACK + index * 0x1000;
    s.activity = X86_ACTIVE;
    RIG_ENGINE.set_state(r->all[index], &s);
}

static bool rig_open_many(struct rig *r, unsigned vcpus, const uint8_t *code, const uint8_t *end)
{
    struct error err;
    *r = (struct rig){.vcpus = vcpus,
                      .host = {.pio_read = no_pio_read,
                               .pio_write = no_pio_write,
                               .mmio_read = no_mmio_read,
                               .mmio_write = no_mmio_write,
                               .interrupt_acknowledge = no_interrupt}};
    bool made = memory_create(&r->memory, GUEST_MEMORY, &err) &&
                RIG_ENGINE.vm_create(&r->vm, &r->memory, x86_model_find("x86-64-v2"), vcpus, &err);
    for (unsigned i = 0; made && i < vcpus; i++) {
        made = RIG_ENGINE.vcpu_create(&r->all[i], r->vm, i, &r->host, &err);
        if (made)
            rig_long_mode(r, i);
    }
    r->vcpu = r->all[0];
    if (!made)
        printf("# %s\n", err.text);
    return made && memory_write(&r->memory, GUEST, code, (uint64_t)(end - code));
}

static inline bool rig_open(struct rig *r, const uint8_t *code, const uint8_t *end)
{
    return rig_open_many(r, 1, code, end);
}

static inline void rig_close(struct rig *r)
{
    for (unsigned i = 0; i < r->vcpus; i++)
        RIG_ENGINE.vcpu_destroy(r->all[i]);
    RIG_ENGINE.vm_destroy(r->vm);
    memory_destroy(&r->memory);
}

static inline struct x86_state rig_state(struct rig *r)
{
    struct x86_state s;
    RIG_ENGINE.get_state(r->vcpu, &s);
    return s;
}

/* The first vCPU goes on as the only one of a new machine, of that model and with what r->host has
 * become: engines take both when it is made. */
static inline bool rig_remake(struct rig *r, const struct x86_model *model)
{
    struct error err;
    struct x86_state s = rig_state(r);
    RIG_ENGINE.vcpu_destroy(r->vcpu);
    RIG_ENGINE.vm_destroy(r->vm);
    if (!RIG_ENGINE.vm_create(&r->vm, &r->memory, model, 1, &err) ||
        !RIG_ENGINE.vcpu_create(&r->vcpu, r->vm, 0, &r->host, &err))
        return false;
    r->all[0] = r->vcpu;
    RIG_ENGINE.set_state(r->vcpu, &s);
    return true;
}

/* An external interrupt that another engine has accepted, for a handler `handler` bytes behind the
 * code's first: as the state says it. */
static inline struct x86_state rig_state_with_event(struct rig *r, unsigned handler)
{
    enum { VECTOR = 0x21, IDT = 0x20000, GDT = TABLES + 0x3000 };
    uint64_t at = GUEST + handler;
    uint64_t gate[2] = {(at & 0xffff) | 8u << 16 | UINT64_C(0x8e00) << 32 | at >> 16 << 48, 0};
    uint64_t code_segment = UINT64_C(0x00af9b000000ffff);
    memory_write(&r->memory, IDT + VECTOR * sizeof gate, gate, sizeof gate);
    memory_write(&r->memory, GDT + 8, &code_segment, sizeof code_segment);
    struct x86_state s = rig_state(r);
    s.idtr = (struct x86_table){.base = IDT, .limit = 0xfff};
    s.gdtr = (struct x86_table){.base = GDT, .limit = 0xf};
    s.event_pending = true;
    s.event_vector = VECTOR;
    s.event_type = 0;
    return s;
}

#endif
