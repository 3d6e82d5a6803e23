/*
 * What a guest gets under `--cpu host` where KVM has it, beside the instructions that the model has
 * (x86/cpuid_host.c): performance counters (SDM 3, "Architectural Performance Monitoring") and VMX,
 * with which it can run virtual machines itself.
 *
 * The neutral state has no place for what they hold. That stays with KVM from the vCPU's making on,
 * which such a guest never leaves; its registers are KVM's, and only a reset writes them.
 */
#ifndef DOPPEL_ENGINE_HARDWARE_OFFER_H
#define DOPPEL_ENGINE_HARDWARE_OFFER_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "x86/cpuid.h"

/* All zeros: nothing. */
struct offer {
    uint32_t pmu[4]; /* leaf 0AH: EAX, EBX, ECX, EDX */
    bool vmx;
};

/* What KVM says it has (KVM_GET_SUPPORTED_CPUID) and a guest with this model can use. For a KVM
 * that runs all of the guest, and keeps the local APICs: counters interrupt through those, and an
 * interrupt has to find out whether it is the guest's or that of a guest in it. */
struct offer offer_find(const struct kvm_cpuid2 *supported, const struct x86_model *model);

static inline bool offer_has_pmu(const struct offer *o)
{
    return o->pmu[0] != 0;
}

/* "performance counters and VMX", or the one or the other; NULL: nothing. */
const char *offer_name(const struct offer *o);

/* Adds it to what KVM is told of a leaf. */
void offer_tell(const struct offer *o, struct kvm_cpuid_entry2 *leaf);

/* Runs of model-specific registers that are KVM's therefore. */
struct offer_msrs {
    uint32_t first, count;
    bool read_only; /* what is written is the machine's */
};
enum { OFFER_RUNS = 7 };
/* Returns how many there are. */
unsigned offer_msrs(const struct offer *o, struct offer_msrs to[OFFER_RUNS]);
/* Whether reading and writing it is KVM's. */
bool offer_has_msr(const struct offer *o, uint32_t msr);
/* Bits that IA32_MISC_ENABLE has besides. */
uint64_t offer_misc_enable(const struct offer *o);

/* What to write, in this order, that these registers are as after a reset and the firmware's work,
 * and that a processor which runs a virtual machine no more does. Returns how many there are. */
enum { OFFER_RESETS = 32 };
unsigned offer_reset(const struct offer *o, struct kvm_msr_entry to[OFFER_RESETS]);

#endif
