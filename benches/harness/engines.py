"""The builders: rbuild, BuildKit and the classic builder of dockerd, buildah.

Each says the command for a thing; what is measured is run by `measure`. `listing` is how an image is checked.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from . import listing, place
from .contexts import BASE, dockerfile
from .measure import Command, Failed, quietly

BUILDERS = ("rbuild", "buildkit", "docker", "buildah")


class Rbuild:
    name = "rbuild"

    def __init__(self, bench):
        self.exe, self.bench = bench.exe, bench
        self.store = bench.place / "rbuild"
        self.group = bench.meter.group("rbuild")
        self.version = quietly([self.exe, "--version"]).strip()
        self.forget([])

    def command(self, word, *rest, store=None):
        return Command([self.exe, word, "--root", store or self.store, *rest])

    def load_base(self):
        """An import into an empty store."""
        return self.command("import", self.bench.base, BASE, store=self.bench.place / "rbuild-import")

    def unload_base(self):
        place.remove(self.bench.place / "rbuild-import")

    def build(self, context, tag, cached=False, plain=False):
        how = ["--progress", "plain"] if plain else ["-q"]
        return self.command("build", *how, "--network", "none", *([] if cached else ["--no-cache"]), "-t", tag, context)

    def forget(self, _tags):
        """A store with nothing but the base, and in use: a new one, with a first build behind it."""
        place.remove(self.store)
        quietly(self.command("import", self.bench.base, BASE).words())
        first = dockerfile(self.bench.place / "first", f"FROM {BASE}\nRUN true\n")
        quietly(self.build(first, "bench/first:1").words())

    def free(self, tag):
        """Removes an image and what it took, and keeps the other images."""
        subprocess.run(self.command("rmi", tag).words(), capture_output=True, check=False)
        quietly(self.command("builder", "prune", "-af").words())

    def listing(self, tag, wanted):
        return listing.of_tar(self.command("export", tag).words(), wanted)

    def read(self, what, context):
        return Command([self.exe, "parse", context / "Dockerfile"] if what == "parse" else [self.exe, "check", context])

    def close(self):
        pass


class Buildah:
    name = "buildah"

    def __init__(self, bench):
        self.bench, self.group = bench, bench.meter.group("buildah")
        self.version = quietly(["buildah", "--version"]).split(" (")[0]
        folder = bench.place / "buildah"
        self.own = ["buildah", "--root", folder / "root", "--runroot", folder / "run", "--storage-driver", "overlay"]
        self.import_folder = dockerfile(bench.place / "buildah-base", "FROM scratch\nADD base.tar /\n")
        shutil.copyfile(bench.base, self.import_folder / "base.tar")
        quietly(self.import_base(BASE).words())
        self.choose(dockerfile(bench.place / "first", f"FROM {BASE}\nRUN true\n"))

    def choose(self, context):
        """The first way to run a step that works here: crun, which is quicker, takes not every set of cgroups."""
        parent = self.bench.meter.cgroup_parent("buildah")
        ways = [["--isolation", "oci", "--runtime", path, "--network", "none", *(["--cgroup-parent", parent] if parent else [])]
                for path in map(shutil.which, ("crun", "runc")) if path]
        # It has no network namespace of its own.
        ways.append(["--isolation", "chroot"])
        for way in ways:
            self.how = way
            try:
                quietly(self.build(context, "bench/first:1").words())
                self.version += f" with {Path(way[3]).name}" if len(way) > 2 else ", chroot isolation"
                return
            except Failed as error:
                why = error
        raise why

    def import_base(self, tag):
        # A build of one ADD, without the cache, is its way to an image from a tar.
        return Command([*self.own, "build", "-q", "--no-cache", "-t", tag, self.import_folder])

    def load_base(self):
        return self.import_base("bench/import:1")

    def unload_base(self):
        self.forget(["bench/import:1"])

    def build(self, context, tag, cached=False, plain=False):
        options = [*([] if plain else ["-q"]), *([] if cached else ["--no-cache"])]
        return Command([*self.own, "build", "--layers", "--pull=never", "--jobs", "4", *self.how, *options, "-t", tag, context])

    def forget(self, tags):
        for tag in tags:
            subprocess.run([*map(str, self.own), "rmi", "-f", tag], capture_output=True, check=False)
        quietly([*self.own, "rmi", "--prune", "-f"])

    def free(self, tag):
        self.forget([tag])

    def listing(self, tag, wanted):
        container = quietly([*self.own, "from", "--pull-never", tag]).strip()
        try:
            folder = quietly([*self.own, "mount", container]).strip()
            return listing.of_tar(["tar", "-C", folder, "-cf", "-", "."], wanted)
        finally:
            quietly([*self.own, "rm", container])

    def close(self):
        pass


class Dockerd:
    """An engine of its own, its data in the bench's place, without networks."""

    def __init__(self, bench, name):
        if not shutil.which("dockerd"):
            raise Failed("dockerd is not installed")
        folder, short = bench.place / name, bench.short / name
        folder.mkdir()
        short.mkdir()
        self.host, self.log = f"unix://{short}/sock", folder / "log"
        command = ["dockerd", "--data-root", folder / "data", "--exec-root", short / "exec", "--pidfile", folder / "pid",
                   "-H", self.host, "--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=overlay2"]
        if parent := bench.meter.cgroup_parent(name):
            command += ["--cgroup-parent", parent]
        group = bench.meter.group(name)
        group.enter()
        try:
            with open(self.log, "wb") as log:
                self.process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                                start_new_session=True)
        finally:
            group.leave()
        group.daemons.append(self.process.pid)
        for _ in range(300):
            if self.process.poll() is not None:
                break
            done = subprocess.run(["docker", "-H", self.host, "version", "-f", "{{.Server.Version}}"], capture_output=True,
                                  text=True, check=False)
            if done.returncode == 0:
                self.version = "docker " + done.stdout.strip()
                return
            time.sleep(0.1)
        self.close()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        raise Failed("dockerd does not start: " + (lines[-1] if lines else "no word"))

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Docker:
    """The classic builder, or BuildKit, each with a dockerd of its own."""

    def __init__(self, bench, name):
        self.name, self.bench, self.buildkit = name, bench, name == "buildkit"
        self.group = bench.meter.group(name)
        self.daemon = Dockerd(bench, name)
        try:
            self.version = self.daemon.version
            self.env = {"DOCKER_BUILDKIT": "1" if self.buildkit else "0", "DOCKER_CONFIG": str(bench.place / "docker-config")}
            # A client without its buildx plugin has no BuildKit; an older one beside it may.
            clients = [Path(folder) / "docker" for folder in os.environ["PATH"].split(":")]
            self.clients = list(dict.fromkeys(str(c) for c in clients if os.access(c, os.X_OK)))
            self.client = self.clients[0]
            self.do("import", bench.base, BASE)
            self.choose(dockerfile(bench.place / "first", f"FROM {BASE}\nRUN true\n"))
        except BaseException:
            self.daemon.close()
            raise

    def command(self, *words):
        return Command([self.client, "-H", self.daemon.host, *words], self.env)

    def do(self, *words):
        return quietly(self.command(*words).words(), env={**os.environ, **self.env})

    def choose(self, context):
        for client in self.clients:
            self.client = client
            try:
                command = self.build(context, "bench/first:1")
                quietly(command.words(), env={**os.environ, **command.env})
                return
            except Failed as error:
                why = error
        raise why

    def load_base(self):
        return None if self.buildkit else self.command("import", self.bench.base, "bench/import:1")

    def unload_base(self):
        self.forget(["bench/import:1"])

    def build(self, context, tag, cached=False, plain=False):
        options = (["--progress", "plain"] if self.buildkit else []) if plain else ["-q"]
        return self.command("build", *options, "--network", "none", *([] if cached else ["--no-cache"]), "-t", tag, context)

    def forget(self, tags):
        for tag in tags:
            command = self.command("rmi", "-f", tag)
            subprocess.run(command.words(), capture_output=True, env={**os.environ, **self.env}, check=False)
        self.do("image", "prune", "-f")
        if self.buildkit:
            self.do("builder", "prune", "-af")

    def free(self, tag):
        self.forget([tag])

    def listing(self, tag, wanted):
        container = self.do("create", "--network", "none", tag, "/none").strip()
        try:
            return listing.of_tar(self.command("export", container).words(), wanted)
        finally:
            self.do("rm", "-f", container)

    def close(self):
        self.daemon.close()


def start(name, bench):
    if name == "rbuild":
        return Rbuild(bench)
    if name == "buildah":
        return Buildah(bench)
    return Docker(bench, name)
