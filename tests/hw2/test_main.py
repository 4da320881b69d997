"""The `hw2` command as a person runs it: what it writes, what it says, how it stops.

`hw2` runs it in a process of its own. `run_here` runs it in the test's process, which is faster, where the process
does not matter.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from hw2.faces.checkpoint import save_face_unet
from tests.commands import ROOT, Stop, start_command, wait_until
from tests.hw2.in_process import run_here

FACES = [f"{i:02d}.png" for i in range(5)]


@pytest.fixture
def options(noise_folder, tiny_checkpoint):
    return ["--noise", noise_folder, "--checkpoint", tiny_checkpoint, "--num-inference-steps", 10, "--device", "cpu"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(run, sentence):
    """The command said one sentence on stderr, nothing else, and left with status 2."""
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert sentence in run.stderr


def test_sample_writes_one_face_for_each_noise_and_the_same_ones_again(tmp_path, hw2, options):
    run = hw2("faces", "sample", *options, "--output", tmp_path / "deep" / "out")
    assert run.returncode == 0
    assert run.stdout == ""
    assert sorted(contents(tmp_path / "deep" / "out")) == FACES
    with Image.open(tmp_path / "deep" / "out" / "00.png") as image:
        assert (image.size, image.mode, image.format) == ((8, 8), "RGB", "PNG")
    first = contents(tmp_path / "deep" / "out")
    assert run_here("faces", "sample", *options, "--output", tmp_path / "deep" / "out").returncode == 0
    assert contents(tmp_path / "deep" / "out") == first


@pytest.mark.parametrize(
    "option", [("--eta", 0.5), ("--num-inference-steps", 20), ("--dtype", "bfloat16"), ("--eta", 1, "--seed", 1)]
)
def test_options_change_the_faces(tmp_path, options, option):
    run_here("faces", "sample", *options, *(["--eta", 1] if "--seed" in option else []), "--output", tmp_path / "a")
    run_here("faces", "sample", *options, *option, "--output", tmp_path / "b")
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert sorted(a) == sorted(b) == FACES
    assert a != b


def test_two_processes_and_any_batch_size_give_the_same_faces(tmp_path, options, noise_folder):
    run_here("faces", "sample", *options, "--eta", 0.5, "--output", tmp_path / "whole")
    halves = {"first": ["00", "01", "02"], "second": ["03", "04"]}
    runs = []
    for half, names in halves.items():
        (tmp_path / half).mkdir()
        for name in names:
            (noise_folder / f"{name}.pt").rename(tmp_path / half / f"{name}.pt")
        arguments = ["--noise", tmp_path / half, *options[2:], "--eta", 0.5, "--batch-size", 1]
        runs.append(start_command("hw2", "faces", "sample", *arguments, "--output", tmp_path / f"{half} out"))
    assert [run.ended().returncode for run in runs] == [0, 0]
    assert contents(tmp_path / "whole") == {**contents(tmp_path / "first out"), **contents(tmp_path / "second out")}


def start_and_stop(options, out, how):
    """Start drawing faces into `out`, stop it once the first is finished; returns how it ended."""
    return start_command("hw2", "faces", "sample", *options, "--output", out, stop=Stop(".partial/*.png", how)).ended()


def test_a_run_that_is_stopped_again_and_again_goes_on_to_the_same_faces(tmp_path, options):
    options, out = [*options, "--num-inference-steps", 4, "--batch-size", 1, "--eta", 1], tmp_path / "out"
    assert run_here("faces", "sample", *options, "--output", tmp_path / "whole").returncode == 0
    kept: dict[str, int] = {}
    for how, status in {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}.items():
        run = start_and_stop(options, out, how)
        assert run.returncode == status
        if how != signal.SIGKILL:
            assert run.stderr.endswith("hw2: stopped; run the same command again to resume\n")
            assert "Traceback" not in run.stderr
        assert not list(out.glob("*.png")), "half a result must not look like one"
        before, kept = kept, {path.name: path.stat().st_mtime_ns for path in out.glob(".partial/*.png")}
        assert sorted(kept) == FACES[: len(before) + 1]
        assert before.items() < kept.items(), "kept, not drawn again"
    assert run_here("faces", "sample", *options, "--output", out).returncode == 0
    assert contents(out) == contents(tmp_path / "whole")
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


@pytest.fixture
def stopped(tmp_path, options):
    """The options of a run that was stopped when it had drawn one face, and its folder."""
    options = [*options, "--num-inference-steps", 4, "--batch-size", 1, "--eta", 1]
    start_and_stop(options, tmp_path / "stopped", signal.SIGKILL)
    assert (tmp_path / "stopped" / ".partial" / "00.png").exists()
    return options, tmp_path / "stopped"


def test_a_stopped_run_is_not_mixed_with_another(tmp_path, stopped, noise_folder, tiny_network):
    same, folder = stopped

    def follows(change, options):
        mixed, clean = tmp_path / change / "out", tmp_path / change / "clean"
        shutil.copytree(folder, mixed)
        for out in (mixed, clean):
            assert run_here("faces", "sample", *options, "--output", out).returncode == 0
        assert contents(mixed) == contents(clean), change

    follows("another eta", [*same, "--eta", 0.5])
    follows("another seed", [*same, "--seed", 1])
    first = (noise_folder / "00.pt").read_bytes()
    torch.save(torch.randn(1, 3, 8, 8), noise_folder / "00.pt")
    follows("another noise", same)
    (noise_folder / "00.pt").write_bytes(first)
    tiny_network.down1.bias += 1
    save_face_unet(tiny_network, tmp_path / "tiny.safetensors")
    follows("another checkpoint", same)


def test_a_second_run_into_the_same_folder_is_refused_and_harms_nothing(tmp_path, options):
    options = [*options, "--num-inference-steps", 4, "--batch-size", 1, "--output", tmp_path / "out"]
    first = start_command("hw2", "faces", "sample", *options, stop=Stop(".partial/*.png", signal.SIGSTOP))
    state = Path(f"/proc/{first.process.pid}/stat")
    wait_until(lambda: ") T " in state.read_text())  # it is not to be done before the second starts
    try:
        refused(run_here("faces", "sample", *options), "another run is writing to")
    finally:
        os.kill(first.process.pid, signal.SIGCONT)  # the tests would wait for it at their end
    ended = first.ended()
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 0
    assert sorted(contents(tmp_path / "out")) == FACES


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path, options):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # Python ignores the signal of a larger file
        run = run_here("faces", "sample", *options, "--output", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert run.returncode == 2
    assert "00.png could not be written: File too large" in run.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--eta", "1.5"), "--eta is 1.5; expected a number from 0 to 1"),
        (("--eta", "nan"), "--eta is nan; expected a number from 0 to 1"),
        (("--num-inference-steps", "0"), "--num-inference-steps cannot be used"),
        (("--num-inference-steps", "600"), "use 500"),
        (("--batch-size", "0"), "--batch-size is 0; expected 1 or more"),
        (("--dtype", "int8"), "the number format is 'int8'; expected auto or one of float32, bfloat16, float16"),
        (("--device", "tpu"), "the device is 'tpu'; expected cpu, cuda, cuda:N or auto"),
        (("--device", "cuda:99"), "here; use cpu or auto (--device)"),
        (("--device", "cpu:3"), "the device is 'cpu:3'"),
        (("--noise", "n" * 300), "could not be used: File name too long"),
        (("--checkpoint", "nowhere.pt"), "nowhere.pt is not a file"),
        (("--noise", "nowhere"), "nowhere is not a folder"),
        (("--output", "/proc/out"), "/proc/out cannot be written to"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_leaves_nothing(tmp_path, options, option, sentence):
    refused(run_here("faces", "sample", "--output", tmp_path / "out", *options, *option), sentence)
    assert not (tmp_path / "out").exists()


def test_a_noise_that_would_run_code_is_refused_before_anything_is_written(tmp_path, options, noise_folder):
    torch.save(os.system, noise_folder / "02.pt")
    refused(run_here("faces", "sample", *options, "--output", tmp_path / "out"), "could run code")
    assert not (tmp_path / "out").exists()


NO_TEXT = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("learn --images p --initializer dog --output e.safetensors", "--token", f"<{NO_TEXT}>"),
        ("learn --images p --token <a> --output e.safetensors", "--initializer", NO_TEXT),
        ("compose --word <a>=dog --embeddings e --output o.png", "--prompt", f"a <a> and a <b> {NO_TEXT}"),
        ("compose --prompt <a><b> --word <b>=dog --embeddings e --output o.png", "--word", f"<a>={NO_TEXT}"),
        ("zero-shot --images p --labels l.json --output o", "--template", f"{{object}} {NO_TEXT}"),
        ("inspect e.safetensors", "--token", f"<{NO_TEXT}>"),
    ],
)
def test_text_that_is_not_utf_8_is_refused_by_the_name_of_its_option(command, option, value):
    refused(
        run_here("concepts", *command.split(), option, value), f"{option} is {value!r}, which is not UTF-8; expected"
    )


def test_files_may_have_names_that_are_not_utf_8(tmp_path, options, noise_folder):
    (noise_folder / "01.pt").rename(noise_folder / f"{NO_TEXT}.pt")
    noise_folder.rename(tmp_path / f"noise {NO_TEXT}")
    there = ["--noise", tmp_path / f"noise {NO_TEXT}", *options[2:], "--num-inference-steps", 2]
    there += ["--output", tmp_path / NO_TEXT / "out"]
    assert run_here("faces", "sample", *there).returncode == 0
    assert sorted(contents(tmp_path / NO_TEXT / "out")) == sorted({*FACES} - {"01.png"} | {f"{NO_TEXT}.png"})
    run = run_here("faces", "interpolate", *there[:-1], tmp_path / NO_TEXT / "p.png", "--end", NO_TEXT)
    assert run.returncode == 0, run.stderr
    run = run_here("faces", "eta-grid", *there[:-1], tmp_path / NO_TEXT / "g.png")
    assert run.returncode == 0, run.stderr


def test_a_file_whose_name_is_not_utf_8_can_be_told_of_on_a_terminal_that_is(tmp_path, hw2):
    learned = tmp_path / f"{NO_TEXT}.pt"
    torch.save({"<new1>": torch.ones(1, 128)}, learned)
    run = hw2("concepts", "inspect", learned)
    assert run.returncode == 0, run.stderr
    assert "\\udcff.pt" in run.stdout


def test_an_output_folder_with_other_files_is_left_alone(tmp_path, options):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("mine")
    refused(
        run_here("faces", "sample", *options, "--output", tmp_path / "out"), "already holds other files (thesis.doc)"
    )
    assert contents(tmp_path / "out") == {"thesis.doc": b"mine"}


def test_a_reader_that_has_seen_enough_is_no_fault():
    command = [sys.executable, "-m", "hw2", "concepts", "learn", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, cwd=ROOT) as run:
        run.stdout.close()  # before anything is printed, because a pipe takes all of a help at once
        assert run.stderr.read() == b""
    assert run.returncode == 141


@pytest.mark.parametrize(("picture", "size"), [("eta-grid", (490, 572)), ("interpolate", (1190, 572))])
def test_pictures_are_written_alone_and_the_same_again(tmp_path, options, picture, size):
    pngs = []
    for i in range(2):
        output = tmp_path / f"{i}" / "picture.png"
        run = run_here("faces", picture, *options, "--num-inference-steps", 2, "--output", output)
        assert run.returncode == 0, run.stderr
        assert [path.name for path in output.parent.iterdir()] == ["picture.png"]
        pngs.append(output.read_bytes())
    assert pngs[0] == pngs[1]
    with Image.open(output) as image:
        assert image.size == size


def test_interpolation_between_noises_that_are_not_there_or_opposite(tmp_path, options, noise_folder):
    output = tmp_path / "p" / "picture.png"
    refused(
        run_here("faces", "interpolate", *options, "--output", output, "--end", "77"),
        "has no noise 77.pt; it has 00, 01",
    )
    torch.save(-torch.load(noise_folder / "00.pt", weights_only=True), noise_folder / "01.pt")
    refused(run_here("faces", "interpolate", *options, "--output", output), "opposite directions")
    refused(run_here("faces", "interpolate", *options, "--output", tmp_path / "x.jpg"), "a name that ends in .png")
    refused(
        run_here("faces", "interpolate", *options, "--output", tmp_path), "is a folder; expected the name of a PNG file"
    )
    assert not list((tmp_path / "p").iterdir())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("sample", "there is no command sample; there are: hw2 digits sample, hw2 faces sample\n"),
        ("zeroshot", "there is no command zeroshot; there is: hw2 concepts zero-shot\n"),
        ("faces lern", "there is no command lern; there is: hw2 concepts learn\n"),
        ("faces xyz", "there is no command xyz; there are: hw2 faces sample, hw2 faces eta-grid, "),
    ],
)
def test_an_unknown_command_is_answered_with_those_that_may_be_meant(typed, said):
    refused(run_here(*typed.split(), "--output", "x"), said)


def test_help_names_every_command():
    assert "faces" in run_here("--help").stdout
    commands = run_here("faces", "--help").stdout
    assert all(command in commands for command in ("sample", "eta-grid", "interpolate"))
