"""The control groups of runs: the kernel holds the limits of a run on its memory, processes and CPU time.

Each run has a group of its own in the grader's group, so that the grader's own limits hold as well. Version 2 needs a
group that was delegated by systemd, or root. Version 1 needs root. Groups are found out once, by trying.

The kernel charges what a run has written to memory, mapped or not, and the pages of files, which it can take back.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import listed
from grading.sandbox.temporary import is_left_over, prefix

NEEDED, WANTED = "memory", ("memory", "pids", "cpu", "cpuacct")
"""The controller without which there are no groups, and all that are used. Version 2 always measures CPU time."""

RESERVED_TASKS = 8
"""Processes of bubblewrap in a group. The kernel already holds the limit on those of the command."""

HUGE_PAGE = 2 * 2**20
"""The most that the kernel adds at once. A group that is this near to its limit has reached it."""

REMOVE_SECONDS = 2.0
"""Seconds allowed for the kernel to let a group go whose processes have ended."""

ENTER = """
echo 1000 > /proc/self/oom_score_adj  # if memory runs out, the kernel ends this process first
while [ "$1" != -- ]; do
  echo 0 > "$1" || exit 1
  shift
done
shift
exec "$@"
"""
"""A script of sh that joins groups and becomes a command. It is the first process of a run, so all others inherit both.

A run cannot lower its oom_score_adj again, because its /proc is read-only. With a GPU it is writable; there, only a
grader with CAP_SYS_RESOURCE keeps it at 1000.
"""

Content = tuple[str, int, bool]
"""A file of a group, what is written to it, and whether the group is of no use without it."""


@dataclass(frozen=True)
class Place:
    """A folder in which groups are made. version: 1 or 2. controllers: those that groups in it have."""

    folder: Path
    version: int
    controllers: frozenset[str]

    def settings(self, memory_bytes: int, processes: int) -> Iterator[Content]:
        """What a new group is set to. Every group has the same share of the CPUs."""
        if "memory" in self.controllers and self.version == 1:
            yield "memory.limit_in_bytes", memory_bytes, True
            yield "memory.memsw.limit_in_bytes", memory_bytes, False
        elif "memory" in self.controllers:
            yield "memory.max", memory_bytes, True
            yield "memory.swap.max", 0, False
            yield "memory.oom.group", 1, False
        if "pids" in self.controllers:
            yield "pids.max", processes + RESERVED_TASKS, False
        if "cpu" in self.controllers:
            yield ("cpu.shares", 1024, False) if self.version == 1 else ("cpu.weight", 100, False)


@dataclass(frozen=True)
class Found:
    """The places for groups; none if `reason` says why there can be none."""

    places: tuple[Place, ...] = ()
    reason: str = ""

    @property
    def protection(self) -> str:
        """A sentence's part on what holds the limits of runs on memory, processes and CPU time."""
        if self.reason:
            counted = "memory is counted by the grader, and nothing shares the CPUs evenly"
            return f"no control groups ({self.reason}); {counted}"
        return f"control groups of version {self.places[0].version} hold {listed(self.holds)}"

    @property
    def holds(self) -> tuple[str, ...]:
        """What groups hold: memory, and processes and CPU shares where they can."""
        names = {"memory": "memory", "pids": "processes", "cpu": "CPU shares"}
        held = frozenset[str]().union(*(place.controllers for place in self.places))
        return tuple(said for name, said in names.items() if name in held)


class Group:
    """The group of one run, in all places. Raises OSError if it cannot be made."""

    def __init__(self, places: Sequence[Place], memory_bytes: int, processes: int, resources: ExitStack) -> None:
        name = f"{prefix('grade')}{secrets.token_hex(4)}"
        self.folders = {place: place.folder / name for place in places}
        for place, folder in self.folders.items():
            folder.mkdir(mode=0o755)
            resources.callback(_remove, folder)
            for file, value, needed in place.settings(memory_bytes, processes):
                _write(folder / file, str(value), needed=needed)

    @property
    def entries(self) -> list[str]:
        """The files that a process writes 0 to in order to join."""
        return [str(folder / "cgroup.procs") for folder in self.folders.values()]

    def killed(self) -> tuple[bool, bool]:
        """Whether the kernel killed a process of the run for want of memory, and whether the run reached its own limit.

        Without the second, the memory of the machine, or of a group around the grader, ran out.
        """
        for place, folder in self.folders.items():
            if "memory" not in place.controllers:
                continue
            if place.version == 1:
                kills = _field(folder / "memory.oom_control", "oom_kill")
                most, limit = (_number(folder / f"memory.{name}_in_bytes") for name in ("max_usage", "limit"))
                return kills > 0, most > limit - HUGE_PAGE
            events = folder / "memory.events"
            return _field(events, "oom_kill") > 0, _field(events, "oom") > 0
        return False, False

    def cpu_seconds(self) -> float | None:
        """The CPU time of all its processes, those that have ended too; None if it is not measured."""
        for place, folder in self.folders.items():
            if place.version == 2:
                return _field(folder / "cpu.stat", "usage_usec") / 1e6
            if "cpuacct" in place.controllers:
                return _number(folder / "cpuacct.usage") / 1e9
        return None


@functools.cache
def find_groups() -> Found:
    """Where groups can be made by this process. Only the first call tries it; it removes groups of dead graders too."""
    own, mounts = (Path("/proc/self", name).read_text(errors="surrogateescape") for name in ("cgroup", "mountinfo"))
    try:
        places = find_places(own, mounts)
        for place in places:
            remove_left_over(place.folder)
        if not any(NEEDED in place.controllers for place in places):
            return Found(reason="the grader's own group may not be divided")
        with ExitStack() as resources:
            entries = Group(places, 2**30, 64, resources).entries
            tried = subprocess.run(enter(entries, ["true"]), env={}, capture_output=True, check=False)  # noqa: S603
    except OSError as error:
        return Found(reason=f"they cannot be made: {error.strerror}")
    return Found(reason="no process can join one") if tried.returncode else Found(tuple(places))


def new_group(memory_bytes: int, processes: int, resources: ExitStack) -> Group | None:
    """The group of a run, None where there can be none. Raises GradingError if it cannot be made."""
    places = find_groups().places
    try:
        return Group(places, memory_bytes, processes, resources) if places else None
    except OSError as error:
        raise GradingError(f"no control group can be made for the run ({error.strerror}); grade again") from None


def enter(entries: Sequence[str], command: Sequence[str]) -> list[str]:
    """The command that joins groups and becomes `command`. entries: those of a `Group`, none to join none."""
    return ["/bin/sh", "-c", ENTER, "sh", *entries, "--", *command]


def find_places(own: str, mounts: str) -> list[Place]:
    """The folders in which groups can be made. own, mounts: the content of /proc/self/cgroup and mountinfo.

    A controller belongs to version 1 or to version 2, never to both. Raises OSError if a group cannot be divided.
    """
    places = []
    for version, options, root, top in _hierarchies(mounts):
        for line in own.splitlines():
            _, names, path = line.split(":", 2)
            controllers = frozenset(names.split(",")).intersection(WANTED)
            if version == 1 and controllers and set(names.split(",")) <= options and (here := _below(path, root)):
                places.append(Place(top / here, 1, controllers))
            elif version == 2 and not names and (here := _below(path, root)):
                places += _divide(top / here, top)
    return [place for place in places if _is_open(place.folder)]


def remove_left_over(folder: Path) -> None:
    """Remove the groups of dead graders in a folder. Their processes ended with them."""
    for each in folder.iterdir():
        if each.is_dir() and is_left_over(each.name):
            with suppress(OSError):
                each.rmdir()


def _hierarchies(mounts: str) -> Iterator[tuple[int, set[str], str, Path]]:
    """Version, options, root and mount point of each hierarchy, see proc_pid_mountinfo(5)."""
    for line in mounts.splitlines():
        front, _, back = line.partition(" - ")
        kind, _, options = back.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, point = (_unescaped(each) for each in front.split(" ")[3:5])
            yield (1 if kind == "cgroup" else 2), set(options.split(",")), root, Path(point)


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _below(path: str, root: str) -> Path | None:
    """A group's path below the root of a mount, None if the mount does not show it."""
    if ".." in Path(path).parts or not Path(path).is_relative_to(root):
        return None
    return Path(path).relative_to(root)


def _is_open(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _divide(own: Path, top: Path) -> Iterator[Place]:
    """The nearest folder of version 2, from the grader's group upwards, whose groups can have the controllers.

    A group of version 2 has either processes or groups with controllers. So the processes of a group that was delegated
    move into one of its own first.
    """
    above = [own, *(each for each in own.parents if each.is_relative_to(top))]
    ready = [folder for folder in above if NEEDED in _words(folder / "cgroup.subtree_control") and _is_open(folder)]
    offered = NEEDED in _words(own / "cgroup.controllers") and _is_open(own)
    if offered and own not in ready and (_is_delegated(own, top) or not ready):
        _move_into_leaf(own)
        ready = [own]
    for folder in ready[:1]:
        for name in WANTED:
            _write(folder / "cgroup.subtree_control", f"+{name}", needed=False)
        yield Place(folder, 2, frozenset(_words(folder / "cgroup.subtree_control")).intersection(WANTED))


def _is_delegated(own: Path, top: Path) -> bool:
    """Whether systemd gave a group to its processes, or it is the highest group of a container."""
    with suppress(OSError):
        if os.getxattr(own, "user.delegate") == b"1":
            return True
    return own == top and (own / "cgroup.events").exists()


def _move_into_leaf(own: Path) -> None:
    """Move all processes of a group into one in it, and let its groups have the controllers. Raises OSError.

    The highest group of a machine may keep its processes.
    """
    with suppress(OSError):
        return _write(own / "cgroup.subtree_control", f"+{NEEDED}", needed=True)
    leaf = own / f"{prefix('grade')}self"
    leaf.mkdir(exist_ok=True)
    for process in _words(own / "cgroup.procs"):
        _write(leaf / "cgroup.procs", process, needed=False)
    try:
        _write(own / "cgroup.subtree_control", f"+{NEEDED}", needed=True)
    except OSError:
        for process in _words(leaf / "cgroup.procs"):
            _write(own / "cgroup.procs", process, needed=False)
        leaf.rmdir()
        raise
    return None


def _remove(folder: Path) -> None:
    """Remove a group. What the kernel does not let go in time is removed by a later grader."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)


def _write(file: Path, text: str, *, needed: bool) -> None:
    """Write to a file of the kernel. Where it refuses, OSError is raised if that is needed."""
    try:
        descriptor = os.open(file, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError:
        if needed:
            raise


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _number(file: Path) -> int:
    return next((int(word) for word in _words(file)[:1] if word.isdecimal()), 0)


def _field(file: Path, name: str) -> int:
    words = _words(file)
    return next((int(value) for key, value in itertools.pairwise(words) if key == name), 0)
