"""What it costs that a guest touches a device, and that it runs, on each engine and on QEMU with KVM."""
import json
import os
import statistics
import subprocess

from measure.machines import DEBUG_EXIT_STATUS, Doppel, Qemu
from measure.process import Failed, Run

RUNS = 3
# What is done in a loop, how often, and the instructions it is.
LOOPS = {
    "write to a port": (b"\xe6\x80", 50_000),  # out %al, $0x80
    "read of the local APIC": (b"\x8b\x1d\x30\x00\xe0\xfe", 50_000),  # mov 0xfee00030, %ebx
    "loop of two instructions": (b"", 1_000_000),
}


def engines(program):
    """Those that work on this host."""
    told = subprocess.run([program, "engines", "--json"], capture_output=True, check=True)
    return [e["name"] for e in json.loads(told.stdout)["engines"] if e["usable"]]


def machines_here(doppel):
    found = {f"Doppel, {e}": Doppel(doppel.program, ["--engine", e], doppel.memory_mib)
             for e in engines(doppel.program)}
    if Qemu.find():
        found["QEMU, tcg"] = Qemu()
        if os.access("/dev/kvm", os.R_OK | os.W_OK):
            found["QEMU, kvm"] = Qemu(accel="kvm")
    return found


def elapsed(machine, image):
    return statistics.median(Run(machine.multiboot(image), statuses=(DEBUG_EXIT_STATUS,)).end.elapsed
                             for _ in range(RUNS))


def measure(doppel, guests, progress):
    """Nanoseconds each; None: the guest does not get to its end there."""
    results = {}
    for name, machine in machines_here(doppel).items():
        results[name] = {}
        for what, (code, times) in LOOPS.items():
            progress(f"{what} on {name}")
            try:
                took = elapsed(machine, guests.loop(code, times)) - elapsed(machine,
                                                                            guests.first_instruction)
                results[name][what] = max(took, 0) * 1e9 / times
            except Failed:
                results[name][what] = None
    return results
