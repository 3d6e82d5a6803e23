/*
 * Saving and restoring the x87, SSE and further state: FXSAVE, the XSAVE family (SDM 1, chapter
 * 13), MXCSR and XCR0.
 */
#include "x86/xsave.h"

#include "base/bytes.h"
#include "x86/cpuid.h"
#include "x86/sem/simd.h"

const struct x86_xsave_component x86_xsave_component[XSAVE_COMPONENTS] = {
    [XSAVE_AVX] = {.size = 256, .offset = 576},
    [XSAVE_OPMASK] = {.size = 64, .offset = 1088},
    [XSAVE_ZMM_HI256] = {.size = 512, .offset = 1152},
    [XSAVE_HI16_ZMM] = {.size = 1024, .offset = 1664},
    [XSAVE_PKRU] = {.size = 8, .offset = 2688},
};

unsigned x86_xsave_compacted_offset(uint64_t components, unsigned number)
{
    unsigned offset = XSAVE_MIN_SIZE;
    for (unsigned i = 0; i < number; i++)
        if (components >> i & 1)
            offset += x86_xsave_component[i].size;
    return offset;
}

/* ---- the legacy region (SDM 1, 10.5.1) ---- */

enum { LEGACY_MXCSR = 24, LEGACY_MXCSR_MASK = 28, LEGACY_ST = 32, LEGACY_XMM = 160 };

/* XMM8 and up are out of reach, and so left alone, outside of 64-bit code. */
static unsigned xmm_count(const struct x86_cpu *c)
{
    return c->code == X86_CODE64 ? 16 : 8;
}

static void put_mxcsr(const struct x86_cpu *c, uint8_t *legacy)
{
    store_u32(legacy + LEGACY_MXCSR, c->s.mxcsr);
    store_u32(legacy + LEGACY_MXCSR_MASK, X86_MXCSR_MASK);
}

static void put_xmm(const struct x86_cpu *c, uint8_t *legacy)
{
    for (unsigned i = 0; i < xmm_count(c); i++)
        memcpy(legacy + LEGACY_XMM + 16 * i, &c->s.vec[i], 16);
}

/* legacy NULL: the initial state. */
static void set_xmm(struct x86_cpu *c, const uint8_t *legacy)
{
    for (unsigned i = 0; i < xmm_count(c); i++) {
        if (legacy)
            memcpy(&c->s.vec[i], legacy + LEGACY_XMM + 16 * i, 16);
        else
            memset(&c->s.vec[i], 0, 16);
    }
}

/* MXCSR as an area has it; #GP(0) for reserved bits. */
static uint32_t checked_mxcsr(struct x86_cpu *c, uint32_t v)
{
    if (v & ~(uint32_t)X86_MXCSR_MASK)
        x86_raise_gp0(c);
    return v;
}

/* ---- MXCSR ---- */

static void load_mxcsr(struct x86_cpu *c, const struct op *op)
{
    uint32_t v;
    simd_load(c, op, &v, 4);
    c->s.mxcsr = checked_mxcsr(c, v);
}

OP(ldmxcsr)
{
    sse_check(c);
    load_mxcsr(c, op);
}
OP(vldmxcsr)
{
    avx_check(c);
    load_mxcsr(c, op);
}

OP(stmxcsr)
{
    sse_check(c);
    simd_store(c, op, &c->s.mxcsr, 4);
}
OP(vstmxcsr)
{
    avx_check(c);
    simd_store(c, op, &c->s.mxcsr, 4);
}

/* ---- FXSAVE, FXRSTOR ---- */

static uint64_t fx_area(struct x86_cpu *c, const struct op *op, unsigned access)
{
    if (c->s.cr0 & (CR0_EM | CR0_TS))
        x86_raise(c, X86_NM);
    uint64_t lin = op_linear(c, op, XSAVE_LEGACY_SIZE, access);
    /* An alignment check only minds the lowest two bits; it comes first, and an address that is not
     * canonical before it. */
    bool canonical = c->code != X86_CODE64 || x86_canonical(lin);
    if (lin % 16 && canonical && (lin % 4 == 0 || c->tlb != &c->view[TLB_NEVER]))
        x86_raise_gp0(c);
    x86_probe_image(c, lin, XSAVE_LEGACY_SIZE, access, op->seg, X86_LAST_BYTE_FIRST);
    return lin;
}

/* Without CR4.OSFXSR the XMM registers take no part. What is behind them is left as it was. */
OP(fxsave)
{
    uint64_t lin = fx_area(c, op, X86_WRITE);
    uint8_t legacy[XSAVE_LEGACY_SIZE] = {0};
    x86_fxsave_x87(c, legacy, op->size == 8);
    put_mxcsr(c, legacy);
    put_xmm(c, legacy);
    unsigned xmm_bytes = c->s.cr4 & CR4_OSFXSR ? 16 * xmm_count(c) : 0;
    x86_write_bytes(c, lin, legacy, LEGACY_XMM + xmm_bytes, op->seg);
}

OP(fxrstor)
{
    uint64_t lin = fx_area(c, op, X86_READ);
    uint8_t legacy[XSAVE_LEGACY_SIZE];
    x86_read_bytes(c, lin, legacy, sizeof legacy, op->seg);
    if (c->s.cr4 & CR4_OSFXSR) {
        c->s.mxcsr = checked_mxcsr(c, load_u32(legacy + LEGACY_MXCSR));
        set_xmm(c, legacy);
    }
    x86_fxrstor_x87(c, legacy, op->size == 8);
}

/* ---- XSAVE and its kin ---- */

/* The header's fields; what follows them is reserved. */
enum { HEADER_XSTATE_BV = 512, HEADER_XCOMP_BV = 520, HEADER_RESERVED = 528 };
#define XCOMP_COMPACTED BIT(63)
/* Components that bring MXCSR along in the standard form. */
#define MXCSR_COMPONENTS (XCR0_SSE | XCR0_AVX)

static void xsave_check(struct x86_cpu *c)
{
    if (!(c->s.cr4 & CR4_OSXSAVE))
        x86_raise(c, X86_UD);
    if (c->s.cr0 & CR0_TS)
        x86_raise(c, X86_NM);
}

static void xsave_check_supervisor(struct x86_cpu *c)
{
    xsave_check(c);
    x86_need_cpl0(c);
}

static uint64_t edx_eax(const struct x86_cpu *c)
{
    return c->s.gpr[X86_RDX] << 32 | (uint32_t)c->s.gpr[X86_RAX];
}

static uint64_t xsave_area(struct x86_cpu *c, const struct op *op, unsigned size, unsigned access)
{
    uint64_t lin = op_linear(c, op, size, access);
    if (lin % 64)
        x86_raise_gp0(c);
    return lin;
}

/* ---- AVX-512's components: as the state has them (SDM 1, 13.5.6) ---- */

enum { AVX512_FIRST = XSAVE_OPMASK, AVX512_COMPONENTS = 3, AVX512_MAX = 1024 };

static bool is_avx512(unsigned component)
{
    return component - AVX512_FIRST < AVX512_COMPONENTS;
}

/* Where one is in the state, and how many bytes are in reach: ZMM8 and up are not outside of 64-bit
 * code. */
static void *avx512_part(struct x86_cpu *c, unsigned component, unsigned *bytes)
{
    switch (component) {
    case XSAVE_OPMASK: *bytes = sizeof c->s.opmask; return c->s.opmask;
    case XSAVE_ZMM_HI256: *bytes = 32 * xmm_count(c); return c->s.zmm_upper;
    default: *bytes = c->code == X86_CODE64 ? sizeof c->s.zmm_more : 0; return c->s.zmm_more;
    }
}

static uint64_t avx512_in_use(const struct x86_cpu *c)
{
    uint64_t used = 0;
    for (unsigned i = 0; i < AVX512_COMPONENTS; i++) {
        unsigned bytes;
        const uint64_t *part = avx512_part((struct x86_cpu *)c, AVX512_FIRST + i, &bytes);
        uint64_t bits = 0;
        for (unsigned k = 0; k < bytes / sizeof *part; k++)
            bits |= part[k];
        used |= bits ? BIT(AVX512_FIRST + i) : 0;
    }
    return used;
}

static void save_avx512(struct x86_cpu *c, const struct op *op, uint64_t lin, unsigned component)
{
    unsigned bytes;
    const void *part = avx512_part(c, component, &bytes);
    if (bytes)
        x86_write_bytes(c, lin, part, bytes, op->seg);
}

/* from NULL: the initial state. */
static void set_avx512(struct x86_cpu *c, unsigned component, const uint8_t *from)
{
    unsigned bytes;
    void *part = avx512_part(c, component, &bytes);
    if (from)
        bytes_copy(part, from, bytes);
    else
        bytes_fill(part, 0, bytes);
}

/* XINUSE: the components that are not in their initial state. MXCSR is looked at apart. */
static uint64_t xinuse(const struct x86_cpu *c)
{
    uint64_t xmm_bits = 0, ymm_bits = 0;
    for (unsigned i = 0; i < xmm_count(c); i++) {
        xmm_bits |= c->s.vec[i].u64[0] | c->s.vec[i].u64[1];
        ymm_bits |= c->s.vec[i].u64[2] | c->s.vec[i].u64[3];
    }
    return (x86_x87_in_use(&c->s) ? XCR0_X87 : 0) | (xmm_bits ? XCR0_SSE : 0) |
           (ymm_bits ? XCR0_AVX : 0) | (c->s.pkru ? XCR0_PKRU : 0) |
           (c->s.xcr0 & XCR0_AVX512 ? avx512_in_use(c) : 0);
}

/* XINUSE for those who save MXCSR only with the component it belongs to. */
static uint64_t xinuse_with_mxcsr(const struct x86_cpu *c)
{
    return xinuse(c) | (c->s.mxcsr != X86_MXCSR_INIT ? XCR0_SSE : 0);
}

/* The legacy region's parts, for the components in `saved`. */
static void save_legacy(struct x86_cpu *c, const struct op *op, uint64_t lin, uint64_t saved,
                        bool mxcsr)
{
    uint8_t legacy[XSAVE_LEGACY_SIZE] = {0};
    x86_fxsave_x87(c, legacy, op->size == 8);
    put_mxcsr(c, legacy);
    put_xmm(c, legacy);
    if (saved & XCR0_X87) {
        x86_write_bytes(c, lin, legacy, LEGACY_MXCSR, op->seg);
        x86_write_bytes(c, lin + LEGACY_ST, legacy + LEGACY_ST, LEGACY_XMM - LEGACY_ST, op->seg);
    }
    if (mxcsr)
        x86_write_bytes(c, lin + LEGACY_MXCSR, legacy + LEGACY_MXCSR, 8, op->seg);
    if (saved & XCR0_SSE)
        x86_write_bytes(c, lin + LEGACY_XMM, legacy + LEGACY_XMM, 16 * xmm_count(c), op->seg);
}

static void save_avx(struct x86_cpu *c, const struct op *op, uint64_t lin)
{
    uint8_t upper[16 * 16];
    unsigned bytes = 16 * xmm_count(c);
    for (unsigned i = 0; i < bytes; i += 16)
        memcpy(upper + i, &c->s.vec[i / 16].u8[16], 16);
    x86_write_bytes(c, lin, upper, bytes, op->seg);
}

/* The components in `saved`, each at its offset in the form that `compacted` (0 for the standard
 * form, else XCOMP_BV) says. */
static void save_components(struct x86_cpu *c, const struct op *op, uint64_t lin, uint64_t saved,
                            uint64_t compacted)
{
    for (unsigned i = XSAVE_AVX; i < XSAVE_COMPONENTS; i++) {
        if (!(saved >> i & 1))
            continue;
        uint64_t at = lin + (compacted ? x86_xsave_compacted_offset(compacted, i)
                                       : x86_xsave_component[i].offset);
        if (i == XSAVE_AVX)
            save_avx(c, op, at);
        else if (is_avx512(i))
            save_avx512(c, op, at, i);
        else if (i == XSAVE_PKRU)
            x86_write64(c, at, c->s.pkru, op->seg);
    }
}

/* XSAVE and XSAVEOPT (SDM 1, 13.7 and 13.9). optimize: components in their initial state are not
 * written. That a component was not modified since XRSTOR is an optimisation we don't make. */
static void save_standard(struct x86_cpu *c, const struct op *op, bool optimize)
{
    uint64_t wanted = edx_eax(c) & c->s.xcr0, used = xinuse(c);
    unsigned size = x86_xsave_size(wanted);
    uint64_t lin = xsave_area(c, op, size, X86_WRITE);
    x86_probe_image(c, lin, size, X86_WRITE, op->seg, X86_FIRST_WORD_FIRST);

    uint64_t saved = optimize ? wanted & used : wanted;
    save_legacy(c, op, lin, saved, wanted & MXCSR_COMPONENTS);
    save_components(c, op, lin, saved, 0);
    uint64_t kept = x86_read64(c, lin + HEADER_XSTATE_BV, op->seg) & ~wanted;
    x86_write64(c, lin + HEADER_XSTATE_BV, kept | (wanted & used), op->seg);
}

/* XSAVEC and XSAVES (SDM 1, 13.10 and 13.11). */
static void save_compacted(struct x86_cpu *c, const struct op *op, uint64_t wanted)
{
    unsigned size = x86_xsavec_size(wanted);
    uint64_t lin = xsave_area(c, op, size, X86_WRITE);
    x86_probe_image(c, lin, size, X86_WRITE, op->seg, X86_FIRST_WORD_FIRST);

    uint64_t saved = wanted & xinuse_with_mxcsr(c), xcomp_bv = wanted | XCOMP_COMPACTED;
    save_legacy(c, op, lin, saved, saved & XCR0_SSE);
    save_components(c, op, lin, saved, xcomp_bv);
    x86_write64(c, lin + HEADER_XSTATE_BV, saved, op->seg);
    x86_write64(c, lin + HEADER_XCOMP_BV, xcomp_bv, op->seg);
}

OP(xsave)
{
    xsave_check(c);
    save_standard(c, op, false);
}
OP(xsaveopt)
{
    xsave_check(c);
    save_standard(c, op, true);
}
OP(xsavec)
{
    xsave_check(c);
    save_compacted(c, op, edx_eax(c) & c->s.xcr0);
}
OP(xsaves)
{
    xsave_check_supervisor(c);
    save_compacted(c, op, edx_eax(c) & (c->s.xcr0 | c->s.xss));
}

/* ---- XRSTOR, XRSTORS (SDM 1, 13.8 and 13.12) ---- */

/* What an area holds, read whole before anything is changed. */
struct xsave_image {
    uint64_t wanted; /* the components that change: to what is below, or to their initial state */
    uint64_t loaded; /* those that are below */
    bool load_mxcsr, reset_mxcsr;
    uint8_t legacy[XSAVE_LEGACY_SIZE];
    uint8_t upper[16 * 16];
    uint8_t avx512[AVX512_COMPONENTS][AVX512_MAX];
    uint32_t pkru;
};

/* #GP(0) for a header that is not well-formed. Returns XCOMP_BV, or 0 for the standard form;
 * *xstate_bv is the other field. supported: the components there are. */
static uint64_t read_header(struct x86_cpu *c, uint64_t lin, unsigned seg, uint64_t supported,
                            uint64_t *xstate_bv)
{
    uint8_t header[XSAVE_HEADER_SIZE];
    x86_read_bytes(c, lin + HEADER_XSTATE_BV, header, sizeof header, seg);
    *xstate_bv = load_u64(header);
    uint64_t xcomp_bv = load_u64(header + (HEADER_XCOMP_BV - HEADER_XSTATE_BV));
    bool compacted = xcomp_bv & XCOMP_COMPACTED;
    uint64_t allowed = compacted ? xcomp_bv & ~XCOMP_COMPACTED : supported;
    /* The standard form checks only the first 8 of the reserved bytes. */
    unsigned from = HEADER_RESERVED - HEADER_XSTATE_BV, reserved = 0;
    for (unsigned i = from; i < (compacted ? sizeof header : from + 8); i++)
        reserved |= header[i];
    if (reserved || (allowed & ~supported) || (*xstate_bv & ~allowed) || (!compacted && xcomp_bv))
        x86_raise_gp0(c);
    return compacted ? xcomp_bv : 0;
}

static void read_avx512(struct x86_cpu *c, const struct op *op, uint64_t lin, unsigned component,
                        struct xsave_image *image)
{
    unsigned bytes;
    avx512_part(c, component, &bytes);
    if (bytes)
        x86_read_bytes(c, lin, image->avx512[component - AVX512_FIRST], bytes, op->seg);
}

static void read_components(struct x86_cpu *c, const struct op *op, uint64_t lin,
                            uint64_t compacted, struct xsave_image *image)
{
    for (unsigned i = XSAVE_AVX; i < XSAVE_COMPONENTS; i++) {
        if (!(image->loaded >> i & 1))
            continue;
        uint64_t at = lin + (compacted ? x86_xsave_compacted_offset(compacted, i)
                                       : x86_xsave_component[i].offset);
        if (i == XSAVE_AVX)
            x86_read_bytes(c, at, image->upper, 16 * xmm_count(c), op->seg);
        else if (is_avx512(i))
            read_avx512(c, op, at, i, image);
        else if (i == XSAVE_PKRU)
            image->pkru = x86_read32(c, at, op->seg);
    }
}

static void read_image(struct x86_cpu *c, const struct op *op, uint64_t supported,
                       bool only_compacted, struct xsave_image *image)
{
    uint64_t lin = xsave_area(c, op, XSAVE_MIN_SIZE, X86_READ), xstate_bv;
    x86_probe_read(c, lin, 4, op->seg); /* faults here come before the header's */
    uint64_t compacted = read_header(c, lin, op->seg, supported, &xstate_bv);
    if (only_compacted && !compacted)
        x86_raise_gp0(c);
    image->wanted = edx_eax(c) & supported;
    image->loaded = image->wanted & xstate_bv;
    image->load_mxcsr = compacted ? image->loaded & XCR0_SSE : image->wanted & MXCSR_COMPONENTS;
    image->reset_mxcsr = compacted && (image->wanted & ~image->loaded & XCR0_SSE);
    if (image->load_mxcsr || (image->loaded & (XCR0_X87 | XCR0_SSE)))
        x86_read_bytes(c, lin, image->legacy, sizeof image->legacy, op->seg);
    if (image->load_mxcsr)
        checked_mxcsr(c, load_u32(image->legacy + LEGACY_MXCSR));
    read_components(c, op, lin, compacted, image);
}

static void set_pkru(struct x86_cpu *c, uint32_t pkru)
{
    if (c->s.pkru == pkru)
        return;
    c->s.pkru = pkru;
    x86_tlb_flush(c); /* its entries were allowed under the old value */
}

static void restore(struct x86_cpu *c, const struct op *op, const struct xsave_image *image)
{
    uint64_t wanted = image->wanted, loaded = image->loaded;
    if (loaded & XCR0_X87)
        x86_fxrstor_x87(c, image->legacy, op->size == 8);
    else if (wanted & XCR0_X87)
        x86_x87_init(&c->s, true);
    if (wanted & XCR0_SSE)
        set_xmm(c, loaded & XCR0_SSE ? image->legacy : NULL);
    if (image->load_mxcsr)
        c->s.mxcsr = load_u32(image->legacy + LEGACY_MXCSR);
    else if (image->reset_mxcsr)
        c->s.mxcsr = X86_MXCSR_INIT;
    for (unsigned i = 0; wanted & XCR0_AVX && i < xmm_count(c); i++) {
        if (loaded & XCR0_AVX)
            memcpy(&c->s.vec[i].u8[16], image->upper + 16 * i, 16);
        else
            memset(&c->s.vec[i].u8[16], 0, 16);
    }
    for (unsigned i = AVX512_FIRST; i < AVX512_FIRST + AVX512_COMPONENTS; i++)
        if (wanted >> i & 1)
            set_avx512(c, i, loaded >> i & 1 ? image->avx512[i - AVX512_FIRST] : NULL);
    if (wanted & XCR0_PKRU)
        set_pkru(c, loaded & XCR0_PKRU ? image->pkru : 0);
}

OP(xrstor)
{
    struct xsave_image image;
    xsave_check(c);
    read_image(c, op, c->s.xcr0, false, &image);
    restore(c, op, &image);
}

OP(xrstors)
{
    struct xsave_image image;
    xsave_check_supervisor(c);
    read_image(c, op, c->s.xcr0 | c->s.xss, true, &image);
    restore(c, op, &image);
}

/* ---- XCR0 ---- */

/* CPUID 0Dh, subleaf 1, EAX: XGETBV with ECX = 1. */
enum { FEATURE_XGETBV1 = 1u << 2 };

OP(xgetbv)
{
    if (!(c->s.cr4 & CR4_OSXSAVE))
        x86_raise(c, X86_UD);
    uint32_t which = (uint32_t)c->s.gpr[X86_RCX];
    uint64_t v = c->s.xcr0;
    if (which == 1 && (c->model->features[X86_WORD_D_1_EAX] & FEATURE_XGETBV1))
        v &= xinuse_with_mxcsr(c);
    else if (which != 0)
        x86_raise_gp0(c);
    c->s.gpr[X86_RAX] = (uint32_t)v;
    c->s.gpr[X86_RDX] = v >> 32;
}

/* SDM 3, 2.6: AVX wants SSE; AVX-512's components come together, and want AVX. */
static bool is_valid_xcr0(uint64_t v)
{
    uint64_t avx512 = v & XCR0_AVX512;
    if (!(v & XCR0_X87) || (v & MXCSR_COMPONENTS) == XCR0_AVX)
        return false;
    return avx512 == 0 || (avx512 == XCR0_AVX512 && (v & XCR0_AVX));
}

/* Ends the block: what may be executed depends on XCR0. */
OP_END(xsetbv)
{
    if (!(c->s.cr4 & CR4_OSXSAVE))
        x86_raise(c, X86_UD);
    x86_need_cpl0(c);
    uint64_t v = edx_eax(c);
    if ((uint32_t)c->s.gpr[X86_RCX] != 0 || (v & ~c->model->xcr0) || !is_valid_xcr0(v))
        x86_raise_gp0(c);
    c->s.xcr0 = v;
    x86_update_mode(c);
}
