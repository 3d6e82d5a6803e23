/* Into a context and out of it again (run64.h). */

#define CONTEXT_RIP    136
#define CONTEXT_DWORDS 44

    .text
    .globl run
run:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, run_rsp
    mov %rdi, run_context
    push CONTEXT_RIP + 32(%rdi)
    push CONTEXT_RIP + 24(%rdi)
    push CONTEXT_RIP + 16(%rdi)
    push CONTEXT_RIP + 8(%rdi)
    push CONTEXT_RIP(%rdi)
    mov 0(%rdi), %r15
    mov 8(%rdi), %r14
    mov 16(%rdi), %r13
    mov 24(%rdi), %r12
    mov 32(%rdi), %r11
    mov 40(%rdi), %r10
    mov 48(%rdi), %r9
    mov 56(%rdi), %r8
    mov 72(%rdi), %rsi
    mov 80(%rdi), %rbp
    mov 88(%rdi), %rbx
    mov 96(%rdi), %rdx
    mov 104(%rdi), %rcx
    mov 112(%rdi), %rax
    mov 64(%rdi), %rdi
    iretq

    .align 16
    .globl trap_entries
trap_entries:
    .set vector, 0
    .rept 256
    .align 16
    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17
    push $0
    .endif
    push $vector
    jmp trap
    .set vector, vector + 1
    .endr

trap:
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, run_frame
    addq $120, run_frame
    mov %ss, run_handler_ss
    cld
    mov run_context, %rdi
    test %rdi, %rdi
    jz 9f
    mov %rsp, %rsi
    mov $CONTEXT_DWORDS, %ecx
    rep movsl
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov run_rsp, %rsp
    movq $0, run_context
    push $2
    popf
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
9:  mov $unexpected, %edi
    mov 120(%rsp), %rsi
    mov CONTEXT_RIP(%rsp), %rdx
    and $-16, %rsp
    call guest_panic

    .section .rodata
unexpected: .asciz "unexpected trap"

    .bss
    .align 8
run_rsp: .skip 8
    .globl run_context
run_context: .skip 8
    .globl run_frame
run_frame: .skip 8
    .globl run_handler_ss
run_handler_ss: .skip 8

    .section .note.GNU-stack, "", @progbits
