"""How a run ends, and that it can always be ended from outside (see test/cli/test_hostile.py too)."""
import signal
import struct
import time

from harness.case import PATIENCE
from harness.guest import LEFT, SPIN, TRIPLE_FAULT, image, leave


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


def test_triple_fault_resets_otherwise(t):
    """The third start sees what the first two left in memory, and leaves."""
    counter = struct.pack("<I", 0x200000)
    code = b"\xff\x05" + counter          # inc dword [counter]
    code += b"\x83\x3d" + counter + b"\x03"  # cmp dword [counter], 3
    code += b"\x75" + bytes([len(leave(0))]) + leave(0x10) + TRIPLE_FAULT  # jne past leave()
    done = run(t, code)
    assert done.returncode == LEFT, done


def test_halted_with_interrupts_off_can_be_ended(t):
    ends_from_outside(t, b"\xfa\xf4" + SPIN)


def test_resetting_for_ever_can_be_ended(t):
    ends_from_outside(t, TRIPLE_FAULT, signal.SIGINT)
