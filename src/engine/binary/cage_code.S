/*
 * The only code in a cage that is not the guest's (cage.c). What it asks the host for needs a
 * number that the monitor alone knows, and puts into registers that are the guest's again before
 * its code runs.
 */
        .section .rodata
        .globl  cage_code
        .hidden cage_code
        .globl  cage_code_work
        .hidden cage_code_work
        .globl  cage_code_go
        .hidden cage_code_go
        .globl  cage_code_frame
        .hidden cage_code_frame
        .globl  cage_code_end
        .hidden cage_code_end

cage_code:                              /* until the monitor has it */
        mov     $34, %eax               /* pause */
        syscall
        jmp     cage_code

        /* RBX: calls of 7 numbers each, R12: how many; R13, R14: upper halves of the fourth and
         * fifth argument; RBP: 1 to go on with the guest's registers in the frame */
cage_code_work:
        test    %r12, %r12
        jz      2f
        mov     (%rbx), %rax
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     24(%rbx), %rdx
        mov     32(%rbx), %r10
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        or      %r13, %r10
        or      %r14, %r8
        syscall
        cmp     $-4096, %rax
        ja      1f
        add     $56, %rbx
        dec     %r12
        jmp     cage_code_work
1:      ud2                             /* it failed */
2:      test    %rbp, %rbp
        jnz     cage_code_go
        int3                            /* all done */

cage_code_go:
        lea     cage_code_frame(%rip), %rsp
        popfq
        pop     %rax
        pop     %rcx
        pop     %rdx
        pop     %rbx
        pop     %rbp
        pop     %rsi
        pop     %rdi
        pop     %r8
        pop     %r9
        pop     %r10
        pop     %r11
        pop     %r12
        pop     %r13
        pop     %r14
        pop     %r15
        mov     (%rsp), %rsp
        jmp     *cage_code_frame + 17 * 8(%rip)

        .balign 8
cage_code_frame:                        /* RFLAGS, the registers in that order, RSP, RIP */
        .space  18 * 8
cage_code_end:
        .section .note.GNU-stack, "", @progbits
