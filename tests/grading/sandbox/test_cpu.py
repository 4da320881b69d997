"""What CPU time a run got, and when it got less than its share."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import grading.sandbox.cgroups
from grading.sandbox.cgroups import Found, find_groups
from grading.sandbox.channel import open_folder
from grading.sandbox.cpu import CpuMeter, CpuUse, idle_seconds
from grading.sandbox.limits import Limits
from tests.grading.sandboxed import ATTACKS, SMALL, needs_sandbox, run


@pytest.mark.parametrize(
    ("use", "lost"),
    [
        # seconds: wall, used, waited, idle cores
        (CpuUse(100, 20, 80, 0), 80),  # one thread, and others used the CPUs
        (CpuUse(100, 20, 800, 0), 80),  # it is owed one core, however many threads wait
        (CpuUse(100, 20, 30, 0), 30),  # it slept for the other half
        (CpuUse(100, 80, 20, 0), 0),  # a small loss explains no time-out
        (CpuUse(100, 0.1, 0.1, 150), 0),  # it sleeps on an idle machine
        (CpuUse(100, 0.1, 2, 0), 0),  # it sleeps on a busy machine
        (CpuUse(100, 1, 24, 0), 0),  # it slept so long that waiting explains less than a quarter
        (CpuUse(100, 200, 14_800, 0), 0),  # 150 of its own threads on two cores
        (CpuUse(100, 100, 14_900, 100), 0),  # the same, bound to one of two cores
        (CpuUse(100, 100, 14_900, 0), 0),  # the same beside a neighbour, who has the other core
        (CpuUse(100, 20, 80, 90), 0),  # cores were idle all the time, so it did not want them
        (CpuUse(100, 20, 80, 60), 80),  # idle for part of the time, as before its neighbour started
        (CpuUse(0, 0, 0, 0), 0),
    ],
)
def test_a_run_lost_time_only_if_it_wanted_a_core_that_others_used(use, lost):
    assert use.lost == lost


def test_idle_time_is_that_of_the_cores_that_the_grader_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 10})
    ticks = os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text(
        f"cpu 9 9 9 999999 999 0 0 0 0 0\ncpu0 1 1 1 {3 * ticks} {ticks} 0 0 0 0 0\n"
        f"cpu1 1 1 1 {50 * ticks} 0 0 0 0 0 0\ncpu10 1 1 1 {2 * ticks} 0 0 0 0 0 0\nintr 5\n"
    )
    assert idle_seconds(stat) == 6


@pytest.fixture
def meter(tmp_path):
    """A meter of a made-up /proc, and a function that sets the seconds that a thread ran and waited."""
    with ExitStack() as resources:

        def thread(process: int, number: int, ran: float | None, waited: float = 0) -> None:
            file = tmp_path / str(process) / "task" / str(number) / "schedstat"
            file.parent.mkdir(parents=True, exist_ok=True)
            if ran is None:
                file.unlink()
            else:
                file.write_text(f"{int(ran * 1e9)} {int(waited * 1e9)} 7\n")

        yield CpuMeter(open_folder(str(tmp_path), resources)), thread


def test_threads_that_ended_and_whose_number_was_taken_still_count(meter):
    measured, thread = meter
    thread(1, 1, 1, 2)
    thread(1, 2, 4, 8)
    measured.look(now=True)
    thread(1, 1, 2, 3)
    thread(1, 2, None)
    thread(3, 3, 0.5, 0.5)
    measured.look(now=True)
    thread(3, 3, 0.25, 0.25)  # another thread
    measured.look(now=True)
    use = measured.use(0)
    assert (use.used, use.waited) == (2 + 4 + 0.5 + 0.25, 3 + 8 + 0.5 + 0.25)


def test_what_the_kernel_counted_is_used_where_it_is_more(meter):
    measured, thread = meter
    thread(1, 1, 2)
    measured.look(now=True)
    assert measured.use(5.0).used == 5  # of processes that ended unseen
    assert measured.use(0.5).used == 2  # a process that ignores SIGCHLD hides its children's time


def test_a_look_is_taken_once_in_a_while_unless_it_must_be(meter):
    measured, thread = meter
    thread(1, 1, 1)
    measured.look()
    thread(1, 1, 3)
    measured.look()
    assert measured.use(0).used == 1
    measured.look(now=True)
    assert measured.use(0).used == 3


@pytest.fixture(params=["groups", "no groups"])
def kept(request, monkeypatch):
    if request.param == "no groups":
        monkeypatch.setattr(grading.sandbox.cgroups, "find_groups", lambda: Found((), "switched off"))
    elif find_groups().reason:
        pytest.skip(f"no control groups: {find_groups().reason}")


SPIN = "import os, time\nwhile sum(os.times()[:2]) < 0.5: pass\nopen('/tmp/done', 'w')\n"


@needs_sandbox
@pytest.mark.parametrize(
    "script",
    [
        "python3 spin.py",
        "python3 spin.py; true",
        "(python3 spin.py &); while sleep 0.1; do [ -f /tmp/done ] && break; done",
    ],
)
def test_cpu_time_is_that_of_all_processes(folder, kept, script):
    (folder / "spin.py").write_text(SPIN)
    cpu = run(script, folder).cpu
    assert cpu is not None
    assert 0.4 <= cpu.used < 2  # without groups, what it used since the last tick is not seen


@needs_sandbox
def test_a_run_that_sleeps_until_its_time_is_over_lost_nothing(folder, kept):
    result = run("sleep 100", folder, replace(SMALL, seconds=1))
    assert result.cpu is not None
    assert (result.limit, result.cpu.lost) == ("seconds", 0)
    assert result.cpu.used < 0.5


HOG = replace(Limits(), seconds=4, processes=512)

SPINNERS = (ATTACKS / "cpu_hog" / "hw2_1.sh").read_text()


@needs_sandbox
def test_the_waiting_of_all_processes_is_seen(folder, kept):
    cpu = run(SPINNERS, folder, replace(HOG, seconds=1)).cpu
    assert cpu is not None
    assert cpu.waited > 10


@needs_sandbox
def test_a_run_with_many_processes_slows_its_neighbour_only_without_groups(folder, monkeypatch):
    if "CPU shares" not in find_groups().holds:
        pytest.skip("no control groups share the CPUs here")

    cores = len(os.sched_getaffinity(0))
    if cores > 16:
        pytest.skip("there are enough cores for the hog and its neighbour")

    def measured(script: str, limits: Limits) -> CpuUse:
        cpu = run(script, folder, limits).cpu
        assert cpu is not None
        return cpu

    def beside_a_hog() -> tuple[float, CpuUse]:
        """How many times more the hog got than its neighbour, and what that got."""
        with ThreadPoolExecutor(2) as pool:
            started = pool.submit(measured, SPINNERS, HOG)
            time.sleep(1)
            victim = measured("while :; do :; done", replace(SMALL, seconds=2))
            hog = started.result()
        return hog.used / hog.wall / (victim.used / victim.wall), victim

    held, _ = beside_a_hog()
    assert held < 4 * cores
    autogroups = Path("/proc/sys/kernel/sched_autogroup_enabled")
    if autogroups.exists() and autogroups.read_text().strip() == "1":
        return  # the kernel itself shares the CPUs among sessions, and a run is one
    monkeypatch.setattr(grading.sandbox.cgroups, "find_groups", lambda: Found((), "switched off"))
    times, victim = beside_a_hog()
    assert times > held
    assert victim.lost > 1  # so that its time-out "could not be checked"
