"""`hw2 concepts` as a person runs it."""

import json
import signal
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from hw2.concepts.embeddings import read_embeddings, save_embeddings
from tests.commands import ROOT, Stop, run_in_two_processes, start_command

LEARNED = ROOT / "fixtures" / "submissions" / "reference" / "learned" / "new1.safetensors"
PROMPTS = {
    "0": {"token_name": "<new1>", "prompt": ["a <new1> on the beach", "a red <new1>"]},
    "1": {"token_name": "<new2>", "prompt": ["a dog in the style of <new2>"]},
}


@pytest.fixture
def generate(tmp_path, hw2, tiny_sd):
    (tmp_path / "input.json").write_text(json.dumps(PROMPTS))
    g = torch.Generator().manual_seed(0)
    save_embeddings(tmp_path / "one.safetensors", {"<new1>": torch.randn(2, 32, generator=g)})
    torch.save(torch.randn(1, 32, generator=g), tmp_path / "two.pt")
    options = {
        "--json": tmp_path / "input.json", "--model": tiny_sd, "--num-inference-steps": 3, "--per-prompt": 2,
        "--device": "cpu", "--embeddings": [tmp_path / "one.safetensors", f"<new2>={tmp_path / 'two.pt'}"],
    }  # fmt: skip

    def run(output, changes=(), arguments_behind=()):
        arguments = []
        for option, value in (options | dict(changes)).items():
            for one in value if isinstance(value, list) else [value]:
                arguments += [option, one]
        return hw2("concepts", "generate", *arguments, *arguments_behind, "--output", output)

    return run


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(run, sentence):
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert sentence in run.stderr


def test_files_of_words_may_follow_one_another(tmp_path, generate):
    """As a shell spells `--embeddings learned/*`."""
    assert generate(tmp_path / "apart").returncode == 0
    one, two = tmp_path / "one.safetensors", f"<new2>={tmp_path / 'two.pt'}"
    together = generate(tmp_path / "together", {"--embeddings": one}.items(), [two])
    assert together.returncode == 0, together.stderr
    assert contents(tmp_path / "apart") == contents(tmp_path / "together")


def test_the_bundled_model_is_guided_as_it_needs_unless_told_otherwise(tmp_path, hw2):
    (tmp_path / "input.json").write_text(json.dumps({"0": PROMPTS["0"]}))
    drawn = []
    for i, more in enumerate([(), ("--guidance-scale", 3), ("--guidance-scale", 7.5)]):
        options = "--json", tmp_path / "input.json", "--embeddings", LEARNED, "--output", tmp_path / str(i)
        run = hw2("concepts", "generate", *options, "--num-inference-steps", 2, "--per-prompt", 1, *more)
        assert run.returncode == 0, run.stderr
        drawn.append(contents(tmp_path / str(i)))
    assert drawn[0] == drawn[1] != drawn[2]


def test_generate_writes_exactly_the_official_files(tmp_path, generate):
    run = generate(tmp_path / "out", {"--per-prompt": 25}.items())
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    expected = [f"{c}/{p}/source{c}_prompt{p}_{i}.png" for c, p in (("0", 0), ("0", 1), ("1", 0)) for i in range(25)]
    assert sorted(contents(tmp_path / "out")) == sorted(expected)
    assert len(set(contents(tmp_path / "out").values())) == 75
    with Image.open(tmp_path / "out" / expected[0]) as image:
        assert (image.size, image.mode, image.format) == ((16, 16), "RGB", "PNG")


def test_a_picture_does_not_depend_on_batches_or_on_how_many_there_are(tmp_path, generate):
    assert generate(tmp_path / "two").returncode == 0
    assert generate(tmp_path / "five", {"--batch-size": 3, "--per-prompt": 5}.items()).returncode == 0
    two, five = contents(tmp_path / "two"), contents(tmp_path / "five")
    assert len(two) == 6
    assert two == {name: five[name] for name in two}


@pytest.mark.parametrize("verb", ["generate", "compose"])
def test_two_processes_share_the_pictures_and_give_the_same_files(tmp_path, hw2, generate, tiny_sd, verb):
    """Only the first process draws a composition, which is one file."""
    words = tmp_path / "one.safetensors", f"<new2>={tmp_path / 'two.pt'}"
    options = [verb, "--model", tiny_sd, "--num-inference-steps", 3, "--device", "cpu"]
    options += [argument for word in words for argument in ("--embeddings", word)]
    if verb == "generate":
        options += ["--json", tmp_path / "input.json", "--per-prompt", 2]
    else:
        options += ["--prompt", "a <new1> and a <new2>", "--word", "<new1>=dog", "--word", "<new2>=cat", "--count", 1]
    for name, run in (("one", partial(hw2, "concepts")), ("two", partial(run_in_two_processes, "hw2", "concepts"))):
        output = tmp_path / name / ("out" if verb == "generate" else "out.png")
        output.parent.mkdir()
        done = run(*options, "--output", output)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == (6 if verb == "generate" else 1)


CHANGES = [("--seed", 1), ("--guidance-scale", 2), ("--sampler", "ddim"), ("--num-inference-steps", 4)]


@pytest.mark.parametrize("change", [*CHANGES, ("--dtype", "bfloat16")])
def test_options_change_the_pictures(tmp_path, generate, change):
    generate(tmp_path / "a")
    assert generate(tmp_path / "b", [change]).returncode == 0
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a.keys() == b.keys()
    assert all(a[name] != b[name] for name in a)


def test_what_is_there_is_kept_and_the_rest_is_made(tmp_path, generate):
    assert generate(tmp_path / "whole").returncode == 0
    out = tmp_path / "out"
    generate(out)
    whole = contents(tmp_path / "whole")
    (out / ".partial" / "0" / "0").mkdir(parents=True)
    assert contents(out) == whole
    assert generate(out).returncode == 0
    assert contents(out) == whole


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


def test_tokens_without_embeddings_and_embeddings_given_twice_are_refused(tmp_path, generate):
    one = tmp_path / "one.safetensors"
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


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    g = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(g.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.jpg")
    return tmp_path / "pictures"


@pytest.fixture
def learning(tiny_sd, pictures):
    return [
        "concepts", "learn", "--images", pictures, "--model", tiny_sd, "--num-steps", 6, "--validate-every", 3,
        "--pictures-every", 1, "--initializer", "dog", "--token", "<new1>", "--device", "cpu",
    ]  # fmt: skip


def test_learn_writes_a_file_that_generate_and_inspect_take(tmp_path, hw2, learning, generate, tiny_sd):
    output = tmp_path / "learned" / "new1.safetensors"
    run = hw2(*learning, "--output", output)
    assert run.returncode == 0, run.stderr
    assert list(read_embeddings(output)) == ["<new1>"]
    assert list((tmp_path / "learned" / "new1.training" / "tensorboard").iterdir())
    run = generate(tmp_path / "out", {"--embeddings": [output, f"<new2>={tmp_path / 'two.pt'}"]}.items())
    assert run.returncode == 0, run.stderr
    run = hw2("concepts", "inspect", output, "--model", tiny_sd)
    assert run.returncode == 0
    assert "<new1>" in run.stdout
    assert "dog" in run.stdout  # where it started from


def test_learning_hears_what_is_said_of_each_picture(tmp_path, hw2, learning):
    vectors = []
    for i, sentence in enumerate(["a {} on the beach", "a red {}"]):
        name = next((tmp_path / "pictures").iterdir()).name
        (tmp_path / "captions.json").write_text(json.dumps({name: sentence}))
        output = tmp_path / f"{i}.safetensors"
        assert hw2(*learning, "--captions", tmp_path / "captions.json", "--output", output).returncode == 0
        vectors.append(read_embeddings(output)["<new1>"])
    assert not torch.equal(*vectors)


def test_learning_goes_on_only_when_asked_to(tmp_path, hw2, learning):
    output = tmp_path / "new1.safetensors"
    assert hw2(*learning, "--output", output).returncode == 0
    first = output.read_bytes()
    refused(
        hw2(*learning, "--output", output),
        "belongs to an earlier run; resume it, or choose another output (--resume or --output)",
    )
    assert hw2(*learning, "--output", output, "--resume").returncode == 0
    assert output.read_bytes() == first


@pytest.mark.slow
def test_two_processes_learn_the_same_word(tmp_path, hw2, learning):
    assert hw2(*learning, "--output", tmp_path / "one.safetensors").returncode == 0
    run = run_in_two_processes("hw2", *learning, "--output", tmp_path / "two.safetensors")
    assert run.returncode == 0, run.stderr
    one, two = (read_embeddings(tmp_path / f"{name}.safetensors")["<new1>"] for name in ("one", "two"))
    assert torch.allclose(one, two, atol=1e-3)
    odd = run_in_two_processes("hw2", *learning, "--batch-size", 3, "--output", tmp_path / "odd.safetensors")
    assert odd.returncode != 0
    assert "the batch size is 3; expected a multiple of 2, for 2 processes (--batch-size)" in odd.stderr


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
def test_what_cannot_be_learned_is_refused(tmp_path, hw2, learning, options, sentence):
    refused(hw2(*learning, "--output", tmp_path / "e.safetensors", *options), sentence)
    assert not list(tmp_path.glob("e.*"))


def test_a_file_that_is_there_is_not_learned_over(tmp_path, hw2, learning):
    output = tmp_path / "mine.safetensors"
    output.write_bytes(b"mine")
    refused(hw2(*learning, "--output", output), "exists, and there is no training of it")
    assert output.read_bytes() == b"mine"


def test_inspect_shows_names_as_they_are(tmp_path, hw2, tiny_sd):
    """Square brackets are markup to the library that draws the table."""
    save_embeddings(tmp_path / "[bold]e.safetensors", {"<[/red]>": torch.ones(1, 32)})
    run = hw2("concepts", "inspect", tmp_path / "[bold]e.safetensors", "--model", tiny_sd)
    assert run.returncode == 0, run.stderr
    assert "[bold]e.safetensors" in run.stdout
    assert "<[/red]>" in run.stdout


@pytest.fixture
def composing(tmp_path, tiny_sd):
    save_embeddings(tmp_path / "e.safetensors", {"<a>": torch.ones(1, 32), "<b>": -torch.ones(1, 32)})
    return [
        "concepts", "compose", "--prompt", "a <a> and a <b>", "--word", "<a>=dog", "--word", "<b>=cat", "--model",
        tiny_sd, "--embeddings", tmp_path / "e.safetensors", "--device", "cpu", "--num-inference-steps", 3,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)])
def test_a_stopped_composition_goes_on_to_the_same_picture(tmp_path, hw2, composing, how):
    many = [*composing, "--count", 3, "--batch-size", 1]
    assert hw2(*many, "--output", tmp_path / "whole.png").returncode == 0
    kept = tmp_path / ".stopped.png.pictures"
    stop = Stop(".partial/blended*.png", how)
    run = start_command("hw2", *many, "--output", tmp_path / "stopped.png", stop=stop).ended()
    assert run.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), run.stderr
    if how == signal.SIGINT:
        assert "stopped; run the same command again to resume" in run.stderr
    assert not (tmp_path / "stopped.png").exists()
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob(".partial/*.png")}
    assert len(before) == 4, "all three of the first row, one of the second"
    assert hw2(*many, "--output", tmp_path / "stopped.png").returncode == 0
    assert (tmp_path / "stopped.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert not kept.exists()


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
def test_what_cannot_be_composed_is_refused_before_any_work(tmp_path, hw2, composing, options, sentence):
    run = hw2(*composing, "--output", tmp_path / "a.png", *options)
    assert run.returncode == 2
    assert run.stdout == ""
    assert sentence in run.stderr.splitlines()[-1]
    assert not [path for path in tmp_path.iterdir() if "a.png" in path.name]


def test_compose_draws_two_rows(tmp_path, hw2, tiny_sd):
    save_embeddings(tmp_path / "e.safetensors", {"<a>": torch.randn(1, 32), "<b>": torch.randn(1, 32)})
    options = ["--prompt", "a <a> and a <b>", "--word", "<a>=dog", "--word", "<b>=cat", "--model", tiny_sd]
    options += ["--embeddings", tmp_path / "e.safetensors", "--count", 2, "--num-inference-steps", 3]
    assert hw2("concepts", "compose", *options, "--output", tmp_path / "a.png").returncode == 0
    boxes = ["--box", "<a>=0,0,0.5,1", "--box", "<b>=0.5,0,1,1"]
    assert hw2("concepts", "compose", *options, *boxes, "--output", tmp_path / "b.png").returncode == 0
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.size == b.size
        assert a.tobytes() != b.tobytes()
    refused(hw2("concepts", "compose", *options, "--box", "<a>=0,0,1", "--output", tmp_path / "c.png"), "'0,0,1'")
    refused(hw2("concepts", "compose", *options, "--word", "dog", "--output", tmp_path / "c.png"), "--word is 'dog'")
    assert not (tmp_path / "c.png").exists()


def test_inspect_reads_what_people_have(tmp_path, hw2, tiny_sd):
    torch.save(torch.ones(4, 768), tmp_path / "four.pt")
    run = hw2("concepts", "inspect", tmp_path / "four.pt", "--model", tiny_sd)
    assert run.returncode == 0
    assert run.stdout.count("768") == 4
    assert "another model's width" in run.stdout
    named = hw2("concepts", "inspect", tmp_path / "four.pt", "--model", tiny_sd, "--token", "<cat>")
    assert "<cat>" in named.stdout
    (tmp_path / "bad.pt").write_bytes(b"no")
    refused(
        hw2("concepts", "inspect", tmp_path / "bad.pt", "--model", tiny_sd),
        "bad.pt holds more than tensors, or is not a PyTorch file",
    )
