"""Small guests, assembled by hand: Multiboot images that are entered in flat 32-bit mode."""
import struct

BASE = 0x100000
CODE = BASE + 0x20  # behind the Multiboot header
LEFT = 0x10 << 1 | 1  # the exit status of leave(0x10)
SPIN = b"\xeb\xfe"
# lidt [CODE - 8], which is the header's; int3
TRIPLE_FAULT = b"\x0f\x01\x1d" + struct.pack("<I", CODE - 8) + b"\xcc"

# Echoes what comes on the first serial line, up to a "q"; the low 7 bits of the sum of all bytes
# are then what it leaves with.
ECHO = (b"\x31\xdb"                  # xor ebx, ebx
        b"\x66\xba\xfd\x03\xec"      # again: mov dx, 0x3fd; in al, dx
        b"\xa8\x01\x74\xf7"          # test al, 1; jz again
        b"\x66\xba\xf8\x03\xec"      # mov dx, 0x3f8; in al, dx
        b"\x3c\x71\x74\x05"          # cmp al, 'q'; je quit
        b"\x00\xc3\xee\xeb\xe9"      # add bl, al; out dx, al; jmp again
        b"\x89\xd8\x83\xe0\x7f"      # quit: mov eax, ebx; and eax, 0x7f
        b"\x66\xba\xf4\x00\xef")     # mov dx, 0xf4; out dx, eax


def leave(value):
    """mov eax, value; mov dx, 0xf4; out dx, eax"""
    return b"\xb8" + struct.pack("<I", value) + b"\x66\xba\xf4\x00\xef"


def image(code):
    flags = 1 << 16
    return struct.pack("<IIIIIIII", 0x1badb002, flags, -(0x1badb002 + flags) & 0xffffffff, BASE,
                       BASE, 0, 0, CODE) + code


def echo_status(data):
    """What ECHO ends with when it was sent these bytes before the q."""
    return (sum(data) & 0x7f) << 1 | 1
