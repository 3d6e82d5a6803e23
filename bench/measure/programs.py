"""What workloads.py measured, as tables, and as ratios to hold against targets."""
from measure.tables import geometric_mean, table

PEERS = ("native", "QEMU", "UML", "Doppel")
FIGURES = (("null-system-call", "a null system call", "ns"),
           ("fork-exec-wait", "fork+exec+wait of a static program", "ms"),
           ("two-jobs", "work of two jobs with 2 processors, of one: 1", "x"),
           ("idle", "an idle guest's share of a processor", "%"))


def timed(workloads):
    """The names of the workloads that are compared: figures print their own."""
    return [n for n, kind in workloads["kinds"].items() if kind != "figure"]


def ratios(workloads, one, other, clock="processor", kinds=("computing", "system")):
    """How many times as long the one took as the other, by workload: those that both did."""
    a, b = (workloads["machines"].get(m, {}) for m in (one, other))
    return {n: a[n][clock] / b[n][clock] for n in timed(workloads)
            if workloads["kinds"][n] in kinds and n in a and n in b and b[n][clock] > 0}


def mean_ratio(workloads, one, other, **more):
    found = ratios(workloads, one, other, **more)
    return geometric_mean(found.values()) if found else None


def seconds(value):
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def factor(value):
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def times_table(workloads, clock):
    present = [p for p in PEERS if p in workloads["machines"]]
    against = [p for p in present if p != "native"] if "native" in present else []
    faster = [p for p in present if p not in ("native", "Doppel")] if "Doppel" in present else []
    rows = []
    for name in timed(workloads):
        row = [workloads["titles"][name]]
        row += [seconds(workloads["machines"][p].get(name, {}).get(clock)) for p in present]
        row += [factor(ratios(workloads, p, "native", clock).get(name)) for p in against]
        row += [factor(ratios(workloads, p, "Doppel", clock).get(name)) for p in faster]
        rows.append(row)
    for title, kinds in (("geometric mean", ("computing", "system")),
                         ("of the computing ones", ("computing",)),
                         ("of the others", ("system",))):
        row = [title] + [""] * len(present)
        row += [factor(mean_ratio(workloads, p, "native", clock=clock, kinds=kinds))
                for p in against]
        row += [factor(mean_ratio(workloads, p, "Doppel", clock=clock, kinds=kinds))
                for p in faster]
        rows.append(row)
    return table(rows, [f"programs, seconds ({clock} time)", *present,
                        *(f"{p}/native" for p in against), *(f"{p}/Doppel" for p in faster)])


def figures_table(workloads):
    present = [p for p in PEERS if p in workloads["figures"]]
    rows = []
    for name, title, unit in FIGURES:
        values = [workloads["figures"][p].get(name) for p in present]
        if any(v is not None for v in values):
            rows.append([title] + ["-" if v is None else f"{v:.3g} {unit}" if v < 1000
                                   else f"{v:.0f} {unit}" for v in values])
    for name in ("Doppel", "QEMU"):
        if name in workloads["memory"]:
            rows.append([f"{name}'s own memory at the peak"] + [
                f"{workloads['memory'][name]['total'] / 1024:.1f} MiB" if p == name else ""
                for p in present])
    return table(rows, ["figures", *present]) if rows else ""


def text(workloads):
    parts = []
    if any(workloads["machines"].values()) and timed(workloads):
        parts += [times_table(workloads, "processor"), times_table(workloads, "elapsed")]
    parts += [figures_table(workloads)] + workloads["failures"]
    return "\n\n".join(p for p in parts if p)
