/*
 * IN, OUT and their string forms.
 */
#include "x86/debug.h"
#include "x86/io.h"
#include "x86/sem/op.h"

static void port_in(struct x86_cpu *c, const struct op *op, uint16_t port)
{
    x86_io_check(c, port, op->size);
    x86_debug_io(c, port, op->size);
    gpr_write(c, X86_RAX, op->size, c->host.pio_read(c->host.ctx, port, op->size));
}

static void port_out(struct x86_cpu *c, const struct op *op, uint16_t port)
{
    uint32_t v = (uint32_t)gpr_read(c, X86_RAX, op->size);
    x86_io_check(c, port, op->size);
    x86_debug_io(c, port, op->size);
    c->host.pio_write(c->host.ctx, port, op->size, v);
}

OP_END(in_i)
{
    port_in(c, op, op->imm & 0xff);
}
OP_END(in_dx)
{
    port_in(c, op, (uint16_t)c->s.gpr[X86_RDX]);
}
OP_END(out_i)
{
    port_out(c, op, op->imm & 0xff);
}
OP_END(out_dx)
{
    port_out(c, op, (uint16_t)c->s.gpr[X86_RDX]);
}

/* ---- INS and OUTS ---- */

/* Elements done before the engine gets a look at interrupts. */
enum { BURST = 64 };

static unsigned address_size(const struct op *op)
{
    return op->flags & OPF_ADDR16 ? 2 : op->flags & OPF_ADDR32 ? 4 : 8;
}

static uint64_t element_linear(struct x86_cpu *c, const struct op *op, unsigned reg, unsigned seg,
                               unsigned access)
{
    return x86_linear(c, seg, gpr_read(c, reg, address_size(op)), op->size, access);
}

/* The target is proven writable before the port is read: a device's data must not get lost in a
 * page fault. */
static void ins_element(struct x86_cpu *c, const struct op *op, uint16_t port)
{
    uint64_t lin = element_linear(c, op, X86_RDI, X86_ES, X86_WRITE);
    x86_probe_write(c, lin, op->size, X86_ES);
    uint32_t v = c->host.pio_read(c->host.ctx, port, op->size);
    x86_write_bytes(c, lin, &v, op->size, X86_ES);
}

static void outs_element(struct x86_cpu *c, const struct op *op, uint16_t port)
{
    uint64_t lin = element_linear(c, op, X86_RSI, op->seg, X86_READ);
    uint32_t v = 0;
    x86_read_bytes(c, lin, &v, op->size, op->seg);
    c->host.pio_write(c->host.ctx, port, op->size, v);
}

/* Does up to a burst of elements; the registers are right after each. With more to do, RIP goes
 * back to the instruction itself. */
static void string_io(struct x86_cpu *c, const struct op *op, unsigned pointer,
                      void (*element)(struct x86_cpu *c, const struct op *op, uint16_t port))
{
    bool repeated = op->flags & (OPF_REP | OPF_REPNE);
    unsigned size = address_size(op);
    uint16_t port = (uint16_t)c->s.gpr[X86_RDX];
    uint64_t step = c->s.rflags & FLAG_DF ? -(uint64_t)op->size : op->size;
    uint64_t left = repeated ? gpr_read(c, X86_RCX, size) : 1;

    x86_io_check(c, port, op->size); /* even with nothing to do, as AMD's processors check */
    if (left == 0)
        return;
    for (unsigned n = 0; left && n < BURST; n++) {
        element(c, op, port);
        x86_debug_io(c, port, op->size);
        gpr_write(c, pointer, size, gpr_read(c, pointer, size) + step);
        left--;
        if (repeated)
            gpr_write(c, X86_RCX, size, left);
        if (atomic_load_explicit(&c->request, memory_order_relaxed))
            break;
    }
    if (left) {
        c->s.rip = x86_rip(c);
        x86_debug_suspend(c);
    }
}

OP_END(ins)
{
    string_io(c, op, X86_RDI, ins_element);
}
OP_END(outs)
{
    string_io(c, op, X86_RSI, outs_element);
}
