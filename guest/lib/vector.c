#include "vector.h"

CODE(set_xcr0, "xor %ecx, %ecx\n xsetbv"); /* in: EDX:EAX */

uint64_t try_xcr0(uint64_t v)
{
    struct context c = at_level(0);
    c.rax = (uint32_t)v;
    c.rdx = v >> 32;
    run_code(&c, set_xcr0);
    return c.vector;
}

void enable_vectors(uint64_t xcr0)
{
    write_cr0((read_cr0() | CR0_MP) & ~(unsigned long)(CR0_EM | CR0_TS));
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE);
    CHECK_EQ(try_xcr0(xcr0), DONE);
}
