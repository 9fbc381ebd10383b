"""The results as SVG, for light and dark pages, without any library.

`bars`: a bar for each engine and workload, on a logarithmic scale, with the least and the most. `scale`: three
panels, time over size, both logarithmic, where a straight line that rises by one is linear.
"""

import math
from html import escape

COLOURS = {"rbuild": ("#1f6feb", "#58a6ff"), "buildkit": ("#bf8700", "#d29922"), "docker": ("#8250df", "#a371f7"),
           "buildah": ("#cf222e", "#f85149"), "skopeo": ("#bf3989", "#db61a2"), "podman": ("#9a6700", "#c69026"),
           "limit": ("#6e7781", "#8b949e")}
TEXT, FAINT, PAPER = ("#1f2328", "#e6edf3"), ("#d0d7de", "#30363d"), ("#ffffff", "#0d1117")


def style():
    rules = [("paper", "fill", PAPER), ("text", "fill", TEXT), ("grid", "stroke", FAINT), ("ink", "stroke", TEXT)]
    rules += [(name, "fill", colour) for name, colour in COLOURS.items()]
    rules += [(f"line-{name}", "stroke", colour) for name, colour in COLOURS.items()]
    light = "".join(f".{name}{{{what}:{colour[0]}}}" for name, what, colour in rules)
    dark = "".join(f".{name}{{{what}:{colour[1]}}}" for name, what, colour in rules)
    return (f"<style>text{{font:12px system-ui,sans-serif}}.small{{font-size:10px}}.title{{font-size:15px;font-weight:600}}"
            f".line{{fill:none;stroke-width:2}}{light}@media (prefers-color-scheme: dark){{{dark}}}</style>")


def document(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
            f'{style()}<rect class="paper" width="{width}" height="{height}"/>{"".join(parts)}</svg>\n')


def text(x, y, content, anchor="start", kind="text"):
    return f'<text class="text {kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def line(x1, y1, x2, y2, kind="grid"):
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def short(seconds):
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def legend(names, x, y):
    parts = []
    for name in names:
        parts += [f'<rect class="{name}" x="{x}" y="{y - 9}" width="10" height="10"/>', text(x + 14, y, name)]
        x += 30 + 7 * len(name)
    return parts


def bars(rows, data):
    """All rows but those of `scale`, which have a plot of their own."""
    results = data["results"]
    rows = [row for row in rows if results.get(row.name) and row.group != "scale"]
    if not rows:
        return None
    names = [name for name in COLOURS if any(name in results[row.name] for row in rows)]
    values = [entry["median"] for row in rows for entry in results[row.name].values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    left, width, thick, gap, top = 120, 900, 11, 12, 88
    span = width - left - 90

    def x(seconds):
        return left + span * (math.log10(max(seconds, 10**low)) - low) / max(high - low, 1)

    drawn, y = [], top
    for row in rows:
        found, start = results[row.name], y
        for name in [name for name in names if name in found]:
            entry = found[name]
            end = x(entry["median"])
            said = escape(f"{row.name}, {name}: {short(entry['median'])}")
            drawn.append(f'<rect class="{name}" x="{left}" y="{y}" width="{max(end - left, 1):.1f}" height="{thick - 2}">'
                         f"<title>{said}</title></rect>")
            edge = end
            if entry.get("seconds"):
                least, edge = x(min(entry["seconds"])), max(end, x(max(entry["seconds"])))
                drawn.append(line(least, y + thick / 2 - 1, edge, y + thick / 2 - 1, "ink"))
            drawn.append(text(edge + 4, y + thick - 3, short(entry["median"]), kind="small"))
            y += thick
        drawn.append(text(left - 8, (start + y) / 2 + 4, row.name, "end"))
        y += gap
    height = y + 16
    grid = []
    for power in range(low, high + 1):
        grid += [line(x(10**power), top - 10, x(10**power), y - gap + 4), text(x(10**power), top - 16, short(10**power), "middle", "small")]
    title = [text(16, 24, "Seconds for each workload, logarithmic: shorter is better", kind="title")]
    return document(width, height, [*title, *legend(names, 16, 46), *grid, *drawn])


def scale(data, kinds=("layers", "files", "stages")):
    """None where no row of it was measured."""
    results, panels = data["results"], {}
    for kind in kinds:
        for name, found in results.items():
            if name.startswith(f"scale_{kind}_"):
                for engine, entry in found.items():
                    panels.setdefault(kind, {}).setdefault(engine, []).append((int(name.rsplit("_", 1)[1]), entry["median"]))
    panels = {kind: engines for kind, engines in panels.items() if any(len(points) > 1 for points in engines.values())}
    if not panels:
        return None
    seconds = [s for engines in panels.values() for points in engines.values() for _, s in points]
    sizes = [n for engines in panels.values() for points in engines.values() for n, _ in points]
    low, high = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))
    most, side, tall, top = max(math.log10(max(sizes)), 0.1), 230, 230, 74
    parts = [text(16, 24, "Time over size, both logarithmic; dashed: linear", kind="title")]
    parts += legend([name for name in COLOURS if any(name in engines for engines in panels.values())], 16, 46)
    for number, (kind, engines) in enumerate(panels.items()):
        left = 60 + number * (side + 60)

        def at(n, s, left=left):
            return left + side * math.log10(n) / most, top + tall * (high - math.log10(s)) / (high - low)

        for power in range(low, high + 1):
            y = at(1, 10**power)[1]
            parts += [line(left, y, left + side, y), text(left - 6, y + 4, short(10**power), "end", "small")]
        for n in sorted({n for points in engines.values() for n, _ in points}):
            parts += [line(at(n, 1)[0], top, at(n, 1)[0], top + tall), text(at(n, 1)[0], top + tall + 16, f"x{n}", "middle", "small")]
        for row, (engine, points) in enumerate(engines.items()):
            points = sorted(points)
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
            parts.append(f'<polyline class="line line-{engine}" points="{path}"/>')
            parts += [f'<circle class="{engine}" cx="{at(*p)[0]:.1f}" cy="{at(*p)[1]:.1f}" r="3.5"/>' for p in points]
            if len(points) > 1:
                (n1, s1), (n2, s2) = points[-2:]
                rise = math.log(s2 / s1) / math.log(n2 / n1)
                parts.append(text(left, top + tall + 36 + 15 * row, f"{engine}: last rise n^{rise:.2f}, {short(s2 / n2)} each", kind="small"))
        for engine, points in engines.items():
            n, s = max(points)
            (x1, y1), (x2, y2) = at(1, max(s / n, 10**low)), at(n, s)
            if s / n < 10**low:
                x1, y1 = at(n * 10**low / s, 10**low)
            parts.append(f'<line class="line-{engine}" stroke-dasharray="3 4" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
        parts.append(text(left + side / 2, top - 12, kind, "middle"))
    return document(60 + len(panels) * (side + 60), top + tall + 80, parts)
