/*
 * The frame round the tests.
 */
#include "guest.h"

enum { COM1 = 0x3f8, DEBUG_EXIT = 0xf4 };

static bool failed;

static void print_char(char ch)
{
    /* A port that is not there must not hang us. */
    for (unsigned tries = 0; !(inb(COM1 + 5) & 0x20) && tries < 100000; tries++)
        ;
    outb(COM1, (uint8_t)ch);
}

void print(const char *s)
{
    for (; *s; s++) {
        if (*s == '\n')
            print_char('\r');
        print_char(*s);
    }
}

void print_hex(uint64_t v)
{
    char text[19];
    unsigned at = sizeof text;
    text[--at] = 0;
    do {
        text[--at] = "0123456789abcdef"[v & 15];
        v >>= 4;
    } while (v);
    text[--at] = 'x';
    text[--at] = '0';
    print(text + at);
}

void guest_exit(uint32_t v)
{
    outl(DEBUG_EXIT, v);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void guest_panic(const char *why, uint64_t a, uint64_t b)
{
    print(guest_name);
    print(": ");
    print(why);
    print(" ");
    print_hex(a);
    print(" at ");
    print_hex(b);
    print("\n");
    guest_exit(GUEST_PANIC);
}

static void say_where(const char *file, int line)
{
    char text[12];
    unsigned at = sizeof text, n = (unsigned)line;
    text[--at] = 0;
    do
        text[--at] = (char)('0' + n % 10);
    while (n /= 10);
    print("  ");
    print(file);
    print(":");
    print(text + at);
    print(": ");
    failed = true;
}

void check_failed(const char *file, int line, const char *what)
{
    say_where(file, line);
    print(what);
    print(" is false\n");
}

void check_differs(const char *file, int line, const char *what, uint64_t got, uint64_t want)
{
    say_where(file, line);
    print(what);
    print(" is ");
    print_hex(got);
    print(", not ");
    print_hex(want);
    print("\n");
}

void *memcpy(void *to, const void *from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    while (n--)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int byte, size_t n)
{
    uint8_t *t = to;
    while (n--)
        *t++ = (uint8_t)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    for (; n--; x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

static bool runs_on_tcg(void)
{
    uint32_t a, b, c, d;
    cpuid(0x40000000, &a, &b, &c, &d);
    return b == 0x54474354; /* "TCGT" */
}

void guest_main(void)
{
    bool tcg = runs_on_tcg();
    int first_failed = -1;
    for (int i = 0; guest_tests[i].name; i++) {
        bool skip = tcg && guest_tests[i].not_tcg;
        failed = false;
        if (!skip)
            guest_tests[i].run();
        print(skip ? "skip " : failed ? "FAIL " : "ok   ");
        print(guest_name);
        print(" ");
        print(guest_tests[i].name);
        print("\n");
        if (failed && first_failed < 0)
            first_failed = i;
    }
    guest_exit(first_failed < 0 ? GUEST_PASSED : GUEST_FAILED + (uint32_t)first_failed);
}
