"""Images for tests, made by hand so that they can be wrong, and `doppel container` to run them."""
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

from harness.case import PATIENCE, Skip, expect_refusal

FOLDER, LINK, HARD_LINK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
APPLETS = "cat echo env find id ls mkdir mv nc printf pwd rm sh sleep stat touch tty".split()
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def entry(name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o755, **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def layer(*entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def busybox_layer(t, *more):
    """A layer that a shell runs in."""
    busybox = t.guest("busybox-static/bin/busybox").read_bytes()
    return layer(entry("./", kind=FOLDER), entry("bin", kind=FOLDER),
                 entry("bin/busybox", busybox),
                 *[entry(f"bin/{name}", kind=LINK, link="busybox") for name in APPLETS],
                 entry("etc", kind=FOLDER),
                 entry("etc/passwd", b"root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:\n"),
                 entry("etc/group", b"root:x:0:\nstaff:x:50:bob\n"), *more)


class Image:
    """An OCI image layout in a folder; its documents can be changed before write()."""

    def __init__(self, path, *layers, pack=gzip.compress, **config):
        self.path = path
        self.blobs = path / "blobs/sha256"
        self.blobs.mkdir(parents=True)
        self.config = {"os": "linux", "architecture": ARCHITECTURES.get(os.uname().machine, ""),
                       "config": config,
                       "rootfs": {"type": "layers",
                                  "diff_ids": ["sha256:" + sha256(data) for data in layers]}}
        self.manifest = {"schemaVersion": 2, "layers": [self.put(pack(d)) for d in layers]}
        self.index = {"schemaVersion": 2, "manifests": []}

    def put(self, data):
        (self.blobs / sha256(data)).write_bytes(data)
        return {"mediaType": "application/octet-stream", "digest": "sha256:" + sha256(data),
                "size": len(data)}

    def write(self, **annotations):
        self.manifest["config"] = self.put(json.dumps(self.config).encode())
        manifest = self.put(json.dumps(self.manifest).encode())
        manifest["annotations"] = annotations
        self.index["manifests"].append(manifest)
        return self.write_index()

    def write_index(self):
        (self.path / "index.json").write_text(json.dumps(self.index))
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return self.path

    def archive(self, path, mode="w"):
        with tarfile.open(path, mode) as tar:
            tar.add(self.path, ".")
        return path


def docker_archive(path, *layers, tags=("test:latest",), **config):
    """What `docker save` writes."""
    text = json.dumps({"os": "linux", "architecture": ARCHITECTURES.get(os.uname().machine, ""),
                       "config": config,
                       "rootfs": {"diff_ids": ["sha256:" + sha256(d) for d in layers]}}).encode()
    names = [f"{sha256(data)}/layer.tar" for data in layers]
    manifest = [{"Config": sha256(text) + ".json", "RepoTags": list(tags), "Layers": names}]
    path.write_bytes(layer(entry(sha256(text) + ".json", text),
                           *[entry(name, data) for name, data in zip(names, layers)],
                           entry("manifest.json", json.dumps(manifest).encode())))
    return path


class Front:
    """`doppel container` with a state folder of its own."""

    def __init__(self, t, user=None):
        if not (t.build / "src/oci/doppel-oci").exists():
            raise Skip("doppel-oci is not built; its libraries are missing")
        if os.geteuid() != 0:
            raise Skip("needs root")
        self.t = t
        self.state = t.tmp / "containers"
        self.user = user
        if user:
            t.tmp.chmod(0o755)
            self.state.mkdir()
            os.chown(self.state, user, user)

    def arguments(self, command, *args):
        return ["container", command, "--root", self.state, *args]

    def __call__(self, command, *args, **options):
        if self.user:
            options.update(user=self.user, group=self.user, extra_groups=[], cwd="/")
        return self.t.run(*self.arguments(command, *args), **options)

    def output(self, command, *args, **options):
        done = self(command, *args, **options)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def sh(self, image, script, *options):
        return self.output("run", "--rm", *options, image, "--", "/bin/sh", "-c", script)

    def refuse(self, image, *texts, status=1):
        """The image is refused, and nothing is left of the attempt."""
        expect_refusal(self("run", "--rm", "--user", "0", image, "--", "/bin/true"), status,
                       *texts)
        for folder in ("containers", "layers"):
            left = [p for p in (self.state / folder).glob("*") if not p.name.isalnum()]
            assert not left, left
        assert not list((self.state / "containers").glob("*"))

    def close(self):
        self("rm", "--force", "--all")


def expect_no_mounts(path):
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        left = [line for line in mounts if str(path) in line]
    assert not left, left


def need(program):
    try:
        subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, check=True,
                       timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        raise Skip(f"{program} is not installed") from None
