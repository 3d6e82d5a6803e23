/*
 * What a PC's firmware leaves in memory for the operating system: ACPI tables, the MP table, SMBIOS
 * tables, the BIOS data area and stubs for real-mode code that expects a BIOS to be there. There is
 * no firmware; these are its traces.
 */
#ifndef DOPPEL_MACHINE_FIRMWARE_H
#define DOPPEL_MACHINE_FIRMWARE_H

#include <stdint.h>

#include "base/error.h"
#include "memory/memory.h"

struct firmware_info {
    const char *name; /* of the machine */
    unsigned cpus;
    uint64_t memory_low, memory_high; /* RAM below and from 4 GiB */
};

struct aml;

/* Writes everything. False when the tables do not fit. */
bool firmware_write(struct memory *m, const struct firmware_info *info, struct error *err);

/* What firmware leaves in every processor: memory types (the MTRRs). */
struct x86_state;
void firmware_processor(struct x86_state *s, unsigned physical_bits);

/* Each builds its tables in a buffer that will be at guest-physical address gpa. */
void acpi_build(struct aml *out, uint32_t gpa, const struct firmware_info *info);
void mptable_build(struct aml *out, uint32_t gpa, const struct firmware_info *info);
void smbios_build(struct aml *out, uint32_t gpa, const struct firmware_info *info);

/* The definition block's body (acpi_dsdt.c). */
void acpi_dsdt(struct aml *out, const struct firmware_info *info);

/* The byte that makes the sum of n bytes and itself 0. */
uint8_t firmware_checksum(const uint8_t *bytes, uint64_t n);

#endif
