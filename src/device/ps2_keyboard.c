#include "base/bits.h"
#include "device/ps2.h"

enum {
    CMD_LEDS = 0xed,
    CMD_ECHO = 0xee,
    CMD_SCAN_SET = 0xf0,
    CMD_IDENTIFY = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULT = 0xf6,
    CMD_ALL_REPEAT = 0xf7,
    CMD_ALL_MAKE_BREAK = 0xf8,
    CMD_ALL_MAKE = 0xf9,
    CMD_ALL_REPEAT_MAKE_BREAK = 0xfa,
    CMD_KEY_REPEAT = 0xfb,
    CMD_KEY_MAKE_BREAK = 0xfc,
    CMD_KEY_MAKE = 0xfd,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
};
enum { ACK = 0xfa, RESEND = 0xfe, BAT_PASSED = 0xaa, BREAK = 0xf0, EXTENDED = 0xe0 };
enum { DEFAULT_RATE = 0x2b }; /* after 500 ms, 10.9 a second */
enum { BUFFER = 16 };         /* bytes of key codes that the keyboard holds */

/* Set 2's code of each key, by set 1's. Codes of set 1 that no key has are there too: the
 * controller translates back by this table. */
/* clang-format off */
static const uint8_t set2_code[128] = {
    /* 00 */ 0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36,
             0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    /* 10 */ 0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43,
             0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    /* 20 */ 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c,
             0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    /* 30 */ 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c,
             0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    /* 40 */ 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c,
             0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    /* 50 */ 0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78,
             0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
    /* 60 */ 0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20,
             0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f,
    /* 70 */ 0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62,
             0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
};
/* clang-format on */

/* Keys whose code in set 3 is not that of set 2 (0: the key is not known there), by their code in
 * set 1, with PS2_KEY_EXTENDED. */
static const struct {
    uint8_t key, code;
} set3_codes[] = {
    {0x01, 0x08}, {0x1d, 0x11}, {0x2b, 0x5c}, {0x37, 0x7e}, {0x38, 0x19}, {0x3a, 0x14},
    {0x3b, 0x07}, {0x3c, 0x0f}, {0x3d, 0x17}, {0x3e, 0x1f}, {0x3f, 0x27}, {0x40, 0x2f},
    {0x41, 0x37}, {0x42, 0x3f}, {0x43, 0x47}, {0x44, 0x4f}, {0x45, 0x76}, {0x46, 0x5f},
    {0x4a, 0x84}, {0x4e, 0x7c}, {0x56, 0x13}, {0x57, 0x56}, {0x58, 0x5e}, {0x9c, 0x79},
    {0x9d, 0x58}, {0xb5, 0x77}, {0xb8, 0x39}, {0xc7, 0x6e}, {0xc8, 0x63}, {0xc9, 0x6f},
    {0xcb, 0x61}, {0xcd, 0x6a}, {0xcf, 0x65}, {0xd0, 0x60}, {0xd1, 0x6d}, {0xd2, 0x67},
    {0xd3, 0x64}, {0xdb, 0x8b}, {0xdc, 0x8c}, {0xdd, 0x8d},
};

/* Set 3 after a reset: modifiers make and break, these only make, the rest repeats. */
static const uint8_t set3_make_break[] = {0x11, 0x12, 0x14, 0x19, 0x59};
static const uint8_t set3_make[] = {0x07, 0x08, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x39,
                                    0x3f, 0x47, 0x4f, 0x56, 0x57, 0x58, 0x5e, 0x5f, 0x62,
                                    0x64, 0x65, 0x67, 0x6d, 0x6e, 0x6f, 0x76, 0x77, 0x79};

uint8_t ps2_translate(uint8_t set2)
{
    if (set2 == 0x02)
        return 0x41; /* F7 in set 2 is 0x83; both give 0x41 */
    if (set2 == 0x7f)
        return 0x54;
    for (unsigned i = 1; i < ARRAY_LEN(set2_code); i++)
        if (set2_code[i] == set2)
            return (uint8_t)i;
    return set2;
}

static uint8_t keyboard_set3_code(unsigned key)
{
    for (unsigned i = 0; i < ARRAY_LEN(set3_codes); i++)
        if (set3_codes[i].key == key)
            return set3_codes[i].code;
    return key & PS2_KEY_EXTENDED ? 0 : set2_code[key];
}

static void bitmap_put(uint8_t *map, uint8_t n, bool on)
{
    map[n / 8] = (uint8_t)((map[n / 8] & ~(1u << n % 8)) | (unsigned)on << n % 8);
}

static bool bitmap_get(const uint8_t *map, uint8_t n)
{
    return map[n / 8] >> n % 8 & 1;
}

/* ---- key codes ---- */

struct sequence {
    uint8_t bytes[8];
    unsigned count;
};

static void sequence_put(struct sequence *s, uint8_t byte)
{
    s->bytes[s->count++] = byte;
}

/* Print Screen and Pause: fixed sequences; Pause has no break code. */
static struct sequence keyboard_special(unsigned set, unsigned key, bool down)
{
    static const struct sequence code[2][2][2] = {
        /* by set 1 or 2; Print, Pause; up, down */
        {{{{0xe0, 0xb7, 0xe0, 0xaa}, 4}, {{0xe0, 0x2a, 0xe0, 0x37}, 4}},
         {{{0}, 0}, {{0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5}, 6}}},
        {{{{0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12}, 6}, {{0xe0, 0x12, 0xe0, 0x7c}, 4}},
         {{{0}, 0}, {{0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77}, 8}}},
    };
    return code[set == 2][key == PS2_KEY_PAUSE][down];
}

static struct sequence keyboard_set3(const struct ps2_keyboard *k, unsigned key, bool down)
{
    struct sequence s = {.count = 0};
    uint8_t code = key == PS2_KEY_PRINT   ? 0x57
                   : key == PS2_KEY_PAUSE ? 0x62
                                          : keyboard_set3_code(key);
    if (!code || (!down && !bitmap_get(k->breaks, code)))
        return s;
    if (!down)
        sequence_put(&s, BREAK);
    sequence_put(&s, code);
    return s;
}

static struct sequence keyboard_sequence(const struct ps2_keyboard *k, unsigned key, bool down)
{
    if (k->set == 3)
        return keyboard_set3(k, key, down);
    if (key >= PS2_KEY_PRINT)
        return keyboard_special(k->set, key, down);
    struct sequence s = {.count = 0};
    uint8_t code = key & 0x7f;
    if (key & PS2_KEY_EXTENDED)
        sequence_put(&s, EXTENDED);
    if (k->set == 1) {
        sequence_put(&s, down ? code : code | 0x80);
    } else {
        if (!down)
            sequence_put(&s, BREAK);
        sequence_put(&s, set2_code[code]);
    }
    return s;
}

static void keyboard_send(struct ps2_keyboard *k, unsigned key, bool down)
{
    struct sequence s = keyboard_sequence(k, key, down);
    if (!s.count)
        return;
    if (k->queue.count + s.count > BUFFER) {
        /* Overrun: said once, behind what fits. */
        uint8_t code = k->set == 1 ? 0xff : 0x00;
        if (!k->overrun)
            ps2_queue_put(&k->queue, &code, 1);
        k->overrun = 1;
    } else {
        ps2_queue_put(&k->queue, s.bytes, s.count);
        k->overrun = 0;
    }
    k->changed(k->ctx);
}

/* ---- typematic ---- */

static bool keyboard_repeats(const struct ps2_keyboard *k, unsigned key)
{
    if (key >= PS2_KEY_PRINT)
        return false;
    return k->set != 3 || bitmap_get(k->repeats, keyboard_set3_code(key));
}

static void keyboard_repeat_at(struct ps2_keyboard *k, uint64_t at)
{
    k->repeat_at = at;
    timer_set(&k->timer, at);
}

static void keyboard_stop_repeat(struct ps2_keyboard *k)
{
    k->held = 0;
    keyboard_repeat_at(k, CLOCK_NEVER);
}

static void keyboard_fire(void *ctx)
{
    struct ps2_keyboard *k = ctx;
    /* Period = (8 + A) * 2^B * 4.17 ms (the reference's formula for the rate byte). */
    uint64_t period = (8u + (k->rate & 7)) * (UINT64_C(1) << (k->rate >> 3 & 3)) * 4170000;
    /* A host that does not read gets no pile of repeats. */
    if (!k->queue.count)
        keyboard_send(k, k->held, true);
    keyboard_repeat_at(k, clock_now(k->clock) + period);
}

void ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down)
{
    if (!k->scanning || key == 0 || key >= PS2_KEYS)
        return;
    keyboard_send(k, key, down);
    if (down && keyboard_repeats(k, key)) {
        k->held = (uint16_t)key;
        keyboard_repeat_at(k, clock_now(k->clock) + ((k->rate >> 5 & 3) + 1) * UINT64_C(250000000));
    } else if (key == k->held || down) {
        keyboard_stop_repeat(k);
    }
}

/* ---- commands ---- */

static void keyboard_reply(struct ps2_keyboard *k, uint8_t byte)
{
    ps2_queue_put(&k->reply, &byte, 1);
}

static void keyboard_set_all(struct ps2_keyboard *k, bool repeats, bool breaks)
{
    memset(k->repeats, repeats ? 0xff : 0, sizeof k->repeats);
    memset(k->breaks, breaks ? 0xff : 0, sizeof k->breaks);
}

static void keyboard_defaults(struct ps2_keyboard *k)
{
    k->rate = DEFAULT_RATE;
    k->set = 2;
    keyboard_set_all(k, true, false);
    for (unsigned i = 0; i < sizeof set3_make_break; i++) {
        bitmap_put(k->repeats, set3_make_break[i], false);
        bitmap_put(k->breaks, set3_make_break[i], true);
    }
    for (unsigned i = 0; i < sizeof set3_make; i++)
        bitmap_put(k->repeats, set3_make[i], false);
    keyboard_stop_repeat(k);
    ps2_queue_clear(&k->queue);
}

static void keyboard_set_leds(struct ps2_keyboard *k, uint8_t leds)
{
    k->leds = leds & 7;
    if (k->set_leds)
        k->set_leds(k->ctx, k->leds);
}

/* The parameter of the command before; false: it is none, but a command of its own. */
static bool keyboard_parameter(struct ps2_keyboard *k, uint8_t byte)
{
    uint8_t command = k->command;
    k->command = 0;
    if (!command || byte >= CMD_LEDS)
        return false;
    keyboard_reply(k, ACK);
    switch (command) {
    case CMD_LEDS: keyboard_set_leds(k, byte); break;
    case CMD_RATE: k->rate = byte & 0x7f; break;
    case CMD_SCAN_SET:
        if (byte == 0)
            keyboard_reply(k, k->set);
        else if (byte <= 3)
            k->set = byte;
        break;
    default: /* set 3's key lists go on until another command comes */
        bitmap_put(k->repeats, byte, command == CMD_KEY_REPEAT);
        bitmap_put(k->breaks, byte, command == CMD_KEY_MAKE_BREAK);
        k->command = command;
    }
    return true;
}

static void keyboard_execute(struct ps2_keyboard *k, uint8_t byte)
{
    if (byte != CMD_ECHO && byte != CMD_RESEND)
        keyboard_reply(k, byte >= CMD_LEDS && byte != 0xef && byte != 0xf1 ? ACK : RESEND);
    switch (byte) {
    case CMD_LEDS:
    case CMD_SCAN_SET:
    case CMD_RATE:
    case CMD_KEY_REPEAT:
    case CMD_KEY_MAKE_BREAK:
    case CMD_KEY_MAKE: k->command = byte; break;
    case CMD_ECHO: keyboard_reply(k, CMD_ECHO); break;
    case CMD_IDENTIFY:
        keyboard_reply(k, 0xab);
        keyboard_reply(k, 0x83);
        break;
    case CMD_ENABLE:
        ps2_queue_clear(&k->queue);
        k->scanning = 1;
        break;
    case CMD_DISABLE:
        keyboard_defaults(k);
        k->scanning = 0;
        break;
    case CMD_DEFAULT: keyboard_defaults(k); break;
    case CMD_ALL_REPEAT: keyboard_set_all(k, true, false); break;
    case CMD_ALL_MAKE_BREAK: keyboard_set_all(k, false, true); break;
    case CMD_ALL_MAKE: keyboard_set_all(k, false, false); break;
    case CMD_ALL_REPEAT_MAKE_BREAK: keyboard_set_all(k, true, true); break;
    case CMD_RESEND: keyboard_reply(k, k->last); break;
    case CMD_RESET:
        keyboard_defaults(k);
        keyboard_set_leds(k, 0);
        k->scanning = 1;
        keyboard_reply(k, BAT_PASSED);
        break;
    default: break;
    }
}

void ps2_keyboard_command(struct ps2_keyboard *k, uint8_t byte)
{
    ps2_queue_clear(&k->reply); /* a new command ends an answer that was not fetched */
    if (!keyboard_parameter(k, byte))
        keyboard_execute(k, byte);
    k->changed(k->ctx);
}

int ps2_keyboard_take(struct ps2_keyboard *k)
{
    int byte = ps2_queue_take(&k->reply);
    if (byte < 0 && !k->command)
        byte = ps2_queue_take(&k->queue);
    if (byte >= 0)
        k->last = (uint8_t)byte;
    return byte;
}

/* ---- life ---- */

void ps2_keyboard_init(struct ps2_keyboard *k, struct clock *clock, void (*changed)(void *ctx),
                       void *ctx)
{
    *k = (struct ps2_keyboard){.clock = clock, .changed = changed, .ctx = ctx};
    timer_init(&k->timer, clock, keyboard_fire, k);
    ps2_keyboard_reset(k);
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
    keyboard_defaults(k);
    ps2_queue_clear(&k->reply);
    keyboard_set_leds(k, 0);
    k->command = 0;
    k->last = 0;
    k->scanning = 1;
}

static bool keyboard_after_load(void *object, struct error *err)
{
    struct ps2_keyboard *k = object;
    if (!ps2_queue_sane(&k->reply) || !ps2_queue_sane(&k->queue) || k->held >= PS2_KEYS ||
        k->set < 1 || k->set > 3)
        return error_set(err, "keyboard: a saved value is out of range; the state is damaged");
    timer_set(&k->timer, k->held ? k->repeat_at : CLOCK_NEVER);
    if (k->set_leds)
        k->set_leds(k->ctx, k->leds);
    return true;
}

static const struct archive_field keyboard_fields[] = {
    ARCHIVE_ARRAY(struct ps2_keyboard, reply.data),
    ARCHIVE_FIELD(struct ps2_keyboard, reply.head),
    ARCHIVE_FIELD(struct ps2_keyboard, reply.count),
    ARCHIVE_ARRAY(struct ps2_keyboard, queue.data),
    ARCHIVE_FIELD(struct ps2_keyboard, queue.head),
    ARCHIVE_FIELD(struct ps2_keyboard, queue.count),
    ARCHIVE_FIELD(struct ps2_keyboard, command),
    ARCHIVE_FIELD(struct ps2_keyboard, scanning),
    ARCHIVE_FIELD(struct ps2_keyboard, set),
    ARCHIVE_FIELD(struct ps2_keyboard, leds),
    ARCHIVE_FIELD(struct ps2_keyboard, rate),
    ARCHIVE_FIELD(struct ps2_keyboard, last),
    ARCHIVE_FIELD(struct ps2_keyboard, overrun),
    ARCHIVE_ARRAY(struct ps2_keyboard, breaks),
    ARCHIVE_ARRAY(struct ps2_keyboard, repeats),
    ARCHIVE_FIELD(struct ps2_keyboard, held),
    ARCHIVE_FIELD(struct ps2_keyboard, repeat_at),
};

const struct archive_type ps2_keyboard_archive = {
    .name = "keyboard",
    .version = 1,
    .fields = keyboard_fields,
    .field_count = ARRAY_LEN(keyboard_fields),
    .after_load = keyboard_after_load,
};
