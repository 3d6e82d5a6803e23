#include "base/bits.h"
#include "device/ps2.h"

enum {
    CMD_SCALE_1 = 0xe6,
    CMD_SCALE_2 = 0xe7,
    CMD_RESOLUTION = 0xe8,
    CMD_STATUS = 0xe9,
    CMD_STREAM = 0xea,
    CMD_READ = 0xeb,
    CMD_END_WRAP = 0xec,
    CMD_WRAP = 0xee,
    CMD_REMOTE = 0xf0,
    CMD_IDENTIFY = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULT = 0xf6,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
};
enum { ACK = 0xfa, RESEND = 0xfe, BAT_PASSED = 0xaa };
enum { BUTTONS_STANDARD = 7, BUTTONS_SIDE = 0x18 };
/* A counter holds a sign and eight bits; what is more waits for the next packet. */
enum { COUNTER_MIN = -256, COUNTER_MAX = 255 };

static int clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}

static void mouse_reply(struct ps2_mouse *m, uint8_t byte)
{
    ps2_queue_put(&m->reply, &byte, 1);
}

/* ---- packets ---- */

/* Scaling 2:1 of stream mode. */
static int mouse_scale(const struct ps2_mouse *m, int v)
{
    static const int small[] = {0, 1, 1, 3, 6, 9};
    int size = v < 0 ? -v : v;
    if (!m->scaling || m->remote)
        return v;
    size = size < (int)ARRAY_LEN(small) ? small[size] : 2 * size;
    return clamp(v < 0 ? -size : size, COUNTER_MIN, COUNTER_MAX);
}

static void mouse_packet(struct ps2_mouse *m, struct ps2_queue *q)
{
    int dx = clamp(m->dx, COUNTER_MIN, COUNTER_MAX), dy = clamp(m->dy, COUNTER_MIN, COUNTER_MAX);
    int dz = clamp(m->dz, m->id == 4 ? -8 : -128, m->id == 4 ? 7 : 127);
    m->dx -= dx;
    m->dy -= dy;
    m->dz -= m->id ? dz : m->dz;
    m->sent_buttons = m->buttons;
    dx = mouse_scale(m, dx);
    dy = mouse_scale(m, dy);
    uint8_t packet[4] = {
        (uint8_t)(1u << 3 | (m->buttons & BUTTONS_STANDARD) | (dx < 0) << 4 | (dy < 0) << 5),
        (uint8_t)dx,
        (uint8_t)dy,
        (uint8_t)dz,
    };
    if (m->id == 4)
        packet[3] = (uint8_t)((dz & 15) | (m->buttons & BUTTONS_SIDE) << 1);
    ps2_queue_put(q, packet, m->id ? 4 : 3);
}

static bool mouse_has_news(const struct ps2_mouse *m)
{
    uint8_t visible = m->id == 4 ? BUTTONS_STANDARD | BUTTONS_SIDE : BUTTONS_STANDARD;
    return m->dx || m->dy || (m->id && m->dz) || ((m->buttons ^ m->sent_buttons) & visible);
}

/* Stream mode: one packet at a time; movement adds up while the host has not fetched the last. */
static void mouse_stream(struct ps2_mouse *m)
{
    if (m->reporting && !m->remote && !m->wrap && !m->queue.count && mouse_has_news(m))
        mouse_packet(m, &m->queue);
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons)
{
    const int far = 1 << 20; /* keeps the sums bounded */
    m->buttons = buttons & (BUTTONS_STANDARD | BUTTONS_SIDE);
    m->dx = clamp(m->dx + clamp(dx, -far, far), -far, far);
    m->dy = clamp(m->dy + clamp(dy, -far, far), -far, far);
    m->dz = clamp(m->dz + clamp(dz, -far, far), -far, far);
    mouse_stream(m);
    m->changed(m->ctx);
}

/* ---- commands ---- */

static void mouse_forget(struct ps2_mouse *m)
{
    m->dx = m->dy = m->dz = 0;
    ps2_queue_clear(&m->queue);
}

static void mouse_defaults(struct ps2_mouse *m)
{
    m->rate = 100;
    m->resolution = 2; /* 4 counts a millimetre */
    m->scaling = m->remote = m->wrap = m->reporting = 0;
    m->rates[0] = m->rates[1] = 0;
    mouse_forget(m);
}

/* A driver knocks with three sample rates to ask for a wheel, and then for more buttons. */
static void mouse_set_rate(struct ps2_mouse *m, uint8_t rate)
{
    if (m->rates[0] == 200 && m->rates[1] == 100 && rate == 80)
        m->id = 3;
    else if (m->rates[0] == 200 && m->rates[1] == 200 && rate == 80 && m->id == 3)
        m->id = 4;
    m->rates[0] = m->rates[1];
    m->rates[1] = rate;
    m->rate = rate;
}

static void mouse_status(struct ps2_mouse *m)
{
    uint8_t b = m->buttons;
    mouse_reply(m, (uint8_t)((b >> 1 & 1) | (b >> 2 & 1) << 1 | (b & 1) << 2 | m->scaling << 4 |
                             m->reporting << 5 | m->remote << 6));
    mouse_reply(m, m->resolution);
    mouse_reply(m, m->rate);
}

static void mouse_parameter(struct ps2_mouse *m, uint8_t byte)
{
    if (m->command == CMD_RATE)
        mouse_set_rate(m, byte);
    else
        m->resolution = byte & 3;
    m->command = 0;
    mouse_reply(m, ACK);
}

static void mouse_reset_command(struct ps2_mouse *m)
{
    mouse_defaults(m);
    m->id = 0;
    mouse_reply(m, BAT_PASSED);
    mouse_reply(m, m->id);
}

static void mouse_execute(struct ps2_mouse *m, uint8_t byte)
{
    bool known = byte >= CMD_SCALE_1 && byte != 0xed && byte != 0xef && byte != 0xf1 &&
                 (byte <= CMD_DEFAULT || byte >= CMD_RESEND);
    if (byte != CMD_RESEND)
        mouse_reply(m, known ? ACK : RESEND);
    switch (byte) {
    case CMD_SCALE_1: m->scaling = 0; break;
    case CMD_SCALE_2: m->scaling = 1; break;
    case CMD_RESOLUTION:
    case CMD_RATE: m->command = byte; break;
    case CMD_STATUS: mouse_status(m); break;
    case CMD_STREAM:
        m->remote = 0;
        mouse_forget(m);
        break;
    case CMD_READ: mouse_packet(m, &m->reply); break;
    case CMD_WRAP: m->wrap = 1; break;
    case CMD_REMOTE:
        m->remote = 1;
        mouse_forget(m);
        break;
    case CMD_IDENTIFY: mouse_reply(m, m->id); break;
    case CMD_ENABLE:
        m->reporting = 1;
        mouse_forget(m);
        break;
    case CMD_DISABLE: m->reporting = 0; break;
    case CMD_DEFAULT: mouse_defaults(m); break;
    case CMD_RESEND: mouse_reply(m, m->last); break;
    case CMD_RESET: mouse_reset_command(m); break;
    default: break;
    }
}

void ps2_mouse_command(struct ps2_mouse *m, uint8_t byte)
{
    ps2_queue_clear(&m->reply);
    if (m->wrap && byte != CMD_RESET && byte != CMD_END_WRAP)
        mouse_reply(m, byte);
    else if (m->command)
        mouse_parameter(m, byte);
    else if (byte == CMD_END_WRAP) {
        m->wrap = 0;
        mouse_reply(m, ACK);
    } else {
        mouse_execute(m, byte);
    }
    m->changed(m->ctx);
}

int ps2_mouse_take(struct ps2_mouse *m)
{
    int byte = ps2_queue_take(&m->reply);
    if (byte < 0 && !m->command) {
        byte = ps2_queue_take(&m->queue);
        mouse_stream(m);
    }
    if (byte >= 0)
        m->last = (uint8_t)byte;
    return byte;
}

/* ---- life ---- */

void ps2_mouse_init(struct ps2_mouse *m, void (*changed)(void *ctx), void *ctx)
{
    *m = (struct ps2_mouse){.changed = changed, .ctx = ctx};
    ps2_mouse_reset(m);
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    mouse_defaults(m);
    ps2_queue_clear(&m->reply);
    m->command = m->id = m->last = m->buttons = m->sent_buttons = 0;
}

static bool mouse_after_load(void *object, struct error *err)
{
    struct ps2_mouse *m = object;
    const int far = 1 << 20;
    if (!ps2_queue_sane(&m->reply) || !ps2_queue_sane(&m->queue) || m->dx < -far || m->dx > far ||
        m->dy < -far || m->dy > far || m->dz < -far || m->dz > far)
        return error_set(err, "mouse: a saved value is out of range; the state is damaged");
    m->scaling &= 1;
    m->reporting &= 1;
    m->remote &= 1;
    m->wrap &= 1;
    return true;
}

static const struct archive_field mouse_fields[] = {
    ARCHIVE_ARRAY(struct ps2_mouse, reply.data),   ARCHIVE_FIELD(struct ps2_mouse, reply.head),
    ARCHIVE_FIELD(struct ps2_mouse, reply.count),  ARCHIVE_ARRAY(struct ps2_mouse, queue.data),
    ARCHIVE_FIELD(struct ps2_mouse, queue.head),   ARCHIVE_FIELD(struct ps2_mouse, queue.count),
    ARCHIVE_FIELD(struct ps2_mouse, command),      ARCHIVE_FIELD(struct ps2_mouse, reporting),
    ARCHIVE_FIELD(struct ps2_mouse, remote),       ARCHIVE_FIELD(struct ps2_mouse, wrap),
    ARCHIVE_FIELD(struct ps2_mouse, scaling),      ARCHIVE_FIELD(struct ps2_mouse, resolution),
    ARCHIVE_FIELD(struct ps2_mouse, rate),         ARCHIVE_FIELD(struct ps2_mouse, id),
    ARCHIVE_ARRAY(struct ps2_mouse, rates),        ARCHIVE_FIELD(struct ps2_mouse, buttons),
    ARCHIVE_FIELD(struct ps2_mouse, sent_buttons), ARCHIVE_FIELD(struct ps2_mouse, last),
    ARCHIVE_FIELD(struct ps2_mouse, dx),           ARCHIVE_FIELD(struct ps2_mouse, dy),
    ARCHIVE_FIELD(struct ps2_mouse, dz),
};

const struct archive_type ps2_mouse_archive = {
    .name = "mouse",
    .version = 1,
    .fields = mouse_fields,
    .field_count = ARRAY_LEN(mouse_fields),
    .after_load = mouse_after_load,
};
