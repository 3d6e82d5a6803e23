/* Into a context and out of it again (run32.h). */

#define CONTEXT_EIP    56
#define CONTEXT_CS     60
#define CONTEXT_EFLAGS 64
#define CONTEXT_ESP    68
#define CONTEXT_SS     72
#define CONTEXT_DWORDS 23

    .text
    .globl run
run:
    push %ebp
    push %ebx
    push %esi
    push %edi
    mov %esp, run_esp
    mov 20(%esp), %eax
    mov %eax, run_context
    testl $0x20000, CONTEXT_EFLAGS(%eax)
    jnz 1f
    testl $3, CONTEXT_CS(%eax)
    jnz 2f
    mov CONTEXT_SS(%eax), %ss
    mov CONTEXT_ESP(%eax), %esp
    jmp 3f
1:  push CONTEXT_SS + 16(%eax)
    push CONTEXT_SS + 12(%eax)
    push CONTEXT_SS + 8(%eax)
    push CONTEXT_SS + 4(%eax)
2:  push CONTEXT_SS(%eax)
    push CONTEXT_ESP(%eax)
3:  push CONTEXT_EFLAGS(%eax)
    push CONTEXT_CS(%eax)
    push CONTEXT_EIP(%eax)
    push 44(%eax)
    push 40(%eax)
    push 36(%eax)
    push 32(%eax)
    push 28(%eax)
    push 24(%eax)
    push 20(%eax)
    push 16(%eax)
    push 12(%eax)
    push 8(%eax)
    push 4(%eax)
    push 0(%eax)
    pop %gs
    pop %fs
    pop %es
    pop %ds
    popa
    .globl run_iret
run_iret:
    iret

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
    pusha
    push %ds
    push %es
    push %fs
    push %gs
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    cld
    mov run_context, %edi
    test %edi, %edi
    jz 9f
    /* The stack may have a base: the copy goes through SS. */
    mov %esp, %esi
    mov $CONTEXT_DWORDS, %ecx
    rep movsl %ss:(%esi), %es:(%edi)
    mov run_context, %edi
    testl $0x20000, CONTEXT_EFLAGS(%edi)
    jnz 1f
    testl $3, CONTEXT_CS(%edi)
    jnz 1f
    lea CONTEXT_ESP(%esp), %eax
    mov %eax, CONTEXT_ESP(%edi)
    mov %ss, %eax
    mov %eax, CONTEXT_SS(%edi)
    /* The copy above ran into what is behind the frame. */
1:  mov $0x10, %eax
    mov %eax, %ss
    mov run_esp, %esp
    movl $0, run_context
    push $2
    popf
    pop %edi
    pop %esi
    pop %ebx
    pop %ebp
    ret
9:  push $0
    push CONTEXT_EIP+4(%esp)
    push $0
    push 48+12(%esp)
    push $unexpected
    call guest_panic

    .section .rodata
unexpected: .asciz "unexpected trap"

    .bss
    .align 4
run_esp: .skip 4
    .globl run_context
run_context: .skip 4

    .section .note.GNU-stack, "", @progbits
