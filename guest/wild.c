/*
 * A guest that runs wild, to see that the monitor does not. It stands by itself: no frame, no tests
 * of its own. Its command line says how: WAY SEED.
 *
 *   triple     a triple fault
 *   nowhere    a jump to where nothing is
 *   spin       an endless loop with interrupts off
 *   ports      accesses of every size to every port, then to random ones, with random values
 *   addresses  stores and loads at random addresses, most of them where devices are
 *   code       random bytes, run as instructions, with interrupt gates that lead into them
 *
 * ports and addresses end by the debug exit, if they live to see it.
 */
#include <stdint.h>

__asm__(".section .multiboot, \"a\"\n"
        ".align 4\n"
        ".long 0x1badb002, 0, -0x1badb002\n"
        ".text\n"
        ".globl start\n"
        "start:\n"
        "    mov $wild_stack_top, %esp\n"
        "    push %ebx\n"
        "    call wild_main\n"
        ".bss\n"
        ".align 16\n"
        ".skip 4096\n"
        "wild_stack_top:\n"
        ".text\n");

enum {
    ACCESSES = 200000,
    DEBUG_EXIT = 0xf4,
    LIVED = 0x10,
    CODE_AT = 0x200000,
    CODE_BYTES = 0x100000,
    IDT_AT = 0x1f0000,
};

static uint64_t state;

/* SplitMix64. */
static uint32_t chance(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z ^ z >> 31);
}

static void port_access(uint16_t port, uint32_t v)
{
    uint32_t got;
    if (port >= DEBUG_EXIT - 3 && port < DEBUG_EXIT + 4)
        return;
    switch (chance() % 6) {
    case 0: __asm__ volatile("outb %b0, %1" : : "a"(v), "d"(port)); break;
    case 1: __asm__ volatile("outw %w0, %1" : : "a"(v), "d"(port)); break;
    case 2: __asm__ volatile("outl %0, %1" : : "a"(v), "d"(port)); break;
    case 3: __asm__ volatile("inb %1, %b0" : "=a"(got) : "d"(port)); break;
    case 4: __asm__ volatile("inw %1, %w0" : "=a"(got) : "d"(port)); break;
    case 5: __asm__ volatile("inl %1, %0" : "=a"(got) : "d"(port)); break;
    }
}

static void wild_ports(void)
{
    for (uint32_t port = 0; port < 0x10000; port++)
        port_access((uint16_t)port, chance());
    for (uint32_t i = 0; i < ACCESSES; i++)
        port_access((uint16_t)(chance() & (chance() & 1 ? 0x7ff : 0xffff)), chance());
}

static void wild_addresses(void)
{
    static const uint32_t window[] = {0xfee00000, 0xfec00000, 0xe0000000, 0xfed00000,
                                      0xc0000000, 0xfffff000, 0x000f0000, 0x000a0000};
    for (uint32_t i = 0; i < ACCESSES; i++) {
        uint32_t at = chance();
        if (chance() % 8)
            at = window[at % 8] + (chance() & 0xfff) + ((chance() & 0xff) << 12);
        if (at >= 0x100000 && at < 0x110000) /* itself */
            continue;
        if (chance() & 1)
            *(volatile uint32_t *)at = chance();
        else
            (void)*(volatile uint64_t *)at;
    }
}

static _Noreturn void run_at(uint32_t at)
{
    __asm__ volatile("jmp *%0" : : "r"(at));
    __builtin_unreachable();
}

static void load_idt(uint32_t base, uint16_t limit)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } table = {limit, base};
    __asm__ volatile("lidt %0" : : "m"(table));
}

static _Noreturn void wild_code(void)
{
    uint16_t cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    for (uint32_t i = 0; i < CODE_BYTES; i += 4)
        *(volatile uint32_t *)(CODE_AT + i) = chance();
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t to = CODE_AT + chance() % CODE_BYTES;
        volatile uint32_t *gate = (volatile uint32_t *)(IDT_AT + i * 8);
        gate[0] = (uint32_t)cs << 16 | (to & 0xffff);
        gate[1] = (to & 0xffff0000) | 0xee00;
    }
    load_idt(IDT_AT, 0x7ff);
    __asm__ volatile("sti");
    run_at(CODE_AT + chance() % CODE_BYTES);
}

static _Noreturn void wild_triple(void)
{
    load_idt(0, 0);
    __asm__ volatile("int3");
    __builtin_unreachable();
}

/* The word at *at is `name`, up to a space; *at is moved behind it. */
static int is_word(const char *at, const char *name, const char **behind)
{
    while (*name && *at == *name) {
        at++;
        name++;
    }
    *behind = at;
    return !*name && (*at == ' ' || !*at);
}

/* Multiboot information: the command line's address is its fifth word. */
_Noreturn void wild_main(const uint32_t *info);
_Noreturn void wild_main(const uint32_t *info)
{
    const char *line = (const char *)info[4], *behind;
    while (*line && *line++ != ' ') /* the loader puts the image's name first */
        ;
    const char *seed = line;
    while (*seed && *seed != ' ')
        seed++;
    for (; *seed; seed++)
        if (*seed >= '0' && *seed <= '9')
            state = state * 10 + (uint32_t)(*seed - '0');
    if (is_word(line, "triple", &behind))
        wild_triple();
    if (is_word(line, "nowhere", &behind))
        run_at(0xdeadbeef);
    if (is_word(line, "code", &behind))
        wild_code();
    if (is_word(line, "spin", &behind))
        for (;;)
            __asm__ volatile("cli");
    if (is_word(line, "ports", &behind))
        wild_ports();
    if (is_word(line, "addresses", &behind))
        wild_addresses();
    for (;;)
        __asm__ volatile("outl %0, %w1" : : "a"(LIVED), "d"(DEBUG_EXIT));
}
