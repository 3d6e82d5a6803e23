"""A container in a container: what is allowed there is done, and what is not is said."""
import json
import os
import shutil

from harness.bundle import Bundle
from harness.case import Skip
from container.test_podman import Podman

USERS = ["CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]


class Nested(Bundle):
    """A bundle whose container runs doppel-oci on another one, which is in its root."""

    def __init__(self, t):
        super().__init__(t)
        if b"/ld-linux" in self.oci.read_bytes()[:4096]:
            raise Skip("this build of doppel-oci is not static, and there is no loader in there")
        shutil.copy(self.oci, self.rootfs / "bin/doppel-oci")
        self.config["root"]["readonly"] = False
        self.process["args"] = ["doppel-oci", "--root", "/tmp/state", "run", "--bundle", "/inner",
                                "inner"]
        self.process["rlimits"] = []
        self.inner = json.loads((self.path / "config.json").read_text())
        self.inner["process"].update(terminal=False, rlimits=[],
                                     args=["sh", "-c", "echo inside; id -u; echo $$"])
        self.inner["linux"].pop("resources")

    def grant(self, *caps):
        for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
            self.process["capabilities"][kind] = list(caps)

    def unmask(self):
        self.linux["maskedPaths"] = self.linux["readonlyPaths"] = []

    def forbid(self, *calls, why):
        self.linux["seccomp"] = dict(defaultAction="SCMP_ACT_ALLOW", syscalls=[
            dict(names=list(calls), action="SCMP_ACT_ERRNO", errnoRet=why)])

    def inner_users(self):
        self.inner["linux"]["namespaces"].append(dict(type="user"))
        for name in ("uidMappings", "gidMappings"):
            self.inner["linux"][name] = [dict(containerID=0, hostID=0, size=1)]

    def write(self):
        super().write()
        folder = self.rootfs / "inner"
        if not folder.exists():
            (folder / "rootfs/bin").mkdir(parents=True)
            for name in ("busybox", "sh", "id"):
                shutil.copy(self.rootfs / "bin/busybox", folder / "rootfs/bin" / name)
        (folder / "config.json").write_text(json.dumps(self.inner))
        for path in (self.t.tmp, self.path, self.rootfs, folder):
            os.chmod(path, 0o755)
        if [n for n in self.linux["namespaces"] if n["type"] == "user"]:
            for folder, _, files in os.walk(self.rootfs):
                for path in (folder, *(os.path.join(folder, name) for name in files)):
                    os.chown(path, 100000, 100000, follow_symlinks=False)

    def works(self):
        done = self.run()
        if "Function not implemented" in done.stderr or "cannot execute" in done.stderr:
            raise Skip(f"it can't be tried here: {done.stderr.strip()}")
        assert (done.returncode, done.stdout) == (0, "inside\n0\n1\n"), done
        self.expect_nothing_left()


def test_without_rights(t):
    Nested(t).refused("namespaces: refused", "CAP_SYS_ADMIN is missing", "can grant it",
                      "user namespace")


def test_with_the_right(t):
    b = Nested(t)
    b.grant("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_MKNOD", "CAP_CHOWN",
            "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE", "CAP_DAC_OVERRIDE")
    b.unmask()
    b.works()


def test_with_users_of_its_own(t):
    """No right over the host at all: both containers' users are nobody there."""
    b = Nested(t)
    b.own_users()
    b.grant("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_CHOWN", "CAP_KILL",
            "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE", "CAP_DAC_OVERRIDE")
    b.unmask()
    b.works()


def test_with_a_user_namespace_for_the_inner_one(t):
    b = Nested(t)
    b.grant(*USERS)
    b.unmask()
    b.inner_users()
    b.works()


def test_the_right_to_map_root(t):
    b = Nested(t)
    b.inner_users()
    b.refused("linux.uidMappings", "CAP_SETFCAP is missing", "can grant it")


def test_what_hides_parts_of_proc(t):
    b = Nested(t)
    b.grant(*USERS)
    b.inner_users()
    b.refused("mounts[0]: proc on /proc", "hidden", "can unmask")


def test_where_user_namespaces_are_refused(t):
    b = Nested(t)
    b.grant(*USERS)
    b.inner_users()
    b.forbid("clone3", "clone", "unshare", "setns", why=1)
    # The shell can't fork either, so doppel-oci is the container's program itself.
    b.refused("new user namespaces are not allowed", "seccomp profile")


def test_where_there_is_no_clone3(t):
    """Profiles of container engines say so, that programs use the call whose flags they can see."""
    b = Nested(t)
    b.grant("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_MKNOD", "CAP_KILL",
            "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE", "CAP_DAC_OVERRIDE", "CAP_CHOWN")
    b.unmask()
    b.forbid("clone3", why=38)
    b.works()


def test_where_calls_are_missing(t):
    for call in ("openat2", "move_mount"):
        b = Nested(t)
        b.grant("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID")
        b.unmask()
        b.forbid(call, why=38)
        b.refused("Function not implemented", "Linux 5.12", "seccomp profile", "can change it")
        shutil.rmtree(b.path)


def test_in_podman_s_container(t):
    """Unprivileged as podman's are: refused with the reason; with two things unlocked it works."""
    podman = Podman(t)
    try:
        b = Nested(t)
        b.inner_users()
        b.write()
        run = ["--rm", "--volume", f"{b.rootfs}:/it:Z", "--tmpfs", "/tmp/state"]
        command = ["bb", "/it/bin/doppel-oci", "--root", "/tmp/state", "run", "--bundle",
                   "/it/inner", "inner"]
        done = podman.raw("run", "--network", "none", *run, *command)
        assert done.returncode == 1 and "doppel-oci: " in done.stderr, done
        assert "can unmask" in done.stderr or "seccomp profile" in done.stderr, done.stderr
        out = podman.run(*run, "--security-opt", "unmask=ALL", "--security-opt",
                         "seccomp=unconfined", *command)
        assert out == "inside\n0\n1\n", out
    finally:
        podman.close()
