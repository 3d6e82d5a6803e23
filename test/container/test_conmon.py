"""The way CRI-O goes: conmon calls the runtime, keeps the terminal or the output, and tells the end."""
import json
import os
import shutil
import subprocess
import time

from harness.bundle import Bundle
from harness.case import Skip

PATIENCE = 60


class Conmon:
    def __init__(self, t, b):
        if not shutil.which("conmon"):
            raise Skip("conmon is not installed")
        self.t, self.b = t, b
        for name in ("exits", "sockets"):
            (t.tmp / name).mkdir()
        b.write()

    def command(self, *args):
        t, b = self.t, self.b
        return ["conmon", "--cid", b.id, "--cuuid", b.id, "--runtime", b.oci, "--runtime-arg",
                f"--root={b.state}", "--bundle", b.path, "--socket-dir-path", t.tmp / "sockets",
                "--name", b.id, *map(str, args)]

    def __call__(self, *args, **options):
        """conmon leaves a process behind, which must not hold a pipe of ours."""
        with open(self.t.tmp / "output", "w") as output:
            subprocess.run(self.command(*args), stdin=subprocess.DEVNULL, stdout=output,
                           stderr=output, timeout=PATIENCE, check=False, **options)

    def create(self, *args):
        t = self.t
        self("--exit-dir", t.tmp / "exits", "--pidfile", t.tmp / "pid", "--conmon-pidfile", t.tmp / "conmon.pid", "--log-path",
             t.tmp / "log", "--persist-dir", t.tmp, *args)
        assert self.until(lambda: self.b.status() == "created"), (t.tmp / "output").read_text()

    def log(self):
        return (self.t.tmp / "log").read_text()

    def exit_status(self):
        file = self.t.tmp / "exits" / self.b.id
        assert self.until(lambda: file.exists() and file.read_text()), "conmon never told the end"
        return int(file.read_text())

    @staticmethod
    def until(condition):
        for _ in range(PATIENCE * 100):
            if condition():
                return True
            time.sleep(0.01)
        return False


def test_output_and_status(t):
    b = Bundle(t).sh("echo out; echo err >&2; exit 9")
    conmon = Conmon(t, b)
    conmon.create()
    b.start()
    assert conmon.exit_status() == 9
    log = conmon.log()
    assert "stdout F out" in log and "stderr F err" in log, log
    b.delete()


def test_terminal(t):
    b = Bundle(t).sh("tty; exit 4")
    b.process["terminal"] = True
    conmon = Conmon(t, b)
    conmon.create("--terminal")
    b.start()
    assert conmon.exit_status() == 4
    assert "/dev/pts/0" in conmon.log()
    b.delete()


def test_exec(t):
    b = Bundle(t).sh("while :; do sleep 0.05; done")
    conmon = Conmon(t, b)
    conmon.create()
    b.start()
    process = dict(b.process, args=["sh", "-c", "echo executed; exit 6"])
    (t.tmp / "process.json").write_text(json.dumps(process))
    conmon("--exec", "--exec-process-spec", t.tmp / "process.json", "--pidfile", t.tmp / "exec.pid",
           "--log-path", t.tmp / "exec.log")
    log = t.tmp / "exec.log"
    assert conmon.until(lambda: log.exists() and "stdout F executed" in log.read_text())
    assert int((t.tmp / "exec.pid").read_text()) > 0
    b.command("kill", b.id, "KILL", check=True)
    assert conmon.exit_status() == 137
    b.delete()


def test_what_fails_is_told(t):
    """In the runtime's log, and by conmon to whoever called it."""
    b = Bundle(t)
    b.process["args"] = ["no-such-program"]
    conmon = Conmon(t, b)
    read, write = os.pipe()
    os.set_inheritable(write, True)
    log = t.tmp / "runtime.log"
    conmon("--runtime-arg", f"--log={log}", "--runtime-arg", "--log-format=json", "--pidfile",
           t.tmp / "pid", "--log-path", t.tmp / "log", pass_fds=[write],
           env=dict(os.environ, _OCI_SYNCPIPE=str(write)))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    line = json.loads(log.read_text().splitlines()[-1])
    assert "no-such-program" in line["msg"] and line["level"] == "error", line
    assert "no-such-program" in told, told
    b.expect_nothing_left()
