"""Debian's packages, unpacked and laid over each other without being installed: which file of which
package a path is, and what else a program needs to run."""
import os
import pathlib
import subprocess
import sys

# Folders at the root that have been links into /usr since Debian 12; packages still use both names.
MERGED = ("bin", "sbin", "lib", "lib64")
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64")


def merged(path):
    """A path inside the root, as it is after Debian's merge of /bin, /lib, ... into /usr."""
    path = os.path.normpath(path).lstrip("/")
    return "usr/" + path if path.split("/", 1)[0] in MERGED else path


class Packages:
    def __init__(self, source, folder, names):
        self.files = {}
        subprocess.run([str(source / "tools/fetch"), str(folder), *names], check=True,
                       stdout=sys.stderr)
        for name in names:
            self._add(folder / name)

    def _add(self, root):
        for folder, folders, files in os.walk(root):
            for name in files + [f for f in folders if (pathlib.Path(folder) / f).is_symlink()]:
                path = pathlib.Path(folder) / name
                self.files[merged(str(path.relative_to(root)))] = path

    def closure(self, paths):
        """Everything that these paths (files, or folders when they end in a slash) need: what links
        lead to, loaders, libraries. By path inside the root, where it is outside."""
        found = {}
        todo = []
        for path in map(str, paths):
            todo += ([f for f in self.files if f.startswith(path)] if path.endswith("/")
                     else [path])
        while todo:
            path = merged(todo.pop())
            if path in found:
                continue
            if path not in self.files:
                raise FileNotFoundError(f"/{path} is in none of the packages")
            file = found[path] = self.files[path]
            if file.is_symlink():
                todo.append(os.path.join("/", os.path.dirname(path), os.readlink(file)))
            else:
                todo += [self._library(n) for n in needed(file)]
        return found

    def _library(self, name):
        if name.startswith("/"):
            return merged(name)
        for folder in LIBRARIES:
            if f"{folder}/{name}" in self.files:
                return f"{folder}/{name}"
        raise FileNotFoundError(f"the library {name} is in none of the packages")


def needed(file):
    """The loader and the libraries that an ELF file asks for."""
    with open(file, "rb") as f:
        if f.read(4) != b"\x7fELF":
            return []
    out = subprocess.run(["readelf", "-W", "-l", "-d", str(file)], capture_output=True, text=True,
                         errors="replace", check=False).stdout
    names = []
    for line in out.splitlines():
        for start, end in (("(NEEDED)", "["), ("[Requesting program interpreter:", ":")):
            if start in line:
                names.append(line.split(end, 1)[1].strip(" ]"))
    return names
