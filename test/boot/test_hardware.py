"""Debian's stock kernel on KVM alone (--engine hardware), also where KVM gives up on kernels."""
import json
import subprocess

from harness.case import expect_refusal

PROMPT = "doppel:/root# "


def shell(t, *more):
    t.needs_engine("hardware")
    terminal = t.linux("--engine", "hardware", *more)
    terminal.expect(PROMPT)
    return terminal


def work(terminal):
    """Processes, pipes, arithmetic, and sums that must come out."""
    terminal.command("echo $(seq 1 20000 | awk '{ s += $1 * 3 } END { print s }') sum",
                     "600030000 sum")
    terminal.command("echo $(seq 1 20000 | gzip -c | gzip -dc | md5sum | cut -c1-8) hash",
                     f"{subprocess.getoutput('seq 1 20000 | md5sum')[:8]} hash")
    terminal.command("i=0; while [ $i -lt 50 ]; do /bin/true & i=$((i + 1)); done; wait; "
                     "echo $i chil''dren", "50 children")


def power_off(terminal):
    terminal.send("poweroff -f\n")
    assert terminal.wait() == 0, terminal.output[-2000:]


def test_one_processor(t):
    terminal = shell(t)
    work(terminal)
    power_off(terminal)


def test_two_processors(t):
    terminal = shell(t, "--cpus", "2")
    terminal.command("echo $(nproc) processors", "2 processors")
    work(terminal)
    power_off(terminal)


def test_kvm_runs_it(t):
    t.needs_engine("hardware")
    done = t.run("run", "--engine", "hardware", "--kernel", t.kernel(), "--initrd", t.initramfs(),
                 "--append", "console=ttyS0 quiet", "--memory", "256M", "--no-reboot", "--stats",
                 "--json", input=b"poweroff -f\n", stdin=None)
    assert done.returncode == 0, done
    total = json.loads(done.stderr)["total"]
    assert total["exits"] > 100, total
    # What emulate did is counted, where it did anything.
    assert (total["stretches"] == 0) == (total["instructions"] == 0) or total["assists"], total


def test_the_hosts_processor_or_one_line(t):
    """Where emulate runs systems for KVM, it can't run what only the host knows."""
    t.needs_engine("hardware")
    done = t.run("run", "--engine", "hardware", "--cpu", "host", "--kernel", t.kernel(),
                 "--initrd", t.initramfs(), "--append", "console=ttyS0 quiet", "--memory", "256M",
                 "--no-reboot", input=b"poweroff -f\n", stdin=None)
    if done.returncode:
        expect_refusal(done, 2, "--cpu host", "gives up on kernels")


def test_a_guest_with_the_hosts_processor_does_not_move(t):
    t.needs_engine("hardware")
    done = t.run("run", "--engine", "hardware", "--switch-every", "100ms,hardware,binary", "--cpu",
                 "host", "--kernel", t.kernel())
    expect_refusal(done, 2, "--cpu host", "change engines")
