#include "program.h"

#include "vector.h"

uint8_t code_pages[PAGES * PAGE] __attribute__((aligned(4096)));
uint64_t code_table[512] __attribute__((aligned(4096)));

bool feature(uint32_t leaf, unsigned reg, unsigned bit)
{
    uint32_t r[4];
    cpuid(leaf, &r[0], &r[1], &r[2], &r[3]);
    return r[reg] >> bit & 1;
}

void map_code(void)
{
    for (unsigned i = 0; i < PAGES; i++)
        code_table[i] = (uint64_t)(code_pages + i * PAGE) | P | W | U;
    boot_pd[1][0] = (uint64_t)code_table | P | W | U;
    write_cr3(read_cr3());
}

void prepare(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    enable_vectors(feature(1, ECX, 28) ? XCR0_TO_AVX : XCR0_X87 | XCR0_SSE);
    if (feature(7, EBX, 0))
        write_cr4(read_cr4() | CR4_FSGSBASE);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | EFER_NXE);
    wrmsr(MSR_STAR, (uint64_t)CODE32_3 << 48 | (uint64_t)CODE0 << 32);
    wrmsr(MSR_SFMASK, SYSCALL_MASK);
    idt[0x80] = gate(CODE0, trap_entry(0x80), G_INTERRUPT | dpl(3), 0);
    map_code();
}

struct context user(void)
{
    struct context c = at_level(3);
    uint64_t *r = &c.r15;
    for (unsigned i = 0; i < 15; i++)
        r[i] = 0x0123456789000000 + i;
    c.rflags |= FLAG_IF;
    return c;
}

static uint64_t other_pml4[512] __attribute__((aligned(4096)));
static uint64_t other_pdpt[512] __attribute__((aligned(4096)));
static uint64_t other_pd[512] __attribute__((aligned(4096)));
uint64_t other_table[512] __attribute__((aligned(4096)));

uint64_t other_space(void)
{
    memcpy(other_pml4, boot_pml4, PAGE);
    memcpy(other_pdpt, boot_pdpt, PAGE);
    memcpy(other_pd, boot_pd[1], PAGE);
    memcpy(other_table, code_table, PAGE);
    other_pml4[0] = (uint64_t)other_pdpt | P | W | U;
    other_pdpt[1] = (uint64_t)other_pd | P | W | U;
    other_pd[0] = (uint64_t)other_table | P | W | U;
    return (uint64_t)other_pml4;
}
