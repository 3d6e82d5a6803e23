/* Into real mode and out of it again (real.h). All of it lies below 64 KiB. */

    .section .low, "awx", @progbits
    .code32
    .globl real_enter
real_enter:
    push %ebp
    push %ebx
    push %esi
    push %edi
    mov %esp, real_esp
    ljmp $0x30, $1f

    .code16
1:  mov $0x38, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %fs
    mov %ax, %gs
    mov %ax, %ss
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0, $2f
2:  xor %ax, %ax
    mov %ax, %ds
    lidtl real_idt
    mov real_context + 32 + 8, %ss
    mov real_context + 28, %esp
    pushw real_context + 32 + 14
    pushw real_context + 32 + 10
    pushw real_context + 32 + 12
    mov real_context + 32 + 2, %es
    mov real_context + 32 + 4, %fs
    mov real_context + 32 + 6, %gs
    mov real_context, %eax
    mov real_context + 4, %ebx
    mov real_context + 8, %ecx
    mov real_context + 12, %edx
    mov real_context + 16, %esi
    mov real_context + 20, %edi
    mov real_context + 24, %ebp
    mov real_context + 32, %ds
    iretw

    .globl real_entries
real_entries:
    .set vector, 0
    .rept 256
    .byte 0x68
    .short vector
    .byte 0xe9
    .short real_trap - . - 2
    .set vector, vector + 1
    .endr

real_trap:
    mov %eax, %cs:real_context
    mov %ebx, %cs:real_context + 4
    mov %ecx, %cs:real_context + 8
    mov %edx, %cs:real_context + 12
    mov %esi, %cs:real_context + 16
    mov %edi, %cs:real_context + 20
    mov %ebp, %cs:real_context + 24
    mov %ds, %cs:real_context + 32
    mov %es, %cs:real_context + 32 + 2
    mov %fs, %cs:real_context + 32 + 4
    mov %gs, %cs:real_context + 32 + 6
    mov %ss, %cs:real_context + 32 + 8
    popw %cs:real_context + 32 + 16
    popw %cs:real_context + 32 + 12
    popw %cs:real_context + 32 + 10
    popw %cs:real_context + 32 + 14
    mov %esp, %cs:real_context + 28
    xor %ax, %ax
    mov %ax, %ds
    lidtl real_protected_idt
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x08, $3f

    .code32
3:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov real_esp, %esp
    push $2
    popf
    cld
    pop %edi
    pop %esi
    pop %ebx
    pop %ebp
    ret

    .align 4
real_esp: .long 0
    .globl real_context
real_context: .skip 52
real_idt: .short 0x3ff
    .long 0
    .globl real_protected_idt
real_protected_idt: .short 0
    .long 0

    .section .note.GNU-stack, "", @progbits
