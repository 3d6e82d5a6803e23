/*
 * What is plugged into the i8042: a keyboard and a mouse, each a state machine that takes command
 * bytes and fills a queue of answer and event bytes.
 */
#ifndef DOPPEL_DEVICE_PS2_H
#define DOPPEL_DEVICE_PS2_H

#include <stdbool.h>
#include <stdint.h>

#include "base/archive.h"
#include "device/clock.h"

enum { PS2_QUEUE = 64 };

struct ps2_queue {
    uint8_t data[PS2_QUEUE];
    uint8_t head, count;
};

/* Keys are named by their scan code of set 1; bit 8 set: behind an E0 prefix. PAUSE and PRINT have
 * codes of their own. */
enum { PS2_KEY_EXTENDED = 0x100, PS2_KEY_PRINT = 0x200, PS2_KEY_PAUSE = 0x201 };

struct ps2_keyboard {
    struct clock *clock;
    struct timer timer;               /* typematic */
    void (*changed)(void *ctx);       /* the queue is not empty */
    void (*leds)(void *ctx, uint8_t); /* may be NULL */
    void *ctx;
    struct ps2_queue queue;
    uint8_t command; /* the command whose parameter is awaited; 0: none */
    uint8_t scanning, set, led, rate;
    uint8_t last;  /* last byte sent, for RESEND */
    uint16_t held; /* the key that repeats; 0: none */
    uint64_t repeat_at;
};

struct ps2_mouse {
    void (*changed)(void *ctx);
    void *ctx;
    struct ps2_queue queue;
    uint8_t command, reporting, remote, wrap, scaling, resolution, rate;
    uint8_t id;    /* 0 standard, 3 wheel, 4 wheel and five buttons */
    uint8_t knock; /* how far the sample-rate knock of the IntelliMouse came */
    uint8_t buttons, sent_buttons;
    uint8_t last;
    int32_t dx, dy, dz; /* moved and not reported yet */
};

extern const struct archive_type ps2_keyboard_archive, ps2_mouse_archive;

void ps2_keyboard_init(struct ps2_keyboard *k, struct clock *clock, void (*changed)(void *ctx),
                       void *ctx);
void ps2_keyboard_reset(struct ps2_keyboard *k);
void ps2_keyboard_command(struct ps2_keyboard *k, uint8_t byte);
/* A key was pressed or released; lost when the keyboard's buffer is full, as on a real one. */
void ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down);

void ps2_mouse_init(struct ps2_mouse *m, void (*changed)(void *ctx), void *ctx);
void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_command(struct ps2_mouse *m, uint8_t byte);
/* Moved by dx to the right, dy up, dz (wheel) towards the user. buttons: bit 0 left, 1 right, 2
 * middle, 3 and 4 the side ones. */
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons);

/* The next byte for the host, or -1. Mouse and keyboard alike. */
int ps2_keyboard_take(struct ps2_keyboard *k);
int ps2_mouse_take(struct ps2_mouse *m);

#endif
