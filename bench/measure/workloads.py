"""Whole programs of Debian's archive: natively, in QEMU's translator, in User-mode Linux and in
Doppel, in turn."""
from measure.machines import Doppel, Native, Qemu, Uml
from measure.packages import Packages

MEMORY_MIB = 1024


def machine(name, source, build, userland, doppel_options):
    """One of the four, or None where it can't be had."""
    if name == "doppel":
        return Doppel(build / "src/cli/doppel", doppel_options, MEMORY_MIB)
    if name == "qemu":
        return Qemu.find(MEMORY_MIB)
    if name == "uml":
        packages = Packages(source, build / "guests", ["user-mode-linux"])
        return Uml(packages.files["usr/bin/linux.uml"], MEMORY_MIB)
    return Native(userland.tree())


def command(machine, build, userland, names, arguments, options=(), quiet=True):
    """The command that runs the runner with these arguments on a machine."""
    if isinstance(machine, Native):
        return machine.runner(arguments)
    kernel = sorted((build / "guests/linux-image-cloud-amd64/boot").glob("vmlinuz-*"))[0]
    # The second "--" ends the runner's arguments: User-mode Linux adds words of its own behind.
    append = " ".join(["quiet"] * quiet + ["--", *arguments, "--"])
    return machine.linux(kernel, userland.initramfs(names), append, *options)
