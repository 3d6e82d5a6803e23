"""A bar chart of the workloads' times against native, as an SVG file: logarithmic, lower is better."""
import html
import math

from measure.programs import mean_ratio, ratios, timed

COLORS = {"QEMU": "#c8553d", "UML": "#e0a458", "Doppel": "#2a6f97"}
INK, FAINT = "#222", "#ddd"
LEFT, WIDTH, TOP, BAR, GAP = 300, 560, 64, 9, 10
LOWEST = 0.7


def ticks(highest):
    found, n = [], 1
    while n < highest * 1.5:
        found += [n, 2 * n, 5 * n]
        n *= 10
    return [t for t in found if t <= highest * 1.2]


class Chart:
    def __init__(self, highest):
        self.scale = WIDTH / math.log(max(highest, 2) * 1.3 / LOWEST)
        self.parts = []

    def x(self, value):
        return LEFT + max(0, math.log(value / LOWEST)) * self.scale

    def rectangle(self, x, y, width, height, color):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                          f'height="{height:.1f}" fill="{color}"/>')

    def line(self, x, y1, y2, color):
        self.parts.append(f'<line x1="{x:.1f}" y1="{y1:.1f}" x2="{x:.1f}" y2="{y2:.1f}" '
                          f'stroke="{color}"/>')

    def write(self, x, y, words, anchor="start", size=11, weight="normal"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}" '
                          f'font-size="{size}" font-weight="{weight}">{html.escape(words)}</text>')

    def svg(self, height):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" '
                f'height="{height}" font-family="sans-serif">\n'
                '<rect width="100%" height="100%" fill="white"/>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def rows_of(workloads, machines, clock):
    """Titles with ratios by machine; the means last."""
    by_machine = {m: ratios(workloads, m, "native", clock) for m in machines}
    rows = [(workloads["titles"][n], {m: r[n] for m, r in by_machine.items() if n in r})
            for n in timed(workloads)]
    for title, kinds in (("geometric mean", ("computing", "system")),
                         ("of the computing ones", ("computing",))):
        means = {m: mean_ratio(workloads, m, "native", clock=clock, kinds=kinds)
                 for m in machines}
        rows.append((title, {m: v for m, v in means.items() if v}))
    return [row for row in rows if row[1]]


def draw(workloads, clock="processor"):
    """The chart, or None where nothing was measured natively to compare with."""
    machines = [m for m in COLORS if workloads["machines"].get(m)]
    rows = rows_of(workloads, machines, clock) if workloads["machines"].get("native") else []
    if not rows:
        return None
    highest = max(v for _, values in rows for v in values.values())
    chart = Chart(highest)
    step = len(machines) * BAR + GAP
    bottom = TOP + len(rows) * step
    chart.write(20, 24, f"Time against native ({clock} time, lower is better)", size=15,
                weight="bold")
    for i, m in enumerate(machines):
        chart.rectangle(LEFT + i * 90, 34, 10, 10, COLORS[m])
        chart.write(LEFT + i * 90 + 15, 43, m)
    for t in ticks(highest):
        chart.line(chart.x(t), TOP - 6, bottom, INK if t == 1 else FAINT)
        chart.write(chart.x(t), bottom + 14, f"{t}", "middle")
    for i, (title, values) in enumerate(rows):
        y = TOP + i * step
        chart.write(LEFT - 10, y + step / 2, title, "end",
                    weight="bold" if i >= len(rows) - 2 else "normal")
        for j, m in enumerate(m for m in machines if m in values):
            end = chart.x(values[m])
            chart.rectangle(LEFT, y + j * BAR, end - LEFT, BAR - 1, COLORS[m])
            chart.write(end + 3, y + j * BAR + 8, f"{values[m]:.3g}", size=9)
    return chart.svg(bottom + 30)
