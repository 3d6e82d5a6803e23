/*
 * Instructions about caches and the order of memory accesses.
 */
#include <stdatomic.h>

#include "x86/sem/simd.h"

/* Only hints: nothing is read, so nothing faults. */
OP(prefetch) {}

OP(lfence)
{
    atomic_thread_fence(memory_order_acquire);
}
OP(sfence)
{
    atomic_thread_fence(memory_order_release);
}
OP(mfence)
{
    atomic_thread_fence(memory_order_seq_cst);
}

/* The guest's caches are the host's, which are coherent: what is left is the check of the address,
 * as for a load of one byte (SDM 2, CLFLUSH). */
static void check_line(struct x86_cpu *c, const struct op *op)
{
    x86_probe_read(c, op_linear(c, op, 1, X86_READ), 1, op->seg);
}

OP(clflush)
{
    check_line(c, op);
}
OP(clflushopt)
{
    check_line(c, op);
}
OP(clwb)
{
    check_line(c, op);
}
