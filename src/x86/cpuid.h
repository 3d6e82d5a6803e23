/*
 * What the guest is told its processor is: models, features, CPUID (SDM 2, CPUID; SDM 1, ch. 20).
 */
#ifndef DOPPEL_X86_CPUID_H
#define DOPPEL_X86_CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct x86_cpu;

/* Words of feature bits: the CPUID registers that hold nothing else. */
enum x86_feature_word {
    X86_WORD_1_EDX,
    X86_WORD_1_ECX,
    X86_WORD_7_EBX,
    X86_WORD_7_ECX,
    X86_WORD_7_EDX,
    X86_WORD_7_1_EAX,
    X86_WORD_7_2_EDX,
    X86_WORD_D_1_EAX,
    X86_WORD_80000001_EDX,
    X86_WORD_80000001_ECX,
    X86_WORD_80000007_EDX,
    X86_WORD_6_EAX,
    X86_FEATURE_WORDS
};

/* Where the time-stamp counter comes from. */
enum x86_tsc {
    X86_TSC_OWN,   /* it counts guest time */
    X86_TSC_HOST,  /* it is the host's, at its rate, moved by what the guest writes */
    X86_TSC_FIXED, /* it is the host's as it is: writes to it are lost */
};

enum { X86_NATIVE_WORDS = 2 };

struct x86_model {
    const char *name;    /* as --cpu takes it */
    const char *summary; /* one line for a list */
    const char *vendor;  /* 12 characters */
    char brand[48];
    uint8_t family, model, stepping;
    uint8_t physical_bits, linear_bits;
    enum x86_tsc tsc;
    uint64_t tsc_hz;     /* the time-stamp counter's rate */
    uint64_t crystal_hz; /* CPUID 15h; the local APIC's timer counts at this rate (SDM 3, 10.5.4) */
    uint64_t arch_capabilities; /* the MSR */
    uint64_t xcr0;              /* what XCR0 may hold */
    uint32_t features[X86_FEATURE_WORDS];
    bool host; /* the host's processor adds to it: x86_model_add_host() */
    /* Features (enum x86_feature, a bit each) whose instructions have no semantics in x86/sem and
     * are executed by the host's processor (native.h). */
    uint64_t native[X86_NATIVE_WORDS];
};

/* The model of that name, or NULL. The first one, of index 0, is the default; NULL ends the list.
 */
const struct x86_model *x86_model_find(const char *name);
const struct x86_model *x86_model_at(unsigned index);

/* Adds to a model that asks for it (`host`) what this host's processor has beyond the models: user
 * instructions, their registers, and the name (cpuid_host.c). */
void x86_model_add_host(struct x86_model *m);

/* CPUID as the vCPU executes it; out is EAX, EBX, ECX, EDX. */
void x86_cpuid(const struct x86_cpu *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* A feature by the name that Linux's /proc/cpuinfo gives it ("smap", "sse4_1", "lm"). An unknown
 * name is a feature the model lacks. */
bool x86_model_has(const struct x86_model *m, const char *feature);

/* CPUID.1:EAX, and EDX after reset: family, model and stepping (below family 15 and model 256). */
static inline uint32_t x86_model_signature(const struct x86_model *m)
{
    return (uint32_t)(m->model >> 4) << 16 | (uint32_t)m->family << 8 |
           (uint32_t)(m->model & 15) << 4 | m->stepping;
}

/* MAXPHYADDR. */
static inline unsigned x86_physical_bits(const struct x86_model *m)
{
    return m->physical_bits;
}

/* Bytes that an XSAVE area for these components takes: the standard form, and the compacted one
 * (SDM 1, 13.4). */
uint32_t x86_xsave_size(uint64_t xcr0);
uint32_t x86_xsavec_size(uint64_t xcr0);

#endif
