/* The rig on a KVM that keeps the local APIC, whatever that KVM is worth. */
#ifndef DOPPEL_TEST_HARDWARE_APIC_RIG_H
#define DOPPEL_TEST_HARDWARE_APIC_RIG_H

#define RIG_ENGINE engine_hardware
#include "emulate_rig.h"
#include "engine/hardware/hardware.h"
#include "guest/lib/apic_registers.h"

#define XAPIC  UINT64_C(0xfee00900)
#define X2APIC (XAPIC | 1 << 10)

static const struct engine_apics *const apics = &hardware_apics;
static const char *why;

/* As the machine makes one, with the option for it. */
static inline bool open_rig(struct rig *r, const uint8_t *code, const uint8_t *end)
{
    static char text[512];
    const struct engine_tuning t = {.apics = ENGINE_APICS_KEPT};
    const struct x86_model *model = x86_model_find("x86-64-v2");
    struct error err = {0};
    r->vcpus = 1;
    bool made = engine_hardware.usable(text, sizeof text) &&
                memory_create(&r->memory, GUEST_MEMORY, &err) &&
                engine_hardware.vm_create(&r->vm, &r->memory, model, 1, &err) &&
                engine_hardware.tune(r->vm, &t, &err) &&
                engine_hardware.vcpu_create(&r->all[0], r->vm, 0, &r->host, &err);
    if (err.text[0])
        snprintf(text, sizeof text, "%s", err.text);
    why = text;
    if (!made)
        return false;
    r->vcpu = r->all[0];
    rig_long_mode(r, 0);
    CHECK(apics->kept(r->vm));
    return memory_write(&r->memory, GUEST, code, (uint64_t)(end - code));
}

#define OPEN(r, code)                                                                              \
    do {                                                                                           \
        (r)->host.pio_read = no_pio_read;                                                          \
        (r)->host.mmio_read = no_mmio_read;                                                        \
        (r)->host.mmio_write = no_mmio_write;                                                      \
        if (!open_rig(r, code, code##_end))                                                        \
            SKIP(why);                                                                             \
    } while (0)

CODE(endless, "1: pause; jmp 1b");

static inline uint32_t get(const struct engine_apic *a, unsigned reg)
{
    return load_u32(a->page + reg);
}

static inline void put(struct engine_apic *a, unsigned reg, uint32_t value)
{
    store_u32(a->page + reg, value);
}

static inline void set_bit(struct engine_apic *a, unsigned set, unsigned vector)
{
    unsigned reg = set + vector / 32 * 16;
    put(a, reg, get(a, reg) | 1u << vector % 32);
}

static inline bool has_bit(const struct engine_apic *a, unsigned set, unsigned vector)
{
    return get(a, set + vector / 32 * 16) >> vector % 32 & 1;
}

/* As after power-on, and turned on. */
static inline struct engine_apic fresh(uint64_t base)
{
    struct engine_apic a = {.base = base};
    put(&a, DFR, UINT32_MAX);
    put(&a, SVR, 0x1ff);
    for (unsigned reg = LVT_TIMER; reg <= LVT_ERROR; reg += 16)
        put(&a, reg, MASKED);
    put(&a, DIVIDE, BY_ONE);
    if (base & 1 << 10)
        put(&a, LDR, 1);
    return a;
}

static struct engine_vcpu *stopped;

static inline void stop_at_port(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    engine_hardware.stop(stopped);
}

#endif
