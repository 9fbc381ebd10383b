"""The results as Markdown: times, targets and whether they are met, CPU seconds and memory, what was left out."""

from dataclasses import replace

from .engines import BUILDERS
from .tools import TOOLS


def number(seconds):
    """Three digits that mean something."""
    if seconds >= 100:
        return f"{seconds:.0f}"
    if seconds >= 10:
        return f"{seconds:.1f}"
    if seconds >= 1:
        return f"{seconds:.2f}"
    return f"{seconds:.4f}" if seconds < 0.01 else f"{seconds:.3f}"


def best_of_others(found):
    others = {name: entry["median"] for name, entry in found.items() if name not in ("rbuild", "limit")}
    return min(others.items(), key=lambda item: item[1]) if others else None


def verdict(target, found, data):
    """What is asked, and what came out, in two cells; of tiny sizes only what is no time."""
    results = data["results"]
    if data["tiny"]:
        target = replace(target, seconds=None, ratio=None)
    asked, came = [], []

    def say(text, met, what):
        asked.append(text)
        came.append(f"{'yes' if met else '**no**'} ({what})" if met is not None else what)

    own = found.get("rbuild", {}).get("median")
    if own and target.seconds:
        say(f"<= {target.seconds:g} s", own <= target.seconds, f"{number(own)} s")
    ratios = target.ratio if isinstance(target.ratio, dict) else {None: target.ratio} if target.ratio else {}
    for name, ratio in ratios.items() if own else []:
        if name is None:
            name, seconds = best_of_others(found) or (None, None)
        else:
            seconds = found.get(name, {}).get("median")
        if seconds:
            say(f"{ratio:g} x" + (f" {name}" if isinstance(target.ratio, dict) else ""), seconds / own >= ratio, f"{seconds / own:.1f} x")
    if own and target.text:
        say(target.text, *(target.judge(results) if target.judge else (None, "-")))
    return "; ".join(asked) or "-", "; ".join(came) or "-"


def cell(entry):
    return f"{number(entry['median'])} ({number(min(entry['seconds']))}..{number(max(entry['seconds']))})" if entry else "-"


def limit_cell(entry):
    return "; ".join(f"{number(part['median'])} `{label}`" for label, part in entry["parts"].items() if "median" in part) if entry else "-"


def times(rows, data, engines):
    engines = [name for name in engines if any(name in data["results"].get(row.name, {}) for row in rows)]
    lines = ["| workload (median s, least..most) | " + " | ".join(engines) + " | limit | best other : rbuild | asked | met |",
             "|---" * (len(engines) + 5) + "|"]
    for row in rows:
        found = data["results"].get(row.name, {})
        best, own = best_of_others(found), found.get("rbuild", {}).get("median")
        ratio = f"**{best[1] / own:.1f} x** ({best[0]})" if best and own else "-"
        cells = [cell(found.get(name)) for name in engines]
        lines.append(f"| {row.name}: {row.what} | " + " | ".join(cells) + f" | {limit_cell(found.get('limit'))} | {ratio} | "
                     + " | ".join(verdict(row.target, found, data)) + " |")
    return lines


def spent(rows, data, engines):
    """CPU seconds and peak memory."""
    engines = [name for name in engines if any(name in data["results"].get(row.name, {}) for row in rows)]
    lines = ["| workload (median CPU s; peak MiB) | " + " | ".join(engines) + " | limit |", "|---" * (len(engines) + 2) + "|"]
    for row in rows:
        found = data["results"].get(row.name, {})
        cells = []
        for name in engines:
            entry = found.get(name)
            more = "".join(f"; {entry[key]:g} {key}" for key in ("steps", "MB") if key in entry) if entry else ""
            cells.append(f"{number(entry['cpu_median'])}; {round(entry['memory_mib']) or '?'}{more}" if entry else "-")
        parts = found.get("limit", {}).get("parts", {})
        cells.append("; ".join(number(part["cpu_median"]) for part in parts.values() if "median" in part) or "-")
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return lines


def header(data):
    facts = data["machine"]
    return (f"{facts['processor']}, {facts['cores']} cores, Linux {facts['kernel']}, {facts['memory_gib']:.0f} GiB; load "
            f"{facts['load_before']:.1f} before; commit {facts['commit']}; {data['rounds']} rounds and one that warms up; "
            f"in {facts['place']}; `--network none`{'; TINY SIZES, which say nothing' if data['tiny'] else ''}.")


def markdown(rows, data):
    rows = [row for row in rows if data["results"].get(row.name)]
    tool_rows = [row for row in rows if row.engine]
    build_rows = [row for row in rows if not row.engine]
    lines = [header(data), ""]
    for some, engines in ((build_rows, BUILDERS), (tool_rows, TOOLS)):
        if some:
            lines += [*times(some, data, engines), ""]
    for some, engines in ((build_rows, BUILDERS), (tool_rows, TOOLS)):
        if some:
            lines += [*spent(some, data, engines), ""]
    lines += [f"CPU seconds: {data['how']['cpu']}. Memory: {data['how']['memory']}.", ""]
    lines += ["Engines: " + "; ".join(f"{name} = {version}" for name, version in data["versions"].items()) + "."]
    if data["left_out"]:
        lines += ["", "Left out:", ""] + [f"- {name}: {why}" for name, why in data["left_out"].items()]
    return "\n".join(lines) + "\n"
