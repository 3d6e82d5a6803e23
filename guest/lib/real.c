/*
 * What real.S needs set up.
 */
#include "real.h"

extern struct real_context real_context;
extern uint8_t real_entries[];
extern struct {
    uint16_t limit;
    uint32_t base;
} __attribute__((packed)) real_protected_idt;
void real_enter(void);

void real_init(void)
{
    for (unsigned v = 0; v < 256; v++)
        *real_vector(v) = (uint32_t)real_entries + 6 * v;
    __asm__ volatile("sidt %0" : "=m"(real_protected_idt));
}

struct real_context real_program(const void *from, const void *to)
{
    real_init();
    memcpy(real_linear(REAL_CODE, 0), from, (size_t)((const uint8_t *)to - (const uint8_t *)from));
    return (struct real_context){.ds = REAL_DATA,
                                 .es = REAL_DATA,
                                 .ss = REAL_STACK,
                                 .cs = REAL_CODE,
                                 .esp = 0x8000,
                                 .flags = FLAG_FIXED};
}

void real_run(struct real_context *c)
{
    real_context = *c;
    real_enter();
    *c = real_context;
}
