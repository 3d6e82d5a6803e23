"""What a test function gets: paths, a folder of its own, and ways to run doppel."""
import json
import pathlib
import subprocess

from harness.terminal import Terminal

# Bounds for what hangs; nothing here measures time.
PATIENCE = 300


class Skip(Exception):
    """Raised by a test that can't be run here; its text says why."""


def slow(function):
    """Marks a test for `make check-slow`."""
    function.slow = True
    return function


class Context:
    def __init__(self, build, tmp):
        self.build = build
        self.tmp = tmp
        self.doppel = build / "src/cli/doppel"
        self.guests = build / "guests"
        self.terminals = []
        self.cleanups = []  # to be called at the end, whether the test held or not

    def close(self):
        for cleanup in self.cleanups:
            cleanup()
        for terminal in self.terminals:
            terminal.close()

    # ---- guests ----

    def guest(self, pattern):
        """The one file of the fetched guests that matches."""
        found = sorted(self.guests.glob(pattern))
        if not found:
            raise Skip(f"{pattern} was not fetched; run make guests")
        return found[0]

    def kernel(self):
        return self.guest("linux-image-cloud-amd64/boot/vmlinuz-*")

    def initramfs(self):
        return self.guest("initramfs.gz")

    def initramfs32(self):
        return self.guest("initramfs32.gz")

    def file(self, name, content):
        path = self.tmp / name
        path.write_bytes(content)
        return path

    # ---- runs ----

    def run(self, *args, **options):
        """doppel with these arguments and without a terminal, to its end."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("timeout", PATIENCE)
        return subprocess.run([str(self.doppel), *map(str, args)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **options)

    def needs_engine(self, name):
        """Skips the test where the engine can't be used."""
        listing = json.loads(self.run("engines", "--json").stdout)
        entry = next(e for e in listing["engines"] if e["name"] == name)
        if not entry["usable"]:
            raise Skip(f"engine {name}: {entry['why']}")

    def popen(self, *args, **options):
        return subprocess.Popen([str(self.doppel), *map(str, args)], **options)

    def terminal(self, *args):
        """doppel with these arguments on a terminal of its own."""
        terminal = Terminal([str(self.doppel), *map(str, args)], PATIENCE)
        self.terminals.append(terminal)
        return terminal


def expect_refusal(done, status, *texts):
    """One line on stderr, "doppel: what: why; what to do", that holds the texts."""
    line = done.stderr.decode()
    assert done.returncode == status, f"status {done.returncode}, not {status}: {line}"
    assert done.stdout == b"", f"stdout has {done.stdout!r}"
    assert line.startswith("doppel: ") and line.count("\n") == 1 and line.endswith("\n"), line
    assert ": " in line[8:] and "; " in line, f"not of the form what: why; what to do: {line}"
    for text in texts:
        assert text in line, f"{text!r} is not in {line!r}"


def resident_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return 0


__all__ = ["Context", "PATIENCE", "Skip", "Terminal", "expect_refusal", "resident_kib", "slow"]
