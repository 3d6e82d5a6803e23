#include "device/i8042.h"

#include "base/bits.h"

enum { DATA = 0, STATUS_COMMAND = 4 }; /* ports 0x60 and 0x64 */

enum {
    STATUS_OBF = 1u << 0,
    STATUS_SYS = 1u << 2,
    STATUS_COMMAND_LAST = 1u << 3, /* the last write went to 0x64 */
    STATUS_UNLOCKED = 1u << 4,
    STATUS_AUX_OBF = 1u << 5,
};
/* The command byte. */
enum {
    CONFIG_KEYBOARD_INT = 1u << 0,
    CONFIG_AUX_INT = 1u << 1,
    CONFIG_SYS = 1u << 2,
    CONFIG_KEYBOARD_OFF = 1u << 4,
    CONFIG_AUX_OFF = 1u << 5,
    CONFIG_TRANSLATE = 1u << 6,
};
enum {
    OUTPUT_NO_RESET = 1u << 0,
    OUTPUT_A20 = 1u << 1,
    OUTPUT_OBF = 1u << 4,
    OUTPUT_AUX = 1u << 5
};
enum {
    CMD_READ_RAM = 0x20,
    CMD_WRITE_RAM = 0x60,
    CMD_TEST_PASSWORD = 0xa4,
    CMD_AUX_OFF = 0xa7,
    CMD_AUX_ON = 0xa8,
    CMD_TEST_AUX = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_TEST_KEYBOARD = 0xab,
    CMD_KEYBOARD_OFF = 0xad,
    CMD_KEYBOARD_ON = 0xae,
    CMD_READ_INPUT = 0xc0,
    CMD_READ_OUTPUT = 0xd0,
    CMD_WRITE_OUTPUT = 0xd1,
    CMD_WRITE_KEYBOARD_BUFFER = 0xd2,
    CMD_WRITE_AUX_BUFFER = 0xd3,
    CMD_WRITE_AUX = 0xd4,
    CMD_A20_OFF = 0xdd,
    CMD_A20_ON = 0xdf,
    CMD_READ_TEST = 0xe0,
    CMD_PULSE = 0xf0,
};
enum { FROM_KEYBOARD, FROM_AUX };

static void i8042_lines(struct i8042 *k)
{
    bool full = k->status & STATUS_OBF, aux = k->from == FROM_AUX;
    irq_set(&k->irq1, full && !aux && (k->config & CONFIG_KEYBOARD_INT));
    irq_set(&k->irq12, full && aux && (k->config & CONFIG_AUX_INT));
}

static void i8042_put(struct i8042 *k, uint8_t byte, uint8_t from)
{
    k->data = byte;
    k->from = from;
    k->status |= STATUS_OBF;
    k->status = (uint8_t)((k->status & ~STATUS_AUX_OBF) | (from == FROM_AUX ? STATUS_AUX_OBF : 0));
    i8042_lines(k);
}

/* What the keyboard sends is set 2's; the controller makes set 1's of it: a break prefix becomes
 * the code's top bit. */
static int i8042_take_keyboard(struct i8042 *k)
{
    int byte = ps2_keyboard_take(&k->keyboard);
    if (byte < 0 || !(k->config & CONFIG_TRANSLATE))
        return byte;
    if (byte == 0xf0) {
        k->release = 0x80;
        byte = ps2_keyboard_take(&k->keyboard);
        if (byte < 0)
            return -1;
    }
    byte = ps2_translate((uint8_t)byte);
    if (byte < 0x80)
        byte |= k->release;
    k->release = 0;
    return byte;
}

/* Fills the output buffer from whoever has something, once it is empty. */
static void i8042_fill(void *ctx)
{
    struct i8042 *k = ctx;
    if (k->status & STATUS_OBF)
        return;
    int byte = -1;
    if (!(k->config & CONFIG_KEYBOARD_OFF))
        byte = i8042_take_keyboard(k);
    if (byte >= 0) {
        i8042_put(k, (uint8_t)byte, FROM_KEYBOARD);
        return;
    }
    if (!(k->config & CONFIG_AUX_OFF))
        byte = ps2_mouse_take(&k->mouse);
    if (byte >= 0)
        i8042_put(k, (uint8_t)byte, FROM_AUX);
}

static void i8042_set_output(struct i8042 *k, uint8_t value)
{
    bool a20 = value & OUTPUT_A20, was = k->output_port & OUTPUT_A20;
    k->output_port = value & (OUTPUT_NO_RESET | OUTPUT_A20 | 0xcc);
    if (a20 != was && k->host.a20)
        k->host.a20(k->host.ctx, a20);
    if (!(value & OUTPUT_NO_RESET)) {
        k->output_port |= OUTPUT_NO_RESET;
        k->host.reset(k->host.ctx);
    }
}

static uint8_t i8042_output(const struct i8042 *k)
{
    uint8_t full = k->from == FROM_AUX ? OUTPUT_AUX : OUTPUT_OBF;
    return k->output_port | (k->status & STATUS_OBF ? full : 0);
}

static void i8042_set_config(struct i8042 *k, uint8_t value)
{
    k->config = value;
    k->status = (uint8_t)((k->status & ~STATUS_SYS) | (value & CONFIG_SYS ? STATUS_SYS : 0));
    i8042_lines(k);
    i8042_fill(k);
}

static void i8042_answer(struct i8042 *k, uint8_t byte)
{
    i8042_put(k, byte, FROM_KEYBOARD);
}

static void i8042_command(struct i8042 *k, uint8_t command)
{
    k->command = 0;
    if (command >= CMD_PULSE) {
        if (!(command & 1))
            k->host.reset(k->host.ctx);
        return;
    }
    if ((command & 0xe0) == CMD_READ_RAM) {
        i8042_answer(k, command == CMD_READ_RAM ? k->config : k->ram[command & 31]);
        return;
    }
    if ((command & 0xe0) == CMD_WRITE_RAM) {
        k->command = command;
        return;
    }
    switch (command) {
    case CMD_TEST_PASSWORD: i8042_answer(k, 0xf1); break; /* none is set */
    case CMD_AUX_OFF: i8042_set_config(k, k->config | CONFIG_AUX_OFF); break;
    case CMD_AUX_ON: i8042_set_config(k, k->config & (uint8_t)~CONFIG_AUX_OFF); break;
    case CMD_TEST_AUX:
    case CMD_TEST_KEYBOARD: i8042_answer(k, 0x00); break;
    case CMD_SELF_TEST:
        k->status |= STATUS_SYS;
        k->config |= CONFIG_SYS;
        i8042_answer(k, 0x55);
        break;
    case CMD_KEYBOARD_OFF: i8042_set_config(k, k->config | CONFIG_KEYBOARD_OFF); break;
    case CMD_KEYBOARD_ON: i8042_set_config(k, k->config & (uint8_t)~CONFIG_KEYBOARD_OFF); break;
    case CMD_READ_INPUT: i8042_answer(k, 0x80); break; /* the keyboard is not locked */
    case CMD_READ_OUTPUT: i8042_answer(k, i8042_output(k)); break;
    case CMD_WRITE_OUTPUT:
    case CMD_WRITE_KEYBOARD_BUFFER:
    case CMD_WRITE_AUX_BUFFER:
    case CMD_WRITE_AUX: k->command = command; break;
    case CMD_A20_OFF: i8042_set_output(k, k->output_port & (uint8_t)~OUTPUT_A20); break;
    case CMD_A20_ON: i8042_set_output(k, k->output_port | OUTPUT_A20); break;
    case CMD_READ_TEST: i8042_answer(k, 0x00); break;
    default: break;
    }
}

static void i8042_write_data(struct i8042 *k, uint8_t byte)
{
    uint8_t command = k->command;
    k->command = 0;
    switch (command) {
    case 0: /* for the keyboard; sending switches its port on */
        i8042_set_config(k, k->config & (uint8_t)~CONFIG_KEYBOARD_OFF);
        ps2_keyboard_command(&k->keyboard, byte);
        break;
    case CMD_WRITE_RAM: i8042_set_config(k, byte); break;
    case CMD_WRITE_OUTPUT: i8042_set_output(k, byte); break;
    case CMD_WRITE_KEYBOARD_BUFFER: i8042_put(k, byte, FROM_KEYBOARD); break;
    case CMD_WRITE_AUX_BUFFER: i8042_put(k, byte, FROM_AUX); break;
    case CMD_WRITE_AUX:
        i8042_set_config(k, k->config & (uint8_t)~CONFIG_AUX_OFF);
        ps2_mouse_command(&k->mouse, byte);
        break;
    default: k->ram[command & 31] = byte;
    }
}

static uint8_t i8042_read_data(struct i8042 *k)
{
    uint8_t byte = k->data;
    k->status &= (uint8_t) ~(STATUS_OBF | STATUS_AUX_OBF);
    i8042_lines(k); /* down, so that the next byte is an edge again */
    i8042_fill(k);
    return byte;
}

static uint64_t i8042_read_60(void *device, uint64_t offset, unsigned size)
{
    return i8042_read_data(device);
}

static void i8042_write_60(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *k = device;
    k->status &= (uint8_t)~STATUS_COMMAND_LAST;
    i8042_write_data(k, (uint8_t)value);
}

static uint64_t i8042_read_64(void *device, uint64_t offset, unsigned size)
{
    struct i8042 *k = device;
    return k->status;
}

static void i8042_write_64(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *k = device;
    k->status |= STATUS_COMMAND_LAST;
    i8042_command(k, (uint8_t)value);
}

static const struct bus_ops i8042_data_ops = {i8042_read_60, i8042_write_60, 1};
static const struct bus_ops i8042_command_ops = {i8042_read_64, i8042_write_64, 1};

void i8042_key(struct i8042 *k, unsigned key, bool down)
{
    ps2_keyboard_key(&k->keyboard, key, down);
}

void i8042_mouse_move(struct i8042 *k, int dx, int dy, int dz, unsigned buttons)
{
    ps2_mouse_move(&k->mouse, dx, dy, dz, buttons);
}

/* ---- life ---- */

void i8042_init(struct i8042 *k, struct clock *clock, struct irq_line irq1, struct irq_line irq12,
                const struct i8042_host *host)
{
    *k = (struct i8042){.clock = clock, .irq1 = irq1, .irq12 = irq12, .host = *host};
    ps2_keyboard_init(&k->keyboard, clock, i8042_fill, k);
    ps2_mouse_init(&k->mouse, i8042_fill, k);
    i8042_reset(k);
}

/* As firmware leaves it: both ports on, the keyboard's interrupt and translation on. */
void i8042_reset(struct i8042 *k)
{
    k->status = STATUS_SYS | STATUS_UNLOCKED;
    k->config = CONFIG_KEYBOARD_INT | CONFIG_SYS | CONFIG_TRANSLATE;
    k->output_port = 0xcc | OUTPUT_NO_RESET | OUTPUT_A20;
    k->data = k->from = k->command = k->release = 0;
    memset(k->ram, 0, sizeof k->ram);
    ps2_keyboard_reset(&k->keyboard);
    ps2_mouse_reset(&k->mouse);
    i8042_lines(k);
}

bool i8042_attach(struct i8042 *k, struct bus *ports, struct error *err)
{
    return bus_add(ports, "i8042", 0x60 + DATA, 1, &i8042_data_ops, k, err) &&
           bus_add(ports, "i8042", 0x60 + STATUS_COMMAND, 1, &i8042_command_ops, k, err);
}

static bool i8042_after_load(void *object, struct error *err)
{
    struct i8042 *k = object;
    k->release &= 0x80;
    i8042_lines(k);
    return true;
}

static const struct archive_field i8042_fields[] = {
    ARCHIVE_FIELD(struct i8042, status),      ARCHIVE_FIELD(struct i8042, config),
    ARCHIVE_FIELD(struct i8042, output_port), ARCHIVE_FIELD(struct i8042, data),
    ARCHIVE_FIELD(struct i8042, from),        ARCHIVE_FIELD(struct i8042, command),
    ARCHIVE_FIELD(struct i8042, release),     ARCHIVE_ARRAY(struct i8042, ram),
};

const struct archive_type i8042_archive = {
    .name = "i8042",
    .version = 1,
    .fields = i8042_fields,
    .field_count = ARRAY_LEN(i8042_fields),
    .after_load = i8042_after_load,
};
