"""An assignment as a file: what it sets, what overrides it, and what is said about mistakes in it."""

import dataclasses
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import typer.main

from grading.cli.app import app
from grading.cli.assignment_file import commented_file, read_assignment_file
from grading.cli.options import make_assignment
from grading.core.errors import GradingError
from grading.judges import JUDGES
from grading.sandbox.run import Limits
from grading.submission.assignment import OPTIONS
from tests.commands import ROOT
from tests.grading.here import grade_here

WHOLE = """
data = "public"
private = "private"
problems = [3, 1]
stable_diffusion = "/models/sd.ckpt"
twice = true

[judges]
mnistm = "Classifier.pth"
clip = "openai/clip-vit-base-patch32"

[limits]
memory_bytes = 1000
seconds = 2.5

[points]
late_share_per_day = 0.1
problem_1 = { simple = 8, strong = 7 }
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "Classifier.pth").write_bytes(b"weights")
    path = tmp_path / "hw2.toml"
    path.write_text(WHOLE)
    return path


def test_every_value_reaches_the_assignment(file, tmp_path):
    assignment = make_assignment(file, {})
    assert (assignment.data, assignment.private) == (tmp_path / "public", tmp_path / "private")
    assert assignment.stable_diffusion == Path("/models/sd.ckpt")
    assert [problem.number for problem in assignment.edition.problems] == [1, 3]
    assert assignment.twice
    assert assignment.judge_choices["mnistm"] == str(tmp_path / "Classifier.pth")  # it lies beside the file
    assert assignment.judge_choices["clip"] == "openai/clip-vit-base-patch32"
    assert assignment.judge_choices["svhn"] == "official"
    assert assignment.run_limits == dataclasses.replace(Limits(), memory_bytes=1000, seconds=2.5)
    assert assignment.edition.late_share_per_day == 0.1
    assert assignment.edition.problem(1).points == {"simple": 8, "strong": 7}
    assert assignment.edition.staff_fixed_share == 0.30


@pytest.mark.parametrize("said", ["judges = 'embedded'", "[judges]\nall = 'embedded'\nclip = ''"])
def test_a_file_can_choose_all_judges_and_no_folder_of_that_name_is_taken_for_one(tmp_path, said):
    (tmp_path / "embedded").mkdir()
    (tmp_path / "hw2.toml").write_text(f"data = 'd'\n{said}\n")
    assignment = make_assignment(tmp_path / "hw2.toml", {"svhn_classifier": "official"})
    assert assignment.judge_choices == {
        "mnistm": "embedded", "svhn": "official", "clip": "embedded", "sam": "embedded"
    }  # fmt: skip


def test_flags_override_the_file_and_the_record_keeps_both(file, tmp_path):
    assignment = make_assignment(file, {"data": Path("elsewhere"), "twice": False})
    assert (assignment.data, assignment.twice) == (Path("elsewhere"), False)
    assert assignment.source["flags"] == {"data": "elsewhere", "twice": False}
    assert assignment.source["file"]["data"] == str(tmp_path / "public")
    assert make_assignment(file, {}, public_only=True).private is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dta = 1", r"the key dta is invalid .*known keys are .*data, device"),
        ("twice = 'perhaps'", "the key twice is invalid"),
        ("[judges]\nmnst = 'x'", "the key judges.mnst is invalid .*known keys are all, clip, mnistm"),
        ("judges = 'mine'", "the key judges.all is invalid .*'official' or 'embedded'"),
        ("time_scale = 0", "the key time_scale is invalid .*greater than 0"),
        ("time_scale = inf", "the key time_scale is invalid .*less than or equal to 1000"),
        ("time_scale = nan", "the key time_scale is invalid"),
        ("[limits]\nmemory_bytes = -1", "the key limits.memory_bytes is invalid"),
        ("[limits]\ngpus = 1", "the key limits.gpus is invalid .*known keys are file_bytes, files"),
        ("[points]\nlate_share_per_day = 3", "the key points.late_share_per_day is invalid"),
        ("[points]\nproblem_1 = { smple = 3 }", "points.problem_1 has smple; expected simple or strong"),
        ("[points]\nproblem_7 = { simple = 3 }", "points has problem_7; fall2024 has problem_1, problem_2, problem_3"),
        (
            "[points]\nname = { simple = 3 }",
            "points has name; expected report, late_share_per_day, staff_fixed_share or",
        ),
        ("[points]\nproblems = { simple = 3 }", "points has problems; expected report"),
        ("homework = 'fall1999'", "there is no homework fall1999; expected one of fall2024"),
        ("trust = true", "the key trust is invalid"),
        ("data = ", "is not a valid TOML file"),
    ],
)
def test_mistakes_are_named_by_their_key(tmp_path, line, said):
    path = tmp_path / "hw2.toml"
    path.write_text(line + "\n")
    with pytest.raises(GradingError, match=said):
        read_assignment_file(path)


def test_an_assignment_needs_data(tmp_path):
    (tmp_path / "hw2.toml").write_text("twice = true\n")
    with pytest.raises(GradingError, match="no data folder is set; add --data"):
        make_assignment(tmp_path / "hw2.toml", {})
    with pytest.raises(GradingError, match="contradict each other"):
        make_assignment(None, {"data": Path("d"), "private": Path("p")}, public_only=True)


def test_scores_leave_no_private_points_out_unasked(tmp_path):
    official = {"data": tmp_path}
    with pytest.raises(GradingError) as error:
        make_assignment(None, official, for_scores=True)
    assert str(error.value) == (
        "20 of 55 points are for private inputs, but no private data are set; add --private FOLDER, or --public-only "
        "to grade the other 35"
    )
    with pytest.raises(GradingError, match="10 of 20 points are for private inputs"):
        make_assignment(None, official | {"problems": "2"}, for_scores=True)
    assert make_assignment(None, official, public_only=True, for_scores=True).private is None
    assert make_assignment(None, official | {"private": tmp_path}, for_scores=True).private == tmp_path


@pytest.mark.parametrize("flags", [{"problems": "1"}, {"homework": "fall2025"}])
def test_where_no_private_points_are_known_nobody_is_asked(tmp_path, flags):
    assert make_assignment(None, {"data": tmp_path, **flags}, for_scores=True).private is None


def test_the_embedded_homework_has_no_private_part_to_ask_for(tmp_path, bundled_data):
    shutil.copytree(bundled_data, tmp_path / "copy")
    for data in (bundled_data, tmp_path / "copy"):
        assert make_assignment(None, {"data": data}, for_scores=True).embedded


def test_data_in_the_current_folder_are_the_default_of_a_grading_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GradingError, match="no data folder is set"):
        make_assignment(None, {}, public_only=True, for_scores=True)
    (tmp_path / "hw2_data").mkdir()
    assert make_assignment(None, {}, public_only=True, for_scores=True).data == Path("hw2_data")
    assert capsys.readouterr().err == "hw2-grade: The data are those of hw2_data in this folder; --data names others.\n"
    assert make_assignment(None, {"data": Path("d")}, public_only=True, for_scores=True).data == Path("d")
    assert capsys.readouterr().err == ""
    with pytest.raises(GradingError, match="no data folder is set"):
        make_assignment(None, {})


@pytest.mark.parametrize("command", ["submission", "cohort"])
def test_the_output_has_the_name_of_what_is_graded(tmp_path, bundled_data, command):
    (tmp_path / "in" / "b01").mkdir(parents=True)
    (tmp_path / "hw2_data").symlink_to(bundled_data)
    model = ROOT / "hw2" / "models" / "face_unet.safetensors"
    arguments = [command, "in", "--problems", "2", "--trust", "--unet", str(model), "--device", "cpu"]
    run = grade_here(*arguments, folder=tmp_path)
    assert "The output is graded/in in this folder; --output names another." in run.stderr
    found = "graded/in/students/b01/grade.json" if command == "cohort" else "graded/in/grade.json"
    assert (tmp_path / found).exists(), run.stderr


@pytest.mark.parametrize("command", ["submission", "cohort"])
def test_both_commands_ask_before_anything_is_written(tmp_path, command):
    (tmp_path / "in" / "b01").mkdir(parents=True)
    run = grade_here(command, tmp_path / "in", "--data", tmp_path, "--output", tmp_path / "out")
    assert run.returncode == 2
    assert run.stderr.startswith("hw2-grade: 20 of 55 points are for private inputs")
    assert not (tmp_path / "out").exists()


def test_the_commented_file_has_every_key_and_is_valid_with_and_without_its_comments(tmp_path):
    text = commented_file()
    path = tmp_path / "hw2.toml"
    path.write_text(text)
    assert read_assignment_file(path) == {"data": tmp_path / "hw2_data", "limits": {}, "points": {}}
    everything = re.sub(r"(?m)^# (?=\w+ = )", "", text)
    path.write_text(everything)
    found = read_assignment_file(path)
    assert found.keys() == (OPTIONS.keys() - {"trust"}) | {"limits", "points"}
    assert tomllib.loads(everything)["judges"].keys() == {"all", *JUDGES}
    assert tomllib.loads(everything)["limits"] == dataclasses.asdict(Limits())
    assert make_assignment(path, {}).edition.problem(2).points == {"public": 10, "private": 10}


def test_init_writes_it_once(tmp_path):
    run = grade_here("init", tmp_path / "hw2.toml")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "hw2.toml").read_text() == commented_file()
    run = grade_here("init", tmp_path / "hw2.toml")
    assert run.returncode == 2
    assert "hw2.toml exists already" in run.stderr


def test_both_commands_have_every_option_with_one_default_and_one_help():
    command = typer.main.get_command(app)
    found = [
        {option.name: (option.default, option.help) for option in command.commands[name].params}
        for name in ("submission", "cohort", "doctor")
    ]
    for name, option in OPTIONS.items():
        assert found[0][name] == found[1][name]
        assert found[0][name][1] == option.help


def test_every_command_says_the_same_of_its_device():
    command = typer.main.get_command(app)
    options = [option for each in command.commands.values() for option in each.params if option.name == "device"]
    assert len(options) == 6
    assert {(option.default, option.help) for option in options} == {("auto", OPTIONS["device"].help)}


@pytest.mark.parametrize("value", ["[" * 3000, "{a=" * 3000, "9" * 5000])
def test_values_that_no_reader_of_toml_can_hold_are_refused(tmp_path, value):
    (tmp_path / "a.toml").write_text(f"data = {value}")
    with pytest.raises(GradingError, match=r"a\.toml is not a valid TOML file"):
        read_assignment_file(tmp_path / "a.toml")
