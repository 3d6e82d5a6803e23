"""Local APICs that KVM keeps, also where it would not do so by itself (--apic kernel)."""
import json
import re

from harness.case import expect_refusal

# What a KVM in software is known to do wrongly with its local APIC (docs/hardware.md).
WRONG = {
    "a masked timer is silent",
    "what is in service stays",
    "a level-triggered interrupt comes until it ends",
}


def runs_in_software(t):
    listing = json.loads(t.run("engines", "--json").stdout)
    return not next(e for e in listing["engines"] if e["name"] == "hardware")["advisable"]


def check_guest(t, *more):
    """guest/apic.c says what holds; its last test is reached."""
    t.needs_engine("hardware")
    done = t.run("run", "--apic", "kernel", "--kernel", t.build / "guest/apic.elf", "--memory",
                 "64M", "--debug-exit", "--console", "stdio", "--stats", "--json", *more)
    output = done.stdout.decode(errors="replace")
    verdicts = dict((name.strip(), said) for said, name in re.findall(r"^(ok  |FAIL) apic (.*)$",
                                                                     output, re.MULTILINE))
    assert "x2APIC does the same" in verdicts, (output, done.stderr[-500:])
    failed = {name for name, said in verdicts.items() if said == "FAIL"}
    assert failed <= (WRONG if runs_in_software(t) else set()), output
    stats = json.loads(done.stderr)
    assert stats["total"]["exits"] > 100, stats["total"]
    return stats


def test_timers_messages_and_registers(t):
    stats = check_guest(t, "--engine", "hardware")
    assert stats["total"]["mmio"] < 20, stats["total"]  # of the I/O APIC, and no more


def test_two_processors(t):
    check_guest(t, "--engine", "hardware", "--cpus", "2")


def test_they_move_between_engines(t):
    stats = check_guest(t, "--engine", "emulate", "--switch-every", "5ms,emulate,hardware,binary",
                        "--cpus", "2")
    assert stats["switches"] > 10


def boot_until_there_is_no_root(t, *more):
    """The stock kernel starts its processors and devices, finds no root, and asks for a reset.
    (Where KVM gives up on systems, a user's system calls are not done right by it.)"""
    t.needs_engine("hardware")
    done = t.run("run", "--apic", "kernel", "--engine", "binary", "--switch-every",
                 "100ms,binary,hardware", "--kernel", t.kernel(), "--append",
                 "console=ttyS0 panic=-1 reboot=t", "--memory", "256M", "--no-reboot", "--stats",
                 "--json", *more)
    output = done.stdout.decode(errors="replace")
    assert "Unable to mount root fs" in output, output[-2000:]
    for trouble in ("Oops", "BUG:", "WARNING:", "soft lockup", "spurious", "No irq handler"):
        assert trouble not in output, output
    stats = json.loads(done.stderr)
    assert stats["switches"] > 10
    assert stats["total"]["exits"] > 100
    return output


def test_linux_moves_with_its_timers(t):
    output = boot_until_there_is_no_root(t)
    assert "TSC deadline timer" in output


def test_linux_moves_with_two_processors(t):
    output = boot_until_there_is_no_root(t, "--cpus", "2")
    assert "Brought up 1 node, 2 CPUs" in output


def test_linux_counts_its_ticks(t):
    """Without the deadline, in one-shot mode."""
    output = boot_until_there_is_no_root(t, "--append",
                                         "console=ttyS0 panic=-1 reboot=t lapic=notscdeadline")
    assert "TSC deadline timer" not in output


def test_what_the_option_takes(t):
    expect_refusal(t.run("run", "--apic", "moon", "--kernel", "/dev/null"), 2, "--apic moon")
