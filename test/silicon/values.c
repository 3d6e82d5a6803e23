#include "values.h"

#include <string.h>

#include "special.h"

uint64_t value_code_pointer(struct rng *r)
{
    return CASE_CODE + 0x100 + rng_below(r, 0x100);
}

static uint64_t data_pointer(struct rng *r)
{
    return CASE_DATA + rng_below(r, CASE_READABLE);
}

uint64_t value_gpr(struct rng *r)
{
    static const uint64_t special[] = {0,
                                       1,
                                       2,
                                       UINT64_MAX,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0x100,
                                       0x7fff,
                                       0x8000,
                                       0xffff,
                                       0x10000,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       0x100000000,
                                       INT64_MAX,
                                       (uint64_t)INT64_MIN,
                                       0xffffffff80000000,
                                       0xffffffffffffff80,
                                       0xffffffffffff8000,
                                       0x5555555555555555,
                                       0xaaaaaaaaaaaaaaaa,
                                       0x0f0f0f0f0f0f0f0f};
    switch (rng_below(r, 12)) {
    case 0:
    case 1: return RNG_PICK(r, special);
    case 2: return rng_below(r, 300);
    case 3: return -(uint64_t)rng_below(r, 300);
    case 4: return data_pointer(r);
    case 5: return value_code_pointer(r);
    case 6: return (uint64_t)(int32_t)rng_next(r);
    case 7: return UINT64_C(1) << rng_below(r, 64);
    default: return rng_next(r);
    }
}

uint64_t value_address(struct rng *r, unsigned size, unsigned code)
{
    static const uint64_t odd[] = {0x0000800000000000, 0x00007ffffffffff8, 0xffff7fffffffffff,
                                   0xffff800000000000, 0x1234567812345678, 0xfffffffffffffff9};
    const uint64_t data = CASE_DATA;
    unsigned back = size + rng_below(r, 3) * rng_below(r, 40);
    switch (rng_below(r, 32)) {
    case 0: return data + CASE_PAGE - 1 - rng_below(r, size); /* across two pages that are there */
    case 1: return data + CASE_WRITABLE - 1 - rng_below(r, size); /* into the read-only page */
    case 2: return data + CASE_READABLE - 1 - rng_below(r, size); /* into nowhere */
    case 3: return data - 1 - rng_below(r, size);                 /* out of nowhere */
    case 4: return data + CASE_WRITABLE + rng_below(r, CASE_PAGE - 64);
    case 5: return data + CASE_WRITABLE - back;
    case 6: return data + CASE_READABLE + rng_below(r, CASE_PAGE);
    case 7: return code == X86_CODE64 && rng_one_in(r, 2) ? RNG_PICK(r, odd) : data;
    case 8:
    case 9:
    case 10:
    case 11:
    case 12: return data + 0x200 + rng_below(r, 0x1800);
    default: return data + 0x200 + rng_below(r, 0x60) * 64;
    }
}

/* ---- vectors ---- */

static uint32_t special32(struct rng *r)
{
    uint32_t v = RNG_PICK(r, special_floats);
    return rng_below(r, 4) ? v : v + rng_below(r, 5) - 2;
}

static uint64_t special64(struct rng *r)
{
    uint64_t v = RNG_PICK(r, special_doubles);
    return rng_below(r, 4) ? v : v + rng_below(r, 5) - 2;
}

static void put64(uint8_t *to, uint64_t v)
{
    memcpy(to, &v, 8);
}

static uint64_t letters(struct rng *r)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | (rng_below(r, 6) ? 'a' + rng_below(r, 3) : 0);
    return v;
}

static uint64_t near_one(struct rng *r)
{
    uint64_t low = 0x3f000000 + rng_below(r, 0x1000000);
    return low | (uint64_t)(0x3f000000 + rng_below(r, 0x1000000)) << 32;
}

void value_lane(struct rng *r, uint8_t to[16])
{
    unsigned kind = rng_below(r, 10);
    for (unsigned i = 0; i < 16; i += 8) {
        switch (kind) {
        case 0:
        case 1: put64(to + i, special32(r) | (uint64_t)special32(r) << 32); break;
        case 2:
        case 3: put64(to + i, special64(r)); break;
        case 4: put64(to + i, letters(r)); break;
        case 5: put64(to + i, near_one(r)); break;
        case 6: put64(to + i, rng_below(r, 40)); break;
        case 7: put64(to + i, value_gpr(r)); break;
        default: put64(to + i, rng_next(r)); break;
        }
    }
    if (kind == 9)
        value_f80(r, to);
}

/* ---- x87 ---- */

void value_f80(struct rng *r, uint8_t to[10])
{
    uint64_t mantissa = rng_next(r);
    unsigned sign = rng_below(r, 2) << 15, exponent;
    if (rng_one_in(r, 3))
        mantissa <<= rng_below(r, 64);
    switch (rng_below(r, 16)) {
    case 0: exponent = 0, mantissa = 0; break;
    case 1: exponent = 0x7fff, mantissa = UINT64_C(1) << 63; break;
    case 2: exponent = 0x7fff; break; /* NaNs and what silicon no longer knows */
    case 3: exponent = 0x7fff, mantissa |= UINT64_C(3) << 62; break;
    case 4: exponent = 0; break;                              /* denormals and pseudo-denormals */
    case 5: exponent = (unsigned)rng_next(r) & 0x7fff; break; /* unnormals too */
    case 6: exponent = 0x3fff, mantissa = UINT64_C(1) << 63; break;
    case 7: exponent = (unsigned)rng_next(r) & 0x7fff, mantissa |= UINT64_C(1) << 63; break;
    case 8: exponent = 0x7ffe - rng_below(r, 4), mantissa |= UINT64_C(1) << 63; break;
    case 9: exponent = 1 + rng_below(r, 70), mantissa |= UINT64_C(1) << 63; break;
    case 10: /* a single or a double */
        exponent = 0x3fff - 1030 + rng_below(r, 2060);
        mantissa = (mantissa | UINT64_C(1) << 63) & ~UINT64_C(0x7ff);
        break;
    default:
        exponent = 0x3fff - 8 + rng_below(r, rng_one_in(r, 2) ? 16 : 72);
        mantissa |= UINT64_C(1) << 63;
        break;
    }
    put64(to, mantissa);
    to[8] = (uint8_t)exponent;
    to[9] = (uint8_t)((sign | exponent) >> 8);
}

static void put16(uint8_t *to, unsigned v)
{
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
}

/* Control, status and tags that agree with each other. */
static void x87_control(struct rng *r, uint8_t *fx)
{
    unsigned random = (unsigned)rng_next(r);
    unsigned fcw = 0x37f, fsw = random & 0x7f00;
    if (rng_below(r, 3) == 0)
        fcw = (random >> 16 & 0x1f3f) | 0x40;
    else if (rng_one_in(r, 2))
        fcw ^= random >> 16 & 0xf00;
    if (rng_one_in(r, 4))
        fsw |= (unsigned)rng_next(r) & 0x7f;
    if ((fsw & ~fcw & 0x3f) && rng_below(r, 10))
        fsw &= ~0x3fu;
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    unsigned tags = rng_below(r, 8);
    put16(fx + FX_FCW, fcw);
    put16(fx + FX_FSW, fsw & ~0x40u);
    fx[FX_FTW] = (uint8_t)(tags < 4 ? 0xff : tags == 4 ? 0 : rng_next(r));
    if (!(fsw & 0x80)) /* else the processor does not load them */
        return;
    put16(fx + FX_FOP, (unsigned)rng_next(r) & 0x7ff);
    put64(fx + FX_FIP, value_code_pointer(r));
    put64(fx + FX_FDP, data_pointer(r));
}

static uint32_t random_mxcsr(struct rng *r)
{
    uint32_t random = (uint32_t)rng_next(r);
    switch (rng_below(r, 4)) {
    case 0: return 0x1f80 | (random & 0x6000);
    case 1: return 0x1f80 | (random & 0xe07f);
    case 2: return 0x1f80;
    default: return random & 0xffff;
    }
}

void value_fx(struct rng *r, uint8_t *fx)
{
    memset(fx, 0, CASE_FX);
    x87_control(r, fx);
    uint32_t mxcsr = random_mxcsr(r);
    memcpy(fx + FX_MXCSR, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) {
        uint8_t *st = fx + FX_ST + 16 * i;
        if (rng_one_in(r, 3)) {
            value_lane(r, st);
            memset(st + 8, rng_one_in(r, 2) ? 0xff : 0x3f, 2);
            memset(st + 10, 0, 6);
        } else {
            value_f80(r, st);
        }
    }
    for (unsigned i = 0; i < 16; i++)
        value_lane(r, fx + FX_XMM + 16 * i);
}
