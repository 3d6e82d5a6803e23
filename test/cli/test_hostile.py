"""Guests that run wild end as documented or keep running, and can always be ended from outside."""
import signal
import subprocess

LIVED = 0x10 << 1 | 1  # the guest came to its end
POWERED_OFF, CRASHED, ENDED = 0, 3, 4

# How long a guest that does not end by itself is watched.
WATCH_SECONDS = 2


def wild(t, way, seed=0, *more):
    return ["run", "--kernel", t.build / "guest/wild.elf", "--append", f"{way} {seed}",
            "--memory", "32M", "--no-reboot", "--debug-exit", "--console", "null", *more]


def watch(t, args):
    """Runs a guest for a while, then ends it from outside. Returns its status."""
    process = t.popen(*args, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        process.wait(WATCH_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    noise = process.stderr.read().decode()
    assert "ERROR" not in noise and "runtime error" not in noise, noise
    return process.returncode


def test_triple_fault_is_a_crash(t):
    assert t.run(*wild(t, "triple")).returncode == CRASHED


def test_triple_fault_resets_without_no_reboot(t):
    args = [a for a in wild(t, "triple") if a != "--no-reboot"]
    assert watch(t, args) == ENDED


def test_jump_to_nowhere_is_a_crash(t):
    assert t.run(*wild(t, "nowhere")).returncode == CRASHED


def test_guest_that_spins_with_interrupts_off_is_ended(t):
    assert watch(t, wild(t, "spin")) == ENDED


def test_every_port(t):
    for seed in range(1, 9):
        status = watch(t, wild(t, "ports", seed))
        assert status in (LIVED, POWERED_OFF, CRASHED, ENDED), (seed, status)


def test_every_address(t):
    for seed in range(1, 9):
        status = watch(t, wild(t, "addresses", seed))
        assert status in (LIVED, POWERED_OFF, CRASHED, ENDED), (seed, status)


def test_random_code(t):
    for seed in range(1, 33):
        status = watch(t, wild(t, "code", seed, "--cpus", 1 + seed % 2))
        # Random code may find the debug exit too: any odd status is the guest's own.
        assert status in (POWERED_OFF, CRASHED, ENDED) or status % 2 == 1, (seed, status)


def wild64(t, engine, seeds, *more):
    """Random 64-bit code. What ends it is the guest's own, or this test."""
    t.needs_engine(engine)
    for seed in seeds:
        status = watch(t, ["run", "--engine", engine, "--kernel", t.build / "guest/wild64.elf",
                           "--append", str(seed), "--memory", "32M", "--no-reboot", "--debug-exit",
                           "--console", "null", *more])
        own = status > 0 and status % 2 == 1  # by the debug exit; a signal's number is negative
        assert own or status in (POWERED_OFF, CRASHED, ENDED), (seed, status)


def test_random_64_bit_code_run_as_it_is(t):
    wild64(t, "binary", range(1, 21))


def test_random_64_bit_code_with_the_hosts_instructions(t):
    wild64(t, "binary", range(21, 33), "--cpu", "host")


def test_random_64_bit_code_emulated(t):
    wild64(t, "emulate", range(1, 5))


def test_random_64_bit_code_on_kvm(t):
    wild64(t, "hardware", range(1, 9))
