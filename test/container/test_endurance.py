"""Many containers, killed commands, and broken configurations: nothing is left behind."""
import copy
import json
import os
import pathlib
import random
import signal
import subprocess
import time

from harness.bundle import Bundle, cgroups_named
from harness.case import slow


def twin(b, number):
    other = Bundle.__new__(Bundle)
    other.__dict__.update(b.__dict__, id=f"{b.id}-{number}")
    return other


def counts(b):
    """What the host has of our making, whatever other tests do meanwhile."""
    mounts = [m for m in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
              if str(b.path) in m]
    groups = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if b.id in folder]
    return mounts, groups


def cycle(b):
    b.quiet("create", "--bundle", b.path, b.id, check=True)
    b.start()
    b.command("delete", "--force", b.id, check=True)


def cycles(t, number):
    b = Bundle(t)
    b.write()
    for _ in range(number):
        cycle(b)
    b.expect_nothing_left()
    assert counts(b) == ([], [])


def test_30_cycles(t):
    cycles(t, 30)


@slow
def test_1000_cycles(t):
    cycles(t, 1000)


def at_once(t, number):
    b = Bundle(t).sh("echo $HOSTNAME; sleep 0.2; exit 3")
    b.write()
    processes = [subprocess.Popen([str(b.oci), "--root", str(b.state), "run", "--bundle",
                                   str(b.path), f"{b.id}-{i}"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL) for i in range(number)]
    assert [p.wait(120) for p in processes] == [3] * number
    b.expect_nothing_left()
    for i in range(number):
        assert not cgroups_named(f"{b.id}-{i}")
    assert counts(b) == ([], [])


def test_20_at_once(t):
    at_once(t, 20)


@slow
def test_100_at_once(t):
    at_once(t, 100)


def killed(t, number, seed):
    """A command that is killed at any moment leaves nothing that delete --force does not find."""
    rand = random.Random(seed)
    b = Bundle(t).sh("sleep 1000")
    b.write()
    begin = time.monotonic()
    cycle(b)
    whole = time.monotonic() - begin  # on this host, as busy as it is
    for i in range(number):
        one = twin(b, i)
        command = rand.choice(["create", "run"])
        process = subprocess.Popen([str(b.oci), "--root", str(b.state), command, "--bundle",
                                    str(b.path), one.id], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rand.random() * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        one.command("delete", "--force", one.id, check=True)
        assert not cgroups_named(one.id), f"number {i} ({command}) left a cgroup"
        assert not (b.state / one.id).exists(), f"number {i} ({command}) left its state"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and processes_of(b):
        time.sleep(0.05)
    assert not processes_of(b), "processes were left"
    assert counts(b) == ([], [])


def processes_of(b):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                root = os.readlink(entry / "root")
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if root.startswith(str(b.path)) or b.id.encode() in line:
                found.append(line)
    return found


def test_15_killed_commands(t):
    killed(t, 15, 1)


@slow
def test_100_killed_commands(t):
    killed(t, 100, 2)


# ---- configurations ----

def change(rand, value, depth=0):
    """The same document with one thing wrong somewhere."""
    junk = [None, True, -1, 0, 1 << 40, 1.5, "", "x" * 300, "../../etc", [], {}, [[]], {"a": 1}]
    if isinstance(value, dict) and value and rand.random() < 0.9:
        key = rand.choice(list(value))
        if rand.random() < 0.1:
            del value[key]
        else:
            value[key] = change(rand, value[key], depth + 1)
        return value
    if isinstance(value, list) and value and rand.random() < 0.8:
        at = rand.randrange(len(value))
        value[at] = change(rand, value[at], depth + 1)
        return value
    return rand.choice(junk) if depth else value


def fuzz(t, number, seed):
    rand = random.Random(seed)
    b = Bundle(t)
    b.linux["seccomp"] = dict(defaultAction="SCMP_ACT_ALLOW", syscalls=[
        dict(names=["reboot"], action="SCMP_ACT_ERRNO", args=[dict(index=0, value=1,
                                                                   op="SCMP_CMP_EQ")])])
    b.linux["resources"].update(memory=dict(limit=1 << 28), pids=dict(limit=50),
                                cpu=dict(shares=512))
    whole = b.config
    b.process["user"]["additionalGids"] = [1]
    for i in range(number):
        b.config = copy.deepcopy(whole)
        for _ in range(rand.randint(1, 2)):
            change(rand, b.config)
        b.write()
        done = b.command("run", "--bundle", b.path, b.id)
        text = json.dumps(b.config)
        assert done.returncode >= 0, f"number {i} crashed: {text}"
        if done.stderr:
            assert done.stderr.count("\n") == 1 and done.stderr.startswith("doppel-oci: "), \
                f"number {i}: {done.stderr} for {text}"
        b.expect_nothing_left()


def test_60_broken_configurations(t):
    fuzz(t, 60, 3)


@slow
def test_2000_broken_configurations(t):
    fuzz(t, 2000, 4)


def test_bytes_that_are_no_configuration(t):
    rand = random.Random(5)
    b = Bundle(t)
    b.write()
    whole = (b.path / "config.json").read_bytes()
    for _ in range(40):
        text = bytearray(whole)
        for _ in range(rand.randint(1, 20)):
            text[rand.randrange(len(text))] = rand.randrange(256)
        text = text[:rand.randrange(len(text))] if rand.random() < 0.3 else text
        (b.path / "config.json").write_bytes(text)
        done = subprocess.run([str(b.oci), "--root", str(b.state), "run", "--bundle", str(b.path),
                               b.id], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)
        assert done.returncode >= 0 and done.stderr.count(b"\n") <= 1, done
    b.expect_nothing_left()


def test_fields_are_named(t):
    cases = [
        (["ociVersion"], 5, "ociVersion: must be a string"),
        (["process", "args"], "true", "process.args: must be an array"),
        (["process", "args", 0], 7, "process.args[0]: must be a string"),
        (["process", "cwd"], "here", "process.cwd: must be an absolute path"),
        (["process", "rlimits", 0, "type"], "RLIMIT_X", "process.rlimits[0]: RLIMIT_X"),
        (["process", "capabilities", "bounding", 0], "CAP_X", "process.capabilities.bounding[0]"),
        (["root", "path"], "nowhere", "root.path"),
        (["linux", "namespaces", 1, "type"], "net", "linux.namespaces[1]: type net"),
        (["linux", "rootfsPropagation"], "odd", "linux.rootfsPropagation"),
        (["mounts", 0, "destination"], None, "mounts[0]: has no destination"),
        (["linux", "resources", "devices", 0, "access"], "q", "linux.resources.devices[0]"),
    ]
    b = Bundle(t)
    whole = b.config
    for path, value, text in cases:
        b.config = copy.deepcopy(whole)
        at = b.config
        for part in path[:-1]:
            at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
        at[path[-1]] = value
        b.refused("config.json: " + text)
