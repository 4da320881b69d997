"""`hw2 concepts` as a person runs it."""

import gc
import json
import shutil
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from hw2 import drawing
from hw2.concepts.embeddings import read_embeddings, save_embeddings
from hw2.concepts.stable_diffusion import StableDiffusion
from tests.commands import Stop, run_in_two_processes, start_command
from tests.hw2.in_process import run_here

PROMPTS = {
    "0": {"token_name": "<new1>", "prompt": ["a <new1> on the beach", "a red <new1>"]},
    "1": {"token_name": "<new2>", "prompt": ["a dog in the style of <new2>"]},
}


@pytest.fixture(autouse=True)
def _operations_are_not_counted(monkeypatch):
    """For the time that a command announces. It takes longer than all else here; commands in processes do count."""
    monkeypatch.setattr(StableDiffusion, "operations", lambda model: (1, 1))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """An input.json and two files of words; nobody writes to them."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "input.json").write_text(json.dumps(PROMPTS))
    g = torch.Generator().manual_seed(0)
    save_embeddings(folder / "one.safetensors", {"<new1>": torch.randn(2, 32, generator=g)})
    torch.save(torch.randn(1, 32, generator=g), folder / "two.pt")
    return folder


@pytest.fixture(scope="module")
def generate(words, tiny_sd):
    options = {
        "--json": words / "input.json", "--model": tiny_sd, "--num-inference-steps": 2, "--per-prompt": 2,
        "--device": "cpu", "--embeddings": [words / "one.safetensors", f"<new2>={words / 'two.pt'}"],
    }  # fmt: skip

    def run(output, changes=(), arguments_behind=(), hw2=run_here):
        arguments = []
        for option, value in (options | dict(changes)).items():
            for one in value if isinstance(value, list) else [value]:
                arguments += [option, one]
        return hw2("concepts", "generate", *arguments, *arguments_behind, "--output", output)

    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, generate):
    """What `generate` draws; nobody writes to it."""
    output = tmp_path_factory.mktemp("drawn") / "out"
    run = generate(output)
    assert run.returncode == 0, run.stderr
    return output


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(run, sentence):
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert sentence in run.stderr


def test_files_of_words_may_follow_one_another(tmp_path, generate, drawn, words):
    """As a shell spells `--embeddings learned/*`."""
    one, two = words / "one.safetensors", f"<new2>={words / 'two.pt'}"
    together = generate(tmp_path / "together", {"--embeddings": one}.items(), [two])
    assert together.returncode == 0, together.stderr
    assert contents(drawn) == contents(tmp_path / "together")


def test_the_bundled_model_is_guided_as_it_needs_unless_told_otherwise(tmp_path, words, tiny_sd, monkeypatch):
    """With a smaller model in its place."""
    monkeypatch.setattr("hw2.concepts.commands.options.SMALL_SD", tiny_sd)
    (tmp_path / "input.json").write_text(json.dumps({"0": PROMPTS["0"]}))
    drawn = []
    for i, more in enumerate([(), ("--guidance-scale", 3), ("--guidance-scale", 7.5), ("--model", tiny_sd)]):
        options = "--json", tmp_path / "input.json", "--embeddings", words / "one.safetensors"
        options += "--output", tmp_path / str(i), "--num-inference-steps", 2, "--per-prompt", 1
        run = run_here("concepts", "generate", *options, *more)
        assert run.returncode == 0, run.stderr
        drawn.append(contents(tmp_path / str(i)))
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]


def test_generate_writes_exactly_the_official_files(tmp_path, generate):
    run = generate(tmp_path / "out", {"--per-prompt": 25, "--num-inference-steps": 1}.items())
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    expected = [f"{c}/{p}/source{c}_prompt{p}_{i}.png" for c, p in (("0", 0), ("0", 1), ("1", 0)) for i in range(25)]
    assert sorted(contents(tmp_path / "out")) == sorted(expected)
    assert len(set(contents(tmp_path / "out").values())) == 75
    with Image.open(tmp_path / "out" / expected[0]) as image:
        assert (image.size, image.mode, image.format) == ((16, 16), "RGB", "PNG")


def test_a_picture_does_not_depend_on_batches_or_on_how_many_there_are(tmp_path, generate, drawn):
    assert generate(tmp_path / "five", {"--batch-size": 3, "--per-prompt": 5}.items()).returncode == 0
    two, five = contents(drawn), contents(tmp_path / "five")
    assert len(two) == 6
    assert two == {name: five[name] for name in two}


def test_two_processes_share_the_pictures_and_give_the_same_files(tmp_path, generate, drawn):
    done = generate(tmp_path / "two", hw2=partial(run_in_two_processes, "hw2"))
    assert done.returncode == 0, done.stderr
    assert contents(drawn) == contents(tmp_path / "two")
    assert len(contents(drawn)) == 6


CHANGES = [("--seed", 1), ("--guidance-scale", 2), ("--sampler", "ddim"), ("--num-inference-steps", 3)]


@pytest.mark.parametrize("change", [*CHANGES, ("--dtype", "bfloat16")])
def test_options_change_the_pictures(tmp_path, generate, drawn, change):
    assert generate(tmp_path / "b", [change]).returncode == 0
    a, b = contents(drawn), contents(tmp_path / "b")
    assert a.keys() == b.keys()
    assert all(a[name] != b[name] for name in a)


def test_what_is_there_is_kept_and_the_rest_is_made(tmp_path, generate, drawn, monkeypatch):
    out, made, encode = tmp_path / "out", [], drawing.png_bytes
    shutil.copytree(drawn, out)
    (out / "0" / "0" / "source0_prompt0_0.png").write_bytes(b"of an earlier run")

    def stop_at_the_fourth(image_u8):
        made.append(image_u8)
        if len(made) == 4:
            raise KeyboardInterrupt
        return encode(image_u8)

    monkeypatch.setattr(drawing, "png_bytes", stop_at_the_fourth)
    run = generate(out)
    assert run.returncode == 130
    assert run.stderr.endswith("stopped; run the same command again to resume\n")
    gc.collect()  # the end of its process would have released the folder
    assert generate(out).returncode == 0
    assert len(made) == 4 + 3, "three were kept"
    assert contents(out) == contents(drawn)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--per-prompt", 0), "--per-prompt is 0"),
        (("--num-inference-steps", 1001), "--num-inference-steps cannot be used"),
        (("--guidance-scale", "inf"), "--guidance-scale is inf"),
        (("--embeddings", []), "Missing option '--embeddings'"),
        (("--embeddings", ["<new1>"]), "--embeddings is '<new1>'"),
        (("--model", "none"), "none does not exist"),
        (("--json", "none.json"), "none.json cannot be read"),
        (("--dtype", "int8"), "the number format is 'int8'"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(tmp_path, generate, change, sentence):
    run = generate(tmp_path / "out", [change])
    assert run.returncode == 2
    assert sentence in " ".join(run.stderr.split())
    assert not (tmp_path / "out").exists()


def test_tokens_without_embeddings_and_embeddings_given_twice_are_refused(tmp_path, generate, words):
    one = words / "one.safetensors"
    refused(generate(tmp_path / "out", {"--embeddings": [one]}.items()), "has <new2>, but no embedding")
    refused(generate(tmp_path / "out", {"--embeddings": [one, one]}.items()), "has <new1> again")
    save_embeddings(tmp_path / "wide.safetensors", {"<new1>": torch.ones(1, 768)})
    wide = generate(tmp_path / "out", {"--embeddings": [tmp_path / "wide.safetensors"]}.items())
    refused(wide, "is 768 wide, and this model's words are 32 wide")
    assert not (tmp_path / "out").exists()


def test_other_files_in_the_output_are_left_alone(tmp_path, generate):
    (tmp_path / "out" / "0" / "0").mkdir(parents=True)
    (tmp_path / "out" / "0" / "0" / "mine.txt").write_text("mine")
    refused(generate(tmp_path / "out"), "already holds other files (0/0/mine.txt)")
    assert contents(tmp_path / "out") == {"0/0/mine.txt": b"mine"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    g = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(g.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def learning(tiny_sd, pictures):
    return [
        "concepts", "learn", "--images", pictures, "--model", tiny_sd, "--num-steps", 2, "--validate-every", 1,
        "--pictures-every", 2, "--initializer", "dog", "--token", "<new1>", "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def learned(tmp_path_factory, learning):
    """The file of a word with the folder of its training beside it; nobody writes to them."""
    output = tmp_path_factory.mktemp("learned") / "deep" / "new1.safetensors"
    run = run_here(*learning, "--output", output)
    assert run.returncode == 0, run.stderr
    return output


def test_learn_writes_a_file_that_generate_and_inspect_take(tmp_path, learned, generate, tiny_sd, words):
    assert list(read_embeddings(learned)) == ["<new1>"]
    assert list((learned.parent / "new1.training" / "tensorboard").iterdir())
    run = generate(tmp_path / "out", {"--embeddings": [learned, f"<new2>={words / 'two.pt'}"]}.items())
    assert run.returncode == 0, run.stderr
    run = run_here("concepts", "inspect", learned, "--model", tiny_sd)
    assert run.returncode == 0
    assert "<new1>" in run.stdout
    assert "dog" in run.stdout  # where it started from


def test_learning_hears_what_is_said_of_each_picture(tmp_path, learning):
    vectors = []
    for i, sentence in enumerate(["a {} on the beach", "a red {}"]):
        (tmp_path / "captions.json").write_text(json.dumps({"0.jpg": sentence}))
        options = "--captions", tmp_path / "captions.json", "--pictures-every", 0
        output = tmp_path / f"{i}.safetensors"
        assert run_here(*learning, *options, "--output", output).returncode == 0
        vectors.append(read_embeddings(output)["<new1>"])
    assert not torch.equal(*vectors)


def test_learning_goes_on_only_when_asked_to(tmp_path, learning, learned):
    shutil.copytree(learned.parent, tmp_path / "copy")
    output = tmp_path / "copy" / learned.name
    refused(
        run_here(*learning, "--output", output),
        "belongs to an earlier run; resume it, or choose another output (--resume or --output)",
    )
    output.unlink()  # it is written again
    assert run_here(*learning, "--output", output, "--resume").returncode == 0
    assert output.read_bytes() == learned.read_bytes()


def test_two_processes_learn_the_same_word(tmp_path, learning, learned):
    run = run_in_two_processes("hw2", *learning, "--pictures-every", 0, "--output", tmp_path / "two.safetensors")
    assert run.returncode == 0, run.stderr
    one, two = (read_embeddings(path)["<new1>"] for path in (learned, tmp_path / "two.safetensors"))
    assert torch.allclose(one, two, atol=1e-3)


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path, learning, monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    run = run_here(*learning, "--batch-size", 3, "--output", tmp_path / "odd.safetensors")
    refused(run, "the batch size is 3; expected a multiple of 2, for 2 processes (--batch-size)")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--token", "new1"], "--token is 'new1'; expected a word in angle brackets"),
        (["--initializer", "xylophone"], "spells in"),
        (["--images", "none"], "none is not a folder"),
        (["--batch-size", 0], "batch_size must be 1 or more"),
        (["--accumulation", 3], "must be a multiple of accumulation 3"),
        (["--dtype", "float16"], "expected float32 or bfloat16"),
        (["--output", "new1.bin"], "ends in .safetensors"),
        (["--captions", "none.json"], "none.json cannot be read"),
        (["--output", "tests"], "tests is not a file; expected the name"),
        (["--output", "Makefile/e.safetensors"], "takes no files; choose another place"),
        (["--vectors", 1000], "vectors must be 75 or fewer"),
        (["--learning-rate", 1e20], "learning_rate must be a positive number, at most 1000"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path, learning, options, sentence):
    refused(run_here(*learning, "--output", tmp_path / "e.safetensors", *options), sentence)
    assert not list(tmp_path.glob("e.*"))


def test_a_file_that_is_there_is_not_learned_over(tmp_path, learning):
    output = tmp_path / "mine.safetensors"
    output.write_bytes(b"mine")
    refused(run_here(*learning, "--output", output), "exists, and there is no training of it")
    assert output.read_bytes() == b"mine"


def test_inspect_shows_names_as_they_are(tmp_path, tiny_sd):
    """Square brackets are markup to the library that draws the table."""
    save_embeddings(tmp_path / "[bold]e.safetensors", {"<[/red]>": torch.ones(1, 32)})
    run = run_here("concepts", "inspect", tmp_path / "[bold]e.safetensors", "--model", tiny_sd)
    assert run.returncode == 0, run.stderr
    assert "[bold]e.safetensors" in run.stdout
    assert "<[/red]>" in run.stdout


@pytest.fixture(scope="module")
def composing(tmp_path_factory, tiny_sd):
    words = tmp_path_factory.mktemp("composing") / "e.safetensors"
    save_embeddings(words, {"<a>": torch.ones(1, 32), "<b>": -torch.ones(1, 32)})
    return [
        "concepts", "compose", "--prompt", "a <a> and a <b>", "--word", "<a>=dog", "--word", "<b>=cat", "--model",
        tiny_sd, "--embeddings", words, "--device", "cpu", "--num-inference-steps", 2, "--count", 2,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def composed(tmp_path_factory, composing):
    """A composition of two pictures; nobody writes to it."""
    output = tmp_path_factory.mktemp("composed") / "whole.png"
    run = run_here(*composing, "--output", output)
    assert run.returncode == 0, run.stderr
    return output


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)])
def test_a_stopped_composition_goes_on_to_the_same_picture(tmp_path, composing, composed, how, monkeypatch):
    composing = [*composing, "--batch-size", 1]
    kept = tmp_path / ".stopped.png.pictures"
    stop = Stop(".partial/blended*.png", how)
    run = start_command("hw2", *composing, "--output", tmp_path / "stopped.png", stop=stop).ended()
    assert run.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), run.stderr
    if how == signal.SIGINT:
        assert "stopped; run the same command again to resume" in run.stderr
    assert not (tmp_path / "stopped.png").exists()
    assert len(list(kept.glob(".partial/*.png"))) == 3, "both of the first row, one of the second"
    made, encode = [], drawing.png_bytes
    monkeypatch.setattr(drawing, "png_bytes", lambda image_u8: made.append(image_u8) or encode(image_u8))
    assert run_here(*composing, "--output", tmp_path / "stopped.png").returncode == 0
    assert len(made) == 1
    assert (tmp_path / "stopped.png").read_bytes() == composed.read_bytes()
    assert not kept.exists()


def test_a_launchers_further_processes_leave_a_composition_to_the_first(tmp_path, composing, monkeypatch):
    """It is one file."""
    second = SimpleNamespace(is_main_process=False, device=torch.device("cpu"))
    monkeypatch.setattr("hw2.devices.choose.start_processes", lambda device: second)
    run = run_here(*composing, "--output", tmp_path / "a.png")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_two_processes_give_the_same_composition(tmp_path, composing, composed):
    run = run_in_two_processes("hw2", *composing, "--output", tmp_path / "two.png")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "two.png").read_bytes() == composed.read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--word", "<a>=fish"], "--word gives <a> twice"),
        (["--word", "<c>= "], "--word is '<c>= '; expected a token, = and a value"),
        (["--box", "<a>=0,0,1,1", "--box", "<b>=0,0,1,1"], "the box of <b> has none of the picture's 8x8 cells"),
        (["--embeddings", "<a b>=e.safetensors"], "--embeddings is '<a b>=e.safetensors'; expected a token"),
        (["--output", "Makefile/a.png"], "takes no files; choose another place"),
        (["--hold", 2], "hold is 2.0; expected a share of the steps, from 0 to 1 (--hold)"),
        (["--guidance-scale", 1e38], "came out as NaN or infinity; use a smaller guidance scale (--guidance-scale)"),
    ],
)
def test_what_cannot_be_composed_is_refused_before_any_work(tmp_path, composing, options, sentence):
    run = run_here(*composing, "--output", tmp_path / "a.png", *options)
    assert run.returncode == 2
    assert run.stdout == ""
    assert sentence in run.stderr.splitlines()[-1]
    assert not [path for path in tmp_path.iterdir() if "a.png" in path.name]


def test_compose_draws_two_rows(tmp_path, composing, composed):
    boxes = ["--box", "<a>=0,0,0.5,1", "--box", "<b>=0.5,0,1,1"]
    assert run_here(*composing, *boxes, "--output", tmp_path / "b.png").returncode == 0
    with Image.open(composed) as a, Image.open(tmp_path / "b.png") as b:
        assert a.size == b.size
        assert a.tobytes() != b.tobytes()
    refused(run_here(*composing, "--box", "<a>=0,0,1", "--output", tmp_path / "c.png"), "'0,0,1'")
    refused(run_here(*composing, "--word", "dog", "--output", tmp_path / "c.png"), "--word is 'dog'")
    assert not (tmp_path / "c.png").exists()


def test_inspect_reads_what_people_have(tmp_path, tiny_sd):
    torch.save(torch.ones(4, 768), tmp_path / "four.pt")
    run = run_here("concepts", "inspect", tmp_path / "four.pt", "--model", tiny_sd)
    assert run.returncode == 0
    assert run.stdout.count("768") == 4
    assert "another model's width" in run.stdout
    named = run_here("concepts", "inspect", tmp_path / "four.pt", "--model", tiny_sd, "--token", "<cat>")
    assert "<cat>" in named.stdout
    (tmp_path / "bad.pt").write_bytes(b"no")
    refused(
        run_here("concepts", "inspect", tmp_path / "bad.pt", "--model", tiny_sd),
        "bad.pt holds more than tensors, or is not a PyTorch file",
    )
