"""A container that tries to leave does not get out, and a host that is narrow says what it lacks."""
import ctypes
import os
import shutil
import struct
import subprocess
import threading

from harness.bundle import Bundle
from harness.case import Skip


def outside(t):
    """A folder of the host that must stay as it is."""
    folder = t.tmp / "outside"
    folder.mkdir()
    (folder / "file").write_text("untouched")
    return folder


def expect_untouched(folder):
    assert [p.name for p in folder.iterdir()] == ["file"], list(folder.iterdir())
    assert (folder / "file").read_text() == "untouched"


def test_links_in_mount_targets(t):
    """Absolute links, links upwards, dangling ones, and links in the middle: all count from the
    container's root."""
    host = outside(t)
    up = "../" * 30
    targets = [str(host), up + str(host), up + str(host) + "/missing", "/proc/self/root" + str(host)]
    for target in targets:
        b = Bundle(t)
        b.config["root"]["readonly"] = False
        os.symlink(target, b.rootfs / "etc/link")
        b.mount("/etc/link", type="tmpfs", source="tmpfs", options=[])
        b.mount("/etc/link/deeper/still", type="tmpfs", source="tmpfs", options=[])
        b.mount("/etc/link/a-file", type="bind", source=str(host / "file"), options=["bind", "ro"])
        done = b.sh("cat /etc/link/a-file").run()
        assert done.stdout == "untouched" or done.returncode == 1, done
        expect_untouched(host)
        b.expect_nothing_left()
        shutil.rmtree(b.path)


def test_links_in_place_of_dev_and_proc(t):
    host = outside(t)
    for name in ("dev", "proc", "sys"):
        b = Bundle(t)
        (b.rootfs / name).rmdir()
        os.symlink(str(host), b.rootfs / name)
        b.sh("true").run()
        expect_untouched(host)
        shutil.rmtree(b.path)


def test_links_in_place_of_hidden_paths(t):
    host = outside(t)
    b = Bundle(t)
    os.symlink(str(host / "file"), b.rootfs / "etc/hidden")
    b.linux["maskedPaths"].append("/etc/hidden")
    b.linux["readonlyPaths"].append("/etc/hidden")
    b.run()
    expect_untouched(host)


def test_links_in_place_of_devices(t):
    host = outside(t)
    b = Bundle(t)
    b.config["root"]["readonly"] = False
    b.config["mounts"] = [m for m in b.config["mounts"] if not m["destination"].startswith("/dev")]
    os.symlink(str(host / "null"), b.rootfs / "dev/null")
    os.symlink(str(host), b.rootfs / "etc/devices")
    b.linux["devices"] = [dict(path="/etc/devices/made", type="c", major=1, minor=3)]
    b.run()
    expect_untouched(host)


def test_a_race_for_a_mount_target(t):
    """The target's parent flips between a folder and a link to the host's while containers start."""
    host = outside(t)
    b = Bundle(t)
    b.config["root"]["readonly"] = False
    b.mount("/mnt/flip/target", type="tmpfs", source="tmpfs", options=[])
    real, link = b.rootfs / "mnt/real", b.rootfs / "mnt/link"
    real.mkdir()
    os.symlink(str(host), link)
    os.rename(real, b.rootfs / "mnt/flip")
    stop = threading.Event()

    def flip():
        at = str(b.rootfs / "mnt")
        while not stop.is_set():
            try:
                os.rename(f"{at}/flip", f"{at}/real")
                os.rename(f"{at}/link", f"{at}/flip")
                os.rename(f"{at}/flip", f"{at}/link")
                os.rename(f"{at}/real", f"{at}/flip")
            except OSError:
                pass

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(40):
            b.run()
            expect_untouched(host)
    finally:
        stop.set()
        thread.join()


def test_the_runtime_can_not_be_written(t):
    """What /proc/PID/exe shows of a process that has not yet become the user's program."""
    b = Bundle(t)
    before = b.oci.read_bytes()
    b.create()
    program = os.open(f"/proc/{b.pid()}/exe", os.O_RDONLY)
    b.delete()
    # mount_setattr(program, "", AT_EMPTY_PATH, {clear: MOUNT_ATTR_RDONLY}): the mount is no one's.
    clear = struct.pack("QQQQ", 0, 1, 0, 0)
    assert ctypes.CDLL(None).syscall(442, program, b"", 0x1000, clear, len(clear)) == -1
    try:
        again = os.open(f"/proc/self/fd/{program}", os.O_RDWR)
        os.write(again, b"#!/bin/evil")
        raise AssertionError("it could be written")
    except OSError:
        pass
    os.close(program)
    assert b.oci.read_bytes() == before


def test_the_runtime_as_the_program(t):
    """/proc/self/exe as the program to run, or as a script's interpreter, is a sealed copy."""
    b = Bundle(t)
    before = b.oci.read_bytes()
    (b.rootfs / "bin/script").write_text("#!/proc/self/exe\n")
    os.chmod(b.rootfs / "bin/script", 0o755)
    b.process["args"] = ["/proc/self/exe", "--version"]
    done = b.run()
    # A build that is not static has no loader in this root, which is as good.
    assert "doppel-oci version" in done.stdout or "No such file" in done.stderr, done
    b.process["args"] = ["/bin/script"]
    b.run()
    assert b.oci.read_bytes() == before


def test_no_descriptor_of_the_host_is_left(t):
    b = Bundle(t)
    fds = [os.open("/", os.O_RDONLY) for _ in range(5)]
    for fd in fds:
        os.set_inheritable(fd, True)
    b.sh("for f in /proc/self/fd/*; do readlink $f; done; echo done").write()
    done = b.command("run", "--bundle", b.path, b.id, pass_fds=fds)
    for fd in fds:
        os.close(fd)
    links = done.stdout.split("\n")
    assert "done" in links and "/" not in links, done.stdout
    assert not [x for x in links if "cgroup" in x or "bundle" in x or "state" in x], done.stdout


def test_a_working_folder_outside(t):
    """process.cwd that leads through a descriptor of ours to the host's folders is refused."""
    b = Bundle(t)
    for number in range(3, 24):
        b.process["cwd"] = f"/proc/self/fd/{number}"
        done = b.sh("pwd; ls ../../../../../").run()
        assert "bundle" not in done.stdout and "root\n" not in done.stdout, (number, done)
    b.expect_nothing_left()


def test_nothing_lies_over_proc(t):
    b = Bundle(t)
    b.mount("/proc/self/attr", type="tmpfs", source="tmpfs", options=[])
    b.refused("mounts[", "/proc/self/attr")


def test_a_sysctl_of_the_host(t):
    for name in ("kernel.panic", "vm.swappiness", "net/../kernel/panic"):
        b = Bundle(t)
        b.linux["sysctl"] = {name: "1"}
        b.refused("linux.sysctl")
        shutil.rmtree(b.path)


def test_the_host_s_network_settings(t):
    b = Bundle(t)
    b.drop_namespace("network")
    b.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    b.refused("linux.sysctl", "network namespace")


def test_without_the_right_to_make_namespaces(t):
    """As in a container that gives none: the line says what is missing."""
    b = Bundle(t)
    b.write()
    for path in (t.tmp, b.path):
        os.chmod(path, 0o755)
    done = b.command("--root", t.tmp / "nobodys", "run", "--bundle", b.path, b.id, user=65534,
                     group=65534, extra_groups=[])
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    shutil.rmtree(t.tmp / "state", ignore_errors=True)
    state = t.tmp / "theirs"
    state.mkdir()
    os.chown(state, 65534, 65534)
    b.linux.pop("resources")
    b.write()
    os.chmod(b.path / "config.json", 0o644)
    done = subprocess.run([str(b.oci), "--root", str(state), "run", "--bundle", str(b.path), b.id],
                          stderr=subprocess.PIPE, text=True, user=65534, group=65534,
                          extra_groups=[], timeout=60)
    assert done.returncode == 1 and "CAP_SYS_ADMIN" in done.stderr, done
    assert "can grant" in done.stderr and done.stderr.count("\n") == 1, done


def test_a_raised_limit_without_the_right(t):
    b = Bundle(t)
    b.process["rlimits"] = [dict(type="RLIMIT_NOFILE", soft=1 << 40, hard=1 << 40)]
    b.refused("process.rlimits[0]", "RLIMIT_NOFILE")


def test_who_joins_can_not_be_looked_into(t):
    """In a shared pid namespace the process that is to become the second container's program shows
    the first container neither its descriptors nor its memory."""
    b = Bundle(t).sh("while :; do for p in /proc/[0-9]*; do "
                     "[ $p = /proc/$$ ] || ls -l $p/exe $p/cwd $p/fd; done; done > /mnt/seen "
                     "2> /dev/null")
    (t.tmp / "mark").mkdir()
    b.mount("/mnt", type="bind", source=str(t.tmp / "mark"), options=["bind"])
    b.create()
    b.start()
    second = Bundle.__new__(Bundle)
    second.__dict__.update(b.__dict__, id=b.id + "-2", config=dict(b.config))
    second.config["linux"] = dict(b.linux)
    second.drop_namespace("pid")
    second.add_namespace("pid", path=f"/proc/{b.pid()}/ns/pid")
    second.path = t.tmp / "second"
    second.path.mkdir()
    second.config["root"] = dict(path=str(b.rootfs), readonly=True)
    second.process["args"] = ["true"]
    for _ in range(20):
        done = second.run()
        assert done.returncode == 0, done.stderr
        b.command("exec", b.id, "true", check=True)

    def looked():
        return (t.tmp / "mark/seen").read_text()

    for _ in range(100):  # until it has seen one that may be looked into
        b.command("exec", b.id, "sleep", "0.3", check=True)
        if "busybox" in looked():
            break
    b.delete()
    seen = looked()
    assert "busybox" in seen, "it never looked"
    assert "doppel-oci" not in seen and "memfd" not in seen, seen
    assert str(t.tmp) not in seen and "cgroup" not in seen, seen


def test_cgroups_nested_without_end(t):
    """Groups in groups that the container makes, deeper than any path is long, are removed again."""
    b = Bundle(t)
    b.config["mounts"] = [dict(m, options=[o for o in m["options"] if o != "ro"])
                          if m.get("type") == "cgroup" else m for m in b.config["mounts"]]
    done = b.sh("cd /sys/fs/cgroup/unified || cd /sys/fs/cgroup; n=0; "
                "while [ $n -lt 300 ] && mkdir aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do "
                "cd -P aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa || break; n=$((n + 1)); done; "
                "sh -c 'echo $$ > cgroup.procs; exec sleep 1000' & echo $n").run()
    if done.stdout.strip() != "300":
        raise Skip("no cgroups can be nested here: " + done.stderr[-200:])
    b.expect_nothing_left()


def test_copying_up_stops_at_some_depth(t):
    b = Bundle(t)
    deep = b.rootfs / "mnt"
    for _ in range(100):
        deep = deep / "d"
        deep.mkdir()
    b.mount("/mnt", type="tmpfs", source="tmpfs", options=["tmpcopyup"])
    b.refused("mounts[", "/mnt can't be copied up", "symbolic links")
