"""What the run needs from outside: a Debian as base image and a local archive of packages.

Both are made once, into target/bench, and are the only use of the network; a run that finds them needs none.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from . import place
from .measure import Failed, quietly

KEPT = place.PROJECT / "target" / "bench"
# The tests make the same one.
OF_TESTS = place.PROJECT / "target" / "test-cache" / "debian-bookworm.tar"
# With what they depend on these are about 200 packages of 100 MB, which become 400 MB.
PACKAGES = ("gcc libc6-dev make python3 git curl wget graphviz rsync tmux htop strace libwww-perl libdbi-perl libxml-simple-perl "
            "sqlite3 jq less file bc bzip2 xz-utils zip unzip patch procps psmisc lsof tree nano iproute2 iputils-ping socat").split()


def base():
    """The tar of a Debian minbase."""
    own = KEPT / "bookworm.tar"
    for file in (own, OF_TESTS):
        if file.exists():
            return file
    if not shutil.which("mmdebstrap"):
        sys.exit("mmdebstrap is missing: install it, or name a tar of a Debian with --base")
    KEPT.mkdir(parents=True, exist_ok=True)
    unfinished = own.with_suffix(".new")
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", "bookworm", unfinished], check=True)
    return unfinished.rename(own)


def busybox(path):
    """The tar of a small base, for trying the harness: the machine's static busybox."""
    program = shutil.which("busybox")
    if not program:
        raise Failed("busybox is not installed: apt-get install busybox-static")
    with tarfile.open(path, "w") as tar:
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(Path(program).resolve(), "bin/busybox")
        for applet in quietly([program, "--list"]).split():
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return path


def packages(base_tar):
    """A folder with the packages and their index, as apt reads it from `file:`."""
    folder = KEPT / "debs"
    if (folder / "Packages").exists():
        return folder
    place.fresh(folder)
    print("fetching the packages of the apt workload, once", file=sys.stderr)
    work = place.fresh(KEPT / "apt")
    with tarfile.open(base_tar) as tar:
        for member in tar:
            if member.name.removeprefix("./") in ("var/lib/dpkg/status", "etc/apt/sources.list"):
                (work / Path(member.name).name).write_bytes(tar.extractfile(member).read())
    for part in ("lists/partial", "cache/archives/partial"):
        (work / part).mkdir(parents=True)
    settings = {"Dir::State": work, "Dir::State::lists": work / "lists", "Dir::State::status": work / "status",
                "Dir::Cache": work / "cache", "Dir::Etc::sourcelist": work / "sources.list",
                "Dir::Etc::sourceparts": "/dev/null", "APT::Install-Recommends": "false", "APT::Sandbox::User": "root"}
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    quietly(["apt-get", *options, "update"])
    quietly(["apt-get", *options, "install", "-y", "--download-only", *PACKAGES])
    index = []
    for deb in sorted((work / "cache" / "archives").glob("*.deb")):
        # A colon, of an epoch, is %3a in apt's cache, and would be taken for an escape in the index.
        name = deb.name.replace("%3a", "_")
        content = deb.read_bytes()
        fields = quietly(["dpkg-deb", "-f", deb]).rstrip("\n")
        index.append(f"{fields}\nFilename: ./{name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n")
        (folder / name).write_bytes(content)
    if len(index) < len(PACKAGES):
        raise Failed("apt-get fetched too few packages")
    (folder / "Packages").write_text("\n".join(index))
    place.remove(work)
    return folder
