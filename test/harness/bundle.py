"""OCI bundles for tests: a root made of busybox, a config.json to change, and doppel-oci."""
import json
import os
import pathlib
import shutil
import subprocess
import uuid

from harness.case import Skip

PATIENCE = 60
APPLETS = ("cat chmod chroot cut date dd echo env false grep head hostname id kill ln ls mkdir mknod "
           "mount nproc ps pwd readlink rm sh sleep stat stty sync test touch true tty umount "
           "uname wc").split()


class Bundle:
    def __init__(self, t, args=("true",)):
        self.t = t
        self.oci = t.build / "src/oci/doppel-oci"
        if not self.oci.exists():
            raise Skip("doppel-oci is not built; its libraries are missing")
        if os.geteuid() != 0:
            raise Skip("needs root")
        self.path = t.tmp / "bundle"
        self.rootfs = self.path / "rootfs"
        self.state = t.tmp / "state"
        self.id = "test-" + uuid.uuid4().hex[:12]
        self.make_root(t)
        self.config = self.spec()
        self.process["terminal"] = False
        self.process["args"] = list(args)
        self.process["env"].append("HOME=/")
        t.cleanups.append(self.clean_up)

    def clean_up(self):
        """What a test that fails leaves behind."""
        for folder in list(self.state.iterdir()) if self.state.exists() else []:
            self.command("delete", "--force", folder.name)

    def make_root(self, t):
        busybox = t.guest("busybox-static/bin/busybox")
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "mnt"):
            (self.rootfs / name).mkdir(parents=True)
        shutil.copy(busybox, self.rootfs / "bin/busybox")
        for name in APPLETS:
            (self.rootfs / "bin" / name).symlink_to("busybox")

    def spec(self):
        self.command("spec", "--bundle", self.path, check=True)
        return json.loads((self.path / "config.json").read_text())

    @property
    def process(self):
        return self.config["process"]

    @property
    def linux(self):
        return self.config["linux"]

    def sh(self, script):
        self.process["args"] = ["sh", "-c", script]
        return self

    def write(self):
        (self.path / "config.json").write_text(json.dumps(self.config))

    def mount(self, destination, **more):
        self.config["mounts"].append(dict(destination=destination, **more))

    def add_namespace(self, kind, **more):
        self.linux["namespaces"].append(dict(type=kind, **more))

    def drop_namespace(self, kind):
        kept = [n for n in self.linux["namespaces"] if n["type"] != kind]
        self.linux["namespaces"] = kept

    def own_users(self, outside=100000, size=65536):
        """A user namespace whose ids are the host's from outside on."""
        self.add_namespace("user")
        for name in ("uidMappings", "gidMappings"):
            self.linux[name] = [dict(containerID=0, hostID=outside, size=size)]
        for path in (self.t.tmp, self.path, self.rootfs):
            os.chmod(path, 0o755)

    # ---- commands ----

    def command(self, *args, check=False, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("timeout", PATIENCE)
        done = subprocess.run([str(self.oci), "--root", str(self.state), *map(str, args)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        assert not check or done.returncode == 0, done.stderr
        return done

    def run(self, *args, **options):
        self.write()
        return self.command("run", "--bundle", self.path, *args, self.id, **options)

    def output(self, script):
        """What a shell script prints inside; it must succeed."""
        done = self.sh(script).run()
        assert done.returncode == 0, f"status {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def create(self, *args, **options):
        self.write()
        # What the container inherits must not be a pipe that we wait on.
        options.setdefault("check", True)
        return self.quiet("create", "--bundle", self.path, *args, self.id, **options)

    def quiet(self, *args, check=False, **options):
        """For commands that leave processes behind: their output goes to a file."""
        log = self.t.tmp / "output"
        with open(log, "w+") as file:
            done = subprocess.run([str(self.oci), "--root", str(self.state), *map(str, args)],
                                  stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                  timeout=PATIENCE, **options)
        done.stdout = done.stderr = log.read_text()
        assert not check or done.returncode == 0, done.stderr
        return done

    def start(self):
        self.command("start", self.id, check=True)

    def status(self):
        done = self.command("state", self.id)
        return json.loads(done.stdout)["status"] if done.returncode == 0 else None

    def pid(self):
        return json.loads(self.command("state", self.id, check=True).stdout)["pid"]

    def delete(self):
        self.command("delete", "--force", self.id, check=True)
        self.expect_nothing_left()

    # ---- what must hold ----

    def refused(self, *texts, status=1):
        """run fails with one line that holds the texts."""
        done = self.run()
        assert done.returncode == status, f"status {done.returncode}: {done.stdout}{done.stderr}"
        line = done.stderr
        assert line.startswith("doppel-oci: ") and line.count("\n") == 1, line
        for text in texts:
            assert text in line, f"{text!r} is not in {line!r}"
        self.expect_nothing_left()

    def expect_nothing_left(self):
        left = list(self.state.iterdir()) if self.state.exists() else []
        assert not left, f"left in the state folder: {left}"
        groups = cgroups_named(self.id)
        assert not groups, f"left cgroups: {groups}"
        mounts = pathlib.Path("/proc/self/mountinfo").read_text()
        assert str(self.rootfs) not in mounts, "left mounts"


def cgroups_named(name):
    return [folder for folder, names, _ in os.walk("/sys/fs/cgroup")
            if os.path.basename(folder) == name]


__all__ = ["Bundle", "cgroups_named"]
