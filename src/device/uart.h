/*
 * The 16550A serial port (PC16550D).
 *
 * Input is never lost: whoever has bytes asks uart_can_receive() and keeps the rest until
 * backend.ready says that there is room again, so there is no overrun. And since drivers empty the
 * FIFO and read a byte to throw away whenever they set the chip up, bytes from outside that were
 * never read survive a FIFO reset, and arrive (again) once the driver is ready for them: when it
 * switches the receive interrupt on, or leaves the chip's set-up alone for UART_HOLD_NS. A guest
 * that boots slowly thus finds what was typed before.
 *
 * Output takes no time: the transmitter is always empty.
 */
#ifndef DOPPEL_DEVICE_UART_H
#define DOPPEL_DEVICE_UART_H

#include "base/archive.h"
#include "device/bus.h"
#include "device/clock.h"

enum { UART_PORTS = 8, UART_FIFO = 16 };
#define UART_HOLD_NS UINT64_C(100000000)

struct uart_backend {
    void *ctx;
    /* Must not block; what can't be written now is the backend's to keep or to drop. May be NULL.
     */
    void (*transmit)(void *ctx, uint8_t byte);
    /* uart_can_receive() was 0 and is not any more. May be NULL. */
    void (*ready)(void *ctx);
};

struct uart {
    struct clock *clock;
    struct timer timeout, hold;
    struct irq_line irq;
    struct uart_backend backend;

    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
    uint8_t dll, dlm;
    uint8_t thre_pending;    /* the transmitter-empty interrupt waits to be read from the IIR */
    uint8_t timeout_pending; /* the character timeout interrupt */
    uint8_t fifo[UART_FIFO];
    uint8_t fifo_flags[UART_FIFO]; /* of each byte: LSR.BI, FE, PE; bit 0: it came from outside */
    uint8_t fifo_head, fifo_count;
    uint8_t kept[UART_FIFO]; /* bytes that a FIFO reset took back */
    uint8_t kept_count;
    uint8_t last;        /* what RBR shows when the FIFO is empty */
    uint64_t timeout_at; /* the character timeout; CLOCK_NEVER: not running */
    uint64_t hold_until; /* nothing arrives before; 0: not held */
};

extern const struct archive_type uart_archive;

void uart_init(struct uart *u, struct clock *clock, struct irq_line irq,
               const struct uart_backend *backend);
void uart_reset(struct uart *u);
/* At base (0x3f8 ...), eight ports. */
bool uart_attach(struct uart *u, struct bus *ports, const char *name, uint64_t base,
                 struct error *err);
/* How many bytes it takes now. */
unsigned uart_can_receive(const struct uart *u);
/* A byte from outside; false, and nothing done, when there is no room. */
bool uart_receive(struct uart *u, uint8_t byte);
/* A break condition from outside; false when there is no room for it. */
bool uart_break(struct uart *u);

#endif
