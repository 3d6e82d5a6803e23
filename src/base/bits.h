/*
 * Small helpers on bits and bytes that every room uses.
 */
#ifndef DOPPEL_BASE_BITS_H
#define DOPPEL_BASE_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define COLD          __attribute__((cold, noinline))
#define ARRAY_LEN(a)  (sizeof(a) / sizeof((a)[0]))
#define BIT(n)        (UINT64_C(1) << (n))

/* The lowest n bits set; n from 0 to 64. */
static inline uint64_t bits_mask(unsigned n)
{
    return n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
}

/* v's lowest n bits as a signed number; n from 1 to 64. */
static inline int64_t bits_sign_extend(uint64_t v, unsigned n)
{
    return (int64_t)(v << (64 - n)) >> (64 - n);
}

/* Unaligned little-endian accesses to host memory, each one machine access where the host has one.
 * Doppel's hosts are little-endian. */
#define BITS_ACCESSOR(name, type)                                                                  \
    typedef type __attribute__((may_alias, aligned(1))) name##_unaligned;                          \
    static inline type load_##name(const void *p)                                                  \
    {                                                                                              \
        return *(const volatile name##_unaligned *)p;                                              \
    }                                                                                              \
    static inline void store_##name(void *p, type v)                                               \
    {                                                                                              \
        *(volatile name##_unaligned *)p = v;                                                       \
    }
BITS_ACCESSOR(u8, uint8_t)
BITS_ACCESSOR(u16, uint16_t)
BITS_ACCESSOR(u32, uint32_t)
BITS_ACCESSOR(u64, uint64_t)
#undef BITS_ACCESSOR

#endif
