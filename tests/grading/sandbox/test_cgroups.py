"""The groups of runs: where they can be made, on made-up trees, and what real ones hold."""

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import grading.sandbox.cgroups
from grading.core.errors import GradingError
from grading.sandbox.cgroups import Found, Group, Place, enter, find_groups, find_places, new_group, remove_left_over
from grading.sandbox.limits import Watch
from grading.sandbox.temporary import prefix
from tests.grading.sandboxed import ROOT, SMALL, needs_sandbox, run

MIB = 2**20

needs_groups = pytest.mark.skipif(bool(find_groups().reason), reason=f"no control groups: {find_groups().reason}")

OWN_V1 = "4:memory:/class/a\n3:cpu,cpuacct:/class/a\n2:pids:/class/a\n1:name=systemd:/class/a\n"


def mount(kind: str, point: Path, options: str, root: str = "/") -> str:
    escaped = str(point).replace(" ", "\\040")
    return f"30 20 0:26 {root} {escaped} rw,relatime shared:9 - {kind} {kind} rw,{options}\n"


def made(folder: Path, **files: str) -> Path:
    """A group of a tree that is made up."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").touch()
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(content)
    return folder


@pytest.fixture
def old(tmp_path):
    """A tree of version 1, in which the grader is in class/a."""
    top = tmp_path / "old groups"
    mounts = ""
    for names in ("memory", "cpu,cpuacct", "pids", "name=systemd"):
        made(top / names / "class" / "a")
        mounts += mount("cgroup", top / names, names)
    return top, mounts


def test_in_version_1_each_controller_has_a_place_in_the_graders_own_group(old):
    top, mounts = old
    assert {(place.version, place.folder, place.controllers) for place in find_places(OWN_V1, mounts)} == {
        (1, top / "memory" / "class" / "a", frozenset({"memory"})),
        (1, top / "cpu,cpuacct" / "class" / "a", frozenset({"cpu", "cpuacct"})),
        (1, top / "pids" / "class" / "a", frozenset({"pids"})),
    }


def test_a_mount_that_shows_only_a_part_of_the_tree_is_searched_from_there(old):
    top, _ = old
    part = mount("cgroup", top / "memory" / "class", "memory", root="/class")
    assert [place.folder for place in find_places(OWN_V1, part)] == [top / "memory" / "class" / "a"]
    other = mount("cgroup", top / "memory", "memory", root="/other")
    assert find_places(OWN_V1, other) == []
    assert find_places("4:memory:/../a\n", mount("cgroup", top / "memory", "memory")) == []


def test_version_1_has_the_controllers_where_version_2_only_names_groups(old, tmp_path):
    top, mounts = old
    unified = made(tmp_path / "unified", cgroup_controllers="hugetlb", cgroup_subtree_control="")
    places = find_places(f"{OWN_V1}0::/\n", mounts + mount("cgroup2", unified, "nsdelegate"))
    assert {place.version for place in places} == {1}
    assert top / "memory" / "class" / "a" in [place.folder for place in places]


ALL = "cpuset cpu io memory pids"


@pytest.fixture
def new(tmp_path):
    """A tree of version 2: the grader in a scope of a slice, which hands on memory and pids as systemd's do."""
    top = made(tmp_path / "cgroup", cgroup_controllers=ALL, cgroup_subtree_control="cpu memory pids")
    slice_ = made(top / "user.slice", cgroup_controllers="cpu memory pids", cgroup_subtree_control="memory pids")
    scope = made(slice_ / "run.scope", cgroup_controllers="memory pids", cgroup_subtree_control="")
    return top, slice_, scope


def places_of(top: Path, own: Path) -> list[Place]:
    return find_places(f"0::/{own.relative_to(top)}\n", mount("cgroup2", top, "nsdelegate"))


def test_in_version_2_groups_stand_beside_a_group_that_was_not_delegated(new):
    top, slice_, scope = new
    (place,) = places_of(top, scope)
    assert (place.folder, place.version) == (slice_, 2)
    assert not [each for each in scope.iterdir() if each.is_dir()]


@pytest.fixture
def obedient(monkeypatch):
    """Writes to made-up groups have the effect that they have on real ones."""

    def write(file: Path, text: str, *, needed: bool) -> None:
        if file.name == "cgroup.subtree_control":
            offered = (file.parent / "cgroup.controllers").read_text().split()
            if (file.parent / "cgroup.procs").read_text().split() and file.parent.name.endswith(".scope"):
                if needed:
                    raise OSError(16, "Device or resource busy")
            elif text[1:] in offered:
                file.write_text(" ".join(sorted({*file.read_text().split(), text[1:]})))
        elif file.name == "cgroup.procs":
            for other in file.parents[1].rglob("cgroup.procs"):
                other.write_text("\n".join(word for word in other.read_text().split() if word != text))
            file.write_text(f"{file.read_text() if file.exists() else ''}\n{text}")

    monkeypatch.setattr(grading.sandbox.cgroups, "_write", write)


@pytest.mark.parametrize("delegated", [True, False])
def test_the_processes_of_a_delegated_group_move_into_one_of_its_own(new, obedient, monkeypatch, delegated):
    top, slice_, scope = new
    (scope / "cgroup.procs").write_text("7\n8\n")
    monkeypatch.setattr(os, "getxattr", lambda *_: b"1" if delegated else b"0")
    (place,) = places_of(top, scope)
    if not delegated:
        assert place == Place(slice_, 2, frozenset({"cpu", "memory", "pids"}))
        assert (scope / "cgroup.procs").read_text() == "7\n8\n"
        return
    assert place == Place(scope, 2, frozenset({"memory", "pids"}))
    (leaf,) = (each for each in scope.iterdir() if each.is_dir())
    assert leaf.name == f"{prefix('grade')}self"
    assert (leaf / "cgroup.procs").read_text().split() == ["7", "8"]
    assert (scope / "cgroup.procs").read_text() == ""


def test_a_grader_that_starts_in_the_leaf_of_another_uses_the_group_above_it(new, obedient, monkeypatch):
    top, _, scope = new
    monkeypatch.setattr(os, "getxattr", lambda path, _: b"1" if path == scope else b"0")
    places_of(top, scope)
    leaf = made(scope / f"{prefix('grade')}self", cgroup_controllers="memory pids", cgroup_subtree_control="")
    assert [place.folder for place in places_of(top, leaf)] == [scope]


@pytest.mark.parametrize("owner", ["a container", "the machine", "a machine that hands nothing on yet"])
def test_the_highest_group_of_a_container_is_divided_and_that_of_the_machine_used(tmp_path, obedient, owner):
    top = made(tmp_path / ("top.scope" if owner == "a container" else "top"), cgroup_controllers=ALL)
    (top / "cgroup.subtree_control").touch()
    (top / "cgroup.procs").write_text("1")
    if owner == "a container":
        (top / "cgroup.events").touch()
    elif owner == "the machine":
        (top / "cgroup.subtree_control").write_text(ALL)
    (place,) = places_of(top, top)
    assert place.folder == top
    assert place.controllers == {"cpu", "memory", "pids"}
    assert bool([each for each in top.iterdir() if each.is_dir()]) == (owner == "a container")


def test_groups_that_may_not_be_written_are_no_place(new, old, monkeypatch):
    top, _, scope = new
    monkeypatch.setattr(os, "access", lambda *_: False)  # as of a container's read-only mount
    assert places_of(top, scope) == []
    assert find_places(OWN_V1, old[1]) == []


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_gets_the_limits_and_an_equal_share_of_the_cpus(tmp_path, monkeypatch, version):
    written = {}
    monkeypatch.setattr(
        grading.sandbox.cgroups, "_write", lambda file, text, needed: written.update({file.name: (text, needed)})
    )
    monkeypatch.setattr(grading.sandbox.cgroups, "REMOVE_SECONDS", 0)
    with ExitStack() as resources:
        group = Group([Place(tmp_path, version, frozenset({"memory", "pids", "cpu"}))], 256 * MIB, 64, resources)
        (name,) = os.listdir(tmp_path)
        assert name.startswith(prefix("grade"))
        assert group.entries == [str(tmp_path / name / "cgroup.procs")]
    assert os.listdir(tmp_path) == []
    memory = "memory.limit_in_bytes" if version == 1 else "memory.max"
    assert written[memory] == (str(256 * MIB), True)
    assert int(written["pids.max"][0]) > 64
    assert ("cpu.shares" if version == 1 else "cpu.weight") in written
    swap = {1: ("memory.memsw.limit_in_bytes", str(256 * MIB)), 2: ("memory.swap.max", "0")}[version]
    assert written[swap[0]] == (swap[1], False)


def filled(place: Place, files: dict[str, str]) -> Group:
    group = Group.__new__(Group)
    group.folders = {place: place.folder}
    for name, content in files.items():
        (place.folder / name).write_text(content)
    return group


def old_files(kills: int, most: int) -> dict[str, str]:
    """Files of version 1. most: MiB that were used at one time."""
    used = {"memory.max_usage_in_bytes": f"{most * MIB}", "memory.limit_in_bytes": f"{256 * MIB}"}
    return {"memory.oom_control": f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n", **used}


@pytest.mark.parametrize(
    ("version", "files", "killed"),
    [
        (2, {"memory.events": "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"}, (True, True)),
        (2, {"memory.events": "max 0\noom 0\noom_kill 1\n"}, (True, False)),
        (2, {"memory.events": "max 5\noom 3\noom_kill 0\n"}, (False, True)),
        (2, {}, (False, False)),
        (1, old_files(2, 256), (True, True)),
        (1, old_files(2, 99), (True, False)),
        (1, old_files(0, 256), (False, True)),
    ],
)  # fmt: skip
def test_a_runs_own_limit_and_the_machines_memory_are_told_apart(tmp_path, version, files, killed):
    group = filled(Place(tmp_path, version, frozenset({"memory"})), {"memory.limit_in_bytes": f"{256 * MIB}", **files})
    assert group.killed() == killed
    watch = Watch(SMALL, os.open(tmp_path, os.O_RDONLY), [], [], [], None, group)
    if killed == (True, False):
        with pytest.raises(GradingError, match="the machine ran out of memory"):
            watch.exceeded()
    else:
        assert watch.exceeded() == ("memory" if killed[0] else "")
    os.close(watch.processes)


def test_cpu_time_is_read_from_either_version(tmp_path):
    group = filled(Place(tmp_path, 2, frozenset({"memory"})), {"cpu.stat": "usage_usec 2500000\nuser_usec 1\n"})
    assert group.cpu_seconds() == 2.5
    (tmp_path / "old").mkdir()
    group = filled(Place(tmp_path / "old", 1, frozenset({"cpuacct"})), {"cpuacct.usage": "1500000000\n"})
    assert group.cpu_seconds() == 1.5
    assert filled(Place(tmp_path, 1, frozenset({"memory"})), {}).cpu_seconds() is None


def test_only_groups_of_dead_graders_are_removed(tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    dead = prefix("grade").replace(f"-{os.getpid()}-", f"-{process.pid}-")
    for name in (f"{dead}ab", f"{prefix('grade')}cd", "user.slice", f"{dead}full"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{dead}full" / "child").mkdir()  # the kernel lets no group go that has processes
    remove_left_over(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([f"{prefix('grade')}cd", "user.slice", f"{dead}full"])


def test_a_group_that_cannot_be_made_is_the_graders_failure(tmp_path, monkeypatch):
    gone = Place(tmp_path / "gone", 2, frozenset({"memory"}))
    monkeypatch.setattr(grading.sandbox.cgroups, "find_groups", lambda: Found((gone,)))
    with ExitStack() as resources, pytest.raises(GradingError, match=r"no control group can be made .* grade again"):
        new_group(MIB, 8, resources)
    monkeypatch.setattr(grading.sandbox.cgroups, "find_groups", lambda: Found((), "none"))
    assert new_group(MIB, 8, ExitStack()) is None


def test_a_command_does_not_run_outside_a_group_that_it_cannot_join(tmp_path):
    done = subprocess.run(enter([str(tmp_path / "gone" / "cgroup.procs")], ["echo", "ran"]), capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert subprocess.run(enter([], ["echo", "a b"]), capture_output=True).stdout == b"a b\n"


# --- real groups


@pytest.fixture(params=["groups", "no groups"])
def kept(request, monkeypatch):
    """A run with a group, where there can be one, and a run without."""
    if request.param == "no groups":
        monkeypatch.setattr(grading.sandbox.cgroups, "find_groups", lambda: Found((), "switched off"))
    elif find_groups().reason:
        pytest.skip(f"no control groups: {find_groups().reason}")
    return request.param


MEMFDS = """
import os, time
piece = b"x" * (1 << 20)
for _ in range(48):
    file = os.memfd_create("x")
    for _ in range(16):
        os.write(file, piece)
print("holding", flush=True)
time.sleep(1)
"""

SEGMENTS = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
for _ in range(48):
    segment = libc.shmget(0, 16 << 20, 0o600 | 0o1000)
    if segment < 0:
        raise SystemExit("refused")
    place = libc.shmat(segment, None, 0)
    ctypes.memset(place, 1, 16 << 20)
    libc.shmdt(ctypes.c_void_p(place))
print("holding", flush=True)
time.sleep(1)
"""


@needs_sandbox
@pytest.mark.parametrize("program", [MEMFDS, SEGMENTS], ids=["memfd", "System V"])
def test_memory_that_nobody_has_mapped_is_limited(folder, kept, program):
    (folder / "hold.py").write_text(program)
    limits = replace(SMALL, file_bytes=2**30)
    assert run("python3 hold.py", folder, limits).limit == "memory"


@needs_sandbox
@pytest.mark.parametrize("program", [MEMFDS, SEGMENTS], ids=["memfd", "System V"])
def test_without_protection_memory_that_nobody_has_mapped_passes(folder, monkeypatch, program):
    monkeypatch.setattr(grading.sandbox.cgroups, "find_groups", lambda: Found((), "switched off"))
    monkeypatch.setattr("grading.sandbox.unmapped.Unmapped.used", lambda _: 0)
    (folder / "hold.py").write_text(program)
    result = run("python3 hold.py", folder, replace(SMALL, file_bytes=2**30))
    assert (result.limit, result.log) == ("", "holding")


@needs_sandbox
def test_little_memory_that_nobody_has_mapped_is_allowed(folder, kept):
    (folder / "hold.py").write_text((MEMFDS + SEGMENTS).replace("range(48)", "range(4)"))
    result = run("python3 hold.py", folder, replace(SMALL, file_bytes=2**30, seconds=60.0))
    assert (result.limit, result.log) == ("", "holding\nholding")


@needs_sandbox
@needs_groups
def test_a_run_that_reads_files_larger_than_its_memory_is_not_stopped(folder):
    large = folder / "checkpoint"
    with large.open("wb") as file:
        block = os.urandom(MIB)
        for _ in range(300):
            file.write(block)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    read = "import mmap; f = open('checkpoint', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1)\n"
    read += "print(sum(m[i] for i in range(0, len(m), 4096)) > 0)\n"
    read += "print(sum(len(p) for p in iter(lambda: f.read(1 << 20), b'')))"
    (folder / "read.py").write_text(read)
    result = run("python3 read.py", folder)
    assert (result.limit, result.log.split()) == ("", ["True", str(300 * MIB)])


@needs_sandbox
@needs_groups
def test_the_kernel_holds_memory_even_without_a_watch(folder, monkeypatch):
    monkeypatch.setattr("grading.sandbox.run.TICK", 5)
    result = run("python3 -c 'x = bytearray(400 << 20); print(len(x))'", folder)
    assert (result.limit, result.log.count("419430400")) == ("memory", 0)


@needs_sandbox
@needs_groups
def test_what_a_neighbour_is_killed_for_does_not_excuse_a_run(folder, monkeypatch):
    kills = iter([4, 5])
    monkeypatch.setattr("grading.sandbox.run.oom_kills", lambda: next(kills))
    assert run("kill -KILL $$", folder).exit_status == 137


@needs_sandbox
def test_a_run_leaves_no_group(folder):
    def groups() -> list[Path]:
        return [each for place in find_groups().places for each in place.folder.glob(f"{prefix('grade')}*")]

    before = groups()
    run("sleep 60 & exit 0", folder)
    run("sleep 60", folder, replace(SMALL, seconds=0.2))
    assert [each for each in groups() if not each.name.endswith("self")] == before


@needs_sandbox
@needs_groups
def test_the_next_grader_removes_the_groups_of_one_that_was_killed(folder):
    code = textwrap.dedent("""
        import os, signal, sys, threading
        from pathlib import Path
        from grading.sandbox.cgroups import find_groups
        from grading.sandbox.run import run_sandboxed
        find_groups()
        threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        run_sandboxed(["sleep", "60"], submission=Path(sys.argv[1]))
    """)
    killed = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    places = find_groups().places
    left = [each for place in places for each in place.folder.glob(f"hw2-grade-*-{prefix('grade').split('-')[3]}-*")]
    assert left
    subprocess.run([sys.executable, "-c", "from grading.sandbox.cgroups import find_groups; find_groups()"], cwd=ROOT)
    assert not [each for each in left if each.exists() and not (each / "cgroup.procs").read_text()]


@needs_sandbox
@pytest.mark.parametrize("protected", [True, False], ids=["protected", "unprotected"])
def test_a_run_cannot_make_the_kernel_spare_it(folder, monkeypatch, protected):
    if not protected:
        monkeypatch.setattr("grading.sandbox.bubblewrap._read_only", lambda *_: [])
    script = "for n in 999 500 0; do echo $n > /proc/self/oom_score_adj; done; cat /proc/self/oom_score_adj"
    assert run(script, folder).log.splitlines()[-1] == ("1000" if protected else "0")
