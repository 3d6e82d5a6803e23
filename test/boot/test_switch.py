"""Changing engines while Debian's stock kernel boots and works."""
import json
import subprocess

from harness.linux import linux_args, sums

# A program that begins just before a change to a KVM that shows users the host's CPUID may find
# AVX-512 there (docs/hardware.md).
NO_AVX512 = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL"


def boot(t, engines, *more):
    """To the shell and through some work, and to the end; how often the engine was changed."""
    stats = t.tmp / "stats"
    work = sums(5000)
    script = [command for command, _ in work] + ["echo $(nproc) processors", "poweroff -f", ""]
    with open(stats, "wb") as to:
        process = t.popen(*linux_args(t), "--engine", engines.split(",")[0], "--switch-every",
                          f"100ms,{engines}", "--append", f"console=ttyS0 quiet {NO_AVX512}",
                          "--stats", "--json", *more, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=to)
        output, _ = process.communicate("\n".join(script).encode(), timeout=300)
    assert process.returncode == 0, output[-2000:]
    lines = output.decode(errors="replace").replace("\r", "").splitlines()
    for _, line in work:
        assert line in lines, (line, output[-2000:])
    for trouble in ("segfault", "Oops", "BUG:", "WARNING:", "Illegal instruction"):
        assert not any(trouble in line for line in lines), output[-3000:]
    return json.loads(stats.read_text()), lines


def test_between_emulation_and_binary_translation(t):
    t.needs_engine("binary")
    stats, _ = boot(t, "emulate,binary")
    assert stats["switches"] > 10
    assert stats["total"]["entries_filled"] > 0  # of the translator's tables


def test_between_emulation_and_kvm(t):
    t.needs_engine("hardware")
    stats, _ = boot(t, "emulate,hardware")
    assert stats["switches"] > 10
    assert stats["total"]["exits"] > 100


def test_round_all_engines(t):
    t.needs_engine("binary")
    t.needs_engine("hardware")
    stats, _ = boot(t, "emulate,hardware,binary")
    assert stats["switches"] > 10


def test_two_processors(t):
    t.needs_engine("hardware")
    stats, lines = boot(t, "emulate,hardware", "--cpus", "2")
    assert stats["switches"] > 10
    assert "2 processors" in lines
