"""What can't be taken is refused in one line that says what, why, and what to do."""
import gzip
import os
import struct

from harness.case import expect_refusal


def refused(t, status, *texts, args):
    expect_refusal(t.run("run", *args), status, *texts)


def test_unknown_option(t):
    refused(t, 2, "--frobnicate", "doppel help run", args=["--frobnicate"])


def test_missing_value(t):
    refused(t, 2, "--kernel", args=["--kernel"])


def test_value_where_none_belongs(t):
    refused(t, 2, "--no-reboot", args=["--no-reboot=yes"])


def test_no_kernel(t):
    refused(t, 2, "--kernel", args=["--memory", "64M"])


def test_stray_word(t):
    refused(t, 2, "vmlinuz", args=["vmlinuz"])


def test_unknown_command(t):
    expect_refusal(t.run("rnu"), 2, "rnu", "doppel help")


def test_no_command(t):
    expect_refusal(t.run(), 2, "doppel help")


def test_unknown_engine(t):
    refused(t, 2, "warp", "doppel engines", args=["--engine", "warp", "--kernel", "x"])


def test_engine_that_is_not_there_yet(t):
    refused(t, 1, "translate", "--engine auto", args=["--engine", "translate", "--kernel", "x"])


def test_unknown_cpu(t):
    refused(t, 2, "--cpu", args=["--cpu", "z80", "--kernel", "x"])


def test_host_cpu_wants_an_engine_that_carries_it(t):
    refused(t, 2, "--cpu host", args=["--cpu", "host", "--engine", "emulate", "--kernel", "x"])
    refused(t, 2, "--cpu host", args=["--cpu", "host", "--engine", "emulate", "--switch-every",
                                      "10ms", "--kernel", "x"])


def test_numbers_of_cpus(t):
    for n in ("0", "17", "-1", "two", "", "1x", "99999999999999999999"):
        refused(t, 2, "--cpus", args=[f"--cpus={n}", "--kernel", "x"])


def test_memory_sizes(t):
    for size in ("0", "1K", "-5M", "many", "5Q", "12MB", "", "99999999T", "2048G"):
        refused(t, 2, "--memory", args=[f"--memory={size}", "--kernel", "x"])


def test_unknown_console(t):
    for where in ("nowhere", "file:", "unix:", "stdio:x"):
        refused(t, 2, "--console", args=["--console", where, "--kernel", "x"])


def test_console_file_that_cannot_be_made(t):
    refused(t, 1, "--console", args=["--console", f"file:{t.tmp}/no/such/folder", "--kernel", "x"])


def test_engines_changed_at_no_time(t):
    for time in ("soon", "10", "0ms", "-1s", "10h", "100msx"):
        refused(t, 2, "--switch-every", time, "100ms", args=["--switch-every", time, "--kernel", "x"])


def test_unknown_clock_and_way(t):
    refused(t, 2, "--clock", args=["--clock", "cuckoo", "--kernel", "x"])
    refused(t, 2, "--boot", args=["--boot", "sideways", "--kernel", "x"])


def test_options_of_later_versions(t):
    refused(t, 2, "--disk", args=["--disk", "x.img", "--kernel", "x"])
    refused(t, 2, "--net", args=["--net", "user", "--kernel", "x"])
    refused(t, 2, "--share", args=["--share", "/,tag=x", "--kernel", "x"])


def kernel_refused(t, content, *texts):
    path = t.file("kernel", content)
    refused(t, 1, "kernel", *texts, args=["--kernel", path, "--memory", "64M"])


def test_kernel_that_is_not_there(t):
    refused(t, 1, "No such file", args=["--kernel", t.tmp / "nothing"])


def test_kernel_that_is_a_folder(t):
    refused(t, 1, "directory", args=["--kernel", t.tmp])


def test_kernel_that_is_a_fifo(t):
    """It is refused and not waited for."""
    os.mkfifo(t.tmp / "fifo")
    refused(t, 1, "regular file", args=["--kernel", t.tmp / "fifo"])


def test_empty_kernel(t):
    kernel_refused(t, b"", "empty")


def test_foreign_kernels(t):
    kernel_refused(t, b"#!/bin/sh\n" + bytes(600), "script")
    kernel_refused(t, b"MZ" + bytes(600), "EFI or Windows")
    kernel_refused(t, bytes(0x38) + b"ARM\x64" + bytes(600), "ARM")
    kernel_refused(t, b"070701" + bytes(600), "--initrd")
    kernel_refused(t, bytes(510) + b"\x55\xaa", "boot-sector")
    kernel_refused(t, b"QFI\xfb" + bytes(600), "qcow2")
    kernel_refused(t, bytes(4096), "not a kernel")


def elf(machine=62, kind=2, entry=0x1000000, paddr=0x1000000, filesz=16, memsz=4096, offset=120):
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 7, offset, paddr, paddr, filesz, memsz, 4096)
    return header + b"\xf4" * 16


def test_elf_files_that_do_not_fit(t):
    kernel_refused(t, elf(machine=183), "another processor")
    kernel_refused(t, elf(kind=1), "not an executable")
    kernel_refused(t, elf()[:100], "truncated")
    kernel_refused(t, elf(filesz=1 << 40), "truncated")
    kernel_refused(t, elf(memsz=1), "no sense")
    kernel_refused(t, elf(paddr=0xffffffff00000000), "no memory")
    kernel_refused(t, elf(paddr=0x8000000), "--memory")
    kernel_refused(t, elf(entry=0x3000000), "entry")


def test_packed_nothing(t):
    kernel_refused(t, gzip.compress(b""), "nothing")
    kernel_refused(t, gzip.compress(bytes(4096))[:20], "damaged")


def test_truncated_linux_image(t):
    image = t.kernel().read_bytes()
    kernel_refused(t, image[:len(image) // 2], "truncated")
    kernel_refused(t, image[:1000], "truncated")


def test_damaged_payload(t):
    image = bytearray(t.kernel().read_bytes())
    middle = len(image) // 2
    image[middle:middle + 4096] = b"\xff" * 4096
    path = t.file("kernel", image)
    refused(t, 1, "damaged", args=["--kernel", path, "--memory", "256M"])


def test_too_little_memory_for_linux(t):
    refused(t, 1, "--memory", args=["--kernel", t.kernel(), "--memory", "24M"])


def test_initrd_that_does_not_fit(t):
    big = t.file("initrd", bytes(60 << 20))
    refused(t, 1, "initrd", "--memory",
            args=["--kernel", t.kernel(), "--initrd", big, "--memory", "96M"])


def test_initrd_that_is_not_there_or_empty(t):
    refused(t, 1, "initrd", "No such file",
            args=["--kernel", t.kernel(), "--initrd", t.tmp / "nothing"])
    refused(t, 1, "initrd", "empty",
            args=["--kernel", t.kernel(), "--initrd", t.file("empty", b"")])


def test_command_line_that_is_too_long(t):
    refused(t, 2, "--append", args=["--kernel", t.kernel(), "--append", "x" * 3000])
