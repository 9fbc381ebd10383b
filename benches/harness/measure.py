"""Runs commands and says what they took: seconds, CPU seconds, memory.

Seconds are from just before the start until the last of them has ended. CPU seconds and memory are those of all
processes of an engine, its daemon and its containers too: each engine has a cgroup of cpuacct (cgroup v1), where the
harness goes before it starts a command, so that it costs the command nothing; its own share is taken off. Without
cpuacct the CPU seconds are those of the commands and what they waited for, and of the daemon as /proc says them.

Memory is the most that the processes alive at one time had, each by its own high-water mark (VmHWM), read without
a pause at first, as some are gone soon, then every two milliseconds: pages that two share count twice. Who reads takes
time from who is measured, so memory is that of a round whose time does not count.
"""

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

HIERARCHIES = Path("/sys/fs/cgroup")
TOO_LONG = 900
TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """What could not be done, in a line for the table."""


@dataclass(frozen=True)
class Command:
    argv: list
    env: dict = field(default_factory=dict)

    def words(self):
        return [str(word) for word in self.argv]


def shell(script, env=None):
    """A command for `sh`, which stops at the first failure."""
    return Command(["/bin/sh", "-efu", "-c", script], env or {})


def bash(script):
    """The same for bash, where one failure in a pipe is one of the pipe."""
    return Command(["/bin/bash", "-efu", "-o", "pipefail", "-c", script])


@dataclass
class Sample:
    seconds: float
    cpu: float
    memory: float | None
    said: list


def proc_text(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def cpu_of_tree(root):
    """CPU seconds of a process, of what it waited for, and of its living descendants."""
    total, queue = 0, [root]
    while queue:
        pid = queue.pop()
        # The command's name, in parentheses, may hold anything.
        words = proc_text(pid, "stat").rpartition(")")[2].split()
        total += sum(map(int, words[11:15])) if words else 0
        queue += children(pid)
    return total / TICK


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, proc_text(pid, f"task/{task}/children").split())
    except OSError:
        pass
    return found


class Group:
    """The processes of one engine: a cgroup where there is cpuacct, else a list of roots."""

    def __init__(self, name, folder):
        self.name, self.folder, self.daemons = name, folder, []
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def enter(self):
        if self.folder:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def leave(self):
        if self.folder:
            (HIERARCHIES / "cpuacct" / "cgroup.procs").write_text(str(os.getpid()))

    def cpu(self):
        """CPU seconds so far, of all of it but the harness."""
        if self.folder:
            return int((self.folder / "cpuacct.usage").read_text()) / 1e9 - time.process_time()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime + sum(cpu_of_tree(pid) for pid in self.daemons)

    def pids(self, started):
        if self.folder:
            found = []
            # Containers come and go meanwhile; walk() takes that.
            for folder, _, _ in os.walk(self.folder):
                try:
                    found += map(int, Path(folder, "cgroup.procs").read_text().split())
                except OSError:
                    pass
            return set(found) - {os.getpid()}
        found, queue = set(), [*started, *self.daemons]
        while queue:
            pid = queue.pop()
            found.add(pid)
            queue += children(pid)
        return found


class Meter:
    """Makes the groups, and measures in them."""

    def __init__(self, place):
        self.place = place
        self.root = None
        folder = HIERARCHIES / "cpuacct" / f"rbuild-bench-{os.getpid()}"
        try:
            folder.mkdir()
            self.root = folder
        except OSError:
            pass
        self.groups = {}
        self.running = []

    def how(self):
        return "cpuacct cgroup" if self.root else "rusage and /proc: without containers of daemons"

    def group(self, name):
        if name not in self.groups:
            self.groups[name] = Group(name, self.root / name if self.root else None)
        return self.groups[name]

    def cgroup_parent(self, name):
        """Where an engine is to put its containers, for --cgroup-parent; None without cgroups."""
        return f"/{self.root.name}/{name}/containers" if self.root else None

    def run(self, commands, group, watch_memory=False):
        """Runs commands at the same time; Failed if one fails, with its last words."""
        logs = [self.place / f"said-{number}" for number in range(len(commands))]
        ready = []
        for command, log in zip(commands, logs):
            argv = command.words()
            program = shutil.which(argv[0]) if "/" not in argv[0] else argv[0]
            if not program:
                raise Failed(f"`{argv[0]}` is not installed")
            log.unlink(missing_ok=True)
            files = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                     (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                     (os.POSIX_SPAWN_DUP2, 1, 2)]
            ready.append((program, argv, {**os.environ, **command.env}, files))
        watcher = Watcher(group) if watch_memory else None
        group.enter()
        try:
            if watcher:
                watcher.start()
            cpu, start = group.cpu(), time.perf_counter()
            for program, argv, env, files in ready:
                self.running.append(os.posix_spawn(program, argv, env, file_actions=files, setpgroup=0))
            codes = self.wait()
            seconds = time.perf_counter() - start
            cpu = group.cpu() - cpu
        finally:
            if watcher:
                watcher.stop()
            group.leave()
        said = [log.read_text(errors="replace") for log in logs]
        for command, code, text in zip(commands, codes, said):
            if code != 0:
                last = " / ".join(text.strip().splitlines()[-3:])[-600:]
                raise Failed(f"`{' '.join(command.words())[:100]}` ended with {code}: {last}")
        return Sample(round(seconds, 6), round(cpu, 4), watcher and round(watcher.peak / 1024, 1), said)

    def wait(self):
        def late(_signal, _frame):
            raise TimeoutError

        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(TOO_LONG)
        codes = []
        try:
            while self.running:
                codes.append(os.waitstatus_to_exitcode(os.waitpid(self.running[0], 0)[1]))
                del self.running[0]
        except TimeoutError:
            self.kill()
            raise Failed(f"not ready after {TOO_LONG} s") from None
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        return codes

    def kill(self):
        for pid in self.running:
            try:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        self.running.clear()

    def close(self):
        """Ends what is still running in the groups, and removes them."""
        self.kill()
        for group in self.groups.values():
            group.leave()
            for pid in group.pids([]) if group.folder else []:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if self.root:
            deadline = time.monotonic() + 10
            while self.remove_groups() and time.monotonic() < deadline:
                time.sleep(0.05)

    def remove_groups(self):
        """An engine makes cgroups of the same name in the other hierarchies."""
        left = False
        for top in HIERARCHIES.glob(f"*/{self.root.name}"):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    left = True
        return left


class Watcher(threading.Thread):
    """The most kilobytes that the processes of a group had at one time."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.peak, self.done = group, 0, threading.Event()

    def run(self):
        start = time.monotonic()
        while not self.done.is_set():
            total = 0
            for pid in self.group.pids([]):
                for line in proc_text(pid, "status").splitlines():
                    if line.startswith("VmHWM:"):
                        total += int(line.split()[1])
                        break
            self.peak = max(self.peak, total)
            if time.monotonic() > start + 0.05:
                self.done.wait(0.002)

    def stop(self):
        self.done.set()
        self.join()


def quietly(argv, **options):
    """Runs what is not measured; its standard output, or Failed."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, **options)
    except FileNotFoundError:
        raise Failed(f"`{words[0]}` is not installed") from None
    if done.returncode != 0:
        last = " / ".join(done.stderr.strip().splitlines()[-2:])[-400:]
        raise Failed(f"`{' '.join(words)[:100]}` ended with {done.returncode}: {last}")
    return done.stdout
