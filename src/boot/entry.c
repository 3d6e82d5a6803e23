#include "boot/entry.h"

#include "base/bits.h"
#include "boot/place.h"
#include "x86/state.h"

/* Selectors of the Linux boot protocol; the others leave them free. */
enum { SELECTOR_CODE = 0x10, SELECTOR_DATA = 0x18, SELECTOR_TSS = 0x20 };

enum {
    ATTR_CODE = SEG_G | SEG_P | SEG_S | SEG_CODE | SEG_WRITABLE | SEG_ACCESSED,
    ATTR_CODE32 = ATTR_CODE | SEG_DB,
    ATTR_CODE64 = ATTR_CODE | SEG_L,
    ATTR_DATA = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED,
    ATTR_TSS = SEG_P | 0xb, /* busy, of the 386 */
    ATTR_LDT = SEG_P | 0x2,
    ATTR_REAL_CODE = SEG_P | SEG_S | SEG_CODE | SEG_WRITABLE | SEG_ACCESSED,
    ATTR_REAL_DATA = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED,
};

/* A descriptor of base 0 (SDM 3, 3.4.5): limit is in its own units. */
static uint64_t descriptor(uint32_t attr, uint32_t limit)
{
    return (uint64_t)(limit & 0xffff) | (uint64_t)(attr & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 0xf) << 48;
}

static void write_gdt(struct memory *memory, struct x86_state *state, uint32_t code)
{
    const uint64_t gdt[] = {
        0, 0, descriptor(code, 0xfffff), descriptor(ATTR_DATA, 0xfffff), descriptor(ATTR_TSS, 0x67),
        0};
    memory_write(memory, PLACE_GDT, gdt, sizeof gdt);
    state->gdtr = (struct x86_table){.base = PLACE_GDT, .limit = sizeof gdt - 1};
    state->idtr = (struct x86_table){0};
}

static void flat_segments(struct x86_state *state, uint32_t code)
{
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        state->seg[i] =
            (struct x86_segment){.limit = 0xffffffff, .attr = ATTR_DATA, .selector = SELECTOR_DATA};
    state->seg[X86_CS].attr = code;
    state->seg[X86_CS].selector = SELECTOR_CODE;
    state->tr = (struct x86_segment){.limit = 0x67, .attr = ATTR_TSS, .selector = SELECTOR_TSS};
    state->ldtr = (struct x86_segment){.attr = ATTR_LDT | SEG_UNUSABLE};
}

static void clear_registers(struct x86_state *state, uint64_t rip)
{
    memset(state->gpr, 0, sizeof state->gpr);
    state->gpr[X86_RSP] = PLACE_STACK;
    state->rip = rip;
    state->rflags = FLAG_1;
}

void entry_protected(struct memory *memory, struct x86_state *state, uint32_t eip)
{
    clear_registers(state, eip);
    write_gdt(memory, state, ATTR_CODE32);
    flat_segments(state, ATTR_CODE32);
    state->cr0 = CR0_PE | CR0_ET;
    state->cr3 = state->cr4 = state->efer = 0;
}

/* One PML4 entry, four of the page-directory-pointer table, four page directories of 2 MiB pages
 * (SDM 3, 4.5). */
static void identity_map(struct memory *memory)
{
    enum { PRESENT = 1, WRITABLE = 2, LARGE = 0x80, ENTRIES = 512, GIGABYTES = 4 };
    uint64_t table[ENTRIES] = {PLACE_PAGE_TABLES + MEMORY_PAGE_SIZE + (PRESENT | WRITABLE)};
    uint64_t gpa = PLACE_PAGE_TABLES;
    memory_write(memory, gpa, table, sizeof table);
    for (unsigned i = 0; i < GIGABYTES; i++)
        table[i] = gpa + (i + 2) * UINT64_C(0x1000) + (PRESENT | WRITABLE);
    gpa += MEMORY_PAGE_SIZE;
    memory_write(memory, gpa, table, sizeof table);
    for (uint64_t g = 0; g < GIGABYTES; g++) {
        for (uint64_t i = 0; i < ENTRIES; i++)
            table[i] = (g << 30) + (i << 21) + (PRESENT | WRITABLE | LARGE);
        gpa += MEMORY_PAGE_SIZE;
        memory_write(memory, gpa, table, sizeof table);
    }
}

void entry_long(struct memory *memory, struct x86_state *state, uint64_t rip)
{
    clear_registers(state, rip);
    write_gdt(memory, state, ATTR_CODE64);
    flat_segments(state, ATTR_CODE64);
    identity_map(memory);
    state->cr0 = CR0_PG | CR0_PE | CR0_ET;
    state->cr3 = PLACE_PAGE_TABLES;
    state->cr4 = CR4_PAE;
    state->efer = EFER_LME | EFER_LMA;
}

void entry_real(struct x86_state *state, uint16_t cs, uint16_t ip, uint16_t data, uint16_t sp)
{
    clear_registers(state, ip);
    state->gpr[X86_RSP] = sp;
    for (unsigned i = 0; i < X86_SEG_COUNT; i++) {
        uint16_t selector = i == X86_CS ? cs : data;
        state->seg[i] = (struct x86_segment){.base = (uint64_t)selector << 4,
                                             .limit = 0xffff,
                                             .attr = i == X86_CS ? ATTR_REAL_CODE : ATTR_REAL_DATA,
                                             .selector = selector};
    }
    state->idtr = (struct x86_table){.limit = 0x3ff};
    state->cr0 = CR0_ET;
    state->cr3 = state->cr4 = state->efer = 0;
}
