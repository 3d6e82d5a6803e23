/*
 * The architectural state of one vCPU: engine-neutral, complete, plain data.
 *
 * Every engine can load it and store it at any instruction boundary. Nothing in it depends on how
 * the guest is run. Names follow the Intel SDM (volume 3, chapters 2 to 6) and AMD's APM volume 2.
 */
#ifndef DOPPEL_X86_STATE_H
#define DOPPEL_X86_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* General-purpose registers, numbered as instructions encode them. */
enum { X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI };

/* Two slots behind the sixteen registers serve address arithmetic without branches: ZERO always
 * reads 0 ("no base", "no index"); BLOCK holds the RIP at which the running block began. */
enum { X86_GPR_ZERO = 16, X86_GPR_BLOCK = 17, X86_GPR_SLOTS = 18 };

/* Segment registers, numbered as instructions encode them. */
enum { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_SEG_COUNT };

/* RFLAGS (SDM 1, 3.4.3). */
enum {
    FLAG_CF = 1u << 0,
    FLAG_1 = 1u << 1, /* always set */
    FLAG_PF = 1u << 2,
    FLAG_AF = 1u << 4,
    FLAG_ZF = 1u << 6,
    FLAG_SF = 1u << 7,
    FLAG_TF = 1u << 8,
    FLAG_IF = 1u << 9,
    FLAG_DF = 1u << 10,
    FLAG_OF = 1u << 11,
    FLAG_IOPL = 3u << 12,
    FLAG_NT = 1u << 14,
    FLAG_RF = 1u << 16,
    FLAG_VM = 1u << 17,
    FLAG_AC = 1u << 18,
    FLAG_VIF = 1u << 19,
    FLAG_VIP = 1u << 20,
    FLAG_ID = 1u << 21,
    FLAGS_STATUS = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
};

enum {
    CR0_PE = 1u << 0,
    CR0_MP = 1u << 1,
    CR0_EM = 1u << 2,
    CR0_TS = 1u << 3,
    CR0_ET = 1u << 4,
    CR0_NE = 1u << 5,
    CR0_WP = 1u << 16,
    CR0_AM = 1u << 18,
    CR0_NW = 1u << 29,
    CR0_CD = 1u << 30,
    CR0_PG = 1u << 31,
};

enum {
    CR4_VME = 1u << 0,
    CR4_PVI = 1u << 1,
    CR4_TSD = 1u << 2,
    CR4_DE = 1u << 3,
    CR4_PSE = 1u << 4,
    CR4_PAE = 1u << 5,
    CR4_MCE = 1u << 6,
    CR4_PGE = 1u << 7,
    CR4_PCE = 1u << 8,
    CR4_OSFXSR = 1u << 9,
    CR4_OSXMMEXCPT = 1u << 10,
    CR4_UMIP = 1u << 11,
    CR4_VMXE = 1u << 13,
    CR4_FSGSBASE = 1u << 16,
    CR4_PCIDE = 1u << 17,
    CR4_OSXSAVE = 1u << 18,
    CR4_SMEP = 1u << 20,
    CR4_SMAP = 1u << 21,
    CR4_PKE = 1u << 22,
};

enum { EFER_SCE = 1u << 0, EFER_LME = 1u << 8, EFER_LMA = 1u << 10, EFER_NXE = 1u << 11 };

enum {
    XCR0_X87 = 1u << 0,
    XCR0_SSE = 1u << 1,
    XCR0_AVX = 1u << 2,
    XCR0_OPMASK = 1u << 5,
    XCR0_ZMM_HI256 = 1u << 6,
    XCR0_HI16_ZMM = 1u << 7,
    XCR0_PKRU = 1u << 9,
    XCR0_VECTORS = XCR0_SSE | XCR0_AVX, /* what VEX-encoded vector instructions ask for */
    XCR0_AVX512 = XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM, /* and EVEX-encoded ones besides */
};

/* Attributes of a segment: bits 8 to 23 of a descriptor's second word, moved down by 8 (SDM 3,
 * 3.4.5), so that byte 0 is the access-rights byte. */
enum {
    SEG_TYPE = 0xf,
    SEG_ACCESSED = 1u << 0,
    SEG_WRITABLE = 1u << 1,    /* data: writable; code: readable */
    SEG_EXPAND_DOWN = 1u << 2, /* data: expand-down; code: conforming */
    SEG_CODE = 1u << 3,
    SEG_S = 1u << 4, /* code or data, not a system descriptor */
    SEG_DPL_SHIFT = 5,
    SEG_DPL = 3u << 5,
    SEG_P = 1u << 7,
    SEG_AVL = 1u << 12,
    SEG_L = 1u << 13,
    SEG_DB = 1u << 14, /* D of code, B of stacks and expand-down data */
    SEG_G = 1u << 15,
    SEG_UNUSABLE = 1u << 16, /* loaded with a null selector */
};

struct x86_segment {
    uint64_t base;
    uint32_t limit; /* in bytes, the last offset that is inside (granularity applied) */
    uint32_t attr;  /* SEG_* */
    uint16_t selector;
};

struct x86_table {
    uint64_t base;
    uint16_t limit;
};

/* An 80-bit extended-precision number as memory holds it. */
struct x86_f80 {
    uint64_t mantissa; /* with the explicit integer bit */
    uint16_t se;       /* sign and exponent */
};

/* A vector register; the low 16 bytes are XMM, the low 32 YMM. */
union x86_vec {
    uint8_t u8[32];
    int8_t i8[32];
    uint16_t u16[16];
    int16_t i16[16];
    uint32_t u32[8];
    int32_t i32[8];
    uint64_t u64[4];
    int64_t i64[4];
};

/* What a vCPU does between instructions (the activity states of SDM 3, 25.4.2). */
enum x86_activity { X86_ACTIVE, X86_HALTED, X86_SHUTDOWN, X86_WAIT_FOR_SIPI };

enum { X86_MTRR_VARIABLE = 8, X86_MTRR_FIXED = 11 };

struct x86_state {
    uint64_t gpr[X86_GPR_SLOTS];
    uint64_t rip;
    uint64_t rflags; /* complete when the state is stored; see cpu.h while it runs */
    struct x86_segment seg[X86_SEG_COUNT];
    struct x86_segment ldtr, tr;
    struct x86_table gdtr, idtr;

    uint64_t cr0, cr2, cr3, cr4; /* CR8 is the local APIC's TPR */
    uint64_t pdpte[4];           /* loaded with CR3 under PAE paging (SDM 3, 4.4.1) */
    uint64_t dr[8];              /* DR4 and DR5 alias DR6 and DR7 and are not used */
    uint64_t xcr0;
    uint32_t pkru;

    /* Model-specific registers that are the processor's own; the machine keeps APIC_BASE, the
     * TSC and the x2APIC's. FS and GS bases are in seg[]. */
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, debugctl, mtrr_def_type;
    uint64_t mtrr_fixed[X86_MTRR_FIXED];
    uint64_t mtrr_base[X86_MTRR_VARIABLE], mtrr_mask[X86_MTRR_VARIABLE];
    uint64_t spec_ctrl, mcg_status, xss;

    /* x87: st[] are the physical registers R0 to R7; MMX register n is st[n].mantissa. */
    struct x86_f80 st[8];
    uint16_t fcw, fsw; /* fsw holds TOP in bits 11 to 13 */
    uint8_t ftag;      /* bit n set: Rn is not empty (the abridged tag of FXSAVE) */
    uint16_t fop;
    uint64_t fip, fdp;
    uint16_t fcs, fds;

    union x86_vec vec[16];
    uint32_t mxcsr;

    /* AVX-512's, laid out as the XSAVE components are (SDM 1, 13.4.2 and 13.5.6): the mask
     * registers, the upper halves of ZMM0 to ZMM15, and ZMM16 to ZMM31. All 0 where the processor
     * has none. */
    uint64_t opmask[8];
    uint64_t zmm_upper[16][4];
    uint64_t zmm_more[16][8];

    uint32_t activity; /* enum x86_activity */
    bool shadow_sti;   /* the next instruction runs before an interrupt is taken (STI) */
    bool shadow_ss;    /* the same after MOV SS and POP SS; debug traps wait as well */
    bool nmi_blocked;  /* between an NMI's delivery and the next IRET */
    bool nmi_pending;

    /* An event accepted but not delivered (an engine stopped between the two). */
    bool event_pending;
    uint8_t event_vector;
    uint8_t event_type; /* enum x86_event_type, see exception.h */
    bool event_has_error;
    uint32_t event_error;
};

/* Whether the system has enabled VEX-encoded vector instructions (SDM 1, 14.3): they raise #UD
 * otherwise. */
static inline bool x86_avx_enabled(const struct x86_state *s)
{
    return (s->cr4 & CR4_OSXSAVE) && (s->xcr0 & XCR0_VECTORS) == XCR0_VECTORS;
}

/* The same of EVEX-encoded ones and of those on mask registers (SDM 1, 15.2). */
static inline bool x86_avx512_enabled(const struct x86_state *s)
{
    return x86_avx_enabled(s) && (s->xcr0 & XCR0_AVX512) == XCR0_AVX512;
}

/* Power-on and INIT state (SDM 3, table 10-1). bsp says whether the vCPU starts at the reset vector
 * or waits for a start-up IPI. `init` keeps what INIT keeps (x87, vectors, most MSRs). */
void x86_state_reset(struct x86_state *s, bool bsp, bool init);

#endif
