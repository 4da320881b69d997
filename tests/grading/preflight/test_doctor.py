import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.environment.hub_models import HUB_MODELS
from grading.preflight.doctor import CHECKS, Preflight, Row, examine, refuse_if_blocked
from grading.sandbox.cgroups import Found, Place
from grading.submission.assignment import Assignment
from tests.grading.fake_nvml import install_nvml
from tests.grading.here import grade_here
from tests.grading.sandboxed import ROOT, needs_network, needs_sandbox

DATA = ROOT / "fixtures" / "hw2_data"


@pytest.fixture
def data(tmp_path):
    """The inputs of Problem 2, complete."""
    folder = tmp_path / "hw2_data"
    (folder / "face" / "GT").mkdir(parents=True)
    (folder / "face" / "noise").mkdir()
    for name in ("GT/00.png", "noise/00.pt", "UNet.pt"):
        (folder / "face" / name).write_bytes(b"x")
    return folder


@pytest.fixture
def faces(data):
    return Assignment(data, problems="2", trust=True, python=Path(sys.prefix))


@pytest.fixture
def row():
    """One row of the preflight of an assignment."""

    def row(name, assignment):
        check = next(check for check in CHECKS if check.__name__ == f"_{name}")
        return check(assignment, Path.cwd())

    return row


def test_complete_data_is_ready(row, faces):
    assert row("data", faces).status == "ready"


@pytest.mark.parametrize("lost", ["GT", "noise", "UNet.pt"])
@pytest.mark.parametrize("emptied", [False, True])
def test_missing_and_empty_data_stop_a_class_before_it_starts(row, faces, data, lost, emptied):
    path = data / "face" / lost
    for each in [*path.glob("*")]:
        each.unlink()
    if path.is_file():
        path.write_bytes(b"") if emptied else path.unlink()
    elif not emptied:
        path.rmdir()
    found = row("data", faces)
    assert (found.status, found.blocks) == ("not ready", True)
    assert str(path) in found.found
    with pytest.raises(GradingError, match="no submission could be checked: data"):
        refuse_if_blocked(Preflight((found,)))


def test_private_data_is_checked_too(row, faces, tmp_path):
    found = row("data", replace(faces, private=tmp_path / "private"))
    assert "private/face/noise" in found.found


def test_a_python_that_is_not_there_stops_a_class_instead_of_the_systems_being_used(row, faces, tmp_path):
    found = row("python", replace(faces, python=tmp_path))
    assert (found.status, found.blocks) == ("not ready", True)
    assert str(tmp_path) in found.found


def test_without_a_network_program_the_network_is_not_ready_and_a_class_without_downloads_still_starts(
    row, faces, monkeypatch
):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = row("network", replace(faces, trust=False))
    assert (found.status, found.blocks) == ("not ready", False)
    assert found.found == "slirp4netns is not installed, and downloads get no network without it"
    assert found.remedy.startswith("install it (apt-get install slirp4netns), or allow downloads the host's network")
    assert row("network", replace(faces, trust=False, host_network=True)).status == "ready"
    assert row("network", faces).status == "not needed"


@needs_network
def test_where_downloads_have_a_network_of_their_own_it_is_ready(row, faces):
    found = row("network", replace(faces, trust=False))
    assert (found.status, found.found) == ("ready", "downloads reach the Internet, and nothing of this machine")


@pytest.mark.parametrize("program", ["exit 3", "echo not json", "echo '[]'", "echo '{}'"])
def test_a_python_that_does_not_work_is_not_ready(row, faces, tmp_path, program):
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    found = row("python", replace(faces, python=tmp_path))
    assert (found.status, found.blocks) == ("not ready", True)
    assert row("packages", replace(faces, python=tmp_path)).status == "not ready"


@needs_sandbox
def test_the_graders_own_python_runs_in_the_sandbox_and_lacks_what_it_lacks(row, faces):
    sandboxed = replace(faces, trust=False)
    assert row("sandbox", sandboxed).status == "ready"
    assert ".".join(map(str, sys.version_info[:3])) in row("python", sandboxed).found
    packages = row("packages", sandboxed)
    assert "gdown" in packages.found
    assert "torch," not in packages.found
    assert not packages.blocks


@pytest.mark.parametrize("reason", ["", "the grader's own group may not be divided"])
def test_the_doctor_says_what_holds_the_limits(row, faces, monkeypatch, reason):
    place = Place(Path("/sys/fs/cgroup"), 2, frozenset({"memory", "pids"}))
    groups = Found((), reason) if reason else Found((place,))
    monkeypatch.setattr("grading.preflight.doctor.find_groups", lambda: groups)
    found = row("limits", replace(faces, trust=False))
    assert (found.status, found.blocks) == ("not ready" if reason else "ready", False)
    assert found.found == groups.protection
    assert ("Delegate=yes" in found.remedy) == bool(reason)
    assert (reason or "version 2 hold memory, processes") in found.found
    assert row("limits", faces).status == "not needed"


def test_no_sandbox_stops_a_class_and_says_what_to_install(row, faces, monkeypatch):
    def refuse(*_arguments, **_options):
        raise GradingError("bubblewrap is not installed; install it", option="trust")

    monkeypatch.setattr("grading.preflight.doctor.run_sandboxed", refuse)
    found = row("sandbox", replace(faces, trust=False))
    assert (found.status, found.blocks, found.remedy) == ("not ready", True, "install it")
    assert row("sandbox", faces).status == "not needed"


def test_a_missing_libseccomp_is_a_row_of_its_own_that_stops_a_class(row, faces, monkeypatch):
    assert row("calls", replace(faces, trust=False)).status == "ready"

    def missing():
        raise GradingError("libseccomp is not installed; install it", option="trust")

    monkeypatch.setattr("grading.preflight.doctor.compiled", missing)
    found = row("calls", replace(faces, trust=False))
    assert (found.status, found.blocks, found.remedy) == ("not ready", True, "install it")
    assert row("calls", faces).status == "not needed"


def test_a_gpu_is_needed_only_by_scripts_that_get_one(row, faces, monkeypatch):
    monkeypatch.setattr("grading.preflight.doctor.hardware", lambda: {"gpus": ""})
    assert row("gpu", faces).status == "not needed"

    def missing(_folder):
        raise GradingError("scripts are to have a GPU, but /dev/nvidia0 is missing; install the driver", option="gpu")

    monkeypatch.setattr("grading.preflight.doctor.find_devices", missing)
    found = row("gpu", replace(faces, gpu=True))
    assert (found.status, found.blocks, found.remedy) == ("not ready", True, "install the driver")
    assert found.found == "no answer from nvidia-smi; scripts are to have a GPU, but /dev/nvidia0 is missing"


@pytest.fixture
def with_gpu(faces, monkeypatch, tmp_path):
    """An assignment with a GPU of this mode and memory, and a check of it that used so much memory."""

    def make(peak=400 * 2**20, **facts):
        install_nvml(monkeypatch, **facts)
        monkeypatch.setattr("grading.preflight.doctor.find_devices", lambda _folder: [Path("/dev/nvidia0")])
        monkeypatch.setattr("grading.preflight.doctor.check_gpu", lambda _sandbox: peak)
        return replace(faces, gpu=True)

    return make


def test_a_gpu_is_ready_if_scripts_can_use_it_and_its_memory_is_measured(row, with_gpu):
    found = row("gpu", with_gpu())
    assert (found.status, found.remedy) == ("ready", "")
    assert "nvidia0; a CUDA operation ran" in found.found


def test_a_card_of_20_gb_is_large_enough_though_its_driver_keeps_some_memory(row, with_gpu):
    assert row("gpu", with_gpu(totals=(20470 * 2**20,))).status == "ready"  # as nvidia-smi shows an RTX A4500


@pytest.mark.parametrize("totals", [(16 * 2**30,), (80 * 2**30, 16 * 2**30)])
def test_a_smaller_card_than_the_courses_is_a_warning(row, with_gpu, totals):
    found = row("gpu", with_gpu(modes=(0,) * len(totals), totals=totals))
    assert (found.status, found.blocks) == ("not ready", False)
    assert "a GPU has 16.0 GiB, and the limit for one script is 20.0 GiB" in found.found
    small = replace(with_gpu(totals=(16 * 2**30,)), limits={"gpu_bytes": 8 * 2**30})
    assert row("gpu", small).status == "ready"


@pytest.mark.parametrize("peak", [None, 0])
def test_gpu_memory_that_is_not_measured_is_a_warning(row, with_gpu, peak):
    found = row("gpu", with_gpu(peak))
    assert (found.status, found.blocks) == ("not ready", False)
    assert "has no limit (NVML does not know the memory" in found.found


def test_the_package_that_measures_gpu_memory_is_named(row, with_gpu, monkeypatch):
    assignment = with_gpu(None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert row("gpu", assignment).remedy.startswith("run pip install '.[gpu]' in a checkout, or ")


def test_an_exclusive_gpu_sends_the_judges_to_the_cpu_or_stops_the_class(row, with_gpu):
    found = row("gpu", with_gpu(modes=(3,)))
    assert found.status == "ready"
    assert "judges run on the CPU, because the GPU serves one process at a time" in found.found
    refused = row("gpu", replace(with_gpu(modes=(3,)), device="cuda"))
    assert (refused.status, refused.blocks) == ("not ready", True)
    assert refused.remedy == "run nvidia-smi -c 0, or choose cpu"


def test_the_hub_cache_is_needed_by_stable_diffusion_and_is_a_warning(row, faces, tmp_path):
    assert row("hub", faces).status == "not needed"
    concepts = Assignment(DATA, problems="3")
    assert (row("hub", concepts).status, row("hub", concepts).blocks) == ("not ready", False)
    (model,) = (model for model in HUB_MODELS if model.use == "scripts")
    cache = replace(concepts, hub_cache=tmp_path)
    assert model.repository in row("hub", cache).found
    folder = tmp_path / "hub" / f"models--{model.repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a1")
    (folder / "snapshots" / "a1").mkdir(parents=True)
    for name in model.files:
        (folder / "snapshots" / "a1" / name).touch()
    assert row("hub", cache).status == "ready"


def test_judges_are_named_with_kind_and_hash_without_loading_them(row, tmp_path):
    weights = tmp_path / "Classifier.pth"
    weights.write_bytes(b"not weights at all")
    digits = Assignment(DATA, problems="1", mnistm_classifier=str(weights), svhn_classifier="embedded")
    found = row("judges", digits)
    assert found.status == "ready"
    assert "mnistm: custom (" in found.found
    assert "svhn: embedded (" in found.found


def test_a_judge_that_would_have_to_be_downloaded_is_not_ready(row, tmp_path):
    concepts = Assignment(DATA, problems="3", clip="nobody/no-such-model", hub_cache=tmp_path)
    found = row("judges", concepts)
    assert (found.status, found.blocks) == ("not ready", False)
    assert "nobody/no-such-model is in no Hugging Face cache here" in found.found


def test_room_for_one_script_is_asked_for(row, faces):
    assert row("memory", replace(faces, limits={"memory_bytes": 2**20})).status == "ready"
    assert row("memory", replace(faces, limits={"memory_bytes": 2**60})).status == "not ready"
    assert row("disk", replace(faces, limits={"space_bytes": 2**60})).status == "not ready"


def test_every_check_gives_a_row_with_another_name(faces, tmp_path):
    rows = examine(faces, tmp_path / "not" / "there").rows
    assert len({row.name for row in rows}) == len(CHECKS) == len(rows)
    assert all(row.remedy for row in rows if row.status == "not ready")
    assert not any(row.remedy for row in rows if row.status != "not ready")


def test_warnings_alone_do_not_stop_a_class():
    refuse_if_blocked(Preflight((Row("packages", "not ready", "none", "build"), Row("data", "ready", "all"))))


def test_the_command_prints_one_table_and_its_status_says_that_staff_must_act(data):
    ended = grade_here("doctor", "--data", data, "--problems", "2", "--trust")
    assert ended.returncode == 2, ended.stderr
    for name in ("sandbox", "python", "packages", "GPU", "hub cache", "data", "judges", "disk", "memory"):
        assert name in ended.stdout


def test_the_command_writes_json_alone(data):
    ended = grade_here("doctor", "--data", data, "--problems", "2", "--trust", "--json", "-")
    rows = {row["name"]: row for row in json.loads(ended.stdout)["rows"]}
    assert rows["data"]["status"] == "ready"
    assert rows["sandbox"]["status"] == "not needed"


def test_a_class_without_its_data_is_not_started(data, tmp_path):
    (data / "face" / "UNet.pt").unlink()
    submissions, output = tmp_path / "submissions", tmp_path / "out"
    (submissions / "b12").mkdir(parents=True)
    arguments = [submissions, "--data", data, "--problems", "2", "--trust", "--public-only", "--output", output]
    ended = grade_here("cohort", *arguments, variables={"COLUMNS": "400"})
    assert ended.returncode == 2
    assert "no submission could be checked: data: missing or empty" in ended.stderr
    assert "not ready" in ended.stderr
    assert "sandbox" not in ended.stderr
    assert not output.exists()


@pytest.fixture
def without_program(tmp_path):
    """The variables of a machine that has all programs but slirp4netns."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for path in Path(folder).glob("*"):
            if path.name != "slirp4netns" and not os.path.lexists(programs / path.name):
                (programs / path.name).symlink_to(path)
    return {"PATH": str(programs), "COLUMNS": "400"}


@needs_sandbox
def test_a_download_that_can_have_no_network_is_refused_before_anything_starts(data, tmp_path, without_program):
    submission, output = tmp_path / "class" / "b12", tmp_path / "out"
    submission.mkdir(parents=True)
    (submission / "hw2_download_ckpt.sh").write_text("true\n")
    common = ["--data", data, "--problems", "2", "--public-only", "--output", output]
    said = (
        "slirp4netns is not installed, and downloads get no network without it; install it (apt-get install "
        "slirp4netns), or allow downloads the host's network, with all that this machine can reach "
        "(option --host-network)."
    )
    alone = grade_here("submission", submission, *common, variables=without_program)
    assert (alone.returncode, alone.stderr.strip()) == (2, f"hw2-grade: {said}")
    whole = grade_here("cohort", submission.parent, *common, variables=without_program)
    assert (whole.returncode, whole.stderr.strip().splitlines()[-1]) == (2, f"hw2-grade: {said}")
    assert not output.exists()


@needs_sandbox
def test_a_submission_without_a_download_needs_no_network(data, tmp_path, without_program):
    (tmp_path / "b12").mkdir()
    arguments = [tmp_path / "b12", "--data", data, "--problems", "2", "--judges", "embedded", "--public-only"]
    ended = grade_here("submission", *arguments, "--output", tmp_path / "out", variables=without_program)
    assert "slirp4netns" not in ended.stderr
    assert "hw2_2.sh is missing" in (tmp_path / "out" / "grade.json").read_text()
