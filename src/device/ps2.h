/*
 * What is plugged into the i8042: a keyboard and a mouse, each a state machine that takes command
 * bytes and fills a queue of answer and event bytes (IBM PS/2 Hardware Interface Technical
 * Reference, "Keyboards" and "Mouse").
 */
#ifndef DOPPEL_DEVICE_PS2_H
#define DOPPEL_DEVICE_PS2_H

#include <stdbool.h>
#include <stdint.h>

#include "base/archive.h"
#include "device/clock.h"

enum { PS2_QUEUE = 32 };

struct ps2_queue {
    uint8_t data[PS2_QUEUE];
    uint8_t head, count;
};

void ps2_queue_clear(struct ps2_queue *q);
/* False, and nothing done, unless all n bytes fit. */
bool ps2_queue_put(struct ps2_queue *q, const uint8_t *bytes, unsigned n);
/* The next byte, or -1. */
int ps2_queue_take(struct ps2_queue *q);
bool ps2_queue_sane(const struct ps2_queue *q);

/* Keys are named by their scan code of set 1; with PS2_KEY_EXTENDED where it stands behind an E0
 * prefix. Two keys send sequences of their own. */
enum { PS2_KEY_EXTENDED = 0x80, PS2_KEY_PRINT = 0x100, PS2_KEY_PAUSE = 0x101, PS2_KEYS };

struct ps2_keyboard {
    struct clock *clock;
    struct timer timer;                       /* typematic */
    void (*changed)(void *ctx);               /* the queue is not empty */
    void (*set_leds)(void *ctx, uint8_t led); /* may be NULL */
    void *ctx;
    struct ps2_queue reply, queue; /* answers go before events */
    uint8_t command;               /* the command whose parameter is awaited; 0: none */
    uint8_t scanning, set, leds, rate;
    uint8_t last;        /* last byte sent, for RESEND */
    uint8_t overrun;     /* the buffer's last byte is the overrun code */
    uint8_t breaks[32];  /* set 3: keys that send a break code, by their code in set 3 */
    uint8_t repeats[32]; /* set 3: keys that repeat */
    uint16_t held;       /* the key that repeats; 0: none */
    uint64_t repeat_at;  /* CLOCK_NEVER: no key repeats */
};

struct ps2_mouse {
    void (*changed)(void *ctx);
    void *ctx;
    struct ps2_queue reply, queue;
    uint8_t command, reporting, remote, wrap, scaling, resolution, rate;
    uint8_t id;       /* 0 standard, 3 with a wheel, 4 with a wheel and five buttons */
    uint8_t rates[2]; /* the sample rates set before the last: the IntelliMouse's knock */
    uint8_t buttons, sent_buttons;
    uint8_t last;
    int32_t dx, dy, dz; /* moved and not reported yet */
};

extern const struct archive_type ps2_keyboard_archive, ps2_mouse_archive;

void ps2_keyboard_init(struct ps2_keyboard *k, struct clock *clock, void (*changed)(void *ctx),
                       void *ctx);
void ps2_keyboard_reset(struct ps2_keyboard *k);
/* A byte from the host. */
void ps2_keyboard_command(struct ps2_keyboard *k, uint8_t byte);
/* The next byte for the host, or -1. */
int ps2_keyboard_take(struct ps2_keyboard *k);
/* A key was pressed or released; lost when the keyboard's buffer is full, as on a real one. */
void ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down);

/* The controller's translation of a byte of scan code set 2 to set 1. */
uint8_t ps2_translate(uint8_t set2);

void ps2_mouse_init(struct ps2_mouse *m, void (*changed)(void *ctx), void *ctx);
void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_command(struct ps2_mouse *m, uint8_t byte);
int ps2_mouse_take(struct ps2_mouse *m);
/* Moved by dx to the right, dy up, dz (wheel) towards the user. buttons: bit 0 left, 1 right, 2
 * middle, 3 and 4 the side ones. */
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons);

#endif
