"""The life of a container, command by command."""
import json
import os
import subprocess
import time

from harness.bundle import Bundle


def until(condition, what):
    for _ in range(12000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"never: {what}")


def running(t, script="while :; do sleep 0.05; done"):
    b = Bundle(t).sh(script)
    b.create()
    b.start()
    return b


def test_run_returns_the_status(t):
    b = Bundle(t).sh("echo out; echo err >&2; exit 7")
    done = b.run()
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n"), done
    b.expect_nothing_left()


def test_run_tells_a_signal(t):
    b = Bundle(t).sh("kill -TERM $$")
    b.drop_namespace("pid")  # a namespace's first process takes no signals from inside
    assert b.run().returncode == 128 + 15
    b.expect_nothing_left()


def test_created_waits_for_start(t):
    mark = t.tmp / "mark"
    mark.mkdir()
    b = Bundle(t).sh("touch /mnt/ran; while :; do sleep 0.05; done")
    b.mount("/mnt", type="bind", source=str(mark), options=["bind"])
    b.create("--pid-file", t.tmp / "pid")
    assert b.status() == "created"
    assert int((t.tmp / "pid").read_text()) == b.pid()
    assert not (mark / "ran").exists(), "it ran before start"
    b.start()
    until(lambda: (mark / "ran").exists(), "the program runs")
    assert b.status() == "running"
    again = b.command("start", b.id)
    assert again.returncode == 1 and "running" in again.stderr, again.stderr
    b.delete()


def test_an_id_is_taken_once(t):
    b = running(t)
    again = b.quiet("create", "--bundle", b.path, b.id)
    assert again.returncode == 1 and "already" in again.stderr, again.stderr
    assert b.status() == "running", "the first one suffered"
    b.delete()


def test_kill_and_delete(t):
    b = running(t, "trap 'exit 3' TERM; while :; do sleep 0.05; done")
    refused = b.command("delete", b.id)
    assert refused.returncode == 1 and "--force" in refused.stderr, refused.stderr
    b.command("kill", b.id, "SIGKILL", check=True)
    until(lambda: b.status() == "stopped", "it stops")
    assert b.command("kill", b.id, "TERM").returncode == 1
    b.command("delete", b.id, check=True)
    b.expect_nothing_left()


def test_kill_all_without_a_pid_namespace(t):
    b = Bundle(t).sh("sleep 100 & sleep 100 & wait")
    b.drop_namespace("pid")
    b.create()
    b.start()
    until(lambda: len(json.loads(b.command("ps", "--format", "json", b.id).stdout)) == 3, "three")
    b.command("kill", "--all", b.id, "KILL", check=True)
    until(lambda: b.status() == "stopped", "it stops")
    b.delete()


def test_unknown_signal_is_refused(t):
    b = running(t)
    done = b.command("kill", b.id, "SIGNONE")
    assert done.returncode == 2 and "SIGNONE" in done.stderr, done.stderr
    b.delete()


def test_delete_of_nothing(t):
    b = Bundle(t)
    done = b.command("delete", "nobody")
    assert done.returncode == 1 and "does not exist" in done.stderr, done.stderr
    b.command("delete", "--force", "nobody", check=True)


def test_exec(t):
    b = running(t)
    done = b.command("exec", "--env", "A=b", "--cwd", "/tmp", b.id, "sh", "-c", "echo $A; pwd; exit 4")
    assert (done.returncode, done.stdout) == (4, "b\n/tmp\n"), done
    assert b.command("exec", "--user", "5:6", b.id, "id").stdout == "uid=5 gid=6\n"
    names = b.command("exec", b.id, "cat", "/proc/1/cmdline").stdout
    assert "sleep 0.05" in names, "not the container's pid namespace"
    missing = b.command("exec", b.id, "no-such-program")
    assert missing.returncode == 1 and "not found in $PATH" in missing.stderr, missing.stderr
    b.delete()


def test_exec_process_file(t):
    b = running(t)
    process = dict(b.process, args=["sh", "-c", "id -u; sleep 100"], user=dict(uid=9, gid=9))
    (t.tmp / "process.json").write_text(json.dumps(process))
    done = b.quiet("exec", "--process", t.tmp / "process.json", "--detach", "--pid-file",
                   t.tmp / "pid", b.id)
    assert done.returncode == 0, done.stderr
    pid = int((t.tmp / "pid").read_text())
    assert pid in json.loads(b.command("ps", "--format", "json", b.id).stdout)
    b.delete()
    assert not os.path.exists(f"/proc/{pid}"), "it outlived its container"


def test_pause_and_resume(t):
    b = running(t)
    b.command("pause", b.id, check=True)
    assert b.status() == "paused"
    assert b.command("exec", b.id, "true").returncode == 1
    b.command("resume", b.id, check=True)
    assert b.status() == "running"
    assert b.command("resume", b.id).returncode == 1
    b.command("pause", b.id, check=True)
    b.delete()


def test_update_and_events(t):
    b = running(t)
    b.command("update", "--pids-limit", "33", "--memory", "64m", b.id, check=True)
    stats = json.loads(b.command("events", "--stats", b.id, check=True).stdout)
    assert stats["type"] == "stats" and stats["id"] == b.id
    assert stats["data"]["pids"]["limit"] == 33, stats
    assert stats["data"]["memory"]["usage"]["limit"] == 64 << 20, stats
    b.delete()


def events_of(b, *args):
    process = subprocess.Popen([str(b.oci), "--root", str(b.state), "events", *args, b.id],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    return process, lambda: json.loads(process.stdout.readline())


def test_events_until_the_end(t):
    b = running(t)
    process, event = events_of(b, "--interval", "10ms")
    assert [event()["type"] for _ in range(3)] == ["stats"] * 3
    b.command("kill", b.id, "KILL", check=True)
    process.stdout.read()
    assert process.wait(60) == 0
    b.delete()


def test_events_tell_that_memory_ran_out(t):
    """The first process, which need not be the one that is ended, sees the other go."""
    b = Bundle(t).sh("while [ ! -e /mnt/go ]; do sleep 0.05; done; "
                     "dd if=/dev/zero of=/dev/null bs=200M count=1; "
                     "while :; do sleep 0.05; done")
    (t.tmp / "mark").mkdir()
    b.mount("/mnt", type="bind", source=str(t.tmp / "mark"), options=["bind"])
    b.linux["resources"]["memory"] = dict(limit=32 << 20, swap=32 << 20)
    b.create()
    b.start()
    process, event = events_of(b, "--interval", "1000s")
    assert event()["type"] == "stats"
    (t.tmp / "mark/go").touch()
    assert event() == dict(type="oom", id=b.id)
    process.terminate()
    process.wait(60)
    b.delete()


def test_ps_shows_only_the_container(t):
    b = running(t)
    table = b.command("ps", b.id, check=True).stdout.splitlines()
    assert "PID" in table[0] and 1 <= len(table) - 1 <= 2, table
    b.delete()


def test_list(t):
    b = running(t)
    listed = json.loads(b.command("list", "--format", "json", check=True).stdout)
    assert [(c["id"], c["status"]) for c in listed] == [(b.id, "running")], listed
    assert b.command("list", "--quiet").stdout == b.id + "\n"
    b.delete()


def test_features(t):
    features = json.loads(Bundle(t).command("features", check=True).stdout)
    assert "idmap" in features["mountOptions"] and features["linux"]["seccomp"]["enabled"]
    assert "CAP_SYS_ADMIN" in features["linux"]["capabilities"]


def test_hooks_in_order(t):
    log = t.tmp / "log"
    log.mkdir()
    b = Bundle(t).sh("echo program >> /mnt/log")
    b.mount("/mnt", type="bind", source=str(log), options=["bind"])

    def hook(name, path, shell="/bin/sh"):
        return [dict(path=shell, args=["sh", "-c", f"grep -o '\"status\":\"[a-z]*\"' > /dev/null && "
                                       f"echo {name} >> {path}"],
                     env=["PATH=/bin:/usr/bin"])]

    order = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart",
             "poststop"]
    b.config["hooks"] = {name: hook(name, log / "log") for name in order}
    b.config["hooks"]["startContainer"] = hook("startContainer", "/mnt/log")
    b.create()
    assert (log / "log").read_text().split() == order[:3]
    b.start()
    until(lambda: b.status() == "stopped", "it stops")
    b.delete()
    lines = (log / "log").read_text().split()
    assert sorted(lines) == sorted(order + ["program"]) and lines[-1] == "poststop", lines


def test_a_hook_that_fails_ends_it(t):
    b = Bundle(t)
    b.config["hooks"] = {"createRuntime": [dict(path="/bin/false")]}
    b.refused("createRuntime", "/bin/false")


def test_a_hook_has_its_time(t):
    b = Bundle(t)
    b.config["hooks"] = {"prestart": [dict(path="/bin/sleep", args=["sleep", "100"], timeout=1)]}
    b.refused("prestart", "longer")


def test_preserved_descriptors(t):
    b = Bundle(t)
    read, write = os.pipe()
    assert write != 3
    os.set_inheritable(read, True)
    b.sh("cat <&3").write()
    os.write(write, b"through")
    os.close(write)
    done = subprocess.run(["sh", "-c", f"exec {b.oci} --root {b.state} run --preserve-fds 1 "
                           f"--bundle {b.path} {b.id} 3<&{read}"], pass_fds=[read],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    os.close(read)
    assert done.stdout == b"through", done


def test_console_socket(t):
    import array
    import socket
    b = Bundle(t).sh("test -t 0 && tty && stty size")
    b.process["terminal"] = True
    b.process["consoleSize"] = dict(height=31, width=77)
    path = t.tmp / "console.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    b.create("--console-socket", path)
    connection = listener.accept()[0]
    _, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    master = array.array("i", control[0][2])[0]
    b.start()
    text = b""
    try:
        while True:
            text += os.read(master, 4096)
    except OSError:
        pass
    assert b"/dev/pts/0" in text and b"31 77" in text, text
    os.close(master)
    b.delete()


def test_json_log(t):
    b = Bundle(t)
    b.process["args"] = ["no-such-program"]
    b.write()
    log = t.tmp / "log.json"
    done = b.command("--log", log, "--log-format", "json", "run", "--bundle", b.path, b.id)
    line = json.loads(log.read_text())
    assert done.returncode == 1 and line["level"] == "error", line
    assert "no-such-program" in line["msg"], line


def on_terminal(command, text, keys=b""):
    """Runs it on a terminal of its own until it ends; what it showed. keys are typed at text."""
    import pty
    pid, master = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown, typed = b"", False
    try:
        while True:
            shown += os.read(master, 4096)
            if keys and not typed and text in shown:
                os.write(master, keys)
                typed = True
    except OSError:
        pass
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    return shown, status


def test_run_on_a_terminal(t):
    b = Bundle(t).sh("tty; echo ready; read line; echo got $line; exit 6")
    b.process["terminal"] = True
    b.write()
    shown, status = on_terminal([str(b.oci), "--root", str(b.state), "run", "--bundle", str(b.path),
                                 b.id], b"ready", b"typed\r")
    assert b"/dev/pts/0" in shown and b"got typed" in shown and status == 6, (shown, status)
    b.expect_nothing_left()


def test_exec_on_a_terminal(t):
    b = running(t)
    shown, status = on_terminal([str(b.oci), "--root", str(b.state), "exec", "--tty", b.id, "sh",
                                 "-c", "tty; echo ready; read line; echo got $line; exit 8"],
                                b"ready", b"typed\r")
    assert b"/dev/pts/0" in shown and b"got typed" in shown and status == 8, (shown, status)
    b.delete()


def test_run_passes_signals_on(t):
    b = Bundle(t).sh("trap 'exit 9' TERM; touch /mnt/up; while :; do sleep 0.05; done")
    (t.tmp / "mark").mkdir()
    b.mount("/mnt", type="bind", source=str(t.tmp / "mark"), options=["bind"])
    b.write()
    process = subprocess.Popen([str(b.oci), "--root", str(b.state), "run", "--bundle",
                                str(b.path), b.id], stdin=subprocess.DEVNULL)
    until((t.tmp / "mark/up").exists, "it runs")
    process.terminate()
    assert process.wait(60) == 9
    b.expect_nothing_left()
