"""What a container finds inside: namespaces, mounts, limits, rights."""
import ctypes
import json
import os
import pathlib
import re
import socket
import subprocess
import threading

from harness.bundle import Bundle
from harness.case import Skip


def test_namespaces_are_its_own(t):
    b = Bundle(t)
    b.add_namespace("time")
    b.linux["timeOffsets"] = dict(boottime=dict(secs=1000000, nanosecs=0))
    out = b.output("for n in cgroup ipc mnt net pid uts time; do readlink /proc/self/ns/$n; done; "
                   "hostname; cut -d. -f1 /proc/uptime; echo $$")
    *spaces, name, uptime, pid = out.split()
    for kind, space in zip("cgroup ipc mnt net pid uts time".split(), spaces):
        assert os.readlink(f"/proc/self/ns/{kind}") != space, f"{kind} is the host's"
    assert name == "doppel" and pid == "1" and int(uptime) >= 1000000


def test_the_loopback_device_is_on(t):
    b = Bundle(t)
    assert int(b.output("cat /sys/class/net/lo/flags"), 16) & 1
    b.own_users()
    assert int(b.output("cat /sys/class/net/lo/flags"), 16) & 1


def test_joined_namespaces(t):
    b = Bundle(t).sh("while :; do sleep 0.05; done")
    b.create()
    b.start()
    other = Bundle.__new__(Bundle)
    other.__dict__.update(b.__dict__, id=b.id + "-2")
    other.config = json.loads(json.dumps(b.config))
    for kind, name in (("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")):
        other.drop_namespace(kind)
        other.add_namespace(kind, path=f"/proc/{b.pid()}/ns/{name}")
    other.config.pop("hostname")
    out = other.sh("for n in pid net ipc uts; do readlink /proc/self/ns/$n; done; echo $$").run().stdout
    *spaces, pid = out.split()
    assert spaces == [os.readlink(f"/proc/{b.pid()}/ns/{n}") for n in "pid net ipc uts".split()]
    assert int(pid) > 1
    b.id, second = b.id, other.id
    b.delete()
    assert not (b.state / second).exists()


JOINED = dict(user="user", mount="mnt", cgroup="cgroup", time="time", pid="pid", network="net",
              ipc="ipc", uts="uts")


def joins(t, b, pid, kinds):
    """A second container in these namespaces of that process finds itself there."""
    other = Bundle.__new__(Bundle)
    other.__dict__.update(b.__dict__, id=b.id + "-2", config=json.loads(json.dumps(b.config)))
    for name in ("timeOffsets", "uidMappings", "gidMappings"):
        other.linux.pop(name, None)
    for kind in JOINED:
        if kind in kinds or kind in ("time", "user"):
            other.drop_namespace(kind)
        if kind in kinds:
            other.add_namespace(kind, path=f"/proc/{pid}/ns/{JOINED[kind]}")
    if "uts" in kinds:
        other.config.pop("hostname")
    names = [JOINED[kind] for kind in kinds]
    done = other.sh(f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done").run()
    assert done.returncode == 0, (kinds, done.stderr)
    assert done.stdout.split() == [os.readlink(f"/proc/{pid}/ns/{n}") for n in names], kinds
    assert not (b.state / other.id).exists()


def test_every_namespace_can_be_joined(t):
    b = Bundle(t).sh("while :; do sleep 0.05; done")
    b.add_namespace("time")
    b.linux["timeOffsets"] = dict(boottime=dict(secs=1000000, nanosecs=0))
    b.own_users()
    b.create()
    b.start()
    kinds = [kind for kind in JOINED if kind != "mount"]
    for some in (["time"], ["cgroup"], ["user"], kinds):
        joins(t, b, b.pid(), some)
    b.delete()


def test_who_joins_may_be_quick(t):
    """It may have said all it has to say before its maker has its number."""
    b = Bundle(t).sh("while :; do sleep 0.05; done")
    b.create()
    b.start()
    other = Bundle.__new__(Bundle)
    other.__dict__.update(b.__dict__, id=b.id + "-2", config=json.loads(json.dumps(b.config)))
    for kind in ("pid", "network", "ipc", "uts"):
        other.drop_namespace(kind)
        other.add_namespace(kind, path=f"/proc/{b.pid()}/ns/{JOINED[kind]}")
    other.config.pop("hostname")
    other.config["mounts"] = [m for m in other.config["mounts"] if m["destination"] == "/proc"]
    for _ in range(40):
        other.create()
        assert other.status() == "created"
        other.command("delete", "--force", other.id, check=True)
    b.delete()


def test_a_mount_namespace_can_be_joined(t):
    """One in which the root is to be found under the same name."""
    b = Bundle(t)
    holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", "echo ready; exec sleep 1000"],
                              stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"ready\n"
        subprocess.run(["nsenter", "--mount", "--target", str(holder.pid), "mount", "-t", "proc",
                        "proc", str(b.rootfs / "proc")], check=True)
        joins(t, b, holder.pid, ["mount"])
    finally:
        holder.kill()
        holder.wait()


def test_a_user_namespace(t):
    b = Bundle(t)
    b.own_users()
    out = b.output("id -u; cat /proc/self/uid_map; stat -c %u:%g /proc/1; ls -l /dev/null; "
                   "echo x > /dev/null && echo written; test -w /proc/sys/kernel/hostname; echo $?")
    assert out.startswith("0\n") and "100000" in out and "written" in out, out


def test_a_user_namespace_with_bound_secrets(t):
    """A folder that only the host's root can reach can be bound; its files stay root's."""
    secret = t.tmp / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("inside")
    os.chmod(secret / "file", 0o600)
    b = Bundle(t)
    b.own_users()
    b.mount("/mnt", type="bind", source=str(secret / "file"), options=["bind", "ro"])
    b.config["mounts"][-1]["destination"] = "/etc/secret"
    (b.rootfs / "etc/secret").touch()
    done = b.sh("test -f /etc/secret && echo there; cat /etc/secret").run()
    assert done.returncode != 0 and done.stdout == "there\n", done


def test_idmapped_mount(t):
    data = t.tmp / "data"
    data.mkdir()
    (data / "file").write_text("mine")
    maps = [dict(containerID=0, hostID=100000, size=65536)]
    b = Bundle(t)
    b.own_users()
    b.mount("/mnt", type="bind", source=str(data), options=["bind"], uidMappings=maps,
            gidMappings=maps)
    done = b.sh("stat -c %u:%g /mnt/file && touch /mnt/new").run()
    if "can't be mapped" in done.stderr:
        raise Skip("this file system has no idmapped mounts")
    assert done.stdout == "0:0\n", done
    assert (data / "new").stat().st_uid == 0


def test_sources_count_from_the_bundle(t):
    b = Bundle(t)
    (b.path / "beside").mkdir()
    (b.path / "beside/file").write_text("found")
    b.mount("/mnt", type="bind", source="beside", options=["bind", "ro"])
    assert b.output("cat /mnt/file") == "found"


def test_mount_options(t):
    data = t.tmp / "data"
    data.mkdir()
    b = Bundle(t)
    b.mount("/mnt", type="bind", source=str(data), options=["rbind", "ro", "nosuid", "noexec"])
    b.mount("/tmp/made/deep", type="tmpfs", source="tmpfs", options=["size=1m", "mode=700"])
    out = b.output("cat /proc/self/mountinfo; stat -c %a /tmp/made/deep")
    line = next(m for m in out.splitlines() if " /mnt " in m)
    for word in ("ro", "nosuid", "noexec"):
        assert word in re.split("[ ,]", line), line
    assert "size=1024k" in out and out.endswith("700\n"), out


def test_overlay(t):
    for name in ("lower", "upper", "work"):
        (t.tmp / name).mkdir()
    (t.tmp / "lower/old").write_text("below")
    b = Bundle(t)
    b.mount("/mnt", type="overlay", source="overlay",
            options=[f"lowerdir={t.tmp}/lower", f"upperdir={t.tmp}/upper", f"workdir={t.tmp}/work"])
    assert b.output("cat /mnt/old; echo new > /mnt/old; touch /mnt/new") == "below"
    assert (t.tmp / "lower/old").read_text() == "below"
    assert (t.tmp / "upper/old").read_text() == "new\n" and (t.tmp / "upper/new").exists()


def test_copied_up(t):
    b = Bundle(t)
    (b.rootfs / "mnt/folder").mkdir()
    (b.rootfs / "mnt/folder/file").write_text("copied")
    os.symlink("folder/file", b.rootfs / "mnt/link")
    b.mount("/mnt", type="tmpfs", source="tmpfs", options=["tmpcopyup"])
    assert b.output("cat /mnt/link; echo more > /mnt/link; cat /mnt/link") == "copiedmore\n"
    assert (b.rootfs / "mnt/folder/file").read_text() == "copied"


def test_propagation(t):
    b = Bundle(t)
    b.linux["rootfsPropagation"] = "shared"
    assert "shared:" in b.output("grep ' / / ' /proc/self/mountinfo || head -1 /proc/self/mountinfo")
    b.linux["rootfsPropagation"] = "private"
    assert "shared:" not in b.output("head -1 /proc/self/mountinfo")


def test_hidden_and_read_only(t):
    b = Bundle(t)
    out = b.output("wc -c < /proc/timer_list; ls /sys/firmware | wc -l; "
                   "echo 1 > /proc/sysrq-trigger; echo $?; touch /x; echo $?")
    assert out.split() == ["0", "0", "1", "1"], out


def test_devices(t):
    b = Bundle(t)
    b.linux["devices"] = [dict(path="/dev/mine", type="c", major=1, minor=5, fileMode=0o640, uid=7)]
    b.config["root"]["readonly"] = False
    b.process["capabilities"]["bounding"].append("CAP_MKNOD")
    b.process["capabilities"]["effective"].append("CAP_MKNOD")
    b.process["capabilities"]["permitted"].append("CAP_MKNOD")
    out = b.output("stat -c '%a %u %t:%T' /dev/mine; head -c 3 /dev/zero | wc -c; "
                   "mknod /tmp/kmsg c 1 11 && head -c 1 < /tmp/kmsg; echo $?")
    assert out.splitlines()[:2] == ["640 7 1:5", "3"] and out.endswith("1\n"), out


def without_mounts_on_dev(b):
    """The devices come to stand in the root itself, where they stay."""
    b.config["mounts"] = [m for m in b.config["mounts"] if not m["destination"].startswith("/dev")]
    return b.rootfs / "dev"


def test_device_rules_come_before_devices(t):
    """However many they are: no device is asked for while some of them are missing."""
    b = Bundle(t)
    dev = without_mounts_on_dev(b)
    b.linux["resources"]["devices"] += [
        dict(allow=True, type="c", major=200, minor=minor, access="r") for minor in range(3000)]
    b.output("echo x > /dev/null")
    assert (dev / "null").is_char_device(), "it was bound, not made"


def test_a_place_for_a_device_is_not_in_its_way(t):
    """Such as a container leaves behind for which devices had to be bound."""
    b = Bundle(t)
    dev = without_mounts_on_dev(b)
    (dev / "null").touch()
    b.output("test -c /dev/null && echo x > /dev/null")
    assert (dev / "null").read_bytes() == b"", "what was for the device is in the file"


def test_what_is_no_place_for_a_device_stays(t):
    b = Bundle(t)
    null = without_mounts_on_dev(b) / "null"
    null.write_text("mine")
    b.refused("device /dev/null", "exists")
    assert null.read_text() == "mine"
    null.unlink()
    null.symlink_to("/etc/passwd")
    b.refused("device /dev/null", "exists")
    null.unlink()
    os.mkfifo(null)
    b.refused("device /dev/null", "exists")


def test_limits(t):
    b = Bundle(t)
    b.linux["resources"].update(memory=dict(limit=32 << 20), pids=dict(limit=40),
                                cpu=dict(shares=512, quota=50000, period=100000))
    b.process["rlimits"] = [dict(type="RLIMIT_NOFILE", soft=77, hard=99)]
    b.process["oomScoreAdj"] = 500
    out = b.output("cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max "
                   "pids/pids.max pids.max cpu/cpu.shares 2>/dev/null; "
                   "sh -c 'ulimit -n; ulimit -Hn'; cat /proc/self/oom_score_adj").split()
    assert out[:2] == [str(32 << 20), "40"] and out[-3:] == ["77", "99", "500"], out


def test_rights(t):
    b = Bundle(t)
    b.process["user"] = dict(uid=1000, gid=1001, additionalGids=[7, 8], umask=0o27)
    caps = ["CAP_NET_RAW", "CAP_KILL"]
    b.process["capabilities"] = {s: caps for s in
                                 ("bounding", "effective", "permitted", "inheritable", "ambient")}
    out = b.output("grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups|Umask)' /proc/self/status")
    found = dict(line.split(":\t", 1) for line in out.splitlines())
    mask = f"{(1 << 13) | (1 << 5):016x}"
    assert all(found[c] == mask for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), out
    assert found["NoNewPrivs"] == "1" and found["Umask"] == "0027", out
    assert found["Uid"].split() == ["1000"] * 4 and found["Gid"].split() == ["1001"] * 4, out
    assert found["Groups"].split() == ["7", "8"], out


def test_labels_that_nobody_knows(t):
    b = Bundle(t)
    b.process["apparmorProfile"] = "no-such-profile"
    b.refused("process.apparmorProfile")
    b.process["apparmorProfile"] = "unconfined"
    b.process["selinuxLabel"] = "system_u:system_r:no_such_t:s0"
    b.refused("process.selinuxLabel")
    b.process.pop("selinuxLabel")
    assert b.run().returncode == 0


def test_a_profile_of_apparmor(t):
    profiles = pathlib.Path("/sys/kernel/security/apparmor/profiles")
    try:
        known = [line.split(" (")[0] for line in profiles.read_text().splitlines()]
    except OSError:
        known = []
    if "docker-default" not in known:
        raise Skip("this kernel has no AppArmor with a profile to be run in")
    b = Bundle(t)
    b.process["apparmorProfile"] = "docker-default"
    assert "docker-default" in b.output("cat /proc/self/attr/current")


def test_sysctl(t):
    b = Bundle(t)
    b.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}
    assert b.output("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced") == "1\n1\n"


def test_personality(t):
    b = Bundle(t)
    b.linux["personality"] = dict(domain="LINUX32")
    assert b.output("uname -m") == "i686\n"


def test_seccomp(t):
    b = Bundle(t)
    b.linux["seccomp"] = dict(
        defaultAction="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        syscalls=[dict(names=["mkdir", "mkdirat"], action="SCMP_ACT_ERRNO", errnoRet=95)])
    b.config["root"]["readonly"] = False
    done = b.sh("grep -E '^Seccomp:' /proc/self/status; mkdir /tmp/x").run()
    assert "Seccomp:\t2" in done.stdout and "not supported" in done.stderr, done


def test_seccomp_notify(t):
    """The agent gets the listener and the container process state."""
    b = Bundle(t).sh("mkdir /tmp/x")
    path = t.tmp / "agent.sock"
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(path))
    agent.listen()
    agent.settimeout(60)
    got = {}

    def serve():
        connection = agent.accept()[0]
        data, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
        got["state"] = json.loads(data)
        listener = int.from_bytes(control[0][2][:4], "little")
        libc = ctypes.CDLL(None, use_errno=True)
        request = (ctypes.c_uint64 * 10)()
        receive, send = 0xc0502100, 0xc0182101
        got["received"] = libc.ioctl(listener, ctypes.c_ulong(receive), request)
        # id, value, error, flags: the call fails with EXDEV
        answer = (ctypes.c_uint8 * 24).from_buffer_copy(
            int(request[0]).to_bytes(8, "little") + bytes(8) + (-18).to_bytes(4, "little", signed=True)
            + bytes(4))
        got["sent"] = libc.ioctl(listener, ctypes.c_ulong(send), answer)
        os.close(listener)

    thread = threading.Thread(target=serve)
    thread.start()
    b.linux["seccomp"] = dict(defaultAction="SCMP_ACT_ALLOW", listenerPath=str(path),
                              listenerMetadata="label",
                              syscalls=[dict(names=["mkdir"], action="SCMP_ACT_NOTIFY")])
    done = b.run()
    thread.join()
    assert got["received"] == 0 and got["sent"] == 0, got
    assert "ross-device" in done.stderr or "nvalid cross" in done.stderr, done
    state = got["state"]
    assert state["fds"] == ["seccompFd"] and state["metadata"] == "label", state
    assert state["state"]["id"] == b.id and state["pid"] > 0, state


def test_an_old_root_is_out_of_reach(t):
    b = Bundle(t)
    out = b.output("cat /proc/self/mountinfo; ls /proc/1/root")
    assert str(t.tmp) not in " ".join(line.split()[4] for line in out.splitlines() if " - " in line)
    assert set(out.split()[-7:]) & {"mnt", "tmp"}


def rootless_bundle(t):
    """For an ordinary user who maps himself to root, without any help."""
    if os.path.exists("/proc/sys/user/max_user_namespaces") and \
            pathlib.Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
        raise Skip("user namespaces are not allowed here")
    b = Bundle(t).sh("id -u; cat /proc/self/uid_map; hostname")
    b.drop_namespace("network")
    b.own_users(outside=12345, size=1)
    b.config["mounts"] = [m for m in b.config["mounts"] if not m["destination"].startswith("/sys")
                          and m["destination"] != "/dev/pts"]
    b.process.pop("capabilities")
    b.process["rlimits"] = []
    b.state = t.tmp / "rootless"
    b.state.mkdir()
    os.chmod(t.tmp, 0o755)
    for path in (b.state, b.rootfs, *b.rootfs.iterdir()):
        os.chown(path, 12345, 12345)
    return b


def as_user(b, *options):
    b.write()
    os.chmod(b.path / "config.json", 0o644)
    return b.command(*options, "run", "--bundle", b.path, b.id, user=12345, group=12345,
                     extra_groups=[])


def test_rootless(t):
    b = rootless_bundle(t)
    b.linux.pop("resources")
    done = as_user(b)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["0", "0", "12345"] and "doppel" in done.stdout, done
    assert not list(b.state.iterdir())


def test_rootless_uses_a_root_again(t):
    b = rootless_bundle(t)
    without_mounts_on_dev(b)
    b.linux.pop("resources")
    b.sh("test -c /dev/null && echo x > /dev/null")
    for _ in range(2):
        done = as_user(b)
        assert done.returncode == 0, done.stderr


def test_rootless_gets_no_other_device_of_that_name(t):
    b = rootless_bundle(t)
    b.linux.pop("resources")
    b.linux["devices"] = [dict(path="/dev/ptmx", type="c", major=1, minor=3)]
    done = as_user(b)
    assert done.returncode == 1 and "device /dev/ptmx" in done.stderr, done
    assert "No such device" in done.stderr, done


def test_rootless_does_without_device_rules(t):
    b = rootless_bundle(t)
    assert b.linux["resources"]["devices"], "nothing to do without"
    for choice in ("auto", "true"):
        done = as_user(b, "--rootless", choice)
        assert done.returncode == 0, done.stderr
    done = as_user(b, "--rootless", "false")
    assert done.returncode == 1 and "cgroup" in done.stderr, done
    assert not list(b.state.iterdir())


def test_rootless_limits_are_not_forgotten(t):
    b = rootless_bundle(t)
    b.linux["resources"]["pids"] = dict(limit=20)
    done = as_user(b)
    assert done.returncode == 1 and "linux.resources.pids" in done.stderr, done
    assert "administrator" in done.stderr and not list(b.state.iterdir()), done
