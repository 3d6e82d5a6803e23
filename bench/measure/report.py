"""What was measured, as a table for people, and held against the targets."""
from measure import programs
from measure.tables import geometric_mean, table

MIB = 1024


class Target:
    """A bound, and what is aimed at beyond it (the same where there is only one)."""

    def __init__(self, bound, aim=None, at_least=False, unit=""):
        self.bound, self.aim, self.at_least, self.unit = bound, aim, at_least, unit

    def _meets(self, value, limit):
        return value >= limit if self.at_least else value <= limit

    def verdict(self, value):
        if not self._meets(value, self.bound):
            return "MISSED"
        return "ok, aim met" if self.aim is not None and self._meets(value, self.aim) else "ok"

    def __str__(self):
        word = "at least" if self.at_least else "at most"
        aim = "" if self.aim is None else f", aim {self.aim:g}"
        return f"{word} {self.bound:g}{self.unit}{aim}"


TARGETS = {
    "integer": Target(100, 200, at_least=True, unit=" M/s"),
    "boot": Target(0.5, unit="x QEMU"),
    "startup": Target(20, unit=" ms"),
    "memory": Target(96, unit=" MiB"),
    "programs": Target(8, 12, at_least=True, unit="x"),
    "computing": Target(1.8, unit="x"),
    "slowest/QEMU": Target(1, unit="x"),
    "slowest/UML": Target(1.5, unit="x"),
    "null-system-call": Target(300, unit=" ns"),
    "fork-exec-wait": Target(3, unit=" ms"),
    "two-jobs": Target(1.8, at_least=True, unit="x"),
    "idle": Target(1, unit=" %"),
}
# An engine that emulates has other goals, and none for whole programs.
EMULATE_TARGETS = {
    "integer": TARGETS["integer"],
    "boot": Target(5, 3, unit="x QEMU"),
    "startup": TARGETS["startup"],
    "memory": Target(32, unit=" MiB"),
    "idle": TARGETS["idle"],
}


class Judgement:
    """One line of the last table."""

    def __init__(self, what, value, text, target):
        self.what, self.value, self.text, self.target = what, value, text, target

    def as_dict(self):
        return {"what": self.what, "value": self.value, "target": str(self.target),
                "verdict": self.target.verdict(self.value)}


def rates(integer, name, clock):
    """Millions of instructions a second, by workload."""
    return {w: n / integer["machines"][name][w][clock] / 1e6
            for w, n in integer["instructions"].items()}


def judgements(results):
    targets = EMULATE_TARGETS if results["engine"] == "emulate" else TARGETS
    return [Judgement(what, value, text, targets[target])
            for what, value, text, target in measured(results) if target in targets]


def measured(results):
    """What has a target: its description, value, the value in words, the target's name."""
    found = []
    if "integer" in results:
        mean = geometric_mean(rates(results["integer"], "Doppel", "processor").values())
        found.append(("integer code", mean, f"{mean:.0f} M/s", "integer"))
    boot = results.get("boot", {})
    if "QEMU" in boot:
        for event, what in (("init", "boot to init"), ("end", "boot to power-off")):
            for clock in ("elapsed", "processor"):
                ratio = paired_ratio(boot["Doppel"][event]["all"], boot["QEMU"][event]["all"],
                                     clock)
                found.append((f"{what}, {clock} time", ratio, f"{ratio:.2f}x QEMU",
                                       "boot"))
    if "startup" in results:
        ms = results["startup"]["Doppel"]["elapsed"] * 1e3
        found.append(("start-up of the monitor", ms, f"{ms:.1f} ms", "startup"))
    for n, peak in results.get("memory", {}).get("Doppel", {}).items():
        mib = peak["total"] / MIB
        found.append((f"its own memory, --cpus {n}", mib, f"{mib:.1f} MiB", "memory"))
    if "workloads" in results:
        found += measured_programs(results["workloads"])
    return found


def measured_programs(workloads):
    found = []
    mean = programs.mean_ratio(workloads, "QEMU", "Doppel")
    if mean:
        found.append(("programs, geometric mean", mean, f"{mean:.2f}x QEMU's speed", "programs"))
    mean = programs.mean_ratio(workloads, "Doppel", "native", kinds=("computing",))
    if mean:
        found.append(("computing programs", mean, f"{mean:.2f}x native time", "computing"))
    for peer in ("QEMU", "UML"):
        all_ratios = programs.ratios(workloads, "Doppel", peer)
        if all_ratios:
            name, worst = max(all_ratios.items(), key=lambda r: r[1])
            found.append((f"the slowest beside {peer}", worst, f"{worst:.2f}x ({name})",
                          f"slowest/{peer}"))
    for name, title, unit in programs.FIGURES:
        if name in workloads["figures"].get("Doppel", {}):
            value = workloads["figures"]["Doppel"][name]
            found.append((title, value, f"{value:.3g} {unit}", name))
    if "Doppel" in workloads["memory"]:
        mib = workloads["memory"]["Doppel"]["total"] / MIB
        found.append(("its own memory, the programs", mib, f"{mib:.1f} MiB", "memory"))
    return found


def paired_ratio(a, b, clock):
    ratios = sorted(x[clock] / y[clock] for x, y in zip(a, b))
    middle = len(ratios) // 2
    return ratios[middle] if len(ratios) % 2 else (ratios[middle - 1] + ratios[middle]) / 2


# ---- tables ----

def integer_table(integer):
    machines, count = integer["machines"], integer["instructions"]
    has_qemu = "QEMU" in machines
    rows, ratios = [], {"QEMU": [], "native": []}
    for w, n in count.items():
        used = {name: m[w]["processor"] for name, m in machines.items()}
        row = [w, f"{n / 1e6:.0f} M"]
        for name in ("Doppel", "QEMU", "native"):
            row.append(f"{n / used[name] / 1e6:.0f}" if name in used else "-")
        row.append(f"{n / machines['Doppel'][w]['elapsed'] / 1e6:.0f}")
        for name in ("QEMU", "native"):
            if name in used:
                ratios[name].append(used["Doppel"] / used[name])
                row.append(f"{ratios[name][-1]:.2f}")
            else:
                row.append("-")
        rows.append(row)
    means = [geometric_mean(rates(integer, name, "processor").values()) if name in machines else 0
             for name in ("Doppel", "QEMU", "native")]
    rows.append(["geometric mean", "", *(f"{m:.0f}" if m else "-" for m in means),
                 f"{geometric_mean(rates(integer, 'Doppel', 'elapsed').values()):.0f}",
                 f"{geometric_mean(ratios['QEMU']):.2f}" if has_qemu else "-",
                 f"{geometric_mean(ratios['native']):.2f}"])
    return table(rows, ["integer code, M instructions/s", "count", "Doppel", "QEMU", "native",
                        "Doppel elapsed", "time/QEMU", "time/native"])


def boot_table(boot):
    rows = []
    for event, what in (("init", "to the first line of init"), ("end", "to power-off")):
        for clock in ("elapsed", "processor"):
            row = [f"{what}, {clock}"]
            row += [f"{boot[n][event][clock]:.2f} s" if n in boot else "-"
                    for n in ("Doppel", "QEMU")]
            row.append(f"{paired_ratio(boot['Doppel'][event]['all'], boot['QEMU'][event]['all'], clock):.2f}"
                       if "QEMU" in boot else "-")
            rows.append(row)
    return table(rows, ["boot of Debian's cloud kernel", "Doppel", "QEMU", "ratio"])


def startup_table(startup):
    rows = [[name, *(f"{s[k] * 1e3:.1f} ms" for k in ("elapsed", "best", "processor"))]
            for name, s in startup.items()]
    return table(rows, ["start, first instruction, end", "median", "best", "processor time"])


def exits_table(exits):
    kinds = list(next(iter(exits.values()), {}))
    rows = [[name, *("does not run" if ns is None else f"{ns:.0f} ns" for ns in by_kind.values())]
            for name, by_kind in exits.items()]
    return table(rows, ["each", *kinds])


def memory_table(memory):
    rows = []
    for name, by_processors in memory.items():
        for n, peak in by_processors.items():
            rows.append([f"{name}, {n} processors"] +
                        [f"{peak.get(f, 0) / MIB:.1f}"
                         for f in ("total", "RssAnon", "RssFile", "VmPTE", "shared")])
    return table(rows, ["its own memory at the peak, MiB", "total", "RssAnon", "RssFile", "VmPTE",
                        "shared"])


def text(results):
    parts = [results["title"]]
    for key, make in (("integer", integer_table), ("boot", boot_table),
                      ("startup", startup_table), ("exits", exits_table),
                      ("memory", memory_table)):
        if key in results:
            parts.append(make(results[key]))
    if "workloads" in results:
        parts.append(programs.text(results["workloads"]))
    rows = [[j.what, j.text, str(j.target), j.target.verdict(j.value)]
            for j in judgements(results)]
    if rows:
        parts.append(table(rows, ["what", "measured", "target", "verdict"]))
    return "\n\n".join(parts)
