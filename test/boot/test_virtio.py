"""Debian's stock kernel with its virtio drivers, and the devices of ours that they find."""
import json
import subprocess

from harness.initramfs import with_files
from harness.linux import PROMPT, linux_args

# In the order in which they need each other.
MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
           "virtio-rng")
LOAD = "for m in {}; do insmod /modules/$m.ko || echo no $m; done".format(" ".join(MODULES))
CURRENT = "echo source $(cat /sys/class/misc/hw_random/rng_current)"
# Something that goes on for a while, and of which every byte must come.
READ = ("i=0; while [ $i -lt 20 ]; do dd if=/dev/hwrng bs=512 count=8 iflag=fullblock "
        "2>/dev/null | wc -c; i=$((i + 1)); done | sort | uniq -c")
DIFFERENT = ("for i in 1 2 3 4 5 6; do dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum; done "
             "| sort -u | wc -l | sed 's/$/ of them/'")
INTERRUPTS = "grep virtio /proc/interrupts"
SAME = "dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum"


def modules(t):
    kernel = t.guest("linux-image-cloud-amd64/lib/modules/*/kernel")
    found = [path for name in MODULES for path in kernel.rglob(f"{name}.ko")]
    assert len(found) == len(MODULES), found
    return found


def run(t, *more, script=(LOAD, CURRENT, READ, DIFFERENT, INTERRUPTS)):
    """The lines that the guest printed, and the statistics."""
    initramfs = t.file("initramfs", with_files(t.initramfs(), "modules", modules(t)))
    stats = t.tmp / "stats"
    commands = "\n".join([*script, "poweroff -f", ""])
    with open(stats, "wb") as to:
        process = t.popen(*linux_args(t), "--initrd", initramfs, "--stats", "--json", *more,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=to)
        output, _ = process.communicate(commands.encode(), timeout=300)
    assert process.returncode == 0, (output[-2000:], stats.read_text()[-500:])
    return output.decode(errors="replace").replace("\r", "").splitlines(), json.loads(
        stats.read_text())


def check(lines):
    assert "source virtio_rng.0" in lines, lines[-40:]
    assert "     20 4096" in lines, lines[-40:]
    assert "6 of them" in lines, lines[-40:]
    assert any("virtio0-input" in line and "MSI" in line for line in lines), lines[-40:]


def test_entropy_by_emulation(t):
    check(run(t, "--rng", "--engine", "emulate")[0])


def test_entropy_by_binary_translation(t):
    t.needs_engine("binary")
    check(run(t, "--rng", "--engine", "binary", "--cpus", "2")[0])


def test_entropy_while_engines_change(t):
    t.needs_engine("binary")
    lines, stats = run(t, "--rng", "--engine", "emulate", "--switch-every", "50ms,emulate,binary")
    check(lines)
    assert stats["switches"] > 10


def test_entropy_on_kvm(t):
    t.needs_engine("hardware")
    check(run(t, "--rng", "--engine", "hardware")[0])


def check_guest(t, *more):
    """guest/virtio.c says what holds: no request and no interrupt is lost."""
    t.needs_engine("hardware")
    done = t.run("run", "--apic", "kernel", "--rng", "--kernel", t.build / "guest/virtio.elf",
                 "--memory", "64M", "--debug-exit", "--console", "stdio", "--stats", "--json",
                 *more)
    assert done.returncode == 0x10 << 1 | 1, (done.stdout[-2000:], done.stderr[-500:])
    return json.loads(done.stderr)


def test_eventfds_between_kvm_and_the_device(t):
    """All of the guest's requests are rung so, and answered but for the first of each vector."""
    stats = check_guest(t, "--engine", "hardware")
    assert stats["doorbells"] > 370, stats["doorbells"]
    assert stats["messages"] > 250, stats["messages"]


def test_eventfds_come_and_go_with_the_engine(t):
    stats = check_guest(t, "--engine", "emulate", "--switch-every", "2ms,emulate,hardware,binary")
    assert stats["switches"] > 2
    stats = check_guest(t, "--engine", "hardware", "--switch-every", "2ms,hardware,emulate")
    assert stats["switches"] > 2 and stats["doorbells"] > 0 and stats["messages"] > 0, stats


def test_entropy_by_the_interrupt_pin(t):
    """Without MSI the driver gets by with INTx."""
    lines, _ = run(t, "--rng", "--append", "console=ttyS0 quiet pci=nomsi")
    assert "source virtio_rng.0" in lines and "     20 4096" in lines, lines[-40:]
    assert any("IO-APIC" in line and "virtio0" in line for line in lines), lines[-40:]


def test_it_goes_on_after_its_driver_and_a_reset(t):
    """A driver that goes and comes, and a kernel that begins anew without asking."""
    unload = "for m in virtio-rng virtio_pci; do rmmod $m || echo no $m; done"
    lines, _ = run(t, "--rng", script=(LOAD, SAME, unload, CURRENT, LOAD, SAME, CURRENT))
    assert "source none" in lines and "source virtio_rng.0" in lines, lines[-40:]
    initramfs = t.file("initramfs", with_files(t.initramfs(), "modules", modules(t)))
    terminal = t.terminal("run", "--kernel", t.kernel(), "--initrd", initramfs, "--append",
                          "console=ttyS0 quiet reboot=t", "--memory", "256M", "--rng")
    for end in ("reboot -f", "poweroff -f"):
        terminal.expect("processor(s)")
        terminal.expect(PROMPT)
        terminal.command(f"{LOAD}; {CURRENT}", "source virtio_rng.0")
        terminal.command(READ, "20 4096")
        terminal.send(f"{end}\n")
    assert terminal.wait() == 0


def test_there_is_none_unless_asked_for(t):
    lines, _ = run(t, script=(LOAD, CURRENT, "grep -c 0x1af4 /sys/bus/pci/devices/*/vendor"))
    assert "source none" in lines, lines[-20:]


def test_under_the_virtual_clock_two_runs_get_the_same(t):
    def sums():
        lines, _ = run(t, "--rng", "--clock", "virtual", script=(LOAD, SAME, SAME))
        return [line for line in lines if line.endswith("  -")]
    first = sums()
    assert len(set(first)) == 2, first
    assert sums() == first
