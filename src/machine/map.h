/*
 * Where things are in a Doppel PC, as far as the chips' own headers do not say it: firmware's part
 * of memory, windows, interrupts. docs/machine.md has the whole map as tables.
 */
#ifndef DOPPEL_MACHINE_MAP_H
#define DOPPEL_MACHINE_MAP_H

#include <stdint.h>

/* ---- guest-physical memory below 1 MiB ---- */

#define MAP_VECTORS      UINT32_C(0x0)     /* the real-mode interrupt vectors */
#define MAP_BDA          UINT32_C(0x400)   /* BIOS data area */
#define MAP_EBDA         UINT32_C(0x9fc00) /* extended: 1 KiB, the end of low RAM */
#define MAP_VIDEO        UINT32_C(0xa0000) /* no adapter: RAM, reserved in the memory map */
#define MAP_FIRMWARE     UINT32_C(0xe0000) /* tables and stubs, to 1 MiB; RAM */
#define MAP_FIRMWARE_END UINT32_C(0x100000)
#define MAP_ACPI         UINT32_C(0xe0000) /* RSDP and the ACPI tables */
#define MAP_MPTABLE      UINT32_C(0xf0000)
#define MAP_SMBIOS       UINT32_C(0xf2000)
#define MAP_STUBS        UINT32_C(0xff000) /* real-mode code behind vectors and reset */

/* PCI memory that RAM never reaches; pci.h says where firmware puts BARs in it. */
#define MAP_PCI_LOW      UINT32_C(0xc0000000)
#define MAP_PCI_LOW_LAST UINT32_C(0xdfffffff)

/* ---- ports and interrupts that no chip's header names ---- */

enum {
    PORT_COM1 = 0x3f8,

    IRQ_TIMER = 0, /* I/O APIC: pin 2 */
    IRQ_KEYBOARD = 1,
    IRQ_CASCADE = 2,
    IRQ_COM1 = 4,
    IRQ_RTC = 8,
    IRQ_MOUSE = 12,
    IRQ_FPU = 13,

    GSI_TIMER = 2,
    GSI_PCI = 16, /* PIRQA to PIRQH as the I/O APIC sees them */
    MAP_IOAPIC_ID = 0,
};

#endif
