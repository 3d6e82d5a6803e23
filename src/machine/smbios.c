/*
 * SMBIOS tables (DMTF DSP0134, version 2.8): what `dmidecode` shows, and how a guest can tell that
 * it runs in Doppel.
 */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "machine/aml.h"
#include "machine/firmware.h"
#include "machine/map.h"

enum { ENTRY_SIZE = 31, ENTRY_SPACE = 32 };

/* A structure being written: header and fields, then its strings. */
struct structure {
    struct aml *out;
    size_t at;
};

static struct structure begin(struct aml *out, uint8_t type, uint16_t handle)
{
    struct structure s = {out, out->size};
    aml_byte(out, type);
    aml_byte(out, 0); /* length of the formatted part */
    aml_little(out, handle, 2);
    return s;
}

/* Ends the formatted part and appends strings, numbered from 1, up to a NULL. */
static void end(struct structure s, const char *const *strings)
{
    struct aml *a = s.out;
    if (!a->overflow)
        a->data[s.at + 1] = (uint8_t)(a->size - s.at);
    bool any = false;
    for (; *strings; strings++, any = true)
        aml_bytes(a, *strings, strlen(*strings) + 1);
    aml_little(a, 0, any ? 1 : 2);
}

#define STRINGS(...)                                                                               \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__ __VA_OPT__(, ) NULL                                                            \
    }

static void bios(struct aml *a)
{
    struct structure s = begin(a, 0, 0);
    aml_byte(a, 1);
    aml_byte(a, 2);
    aml_little(a, MAP_FIRMWARE >> 4, 2);
    aml_byte(a, 3);
    aml_byte(a, 0);             /* 64 KiB */
    aml_little(a, BIT(3), 8);   /* characteristics are not supported */
    aml_little(a, 0x1000, 2);   /* a virtual machine */
    aml_little(a, 0xff00ff, 4); /* release 0.255: not said */
    end(s, STRINGS("Doppel", "1", "01/01/2026"));
}

static void system_information(struct aml *a, const struct firmware_info *info)
{
    struct structure s = begin(a, 1, 0x100);
    for (uint8_t i = 1; i <= 3; i++)
        aml_byte(a, i);
    aml_byte(a, 0); /* serial number */
    aml_little(a, 0, 8);
    aml_little(a, 0, 8); /* UUID: not there */
    aml_byte(a, 6);      /* woken by the power switch */
    aml_byte(a, 4);      /* SKU: the machine's name */
    aml_byte(a, 0);
    end(s, STRINGS("Doppel", "Doppel PC", "1", info->name));
}

static void chassis(struct aml *a)
{
    struct structure s = begin(a, 3, 0x300);
    aml_byte(a, 1);
    aml_byte(a, 1);             /* other */
    aml_little(a, 0, 3);        /* version, serial number, asset tag */
    aml_little(a, 0x030303, 3); /* states: safe */
    aml_byte(a, 2);             /* security: unknown */
    aml_little(a, 0, 8);
    end(s, STRINGS("Doppel"));
}

static void processor(struct aml *a, unsigned index)
{
    struct structure s = begin(a, 4, (uint16_t)(0x400 + index));
    char socket[16];
    snprintf(socket, sizeof socket, "CPU %u", index);
    aml_byte(a, 1);
    aml_byte(a, 3); /* central processor */
    aml_byte(a, 1); /* family: other */
    aml_byte(a, 2);
    aml_little(a, 0, 8);            /* its CPUID: see CPUID */
    aml_byte(a, 0);                 /* version */
    aml_byte(a, 0);                 /* voltage */
    aml_little(a, 0, 6);            /* clocks: unknown */
    aml_byte(a, 0x41);              /* populated, enabled */
    aml_byte(a, 1);                 /* upgrade: other */
    aml_little(a, ~UINT64_C(0), 6); /* no cache structures */
    aml_little(a, 0, 3);
    aml_byte(a, 1); /* cores, enabled cores, threads */
    aml_byte(a, 1);
    aml_byte(a, 1);
    aml_little(a, BIT(2), 2); /* 64-bit capable */
    aml_little(a, 1, 2);      /* family 2: other */
    end(s, STRINGS(socket, "Doppel"));
}

/* The array and one module that is all of RAM, in KiB where they fit and in MiB. */
static void memory(struct aml *a, uint64_t bytes)
{
    struct structure s = begin(a, 16, 0x1000);
    aml_little(a, 0x030301, 3); /* other place; system memory; no ECC */
    aml_little(a, 0x80000000, 4);
    aml_little(a, 0xfffe, 2);
    aml_little(a, 1, 2);
    aml_little(a, bytes, 8);
    end(s, STRINGS());

    s = begin(a, 17, 0x1100);
    uint64_t mib = bytes >> 20;
    aml_little(a, 0x1000, 2);
    aml_little(a, 0xfffe, 2);
    aml_little(a, 64, 2);
    aml_little(a, 64, 2);
    aml_little(a, mib < 0x7fff ? mib : 0x7fff, 2);
    aml_byte(a, 9); /* DIMM */
    aml_byte(a, 0);
    aml_byte(a, 1);
    aml_byte(a, 0);
    aml_byte(a, 7); /* RAM */
    aml_little(a, BIT(1), 2);
    aml_little(a, 0, 2);
    aml_byte(a, 2);
    aml_little(a, 0, 4);
    aml_little(a, mib < 0x7fff ? 0 : mib, 4);
    aml_little(a, 0, 2);
    end(s, STRINGS("DIMM 0", "Doppel"));
}

static unsigned structures(struct aml *a, const struct firmware_info *info)
{
    bios(a);
    system_information(a, info);
    chassis(a);
    for (unsigned i = 0; i < info->cpus; i++)
        processor(a, i);
    memory(a, info->memory_low + info->memory_high);
    struct structure s = begin(a, 32, 0x2000); /* no boot errors */
    aml_little(a, 0, 7);
    end(s, STRINGS());
    s = begin(a, 127, 0x7f00);
    end(s, STRINGS());
    return 3 + info->cpus + 2 + 2;
}

/* The longest structure, for the entry point. */
static uint16_t longest(const uint8_t *p, size_t n)
{
    size_t max = 0;
    for (size_t at = 0; at < n;) {
        size_t next = at + p[at + 1];
        while (p[next] || p[next + 1])
            next++;
        next += 2;
        max = next - at > max ? next - at : max;
        at = next;
    }
    return (uint16_t)max;
}

void smbios_build(struct aml *out, uint32_t gpa, const struct firmware_info *info)
{
    size_t entry = out->size, table = entry + ENTRY_SPACE;
    for (unsigned i = 0; i < ENTRY_SPACE; i++)
        aml_byte(out, 0);
    unsigned n = structures(out, info);
    if (out->overflow)
        return;
    uint8_t *e = out->data + entry;
    size_t size = out->size - table;
    memcpy(e, "_SM_", 4);
    e[5] = ENTRY_SIZE;
    e[6] = 2;
    e[7] = 8;
    store_u16(e + 8, longest(out->data + table, size));
    memcpy(e + 16, "_DMI_", 5);
    store_u16(e + 22, (uint16_t)size);
    store_u32(e + 24, gpa + ENTRY_SPACE);
    store_u16(e + 28, (uint16_t)n);
    e[30] = 0x28;
    e[21] = firmware_checksum(e + 16, ENTRY_SIZE - 16);
    e[4] = firmware_checksum(e, ENTRY_SIZE);
}
