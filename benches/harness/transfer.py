"""push, pull and save: rows like the others, whose engines are tools with the same image."""

import shlex
import shutil

from . import place, tools
from .image import LAYERS, Image
from .limits import sha256
from .measure import Failed, bash, quietly
from .registry import Registry
from .row import Limit, Row, Target


class Transfers:
    """The image, the registry and the tools; made when the first row is set up."""

    def __init__(self, bench):
        self.bench, self.image, self.registry, self.tools, self.failed = bench, None, None, {}, {}

    def setup(self):
        if self.registry is None:
            self.registry = Registry(self.bench)
            self.image = Image(self.bench)

    def tool(self, name):
        if name in self.failed:
            raise Failed(self.failed[name])
        if name not in self.tools:
            try:
                self.tools[name] = tools.start(name, self.bench, self.image, self.registry)
            except Failed as error:
                self.failed[name] = str(error)
                raise
        return self.tools[name]

    def fill(self):
        """The registry has the image, pushed by a tool that is not measured here where there is one."""
        self.registry.empty()
        tool = self.tool("skopeo" if shutil.which("skopeo") else "rbuild")
        tool.before_push()
        quietly(tool.push().words())

    def rows(self):
        megabytes = f"{self.bench.sizes.image / 1e6:.0f} MB image of {LAYERS} layers"

        def before_push(tool):
            tool.before_push()
            self.registry.empty()

        def check_push(tool):
            self.image.check_registry(self.registry)

        def judge_size(results):
            row = results.get("push", {})
            others = [row[name]["MB"] for name in ("skopeo", "docker") if name in row]
            if "rbuild" not in row or not others:
                return None, "-"
            ratio = row["rbuild"]["MB"] / min(others)
            return ratio <= 1.02, f"blobs {ratio:.3f} x the smallest"

        def prime_pull(tool):
            if self.registry.process is None or not self.registry.megabytes():
                self.fill()

        common = {"engines": tools.TOOLS, "setup": self.setup, "engine": self.tool}
        yield Row("push", "push", f"{megabytes} just built, gzip, to an empty registry", lambda tool: [tool.push()],
                  prepare=before_push, check=check_push, observe=lambda tool, sample: {"MB": round(self.registry.megabytes(), 2)},
                  target=Target(None, {"skopeo": 1.3, "docker": 2.5}, "blobs within 2 % of theirs", judge_size),
                  limits=self.limit_push, **common)
        yield Row("pull", "pull", "the same into an empty store, unpacked", lambda tool: [tool.pull()],
                  prime=prime_pull, prepare=lambda tool: tool.before_pull(),
                  check=lambda tool: self.image.check_files(tool.pulled_files()),
                  target=Target(2.6, 2.5), limits=self.limit_pull, **common)
        yield Row("save", "save", "the same to a docker archive", lambda tool: [tool.save()],
                  prepare=lambda tool: tool.before_save(), check=lambda tool: self.image.check_archive(tool.out),
                  target=Target(0.9, {"docker": 5}), limits=self.limit_save, **common)

    def limit_push(self):
        program = "pigz" if shutil.which("pigz") else "gzip"
        layers = shlex.join(map(str, self.image.tars))
        return [Limit(f"{program} -6", bash(f"cat {layers} | {program} -6 > /dev/null"))]

    def unpacked(self):
        return self.bench.place / "limit-unpacked"

    def limit_pull(self):
        packed = self.bench.place / "limit-packed"
        program = "pigz" if shutil.which("pigz") else "gzip"
        packed.mkdir(exist_ok=True)
        for tar in self.image.tars:
            quietly(["sh", "-c", f"{program} -6 < {shlex.quote(str(tar))} > {shlex.quote(str(packed / tar.name))}.gz"])
        blobs = shlex.join(str(packed / f"{tar.name}.gz") for tar in self.image.tars)
        to = shlex.quote(str(self.unpacked()))
        return [Limit("gunzip \\| tar x", bash(f"for blob in {blobs}; do {program} -dc $blob | tar -C {to} -x; done"),
                      lambda: place.fresh(self.unpacked()))]

    def limit_save(self):
        folder, out = self.unpacked(), self.bench.place / "limit-saved.tar"
        place.fresh(folder)
        for tar in self.image.tars:
            quietly(["tar", "-C", folder, "-xf", tar])
        return [Limit("tar \\| tee \\| sha256",
                      bash(f"tar -C {shlex.quote(str(folder))} -c . | tee {shlex.quote(str(out))} | {sha256()}"),
                      lambda: out.unlink(missing_ok=True))]

    def close(self):
        for tool in self.tools.values():
            try:
                tool.close()
            except Failed:
                pass
        self.tools.clear()
        if self.registry:
            self.registry.close()
        for name in ("image", "limit-unpacked", "limit-packed", "registry"):
            place.remove(self.bench.place / name)
        (self.bench.place / "limit-saved.tar").unlink(missing_ok=True)
