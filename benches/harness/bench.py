"""One run: the engines in turn, round by round, for each workload. What fails is left out and said."""

import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from . import archive, engines, place, tools, transfer, workloads
from .contexts import FULL, TINY
from .measure import Failed, Meter

ALL = (*dict.fromkeys((*engines.BUILDERS, *tools.TOOLS)), "limit")


def all_rows(bench):
    """Every row in the order of the table, and what makes their contexts and images."""
    builds, made = workloads.rows(bench)
    transfers = transfer.Transfers(bench)
    late = ("scale", "import", "parse", "check")
    rows = [row for row in builds if row.group not in late]
    return [*rows, *transfers.rows(), *(row for row in builds if row.group in late)], made, transfers


def rows_of(tiny):
    """The rows without a run, to show results that are there."""
    return all_rows(SimpleNamespace(sizes=TINY if tiny else FULL, tiny=tiny, place=Path("/none")))[0]


class Bench:
    def __init__(self, args):
        self.exe, self.rounds, self.tiny = args.rbuild, args.rounds, args.small
        self.sizes = TINY if args.small else FULL
        self.wanted = args.engines.split(",") if args.engines else list(ALL)
        if unknown := set(self.wanted) - set(ALL):
            sys.exit(f"unknown engine `{unknown.pop()}`; there are {', '.join(ALL)}")
        self.base = args.base or (None if args.small else archive.base())
        self.place = place.make(args.place)
        self.short = place.make_short()
        if self.tiny and not args.base:
            self.base = archive.busybox(self.place / "busybox.tar")
        self.meter = Meter(self.place)
        self.engines, self.versions, self.left_out, self.results = {}, {}, {}, {}
        self.rows, self.contexts, self.transfers = all_rows(self)
        names = args.workloads.split(",") if args.workloads else [row.name for row in self.rows]
        if unknown := set(names) - {row.name for row in self.rows} - {row.group for row in self.rows}:
            known = dict.fromkeys(row.group for row in self.rows)
            sys.exit(f"unknown workload `{unknown.pop()}`; there are {', '.join(known)}")
        self.rows = [row for row in self.rows if row.name in names or row.group in names]
        if self.tiny and not args.workloads:
            # It has no tiny size, and may need the network.
            self.rows = [row for row in self.rows if row.name != "apt"]

    def debs(self):
        return archive.packages(self.base)

    def engine(self, name):
        """The builder, started when it is first asked for; Failed each time where it cannot be."""
        if name in self.left_out:
            raise Failed(self.left_out[name])
        if name not in self.engines:
            try:
                self.engines[name] = engines.start(name, self)
            except Exception as error:
                self.left_out[name] = said(error)
                raise Failed(self.left_out[name]) from None
        return self.engines[name]

    def run(self):
        for number, row in enumerate(self.rows):
            print(f"{row.name} ({number + 1} of {len(self.rows)}): {row.what}", file=sys.stderr, flush=True)
            start = time.monotonic()
            try:
                self.measure(row)
            except Exception as error:
                self.leave_out(row, "all", error)
            finally:
                summarise(self.results[row.name])
            print(f"  {time.monotonic() - start:.1f} s with all preparation", file=sys.stderr)
            following = self.rows[number + 1] if number + 1 < len(self.rows) else None
            if following is None or following.group != row.group:
                self.contexts.close()
            if row.engine and (following is None or not following.engine):
                self.transfers.close()

    def measure(self, row):
        found = self.results.setdefault(row.name, {})
        row.setup()
        taking_part = {}
        for name in [name for name in self.wanted if name in row.engines]:
            try:
                engine = (row.engine or self.engine)(name)
                self.versions[name] = getattr(engine, "version", None) or self.versions.get(name, name)
                row.prime(engine)
                taking_part[name] = engine
            except Exception as error:
                self.leave_out(row, name, error)
        parts = {limit.label: limit for limit in (row.limits() if "limit" in self.wanted else [])}
        group = self.meter.group("limit")
        for turn in range(self.rounds + 1):
            for name, engine in list(taking_part.items()):
                try:
                    self.turn(row, engine, turn, found.setdefault(name, new_entry()))
                except Exception as error:
                    self.leave_out(row, name, error)
                    del taking_part[name]
                    found.pop(name, None)
                    self.finish(row, engine)
            for label, limit in list(parts.items()):
                try:
                    limit.prepare()
                    sample = self.meter.run([limit.command], group)
                    entry = found.setdefault("limit", {"parts": {}})["parts"].setdefault(label, new_entry())
                    note(entry, sample, turn)
                except Exception as error:
                    self.leave_out(row, f"limit: {label}", error)
                    del parts[label]
        for engine in taking_part.values():
            self.finish(row, engine)

    def turn(self, row, engine, turn, entry):
        row.prepare(engine)
        # rbuild has no daemon: nothing of it may be left from before.
        sample = self.meter.run(row.job(engine), engine.group, watch_memory=turn == 0)
        note(entry, sample, turn)
        extra = row.observe(engine, sample)
        if turn == 0:
            entry["memory_mib"] = sample.memory
            row.check(engine)
        else:
            for key, value in extra.items():
                entry.setdefault("observed", {}).setdefault(key, []).append(value)

    def finish(self, row, engine):
        try:
            row.finish(engine)
        except Exception as error:
            print(f"  {row.name}, {engine.name}, cleaning: {said(error)}", file=sys.stderr)

    def leave_out(self, row, name, error):
        reason = said(error)
        known = self.left_out.get(name) == reason
        if not known:
            self.left_out[f"{name}, {row.name}"] = reason
        print(f"  {name}: left out: {reason}", file=sys.stderr, flush=True)

    def close(self):
        """Ends all that runs, and removes the place."""
        try:
            self.transfers.close()
            for engine in self.engines.values():
                engine.close()
        finally:
            self.meter.close()
            place.remove(self.place)
            place.remove(self.short)


def said(error):
    return str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"


def new_entry():
    return {"seconds": [], "cpu_seconds": []}


def note(entry, sample, turn):
    """The first round warms up: its time is kept apart."""
    if turn == 0:
        entry["warm_up"] = sample.seconds
    else:
        entry["seconds"].append(sample.seconds)
        entry["cpu_seconds"].append(sample.cpu)


def summarise(found):
    """Adds medians; the limit is as long as the longest of its parts, which could run at the same time."""
    for name, entry in list(found.items()):
        for part in entry["parts"].values() if name == "limit" else [entry]:
            if part["seconds"]:
                part["median"] = statistics.median(part["seconds"])
                part["cpu_median"] = statistics.median(part["cpu_seconds"])
                part |= {key: statistics.median(values) for key, values in part.get("observed", {}).items()}
        if name == "limit":
            middles = [part["median"] for part in entry["parts"].values() if "median" in part]
            if middles:
                entry["median"] = max(middles)
        if "median" not in entry:
            del found[name]
