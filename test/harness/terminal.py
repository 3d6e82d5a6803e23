"""A program on a pseudo-terminal: type, wait for text, look at the terminal's modes."""
import fcntl
import os
import select
import signal
import subprocess
import termios
import time


class Terminal:
    def __init__(self, command, patience):
        self.patience = patience
        self.output = b""
        self.seen = 0  # how much of it was expected already
        self.master, self.slave = os.openpty()
        self.modes_before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, preexec_fn=self.take_terminal)

    @staticmethod
    def take_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    # ---- what it says ----

    def read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # all other ends are closed
            return False
        self.output += data
        return bool(data)

    def expect(self, text, patience=None):
        """Waits until the text comes, after what was expected before."""
        text = text if isinstance(text, bytes) else text.encode()
        deadline = time.monotonic() + (patience or self.patience)
        while (at := self.output.find(text, self.seen)) < 0:
            self.read(0.2)
            ended = self.process.poll() is not None
            if ended:
                while self.read(0):
                    pass
                if self.output.find(text, self.seen) >= 0:
                    continue
            if ended or time.monotonic() > deadline:
                why = f"ended with {self.process.returncode}" if ended else "still runs"
                raise AssertionError(f"{text!r} did not come; the program {why}; last output:\n"
                                     + self.output[-3000:].decode(errors="replace"))
        self.seen = at + len(text)
        return self.output[:self.seen]

    # ---- what it is told ----

    def send(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        while data:
            data = data[os.write(self.master, data):]

    def command(self, text, answer):
        """Types a command at the guest's shell and waits for the answer, which must not be in the
        command itself: that comes back as echo."""
        assert answer not in text
        self.send(text + "\n")
        return self.expect(answer)

    def signal(self, number):
        self.process.send_signal(number)

    # ---- how it ends ----

    def wait(self):
        """Reads on until the program ends; its status."""
        deadline = time.monotonic() + self.patience
        while self.process.poll() is None:
            self.read(0.2)
            assert time.monotonic() < deadline, \
                "it does not end; last output:\n" + self.output[-3000:].decode(errors="replace")
        while self.read(0):
            pass
        return self.process.returncode

    def modes(self):
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        return not self.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait_for(self, condition):
        deadline = time.monotonic() + self.patience
        while not condition():
            self.read(0.05)
            assert time.monotonic() < deadline, "it never came to be"

    def is_stopped(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "T"

    def check_restored(self):
        assert self.modes() == self.modes_before, "the terminal was left in other modes"

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for fd in (self.master, self.slave):
            os.close(fd)
