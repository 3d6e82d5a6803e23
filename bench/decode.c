/*
 * How long the decoder takes for an instruction, operands included: over the C library's code, as
 * the dynamic linker has mapped it.
 */
#include <link.h>
#include <stdio.h>
#include <time.h>

#include "x86/cpu.h"
#include "x86/insn.h"

struct text {
    const uint8_t *bytes;
    size_t n;
};

/* Keeps the largest executable segment. */
static int find_text(struct dl_phdr_info *info, size_t size, void *data)
{
    struct text *text = data;
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && p->p_filesz > text->n)
            *text = (struct text){(const uint8_t *)(info->dlpi_addr + p->p_vaddr), p->p_filesz};
    }
    return 0;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(void)
{
    enum { ROUNDS = 20 };
    struct text text = {0};
    unsigned long count = 0, invalid = 0;
    dl_iterate_phdr(find_text, &text);
    double start = seconds();
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (size_t at = 0; at < text.n;) {
            struct x86_insn insn;
            bool valid = x86_decode(text.bytes + at, text.n - at, X86_CODE64, &insn) == X86_DECODED;
            at += valid ? insn.len : 1;
            invalid += !valid;
            count++;
        }
    }
    double ns = (seconds() - start) * 1e9 / (double)count;
    printf("decode: %.1f ns an instruction (%lu of them, %lu invalid)\n", ns, count, invalid);
    return 0;
}
