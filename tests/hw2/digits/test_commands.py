"""`hw2 digits` as a person runs it."""

import hashlib
import json
import signal
from functools import partial

import pytest
from PIL import Image

from hw2.digits.checkpoint import save_digit_model
from hw2.digits.commands import DrawingOptions
from hw2.digits.commands import _own_sampler as digit_sampler
from hw2.digits.sample import official_names
from hw2.files.bundled import DIGIT_RECOGNIZER, DIGIT_STUDENT, DIGIT_UNET
from tests.commands import Stop, run_by_torchrun, run_in_two_processes, start_command
from tests.hw2.in_process import run_here
from tests.models.tiny_digits import random_digit_model

sample_here = partial(run_here, "digits", "sample")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For what several tests read."""
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def options(folder):
    save_digit_model(random_digit_model(), folder / "tiny.safetensors")
    return ["--checkpoint", folder / "tiny.safetensors", "--num-inference-steps", 3, "--device", "cpu"]


@pytest.fixture(scope="module")
def three(folder, options):
    """Three images of each digit in each data set, drawn two at a time."""
    run = sample_here(*options, "--per-digit", 3, "--batch-size", 2, "--output", folder / "three")
    assert run.returncode == 0, run.stderr
    return contents(folder / "three")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(run, sentence):
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert sentence in run.stderr


def test_sample_writes_exactly_the_official_files(tmp_path, options):
    few = ["--num-inference-steps", 1, "--guidance-scale", 1]  # one evaluation for each of 1000 images
    run = sample_here(*options, *few, "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert sorted(contents(tmp_path / "out")) == sorted(official_names())
    with Image.open(tmp_path / "out" / "svhn" / "7_042.png") as image:
        assert (image.size, image.mode, image.format) == ((28, 28), "RGB", "PNG")
    assert len(set(contents(tmp_path / "out").values())) == 1000


def test_a_digit_depends_on_its_name_and_not_on_how_many_are_drawn(tmp_path, hw2, options, three):
    run = hw2("digits", "sample", *options, "--per-digit", 1, "--batch-size", 1, "--output", tmp_path / "one")
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    one = contents(tmp_path / "one")
    assert len(one) == 20
    assert one == {name: three[name] for name in one}


@pytest.mark.parametrize(
    "option",
    [
        ("--seed", 1),
        ("--guidance-scale", 1.5),
        ("--guidance-interval", 0, 500),
        ("--sampler", "ddim"),
        ("--num-inference-steps", 4),
        ("--dtype", "bfloat16"),
        ("--recognizer", "hw2/models/digit_recognizer.safetensors"),
    ],
)
def test_options_change_the_digits(tmp_path, options, three, option):
    run = sample_here(*options, "--per-digit", 1, *option, "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    out = contents(tmp_path / "out")
    assert len(out) == 20
    assert out != {name: three[name] for name in out}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path, options, three, how):
    options, out = [*options, "--per-digit", 3, "--batch-size", 2], tmp_path / "out"
    stop = Stop(".partial/*/*.png", how)
    run = start_command("hw2", "digits", "sample", *options, "--output", out, stop=stop).ended()
    assert run.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), run.stderr
    assert len(list(out.glob(".partial/*/*.png"))) == 1
    assert [p.name for p in out.iterdir()] == [".partial"]
    assert sample_here(*options, "--output", out).returncode == 0
    assert contents(out) == three


@pytest.mark.parametrize(
    "in_two_processes",
    [run_in_two_processes, pytest.param(run_by_torchrun, marks=[pytest.mark.slow, pytest.mark.long])],
)
def test_two_processes_share_the_work_and_give_the_same_files(tmp_path, options, three, in_two_processes):
    command = ["digits", "sample", *options, "--per-digit", 2, "--batch-size", 10]
    two = in_two_processes("hw2", *command, "--output", tmp_path / "two")
    assert two.returncode == 0, two.stderr
    assert " 60 of 60 " in two.stderr, "the first process shows its own half of 3 steps of each of 40 digits"
    assert contents(tmp_path / "two") == {name: image for name, image in three.items() if "_003" not in name}


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--per-digit", 0), "--per-digit is 0; expected 1 or more"),
        (("--per-digit", 1000), "expected at most 999"),
        (("--num-inference-steps", 0), "--num-inference-steps cannot be used"),
        (("--num-inference-steps", 1001), "--num-inference-steps cannot be used"),
        (("--guidance-scale", "nan"), "--guidance-scale is nan"),
        (("--guidance-interval", 700, 100), "--guidance-interval is 700 100"),
        (("--guidance-interval", 0, 1001), "--guidance-interval is 0 1001"),
        (("--batch-size", 0), "--batch-size is 0"),
        (("--dtype", "int8"), "the number format is 'int8'"),
        (("--device", "tpu"), "the device is 'tpu'"),
        (("--checkpoint", "no.safetensors"), "no.safetensors is not a file"),
        (("--recognizer", "no.safetensors"), "no.safetensors is not a file; expected the recognizer.safetensors of"),
        (("--recognizer", "hw2/models/face_unet.safetensors"), "does not fit the recognizer"),
        (("--checkpoint", "Makefile"), "Makefile is not a readable safetensors file"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path, options, option, sentence):
    refused(sample_here(*options, *option, "--output", tmp_path / "out"), sentence)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("other", ["notes.txt", "mnistm/0_051.png", "svhn/deep"])
def test_a_folder_with_other_files_is_left_alone(tmp_path, options, other):
    (tmp_path / "out" / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / other).write_text("mine")
    refused(sample_here(*options, "--output", tmp_path / "out"), f"already holds other files ({other})")
    assert contents(tmp_path / "out") == {other: b"mine"}


def test_pictures_are_written(tmp_path, options, monkeypatch):
    assert run_here("digits", "grid", *options, "--output", tmp_path / "grid.png").returncode == 0
    with Image.open(tmp_path / "grid.png") as image:
        assert image.width > 600
    samplers = []
    monkeypatch.setattr("hw2.digits.figures.reverse_png", lambda sampler: samplers.append(sampler) or b"picture")
    assert run_here("digits", "reverse", *options[:2], "--seed", 5, "--output", tmp_path / "r.png").returncode == 0
    assert (tmp_path / "r.png").read_bytes() == b"picture"
    assert [(each.sampler, each.num_inference_steps, each.seed) for each in samplers] == [("ddpm", 1000, 5)]
    short = [*options[:2], "--output", tmp_path / "s.png", "--num-inference-steps"]
    assert run_here("digits", "reverse", *short, 250).returncode == 0
    assert samplers[-1].num_inference_steps == 250
    for wrong in (0, 7, -5, 1005):
        refused(run_here("digits", "reverse", *short, wrong), f"is {wrong}; expected a multiple of 5, from 5 to 1000")
    refused(run_here("digits", "grid", *options, "--output", tmp_path / "grid.jpg"), "would be a PNG picture")


@pytest.mark.parametrize(
    ("asked", "distilled"),
    [
        ({}, True),
        ({"seed": 5, "dtype": "bfloat16", "batch_size": 3}, True),
        ({"sampler": "ddim"}, False),
        ({"num_inference_steps": 4}, False),
        ({"guidance_scale": 4.0}, False),
        ({"guidance_interval": (0, 900)}, False),
    ],
)
def test_the_bundled_student_draws_unless_another_way_is_asked_for(asked, distilled):
    sampler, (weights, reader, *_) = digit_sampler(DrawingOptions(device="cpu", **asked), "cpu")
    used = DIGIT_STUDENT if distilled else DIGIT_UNET
    assert weights == hashlib.sha256(used.read_bytes()).hexdigest()
    assert bool(sampler.model.distilled) == distilled
    assert bool(sampler.recognizer) == distilled
    assert (reader == hashlib.sha256(DIGIT_RECOGNIZER.read_bytes()).hexdigest()) == distilled


def test_a_checkpoint_of_ones_own_has_no_recognizer_but_ones_own(tmp_path):
    (tmp_path / "own.safetensors").write_bytes(DIGIT_RECOGNIZER.read_bytes())
    for recognizer in (None, tmp_path / "own.safetensors"):
        options = DrawingOptions(checkpoint=DIGIT_STUDENT, recognizer=recognizer, device="cpu")
        assert bool(digit_sampler(options, "cpu")[0].recognizer) == (recognizer is not None)


def test_info_says_what_the_network_costs(options):
    run = run_here("digits", "info", *options[:2])
    assert run.returncode == 0, run.stderr
    assert "MFLOP" in run.stdout
    assert "without attention" in run.stdout


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--batch-size", 0), "batch_size"),
        (("--num-steps", 0), "num_steps"),
        (("--learning-rate", "nan"), "learning_rate"),
        (("--learning-rate", -1), "learning_rate"),
        (("--min-snr-gamma", 0), "min_snr_gamma"),
        (("--house-numbers", 5), "house_numbers"),
        (("--save-every", 0), "--save-every is 0"),
        (("--data", "nowhere"), "mnistm/train.csv is missing"),
        (("--resume",), "nothing to resume"),
    ],
)
def test_a_training_that_cannot_be_done_is_refused(tmp_path, digits_folder, option, sentence):
    arguments = [
        "--data",
        digits_folder,
        "--output",
        tmp_path / "run",
        "--device",
        "cpu",
        "--cache",
        tmp_path / "cache",
    ]
    run = run_here("digits", "train", *arguments, *option)
    assert run.returncode == 2, run.stderr
    assert run.stderr.splitlines()[-1].startswith("hw2: ")
    assert sentence in run.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_what_is_trained_can_be_sampled(tmp_path, digits_folder, tiny_recipes):
    train = ["--data", digits_folder, "--output", tmp_path / "run", "--cache", tmp_path / "cache", "--device", "cpu"]
    train += ["--num-steps", 2, "--batch-size", 4, "--pictures-every", 0, "--mixed-precision", "no"]
    run = run_here("digits", "train", *train)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.pt", "model.safetensors"]
    model = ["--checkpoint", tmp_path / "run" / "model.safetensors", "--num-inference-steps", 1, "--device", "cpu"]
    assert sample_here(*model, "--per-digit", 1, "--output", tmp_path / "out").returncode == 0
    assert len(contents(tmp_path / "out")) == 20


@pytest.mark.long
def test_the_whole_way_from_training_to_a_grade(tmp_path, hw2, hw2_grade, digits_folder):
    train = ["--data", digits_folder, "--output", tmp_path / "run", "--cache", tmp_path / "cache", "--device", "cpu"]
    run = hw2("digits", "train", *train, "--num-steps", 2, "--batch-size", 4, "--pictures-every", 0)
    assert run.returncode == 0, run.stderr
    model = ["--checkpoint", tmp_path / "run" / "model.safetensors", "--num-inference-steps", 1, "--device", "cpu"]
    model += ["--guidance-scale", 1]  # one evaluation for each of 1000 images
    assert hw2("digits", "sample", *model, "--output", tmp_path / "out").returncode == 0
    run = hw2_grade("digits", tmp_path / "out", "--judges", "embedded", "--json", "-")
    assert run.returncode == 1  # two steps teach nothing
    result = json.loads(run.stdout)
    assert result["total"] == {"mnistm": 500, "svhn": 500}
    assert {judge["kind"] for judge in result["judges"].values()} == {"embedded"}
    assert result["missing"] == result["unexpected"] == []
