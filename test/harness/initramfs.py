"""More files for the initramfs: the kernel unpacks archives that lie one behind the other."""
import stat


def _entry(name, mode, data=b""):
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def with_files(initramfs, folder, files):
    """The archive's bytes, and behind them such files in a folder of the root."""
    more = _entry(folder, stat.S_IFDIR | 0o755)
    for file in files:
        more += _entry(f"{folder}/{file.name}", stat.S_IFREG | 0o644, file.read_bytes())
    base = initramfs.read_bytes()
    return base + b"\0" * (-len(base) % 4) + more + _entry("TRAILER!!!", 0)
