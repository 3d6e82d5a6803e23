/*
 * The escape keys on the user's terminal: Ctrl-A and a letter.
 */
#ifndef DOPPEL_CLI_KEYS_H
#define DOPPEL_CLI_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum key_action { KEY_NONE, KEY_END, KEY_HELP, KEY_SUSPEND };

struct keys {
    bool escaped; /* the last key was Ctrl-A */
    void (*act)(void *ctx, enum key_action action);
    void *ctx;
};

/* Takes the escape sequences out of n bytes, in place, and acts on them; returns how many bytes are
 * the guest's. A sequence may come in two pieces. */
size_t keys_filter(struct keys *k, uint8_t *bytes, size_t n);

/* What Ctrl-A h shows. */
extern const char keys_help[];

#endif
