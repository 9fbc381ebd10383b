"""The build workloads and their targets; images in and out are in `transfer`."""

import os
import re
import shutil
import time

from . import contexts, limits, listing, place
from .contexts import BASE, dockerfile
from .measure import Failed, quietly
from .row import Row, Target

TAG = "bench/built:1"


def texts(pairs):
    return {path: listing.of_bytes(text.encode()) for path, text in pairs.items()}


class Contexts:
    """The folders of a run's contexts: made when first asked for, and what must come of them."""

    def __init__(self, bench):
        self.folder = bench.place / "contexts"
        self.expected = {}

    def get(self, name, make, *args):
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(parents=True)
            make(folder, *args)
        return folder

    def close(self):
        place.remove(self.folder)
        self.expected.clear()


def builds(bench, name, what, context, *, group=None, expected, wanted, forget=False, cached=False, prepare=None, **rest):
    """A row that is one build of a context; `expected` is called when the image is to be checked."""
    def before(engine):
        if forget:
            engine.forget([TAG])
        if prepare:
            prepare(engine)

    def prime(engine):
        if cached:
            quietly_run(engine.build(context(), TAG, cached=True))

    def check(engine):
        listing.compare(engine.listing(TAG, wanted), expected())

    rest.setdefault("finish", lambda engine: engine.forget([TAG]))
    return Row(name, group or name, what, lambda engine: [engine.build(context(), TAG, cached=cached)],
               prime=prime, prepare=before, check=check, setup=lambda: context(), **rest)


def quietly_run(command):
    return quietly(command.words(), env={**os.environ, **command.env})


def rows(bench):
    """All build workloads, in the order in which they run."""
    made = Contexts(bench)
    plain = limits.Limits(bench)
    return [*simple(bench, made, plain), *small(bench, made, plain), *large(bench, made, plain), *apt(bench, made, plain),
            *deep(bench, made, plain), *around(bench, made, plain), *many(bench, made, plain), *scale(bench, made),
            *reading(bench, made, plain)], made


def simple(bench, made, plain):
    size = bench.sizes

    def noop():
        return made.get("noop", contexts.noop)

    def runs():
        return made.get("runs", lambda folder: dockerfile(folder, f"FROM {BASE}\n{contexts.steps(size.runs)}"))

    yield builds(bench, "noop", "a file of 6 steps, all cached", noop, cached=True,
                 target=Target(0.006, 5), limits=lambda: plain.noop(noop()),
                 wanted=lambda path: path in ("a", "b", "app/hello"),
                 expected=lambda: texts({"a": "a\n", "b": "b\n", "app/hello": "hello\n"}))
    yield builds(bench, "runs", f"{size.runs} x `RUN echo i > /fi`, no cache", runs,
                 target=Target(0.25, 10), limits=lambda: plain.runs(size.runs),
                 wanted=re.compile(r"f\d+$").match,
                 expected=lambda: texts({f"f{n}": f"{n}\n" for n in range(size.runs)}))


def small(bench, made, plain):
    count = bench.sizes.files

    def context():
        return made.get("small", contexts.small, count)

    def expected():
        if "small" not in made.expected:
            made.expected["small"] = listing.of_folder(context(), "app")
            for name in ("app/Dockerfile", "app/.dockerignore"):
                del made.expected["small"][name]
        return made.expected["small"]

    def edit(_engine):
        file = contexts.edit(context())
        if "small" in made.expected:
            made.expected["small"][f"app/{file.relative_to(context())}"] = listing.of_bytes(file.read_bytes())

    what = f"`COPY . /app` of {count:,} files of 4 KB"
    common = {"group": "small", "expected": expected, "wanted": lambda path: path.startswith("app/")}
    keep = {"finish": lambda engine: None}
    yield builds(bench, "small", f"{what}, no cache, a store without the contents", context, forget=True, **common, **keep,
                 target=Target(0.9, 4.5), limits=lambda: plain.copy_and_digest(context()))
    yield builds(bench, "small_known", "the same, the store holds the contents", context, **common, **keep,
                 target=Target(None, 8), limits=lambda: plain.digest(context()))
    yield builds(bench, "small_warm", "the same, cached, nothing changed", context, cached=True, **common, **keep,
                 target=Target(0.1, 6), limits=lambda: plain.stat(context()))
    yield builds(bench, "small_edit", "the same, one file changed", context, cached=True, prepare=edit, **common,
                 target=Target(0.5, 8), limits=lambda: plain.edit(context()))


def large(bench, made, plain):
    size = bench.sizes

    def big():
        return made.get("big", contexts.big, size.big)

    def write():
        return made.get("write", contexts.write, size.write, size.busybox)

    def par():
        return made.get("par", contexts.par, size.sleep)

    def written():
        return {f"out/d{n // 200}/f{n}": listing.of_bytes(b"x" * 15000 + str(n).encode()) for n in range(size.write)}

    yield builds(bench, "big", f"COPY of {size.big / 2**30:.3g} GiB, no cache, a store without it", big, forget=True,
                 target=Target(1.3, 3.5), limits=lambda: plain.big(big() / "blob"),
                 wanted=lambda path: path == "blob", expected=lambda: {"blob": listing.of_file(big() / "blob")})
    yield builds(bench, "write", f"RUN that writes {size.write:,} files, {size.write * 15 // 1000} MB, no cache", write, forget=True,
                 target=Target(2.0, 1.7), limits=lambda: plain.write(write()),
                 wanted=lambda path: path.startswith("out/"), expected=written)
    yield builds(bench, "par", f"4 stages that sleep {size.sleep:g} s, joined, no cache", par,
                 target=Target(2.15, None), limits=lambda: plain.sleep(size.sleep),
                 wanted=re.compile(r"o\d$").match, expected=lambda: texts({f"o{n}": f"{n}\n" for n in range(4)}))


def apt(bench, made, plain):
    image = "bench/apt:1"

    def with_packages():
        def make(folder):
            dockerfile(folder, f"FROM {BASE}\nCOPY debs /debs\n")
            shutil.copytree(bench.debs(), folder / "debs")
        return made.get("apt-base", make)

    def context():
        with_packages()
        return made.get("apt", lambda folder: dockerfile(folder, f"FROM {image}\nRUN {limits.apt_script()}\n"))

    def prime(engine):
        quietly_run(engine.build(with_packages(), image, cached=True))

    def check(engine):
        # dpkg keeps a list of the files of each package that is installed.
        found = engine.listing(TAG, lambda path: re.match(r"var/lib/dpkg/info/[^/]+\.list$", path))
        limits.check_installed(bench, [path.rsplit("/", 1)[1] for path in found])

    yield Row("apt", "apt", "`apt-get install` of about 200 packages from a local archive, no cache",
              lambda engine: [engine.build(context(), TAG)], setup=lambda: context(), prime=prime, check=check,
              prepare=lambda engine: engine.free(TAG), finish=lambda engine: engine.forget([TAG, image]),
              limits=lambda: plain.apt(bench.debs()), target=Target(text="<= 1.05 x a plain chroot, fsync off", judge=judge_apt),
              # What is asked is measured by the chroot alone; the others would take minutes more.
              engines=("rbuild", "buildkit"))


def judge_apt(results):
    row = results.get("apt", {})
    own, limit = row.get("rbuild"), row.get("limit")
    if not own or not limit:
        return None, "-"
    ratio = own["median"] / limit["median"]
    return ratio <= 1.05, f"{ratio:.2f} x the chroot"


def deep(bench, made, plain):
    depth = bench.sizes.deep

    def below(count):
        return made.get(f"below-{count}", lambda folder: dockerfile(folder, f"FROM {BASE}\n{contexts.steps(count)}"))

    def one_more(count):
        return made.get(f"above-{count}", lambda folder: dockerfile(folder, f"FROM bench/deep{count}:1\nRUN echo last > /last\n"))

    def judge(results):
        first, last = (results.get(name, {}).get("rbuild") for name in ("deep_first", "deep_last"))
        if not first or not last:
            return None, "-"
        ratio = last["median"] / first["median"]
        return ratio <= 2, f"{ratio:.2f} x the first"

    for name, count, target in (("deep_first", 1, Target()), ("deep_last", depth, Target(text="within 2 x of the first", judge=judge))):
        image = f"bench/deep{count}:1"
        yield Row(name, "deep", f"one RUN above {count} layer{'s' if count > 1 else ''} and the base",
                  lambda engine, count=count: [engine.build(one_more(count), TAG)], target=target,
                  prime=lambda engine, count=count, image=image: quietly_run(engine.build(below(count), image, cached=True)),
                  check=lambda engine: listing.compare(engine.listing(TAG, lambda path: path == "last"), texts({"last": "last\n"})),
                  finish=lambda engine, image=image: engine.forget([TAG, image]),
                  limits=lambda: plain.runs(1))


def around(bench, made, plain):
    count = bench.sizes.around

    def context():
        return made.get("ctx", contexts.around, count)

    yield builds(bench, "ctx", f"COPY of 10 files beside {count:,} that `.dockerignore` leaves out, no cache", context,
                 target=Target(text="only what COPY can reach is looked at (counted by tests/it/perf_guard.rs)"),
                 limits=lambda: plain.copy(context() / "pick"), wanted=lambda path: path.startswith("pick/"),
                 expected=lambda: texts({f"pick/p{n}": f"{n}\n" for n in range(10)}))


def many(bench, made, plain):
    size = bench.sizes
    now = {}

    def prepare(engine):
        place.remove(made.folder / "many")
        nonce = time.monotonic_ns()
        now[engine.name] = contexts.many(made.folder / "many", size.builds, size.burn, nonce)

    def job(count):
        return lambda engine: [engine.build(folder, f"bench/many{n}:1", cached=True, plain=True)
                               for n, folder in enumerate(now[engine.name][:count])]

    def observe(_engine, sample):
        lines = {line for text in sample.said for line in re.findall(r"ran-[0-9a-f]{8}-[0-9a-f-]{27}", text)}
        return {"steps": len(lines)}

    def check(count):
        def of(engine):
            for n in range(count):
                names = {"s0", "s1", "s2", *(f"b{n}o{m}" for m in range(3))}
                found = engine.listing(f"bench/many{n}:1", re.compile(r"(s|b\d+o)\d$").match)
                if set(found) != names or len(set(found.values())) != 1:
                    raise Failed(f"the image of build {n} has {sorted(found)}, or their contents differ")
        return of

    def finish(engine):
        engine.forget([f"bench/many{n}:1" for n in range(size.builds)])

    distinct = 3 + 3 * size.builds

    def judge(results):
        own = results.get("many", {}).get("rbuild")
        if not own or "steps" not in own:
            return None, "-"
        return own["steps"] == distinct, f"{own['steps']:g} steps ran, {distinct} are distinct"

    yield Row("many_one", "many", "one build of 6 steps that compute", job(1), setup=lambda: made.folder.mkdir(exist_ok=True),
              prepare=prepare, observe=observe, check=check(1), finish=finish, limits=lambda: plain.burn(6, size.burn, 1))
    yield Row("many", "many", f"{size.builds} such builds at once, half of their steps shared", job(size.builds),
              setup=lambda: made.folder.mkdir(exist_ok=True), prepare=prepare, observe=observe, check=check(size.builds),
              finish=finish, limits=lambda: plain.burn(distinct, size.burn, 2),
              target=Target(text=f"total work = {distinct} distinct steps", judge=judge))


def scale(bench, made):
    size = bench.sizes
    made_of = {
        "layers": ("RUN steps", lambda folder, n: dockerfile(folder, f"FROM {BASE}\n{contexts.steps(n)}"), 1, r"f\d+$",
                   lambda n: texts({f"f{i}": f"{i}\n" for i in range(n)})),
        "files": ("files of 4 KB copied", lambda folder, n: contexts.small(folder, n), size.scale_files, r"app/d",
                  None),
        "stages": ("stages with a RUN each, joined", contexts.stages, 1, r"o\d+$",
                   lambda n: texts({f"o{i}": f"{i}\n" for i in range(n)})),
    }
    for kind, (what, make, unit, wanted, expected) in made_of.items():
        for times in size.scale:
            count = unit * times

            def context(kind=kind, make=make, count=count):
                return made.get(f"{kind}-{count}", make, count)

            def outcome(context=context, expected=expected, count=count):
                if expected:
                    return expected(count)
                return {path: digest for path, digest in listing.of_folder(context(), "app").items() if path.startswith("app/d")}

            target = Target(text="linear", judge=lambda results, kind=kind: judge_scale(results, kind, size.scale))
            yield builds(bench, f"scale_{kind}_{times}", f"{count:,} {what}, no cache", context, group="scale",
                         engines=("rbuild", "buildkit"), forget=True, wanted=re.compile(wanted).match, expected=outcome,
                         target=target if times == size.scale[-1] else Target())


def judge_scale(results, kind, times):
    """Linear: no more than 1.15 x the time for each of the last as for each of those before, or less."""
    own = [results.get(f"scale_{kind}_{n}", {}).get("rbuild") for n in times]
    if not all(own):
        return None, "-"
    first, middle, last = (row["median"] for row in own)
    ratio = last / middle
    return ratio <= 1.15 * times[2] / times[1], f"x{times[1] / times[0]:g} takes {middle / first:.1f} x, x{times[2] / times[1]:g} more {ratio:.1f} x"


def reading(bench, made, plain):
    count = bench.sizes.parsed

    def long():
        return made.get("parsed", contexts.parsed, count)

    yield Row("import", "import", "the base image from its tar, into a store", lambda engine: [engine.load_base()],
              engines=("rbuild", "docker", "buildah"), prepare=lambda engine: engine.unload_base(),
              finish=lambda engine: engine.unload_base(), limits=lambda: plain.untar())
    for name, what in (("parse", "syntax tree"), ("check", "check")):
        yield Row(name, name, f"{what} of a Dockerfile of {(count - 1) * 9:,} lines", lambda engine, name=name: [engine.read(name, long())],
                  engines=("rbuild",), setup=lambda: long(), limits=lambda: plain.read_file(long() / "Dockerfile"))
