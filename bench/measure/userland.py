"""The workloads' guest: programs of Debian's archive with the libraries that they need, our own few,
and their input, as a folder to chroot into and as an initramfs. No disk is needed for it."""
import os
import pathlib
import shutil
import stat
import subprocess

from measure.inputs import Inputs
from measure.packages import MERGED, Packages

BASE = (("dash", "coreutils", "libc6", "libacl1", "libattr1", "libselinux1", "libpcre2-8-0",
         "libgmp10", "libssl3", "busybox-static"),
        ("usr/bin/dash", *(f"usr/bin/{name}" for name in (
            "cat", "cut", "dd", "rm", "sha256sum", "sleep", "sort", "true", "uniq", "wc", "busybox"))))

GCC = "usr/lib/gcc/x86_64-linux-gnu/12"
MULTIARCH = "usr/lib/x86_64-linux-gnu"

# By the word after "needs" in a workload: packages, and the files of them.
NEEDS = {
    "gcc": (("gcc-12", "cpp-12", "binutils", "binutils-x86-64-linux-gnu", "libbinutils", "libctf0",
             "libctf-nobfd0", "libisl23", "libmpc3", "libmpfr6", "libzstd1", "zlib1g",
             "libjansson4", "libc6-dev", "libgcc-12-dev", "libgcc-s1"),
            ("usr/bin/gcc-12", "usr/bin/as", "usr/bin/ld", "usr/include/stdc-predef.h",
             *(f"{GCC}/{name}" for name in (
                 "cc1", "collect2", "liblto_plugin.so", "lto-wrapper", "crtbegin.o", "crtbeginS.o",
                 "crtend.o", "crtendS.o", "libgcc.a", "libgcc_s.so")),
             *(f"{MULTIARCH}/{name}" for name in (
                 "crti.o", "crtn.o", "Scrt1.o", "libc.so", "libc_nonshared.a", "libgcc_s.so.1")))),
    "python3": (("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libexpat1",
                 "zlib1g"),
                ("usr/bin/python3.11", "usr/lib/python3.11/encodings/",
                 *(f"usr/lib/python3.11/{name}.py" for name in (
                     "abc", "codecs", "io", "os", "stat", "posixpath", "genericpath", "site",
                     "_collections_abc", "_sitebuiltins", "contextlib", "warnings", "types")))),
    "lua5.4": (("lua5.4", "libreadline8", "libtinfo6"), ("usr/bin/lua5.4",)),
    "zstd": (("zstd", "libzstd1", "liblz4-1", "liblzma5", "zlib1g", "libgcc-s1", "libstdc++6"),
             ("usr/bin/zstd",)),
    "7zr": (("p7zip", "libstdc++6", "libgcc-s1"), ("usr/lib/p7zip/7zr",)),
    "openssl": (("openssl", "libssl3"), ("usr/bin/openssl",)),
    "sqlite3": (("sqlite3", "libsqlite3-0", "libreadline8", "libtinfo6", "zlib1g"),
                ("usr/bin/sqlite3",)),
    "bash": (("bash", "libtinfo6"), ("usr/bin/bash",)),
}

LINKS = {"usr/bin/sh": "dash", "usr/bin/gcc": "gcc-12", "usr/bin/7zr": "../lib/p7zip/7zr"}
# Ours, of bench/guest: a file, or a folder of them.
PROGRAMS = ("runner", "spawn", "nothing", "faults", "float", "null", "job-pair", "soak")
FOLDERS = ("bench", "dev", "proc", "root", "sys", "tmp", "etc")


class Workload:
    """One script of bench/workloads. Its head says what it is: "#: KIND TITLE", and perhaps
    "#: needs PROGRAM...". KIND is computing, system, or figure (it prints its own)."""

    def __init__(self, path):
        self.path, self.name, self.needs = path, path.name, ()
        with open(path, encoding="ascii") as f:
            heads = [line[2:].split(None, 1) for line in f if line.startswith("#:")]
        self.kind, self.title = heads[0][0], heads[0][1].strip()
        for word, rest in heads[1:]:
            if word == "needs":
                self.needs = tuple(rest.split())


def find_workloads(source):
    return {p.name: Workload(p) for p in sorted((source / "bench/workloads").iterdir())
            if p.name != "README.md"}


class Userland:
    def __init__(self, source, build, scale):
        self.scale = scale
        self.source = source
        self.folder = build / "bench" / "userland"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.workloads = find_workloads(source)
        names = dict.fromkeys(p for packages, _ in (BASE, *NEEDS.values()) for p in packages)
        self.packages = Packages(source, build / "guests", names)
        self.programs = self._compile()
        self.inputs = Inputs(self.folder / f"scale-{scale}", scale, self._openssl(),
                             self.programs["bench/bin/float"])

    def _compile(self):
        """Static, so that they run on the host, in the guest, and with nothing beside them."""
        found = {}
        for name in PROGRAMS:
            out = self.folder / "bin" / name
            guest = self.source / "bench/guest"
            sources = sorted((guest / name).glob("*.[ch]")) or [guest / f"{name}.c"]
            out.parent.mkdir(exist_ok=True)
            if not out.exists() or any(out.stat().st_mtime < s.stat().st_mtime for s in sources):
                subprocess.run(["gcc", "-O2", "-static", "-s", "-Wall", "-pthread", "-o", str(out),
                                *(str(s) for s in sources if s.suffix == ".c"), "-lm"], check=True)
            found[f"bench/bin/{name}"] = out
        return found

    def _openssl(self):
        """The archive's openssl, run on the host where it lies."""
        files = self.packages.closure(["usr/bin/openssl"])
        loader = files["usr/lib64/ld-linux-x86-64.so.2"].resolve()
        if not loader.exists():
            loader = next(f for p, f in files.items()
                          if p.endswith("ld-linux-x86-64.so.2") and not f.is_symlink())
        folders = ":".join(dict.fromkeys(str(f.parent) for p, f in files.items() if ".so" in p))
        return [str(loader), "--library-path", folders, str(files["usr/bin/openssl"])]

    def _files(self, names):
        """All files for these workloads: where they are, by where they shall be."""
        workloads = [self.workloads[name] for name in names]
        wanted = list(BASE[1])
        for need in dict.fromkeys(n for w in workloads for n in w.needs):
            wanted += NEEDS[need][1]
        files = self.packages.closure(wanted)
        files.update(self.programs)
        for w in workloads:
            files[f"bench/workloads/{w.name}"] = w.path
        for kind in (self.inputs.data, self.inputs.expected):
            files.update((f"bench/{kind.name}/{f.name}", f) for f in kind.iterdir())
        return files

    def _links(self, files):
        links = {name: f"usr/{name}" for name in MERGED}
        links.update((p, os.readlink(f)) for p, f in files.items() if f.is_symlink())
        links.update((p, to) for p, to in LINKS.items()
                     if os.path.normpath(os.path.join(os.path.dirname(p), to)) in files)
        links["init"] = "bench/bin/runner"
        return links

    def initramfs(self, names=()):
        """For these workloads, or all. Not compressed: unpacking would take a guest longer than
        the copy."""
        names = sorted(names or self.workloads)
        files = self._files(names)
        out = self.folder / f"initramfs-{os.getpid()}"
        with open(out, "wb") as f:
            archive = Archive(f)
            archive.tree(files, self._links(files))
        final = self.folder / "initramfs"
        os.rename(out, final)
        return final

    def tree(self):
        """The same as a folder, for the host itself."""
        files = self._files(self.workloads)
        root = self.folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)
        links = self._links(files)
        for path, file in files.items():
            if path not in links:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, root / path)
        for path, to in links.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(to)
        return root


class Archive:
    """A cpio archive in the kernel's "newc" form, written as it comes."""

    def __init__(self, file):
        self.file = file
        self.inode = 0
        self.folders = set()

    def add(self, name, mode, data=b"", rdev=(0, 0)):
        self.inode += 1
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        self.file.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    def folder(self, name):
        if name and name not in self.folders:
            self.folder(os.path.dirname(name))
            self.folders.add(name)
            self.add(name, stat.S_IFDIR | 0o755)

    def tree(self, files, links):
        for name in FOLDERS:
            self.folder(name)
        self.add("dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
        for path, file in files.items():
            if path not in links:
                self.folder(os.path.dirname(path))
                mode = 0o755 if os.access(file, os.X_OK) else 0o644
                self.add(path, stat.S_IFREG | mode, pathlib.Path(file).read_bytes())
        for path, to in links.items():
            self.folder(os.path.dirname(path))
            self.add(path, stat.S_IFLNK | 0o777, to.encode())
        self.add("TRAILER!!!", 0)
