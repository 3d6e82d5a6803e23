#!/usr/bin/env python3
"""Checks that each room of src/ includes only headers of rooms below it.

The order is that of docs/architecture.md. A room may include its own headers, those of rooms on
floors below its own, the public header, and the system's. Prints TAP: one test for each room, and
one that the order names every room there is."""
import pathlib
import re
import sys

# From the ground up. Rooms on one floor do not know each other.
FLOORS = [
    {"base"},
    {"memory"},
    {"x86"},
    {"device"},
    {"block", "net", "display"},
    {"virtio"},
    {"engine"},
    {"boot"},
    {"machine"},
    {"monitor", "container"},
    {"lib"},
    {"cli", "oci"},
]
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}

# What a room may not know although it stands above it.
STRANGERS = {
    "device": {"x86"},
    "engine": {"device", "block", "net", "display", "virtio"},
    "boot": {"device", "block", "net", "display", "virtio", "engine"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PUBLIC = ROOT / "include"


def room_of(path):
    return path.relative_to(SOURCE).parts[0]


def included(file):
    """The headers of ours that a file includes; generated ones, which stand nowhere, left out."""
    for name in INCLUDE.findall(file.read_text()):
        for folder in (file.parent, SOURCE, SOURCE / room_of(file)):
            path = (folder / name).resolve()
            if path.is_file() and SOURCE in path.parents:
                yield path
                break


def trespasses(room):
    for file in sorted((SOURCE / room).rglob("*.[ch]")):
        for header in included(file):
            other = room_of(header)
            if other == room:
                continue
            if other in STRANGERS.get(room, ()) or LEVEL[other] >= LEVEL[room]:
                yield f"{file.relative_to(ROOT)} includes {header.relative_to(SOURCE)}"


def main():
    rooms = {file.parts[-2] for file in SOURCE.glob("*/*")}
    results = [("the order names every room", sorted(rooms - LEVEL.keys()))]
    for room in sorted(rooms & LEVEL.keys(), key=lambda r: (LEVEL[r], r)):
        results.append((f"{room} includes only what stands below it", list(trespasses(room))))
    outward = [name for file in PUBLIC.rglob("*.h") for name in INCLUDE.findall(file.read_text())]
    results.append(("the public header shows nothing internal", outward))

    print(f"1..{len(results)}")
    for number, (name, found) in enumerate(results, 1):
        print(f"{'not ok' if found else 'ok'} {number} - {name}")
        for line in found:
            print(f"# {line}")
    return 1 if any(found for _, found in results) else 0


if __name__ == "__main__":
    sys.exit(main())
