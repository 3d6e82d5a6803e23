/* The way in for 32-bit guests: from Multiboot, flat protected mode, to guest_main(). */

    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .globl start
start:
    cli
    cld
    mov $boot_stack_top, %esp
    mov $low_load, %esi
    mov $low_start, %edi
    mov $low_end, %ecx
    sub %edi, %ecx
    rep movsb
    call run_init
    call guest_main

    .bss
    .align 16
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
