"""`limit`: plain commands that do what cannot be avoided, each stated by its label.

They run in a folder of the same place, below a directory with the base's files where they need one.
"""

import shlex
import shutil
import sys
from pathlib import Path

from . import place
from .archive import PACKAGES
from .measure import Command, Failed, bash, quietly, shell
from .row import Limit


def apt_script():
    """What the apt workload runs in the image, and its limit in the chroot."""
    return ("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d && echo 'deb [trusted=yes] file:/debs ./' > /etc/apt/sources.list && "
            "export DEBIAN_FRONTEND=noninteractive && apt-get -o APT::Sandbox::User=root update && "
            f"apt-get -o APT::Sandbox::User=root install -y --no-install-recommends {' '.join(PACKAGES)}")


def check_installed(bench, lists):
    """Failed unless the packages of the archive are all there."""
    names = {name.removesuffix(".list").split(":")[0] for name in lists}
    wanted = {deb.name.split("_")[0] for deb in bench.debs().glob("*.deb")}
    if wanted - names:
        raise Failed(f"{len(wanted - names)} packages are not installed, as {sorted(wanted - names)[0]}")


def sha256():
    """The quickest program at hand: openssl uses the processor's own instructions, Debian's sha256sum does not."""
    return "openssl dgst -sha256" if shutil.which("openssl") else "sha256sum"


class Limits:
    def __init__(self, bench):
        self.bench, self.folder = bench, bench.place / "limit"

    def root(self):
        """The base's files."""
        root = self.folder / "root"
        if not root.exists():
            root.mkdir(parents=True)
            quietly(["tar", "-C", root, "--numeric-owner", "-xf", self.bench.base])
        return root

    def empty(self):
        place.fresh(self.folder / "to")

    def to(self):
        self.folder.mkdir(exist_ok=True)
        return shlex.quote(str(self.folder / "to"))

    def noop(self, context):
        files = shlex.join([str(context / "Dockerfile"), str(context / "hello")])
        return [Limit("sha256 of its two files", Command([*sha256().split(), *shlex.split(files)]))]

    def runs(self, count):
        root = shlex.quote(str(self.root()))
        script = f"i=0; while [ $i -lt {count} ]; do chroot {root} /bin/sh -c \"echo $i > /f$i\"; i=$((i + 1)); done"
        return [Limit(f"{count} x chroot sh" if count > 1 else "chroot sh", shell(script))]

    def copy(self, source):
        return [Limit("cp -a", shell(f"cp -a {shlex.quote(str(source))} {self.to()}/"), self.empty)]

    def digest(self, source):
        return [Limit("tar \\| sha256", bash(f"tar -C {shlex.quote(str(source))} -cf - . | {sha256()}"))]

    def copy_and_digest(self, source):
        return [*self.copy(source), *self.digest(source)]

    def stat(self, source):
        return [Limit("find, lstat of each", shell(f"find {shlex.quote(str(source))} -printf '%s %T@ %i\\n' > /dev/null"))]

    def edit(self, source):
        """Links are made within a store, from the layer that is there."""
        before = self.folder / "before"

        def prepare():
            self.empty()
            place.fresh(before)
            quietly(["cp", "-a", source, before])

        links = Limit("cp -al", shell(f"cp -al {shlex.quote(str(before))} {self.to()}/"), prepare)
        return [*self.stat(source), links, *self.digest(source)]

    def big(self, file):
        file = shlex.quote(str(file))
        return [Limit("cp", shell(f"cp {file} {self.to()}/"), self.empty), Limit("sha256", shell(f"{sha256()} {file}"))]

    def write(self, context):
        root = self.root()
        out = root / "out"

        def prepare():
            place.remove(out)
            quietly(["cp", context / "generate", root / "generate"])

        program = "sh -eu" if self.bench.sizes.busybox else "perl"
        return [Limit("the script in a chroot", shell(f"chroot {shlex.quote(str(root))} {program} /generate"), prepare), *self.digest(out)]

    def sleep(self, seconds):
        return [Limit("4 x sleep at once", shell(f"for i in 1 2 3 4; do sleep {seconds} & done; wait"))]

    def apt(self, debs):
        root = self.folder / "apt"
        script = (f"mount -t proc proc {shlex.quote(str(root))}/proc; exec {sys.executable} {shlex.quote(str(Path(__file__).with_name('nosync.py')))} "
                  f"chroot {shlex.quote(str(root))} /bin/sh -c {shlex.quote(apt_script())}")

        def prepare():
            place.remove(root)
            quietly(["cp", "-a", self.root(), root])
            quietly(["cp", "-a", debs, root / "debs"])

        return [Limit("the same in a chroot, fsync off", Command(["unshare", "--mount", "/bin/sh", "-ec", script]), prepare)]

    def burn(self, count, size, at_once):
        script = f"seq {count} | xargs -P {at_once} -I N sh -c 'head -c {size} /dev/zero | sha256sum' > /dev/null"
        return [Limit(f"{count} such steps, {at_once} at once, no container", shell(script))]

    def untar(self):
        return [Limit("tar x", shell(f"tar -C {self.to()} -xf {shlex.quote(str(self.bench.base))}"), self.empty),
                Limit("sha256", shell(f"{sha256()} {shlex.quote(str(self.bench.base))}"))]

    def read_file(self, file):
        return [Limit("cat", shell(f"cat {shlex.quote(str(file))} > /dev/null"))]

    def close(self):
        place.remove(self.folder)
