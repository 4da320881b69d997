"""A class graded by Ray, on several machines. What does not depend on the engine is in test_cohort.py."""

import builtins
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from grading.cohort.ray_engine import LOCAL, RayEngine, ray_engine
from grading.core.errors import GradingError
from tests.commands import ROOT
from tests.grading.cohort.classes import graded, tries
from tests.grading.graders import unfit


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    """A Ray of our own with two workers; starting it takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # where workers find tests.grading.graders
        with ray_engine(LOCAL, 2) as started:
            yield started


def test_a_class_is_graded_whatever_happens_to_its_workers(handed_in, engine):
    submissions = handed_in("a", "b", "die-1-x", "raise-x")
    results = {result.submission: result.status for result in graded(submissions, engine)}
    assert results == dict.fromkeys(["a", "b", "die-1-x"], "pass") | {"raise-x": "error"}
    assert [len(tries(submission)) for submission in submissions] == [1, 1, 2, 1]


def test_a_worker_that_cannot_grade_stops_the_class(handed_in, engine):
    with pytest.raises(GradingError, match=r"a worker cannot grade: .* the data are missing; put them there$"):
        graded(handed_in("a", "b"), engine, unfit)


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(GradingError, match=r"not installed; run pip install '\.\[cohort\]' in a checkout, or "),
        ray_engine("127.0.0.1:1"),
    ):
        pass


def test_ray_leaves_print_as_it_was(engine, monkeypatch):
    from ray.experimental import tqdm_ray

    monkeypatch.setattr(builtins, "print", print)  # for other tests, should this one fail
    monkeypatch.setattr(tqdm_ray, "_manager", None)
    tqdm_ray.instance()  # as Ray does before it shows a line
    assert isinstance(print, types.BuiltinFunctionType), "what pickles print would find another function"


def listening(root: int) -> set[str]:
    """Addresses in hexadecimal, as /proc has them, on which this process and those that it started listen."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    sockets = set()
    for pid in family:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(descriptor.readlink()))
            except OSError:
                continue
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    return {row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def test_our_own_ray_listens_on_the_loopback_only(engine):
    found = listening(os.getpid())
    assert found
    assert found <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_our_own_ray_asks_for_a_secret(engine):
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


@pytest.mark.long
def test_our_own_ray_serves_nobody_without_its_secret(engine):
    """Who is refused goes on asking for a while, so this takes long."""
    import ray

    address = ray.get_runtime_context().gcs_address
    join = f"import ray; ray.init(address='{address}', log_to_driver=False); print('in')"
    for change, said in (({}, "in\n"), ({"RAY_AUTH_MODE": "disabled"}, "")):
        ended = subprocess.run(
            [sys.executable, "-c", join], env={**os.environ, **change}, capture_output=True, text=True, timeout=120
        )
        assert ended.stdout == said, change


def test_workers_do_not_import_from_the_callers_folder(engine, handed_in):
    import ray

    where = ray.remote(lambda: (os.getcwd(), sys.path))
    folder, path = ray.get(where.remote())
    assert Path(folder).name.startswith("hw2-ray-")
    assert os.getcwd() not in (path[0], folder)


def test_our_own_ray_keeps_its_sockets_in_a_folder_that_is_closed_to_other_users(engine):
    import ray

    sockets = Path(ray._private.worker._global_node.raylet_socket_name)
    private = Path("/", *sockets.parts[:3])
    assert sockets.is_socket()
    assert private.name.startswith(f"hw2-ray-{os.getpid()}-")
    assert private.stat().st_mode & 0o777 == 0o700
    assert private.stat().st_uid == os.geteuid()


@pytest.mark.long
def test_a_lost_machine_costs_nothing(tmp_path, handed_in, monkeypatch):
    """Three nodes of Ray on one machine: the head, which grades nothing, and two for a worker each; one dies."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = """
import io, sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
from rich.console import Console
from grading.cohort.find import find_submissions
from grading.cohort.ray_engine import ray_engine
from grading.cohort.screen import Screen
from grading.cohort.workers import grade_all
from tests.grading.graders import Fake

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
submissions, _ = find_submissions(Path("in"), Path("out"), {})

def kill_a_node():
    both = set()
    while len(both) < 2:
        time.sleep(0.1)
        both = {path.read_text().split()[0] for path in Path("out").glob("students/*/tries") if path.stat().st_size}
    cluster.remove_node(nodes[0], allow_graceful=False)

with ray_engine(cluster.address, 2) as engine, Screen(len(submissions)) as screen:
    threading.Thread(target=kill_a_node).start()
    for result in grade_all(submissions, Fake, engine, screen):
        print(result.submission, result.status, file=sys.__stdout__)
cluster.shutdown()
"""
    submissions = handed_in(*(f"slow-{i:02d}" for i in range(20)))
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    assert ended.stdout.splitlines() == [f"{submission.name} pass" for submission in submissions], ended.stderr
    assert "its worker died" in ended.stderr
    counts = [len(tries(submission)) for submission in submissions]
    assert sorted(counts) == [1] * 19 + [2]
