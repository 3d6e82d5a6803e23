"""Images of every kind that is in use."""
import gzip
import json
import shutil
import subprocess
import tarfile

from harness.case import expect_refusal
from harness.images import (HARD_LINK, LINK, PATIENCE, FOLDER, Front, Image, busybox_layer,
                            docker_archive, entry, layer, need, sha256)

HELLO = ["/bin/sh", "-c", "echo hello"]


def test_layout_archives_plain_and_packed(t):
    f, image = Front(t), Image(t.tmp / "image", busybox_layer(t), Cmd=HELLO)
    image.write()
    for name, mode in (("image.tar", "w"), ("image.tar.gz", "w:gz")):
        assert f.output("run", "--rm", image.archive(t.tmp / name, mode)) == "hello\n"


def test_layers_plain_and_packed(t):
    def zstd(data):
        need("zstd")
        return subprocess.run(["zstd", "-q"], input=data, stdout=subprocess.PIPE, check=True,
                              timeout=PATIENCE).stdout

    def members(data):
        return gzip.compress(data[:1000]) + gzip.compress(data[1000:])

    for number, pack in enumerate((bytes, gzip.compress, members, zstd)):
        f = Front(t)
        f.state = t.tmp / f"state{number}"  # so that the layer is not there already
        path = Image(t.tmp / f"image{number}", busybox_layer(t), pack=pack, Cmd=HELLO).write()
        assert f.output("run", "--rm", path) == "hello\n"


def test_docker_archive(t):
    path = docker_archive(t.tmp / "image.tar", busybox_layer(t), layer(entry("file", b"two\n")),
                          Cmd=["/bin/cat", "/file"])
    assert Front(t).output("run", "--rm", path) == "two\n"


def test_docker_archive_of_several_images(t):
    path = t.tmp / "image.tar"
    docker_archive(path, busybox_layer(t), Cmd=HELLO)
    with tarfile.open(path) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    manifest = json.loads(members["manifest.json"])
    manifest.append(dict(manifest[0], RepoTags=["other:1"]))
    members["manifest.json"] = json.dumps(manifest).encode()
    path.write_bytes(layer(*[entry(name, data) for name, data in members.items()]))
    f = Front(t)
    expect_refusal(f("run", "--rm", path), 1, "--image")
    expect_refusal(f("run", "--rm", "--image", "third", path), 1, "third")
    assert f.output("run", "--rm", "--image", "other:1", path) == "hello\n"


def test_layout_of_several_images(t):
    image = Image(t.tmp / "image", busybox_layer(t), Cmd=HELLO)
    image.write(**{"org.opencontainers.image.ref.name": "docker.io/one:1"})
    image.config["config"]["Cmd"] = ["/bin/echo", "two"]
    path = image.write(**{"org.opencontainers.image.ref.name": "two"})
    f = Front(t)
    expect_refusal(f("run", "--rm", path), 1, "--image", "one:1", "two")
    assert f.output("run", "--rm", "--image", "one:1", path) == "hello\n"
    assert f.output("run", "--rm", "--image", "two", path) == "two\n"


def test_index_of_several_platforms(t):
    image = Image(t.tmp / "image", busybox_layer(t), Cmd=HELLO)
    image.write()
    mine = dict(image.index["manifests"][0],
                platform={"os": "linux", "architecture": image.config["architecture"]})
    other = dict(image.put(b"{}"), platform={"os": "linux", "architecture": "s390x"})
    image.index["manifests"] = [
        image.put(json.dumps({"schemaVersion": 2, "manifests": [other, mine]}).encode())]
    assert Front(t).output("run", "--rm", image.write_index()) == "hello\n"
    image.index["manifests"] = [
        image.put(json.dumps({"schemaVersion": 2, "manifests": [other]}).encode())]
    expect_refusal(Front(t)("run", "--rm", image.write_index()), 1, "linux/")


def test_everything_that_a_layer_holds(t):
    """Owners, modes, times, links, long names, names that are no text, GNU tar's forms."""
    long = "/".join(["a" * 100] * 5) + "/" + "b" * 200
    for number, form in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        path = Image(t.tmp / f"image{number}", layer(
            entry("file", b"x" * 10, mode=0o4751, uid=12, gid=34, mtime=1000),
            entry("hard", kind=HARD_LINK, link="file"),
            entry("soft", kind=LINK, link="../../file", uid=56),
            entry("pipe", kind=tarfile.FIFOTYPE, mode=0o600),
            entry("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            entry("closed", kind=FOLDER, mode=0, mtime=2000), entry("closed/in", b"in"),
            entry(long, b"long"), form=form), busybox_layer(t)).write()
        out = Front(t).sh(path, "for f in file hard soft pipe null closed; do "
                          f"stat -c '%n %a %u:%g %h %Y %F' $f; done; cat /{long} closed/in; "
                          "cat soft")
        lines = out.splitlines()
        assert lines[0] == "file 4751 12:34 2 1000 regular file", lines
        assert lines[1] == "hard 4751 12:34 2 1000 regular file", lines
        assert lines[2].startswith("soft 777 56:0 1") and lines[2].endswith("symbolic link"), lines
        assert lines[3].startswith("pipe 600") and lines[3].endswith("fifo"), lines
        assert lines[4].startswith("null 666") and "character special" in lines[4], lines
        assert lines[5].startswith("closed 0 0:0") and " 2000 directory" in lines[5], lines
        assert lines[-1] == "longin" + "x" * 10, lines


def test_sparse_files(t):
    need("tar")
    source = t.tmp / "source"
    source.mkdir()
    with open(source / "holes", "wb") as file:
        for at in range(0, 40):
            file.seek(at << 20)
            file.write(b"data%02d" % at)
        file.truncate(1 << 26)
    for number, options in enumerate((["--format=gnu"], ["--format=pax"],
                                      ["--format=pax", "--sparse-version=0.0"],
                                      ["--format=pax", "--sparse-version=0.1"])):
        data = subprocess.run(["tar", "-cS", *options, "-C", source, "holes"], check=True,
                              stdout=subprocess.PIPE, timeout=PATIENCE).stdout
        assert len(data) < 1 << 20
        f = Front(t)
        f.state = t.tmp / f"state{number}"
        path = Image(t.tmp / f"image{number}", data, busybox_layer(t)).write()
        f.output("run", "--name", "one", path, "--", "/bin/echo")
        copy = f.state / "layers" / sha256(data) / "files/holes"
        assert copy.read_bytes() == (source / "holes").read_bytes(), options
        assert copy.stat().st_blocks < 1 << 11, options


def test_whiteouts_over_three_layers(t):
    path = Image(t.tmp / "image",
                 busybox_layer(t, entry("a", kind=FOLDER), entry("a/one"), entry("a/two"),
                               entry("b", kind=FOLDER), entry("b/x")),
                 layer(entry("a/.wh.one"), entry(".wh.b"), entry(".wh..wh.plnk/1.2")),
                 layer(entry("a/one", b"back"), entry("b", kind=FOLDER), entry("b/new"))).write()
    f = Front(t)
    for options in ([], ["--copy"]):
        out = f.sh(path, "find /a /b; cat /a/one; ls -a / | while read f; do "
                   "case $f in .wh*) echo $f;; esac; done", *options)
        assert sorted(out.split()) == sorted("/a /a/one /a/two /b /b/new back".split()), out


def test_layers_are_shared_and_kept_once(t):
    base = busybox_layer(t)
    f = Front(t)
    for number in range(3):
        top = layer(entry("number", b"%d\n" % number))
        path = Image(t.tmp / f"image{number}", base, top).write()
        assert f.sh(path, "cat /number") == f"{number}\n"
    assert len(list((f.state / "layers").iterdir())) == 4
    assert (f.state / "layers" / sha256(base)).is_dir()


def test_many_layers(t):
    layers = [layer(entry(f"f/{n}")) for n in range(120)]
    path = Image(t.tmp / "image", busybox_layer(t), *layers).write()
    assert Front(t).sh(path, "set -- /f/*; echo $#") == "120\n"


def test_an_image_that_podman_made(t):
    for program in ("podman", "buildah"):
        need(program)
    work, store = t.tmp / "work", ["--root", t.tmp / "graph", "--runroot", t.tmp / "run",
                                   "--storage-driver", "vfs"]
    work.mkdir()
    shutil.copy(t.guest("busybox-static/bin/busybox"), work / "sh")
    (work / "Containerfile").write_text(
        'FROM scratch\nCOPY sh /bin/sh\nENV WHO=world\nCOPY Containerfile /etc/recipe\n'
        'CMD ["/bin/sh", "-c", "echo hello $WHO"]\n')
    subprocess.run(["buildah", *store, "bud", "-q", "--isolation", "chroot", "-t", "made", work],
                   check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    f = Front(t)
    for number, form in enumerate(("docker-archive", "oci-archive")):
        path = t.tmp / f"{number}.tar"
        subprocess.run(["podman", *store, "save", "-q", "--format", form, "-o", path, "made"],
                       check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
        assert f.output("run", "--rm", path) == "hello world\n", form
