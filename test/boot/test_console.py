"""Every --console, with a guest that echoes."""
import os
import re
import select
import signal
import socket
import subprocess
import time

from harness.case import PATIENCE, expect_refusal
from harness.guest import ECHO, SPIN, echo_status, image


def args(t, *more, code=ECHO):
    return ["run", "--kernel", t.file("guest", image(code)), "--memory", "16M", "--debug-exit",
            *more]


def read_until(fd, text):
    """Reads from a descriptor until the text has come."""
    got, deadline = b"", time.monotonic() + PATIENCE
    while text not in got:
        assert time.monotonic() < deadline, got
        if select.select([fd], [], [], 0.2)[0]:
            got += os.read(fd, 65536)
    return got


class Running:
    """doppel in the background; killed at the end of the with block if it still runs."""

    def __init__(self, t, *arguments, **options):
        self.process = t.popen(*arguments, **options)

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_it_runs(process):
    """It holds SIGTERM back then: see SigBlk in proc(5)."""
    def holds_sigterm():
        with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
            blocked = next(line for line in status if line.startswith("SigBlk")).split()[1]
        return int(blocked, 16) >> signal.SIGTERM - 1 & 1
    wait_for(holds_sigterm)


def test_pipes(t):
    done = t.run(*args(t), stdin=None, input=b"hello\nq")
    assert done.stdout == b"hello\n" and done.returncode == echo_status(b"hello\n"), done


def test_piped_input_is_binary(t):
    """Ctrl-A is a byte like others where there is no terminal."""
    data = bytes(b for b in range(256) if b != ord("q"))
    done = t.run(*args(t), stdin=None, input=data + b"q")
    assert done.stdout == data and done.returncode == echo_status(data), done


def test_no_input_is_lost(t):
    """Far more of it than the guest's line can hold."""
    data = bytes(i * 7 & 0x3f for i in range(20_000))
    done = t.run(*args(t), stdin=None, input=data + b"q")
    assert done.returncode == echo_status(data), done.returncode


def test_the_end_of_input_ends_nothing(t):
    with Running(t, *args(t), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"last words")
        process.stdin.close()
        assert read_until(process.stdout.fileno(), b"last words") == b"last words"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 4


def test_standard_descriptors_may_be_closed(t):
    command = [str(a) for a in (t.doppel, *args(t))]
    process = subprocess.Popen(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command])
    try:
        wait_until_it_runs(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 4
    finally:
        process.kill()
        process.wait()


def test_a_reader_that_goes_away_ends_nothing(t):
    with Running(t, *args(t), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdin.write(b"to nobody, q")
        process.stdin.flush()
        assert process.wait(PATIENCE) == echo_status(b"to nobody, ")
        process.stdout = None


def test_null(t):
    with Running(t, *args(t, "--console", "null"), stdin=subprocess.PIPE,
                 stdout=subprocess.PIPE) as process:
        process.stdin.write(b"q")
        process.stdin.flush()
        wait_until_it_runs(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 4
        assert process.stdout.read() == b""


def listens(path):
    """Whether a client gets in. The path is there a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def test_unix_socket(t):
    """One client after the other; the socket is gone with the machine."""
    path = str(t.tmp / "socket")
    with Running(t, *args(t, "--console", f"unix:{path}")) as process:
        wait_for(lambda: listens(path))
        for word in (b"first", b"second"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(word)
                assert read_until(client.fileno(), word).endswith(word)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"q")
            assert process.wait(PATIENCE) == echo_status(b"firstsecond")
    assert not os.path.exists(path)


def test_unix_socket_that_was_left_behind_is_replaced(t):
    path = str(t.tmp / "socket")
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    with Running(t, *args(t, "--console", f"unix:{path}", code=SPIN)) as process:
        def connects():
            with socket.socket(socket.AF_UNIX) as client:
                return client.connect_ex(path) == 0
        wait_for(connects)
        wait_until_it_runs(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 4


def test_unix_path_that_others_use_is_refused(t):
    path = str(t.tmp / "socket")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(1)
        expect_refusal(t.run(*args(t, "--console", f"unix:{path}")), 1, "another program")
    plain = t.file("plain", b"precious")
    expect_refusal(t.run(*args(t, "--console", f"unix:{plain}")), 1, "--console")
    assert plain.read_bytes() == b"precious"
    long = t.tmp / ("x" * 200)
    expect_refusal(t.run(*args(t, "--console", f"unix:{long}")), 2, "too long")


def test_pty(t):
    with Running(t, *args(t, "--console", "pty"), stderr=subprocess.PIPE) as process:
        name = re.search(rb"/dev/pts/\d+", process.stderr.readline())[0]
        fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(fd, b"through\x01the\x03pty")
            assert read_until(fd, b"pty") == b"through\x01the\x03pty"
            os.write(fd, b"q")
            assert process.wait(PATIENCE) == echo_status(b"through\x01the\x03pty")
        finally:
            os.close(fd)
