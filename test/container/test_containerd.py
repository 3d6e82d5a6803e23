"""containerd's own client, with its runc shim pointed at doppel-oci."""
import json
import os
import shutil
import subprocess
import time
import uuid

from harness.bundle import cgroups_named
from harness.case import Skip
from harness.images import Image, busybox_layer

PATIENCE = 120


class Containerd:
    """A containerd with folders of its own, and an image made of busybox."""

    def __init__(self, t):
        self.oci = t.build / "src/oci/doppel-oci"
        for program in ("containerd", "ctr", "containerd-shim-runc-v2"):
            if not shutil.which(program):
                raise Skip(f"{program} is not installed")
        if not self.oci.exists():
            raise Skip("doppel-oci is not built; its libraries are missing")
        if os.geteuid() != 0:
            raise Skip("needs root")
        self.t = t
        self.id = "test-" + uuid.uuid4().hex[:12]
        # Sockets' paths are short.
        self.folder = f"/tmp/{self.id}"
        os.mkdir(self.folder, 0o711)
        self.start()

    def start(self):
        config = f"{self.folder}/config.toml"
        with open(config, "w") as file:
            file.write(f'version = 2\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
                       'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                       f'[grpc]\naddress = "{self.folder}/sock"\n')
        self.log = open(f"{self.folder}/log", "wb")
        self.process = subprocess.Popen(["containerd", "--config", config],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        for _ in range(600):
            if self.raw("version").returncode == 0:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.close()
        raise Skip("containerd does not start here")

    def raw(self, *args):
        return subprocess.run(["ctr", "--address", f"{self.folder}/sock", *map(str, args)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE)

    def __call__(self, *args, status=0):
        done = self.raw(*args)
        assert done.returncode == status, f"ctr {args}: {done}"
        return done.stdout

    def run(self, *args, **options):
        return self("run", "--runc-binary", self.oci, *args, **options)

    def close(self):
        for name in self.raw("task", "ls", "-q").stdout.split():
            self.raw("task", "rm", "--force", name)
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def with_containerd(check):
    def test(t):
        ctr = Containerd(t)
        try:
            import_image(ctr)
            check(ctr)
        finally:
            ctr.close()
    test.__name__ = check.__name__
    return test


MEDIA = "application/vnd.oci.image."


def import_image(ctr):
    """containerd, other than doppel, goes by what documents say that they are."""
    image = Image(ctr.t.tmp / "layout", busybox_layer(ctr.t), Cmd=["sh"], Env=["PATH=/bin"])
    image.manifest["mediaType"] = MEDIA + "manifest.v1+json"
    for layer in image.manifest["layers"]:
        layer["mediaType"] = MEDIA + "layer.v1.tar+gzip"
    image.manifest["config"] = dict(image.put(json.dumps(image.config).encode()),
                                    mediaType=MEDIA + "config.v1+json")
    manifest = image.put(json.dumps(image.manifest).encode())
    image.index["manifests"] = [dict(manifest, mediaType=MEDIA + "manifest.v1+json", annotations={
        "io.containerd.image.name": "docker.io/library/bb:latest",
        "org.opencontainers.image.ref.name": "latest"})]
    image.write_index()
    archive = image.archive(ctr.t.tmp / "layout.tar")
    done = ctr.raw("image", "import", "--snapshotter", "native", archive)
    if done.returncode:
        raise Skip(f"containerd can't keep images here: {done.stderr.strip()[-200:]}")


def start(ctr, name, *command):
    ctr.run("--detach", "--snapshotter", "native", IMAGE, name, *command)


IMAGE = "docker.io/library/bb:latest"


@with_containerd
def test_run(ctr):
    run = ("--rm", "--snapshotter", "native")
    assert ctr.run(*run, IMAGE, ctr.id, "echo", "hello") == "hello\n"
    ctr.run(*run, IMAGE, ctr.id, "sh", "-c", "exit 7", status=7)
    out = ctr.run(*run, "--memory-limit", str(64 << 20), "--env", "A=b", "--read-only", "--cwd",
                  "/etc", "--seccomp", IMAGE, ctr.id, "sh", "-c",
                  "echo $A; pwd; touch /x || echo refused")
    assert out == "b\n/etc\nrefused\n", out
    assert not cgroups_named(ctr.id), "left cgroups"


@with_containerd
def test_run_a_folder(ctr):
    root = ctr.t.tmp / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(ctr.t.guest("busybox-static/bin/busybox"), root / "bin/busybox")
    assert ctr.run("--rm", "--rootfs", root, ctr.id, "/bin/busybox", "echo", "in") == "in\n"


@with_containerd
def test_life(ctr):
    start(ctr, ctr.id, "sleep", "1000")
    assert "RUNNING" in ctr("task", "ls")
    assert ctr("task", "exec", "--exec-id", "x", ctr.id, "echo", "inside") == "inside\n"
    ctr("task", "exec", "--exec-id", "y", ctr.id, "sh", "-c", "exit 5", status=5)
    ctr("task", "pause", ctr.id)
    assert "PAUSED" in ctr("task", "ls")
    ctr("task", "resume", ctr.id)
    assert "RUNNING" in ctr("task", "ls")
    assert len(ctr("task", "ps", ctr.id).splitlines()) == 2
    assert "memory" in ctr("task", "metrics", ctr.id)
    ctr("task", "kill", "--signal", "SIGKILL", ctr.id)
    for _ in range(600):
        if "STOPPED" in ctr("task", "ls"):
            break
        time.sleep(0.1)
    ctr.raw("task", "rm", ctr.id)  # its status is the container's
    assert ctr.id not in ctr("task", "ls")
    ctr("container", "rm", ctr.id)
    assert not cgroups_named(ctr.id), "left cgroups"


@with_containerd
def test_a_program_that_is_not_there(ctr):
    done = ctr.raw("run", "--rm", "--runc-binary", ctr.oci, "--snapshotter", "native", IMAGE,
                   ctr.id, "no-such-program")
    assert done.returncode != 0 and "executable file not found" in done.stderr, done
    assert not cgroups_named(ctr.id), "left cgroups"
