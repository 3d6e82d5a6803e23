/*
 * What programs for a Linux guest share, which are by themselves: no libc, static. They define
 * program().
 */
#ifndef GUEST_USER_H
#define GUEST_USER_H

#include <stddef.h>
#include <stdint.h>

static inline long system_call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static inline void say(const char *text)
{
    enum { SYS_WRITE = 1, OUTPUT = 1 };
    size_t n = 0;
    while (text[n])
        n++;
    system_call(SYS_WRITE, OUTPUT, (long)text, (long)n, 0);
}

static inline _Noreturn void leave(int status)
{
    enum { SYS_EXIT = 60 };
    system_call(SYS_EXIT, status, 0, 0, 0);
    __builtin_unreachable();
}

__attribute__((used)) _Noreturn void program(void);
__asm__(".globl _start\n_start: and $-16, %rsp\n call program\n");

#endif
