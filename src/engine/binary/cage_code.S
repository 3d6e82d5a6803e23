/*
 * The only code in a cage that is not the guest's (cage.c). What it asks the host for is done only
 * while the monitor lets it: a guest that comes here meets the host no more than by a SYSCALL of
 * its own.
 */
        .section .rodata
        .globl  cage_code
        .hidden cage_code
        .globl  cage_code_work
        .hidden cage_code_work
        .globl  cage_code_end
        .hidden cage_code_end

cage_code:                              /* until the monitor has it */
        mov     $34, %eax               /* pause */
        syscall
        jmp     cage_code

cage_code_work:                         /* RBX: calls of 7 numbers each, R12: how many */
        test    %r12, %r12
        jz      2f
        mov     (%rbx), %rax
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     24(%rbx), %rdx
        mov     32(%rbx), %r10
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        syscall
        cmp     $-4096, %rax
        ja      1f
        add     $56, %rbx
        dec     %r12
        jmp     cage_code_work
1:      ud2                             /* it failed */
2:      int3                            /* all done */
cage_code_end:
        .section .note.GNU-stack, "", @progbits
