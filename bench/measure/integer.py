"""Integer code: the workloads of bench/integer.c in guests and on the host itself.

Three figures for each: how many instructions it is, from a run whose clock counts them
(--clock virtual: an instruction is a nanosecond); how long it took by the clock of the machine it
ran on; and how much processor time the host spent on it, which neighbours disturb less. A guest
can't know the latter: it is read from the host when the guest's line comes out.
"""
import statistics

from measure.process import Failed, Run

MARK = "bench "
ROUNDS = 2


class Sample:
    def __init__(self, elapsed, processor):
        self.elapsed = elapsed
        self.processor = processor


def samples_of(run, sums, native=False):
    """By workload. Every machine must come to the same sums."""
    found = {}
    before = run.mark("bench begin")
    for mark in run.marks:
        words = mark.text.split()
        if len(words) != 5:
            continue
        name, ns, used, check = words[1], int(words[2]), int(words[3]), words[4]
        if sums.setdefault(name, check) != check:
            raise Failed(f"{name}: computed {check} instead of {sums[name]}")
        processor = used / 1e9 if native else mark.processor - before.processor
        found.setdefault(name, []).append(Sample(ns / 1e9, processor))
        before = mark
    return found


def count_instructions(doppel, guests, sums):
    command = doppel.linux(guests.kernel, guests.integer_initrd, "quiet -- 2",
                           "--clock", "virtual")
    # The second round: the first also counts what the kernel does to give it its memory.
    return {name: round(found[1].elapsed * 1e9)
            for name, found in samples_of(Run(command, marks=(MARK,)), sums).items()}


def measure(machines, guests, runs, progress):
    sums = {}
    progress("integer code: counting instructions")
    instructions = count_instructions(machines[0], guests, sums)
    samples = {name: {} for name in ["native"] + [m.name for m in machines]}
    for i in range(runs):
        for m in [None] + machines:
            name = m.name if m else "native"
            progress(f"integer code {i + 1} of {runs}: {name}")
            command = (m.linux(guests.kernel, guests.integer_initrd, f"quiet -- {ROUNDS}") if m
                       else [str(guests.integer), str(ROUNDS)])
            run = Run(command, marks=(MARK,))
            for workload, found in samples_of(run, sums, native=not m).items():
                samples[name].setdefault(workload, []).extend(found)
    return {"instructions": instructions,
            "machines": {name: {w: summary(s) for w, s in found.items()}
                         for name, found in samples.items()}}


def summary(samples):
    return {"elapsed": statistics.median(s.elapsed for s in samples),
            "processor": statistics.median(s.processor for s in samples)}
