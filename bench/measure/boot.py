"""Debian's stock kernel, from the start of the process to the first line of init and to power-off,
and what the monitor holds in memory meanwhile."""
import statistics

from measure.process import Run

INIT = "bench init"
MEMORY_RUNS = 2
MEMORY_PROCESSORS = (1, 4)


def measure(machines, guests, runs, progress):
    samples = {m.name: {"init": [], "end": []} for m in machines}
    for i in range(runs):
        for m in machines:
            progress(f"boot {i + 1} of {runs}: {m.name}")
            run = Run(m.linux(guests.kernel, guests.boot_initrd), marks=(INIT,))
            samples[m.name]["init"].append(run.mark(INIT))
            samples[m.name]["end"].append(run.end)
    return {name: {event: summary(marks) for event, marks in events.items()}
            for name, events in samples.items()}


def summary(marks):
    return {"elapsed": statistics.median(m.elapsed for m in marks),
            "processor": statistics.median(m.processor for m in marks),
            "all": [{"elapsed": m.elapsed, "processor": m.processor} for m in marks]}


def memory(machines, guests, progress):
    """Peaks over a boot, KiB, the highest of a few runs, by machine and number of processors."""
    peaks = {m.name: {} for m in machines}
    for n in MEMORY_PROCESSORS:
        for i in range(MEMORY_RUNS):
            for m in machines:
                progress(f"memory, {n} processors, {i + 1} of {MEMORY_RUNS}: {m.name}")
                command = m.linux(guests.kernel, guests.boot_initrd, "", *m.processors(n))
                peak = Run(command, sample_memory=True).memory
                if peak["total"] > peaks[m.name].get(n, {"total": 0})["total"]:
                    peaks[m.name][n] = peak
    return peaks
