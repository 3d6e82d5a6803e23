"""What was measured, as a table for people, and held against the targets."""
import math

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
    "boot": Target(5, 3, unit="x QEMU"),
    "startup": Target(20, unit=" ms"),
    "memory": Target(32, unit=" MiB"),
}


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


class Judgement:
    """One line of the last table."""

    def __init__(self, what, value, text, target):
        self.what, self.value, self.text, self.target = what, value, text, TARGETS[target]

    def as_dict(self):
        return {"what": self.what, "value": self.value, "target": str(self.target),
                "verdict": self.target.verdict(self.value)}


def rates(integer, name, clock):
    """Millions of instructions a second, by workload."""
    return {w: n / integer["machines"][name][w][clock] / 1e6
            for w, n in integer["instructions"].items()}


def judgements(results):
    found = []
    if "integer" in results:
        mean = geometric_mean(rates(results["integer"], "Doppel", "processor").values())
        found.append(Judgement("integer code", mean, f"{mean:.0f} M/s", "integer"))
    boot = results.get("boot", {})
    if "QEMU" in boot:
        for event, what in (("init", "boot to init"), ("end", "boot to power-off")):
            for clock in ("elapsed", "processor"):
                ratio = paired_ratio(boot["Doppel"][event]["all"], boot["QEMU"][event]["all"],
                                     clock)
                found.append(Judgement(f"{what}, {clock} time", ratio, f"{ratio:.2f}x QEMU",
                                       "boot"))
    if "startup" in results:
        ms = results["startup"]["Doppel"]["elapsed"] * 1e3
        found.append(Judgement("start-up of the monitor", ms, f"{ms:.1f} ms", "startup"))
    for n, peak in results.get("memory", {}).get("Doppel", {}).items():
        mib = peak["total"] / MIB
        found.append(Judgement(f"its own memory, --cpus {n}", mib, f"{mib:.1f} MiB", "memory"))
    return found


def paired_ratio(a, b, clock):
    ratios = sorted(x[clock] / y[clock] for x, y in zip(a, b))
    middle = len(ratios) // 2
    return ratios[middle] if len(ratios) % 2 else (ratios[middle - 1] + ratios[middle]) / 2


# ---- tables ----

def table(rows, head):
    """Columns as wide as they need; the first to the left, the others to the right."""
    cells = [head] + rows
    widths = [max(len(r[i]) for r in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        first, rest = row[0].ljust(widths[0]), [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join([lines[0], "-" * max(map(len, lines))] + lines[1:])


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


def memory_table(memory):
    rows = []
    for name, by_processors in memory.items():
        for n, peak in by_processors.items():
            rows.append([f"{name}, {n} processors"] +
                        [f"{peak.get(f, 0) / MIB:.1f}"
                         for f in ("total", "RssAnon", "RssFile", "VmPTE")])
    return table(rows, ["its own memory at the peak, MiB", "total", "RssAnon", "RssFile", "VmPTE"])


def text(results):
    parts = [results["title"]]
    for key, make in (("integer", integer_table), ("boot", boot_table),
                      ("startup", startup_table), ("memory", memory_table)):
        if key in results:
            parts.append(make(results[key]))
    rows = [[j.what, j.text, str(j.target), j.target.verdict(j.value)]
            for j in judgements(results)]
    if rows:
        parts.append(table(rows, ["what", "measured", "target", "verdict"]))
    return "\n\n".join(parts)
