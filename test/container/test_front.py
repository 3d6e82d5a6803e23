"""doppel container: every command, on folders and images."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

from harness.case import Skip, expect_refusal
from harness.images import (PATIENCE, FOLDER, Front, Image, busybox_layer, entry,
                            expect_no_mounts, layer)


@contextlib.contextmanager
def front(t, user=None):
    f = Front(t, user)
    try:
        yield f
    finally:
        f.close()
    expect_no_mounts(t.tmp)


def image(t, *more, **config):
    config.setdefault("Cmd", ["/bin/sh", "-c", "echo default"])
    return Image(t.tmp / "image", busybox_layer(t, *more), **config).write()


def folder(t):
    root = t.tmp / "rootfs"
    (root / "bin").mkdir(parents=True)
    shutil.copy(t.guest("busybox-static/bin/busybox"), root / "bin/sh")
    return root


def test_run_a_folder(t):
    root = folder(t)
    with front(t) as f:
        done = f("run", "--rm", root, "--", "/bin/sh", "-c",
                 "echo out; echo err >&2; echo kept > /kept; exit 7")
        assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n"), done
        assert (root / "kept").read_text() == "kept\n"
        assert not list((f.state / "containers").iterdir())


def test_run_an_image_with_its_own_command(t):
    with front(t) as f:
        assert f.output("run", "--rm", image(t)) == "default\n"


def test_image_configuration_is_used(t):
    path = image(t, Env=["COLOR=blue", "PATH=/bin"], User="bob", WorkingDir="/made/for/it",
                 Entrypoint=["/bin/sh", "-c"], Cmd=['echo "$COLOR $PWD $HOME $(id -u):$(id -G)"'])
    with front(t) as f:
        out = f.output("run", "--rm", path)
        assert out == "blue /made/for/it /home/bob 1000:1001 50\n", out


def test_options_change_the_configuration(t):
    path = image(t, Env=["COLOR=blue"], User="bob", Entrypoint=["/bin/false"])
    with front(t) as f:
        out = f.output("run", "--rm", "-e", "COLOR=red", "--env=SIZE=3", "-u", "7:50", "-w", "/etc",
                       "--hostname", "box", "--entrypoint", "/bin/sh", path, "-c",
                       'echo "$COLOR $SIZE $PWD $(id -u):$(id -g) $(cat /proc/sys/kernel/hostname)"')
        assert out == "red 3 /etc 7:50 box\n", out


def test_what_a_container_writes_stays_its_own(t):
    path = image(t)
    with front(t) as f:
        assert f.sh(path, "echo mine > /etc/passwd; rm /bin/tty; cat /etc/passwd") == "mine\n"
        assert "bob" in f.sh(path, "cat /etc/passwd; ls /bin/tty")


def test_read_only(t):
    with front(t) as f:
        done = f("run", "--rm", "--read-only", image(t), "--", "/bin/sh", "-c", "echo > /file")
        assert done.returncode != 0 and b"Read-only" in done.stderr, done


def test_volumes(t):
    path = image(t)
    (t.tmp / "share").mkdir()
    (t.tmp / "share/in").write_text("in\n")
    with front(t) as f:
        out = f.sh(path, "cat /a/in; echo out > /a/out; echo > /b/no 2>/dev/null || echo refused",
                   "-v", f"{t.tmp}/share:/a", "--volume", f"{t.tmp}/share:/b:ro")
        assert out == "in\nrefused\n" and (t.tmp / "share/out").read_text() == "out\n", out


def test_a_volume_never_leaves_the_container(t):
    """A link in the image where a volume goes is followed inside the container."""
    outside = t.tmp / "outside"
    outside.mkdir()
    (t.tmp / "share").mkdir()
    (t.tmp / "share/in").write_text("in\n")
    path = image(t, entry("trap", kind=b"2", link=str(outside)))
    with front(t) as f:
        f.sh(path, "true", "-v", f"{t.tmp}/share:/trap/deep")
    assert not list(outside.iterdir())


def test_network_none_has_only_a_loopback(t):
    with front(t) as f:
        out = f.sh(image(t), "ls /sys/class/net", "--network", "none")
        assert out == "lo\n", out


def user_network(f, *args):
    done = f("run", "--rm", "--network", "user", *args)
    if b"there is no slirp4netns" in done.stderr or b"/dev/net/tun" in done.stderr:
        raise Skip(done.stderr.decode().strip())
    return done


def test_network_user_leads_out(t):
    """To a server on an address of the host's that is not its loopback device's."""
    server = socket.create_server(("0.0.0.0", 0))
    server.settimeout(PATIENCE)
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))
    except OSError:
        raise Skip("this host has no address to be reached at")
    address, port = probe.getsockname()[0], server.getsockname()[1]
    got = []

    def serve():
        connection = server.accept()[0]
        got.append(connection.recv(64))
        connection.sendall(b"answer\n")
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with front(t) as f:
        done = user_network(f, image(t), "--", "/bin/sh", "-c",
                            "ls /sys/class/net; cat /etc/resolv.conf; "
                            f"echo question | nc {address} {port}")
        assert done.returncode == 0, done
        assert done.stdout == b"lo\ntap0\nnameserver 10.0.2.3\nanswer\n", done
        thread.join(PATIENCE)
        assert got == [b"question\n"], got


def test_network_user_does_not_lead_to_the_host_s_own(t):
    server = socket.create_server(("127.0.0.1", 0))
    with front(t) as f:
        done = user_network(f, image(t), "--", "/bin/sh", "-c",
                            f"echo x | nc -w 2 10.0.2.2 {server.getsockname()[1]}")
        assert done.returncode != 0, done
    server.settimeout(0)
    try:
        server.accept()
        raise AssertionError("it was reached")
    except BlockingIOError:
        pass


def test_network_user_ends_with_its_container(t):
    with front(t) as f:
        path = image(t)
        user_network(f, path)
        done = f("run", "-d", "--name", "one", "--network", "user", path, "--", "/bin/sh", "-c",
                 "while :; do sleep 1; done")
        assert done.returncode == 0, done
        pid = next(iter(slirps(f)))
        f("rm", "--force", "one")
        for _ in range(1000):
            if pid not in slirps(f):
                break
            time.sleep(0.01)
        assert pid not in slirps(f), "slirp4netns was left"


def slirps(f):
    """Those whose parent is a monitor of this state folder's."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text() == "slirp4netns\n":
                parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                if str(f.state).encode() in pathlib.Path(f"/proc/{parent}/cmdline").read_bytes():
                    found.append(entry.name)
        except OSError:
            continue
    return found


def test_network_user_rootless(t):
    with front(t, 12345) as f:
        done = user_network(f, image(t), "--", "/bin/sh", "-c", "ls /sys/class/net")
        assert done.stdout == b"lo\ntap0\n", done


def test_network_user_without_its_helper(t):
    with front(t) as f:
        tools = t.tmp / "tools"
        tools.mkdir()
        env = dict(os.environ, PATH=str(tools))
        done = f("run", "--rm", "--network", "user", image(t), env=env)
        assert done.returncode == 1 and b"install it" in done.stderr, done
        assert not list((f.state / "containers").iterdir())


def test_limits(t):
    with front(t) as f:
        done = f("run", "--rm", "--memory", "64M", "--cpus", "0.5", "--pids", "9", image(t), "--",
                 "/bin/sh", "-c", "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max "
                 "cpu/cpu.cfs_quota_us cpu.max pids/pids.max pids.max 2>/dev/null; true")
        if done.returncode:
            raise Skip(f"limits can't be set here: {done.stderr.decode()}")
        words = done.stdout.decode().split()
        assert "67108864" in words and "50000" in words and "9" in words, done


def test_a_log_is_bounded(t):
    """The newest lines are there, whole and in order, and someone who follows misses none."""
    with front(t) as f:
        path = image(t)
        script = ("i=0; while [ $i -lt 40000 ]; do echo line $i of many that fill a log; "
                  "i=$((i + 1)); done")
        done = f("run", "--name", "one", "--log-limit", "1M", path, "--", "/bin/sh", "-c", script)
        assert done.returncode == 0 and done.stdout.count(b"\n") == 40000, done.stderr
        folder = f.state / "containers/one"
        sizes = [(folder / name).stat().st_size for name in ("log", "log.1")]
        assert sum(sizes) < 1200000 and sizes[1] >= 500000, sizes
        lines = f.output("logs", "one").splitlines()
        first = int(lines[0].split()[1])
        assert 0 < first < 35000
        assert lines == [f"line {i} of many that fill a log" for i in range(first, 40000)]
        tail = f.output("logs", "--tail", "9000", "one").splitlines()
        assert tail == lines[-9000:]


def test_a_bounded_log_is_followed(t):
    with front(t) as f:
        script = ("i=0; while [ $i -lt 20000 ]; do echo line $i of many that fill a log; "
                  "i=$((i + 1)); done; read x")
        terminal = t.popen(*map(str, f.arguments("run", "--name", "one", "--log-limit", "1M",
                                                 image(t), "--", "/bin/sh", "-c", script)),
                           stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        log = f.state / "containers/one/log"
        while not log.exists() or not log.stat().st_size:
            assert terminal.poll() is None
            time.sleep(0.01)
        follower = t.popen(*map(str, f.arguments("logs", "--follow", "one")),
                           stdout=subprocess.PIPE)
        seen = []
        for line in follower.stdout:
            seen.append(int(line.split()[1]))
            if seen[-1] == 19999:
                terminal.communicate(b"\n")
        assert follower.wait(PATIENCE) == 0 and terminal.wait(PATIENCE) == 0
        assert seen[-1] == 19999 and seen == sorted(set(seen)), "lines were doubled or mixed up"


def test_status_of_a_signal(t):
    with front(t) as f:
        f.output("run", "-d", "--name", "one", image(t), "--", "/bin/sleep", "1000")
        f.output("kill", "one")
        f.output("stop", "one")
        state = json.loads(f.output("ps", "--all", "--json"))
        assert [(c["name"], c["state"], c["exit_status"]) for c in state] == [
            ("one", "exited", 128 + signal.SIGKILL)], state


def test_the_life_of_a_detached_container(t):
    script = 'trap "echo bye; exit 3" TERM; echo up; echo oops >&2; while :; do sleep 0.05; done'
    with front(t) as f:
        name = f.output("run", "--detach", image(t), "--", "/bin/sh", "-c", script).strip()
        assert name in f.output("ps") and f.output("ps", "--quiet") == name + "\n"
        follow = t.popen(*f.arguments("logs", "--follow", name), stdout=-1, stderr=-1)
        assert follow.stdout.readline() == b"up\n"
        assert f.output("exec", name, "--", "/bin/sh", "-c", "echo in; id -u") == "in\n0\n"
        assert f("exec", name, "/bin/sh", "-c", "exit 9").returncode == 9
        expect_refusal(f("rm", name), 1, name, "--force")
        f.output("stop", "--time", "60", name)
        out, err = follow.communicate(timeout=PATIENCE)
        assert (out, err) == (b"bye\n", b"oops\n"), (out, err)
        logs = f("logs", name)
        assert (logs.stdout, logs.stderr) == (b"up\nbye\n", b"oops\n"), logs
        assert f.output("logs", "--tail", "1", name) == "bye\n"
        stamped = f.output("logs", "--timestamps", name).splitlines()
        assert all(line[4] == "-" and "Z " in line for line in stamped), stamped
        assert name not in f.output("ps") and "exited (3)" in f.output("ps", "--all")
        expect_refusal(f("exec", name, "/bin/true"), 1, "does not run")
        f.output("rm", name)
        expect_refusal(f("logs", name), 1, "no such container")


def test_stop_kills_what_does_not_listen(t):
    with front(t) as f:
        f.output("run", "-d", "--name", "deaf", image(t), "--", "/bin/sh", "-c",
                 'trap "" TERM; while :; do sleep 0.05; done')
        f.output("stop", "--time", "0", "deaf")
        assert "exited (137)" in f.output("ps", "--all")


def test_rm_force_and_all(t):
    path = image(t)
    with front(t) as f:
        for name in ("one", "two"):
            f.output("run", "-d", "--name", name, path, "--", "/bin/sleep", "1000")
        assert f.output("rm", "--force", "--all") == "one\ntwo\n"
        assert not list((f.state / "containers").iterdir())


def test_a_killed_monitor_leaves_nothing_that_rm_does_not_remove(t):
    with front(t) as f:
        f.output("run", "-d", "--name", "one", image(t), "--", "/bin/sleep", "1000")
        record = json.loads((f.state / "containers/one/record.json").read_text())
        os.kill(record["monitor"]["pid"], signal.SIGKILL)
        assert "running" in f.output("ps")
        f.output("rm", "--force", "one")
        assert not os.path.exists(f"/proc/{record['init']['pid']}/root/bin/busybox")
        assert not list((f.state / "run").iterdir())


def test_a_name_is_taken_once(t):
    path = image(t)
    with front(t) as f:
        f.output("run", "--name", "one", path)
        expect_refusal(f("run", "--name", "one", path), 1, "one", "rm")
        for name in ("../up", "a/b", ".", "-", "x" * 64, "a b"):
            expect_refusal(f("run", f"--name={name}", path), 2, "--name")


def test_a_program_that_is_not_there(t):
    with front(t) as f:
        done = f("run", "--name", "one", image(t), "--", "/no/such/program")
        assert done.returncode == 1 and b"/no/such/program" in done.stderr, done
        assert not list((f.state / "containers").iterdir())


def test_users_that_are_not_there(t):
    with front(t) as f:
        for user in ("eve", "bob:eve", "99999999999", "-1"):
            expect_refusal(f("run", f"--user={user}", image(t) if user == "eve"
                             else t.tmp / "image"), 1, "--user")


def test_capabilities(t):
    path = image(t)
    show = "while read key value; do case $key in CapEff:) echo $value;; esac; done </proc/self/status"
    with front(t) as f:
        assert int(f.sh(path, show), 16) == 0xa80405fb & ~(1 << 29 | 1 << 27 | 1 << 13) \
            or int(f.sh(path, show), 16) & (1 << 21) == 0
        assert int(f.sh(path, show, "--cap-drop", "all"), 16) == 0
        assert int(f.sh(path, show, "--cap-drop", "all", "--cap-add", "chown"), 16) == 1
        assert int(f.sh(path, show, "--user", "bob"), 16) == 0


def test_a_terminal_of_its_own(t):
    path = image(t)
    with front(t) as f:
        terminal = t.terminal(*f.arguments("run", "--rm", path, "--", "/bin/sh"))
        terminal.expect("# ")
        terminal.send("tty; echo $((6*7))\r")
        terminal.expect("/dev/pts/0")
        terminal.expect("42")
        terminal.send("exit 5\r")
        assert terminal.process.wait(PATIENCE) == 5


def test_without_overlayfs(t):
    path = Image(t.tmp / "image", busybox_layer(t, entry("d", kind=FOLDER), entry("d/gone"),
                                                entry("o", kind=FOLDER), entry("o/below")),
                 layer(entry("d/.wh.gone"), entry("o/above"), entry("o/.wh..wh..opq"))).write()
    with front(t) as f:
        for options in ([], ["--copy"]):
            assert f.sh(path, "find /d /o", *options) == "/d\n/o\n/o/above\n", options
        assert "overlay" not in f.sh(path, "cat /proc/mounts", "--copy").splitlines()[0]


def test_rootless(t):
    """Everything as a user who has no further ids: root inside is that user outside."""
    path = image(t)
    with front(t, user=65534) as f:
        done = f("run", "--rm", path, "--", "/bin/sh", "-c", "id -u; echo > /etc/new; ls /etc/new")
        if b"refused here" in done.stderr:
            raise Skip(done.stderr.decode())
        assert done.stdout == b"0\n/etc/new\n", done
        f.output("run", "-d", "--name", "one", path, "--", "/bin/sleep", "1000")
        assert f.output("exec", "one", "/bin/id", "-u") == "0\n"
        f.output("stop", "--time", "0", "one")
        expect_refusal(f("run", "--user", "bob", path), 1, "bob", "/etc/subuid")
        f.output("rm", "one")
        f.output("prune")
        assert not list((f.state / "layers").iterdir())


def test_prune_spares_what_is_used(t):
    path = image(t)
    with front(t) as f:
        f.output("run", "-d", "--name", "one", path, "--", "/bin/sleep", "1000")
        assert f.output("prune") == ""
        (f.state / "layers/.unpacking-1234").mkdir()
        f.output("rm", "--force", "one")
        layers = json.loads(f.output("images", "--json"))
        assert [(entry["containers"], entry["origin"]) for entry in layers] == [(0, str(path))]
        assert f.output("prune") == layers[0]["digest"][7:] + "\n"
        assert not list((f.state / "layers").iterdir())


def test_many_at_once_leave_nothing(t):
    path = image(t)
    with front(t) as f:
        running = [t.popen(*f.arguments("run", "--rm", path, "--", "/bin/echo", "hi"), stdout=-1)
                   for _ in range(10)]
        for process in running:
            assert process.communicate(timeout=PATIENCE)[0] == b"hi\n"
            assert process.returncode == 0
        assert not list((f.state / "containers").iterdir())
        assert len(list((f.state / "layers").iterdir())) == 1


def test_command_lines_that_cannot_be_taken(t):
    for args in (["frobnicate"], [], ["run"], ["run", "--frobnicate"], ["run", "--memory", "lots", "x"],
                 ["run", "--cpus", "0", "x"], ["run", "--network", "moon", "x"],
                 ["run", "--name"], ["run", "--rm=yes", "x"], ["run", "--tty", "maybe", "x"],
                 ["logs"], ["logs", "a", "b"], ["logs", "--tail", "x", "a"], ["exec", "a"],
                 ["stop"], ["stop", "--time", "-1", "a"], ["kill", "--signal", "SIGNOT", "a"],
                 ["rm"], ["ps", "a"], ["images", "a"], ["prune", "a"], ["run", "--pids", "0", "x"]):
        expect_refusal(t.run("container", *args), 2, "doppel")


def test_every_option_is_documented(t):
    """In the man page, the completion and docs/containers.md or the command's help alike."""
    root = pathlib.Path(__file__).resolve().parents[2]
    man = (root / "data/doppel.1").read_text().replace("\\-", "-")
    bash = (root / "data/doppel.bash").read_text()
    for command in ("run", "ps", "logs", "exec", "stop", "kill", "rm", "images", "prune"):
        text = t.run("container", command, "--help").stdout.decode()
        options = set(re.findall(r"--[a-z]+(?:-[a-z]+)*", text))
        assert text.startswith(f"doppel container {command}")
        for other in (man, bash):
            assert options <= set(re.findall(r"--[a-z]+(?:-[a-z]+)*", other)), (command, options)
        if command == "run":
            docs = (root / "docs/containers.md").read_text()
            assert options <= set(re.findall(r"--[a-z]+(?:-[a-z]+)*", docs)), options


def test_rootless_with_further_ids(t):
    """What newuidmap grants: other users inside are ids of /etc/subuid outside."""
    if not shutil.which("newuidmap") or not shutil.which("unshare"):
        raise Skip("newuidmap or unshare is not installed")
    path = image(t, User="bob")
    grants = t.file("subid", b"65534:200000:65536\n")
    state = t.tmp / "containers"
    state.mkdir()
    t.tmp.chmod(0o755)
    os.chown(state, 65534, 65534)
    script = f"""set -e
        touch /etc/subuid /etc/subgid
        mount --bind {grants} /etc/subuid; mount --bind {grants} /etc/subgid
        setpriv --reuid 65534 --regid 65534 --clear-groups sh -e <<'END'
        d() {{ c=$1; shift; {t.doppel} container $c --root {state} "$@"; }}
        cd /
        d run -d --name one {path} -- /bin/sleep 1000
        d exec one -- /bin/sh -c 'id -u; id -G'
        d stop --time 0 one
        d rm one
        d prune
END"""
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE)
    if b"refused here" in done.stderr:
        raise Skip(done.stderr.decode())
    assert done.returncode == 0, done
    assert b"\n1000\n1001 50\n" in done.stdout, done
    assert not list((state / "layers").iterdir()) and not list((state / "containers").iterdir())


def test_signals_are_passed_on(t):
    path = image(t)
    with front(t) as f:
        for script, times, status in (
                ('trap "echo told; exit 5" TERM; echo up; while :; do sleep 0.05; done', 1, 5),
                ('trap "" TERM; echo up; while :; do sleep 0.05; done', 3, 128 + signal.SIGKILL)):
            process = t.popen(*f.arguments("run", "--rm", path, "--", "/bin/sh", "-c", script),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            assert process.stdout.readline() == b"up\n"
            for _ in range(times):
                process.send_signal(signal.SIGTERM)
                if times > 1:  # pending signals of one kind are one: each must be seen
                    until_taken(process.pid, signal.SIGTERM)
            out = process.communicate(timeout=PATIENCE)[0]
            assert process.returncode == status and (b"told" in out) == (times == 1), (status, out)


def until_taken(pid, number):
    """Waits until the process has no such signal pending."""
    while True:
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        pending = [int(line.split()[1], 16) for line in status.splitlines()
                   if line.startswith(("SigPnd", "ShdPnd"))]
        if not any(mask >> (number - 1) & 1 for mask in pending):
            return
