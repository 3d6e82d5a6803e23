"""Guests that run wild: they end as documented, or keep running and can be ended from outside."""
import signal
import struct
import time

from harness.case import PATIENCE
from harness.guest import CODE, LEFT, SPIN, TRIPLE_FAULT, image, leave


def guest(t, code):
    return t.file("guest", image(code))


def run(t, code, *more):
    return t.run("run", "--kernel", guest(t, code), "--memory", "16M", "--debug-exit", *more)


def ends_from_outside(t, code, number=signal.SIGTERM):
    """It says on the serial line that it runs; then the signal must end it."""
    hello = b"\x66\xba\xf8\x03\xb0\x21\xee"  # mov dx, 0x3f8; mov al, '!'; out dx, al
    log = t.tmp / "log"
    process = t.popen("run", "--kernel", guest(t, hello + code), "--memory", "16M", "--console",
                      f"file:{log}")
    try:
        deadline = time.monotonic() + PATIENCE
        while not (log.exists() and log.read_bytes().startswith(b"!")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 4
    finally:
        process.kill()
        process.wait()


def test_debug_exit(t):
    for value in (0, 1, 0x10, 0x7f):
        done = run(t, leave(value))
        assert done.returncode == (value << 1 | 1) & 0xff, done


def test_debug_exit_is_there_only_when_asked_for(t):
    done = t.run("run", "--kernel", guest(t, leave(0x10) + TRIPLE_FAULT), "--memory", "16M",
                 "--no-reboot")
    assert done.returncode == 3, done


def test_triple_fault_under_no_reboot_ends_with_3(t):
    done = run(t, TRIPLE_FAULT, "--no-reboot")
    assert done.returncode == 3, done


def test_triple_fault_resets_otherwise(t):
    """The third start sees what the first two left in memory, and leaves."""
    counter = struct.pack("<I", 0x200000)
    code = b"\xff\x05" + counter          # inc dword [counter]
    code += b"\x83\x3d" + counter + b"\x03"  # cmp dword [counter], 3
    code += b"\x75" + bytes([len(leave(0))]) + leave(0x10) + TRIPLE_FAULT  # jne past leave()
    done = run(t, code)
    assert done.returncode == LEFT, done


def test_spinning_with_interrupts_off_can_be_ended(t):
    ends_from_outside(t, b"\xfa" + SPIN)


def test_halted_with_interrupts_off_can_be_ended(t):
    ends_from_outside(t, b"\xfa\xf4" + SPIN)


def test_resetting_for_ever_can_be_ended(t):
    ends_from_outside(t, TRIPLE_FAULT, signal.SIGINT)


def test_jump_to_nowhere(t):
    """Unclaimed addresses read all ones, which is no instruction."""
    code = b"\x0f\x01\x1d" + struct.pack("<I", CODE - 8)
    code += b"\xb8" + struct.pack("<I", 0xd0000000) + b"\xff\xe0"  # mov eax, ...; jmp eax
    assert run(t, code, "--no-reboot").returncode == 3


def test_writing_every_port(t):
    """Whatever the devices make of it, doppel ends as it says: by power-off, reset or the debug
    exit (an odd status)."""
    for value in (0, 0xff, 0x55, 0x06, 0x20):
        code = b"\xfa\x31\xd2"                                # cli; xor edx, edx
        code += b"\xb8" + struct.pack("<I", value * 0x01010101)  # mov eax, value
        code += b"\xee\x66\xef\xef"                           # out dx, al; ax; eax
        code += b"\x66\x42\x66\x83\xfa\xf0\x74\x0b"           # inc dx; cmp dx, -16; je the end
        code += b"\x80\xfa\xf0\x75\xef"                       # cmp dl, 0xf0; jne the outs
        code += b"\x66\x83\xc2\x08\xeb\xe9"                   # add dx, 8; jmp to the outs
        done = run(t, code + leave(0x10), "--no-reboot")
        assert done.stderr == b"", done
        assert done.returncode in (0, 3) or done.returncode & 1, (value, done)


def test_reading_every_port(t):
    code = b"\xfa\x31\xd2"            # cli; xor edx, edx
    code += b"\xec\x66\xed\xed"       # in al, dx; ax; eax
    code += b"\x66\x42\x75\xf8"       # inc dx; jne the first in
    done = run(t, code + leave(0x10), "--no-reboot")
    assert done.returncode == LEFT, done


def test_touching_every_page(t):
    """From 2 MiB to 4 GiB, memory or not, by reads and writes of each size."""
    code = b"\xfa\xbf" + struct.pack("<I", 0x200000)   # cli; mov edi, 2 MiB
    code += b"\x8a\x07\x88\x07\x66\x8b\x07\x66\x89\x07"  # mov al, [edi]; and back; ax
    code += b"\x8b\x07\x89\x07"                         # eax
    code += b"\x8b\x87\xff\x0f\x00\x00"                 # mov eax, [edi + 0xfff]: straddles
    code += b"\x81\xc7\x00\x10\x00\x00\x75\xe4"         # add edi, 0x1000; jne the first
    done = run(t, code + leave(0x10), "--no-reboot")
    assert done.returncode == LEFT, done
