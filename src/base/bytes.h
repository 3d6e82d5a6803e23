/*
 * Copying and filling bytes without the C library.
 *
 * The C library does it with vector registers. What the engine `binary` calls while the guest's
 * vector registers are the host's (the processor in x86/, the engines) is compiled for general
 * registers only and uses these instead.
 */
#ifndef DOPPEL_BASE_BYTES_H
#define DOPPEL_BASE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__

static inline void bytes_copy(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static inline void bytes_fill(void *to, uint8_t byte, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
}

#else

static inline void bytes_copy(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
}

static inline void bytes_fill(void *to, uint8_t byte, size_t n)
{
    memset(to, byte, n);
}

#endif

#endif
