"""Images that try to reach the host, or are not what they say: one line, and nothing left."""
import gzip
import json
import os
import tarfile

from harness.case import expect_refusal
from harness.images import (FOLDER, HARD_LINK, LINK, Front, Image, busybox_layer, docker_archive,
                            entry, layer, sha256)


def refuse(t, *entries, text):
    """A layer with these entries is refused."""
    Front(t).refuse(Image(t.tmp / "image", layer(*entries)).write(), text)


def keep_inside(t, *entries):
    """A layer with these entries is unpacked, and nothing appears beside it: both ways."""
    outside = t.tmp / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "victim").write_text("whole")
    path = Image(t.tmp / "image", busybox_layer(t), layer(*entries)).write()
    f = Front(t)
    for options in ([], ["--copy"]):
        f.sh(path, "true", *options)
    f.output("prune")
    assert os.listdir(outside) == ["victim"] and (outside / "victim").read_text() == "whole"


def test_names_that_go_up(t):
    refuse(t, entry("../up", b"x"), text="..")


def test_names_that_go_up_from_inside(t):
    refuse(t, entry("a/../../up", b"x"), text="..")


def test_absolute_names_stay_inside(t):
    keep_inside(t, entry(f"{t.tmp}/outside/file", b"x"))


def test_writing_through_a_symbolic_link(t):
    keep_inside(t, entry("out", kind=LINK, link=str(t.tmp / "outside")), entry("out/file", b"x"),
                entry("out/folder", kind=FOLDER), entry("out/victim", b"x"))


def test_writing_through_a_link_that_goes_up(t):
    keep_inside(t, entry("out", kind=LINK, link="../" * 40 + str(t.tmp / "outside").lstrip("/")),
                entry("out/file", b"x"))


def test_writing_over_a_symbolic_link(t):
    keep_inside(t, entry("out", kind=LINK, link=str(t.tmp / "outside/victim")), entry("out", b"x"))


def test_changing_modes_and_owners_through_a_link(t):
    keep_inside(t, entry("d", kind=FOLDER), entry("d", kind=LINK, link=str(t.tmp / "outside")),
                entry("d", kind=FOLDER, mode=0o777, uid=99))
    assert (t.tmp / "outside").stat().st_uid == 0


def test_hard_links_to_the_outside(t):
    for target in (str(t.tmp / "outside/victim"), "/etc/passwd"):
        f = Front(t)
        image = Image(t.tmp / ("image" + sha256(target.encode())[:5]),
                      layer(entry("hard", kind=HARD_LINK, link=target)))
        f.refuse(image.write(), "hard link")
    refuse(t, entry("hard", kind=HARD_LINK, link="../../etc/passwd"), text="..")


def test_hard_link_through_a_symbolic_link(t):
    (t.tmp / "outside").mkdir()
    (t.tmp / "outside/victim").write_text("whole")
    refuse(t, entry("out", kind=LINK, link=str(t.tmp / "outside")),
           entry("hard", kind=HARD_LINK, link="out/victim"), text="hard link")


def test_whiteouts_of_nothing(t):
    for number, name in enumerate((".wh.", ".wh..", "d/.wh...")):
        f = Front(t)
        f.refuse(Image(t.tmp / f"image{number}", layer(entry("d", kind=FOLDER), entry(name))).write(),
                 "whiteout")


def test_whiteouts_through_a_link(t):
    keep_inside(t, entry("out", kind=LINK, link=str(t.tmp / "outside")),
                entry("out/.wh.victim"), entry("out/.wh..wh..opq"))


def test_overlayfs_marks_in_a_layer(t):
    """A device 0:0 is overlayfs's whiteout; its attributes could name other folders."""
    refuse(t, entry("mark", kind=tarfile.CHRTYPE), text="0:0")


def test_overlayfs_attributes_in_a_layer(t):
    headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc",
               "SCHILY.xattr.trusted.overlay.opaque": "y",
               "SCHILY.xattr.user.overlay.redirect": "/etc", "SCHILY.xattr.user.kept": "yes"}
    data = layer(entry("d", kind=FOLDER, pax_headers=headers))
    f = Front(t)
    f.sh(Image(t.tmp / "image", busybox_layer(t), data).write(), "true")
    path = f.state / "layers" / sha256(data) / "files/d"
    assert set(os.listxattr(path)) <= {"user.kept"}, os.listxattr(path)


def test_huge_names(t):
    refuse(t, entry("a/" + "b" * 300, b"x"), text="longer than 255")


def test_huge_paths(t):
    refuse(t, entry("/".join(["a" * 200] * 30), b"x"), text="too long")


def test_deep_nesting(t):
    keep_inside(t, entry("/".join(["a"] * 2000), b"x"))


def test_a_deep_tree_is_removed_again(t):
    """Deeper than any name is long, and than descriptors can be open."""
    script = ("cd /tmp; i=0; while [ $i -lt 60 ]; do mkdir -p $(printf 'a/%.0s' $DEEP); "
              "mkdir b; mv a b/a 2>/dev/null; mv b a; i=$((i+1)); done; echo made")
    f = Front(t)
    done = f("run", "--rm", "-e", "DEEP=" + " ".join(["1"] * 100),
             Image(t.tmp / "image", busybox_layer(t, entry("tmp", kind=FOLDER))).write(), "--",
             "/bin/sh", "-c", script)
    assert b"made" in done.stdout, done
    assert not list((f.state / "containers").iterdir())


def test_folders_that_cannot_be_replaced(t):
    refuse(t, entry("./", b"x"), text="root")


def test_a_layer_that_is_not_what_its_digest_says(t):
    image = Image(t.tmp / "image", layer(entry("a", b"x")))
    path = image.write()
    blob = image.blobs / image.manifest["layers"][0]["digest"][7:]
    blob.write_bytes(blob.read_bytes()[:-8] + bytes(8))  # gzip's own check fails
    Front(t).refuse(path, "damaged")
    other = gzip.compress(layer(entry("b", b"y")))
    blob.write_bytes(other)
    Front(t).refuse(path, "damaged")


def test_same_size_but_another_digest(t):
    image = Image(t.tmp / "image", layer(entry("a", b"x")), pack=bytes)
    blob = image.blobs / image.manifest["layers"][0]["digest"][7:]
    data = blob.read_bytes()
    blob.write_bytes(data[:512] + b"y" + data[513:])
    Front(t).refuse(image.write(), "digest sha256:", "damaged")


def test_a_diff_id_that_is_wrong(t):
    image = Image(t.tmp / "image", layer(entry("a", b"x")))
    image.config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
    Front(t).refuse(image.write(), "diff_ids")


def test_documents_that_are_not_what_their_digests_say(t):
    image = Image(t.tmp / "image", layer(entry("a", b"x")))
    path = image.write()
    name = image.manifest["config"]["digest"][7:]
    data = (image.blobs / name).read_bytes()
    (image.blobs / name).write_bytes(data.replace(b"linux", b"linus"))
    Front(t).refuse(path, "digest", "damaged")


def test_docker_configuration_that_is_not_what_its_name_says(t):
    path = docker_archive(t.tmp / "image.tar", layer(entry("a", b"x")))
    path.write_bytes(path.read_bytes().replace(b'"os": "linux"', b'"os": "linus"'))
    Front(t).refuse(path, "digest")


def test_archives_that_are_cut_off(t):
    image = Image(t.tmp / "image", busybox_layer(t))
    image.write()
    whole = image.archive(t.tmp / "whole.tar").read_bytes()
    packed = gzip.compress(whole, 1)
    for number, data in enumerate((whole[:100000], whole[:1000], whole[:700], packed[:5000],
                                   packed[:-4], b"", b"\x1f\x8b")):
        path = t.file(f"cut{number}.tar", data)
        Front(t).refuse(path, str(path))


def test_layers_that_are_cut_off(t):
    data = layer(entry("a", b"x" * 5000))
    for number, part in enumerate((data[:700], data[:512 + 1024])):
        image = Image(t.tmp / f"image{number}", part, pack=bytes)
        Front(t).refuse(image.write(), "too soon")


def test_headers_that_are_wrong(t):
    good = layer(entry("a", b"x"))
    for number, (at, value, fitting) in enumerate((
            (0, b"z", False), (148, b"7", False), (124, b"9", True), (124, b"\xff" * 12, True),
            (124, b"\x80" + b"\xff" * 11, True), (108, b"\xff" * 8, True), (156, b"S", True))):
        data = good[:at] + value + good[at + len(value):]
        if fitting:  # the checksum holds
            total = sum(data[:148]) + 8 * 32 + sum(data[156:512])
            data = data[:148] + b"%06o\0 " % total + data[156:]
        Front(t).refuse(Image(t.tmp / f"image{number}", data).write(), "tar archive")


def test_pax_records_that_are_wrong(t):
    for number, (key, value) in enumerate((("size", "99999999999999999999"), ("size", "-1"),
                                           ("mtime", "soon"), ("uid", "4294967295"),
                                           ("path", "x" * 5000), ("GNU.sparse.map", "5,4,1"),
                                           ("GNU.sparse.map", "4,9,1,9"))):
        data = layer(entry("a", b"x", pax_headers={key: value}))
        Front(t).refuse(Image(t.tmp / f"image{number}", data).write(), "tar archive")


def test_documents_that_are_wrong(t):
    changes = [("schemaVersion", 1), ("layers", None), ("layers", {}), ("layers", [{}]),
               ("layers", [{"digest": 5, "size": 1}]),
               ("layers", [{"digest": "md5:00", "size": 1}]),
               ("layers", [{"digest": "sha256:../../../../etc/passwd", "size": 1}]),
               ("layers", [{"digest": "sha256:" + "0" * 64, "size": -1}]),
               ("layers", [{"digest": "sha256:" + "0" * 64, "size": 10 ** 30}]),
               ("layers", [{"digest": "sha256:" + "0" * 64, "size": 1}])]
    for number, (key, value) in enumerate(changes):
        image = Image(t.tmp / f"image{number}", layer(entry("a", b"x")))
        image.manifest[key] = value
        Front(t).refuse(image.write())


def test_configurations_that_are_wrong(t):
    for number, change in enumerate(({"os": "windows"}, {"architecture": "s390x"},
                                     {"rootfs": None}, {"rootfs": {"diff_ids": [7]}},
                                     {"config": []}, {"config": {"Env": "x"}},
                                     {"config": {"Env": ["x"]}}, {"config": {"Cmd": [1]}},
                                     {"config": {"User": {}}})):
        image = Image(t.tmp / f"image{number}", layer(entry("a", b"x")))
        image.config.update(change)
        Front(t).refuse(image.write(), str(image.path))


def test_indexes_that_are_wrong(t):
    image = Image(t.tmp / "image", layer(entry("a", b"x")))
    image.write()
    for text in ("", "{", "[]", "{}", '{"manifests": 7}', '{"manifests": []}', '{"manifests": [7]}',
                 "[" * 100000):
        (image.path / "index.json").write_text(text)
        Front(t).refuse(image.path, "image")


def test_an_index_that_holds_itself(t):
    image = Image(t.tmp / "image", layer(entry("a", b"x")))
    image.write()
    for _ in range(10):
        image.index = {"manifests": [image.put(json.dumps(image.index).encode())]}
    Front(t).refuse(image.write_index(), "index in an index")


def test_archives_whose_links_lead_out_or_round(t):
    text = json.dumps([{"Config": "c.json", "Layers": []}]).encode()
    for number, link in enumerate(("/etc/passwd", "../../../../etc/passwd", "c.json")):
        path = t.file(f"{number}.tar", layer(entry("manifest.json", text),
                                             entry("c.json", kind=LINK, link=link)))
        Front(t).refuse(path, "c.json")


def test_a_layout_whose_files_are_links_out(t):
    image = Image(t.tmp / "image", layer(entry("a", b"x")))
    path = image.write()
    (path / "index.json").unlink()
    (path / "index.json").symlink_to("/etc/passwd")
    Front(t).refuse(path, "index.json")


def test_users_files_that_are_links_out(t):
    """/etc/passwd in the image is a link to the host's: it is looked for inside."""
    (t.tmp / "outside").write_text("eve:x:7:7::/:\n")
    path = Image(t.tmp / "image", busybox_layer(t),
                 layer(entry("etc/passwd", kind=LINK, link=str(t.tmp / "outside")))).write()
    done = Front(t)("run", "--rm", "--user", "eve", path, "--", "/bin/true")
    assert done.returncode == 1 and b"no such user" in done.stderr, done


def test_working_folder_that_is_a_link_out(t):
    (t.tmp / "outside").mkdir()
    path = Image(t.tmp / "image", busybox_layer(t, entry("out", kind=LINK,
                                                         link=str(t.tmp / "outside"))),
                 WorkingDir="/out/made").write()
    Front(t)("run", "--rm", path, "--", "/bin/pwd")
    assert not list((t.tmp / "outside").iterdir())


def test_an_image_that_unpacks_to_more_than_is_allowed(t):
    """Zeros pack well: as one file, as many empty ones, and as an archive that is packed itself."""
    zeros = layer(entry("zeros", bytes(4 << 20)))
    many = layer(*[entry(f"empty-{i}") for i in range(2200)])
    f = Front(t)
    run = ("--", "/bin/sh", "-c", "echo ran")
    # What is unpacked already, as busybox is from the first one on, takes nothing.
    cases = ((zeros, "3M", ()), (many, "1M", ()), (zeros, "3M", ("--copy",)))
    for number, (content, limit, options) in enumerate(cases):
        path = Image(t.tmp / f"image-{number}", busybox_layer(t), content).write()
        expect_refusal(f("run", "--rm", "--unpack-limit", limit, *options, path, *run), 1,
                       "unpacks to more", "--unpack-limit")
        assert not [p for p in (f.state / "layers").glob("*") if not p.name.isalnum()]
        assert not list((f.state / "containers").iterdir())
        out = f.output("run", "--rm", "--unpack-limit", "64M", *options, path, *run)
        assert out == "ran\n", out
    whole = Image(t.tmp / "whole", busybox_layer(t), zeros, pack=bytes)
    whole.write()
    packed = whole.archive(t.tmp / "packed.tar.gz", "w:gz")
    expect_refusal(f("run", "--rm", "--unpack-limit", "3M", packed, *run), 1, "unpacks to more",
                   "--unpack-limit")
