/*
 * Where translated code finds things: offsets from the base of GS, which is the flat table's first
 * entry (table.h). Below every table lie the same pages: the vCPU's context and, under that, a jump
 * cache. The assembler in enter.S and the code that translate.c emits share these numbers;
 * binary.h checks them against the C structures.
 */
#ifndef DOPPEL_ENGINE_BINARY_LAYOUT_H
#define DOPPEL_ENGINE_BINARY_LAYOUT_H

/* Bytes of the context with the vCPU behind it, and of a jump cache; both whole pages. */
#define AREA_SIZE 0x100000
#define JUMP_AREA 0xc0000

/* From GS. */
#define GS_AREA      (-AREA_SIZE)
#define GS_VCPU      (GS_AREA + CONTEXT_SIZE)
#define GS_GPR(n)    (GS_VCPU + 8 * (n))
#define GS_JUMP_NEXT (-AREA_SIZE - JUMP_AREA)
#define GS_JUMP_TAG  (GS_JUMP_NEXT + JUMP_AREA / 3 * 2)
#define GS_JUMP_TO   (GS_JUMP_TAG + 8)

/* From the context. */
#define CONTEXT_SIZE    0x1000
#define CTX_SELF        0x00
#define CTX_HOST_RSP    0x08
#define CTX_CODE        0x10
#define CTX_BASE        0x18
#define CTX_RCX         0x20
#define CTX_FLAGS       0x28
#define CTX_REASON      0x30
#define CTX_LINK        0x34
#define CTX_ATTEND      0x38
#define CTX_TABLE       0x40
#define CTX_REQUEST     0x48
#define CTX_OFFSET_MASK 0x50
#define CTX_COMPONENTS  0x58
#define CTX_TABLE_S     0x60
#define CTX_TABLE_K     0x68
#define CTX_LEFT        0x70
#define CTX_AC          0x78
#define CTX_LEAVE       0x80
#define CTX_RESUME      0x88
#define CTX_IF          0x90
#define CTX_STATUS_MASK 0x98
#define CTX_MASK_63     0xa0
#define CTX_MASK_NOT_63 0xa8
#define CTX_MASK_31     0xb0
#define CTX_MASK_NOT_31 0xb8
#define CTX_MASK_SIGN   0xc0
#define CTX_MASK_UPPER  0xc8
#define CTX_TABLE_U     0xd0
#define CTX_NO_SYSCALL  0xd8
#define CTX_NO_SYSRET   0xe0
#define CTX_SELECTORS   0xe8
#define CTX_MASK_SYSRET 0xf0
#define CTX_MASK_RARE   0xf8
#define CTX_MASK_IF     0x100
#define CTX_TSC_MULT    0x108
#define CTX_TSC_OFFSET  0x110
#define CTX_NO_TSC      0x118
#define CTX_NO_TSC_USER 0x120
#define CTX_STRING_REST 0x128
#define CTX_STRING_SI   0x130
#define CTX_STRING_DI   0x138
#define CTX_MASK_STRING 0x140
#define CTX_NO_FSGSBASE 0x160
#define CTX_COPIED      0x168
#define CTX_REWRITTEN   0x170
#define CTX_NO_IRET     0x178
#define CTX_RETRY_RIP   0x180
#define CTX_MASK_IRET   0x188
#define CTX_MASK_RARER  0x190
#define CTX_MASK_1      0x198
#define CTX_MASK_8      0x1a0
#define CTX_IRET_INDEX  0x1a8
#define CTX_IRET_FRAME  0x1b0
#define CTX_IRET_RAW    0x1d8
#define CTX_MASK_JUMP   0x1f8
#define CTX_CALL_OUT    0x200
#define CTX_CALL        0x208
#define CTX_SEEN        0x20c
#define CTX_SYSCALLS    0x210
#define CTX_FPU_AWAY    0x218
#define CTX_IRET        0x280
#define CTX_FPU         0x480

/* From the vCPU (struct x86_state comes first in it). */
#define STATE_RIP     144
#define STATE_RFLAGS  152
#define STATE_FS_BASE 256
#define STATE_GS_BASE 280

/* Why translated code was left. */
#define LEAVE_LINK     1 /* at a direct branch whose target is not linked yet: CTX_LINK says which */
#define LEAVE_JUMP     2  /* on the way to an address that the jump cache does not know */
#define LEAVE_EMULATE  3  /* at an instruction that is not run as it is */
#define LEAVE_FAULT    4  /* an instruction faulted on the host (the signal handler says so) */
#define LEAVE_REQUEST  5  /* something is asked of the vCPU */
#define LEAVE_STALE    6  /* at a block that has been dropped */
#define LEAVE_LIMIT    7  /* the block would run past the instruction limit */
#define LEAVE_ASKED    8  /* before anything ran: something is asked of the vCPU */
#define LEAVE_INDIRECT 9  /* LEAVE_JUMP by an indirect branch: CTX_LINK says of which block */
#define LEAVE_MOVED    10 /* behind an instruction: where the guest goes on is to be looked up */
#define LEAVE_REASONS  11

#endif
