"""Debian's stock kernel on KVM alone (--engine hardware), also where KVM gives up on kernels."""
import json

from harness.case import expect_refusal
from harness.linux import boot, works


def test_one_processor(t):
    works(t, "hardware", 1)


def test_two_processors(t):
    works(t, "hardware", 2)


def test_kvm_runs_it(t):
    t.needs_engine("hardware")
    done = boot(t, "--engine", "hardware", "--stats", "--json")
    assert done.returncode == 0, done
    total = json.loads(done.stderr)["total"]
    assert total["exits"] > 100, total
    # What emulate did is counted, where it did anything.
    assert (total["stretches"] == 0) == (total["instructions"] == 0) or total["assists"], total


def test_the_hosts_processor_or_one_line(t):
    """Where emulate runs systems for KVM, it can't run what only the host knows."""
    t.needs_engine("hardware")
    done = boot(t, "--engine", "hardware", "--cpu", "host")
    if done.returncode:
        expect_refusal(done, 2, "--cpu host", "gives up on kernels")


def test_a_guest_with_the_hosts_processor_does_not_move(t):
    t.needs_engine("hardware")
    done = t.run("run", "--engine", "hardware", "--switch-every", "100ms,hardware,binary", "--cpu",
                 "host", "--kernel", t.kernel())
    expect_refusal(done, 2, "--cpu host", "change engines")
