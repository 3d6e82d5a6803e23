"""Engines in lockstep through a whole boot of Debian's stock kernel, user space included."""
import re

from harness.case import slow

WORK = b"""for i in 1 2 3 4 5 6; do (echo $i | md5sum); done
dd if=/dev/urandom bs=64k count=2 2>/dev/null | gzip | gunzip | sha256sum
ls -lR /proc/self /bin | sort | md5sum
poweroff -f
"""


def boot(t, engine, *more):
    script = t.file("script", WORK)
    with script.open() as typed:
        return t.run("verify", "--engine", engine, "--against", "emulate", "--kernel", t.kernel(),
                     "--initrd", t.initramfs(), "--append", "console=ttyS0", "--memory", "128M",
                     "--no-reboot", "--console", "stdio", *more, stdin=typed, timeout=1800)


def boots_alike(t, engine, *more):
    done = boot(t, engine, *more)
    text = done.stdout.decode("latin-1")
    assert done.returncode == 0, text[-4000:]
    assert "reboot: Power down" in text, text[-4000:]
    assert text.endswith("No difference.\n"), text[-4000:]
    assert int(re.search(r"(\d+) instructions compared", text)[1]) > 10 ** 8, text[-4000:]


def test_emulate_twice_to_power_off(t):
    boots_alike(t, "emulate", "--step", "2000")


def test_binary_against_emulate_to_power_off(t):
    t.needs_engine("binary")
    boots_alike(t, "binary", "--step", "1000")


@slow
def test_binary_block_by_block_to_power_off(t):
    t.needs_engine("binary")
    boots_alike(t, "binary")


def test_a_planted_bug_is_found_in_a_block(t):
    t.needs_engine("binary")
    done = boot(t, "binary", "--plant", "30000000:gpr12")
    assert done.returncode == 1, done.stdout[-4000:]
    assert b"The engines differ behind instruction 30000000:" in done.stdout, done.stdout[-4000:]


def test_a_planted_bug_is_found_in_the_kernel(t):
    done = boot(t, "emulate", "--step", "1000", "--plant", "50000000:gpr12")
    assert done.returncode == 1, done.stdout[-4000:]
    assert b"The engines differ behind instruction 50000000:" in done.stdout, done.stdout[-4000:]
