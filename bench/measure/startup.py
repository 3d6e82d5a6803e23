"""From the start of the process to the guest's first instruction, and out again."""
import statistics

from measure.machines import DEBUG_EXIT_STATUS
from measure.process import Run

RUNS = 20


def measure(machines, guests, progress):
    """The whole process, so that it is at most this: a guest that leaves at once."""
    times = {m.name: [] for m in machines}
    for i in range(RUNS):
        progress(f"start-up {i + 1} of {RUNS}")
        for m in machines:
            run = Run(m.multiboot(guests.first_instruction), statuses=(DEBUG_EXIT_STATUS,))
            times[m.name].append((run.end.elapsed, run.end.processor))
    return {name: {"elapsed": statistics.median(e for e, _ in t), "best": min(e for e, _ in t),
                   "processor": statistics.median(p for _, p in t)}
            for name, t in times.items()}
