#include "device/uart.h"

#include "device_fixture.h"

static struct clock clk;
static struct bus bus;
static struct uart uart;
static struct fixture_line irq4;
static uint8_t sent[64];
static unsigned sent_count, ready_count;

enum { DATA = 0x3f8, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static void transmit(void *ctx, uint8_t byte)
{
    sent[sent_count++ % sizeof sent] = byte;
}

static void ready(void *ctx)
{
    ready_count++;
}

static void make(struct uart *u, struct fixture_line *line)
{
    struct uart_backend backend = {NULL, transmit, ready};
    uart_init(u, &clk, fixture_line(line), &backend);
}

static void setup(void)
{
    fixture_clock(&clk);
    bus = (struct bus){0};
    irq4 = (struct fixture_line){0};
    sent_count = ready_count = 0;
    make(&uart, &irq4);
    uart_attach(&uart, &bus, "uart", 0x3f8, NULL);
    fixture_go(&clk, UART_HOLD_NS);
}

/* FIFO on with this trigger level, receive interrupt on, OUT2 on. */
static void setup_fifo(uint8_t trigger)
{
    setup();
    out8(&bus, IIR, 0x07 | trigger);
    out8(&bus, MCR, 0x0b);
    out8(&bus, IER, 0x01);
}

TEST(transmits_at_once)
{
    setup();
    out8(&bus, DATA, 'x');
    CHECK_EQ(sent_count, 1);
    CHECK_EQ(sent[0], 'x');
    CHECK_EQ(in8(&bus, LSR), 0x60);
}

TEST(receives_one_byte_without_fifos)
{
    setup();
    CHECK_EQ(uart_can_receive(&uart), 1);
    CHECK(uart_receive(&uart, 'a'));
    CHECK(!uart_receive(&uart, 'b')); /* no overrun: it waits outside */
    CHECK_EQ(in8(&bus, LSR), 0x61);
    ready_count = 0;
    CHECK_EQ(in8(&bus, DATA), 'a');
    CHECK_EQ(ready_count, 1);
    CHECK(uart_receive(&uart, 'b'));
    CHECK_EQ(in8(&bus, DATA), 'b');
    CHECK_EQ(in8(&bus, LSR), 0x60);
}

TEST(identifies_as_16550a)
{
    setup();
    out8(&bus, IIR, 0x01);
    CHECK_EQ(in8(&bus, IIR), 0xc1);
    out8(&bus, IIR, 0x00);
    CHECK_EQ(in8(&bus, IIR), 0x01);
    out8(&bus, SCR, 0x5a);
    CHECK_EQ(in8(&bus, SCR), 0x5a);
    out8(&bus, IER, 0xff);
    CHECK_EQ(in8(&bus, IER), 0x0f);
    out8(&bus, LCR, 0x83);
    out8(&bus, DATA, 0x0c);
    out8(&bus, IER, 0x12);
    CHECK_EQ(in8(&bus, DATA), 0x0c);
    CHECK_EQ(in8(&bus, IER), 0x12);
    out8(&bus, LCR, 0x03);
    CHECK_EQ(in8(&bus, IER), 0x0f);
    CHECK_EQ(in8(&bus, LCR), 0x03);
}

TEST(trigger_levels_and_character_timeout)
{
    setup_fifo(0x80); /* 8 */
    for (unsigned i = 0; i < 7; i++)
        CHECK(uart_receive(&uart, (uint8_t)i));
    CHECK(!irq4.level);
    CHECK_EQ(in8(&bus, IIR), 0xc1);
    uart_receive(&uart, 7);
    CHECK(irq4.level);
    CHECK_EQ(in8(&bus, IIR), 0xc4);
    for (unsigned i = 0; i < 6; i++)
        CHECK_EQ(in8(&bus, DATA), i);
    CHECK(!irq4.level);
    /* Two bytes are left; four characters later (7 bits a character: 1 + 5 + 1) they ask. */
    fixture_go(&clk, clock_now(&clk) + 4 * 7 * 8681 - 100);
    CHECK(!irq4.level);
    fixture_go(&clk, clock_now(&clk) + 200);
    CHECK(irq4.level);
    CHECK_EQ(in8(&bus, IIR), 0xcc);
    CHECK_EQ(in8(&bus, DATA), 6);
    CHECK(!irq4.level);
    CHECK_EQ(in8(&bus, DATA), 7);
    fixture_go(&clk, clock_now(&clk) + UART_HOLD_NS);
    CHECK(!irq4.level); /* no timeout for an empty FIFO */
}

TEST(fifo_holds_sixteen)
{
    setup_fifo(0xc0);
    for (unsigned i = 0; i < 16; i++)
        CHECK(uart_receive(&uart, (uint8_t)(0x40 + i)));
    CHECK_EQ(uart_can_receive(&uart), 0);
    CHECK(!uart_receive(&uart, 0));
    CHECK_EQ(in8(&bus, LSR) & 2, 0);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(in8(&bus, DATA), 0x40 + i);
}

TEST(transmitter_interrupt)
{
    setup();
    out8(&bus, MCR, 0x08);
    out8(&bus, IER, 0x02);
    CHECK(irq4.level); /* empty already */
    CHECK_EQ(in8(&bus, IIR), 0x02);
    CHECK(!irq4.level); /* reading took it away */
    CHECK_EQ(in8(&bus, IIR), 0x01);
    out8(&bus, DATA, 'x');
    CHECK(irq4.level);
    CHECK_EQ(in8(&bus, IIR), 0x02);
    out8(&bus, IER, 0x00);
    out8(&bus, IER, 0x02); /* switching it on raises it again */
    CHECK(irq4.level);
}

TEST(interrupts_in_order_of_priority)
{
    setup();
    out8(&bus, MCR, 0x18); /* loopback, OUT2 */
    in8(&bus, MSR);
    out8(&bus, MCR, 0x1a); /* RTS changes CTS */
    out8(&bus, DATA, 'a');
    out8(&bus, DATA, 'b'); /* overruns */
    out8(&bus, IER, 0x0f);
    CHECK(!irq4.level); /* in loopback OUT2's pin is inactive */
    CHECK_EQ(in8(&bus, IIR), 0x06);
    CHECK_EQ(in8(&bus, LSR), 0x63);
    CHECK_EQ(in8(&bus, IIR), 0x04);
    CHECK_EQ(in8(&bus, DATA), 'a');
    CHECK_EQ(in8(&bus, IIR), 0x02);
    CHECK_EQ(in8(&bus, IIR), 0x00);
    CHECK_EQ(in8(&bus, MSR) & 0x1f, 0x11);
    CHECK_EQ(in8(&bus, IIR), 0x01);
}

TEST(out2_gates_the_line)
{
    setup();
    out8(&bus, IER, 0x01);
    uart_receive(&uart, 'a');
    CHECK(!irq4.level);
    out8(&bus, MCR, 0x08);
    CHECK(irq4.level);
    out8(&bus, MCR, 0x00);
    CHECK(!irq4.level);
}

TEST(loopback_stays_inside)
{
    setup();
    out8(&bus, IIR, 0x07);
    out8(&bus, MCR, 0x10);
    CHECK_EQ(in8(&bus, MSR) & 0xf0, 0);
    out8(&bus, DATA, 'x');
    CHECK_EQ(sent_count, 0);
    CHECK_EQ(in8(&bus, DATA), 'x');
    CHECK_EQ(uart_can_receive(&uart), 0);
    out8(&bus, MCR, 0x1f);
    CHECK_EQ(in8(&bus, MSR) & 0xf0, 0xf0);
    out8(&bus, MCR, 0x1b); /* RI falls: its trailing edge counts */
    CHECK_EQ(in8(&bus, MSR), 0xb4);
    out8(&bus, DATA, 'y');
    out8(&bus, IIR, 0x03); /* this one is really gone */
    out8(&bus, MCR, 0x00);
    fixture_go(&clk, clock_now(&clk) + 2 * UART_HOLD_NS);
    CHECK_EQ(in8(&bus, LSR), 0x60);
}

TEST(break_comes_in_line)
{
    setup_fifo(0x00);
    out8(&bus, IER, 0x05);
    uart_receive(&uart, 'a');
    uart_break(&uart);
    CHECK_EQ(in8(&bus, LSR), 0xe1); /* an error further back in the FIFO */
    CHECK_EQ(in8(&bus, DATA), 'a');
    CHECK_EQ(in8(&bus, IIR), 0xc6);
    CHECK_EQ(in8(&bus, LSR), 0xf1);
    CHECK_EQ(in8(&bus, LSR), 0x61); /* shown once */
    CHECK_EQ(in8(&bus, DATA), 0);
}

/* What Linux does when a port is opened: resets the FIFOs, reads a byte to throw it away, and only
 * then switches the interrupt on. What was typed before must not be lost. */
TEST(input_survives_the_driver_start)
{
    setup();
    out8(&bus, IIR, 0x01);
    fixture_go(&clk, clock_now(&clk) + UART_HOLD_NS);
    for (const char *c = "early"; *c; c++)
        CHECK(uart_receive(&uart, (uint8_t)*c));
    out8(&bus, IIR, 0x01);
    out8(&bus, IIR, 0x07);
    out8(&bus, IIR, 0x00);
    CHECK_EQ(in8(&bus, LSR), 0x60);
    in8(&bus, DATA);
    in8(&bus, IIR);
    in8(&bus, MSR);
    out8(&bus, LCR, 0x03);
    in8(&bus, LSR);
    in8(&bus, DATA);
    CHECK_EQ(uart_can_receive(&uart), 0);
    out8(&bus, MCR, 0x0b);
    out8(&bus, IER, 0x05);
    out8(&bus, IIR, 0x81);
    for (const char *c = "early"; *c; c++) {
        CHECK_EQ(in8(&bus, LSR) & 1, 1);
        CHECK_EQ(in8(&bus, DATA), *c);
    }
    CHECK(uart_can_receive(&uart) > 0);
}

/* A guest that polls never switches an interrupt on: it gets its bytes after a moment's quiet. */
TEST(input_comes_back_to_a_polling_guest)
{
    setup();
    out8(&bus, IIR, 0x01);
    fixture_go(&clk, clock_now(&clk) + UART_HOLD_NS);
    uart_receive(&uart, 'a');
    uart_receive(&uart, 'b');
    out8(&bus, IIR, 0x00); /* without FIFOs there is room for one at a time */
    ready_count = 0;
    fixture_go(&clk, clock_now(&clk) + UART_HOLD_NS);
    CHECK_EQ(in8(&bus, DATA), 'a');
    CHECK_EQ(in8(&bus, DATA), 'b');
    CHECK_EQ(in8(&bus, LSR), 0x60);
    CHECK(ready_count > 0);
}

TEST(reset_keeps_what_came_from_outside)
{
    setup_fifo(0);
    uart_receive(&uart, 'a');
    uart_reset(&uart);
    CHECK(!irq4.level);
    CHECK_EQ(in8(&bus, LSR), 0x60);
    fixture_go(&clk, clock_now(&clk) + UART_HOLD_NS);
    CHECK_EQ(in8(&bus, DATA), 'a');
}

TEST(survives_save_and_load)
{
    setup_fifo(0x80);
    static struct uart other;
    struct fixture_line line = {0};
    uart_receive(&uart, 'a');
    uart_receive(&uart, 'b');
    make(&other, &line);
    CHECK(fixture_round_trip(&uart_archive, &uart, &other));
    fixture_go(&clk, clock_now(&clk) + 1000000);
    CHECK(line.level); /* the character timeout came along */
    uart.fifo_count = 17;
    CHECK(!fixture_round_trip(&uart_archive, &uart, &other));
}

TESTS(T(transmits_at_once), T(receives_one_byte_without_fifos), T(identifies_as_16550a),
      T(trigger_levels_and_character_timeout), T(fifo_holds_sixteen), T(transmitter_interrupt),
      T(interrupts_in_order_of_priority), T(out2_gates_the_line), T(loopback_stays_inside),
      T(break_comes_in_line), T(input_survives_the_driver_start),
      T(input_comes_back_to_a_polling_guest), T(reset_keeps_what_came_from_outside),
      T(survives_save_and_load))
