"""The folder where all stores and contexts of one run lie side by side, and its end.

The default is the RAM disk, `disk` is a folder of the project's own target. Nothing is left: no mount, no file.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
RAM = Path("/dev/shm")
PREFIX = "rbuild-bench-"


def make(where):
    folder = PROJECT / "target" / "bench" / "place" if where == "disk" else Path(where)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{PREFIX}*"):
        pid = old.name.removeprefix(PREFIX).split("-")[0]
        if not Path(f"/proc/{pid}").exists():
            print(f"{old} is of a run that was killed; removed")
            remove(old)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder))


def make_short():
    """A second folder whose name is short: sockets and podman's runroot take no long paths."""
    return Path(tempfile.mkdtemp(prefix="rb", dir="/run"))


def unmount(folder):
    """What other engines leave mounted below a folder; rbuild leaves nothing."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        points = [line.split()[4].encode().decode("unicode_escape") for line in mounts]
    for point in reversed([p for p in points if p.startswith(f"{folder}/")]):
        subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)


def remove(folder):
    """Quicker than shutil.rmtree by much, where there are many files."""
    unmount(folder)
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)


def free_gib(folder):
    return shutil.disk_usage(folder).free / 2**30


def fresh(folder):
    """The same folder, empty."""
    remove(folder)
    folder.mkdir(parents=True)
    return folder
