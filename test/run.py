#!/usr/bin/env python3
"""Runs the tests and ends with one line: N passed, N failed[, N skipped].

Two kinds: programs that Meson knows (TAP, or passed by exit status), and functions test_*() in
test/cli/ and test/boot/, which run doppel itself. Names can be given to run only some."""
import argparse
import concurrent.futures
import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness.case import Context, Skip  # noqa: E402

# No test waits this long unless something hangs.
HANG_SECONDS = 1200


class Outcome:
    def __init__(self, passed=0, failed=0, skipped=0, output="", notes=()):
        self.passed, self.failed, self.skipped = passed, failed, skipped
        self.output = output
        self.notes = list(notes)


def text_of(raw):
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


class Program:
    """A test program that Meson knows."""

    def __init__(self, info, build):
        self.info = info
        self.build = build
        self.folder = info.get("workdir") or build  # arguments are relative to the build
        self.name = info["name"]
        self.slow = any(s.split(":")[-1] == "slow" for s in info["suite"])

    def run(self, _options):
        env = dict(os.environ, **self.info.get("env", {}))
        if (text := self.build / "guests/vmlinux.text").exists():
            env.setdefault("DOPPEL_KERNEL", str(text))  # for the decoder's test
        try:
            done = subprocess.run(self.info["cmd"], env=env, cwd=self.folder,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired as hung:
            return Outcome(failed=1, output=text_of(hung.stdout) + "\nit hangs\n")
        output = text_of(done.stdout)
        if self.info.get("protocol") == "tap":
            return self.read_tap(output, done.returncode)
        if done.returncode == 77:
            return Outcome(skipped=1, notes=[f"{self.name}: {output.strip()[-200:]}"])
        return Outcome(1, 0, 0) if done.returncode == 0 else Outcome(0, 1, 0, output)

    def read_tap(self, output, status):
        # What passed is not worth a line when something else failed.
        shown = [line for line in output.splitlines() if not line.startswith("ok")]
        planned, out = None, Outcome(output="\n".join(shown))
        for line in output.splitlines():
            if line.startswith("1.."):
                planned = int(line[3:].split()[0])
            elif line.startswith("not ok"):
                out.failed += 1
            elif line.startswith("ok") and "# SKIP" in line:
                out.skipped += 1
                out.notes.append(f"{self.name}: {line[3:]}")
            elif line.startswith("ok"):
                out.passed += 1
        ran = out.passed + out.failed + out.skipped
        if planned is None or ran != planned or (status != 0 and not out.failed):
            out.failed += 1
            out.output += f"\n{self.name}: ended with {status} after {ran} of {planned} tests\n"
        return out


@contextlib.contextmanager
def folder_for_a_test():
    """Gone afterwards, also where a process that other people's programs left behind, which a test
    need not know of, still writes into it for a while."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="doppel-test-"))
    try:
        yield folder
    finally:
        until = time.monotonic() + 20
        while folder.exists() and time.monotonic() < until:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.1 if folder.exists() else 0)


class Function:
    """A function test_*() of a Python file: what it promises is its name and its docstring."""

    def __init__(self, path, function):
        self.function = function
        self.name = f"{path.parent.name}/{path.stem[5:]}:{function.__name__[5:]}"
        self.slow = getattr(function, "slow", False)

    def run(self, options):
        with folder_for_a_test() as folder:
            context = Context(options.build, folder)
            try:
                self.function(context)
                return Outcome(passed=1)
            except Skip as skip:
                return Outcome(skipped=1, notes=[f"{self.name}: {skip}"])
            except Exception:  # whatever goes wrong in a test is its failure
                return Outcome(failed=1, output=traceback.format_exc())
            finally:
                context.close()


def programs(build, wanted):
    listing = subprocess.run(["meson", "introspect", "--tests", str(build)], check=True,
                             stdout=subprocess.PIPE).stdout
    for info in json.loads(listing):
        suites = {s.split(":")[-1] for s in info["suite"]}
        if ("fuzz" in suites) == (wanted == "fuzz"):
            yield Program(info, build)


def functions():
    for path in sorted(HERE.glob("*/test_*.py")):
        spec = importlib.util.spec_from_file_location(f"{path.parent.name}.{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, function in vars(module).items():
            if name.startswith("test_") and callable(function):
                yield Function(path, function)


def collect(options):
    tests = list(functions()) + list(programs(options.build, "unit"))
    if options.sanitize:
        tests += programs(options.sanitize, "fuzz")
    if not options.slow:
        tests = [t for t in tests if not t.slow]
    if options.names:
        tests = [t for t in tests if any(n in t.name for n in options.names)]
    return tests


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--sanitize", type=pathlib.Path, help="the build with sanitizers")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--slow", action="store_true", help="also what takes long")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*", help="only tests with one of these in their name")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.sanitize = options.sanitize and options.sanitize.resolve()

    tests = collect(options)
    if options.list:
        print("\n".join(t.name for t in tests))
        return 0
    # What whoever started us ignores, doppel would ignore too, as it should: not in tests.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    total = Outcome()
    lock = threading.Lock()

    def run(test):
        begin = time.monotonic()
        outcome = test.run(options)
        seconds = time.monotonic() - begin
        with lock:
            verdict = "FAILED" if outcome.failed else "ok" if outcome.passed else "skipped"
            print(f"{verdict:8} {test.name} ({seconds:.1f} s)", flush=True)
            if outcome.failed:
                print("    " + outcome.output.strip().replace("\n", "\n    "), flush=True)
            total.passed += outcome.passed
            total.failed += outcome.failed
            total.skipped += outcome.skipped
            total.notes += outcome.notes

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, tests))
    for note in total.notes:
        print("skipped:", note)
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped}")
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
