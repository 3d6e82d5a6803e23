/*
 * Into translated code and out of it. The guest's general registers are in the host's registers of
 * the same number while it runs, but R10 and R11, which are scratch and whose guest values stay in
 * the state; its flags, vector and x87 registers are the host's (the latter two: fpu.c). GS is the flat table of the view
 * in use (layout.h).
 */
#include "engine/binary/layout.h"

#define GPR(n) %gs:GS_GPR(n)
#define CTX(o) %gs:(GS_AREA + (o))

        .text
        .globl  binary_enter
        .hidden binary_enter
        .type   binary_enter, @function
/* void binary_enter(struct context *c) */
binary_enter:
        .cfi_startproc
        endbr64
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        sub     $8, %rsp
        mov     %rsp, CTX_HOST_RSP(%rdi)
        mov     CTX_TABLE(%rdi), %rax
        wrgsbase %rax
        /* A request that comes after this look is seen by the signal that comes with it. */
        .globl  binary_enter_look
        .hidden binary_enter_look
binary_enter_look:
        mov     CTX_REQUEST(%rdi), %rax
        mov     (%rax), %eax
        test    CTX_ATTEND(%rdi), %eax
        jnz     asked
        push    CTX_FLAGS(%rdi)
        popfq
        mov     GPR(0), %rax
        mov     GPR(1), %rcx
        mov     GPR(2), %rdx
        mov     GPR(3), %rbx
        mov     GPR(4), %rsp
        mov     GPR(5), %rbp
        mov     GPR(6), %rsi
        mov     GPR(7), %rdi
        mov     GPR(8), %r8
        mov     GPR(9), %r9
        mov     GPR(12), %r12
        mov     GPR(13), %r13
        mov     GPR(14), %r14
        mov     GPR(15), %r15
        mov     %gs:(GS_VCPU + STATE_RIP), %r10
        jmp     *CTX(CTX_CODE)

        .globl  binary_enter_asked
        .hidden binary_enter_asked
binary_enter_asked:
asked:
        movl    $LEAVE_ASKED, CTX_REASON(%rdi)
        jmp     out

        .globl  binary_leave
        .hidden binary_leave
        .type   binary_leave, @function
binary_leave:
        mov     %rax, GPR(0)
        mov     %rcx, GPR(1)
        mov     %rdx, GPR(2)
        mov     %rbx, GPR(3)
        mov     %rsp, GPR(4)
        mov     %rbp, GPR(5)
        mov     %rsi, GPR(6)
        mov     %rdi, GPR(7)
        mov     %r8, GPR(8)
        mov     %r9, GPR(9)
        mov     %r12, GPR(12)
        mov     %r13, GPR(13)
        mov     %r14, GPR(14)
        mov     %r15, GPR(15)
        mov     CTX(CTX_HOST_RSP), %rsp
        mov     CTX(CTX_SELF), %rdi
        pushfq
        pop     CTX_FLAGS(%rdi)
        push    $2                      /* no DF */
        popfq
out:
        add     $8, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .cfi_endproc
        .size   binary_enter, . - binary_enter

        .globl  binary_call_out
        .hidden binary_call_out
        .type   binary_call_out, @function
/* Has C do an instruction, on the operand in R10, and goes on at R11, or where C says. R12 to R15
 * and RBP stay where they are. */
binary_call_out:
        .cfi_startproc
        mov     %rax, GPR(0)
        mov     %rcx, GPR(1)
        mov     %rdx, GPR(2)
        mov     %rbx, GPR(3)
        mov     %rsp, GPR(4)
        mov     %rsi, GPR(6)
        mov     %rdi, GPR(7)
        mov     %r8, GPR(8)
        mov     %r9, GPR(9)
        mov     %r11, CTX(CTX_RESUME)
        mov     CTX(CTX_HOST_RSP), %rsp
        mov     CTX(CTX_SELF), %rdi
        mov     %r10, %rsi
        pushfq
        pop     CTX_FLAGS(%rdi)
        cld
        call    binary_called
        /* From here to the end a signal leads back here (signal.c). */
        .globl  binary_call_look
        .hidden binary_call_look
binary_call_look:
        mov     CTX(CTX_SELF), %rdi
        mov     CTX_REQUEST(%rdi), %rax
        mov     (%rax), %eax
        cmp     CTX_SEEN(%rdi), %eax
        jne     asked_in_call
        push    CTX_FLAGS(%rdi)
        popfq
        mov     GPR(0), %rax
        mov     GPR(1), %rcx
        mov     GPR(2), %rdx
        mov     GPR(3), %rbx
        mov     GPR(6), %rsi
        mov     GPR(7), %rdi
        mov     GPR(8), %r8
        mov     GPR(9), %r9
        mov     GPR(4), %rsp
        jmp     *CTX(CTX_CODE)
        .globl  binary_call_end
        .hidden binary_call_end
binary_call_end:
asked_in_call:
        call    binary_call_asked
        jmp     binary_call_look
        .cfi_endproc
        .size   binary_call_out, . - binary_call_out
        .section .note.GNU-stack, "", @progbits
