/* The way in for 64-bit guests: from Multiboot's 32-bit code, by page tables that map the first
 * 4 GiB where they are, to guest_main() in 64-bit mode. */

    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .code32
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

    mov $boot_pdpt + 7, %eax
    mov %eax, boot_pml4
    mov $boot_pd + 7, %eax
    mov $boot_pdpt, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $4096, %eax
    add $8, %edi
    loop 1b
    mov $0x87, %eax
    mov $boot_pd, %edi
    mov $2048, %ecx
1:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b

    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000020, %eax /* with CR0.NE, as systems have it: some engines run only those as they are */
    mov %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $8, $1f
    .code64
1:  xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    call run_init
    call guest_main

    .section .rodata
    .align 8
boot_gdt: .quad 0, 0x00209b0000000000
boot_gdt_pointer: .short 15
    .long boot_gdt

    .bss
    .align 4096
    .globl boot_pml4
boot_pml4: .skip 4096
    .globl boot_pdpt
boot_pdpt: .skip 4096
    .globl boot_pd
boot_pd: .skip 4096 * 4
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
