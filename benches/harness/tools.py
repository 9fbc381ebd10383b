"""What pushes, pulls and saves images: rbuild, docker, skopeo, podman.

Each is given the same image, as it is after a build: layers not compressed, nothing remembered of a push.
"""

import os
import shutil
import subprocess

from . import listing, place
from .measure import Command, Failed, quietly

TOOLS = ("rbuild", "skopeo", "docker", "podman")


class Tool:
    """The steps of all; `own` is a folder that is empty at the start."""

    def __init__(self, bench, image, registry):
        self.bench, self.image, self.registry, self.own = bench, image, registry, bench.place / f"tool-{self.name}"
        self.group = bench.meter.group(self.name)
        self.out = bench.place / f"saved-{self.name}.tar"
        place.fresh(self.own)

    def before_save(self):
        self.out.unlink(missing_ok=True)

    def close(self):
        self.out.unlink(missing_ok=True)
        place.remove(self.own)


class Rbuild(Tool):
    name = "rbuild"

    def __init__(self, bench, image, registry):
        super().__init__(bench, image, registry)
        self.version = quietly([bench.exe, "--version"]).strip()
        self.built, self.fresh, self.pulled = (self.own / name for name in ("built", "fresh", "pulled"))
        quietly(self.command("build", self.built, "-q", "-t", registry.name, image.context).words())

    def command(self, word, store, *rest):
        return Command([self.bench.exe, word, "--root", store, *rest])

    def just_built(self):
        """A store as the build left it: rbuild remembers what a layer came to when it was packed."""
        place.remove(self.fresh)
        quietly(["cp", "-a", self.built, self.fresh])

    def before_push(self):
        self.just_built()

    def push(self):
        return self.command("push", self.fresh, "-q", self.registry.name)

    def before_pull(self):
        place.remove(self.pulled)

    def pull(self):
        return self.command("pull", self.pulled, "-q", self.registry.name)

    def pulled_files(self):
        return listing.of_tar(self.command("export", self.pulled, self.registry.name).words(), lambda path: True)

    def before_save(self):
        super().before_save()
        self.just_built()

    def save(self):
        return self.command("save", self.fresh, "-o", self.out, self.registry.name)


class Docker(Tool):
    name = "docker"

    def __init__(self, bench, image, registry):
        super().__init__(bench, image, registry)
        self.engine = bench.engine("docker")
        self.version = self.engine.version

    def load(self):
        archive = self.image.archive()
        self.engine.do("load", "-i", archive)
        archive.unlink()
        self.engine.do("tag", "bench/image:1", self.registry.name)

    def before_push(self):
        if self.registry.name not in self.engine.do("images", "--format", "{{.Repository}}:{{.Tag}}").split():
            self.load()

    def push(self):
        return self.engine.command("push", "-q", self.registry.name)

    def before_pull(self):
        self.engine.forget([self.registry.name, "bench/image:1"])

    def pull(self):
        return self.engine.command("pull", "-q", self.registry.name)

    def pulled_files(self):
        return self.engine.listing(self.registry.name, lambda path: True)

    def before_save(self):
        super().before_save()
        self.before_push()

    def save(self):
        return self.engine.command("save", "-o", self.out, self.registry.name)

    def close(self):
        self.before_pull()
        super().close()


class Podman(Tool):
    name = "podman"

    def __init__(self, bench, image, registry):
        super().__init__(bench, image, registry)
        self.words = ["podman", "--root", self.own / "root", "--runroot", bench.short / "podman", "--storage-driver", "overlay"]
        self.version = quietly(["podman", "--version"]).strip()

    def command(self, *rest):
        return Command([*self.words, *rest])

    def do(self, *rest):
        return quietly([*self.words, *rest])

    def before_push(self):
        if self.registry.name not in self.do("images", "--format", "{{.Repository}}:{{.Tag}}").split():
            archive = self.image.archive()
            self.do("load", "-i", archive)
            archive.unlink()
            self.do("tag", "bench/image:1", self.registry.name)

    def push(self):
        return self.command("push", "-q", "--tls-verify=false", self.registry.name)

    def before_pull(self):
        self.do("rmi", "-af")

    def pull(self):
        return self.command("pull", "-q", "--tls-verify=false", self.registry.name)

    def pulled_files(self):
        return files_of_podman(self.words, self.registry.name)

    def before_save(self):
        super().before_save()
        self.before_push()

    def save(self):
        return self.command("save", "-q", "-o", self.out, self.registry.name)


class Skopeo(Tool):
    """Pushes from an OCI layout; pulls into containers-storage, which unpacks as the others do, and saves from there."""

    name = "skopeo"

    def __init__(self, bench, image, registry):
        super().__init__(bench, image, registry)
        self.version = quietly(["skopeo", "--version"]).split(" commit")[0].strip()
        self.layout = f"oci:{self.own / 'layout'}:1"
        root, run = self.own / "root", bench.short / "skopeo"
        self.run = run
        self.store = f"containers-storage:[overlay@{root}+{run}]{registry.name}"
        self.podman = ["podman", "--root", root, "--runroot", run, "--storage-driver", "overlay"]
        archive = image.archive()
        quietly(["skopeo", "copy", "-q", "--dest-oci-accept-uncompressed-layers", f"docker-archive:{archive}", self.layout])
        archive.unlink()

    def before_push(self):
        pass

    def push(self):
        return Command(["skopeo", "copy", "-q", "--dest-tls-verify=false", self.layout, f"docker://{self.registry.name}"])

    def before_pull(self):
        subprocess.run(["skopeo", "delete", self.store], capture_output=True, check=False)
        place.fresh(self.own / "root")
        place.fresh(self.run)

    def pull(self):
        return Command(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{self.registry.name}", self.store])

    def pulled_files(self):
        if not shutil.which("podman"):
            raise Failed("podman, which is to check what skopeo pulled, is not installed")
        return files_of_podman(self.podman, self.registry.name)

    def before_save(self):
        super().before_save()
        self.before_pull()
        quietly(["skopeo", "copy", "-q", self.layout, self.store])

    def save(self):
        return Command(["skopeo", "copy", "-q", self.store, f"docker-archive:{self.out}:bench/image:1"])


def files_of_podman(words, name):
    container = quietly([*words, "create", "--network", "none", name, "/none"]).strip().splitlines()[-1]
    try:
        return listing.of_tar([*words, "export", container], lambda path: True)
    finally:
        quietly([*words, "rm", "-f", container])


def start(name, bench, image, registry):
    if name != "rbuild" and not shutil.which(name):
        raise Failed(f"{name} is not installed")
    if name == "podman" and os.geteuid() != 0:
        raise Failed("podman with a store of its own needs root")
    return {"rbuild": Rbuild, "docker": Docker, "podman": Podman, "skopeo": Skopeo}[name](bench, image, registry)
