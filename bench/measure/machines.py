"""The monitors that are compared, and the guests that they run."""
import os
import shutil
import struct
import subprocess

MEMORY_MIB = 512
# poweroff by ACPI on both; a panic ends the run.
APPEND = "console=ttyS0 reboot=t panic=-1"
DEBUG_EXIT_VALUE = 0x21
DEBUG_EXIT_STATUS = DEBUG_EXIT_VALUE << 1 | 1


class Doppel:
    name = "Doppel"

    def __init__(self, program, options, memory_mib=MEMORY_MIB):
        self.program = str(program)
        self.options = options
        self.memory_mib = memory_mib
        self.version = first_line([self.program, "--version"])

    def linux(self, kernel, initrd, append="", *more):
        return [self.program, "run", "--memory", f"{self.memory_mib}M", "--no-reboot",
                "--kernel", str(kernel), "--initrd", str(initrd),
                "--append", f"{APPEND} {append}".strip(), *self.options, *more]

    def own_choice(self):
        """The engine that it picks by itself."""
        for line in subprocess.run([self.program, "engines"], capture_output=True, text=True,
                                   check=True).stdout.splitlines():
            if "auto picks it" in line:
                return line.split()[0]
        return "auto"

    def multiboot(self, kernel):
        return [self.program, "run", "--memory", f"{self.memory_mib}M", "--debug-exit", "--no-reboot",
                "--kernel", str(kernel), *self.options]

    @staticmethod
    def processors(n):
        return ["--cpus", str(n)]


class Qemu:
    name = "QEMU"
    program = "qemu-system-x86_64"

    def __init__(self, memory_mib=MEMORY_MIB, accel="tcg"):
        self.memory_mib = memory_mib
        self.accel = accel
        self.version = first_line([self.program, "--version"])

    @classmethod
    def find(cls, *arguments):
        return cls(*arguments) if shutil.which(cls.program) else None

    def _machine(self):
        # Guest memory as a shared mapping, as Doppel's is, so that the rest can be told from it.
        return [self.program, "-M", "q35,memory-backend=ram", "-object",
                f"memory-backend-memfd,id=ram,size={self.memory_mib}M,share=on",
                "-accel", self.accel, "-cpu", "max", "-m", str(self.memory_mib),
                "-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot"]

    def linux(self, kernel, initrd, append="", *more):
        return [*self._machine(), "-kernel", str(kernel), "-initrd", str(initrd),
                "-append", f"{APPEND} {append}".strip(), *more]

    def multiboot(self, kernel):
        return [*self._machine(), "-kernel", str(kernel),
                "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]

    @staticmethod
    def processors(n):
        return ["-smp", str(n)]


class Uml:
    """User-mode Linux brings its own kernel."""
    name = "UML"

    def __init__(self, program, memory_mib=MEMORY_MIB):
        self.program = str(program)
        self.memory_mib = memory_mib
        self.version = "User-mode Linux " + first_line([self.program, "--version"])

    def linux(self, kernel, initrd, append="", *more):
        del kernel
        return [self.program, f"mem={self.memory_mib}M", f"initrd={initrd}", "con=null",
                "con0=null,fd:1", *append.split(), *more]


class Native:
    """The same files in a chroot, on one processor: what guests are held against. Needs to be root."""
    name = "native"

    def __init__(self, root):
        self.root = str(root)

    def runner(self, arguments, options=()):
        return [*(options or self.processors(1)), "unshare", "-m", "chroot", self.root,
                "/bench/bin/runner", *arguments]

    @staticmethod
    def processors(n):
        some = sorted(os.sched_getaffinity(0), reverse=True)[:n]
        return ["taskset", "-c", ",".join(map(str, some))]


def first_line(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]


class Guests:
    """What the guests are made of, and where the rest is put."""

    def __init__(self, source, build):
        self.source = source
        self.folder = build / "bench" / "guests"
        self.folder.mkdir(parents=True, exist_ok=True)
        kernels = sorted((build / "guests/linux-image-cloud-amd64/boot").glob("vmlinuz-*"))
        self.busybox = build / "guests/busybox-static/bin/busybox"
        if not kernels or not self.busybox.exists():
            raise FileNotFoundError("the guests were not fetched; run make guests")
        self.kernel = kernels[0]
        self.integer = self._compile()
        self.boot_initrd = self._pack("boot.gz", source / "bench/init")
        self.integer_initrd = self._pack("integer.gz", self.integer)
        self.first_instruction = self._make_multiboot()

    def _compile(self):
        out = self.folder / "integer"
        subprocess.run(["gcc", "-O2", "-static", "-Wall", "-o", str(out),
                        str(self.source / "bench/integer.c")], check=True)
        return out

    def _pack(self, name, init):
        out = self.folder / name
        subprocess.run([str(self.source / "tools/pack-initramfs"), str(out), str(self.busybox),
                        str(init)], check=True)
        return out

    def loop(self, code, times):
        """A Multiboot kernel that does this so often, and leaves: mov $times, %ecx; 1: code;
        dec %ecx; jnz 1b."""
        body = b"\xb9" + struct.pack("<I", times) + code + b"\x49\x75"
        return self._make_multiboot("loop", body + struct.pack("<b", -3 - len(code)))

    def _make_multiboot(self, name="first-instruction", before=b""):
        """A Multiboot kernel that leaves by its first instructions: mov $value, %eax;
        out %eax, $0xf4; 1: hlt; jmp 1b."""
        magic, flags, base = 0x1badb002, 1 << 16, 0x100000
        header = struct.pack("<8I", magic, flags, -(magic + flags) & 0xffffffff, base, base, 0, 0,
                             base + 32)
        code = before + b"\xb8" + struct.pack("<I", DEBUG_EXIT_VALUE) + b"\xe7\xf4\xf4\xeb\xfd"
        out = self.folder / name
        out.write_bytes((header + code).ljust(4096, b"\0"))
        return out
