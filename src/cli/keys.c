#include "cli/keys.h"

#include "base/bits.h"

enum { CTRL_A = 1 };

const char keys_help[] = "\n"
                         "Ctrl-A x       end the virtual machine\n"
                         "Ctrl-A z       suspend doppel (fg continues it)\n"
                         "Ctrl-A h       show these keys\n"
                         "Ctrl-A Ctrl-A  send Ctrl-A to the guest\n";

static enum key_action action_of(uint8_t key)
{
    static const struct {
        uint8_t key;
        enum key_action action;
    } table[] = {
        {'x', KEY_END},
        {'z', KEY_SUSPEND},
        {'h', KEY_HELP},
        {'?', KEY_HELP},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].key == key)
            return table[i].action;
    return KEY_NONE;
}

size_t keys_filter(struct keys *k, uint8_t *bytes, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t key = bytes[i];
        if (!k->escaped && key == CTRL_A) {
            k->escaped = true;
            continue;
        }
        if (!k->escaped || key == CTRL_A) {
            bytes[kept++] = key;
        } else {
            enum key_action action = action_of(key);
            if (action != KEY_NONE)
                k->act(k->ctx, action);
        }
        k->escaped = false;
    }
    return kept;
}
