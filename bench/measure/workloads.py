"""Whole programs of Debian's archive: natively, in QEMU's translator, in User-mode Linux and in
Doppel, in turn. For each run two times: by the clock of the machine it ran in, and what the host's
processors spent on it meanwhile. Of all runs the least counts: what disturbs only ever adds."""
import os

from measure.machines import Doppel, Native, Qemu, Uml
from measure.packages import Packages
from measure.process import Failed, Run
from measure.userland import Userland

MEMORY_MIB = 1024
# In one boot a workload is repeated so often, or until it took so long.
REPEATS = 3
BUDGET_SECONDS = 3
MEMORY_PERIOD = 0.02
TWO = "two-jobs"  # the one that wants two processors
MARKS = ("begin ", "done ", "failed ", "figure ", "workloads end ")


def machine(name, source, build, userland, doppel_options):
    """One of the four, or None where it can't be had."""
    if name == "doppel":
        return Doppel(build / "src/cli/doppel", doppel_options, MEMORY_MIB)
    if name == "qemu":
        return Qemu.find(MEMORY_MIB)
    if name == "uml":
        packages = Packages(source, build / "guests", ["user-mode-linux"])
        return Uml(packages.files["usr/bin/linux.uml"], MEMORY_MIB)
    return Native(userland.tree()) if os.geteuid() == 0 else None


def command(machine, build, userland, names, arguments, options=(), quiet=True):
    """The command that runs the runner with these arguments on a machine."""
    if isinstance(machine, Native):
        return machine.runner(arguments, options)
    kernel = sorted((build / "guests/linux-image-cloud-amd64/boot").glob("vmlinuz-*"))[0]
    # The second "--" ends the runner's arguments: User-mode Linux adds words of its own behind.
    append = " ".join(["quiet"] * quiet + ["--", *arguments, "--"])
    return machine.linux(kernel, userland.initramfs(names), append, *options)


class Measurement:
    def __init__(self, source, build, settings, progress):
        """settings: names, scale, runs, peers and doppel_options."""
        self.build, self.settings, self.progress = build, settings, progress
        self.userland = Userland(source, build, settings.scale)
        unknown = set(settings.names) - set(self.userland.workloads)
        if unknown:
            raise Failed(f"no such workload: {' '.join(sorted(unknown))}; there are "
                         + " ".join(self.userland.workloads))
        self.names = list(settings.names or self.userland.workloads)
        self.machines = [m for m in (
            machine(n, source, build, self.userland, settings.doppel_options)
            for n in ("native", "qemu", "uml", "doppel") if n in settings.peers) if m]
        self.runs = {m.name: {} for m in self.machines}
        self.figures = {m.name: {} for m in self.machines}
        self.memory = {}
        self.failures = []

    def measure(self):
        for i in range(self.settings.runs):
            for m in self.machines:
                one = [n for n in self.names if n != TWO]
                where = f"workloads {i + 1} of {self.settings.runs}: {m.name}"
                if isinstance(m, Native):
                    one = [n for n in one if n != "idle"]
                if one:
                    self._run(m, one, (), where)
                if TWO in self.names and not isinstance(m, Uml):
                    self._run(m, [TWO], m.processors(2), where)
        return {"scale": self.settings.scale,
                "titles": {n: self.userland.workloads[n].title for n in self.names},
                "kinds": {n: self.userland.workloads[n].kind for n in self.names},
                "machines": {m: {n: summary(s) for n, s in runs.items()}
                             for m, runs in self.runs.items()},
                "figures": self.figures, "memory": self.memory, "failures": self.failures}

    def _run(self, m, names, options, where):
        arguments = ["--runs", str(REPEATS), "--budget", str(BUDGET_SECONDS),
                     "--scale", str(self.settings.scale), *names]
        try:
            run = Run(command(m, self.build, self.userland, names, arguments, options),
                      marks=MARKS, tree=isinstance(m, Uml), statuses=(0, 1),
                      sample_memory=isinstance(m, (Doppel, Qemu)), memory_period=MEMORY_PERIOD,
                      on_mark=lambda text: self.progress(f"{where}: {text}"))
            run.mark("workloads end")
        except Failed as e:
            # What it did until then counts; the others go on.
            self.failures.append(f"{m.name}: {e}")
            run = e.run
        if run:
            self._collect(m, run)
        if run and run.memory and \
                run.memory["total"] > self.memory.get(m.name, {"total": 0})["total"]:
            self.memory[m.name] = run.memory

    def _collect(self, m, run):
        before = None
        for mark in run.marks:
            word, name, *rest = mark.text.split()
            if word == "begin":
                before = mark
            elif word == "done":
                used = (int(rest[1]) / 1e9 if isinstance(m, Native)
                        else mark.processor - before.processor)
                self.runs[m.name].setdefault(name, []).append((int(rest[0]) / 1e9, used))
                if name == "idle":
                    self._figure(m, "idle", 100 * used / (mark.elapsed - before.elapsed))
            elif word == "figure":
                self._figure(m, name, float(rest[0]))
            elif word == "failed":
                self.failures.append(f"{m.name}: {mark.text}")
                self.runs[m.name].pop(name.rstrip(":"), None)

    def _figure(self, m, name, value):
        """The best of all: the greatest of what is a factor, the least of what is a cost."""
        best = max if name == TWO else min
        had = self.figures[m.name].get(name, value)
        self.figures[m.name][name] = best(value, had)


def summary(samples):
    return {"elapsed": min(e for e, _ in samples), "processor": min(p for _, p in samples),
            "all": [{"elapsed": e, "processor": p} for e, p in samples]}
