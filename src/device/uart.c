#include "device/uart.h"

#include <string.h>

#include "base/bits.h"

/* Registers, by offset; the first two are the divisor latch while LCR.DLAB is set. */
enum { RBR_THR = 0, IER = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

enum {
    IER_ERBFI = 1u << 0, /* received data available, character timeout */
    IER_ETBEI = 1u << 1, /* transmitter holding register empty */
    IER_ELSI = 1u << 2,  /* receiver line status */
    IER_EDSSI = 1u << 3, /* modem status */
};
enum {
    IIR_NONE = 0x01,
    IIR_LINE = 0x06,
    IIR_DATA = 0x04,
    IIR_TIMEOUT = 0x0c,
    IIR_THRE = 0x02,
    IIR_MODEM = 0x00,
    IIR_FIFOS = 0xc0,
};
enum { FCR_ENABLE = 1u << 0, FCR_RESET_RECEIVER = 1u << 1, FCR_STORED = 0xc9 };
enum { LCR_STOP = 1u << 2, LCR_PARITY = 1u << 3, LCR_DLAB = 1u << 7 };
enum {
    MCR_DTR = 1u << 0,
    MCR_RTS = 1u << 1,
    MCR_OUT1 = 1u << 2,
    MCR_OUT2 = 1u << 3, /* on a PC it gates the interrupt line */
    MCR_LOOP = 1u << 4,
};
enum {
    LSR_DR = 1u << 0,
    LSR_OE = 1u << 1,
    LSR_PE = 1u << 2,
    LSR_FE = 1u << 3,
    LSR_BI = 1u << 4,
    LSR_THRE = 1u << 5,
    LSR_TEMT = 1u << 6,
    LSR_FIFO_ERROR = 1u << 7,
    LSR_BYTE_ERRORS = LSR_PE | LSR_FE | LSR_BI,
    LSR_ERRORS = LSR_OE | LSR_BYTE_ERRORS,
};
enum {
    MSR_CTS = 1u << 4,
    MSR_DSR = 1u << 5,
    MSR_RI = 1u << 6,
    MSR_DCD = 1u << 7,
    MSR_DELTAS = 0x0f,
    MSR_TERI = 1u << 2,
    MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD,
};

enum { FROM_OUTSIDE = 1u << 0 };

static bool uart_fifos(const struct uart *u)
{
    return u->fcr & FCR_ENABLE;
}

/* ---- interrupts (PC16550D, table IV: the highest priority first) ---- */

static unsigned uart_trigger(const struct uart *u)
{
    static const uint8_t level[] = {1, 4, 8, 14};
    return uart_fifos(u) ? level[u->fcr >> 6] : 1;
}

static uint8_t uart_interrupt(const struct uart *u)
{
    if ((u->ier & IER_ELSI) && (u->lsr & LSR_ERRORS))
        return IIR_LINE;
    if ((u->ier & IER_ERBFI) && u->fifo_count >= uart_trigger(u))
        return IIR_DATA;
    if ((u->ier & IER_ERBFI) && u->timeout_pending)
        return IIR_TIMEOUT;
    if ((u->ier & IER_ETBEI) && u->thre_pending)
        return IIR_THRE;
    if ((u->ier & IER_EDSSI) && (u->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

static void uart_update(struct uart *u)
{
    /* In loopback the chip's OUT2 pin is inactive, and a PC's interrupt line with it. */
    bool gate = (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
    irq_set(&u->irq, gate && uart_interrupt(u) != IIR_NONE);
}

/* ---- the receiver ---- */

/* Four characters' time, after which a FIFO that nobody reads or fills asks for attention. */
static uint64_t uart_timeout_ns(const struct uart *u)
{
    unsigned divisor = u->dlm << 8 | u->dll;
    unsigned bits = 1 + 5 + (u->lcr & 3) + !!(u->lcr & LCR_PARITY) + 1 + !!(u->lcr & LCR_STOP);
    return clock_ticks_to_ns((uint64_t)4 * bits * 16 * (divisor ? divisor : 0x10000), 1843200);
}

static void uart_arm_timeout(struct uart *u)
{
    bool wanted = uart_fifos(u) && u->fifo_count && !u->timeout_pending;
    u->timeout_at = wanted ? clock_now(u->clock) + uart_timeout_ns(u) : CLOCK_NEVER;
    timer_set(&u->timeout, u->timeout_at);
}

static void uart_timeout(void *ctx)
{
    struct uart *u = ctx;
    u->timeout_at = CLOCK_NEVER;
    u->timeout_pending = u->fifo_count > 0;
    uart_update(u);
}

/* Sets the LSR from the byte that is at the FIFO's head now. Its errors are shown once. */
static void uart_show_head(struct uart *u)
{
    u->lsr &= (uint8_t) ~(LSR_DR | LSR_FIFO_ERROR);
    if (!u->fifo_count)
        return;
    u->lsr |= LSR_DR | (u->fifo_flags[u->fifo_head] & LSR_BYTE_ERRORS);
    u->fifo_flags[u->fifo_head] &= (uint8_t)~LSR_BYTE_ERRORS;
    for (unsigned i = 0; i < u->fifo_count && uart_fifos(u); i++)
        if (u->fifo_flags[(u->fifo_head + i) % UART_FIFO] & LSR_BYTE_ERRORS)
            u->lsr |= LSR_FIFO_ERROR;
    if (uart_fifos(u) && (u->lsr & LSR_BYTE_ERRORS))
        u->lsr |= LSR_FIFO_ERROR;
}

static unsigned uart_room(const struct uart *u)
{
    unsigned capacity = uart_fifos(u) ? UART_FIFO : 1;
    return u->fifo_count < capacity ? capacity - u->fifo_count : 0;
}

static void uart_push(struct uart *u, uint8_t byte, uint8_t flags)
{
    unsigned tail = (u->fifo_head + u->fifo_count) % UART_FIFO;
    u->fifo[tail] = byte;
    u->fifo_flags[tail] = flags;
    u->fifo_count++;
    u->timeout_pending = 0;
    if (u->fifo_count == 1)
        uart_show_head(u);
    else if (flags & LSR_BYTE_ERRORS)
        u->lsr |= LSR_FIFO_ERROR;
    uart_arm_timeout(u);
}

static bool uart_held(const struct uart *u)
{
    return u->hold_until != 0;
}

static void uart_ready(struct uart *u)
{
    if (u->backend.ready && uart_can_receive(u))
        u->backend.ready(u->backend.ctx);
}

/* Lets bytes that were taken back arrive again, then tells the backend if there is room for more.
 */
static void uart_refill(struct uart *u)
{
    if (uart_held(u) || (u->mcr & MCR_LOOP))
        return;
    unsigned n = 0;
    while (n < u->kept_count && uart_room(u))
        uart_push(u, u->kept[n++], FROM_OUTSIDE);
    u->kept_count -= (uint8_t)n;
    memmove(u->kept, u->kept + n, u->kept_count);
    uart_update(u);
    uart_ready(u);
}

static void uart_release(void *ctx)
{
    struct uart *u = ctx;
    u->hold_until = 0;
    uart_refill(u);
}

/* The guest sets the chip up: nothing arrives for a while, unless it waits for it. */
static void uart_configured(struct uart *u)
{
    if (u->ier & IER_ERBFI) {
        timer_cancel(&u->hold);
        uart_release(u);
        return;
    }
    u->hold_until = clock_now(u->clock) + UART_HOLD_NS;
    timer_set(&u->hold, u->hold_until);
}

static void uart_reset_receiver(struct uart *u)
{
    uint8_t kept[2 * UART_FIFO];
    unsigned n = 0;
    for (unsigned i = 0; i < u->fifo_count; i++) {
        unsigned at = (u->fifo_head + i) % UART_FIFO;
        if (u->fifo_flags[at] & FROM_OUTSIDE)
            kept[n++] = u->fifo[at];
    }
    memcpy(kept + n, u->kept, u->kept_count);
    n += u->kept_count;
    u->kept_count = (uint8_t)(n < UART_FIFO ? n : UART_FIFO);
    memcpy(u->kept, kept, u->kept_count);
    u->fifo_count = 0;
    u->timeout_pending = 0;
    u->lsr &= (uint8_t) ~(LSR_ERRORS | LSR_DR | LSR_FIFO_ERROR);
    uart_arm_timeout(u);
}

unsigned uart_can_receive(const struct uart *u)
{
    if (uart_held(u) || u->kept_count || (u->mcr & MCR_LOOP))
        return 0;
    return uart_room(u);
}

bool uart_receive(struct uart *u, uint8_t byte)
{
    if (!uart_can_receive(u))
        return false;
    uart_push(u, byte, FROM_OUTSIDE);
    uart_update(u);
    return true;
}

bool uart_break(struct uart *u)
{
    if (!uart_can_receive(u))
        return false;
    uart_push(u, 0, LSR_BI);
    uart_update(u);
    return true;
}

static uint8_t uart_read_rbr(struct uart *u)
{
    if (!u->fifo_count)
        return u->last;
    bool was_full = !uart_can_receive(u);
    u->last = u->fifo[u->fifo_head];
    u->fifo_head = (u->fifo_head + 1) % UART_FIFO;
    u->fifo_count--;
    u->timeout_pending = 0;
    uart_show_head(u);
    uart_arm_timeout(u);
    uart_update(u);
    if (was_full)
        uart_refill(u);
    return u->last;
}

/* ---- the transmitter and modem lines ---- */

static void uart_write_thr(struct uart *u, uint8_t byte)
{
    u->thre_pending = 1; /* empty again at once */
    if (u->mcr & MCR_LOOP) {
        /* The shift registers are tied together; a full receiver overruns. */
        if (uart_room(u))
            uart_push(u, byte, 0);
        else
            u->lsr |= LSR_OE;
    } else if (u->backend.transmit) {
        u->backend.transmit(u->backend.ctx, byte);
    }
    uart_update(u);
}

static uint8_t uart_modem_lines(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return MSR_CONNECTED;
    return (uint8_t)((u->mcr & MCR_DTR ? MSR_DSR : 0) | (u->mcr & MCR_RTS ? MSR_CTS : 0) |
                     (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void uart_write_mcr(struct uart *u, uint8_t value)
{
    u->mcr = value & 0x1f;
    uint8_t lines = uart_modem_lines(u), changed = (uint8_t)((lines ^ u->msr) & 0xf0);
    uint8_t deltas = changed >> 4;
    if ((changed & MSR_RI) && (lines & MSR_RI))
        deltas &= (uint8_t)~MSR_TERI; /* only the trailing edge of RI counts */
    u->msr = lines | (u->msr & MSR_DELTAS) | deltas;
    uart_configured(u);
    uart_refill(u);
    uart_update(u);
}

static void uart_write_ier(struct uart *u, uint8_t value)
{
    /* Switching the interrupt on while the transmitter is empty raises it (drivers test this). */
    if ((value & IER_ETBEI) && !(u->ier & IER_ETBEI))
        u->thre_pending = 1;
    u->ier = value & 0x0f;
    uart_configured(u);
    uart_update(u);
}

static void uart_write_fcr(struct uart *u, uint8_t value)
{
    bool toggled = (value ^ u->fcr) & FCR_ENABLE;
    /* The other bits are only taken together with the enable bit. */
    if (toggled || (value & (FCR_ENABLE | FCR_RESET_RECEIVER)) == (FCR_ENABLE | FCR_RESET_RECEIVER))
        uart_reset_receiver(u);
    u->fcr = value & FCR_ENABLE ? value & FCR_STORED : 0;
    uart_configured(u);
    uart_update(u);
}

/* ---- registers ---- */

static uint8_t uart_read_iir(struct uart *u)
{
    uint8_t iir = uart_interrupt(u);
    if (iir == IIR_THRE) {
        u->thre_pending = 0;
        uart_update(u);
    }
    return iir | (uart_fifos(u) ? IIR_FIFOS : 0);
}

static uint8_t uart_read_lsr(struct uart *u)
{
    uint8_t lsr = u->lsr | LSR_THRE | LSR_TEMT;
    u->lsr &= (uint8_t)~LSR_ERRORS;
    uart_show_head(u);
    uart_update(u);
    return lsr;
}

static uint8_t uart_read_msr(struct uart *u)
{
    uint8_t msr = u->msr;
    u->msr &= (uint8_t)~MSR_DELTAS;
    uart_update(u);
    return msr;
}

static uint64_t uart_read(void *device, uint64_t offset, unsigned size)
{
    struct uart *u = device;
    bool dlab = u->lcr & LCR_DLAB;
    switch (offset & 7) {
    case RBR_THR: return dlab ? u->dll : uart_read_rbr(u);
    case IER: return dlab ? u->dlm : u->ier;
    case IIR_FCR: return uart_read_iir(u);
    case LCR: return u->lcr;
    case MCR: return u->mcr;
    case LSR: return uart_read_lsr(u);
    case MSR: return uart_read_msr(u);
    default: return u->scr;
    }
}

static void uart_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct uart *u = device;
    uint8_t byte = (uint8_t)value;
    bool dlab = u->lcr & LCR_DLAB;
    switch (offset & 7) {
    case RBR_THR:
        if (dlab)
            u->dll = byte;
        else
            uart_write_thr(u, byte);
        break;
    case IER:
        if (dlab)
            u->dlm = byte;
        else
            uart_write_ier(u, byte);
        break;
    case IIR_FCR: uart_write_fcr(u, byte); break;
    case LCR:
        u->lcr = byte;
        uart_configured(u);
        break;
    case MCR: uart_write_mcr(u, byte); break;
    case SCR: u->scr = byte; break;
    default: break; /* LSR and MSR: writing is for factory tests */
    }
}

static const struct bus_ops uart_ops = {uart_read, uart_write, 1};

/* ---- life ---- */

void uart_init(struct uart *u, struct clock *clock, struct irq_line irq,
               const struct uart_backend *backend)
{
    *u = (struct uart){.clock = clock, .irq = irq, .backend = *backend};
    timer_init(&u->timeout, clock, uart_timeout, u);
    timer_init(&u->hold, clock, uart_release, u);
    uart_reset(u);
}

void uart_reset(struct uart *u)
{
    uart_reset_receiver(u);
    u->ier = u->fcr = u->lcr = u->mcr = u->lsr = u->scr = 0;
    u->thre_pending = 0;
    u->msr = MSR_CONNECTED;
    u->dll = 1; /* as firmware leaves it: 115200 baud */
    u->dlm = 0;
    u->last = 0;
    uart_arm_timeout(u);
    uart_configured(u);
    uart_update(u);
}

bool uart_attach(struct uart *u, struct bus *ports, const char *name, uint64_t base,
                 struct error *err)
{
    return bus_add(ports, name, base, UART_PORTS, &uart_ops, u, err);
}

static bool uart_after_load(void *object, struct error *err)
{
    struct uart *u = object;
    if (u->fifo_count > UART_FIFO || u->fifo_head >= UART_FIFO || u->kept_count > UART_FIFO)
        return error_set(err, "uart: its saved FIFO does not fit; the state is damaged");
    timer_set(&u->timeout, u->timeout_at);
    timer_set(&u->hold, u->hold_until ? u->hold_until : CLOCK_NEVER);
    uart_update(u);
    return true;
}

static const struct archive_field uart_fields[] = {
    ARCHIVE_FIELD(struct uart, ier),
    ARCHIVE_FIELD(struct uart, fcr),
    ARCHIVE_FIELD(struct uart, lcr),
    ARCHIVE_FIELD(struct uart, mcr),
    ARCHIVE_FIELD(struct uart, lsr),
    ARCHIVE_FIELD(struct uart, msr),
    ARCHIVE_FIELD(struct uart, scr),
    ARCHIVE_FIELD(struct uart, dll),
    ARCHIVE_FIELD(struct uart, dlm),
    ARCHIVE_FIELD(struct uart, thre_pending),
    ARCHIVE_FIELD(struct uart, timeout_pending),
    ARCHIVE_ARRAY(struct uart, fifo),
    ARCHIVE_ARRAY(struct uart, fifo_flags),
    ARCHIVE_FIELD(struct uart, fifo_head),
    ARCHIVE_FIELD(struct uart, fifo_count),
    ARCHIVE_ARRAY(struct uart, kept),
    ARCHIVE_FIELD(struct uart, kept_count),
    ARCHIVE_FIELD(struct uart, last),
    ARCHIVE_FIELD(struct uart, timeout_at),
    ARCHIVE_FIELD(struct uart, hold_until),
};

const struct archive_type uart_archive = {
    .name = "uart",
    .version = 1,
    .fields = uart_fields,
    .field_count = ARRAY_LEN(uart_fields),
    .after_load = uart_after_load,
};
