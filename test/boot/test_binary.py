"""Debian's stock kernel, unmodified, with its code run as it is (--engine binary)."""
import contextlib
import gzip
import json
import os
import pathlib
import signal
import time

from harness.case import PATIENCE
from harness.linux import boot, linux_args, power_off, shell, work, works


def test_one_processor(t):
    works(t, "binary", 1)


def test_two_processors(t):
    works(t, "binary", 2)


def boot_to_power_off(t, *more):
    """A boot with some work and --stats, and what they say."""
    script = t.file("script", b"ls -lR /bin | sort | md5sum\nfor i in 1 2 3; do (echo $i); done\n"
                              b"poweroff -f\n")
    with script.open() as typed:
        done = t.run(*linux_args(t), "--engine", "binary", "--append", "console=ttyS0", "--console",
                     "stdio", "--stats", "--json", *more, stdin=typed, timeout=600)
    assert done.returncode == 0, done
    assert b"reboot: Power down" in done.stdout, done.stdout[-3000:]
    return json.loads(done.stderr)["total"]


def test_shares_are_counted_by_both_clocks(t):
    t.needs_engine("binary")
    for more in ((), ("--clock", "virtual")):
        told = boot_to_power_off(t, *more)
        assert told["instructions"] == told["direct"] + told["translated"] + told["emulated"], told
        assert told["direct"] > told["translated"] > 10 ** 8, told
        assert 0 < told["emulated"] < told["instructions"] // 100, told
        names = {cause["name"] for cause in told["causes"]}
        assert {"host faults", "out DX,AL"} <= names, told
        assert all(cause["count"] > 0 and cause["ns"] > 0 for cause in told["causes"]), told


def test_user_code_in_cages(t):
    """From its first instruction on."""
    t.needs_engine("binary")
    for more in ((), ("--cpus", "2")):
        told = boot_to_power_off(t, "--direct", "always", *more)
        stops = {cause["name"]: cause["count"] for cause in told["causes"]
                 if cause["name"].startswith("direct execution")}
        assert stops.get("direct execution, until calls", 0) > 1000, told
        assert stops.get("direct execution, until faults", 0) > 1000, told
        assert "direct execution, until its end" not in stops, told


def cages_of(process):
    """The processes that its guests' user code runs in."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, fields = stat.read_text().partition(" (")
        except OSError:
            continue  # it has ended
        name, _, rest = fields.rpartition(") ")
        if "cage" in name and int(rest.split()[1]) == process.pid:
            found.append(int(number))
    return found


def test_the_end_of_a_cage_is_the_runs(t):
    """What was in it is lost: the guest must not go on without."""
    terminal = shell(t, "--direct", "always", engine="binary")
    terminal.command("echo a lo''op", "a loop")
    terminal.send("while :; do :; done\n")
    deadline = time.monotonic() + PATIENCE
    while terminal.process.poll() is None:
        assert time.monotonic() < deadline, terminal.output[-2000:]
        for cage in cages_of(terminal.process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(cage, signal.SIGKILL)
    assert terminal.wait() == 1, terminal.output[-2000:]
    terminal.expect("the process that ran the guest's user code was killed")
    terminal.check_restored()


def test_a_small_cache_is_recycled(t):
    t.needs_engine("binary")
    for more in ((), ("--cpus", "2")):
        told = boot_to_power_off(t, "--code-cache", "1M", *more)
        assert told["cache_flushes"] > 10 and told["longest_stop_ns"] > 0, told


def with_file(t, name, content):
    """The shell's initramfs with one more file, as an archive behind the archive."""
    def entry(path, data, mode):
        fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + path.encode() + b"\0"
        return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
    more = entry(name, content, 0o100755) + entry("TRAILER!!!", b"", 0)
    path = t.tmp / "initramfs-and-more.gz"
    path.write_bytes(pathlib.Path(t.initramfs()).read_bytes() + gzip.compress(more))
    return path


def has_avx512():
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    return all(f"avx512{f}" in flags for f in ("f", "dq", "cd", "bw", "vl"))


def test_the_hosts_instructions(t):
    """AVX-512 in user space: the C library's own, and registers that are kept from each other."""
    program = (t.build / "guest/user512").read_bytes()
    initramfs = with_file(t, "user512", program)
    terminal = shell(t, "--cpu", "host", "--initrd", initramfs, engine="binary")
    name = [line.partition(": ")[2] for line in pathlib.Path("/proc/cpuinfo").read_text().split("\n")
            if line.startswith("model name")][0]
    terminal.command("grep 'model name' /proc/cpuinfo", name)
    work(terminal)
    if has_avx512():
        terminal.command("echo $(grep -c avx512vl /proc/cpuinfo) has it", "1 has it")
        terminal.command("/user512", "kept")
    power_off(terminal)


def test_huge_pages_are_given_back(t):
    """Linux executes one INVLPG for a huge page, which takes all of it."""
    initramfs = with_file(t, "huge", (t.build / "guest/huge").read_bytes())
    for engine in ("binary", "emulate"):
        # With less than 512 MiB it gives nobody huge pages.
        terminal = shell(t, "--initrd", initramfs, "--memory", "1G", engine=engine)
        terminal.command("/huge", "given back")
        terminal.command("[ $(awk '/thp_fault_alloc/ { print $2 }' /proc/vmstat) -gt 0 ] && "
                         "echo hu''ge", "huge")
        power_off(terminal)


def test_most_is_run_as_it_is(t):
    t.needs_engine("binary")
    done = boot(t, "--engine", "binary", "--stats", "--json")
    assert done.returncode == 0, done
    total = json.loads(done.stderr)["total"]
    # The boot takes more than 100 million instructions.
    assert 0 < total["emulated"] < 5_000_000, total
