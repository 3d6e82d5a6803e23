#include "device/i8042.h"

#include "device_fixture.h"

static struct clock clk;
static struct bus bus;
static struct i8042 k;
static struct fixture_line irq1, irq12;
static unsigned resets, a20_changes;
static bool a20;

#define MS UINT64_C(1000000)

enum { DATA = 0x60, COMMAND = 0x64 };
enum { KEY_A = 0x1e, KEY_ENTER = 0x1c, KEY_UP = 0x48 | PS2_KEY_EXTENDED };

static void on_reset(void *ctx)
{
    resets++;
}

static void on_a20(void *ctx, bool enabled)
{
    a20 = enabled;
    a20_changes++;
}

static void make(struct i8042 *to, struct fixture_line *one, struct fixture_line *twelve)
{
    struct i8042_host host = {NULL, on_reset, on_a20};
    i8042_init(to, &clk, fixture_line(one), fixture_line(twelve), &host);
}

static void setup(void)
{
    fixture_clock(&clk);
    bus = (struct bus){0};
    irq1 = irq12 = (struct fixture_line){0};
    resets = a20_changes = 0;
    make(&k, &irq1, &irq12);
    i8042_attach(&k, &bus, NULL);
}

static void command(uint8_t c)
{
    out8(&bus, COMMAND, c);
}

static bool full(void)
{
    return in8(&bus, COMMAND) & 1;
}

/* The bytes that wait, each from the keyboard (aux: the mouse), are exactly these. */
static void expect(const char *file, int line, bool aux, unsigned n, const uint8_t *bytes)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t status = in8(&bus, COMMAND), byte = in8(&bus, DATA);
        if (!(status & 1) || !!(status & 0x20) != aux || byte != bytes[i]) {
            printf("# %s:%d: byte %u is 0x%02x (status 0x%02x), not 0x%02x\n", file, line, i, byte,
                   status, bytes[i]);
            test_failed = true;
        }
    }
    if (full()) {
        printf("# %s:%d: a byte more: 0x%02x\n", file, line, in8(&bus, DATA));
        test_failed = true;
    }
}
#define EXPECT(aux, ...)                                                                           \
    expect(__FILE__, __LINE__, aux, sizeof((uint8_t[]){__VA_ARGS__}), (uint8_t[]){__VA_ARGS__})
#define NOTHING() CHECK(!full())

static void mouse(uint8_t byte)
{
    command(0xd4);
    out8(&bus, DATA, byte);
}

static void set_config(uint8_t config)
{
    command(0x60);
    out8(&bus, DATA, config);
}

/* ---- the controller ---- */

TEST(controller_commands)
{
    setup();
    command(0xaa);
    EXPECT(false, 0x55);
    CHECK_EQ(in8(&bus, COMMAND) & 4, 4);
    command(0xab);
    EXPECT(false, 0x00);
    command(0xa9);
    EXPECT(false, 0x00);
    command(0x20);
    EXPECT(false, 0x45);
    set_config(0x47);
    command(0x20);
    EXPECT(false, 0x47);
    command(0x75); /* its memory */
    out8(&bus, DATA, 0x5a);
    command(0x35);
    EXPECT(false, 0x5a);
    command(0xa7);
    command(0xad);
    command(0x20);
    EXPECT(false, 0x77);
    command(0xa8);
    command(0xae);
    command(0x20);
    EXPECT(false, 0x47);
    command(0xc0);
    EXPECT(false, 0x80);
    command(0xa4);
    EXPECT(false, 0xf1);
    command(0xd2);
    out8(&bus, DATA, 0x12);
    EXPECT(false, 0x12);
    command(0xd3); /* Linux's test for the mouse port */
    out8(&bus, DATA, 0xa5);
    CHECK(irq12.level);
    EXPECT(true, 0xa5);
    CHECK(!irq12.level);
}

TEST(resets_and_a20)
{
    setup();
    command(0xfe);
    CHECK_EQ(resets, 1);
    command(0xff); /* pulses nothing */
    CHECK_EQ(resets, 1);
    command(0xd1);
    out8(&bus, DATA, 0x01);
    CHECK(a20_changes == 1 && !a20);
    command(0xd0);
    EXPECT(false, 0x01);
    command(0xdf);
    CHECK(a20_changes == 2 && a20);
    command(0xd1);
    out8(&bus, DATA, 0x02); /* reset line low */
    CHECK_EQ(resets, 2);
}

TEST(disabled_ports_hold_their_bytes)
{
    setup();
    command(0xad);
    i8042_key(&k, KEY_A, true);
    NOTHING();
    command(0xae);
    EXPECT(false, 0x1e);
    CHECK_EQ(irq1.edges, 1);
}

TEST(each_byte_is_an_edge)
{
    setup();
    i8042_key(&k, KEY_UP, true);
    CHECK_EQ(irq1.edges, 1);
    CHECK_EQ(in8(&bus, DATA), 0xe0);
    CHECK_EQ(irq1.edges, 2);
    CHECK_EQ(in8(&bus, DATA), 0x48);
    CHECK(!irq1.level);
    CHECK_EQ(in8(&bus, DATA), 0x48); /* an empty buffer shows its last byte */
}

/* ---- the keyboard ---- */

TEST(keyboard_commands)
{
    setup();
    set_config(0x05); /* no translation */
    out8(&bus, DATA, 0xff);
    EXPECT(false, 0xfa, 0xaa);
    out8(&bus, DATA, 0xf2);
    EXPECT(false, 0xfa, 0xab, 0x83);
    out8(&bus, DATA, 0xee);
    EXPECT(false, 0xee);
    out8(&bus, DATA, 0xfe); /* again, please */
    EXPECT(false, 0xee);
    out8(&bus, DATA, 0xed);
    EXPECT(false, 0xfa);
    out8(&bus, DATA, 0x05);
    EXPECT(false, 0xfa);
    CHECK_EQ(k.keyboard.leds, 5);
    out8(&bus, DATA, 0xf0);
    EXPECT(false, 0xfa);
    out8(&bus, DATA, 0x00);
    EXPECT(false, 0xfa, 0x02);
    out8(&bus, DATA, 0xed);
    out8(&bus, DATA, 0xf4); /* a command in place of the parameter */
    EXPECT(false, 0xfa, 0xfa);
    out8(&bus, DATA, 0x33); /* none */
    EXPECT(false, 0xfe);
    set_config(0x45);
    out8(&bus, DATA, 0xf2); /* translation does not spare the ID */
    EXPECT(false, 0xfa, 0xab, 0x41);
}

TEST(scan_code_sets)
{
    setup();
    i8042_key(&k, KEY_A, true); /* set 2, translated to 1 */
    i8042_key(&k, KEY_A, false);
    EXPECT(false, 0x1e, 0x9e);
    i8042_key(&k, KEY_UP, true);
    i8042_key(&k, KEY_UP, false);
    EXPECT(false, 0xe0, 0x48, 0xe0, 0xc8);
    set_config(0x05);
    i8042_key(&k, KEY_A, true);
    i8042_key(&k, KEY_A, false);
    EXPECT(false, 0x1c, 0xf0, 0x1c);
    i8042_key(&k, KEY_UP, true);
    i8042_key(&k, KEY_UP, false);
    EXPECT(false, 0xe0, 0x75, 0xe0, 0xf0, 0x75);
    i8042_key(&k, 0x41, true); /* F7 */
    EXPECT(false, 0x83);
    i8042_key(&k, PS2_KEY_PAUSE, true);
    i8042_key(&k, PS2_KEY_PAUSE, false);
    EXPECT(false, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
    i8042_key(&k, PS2_KEY_PRINT, true);
    EXPECT(false, 0xe0, 0x12, 0xe0, 0x7c);
    out8(&bus, DATA, 0xf0);
    out8(&bus, DATA, 0x01);
    EXPECT(false, 0xfa, 0xfa);
    i8042_key(&k, KEY_A, false);
    EXPECT(false, 0x9e);
}

/* Every code of set 2 comes back as the set 1 code that the key is named by. */
TEST(translation_is_the_inverse)
{
    for (unsigned key = 1; key < 0x80; key++) {
        setup();
        i8042_key(&k, key, true);
        EXPECT(false, (uint8_t)key);
        i8042_key(&k, key, false);
        EXPECT(false, (uint8_t)(key | 0x80));
    }
}

TEST(scan_code_set_3)
{
    setup();
    set_config(0x05);
    out8(&bus, DATA, 0xf0);
    out8(&bus, DATA, 0x03);
    EXPECT(false, 0xfa, 0xfa);
    i8042_key(&k, KEY_A, true);
    i8042_key(&k, KEY_A, false); /* repeats, has no break code */
    EXPECT(false, 0x1c);
    i8042_key(&k, 0x2a, true); /* left shift makes and breaks */
    i8042_key(&k, 0x2a, false);
    EXPECT(false, 0x12, 0xf0, 0x12);
    i8042_key(&k, KEY_UP, true); /* no prefixes */
    EXPECT(false, 0x63);
    out8(&bus, DATA, 0xf8); /* all keys make and break */
    EXPECT(false, 0xfa);
    i8042_key(&k, KEY_A, true);
    i8042_key(&k, KEY_A, false);
    EXPECT(false, 0x1c, 0xf0, 0x1c);
    out8(&bus, DATA, 0xfd); /* this one only makes */
    out8(&bus, DATA, 0x1c);
    EXPECT(false, 0xfa, 0xfa);
    out8(&bus, DATA, 0xf4);
    EXPECT(false, 0xfa);
    i8042_key(&k, KEY_A, false);
    NOTHING();
}

TEST(typematic)
{
    setup();
    i8042_key(&k, KEY_A, true);
    EXPECT(false, 0x1e);
    fixture_go(&clk, 499 * MS);
    NOTHING();
    fixture_go(&clk, 501 * MS);
    EXPECT(false, 0x1e);
    fixture_go(&clk, 501 * MS + 92 * MS); /* 10.9 a second */
    EXPECT(false, 0x1e);
    fixture_go(&clk, 900 * MS); /* not fetched: no pile */
    i8042_key(&k, KEY_A, false);
    in8(&bus, DATA);
    in8(&bus, DATA);
    EXPECT(false, 0x9e);
    fixture_go(&clk, 5000 * MS);
    NOTHING();
    out8(&bus, DATA, 0xf3);
    out8(&bus, DATA, 0x00); /* 250 ms, 30 a second */
    EXPECT(false, 0xfa, 0xfa);
    i8042_key(&k, KEY_A, true);
    EXPECT(false, 0x1e);
    fixture_go(&clk, 5251 * MS);
    EXPECT(false, 0x1e);
}

TEST(keyboard_buffer_overruns_once)
{
    setup();
    set_config(0x05);
    for (unsigned i = 0; i < 40; i++)
        i8042_key(&k, KEY_A, true);
    unsigned n = 0, codes = 0, overruns = 0;
    while (full() && n++ < 100) {
        uint8_t byte = in8(&bus, DATA);
        codes += byte == 0x1c;
        overruns += byte == 0x00;
    }
    CHECK_EQ(codes, 17); /* sixteen, and one in the controller */
    CHECK_EQ(overruns, 1);
}

TEST(disabled_scanning)
{
    setup();
    out8(&bus, DATA, 0xf5);
    EXPECT(false, 0xfa);
    i8042_key(&k, KEY_A, true);
    NOTHING();
    out8(&bus, DATA, 0xf4);
    EXPECT(false, 0xfa);
    i8042_key(&k, KEY_A, true);
    EXPECT(false, 0x1e);
    i8042_key(&k, 0, true); /* no keys */
    i8042_key(&k, 12345, true);
    NOTHING();
}

/* ---- the mouse ---- */

TEST(mouse_commands)
{
    setup();
    set_config(0x47);
    mouse(0xff);
    EXPECT(true, 0xfa, 0xaa, 0x00);
    mouse(0xf2);
    EXPECT(true, 0xfa, 0x00);
    mouse(0xe9);
    EXPECT(true, 0xfa, 0x00, 0x02, 0x64);
    mouse(0xe8);
    mouse(0x03);
    EXPECT(true, 0xfa, 0xfa); /* the first was in the controller already */
    mouse(0xf3);
    mouse(0x28);
    mouse(0xe7);
    mouse(0xf4);
    EXPECT(true, 0xfa, 0xfa);
    i8042_mouse_move(&k, 0, 0, 0, 1);
    EXPECT(true, 0x09, 0x00, 0x00);
    mouse(0xe9);
    EXPECT(true, 0xfa, 0x34, 0x03, 0x28);
    mouse(0x11);
    EXPECT(true, 0xfe);
    mouse(0xee); /* wrap mode */
    EXPECT(true, 0xfa);
    mouse(0x42);
    EXPECT(true, 0x42);
    mouse(0xf2);
    EXPECT(true, 0xf2);
    mouse(0xec);
    EXPECT(true, 0xfa);
    mouse(0xf6);
    mouse(0xe9);
    EXPECT(true, 0xfa, 0xfa, 0x04, 0x02, 0x64);
}

TEST(mouse_packets)
{
    setup();
    i8042_mouse_move(&k, 5, 5, 0, 0); /* not reporting yet */
    NOTHING();
    mouse(0xf4);
    EXPECT(true, 0xfa);
    i8042_mouse_move(&k, 5, -3, 0, 4);
    EXPECT(true, 0x2c, 0x05, 0xfd);
    i8042_mouse_move(&k, -300, 0, 0, 0); /* more than a packet holds */
    EXPECT(true, 0x18, 0x00, 0x00, 0x18, 0xd4, 0x00);
    i8042_mouse_move(&k, 1, 1, 0, 0);
    i8042_mouse_move(&k, 2, 2, 0, 0); /* adds up while the first is on its way */
    i8042_mouse_move(&k, 3, 3, 0, 0);
    EXPECT(true, 0x08, 0x01, 0x01, 0x08, 0x05, 0x05);
    i8042_mouse_move(&k, 0, 0, 3, 0); /* no wheel, no news */
    NOTHING();
}

TEST(mouse_remote_mode)
{
    setup();
    mouse(0xf0);
    mouse(0xf4);
    EXPECT(true, 0xfa, 0xfa);
    i8042_mouse_move(&k, 7, 8, 0, 0);
    NOTHING();
    mouse(0xeb);
    EXPECT(true, 0xfa, 0x08, 0x07, 0x08);
    mouse(0xeb);
    EXPECT(true, 0xfa, 0x08, 0x00, 0x00);
}

static void knock(uint8_t a, uint8_t b, uint8_t c)
{
    const uint8_t rates[] = {a, b, c};
    for (unsigned i = 0; i < 3; i++) {
        mouse(0xf3);
        mouse(rates[i]);
    }
    in8(&bus, DATA);
    in8(&bus, DATA);
}

TEST(intellimouse)
{
    setup();
    knock(200, 200, 80); /* too early for five buttons */
    mouse(0xf2);
    EXPECT(true, 0xfa, 0x00);
    knock(200, 100, 80);
    mouse(0xf2);
    EXPECT(true, 0xfa, 0x03);
    mouse(0xf4);
    EXPECT(true, 0xfa);
    i8042_mouse_move(&k, 0, 0, -2, 0);
    EXPECT(true, 0x08, 0x00, 0x00, 0xfe);
    knock(200, 200, 80);
    mouse(0xf2);
    EXPECT(true, 0xfa, 0x04);
    i8042_mouse_move(&k, 0, 0, 1, 0x10);
    EXPECT(true, 0x08, 0x00, 0x00, 0x21);
    mouse(0xff);
    EXPECT(true, 0xfa, 0xaa, 0x00);
}

TEST(survives_save_and_load)
{
    setup();
    static struct i8042 other;
    struct fixture_line one = {0}, twelve = {0};
    i8042_key(&k, KEY_UP, true);
    in8(&bus, DATA);
    mouse(0xf4);
    command(0xd1); /* in the middle of a command */
    make(&other, &one, &twelve);
    CHECK(fixture_round_trip(&i8042_archive, &k, &other));
    CHECK(fixture_round_trip(&ps2_keyboard_archive, &k.keyboard, &other.keyboard));
    CHECK(fixture_round_trip(&ps2_mouse_archive, &k.mouse, &other.mouse));
    CHECK(one.level);
    k.mouse.queue.count = 200;
    CHECK(!fixture_round_trip(&ps2_mouse_archive, &k.mouse, &other.mouse));
    k.keyboard.set = 0;
    CHECK(!fixture_round_trip(&ps2_keyboard_archive, &k.keyboard, &other.keyboard));
}

TESTS(T(controller_commands), T(resets_and_a20), T(disabled_ports_hold_their_bytes),
      T(each_byte_is_an_edge), T(keyboard_commands), T(scan_code_sets),
      T(translation_is_the_inverse), T(scan_code_set_3), T(typematic),
      T(keyboard_buffer_overruns_once), T(disabled_scanning), T(mouse_commands), T(mouse_packets),
      T(mouse_remote_mode), T(intellimouse), T(survives_save_and_load))
