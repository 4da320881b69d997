import csv
import io
import json
import math
import shutil
import socket
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from PIL import Image
from transformers import CLIPImageProcessorPil
from typer.testing import CliRunner

from hw2.__main__ import app
from hw2.concepts import zero_shot
from hw2.concepts.clip import load_clip, openai_templates
from hw2.concepts.figures import cases_png, chosen_cases
from hw2.concepts.zero_shot import (
    Prediction,
    class_features,
    classify,
    list_images,
    predictions_csv,
    read_class_names,
    read_pixels,
    results,
    wilson_interval,
)
from hw2.errors import InputError
from tests.markdown import documented_fields
from tests.models.tiny_clip import register_tiny_open_clip, save_tiny_clip, tiny_clip, tiny_open_clip
from tests.models.tiny_sd import tiny_tokenizer

NAMES = {0: "dog", 1: "red_cat", 2: "beach", 5: "photo", 12: "drawing"}
FILES = {"predictions.csv", "results.json", "cases.png"}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def open_clip_file(tmp_path_factory):
    here = tmp_path_factory.mktemp("open_clip")
    register_tiny_open_clip(here / "configs")
    torch.save(tiny_open_clip().state_dict(), here / "tiny.pt")
    return here / "tiny.pt"


@pytest.fixture(scope="module")
def clip(clip_folder):
    return load_clip(str(clip_folder))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """30 images of the five classes, in several sizes and modes, and what macOS leaves behind."""
    folder = tmp_path_factory.mktemp("images")
    g = np.random.default_rng(0)
    for i in range(30):
        colour = g.integers(0, 256, 3)
        pixels = (0.8 * colour + 0.2 * g.integers(0, 256, (20 + i, 32, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{list(NAMES)[i % 5]}_{450 + i}.png")
    for name, mode in (("1_1.png", "L"), ("2_1.png", "P"), ("0_1.png", "RGBA")):
        Image.fromarray(g.integers(0, 256, (32, 32, 3), dtype=np.uint8)).convert(mode).save(folder / name)
    (folder / ".DS_Store").write_bytes(b"Bud1")
    (folder / "._0_450.png").write_bytes(b"AppleDouble")
    return folder


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "id2label.json"
    path.write_text(json.dumps({str(number): name for number, name in reversed(NAMES.items())}))
    return path


@pytest.fixture
def run(images, labels, clip_folder):
    """`hw2 concepts zero-shot` with options; later ones replace earlier ones."""

    def run(output, *options):
        arguments = ["--images", images, "--labels", labels, "--clip", clip_folder, "--device", "cpu"]
        arguments = ["concepts", "zero-shot", *arguments, "--output", output, *options]
        return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})

    return run


def read(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "results.json").read_text())


def refused(found, sentence):
    assert found.exit_code == 2, found.output
    assert found.stdout == ""
    assert found.stderr.splitlines()[-1].startswith("hw2: ")
    assert sentence in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr


# --- against other implementations


@pytest.mark.parametrize("templates", [["A photo of {object}."], ["{object}", "the {object}, {object}"], None])
def test_class_features_are_open_clips(clip, open_clip_file, templates):
    templates = templates or openai_templates()
    names = list(NAMES.values())
    ours = load_clip(f"tiny-test:{open_clip_file}")
    functions = [lambda name, t=t: t.replace("{object}", name) for t in templates]
    expected = open_clip.build_zero_shot_classifier(
        tiny_open_clip(), open_clip.SimpleTokenizer(context_length=32), names, functions
    )
    torch.testing.assert_close(class_features(ours, names, templates).float(), expected.T, atol=1e-6, rtol=0)

    class Wrapped(torch.nn.Module):
        def encode_text(self, ids, normalize):
            features = tiny_clip().get_text_features(input_ids=ids).pooler_output
            return features / features.norm(dim=-1, keepdim=True)

    def tokenize(sentences):
        words = tiny_tokenizer()(sentences, padding="max_length", truncation=True, max_length=32, return_tensors="pt")
        return words.input_ids

    expected = open_clip.build_zero_shot_classifier(Wrapped(), tokenize, names, functions)
    torch.testing.assert_close(class_features(clip, names, templates).float(), expected.T, atol=1e-6, rtol=0)


def test_predictions_are_those_of_a_naive_loop_in_float64(clip, images, clip_folder):
    model, tokenizer = tiny_clip().double(), tiny_tokenizer()
    processor = CLIPImageProcessorPil.from_pretrained(clip_folder)
    templates = ["a photo of {object}", "a {object} on the beach", "drawing {object} {object}"]
    paths = list_images(images, NAMES)[0]
    found = classify(clip, paths, NAMES, class_features(clip, list(NAMES.values()), templates), batch_size=7)
    vectors = {}
    for number, name in NAMES.items():
        total = torch.zeros(16, dtype=torch.float64)
        for template in templates:
            words = tokenizer(template.replace("{object}", name), return_tensors="pt")
            feature = model.get_text_features(**words).pooler_output[0]
            total += feature / math.sqrt(float((feature**2).sum()))
        vectors[number] = total / math.sqrt(float((total**2).sum()))
    for path, prediction in zip(paths, found, strict=True):
        with Image.open(path) as image:
            pixels = processor(image.convert("RGB"), return_tensors="pt").pixel_values.double()
        feature = model.get_image_features(pixel_values=pixels).pooler_output[0]
        feature = feature / math.sqrt(float((feature**2).sum()))
        logits = {number: float(model.logit_scale.exp() * (feature @ v)) for number, v in vectors.items()}
        total = sum(math.exp(logit) for logit in logits.values())
        best = sorted(logits, key=lambda number: -logits[number])[:3]
        assert prediction.guesses == best
        assert prediction.probabilities == pytest.approx([math.exp(logits[n]) / total for n in best], rel=1e-4)
        assert prediction.path == path
        assert prediction.label == int(path.name.split("_")[0])


def test_predictions_do_not_depend_on_the_batch_size(clip, images):
    paths, features = list_images(images, NAMES)[0], class_features(clip, list(NAMES.values()), ["{object}"])
    one, *others = (list(classify(clip, paths, NAMES, features, size)) for size in (1, 2, 7, 32, 40))
    assert len(one) == 33
    assert all(other == one for other in others)


def test_equally_near_names_go_by_their_order(clip, images):
    paths = list_images(images, NAMES)[0][:3]
    features = class_features(clip, ["dog"], ["{object}"]).expand(5, -1)
    for prediction in classify(clip, paths, NAMES, features, 2):
        assert prediction.guesses == [0, 1, 2]
        assert prediction.probabilities == pytest.approx([0.2] * 3)


def test_sentences_are_read_in_one_go_each_once(clip, monkeypatch):
    read = []
    tokenize = clip.tokenize
    spy = type(clip)(
        **{**vars(clip), "tokenize": lambda sentences: read.append(list(sentences)) or tokenize(sentences)}
    )
    class_features(spy, list(NAMES.values()), openai_templates())
    assert [len(batch) for batch in read] == [64] * 6 + [16]
    assert len({sentence for batch in read for sentence in batch}) == 400
    assert "a photo of a red_cat." in {sentence for batch in read for sentence in batch}


def test_names_that_the_model_cannot_tell_apart_are_refused(clip):
    class_features(clip, ["dog", "cat"], ["dog " * 20 + "{object}"])
    with pytest.raises(
        InputError, match="cannot distinguish the sentences of dog and cat; shorten them or the template"
    ):
        class_features(clip, ["dog", "cat"], ["dog " * 40 + "{object}"])
    with pytest.raises(InputError, match="cannot distinguish the sentences of Dog and dog"):
        class_features(clip, ["Dog", "dog"], ["{object}"])


# --- numbers


def predictions_of(pairs):
    return [Prediction(Path(f"{label}_{i}.png"), label, [guess], [1.0]) for i, (label, guess) in enumerate(pairs)]


NUMBERS = st.sampled_from(list(NAMES))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=50))
def test_results_add_up(pairs):
    found = results(predictions_of(pairs), NAMES)
    right = [a for a, b in pairs if a == b]
    assert found["accuracy"] == len(right) / len(pairs)
    assert (found["correct"], found["total"]) == (len(right), len(pairs))
    numbers = list(NAMES)
    for i, true in enumerate(numbers):
        for j, guess in enumerate(numbers):
            assert found["confusion"]["counts"][i][j] == pairs.count((true, guess))
        of_class = found["per_class"][NAMES[true]]
        total = sum(a == true for a, _ in pairs)
        assert of_class == {
            "correct": right.count(true), "total": total, "accuracy": right.count(true) / total if total else None,
        }  # fmt: skip
    assert found["confusion"]["labels"] == list(NAMES.values())
    low, high = found["interval"]
    assert 0 <= low <= found["accuracy"] <= high <= 1
    json.dumps(found)


@given(st.integers(1, 3000), st.data())
def test_the_interval_solves_wilsons_equation(total, data):
    """Its ends are the shares p that lie 1.96 of their own standard errors from the one observed."""
    correct = data.draw(st.integers(0, total))
    z = 1.959963984540054
    for p in wilson_interval(correct, total):
        assert (correct / total - p) ** 2 == pytest.approx(z**2 * p * (1 - p) / total, abs=1e-9)


def test_the_published_accuracy_has_this_interval():
    assert wilson_interval(1412, 2500) == pytest.approx((0.5453, 0.5841), abs=5e-5)


@given(st.lists(st.booleans(), max_size=40))
def test_chosen_cases_are_five_of_the_kind_spread_over_all(kinds):
    predictions = predictions_of([(0, 0 if right else 1) for right in kinds])
    for correct in (True, False):
        found = [p for p in predictions if p.correct == correct]
        chosen = chosen_cases(predictions, correct)
        assert len(chosen) == min(5, len(found))
        assert [found.index(p) for p in chosen] == sorted({found.index(p) for p in chosen})
        if len(found) > 5:
            assert found.index(chosen[0]) == 0
            assert found.index(chosen[-1]) == 4 * len(found) // 5


# --- files


def test_names_keep_their_underscores_and_come_in_order_of_ids(labels):
    assert list(read_class_names(labels).items()) == list(NAMES.items())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100000, "is not JSON"),
        (b"[]", "is not a JSON object with entries; expected class numbers"),
        (b'["apple"]', "is not a JSON object"),
        (b'[{"0": "apple"}]', "is not a JSON object"),
        (b'"apple"', "is not a JSON object"),
        (b"{}", "is not a JSON object"),
        (b'{"0": 3}', "calls class 0 '3'"),
        (b'{"0": null}', "calls class 0 'None'"),
        (b'{"0": {"a": "b"}}', "calls class 0"),
        (b'{"0": " "}', "calls class 0 ' '"),
        (b'{"0": "a\\u001b[31m"}', "calls class 0"),
        (b'{"0": "\\ud800"}', "calls class 0"),
        (b'{"apple": "0"}', "has the class 'apple'"),
        (b'{"-1": "apple"}', "has the class '-1'"),
        (b'{"\\u0663": "apple"}', "has the class"),
        (b'{"1%s": "apple"}' % (b"0" * 5000), "has the class '1000"),
        (b'{"0": "apple", "0": "pear"}', r"lists class 0 \(pear\) again"),
        (b'{"0": "apple", "00": "pear"}', r"lists class 00 \(pear\) again"),
        (b'{"0": ["apple"]}', "calls class 0 a list or an object; expected class numbers"),
        (b'{"0": ' + b"[" * 900 + b"]" * 900 + b"}", "calls class 0 a list|is not JSON"),
        (b'{"0": "apple", "1": "apple"}', r"lists class 1 \(apple\) again"),
    ],
)
def test_bad_labels_are_refused_in_one_sentence(tmp_path, content, sentence):
    (tmp_path / "id2label.json").write_bytes(content)
    with pytest.raises(InputError, match=sentence) as error:
        read_class_names(tmp_path / "id2label.json")
    assert str(tmp_path / "id2label.json") in str(error.value)
    assert str(error.value).isprintable()


def test_images_are_told_from_other_files(images, tmp_path):
    paths, others = list_images(images, NAMES)
    assert len(paths) == 33
    assert [path.name for path in paths] == sorted(path.name for path in paths)
    assert others == []
    for name in ("0_1.png", "5_2.png", "0_1.jpg", "notes.txt", "x_1.png", "0-1.png", "0_1.png.txt", "١_1.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "0_9.png").mkdir()
    paths, others = list_images(tmp_path, NAMES)
    assert [path.name for path in paths] == ["0_1.png", "5_2.png"]
    assert others == ["0-1.png", "0_1.jpg", "0_1.png.txt", "0_9.png", "notes.txt", "x_1.png", "١_1.png"]


def test_unusable_images_are_refused(tmp_path, images):
    content = (images / "0_450.png").read_bytes()
    huge = content[:16] + (60000).to_bytes(4, "big") * 2 + content[24:]
    g16 = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(g16, "PNG")
    gif = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(gif, "GIF")
    thin = io.BytesIO()  # a CLIP would enlarge it to 12 GB
    Image.new("RGB", (60000, 1)).save(thin, "PNG")
    for bad in (b"", b"text", content[:100], content[:-200], huge, g16.getvalue(), gif.getvalue(), thin.getvalue()):
        (tmp_path / "0_1.png").write_bytes(bad)
        expected = r"0_1\.png (is empty|is not a readable PNG|claims|has the mode|is 60000x1 pixels)"
        with pytest.raises(InputError, match=expected) as error:
            read_pixels(tmp_path / "0_1.png")
        assert "\n" not in str(error.value)


def test_the_table_is_one_that_spreadsheets_read(tmp_path):
    names = {0: 'a, "quoted" name', 7: "plain"}
    predictions = [Prediction(Path("x/0_1.png"), 0, [7, 0], [0.6, 0.4]), Prediction(Path("x/7_1.png"), 7, [7], [1.0])]
    rows = list(csv.reader(io.StringIO(predictions_csv(predictions, names).decode())))
    assert rows == [
        ["image_name", "label", "predicted_id", "predicted_label", "correct"],
        ["0_1.png", 'a, "quoted" name', "7", "plain", "0"],
        ["7_1.png", "plain", "7", "plain", "1"],
    ]


# --- the picture


def test_the_picture_shows_image_label_and_guesses(images, monkeypatch):
    shown, written = [], []
    monkeypatch.setattr(Axes, "imshow", lambda self, pixels, **_: shown.append(pixels))
    monkeypatch.setattr(Axes, "text", lambda self, x, y, words, **_: written.append(words))
    monkeypatch.setattr(Axes, "set_title", lambda self, words, **_: written.append(words))
    paths = list_images(images, NAMES)[0]
    predictions = [
        Prediction(path, label := int(path.name.split("_")[0]), [label if i % 2 else 99, 1, 2], [0.5, 0.3, 0.2])
        for i, path in enumerate(paths)
    ]
    cases_png(predictions, {**NAMES, 99: "$wrong_{x}$"}, "50 % $")
    chosen = [*chosen_cases(predictions, True), *chosen_cases(predictions, False)]
    assert len(shown) == len(chosen) == 10
    for pixels, case in zip(shown, chosen, strict=True):
        with Image.open(case.path) as image:
            np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
    expected = []
    for case in chosen:
        name = NAMES[case.label]
        kind, first = ("right", name) if case.correct else ("wrong", "$wrong_{x}$")
        expected += [f"{kind}: {name}\n{case.path.name}", f"{first}  50.0%\nred_cat  30.0%\nbeach  20.0%"]
    assert written == expected


@pytest.mark.parametrize("count", [0, 1, 6])
def test_the_picture_is_drawn_whatever_there_is(images, count):
    paths = list_images(images, NAMES)[0]
    predictions = [Prediction(path, 1, [1 if i < count else 0], [1.0]) for i, path in enumerate(paths[:6])]
    names = {**NAMES, 0: "$\\undefined$"}
    png = cases_png(predictions, names, "title $^$")
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == (1100, 740)
    assert count != 1 or cases_png(predictions, names, "title $^$") == png


# --- the command


def test_the_command_writes_what_the_functions_say(tmp_path, run, clip, images, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    found = run(tmp_path / "deep" / "out")
    assert found.exit_code == 0, found.output
    rows, summary = read(tmp_path / "deep" / "out")
    paths = list_images(images, NAMES)[0]
    features = class_features(clip, list(NAMES.values()), ["A photo of {object}."])
    predictions = list(classify(clip, paths, NAMES, features, 100))
    assert (tmp_path / "deep" / "out" / "predictions.csv").read_bytes() == predictions_csv(predictions, NAMES)
    assert len(rows) == 33
    right = sum(int(row["correct"]) for row in rows)
    assert 0 < right < 33
    assert right == sum(row["label"] == row["predicted_label"] for row in rows)
    expected = json.loads(json.dumps(results(predictions, NAMES)))
    assert {key: summary[key] for key in expected} == expected
    assert list(summary) == documented_fields("`results.json` of `concepts zero-shot`")
    assert (summary["template"], summary["ignored_files"]) == ("A photo of {object}.", 0)
    low, high = wilson_interval(right, 33)
    assert found.stdout == (
        f"accuracy {right / 33:.2%} ({right} of 33 images), 95 % interval {low:.2%} to {high:.2%}\n"
    )
    with Image.open(tmp_path / "deep" / "out" / "cases.png") as picture:
        assert picture.size == (1100, 740)
    monkeypatch.setattr("hw2.concepts.figures.cases_png", lambda *_: b"")
    assert run(tmp_path / "deep" / "out").exit_code == 0  # again, into the same folder
    assert read(tmp_path / "deep" / "out") == (rows, summary)


@pytest.fixture
def no_picture(monkeypatch):
    """The command draws none, which takes longer than all else that it does."""
    monkeypatch.setattr("hw2.concepts.figures.cases_png", lambda *_: b"")


@pytest.mark.usefixtures("no_picture")
def test_options_change_the_predictions(tmp_path, run, tmp_path_factory, open_clip_file):
    other = save_tiny_clip(tmp_path_factory.mktemp("other"), seed=1)
    options = {
        "default": (),
        "template": ("--template", "{object} in the style of drawing"),
        "openai80": ("--template", "openai80"),
        "clip": ("--clip", other),
        "open_clip": ("--clip", f"tiny-test:{open_clip_file}"),
        "same": ("--batch-size", 4),
    }
    tables = {}
    for name, option in options.items():
        assert run(tmp_path / name, *option).exit_code == 0
        tables[name] = (tmp_path / name / "predictions.csv").read_bytes()
        read(tmp_path / name)
    assert tables.pop("same") == tables["default"]
    assert len(set(tables.values())) == len(tables)


@pytest.mark.usefixtures("no_picture")
def test_labels_decide_what_can_be_guessed(tmp_path, run):
    names = {**{str(k): v for k, v in NAMES.items()}, "40": "style"}
    (tmp_path / "labels.json").write_text(json.dumps(names))
    assert run(tmp_path / "out", "--labels", tmp_path / "labels.json").exit_code == 0
    summary = read(tmp_path / "out")[1]
    assert summary["per_class"]["style"] == {"correct": 0, "total": 0, "accuracy": None}
    assert len(summary["confusion"]["counts"]) == 6


@pytest.mark.usefixtures("no_picture")
def test_other_files_are_counted_aloud(tmp_path, run, images):
    (tmp_path / "in").mkdir()
    for name in ("0_450.png", "0_1.png"):
        (tmp_path / "in" / name).write_bytes((images / name).read_bytes())
    (tmp_path / "in" / "notes.txt").write_text("mine")
    (tmp_path / "in" / "0_450.jpg").write_text("mine")
    (tmp_path / "in" / ".DS_Store").write_text("Bud1")
    found = run(tmp_path / "out", "--images", tmp_path / "in")
    assert found.exit_code == 0
    assert "2 other files in" in found.stderr
    assert "were ignored (0_450.jpg, notes.txt)" in found.stderr
    rows, summary = read(tmp_path / "out")
    assert [row["image_name"] for row in rows] == ["0_1.png", "0_450.png"]
    assert (summary["total"], summary["ignored_files"]) == (2, 2)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--template", "a photo"), "--template is 'a photo'; expected a sentence with {object} in it, or openai80"),
        (("--template", "A photo of {}."), "expected a sentence with {object}"),
        (("--template", ""), "expected a sentence with {object}"),
        (("--batch-size", 0), "--batch-size is 0; expected 1 or more"),
        (("--device", "tpu"), "the device is 'tpu'"),
        (("--images", "nowhere"), "nowhere is not a folder; expected one with images"),
        (("--images", "tests"), "tests has no images called {class id}_{image id}.png"),
        (("--labels", "nowhere.json"), "nowhere.json cannot be read (No such file"),
        (("--labels", "Makefile"), "Makefile is not JSON"),
        (("--clip", "nowhere"), "'nowhere' is not a CLIP model"),
        (("--clip", "tests"), "tests has no config.json"),
        (("--clip", "Makefile"), "of unknown architecture"),
        (("--output", "Makefile"), "Makefile is a file; expected a folder"),
        (("--output", "tests"), "tests already holds other files"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(tmp_path, run, option, sentence):
    found = run(tmp_path / "out", *option)
    refused(found, sentence)
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_graded_are_refused_and_leave_nothing(tmp_path, run, images):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0_450.png").write_bytes((images / "0_450.png").read_bytes())
    (tmp_path / "in" / "3_1.png").write_bytes((images / "0_450.png").read_bytes())
    found = run(tmp_path / "out", "--images", tmp_path / "in")
    refused(found, "has 1 image (3_1.png) of a class that is not in the labels (0 to 12)")
    (tmp_path / "in" / "3_1.png").unlink()
    (tmp_path / "in" / "1_1.png").write_bytes(b"broken")
    found = run(tmp_path / "out", "--images", tmp_path / "in")
    refused(found, "1_1.png is not a readable PNG")
    assert not (tmp_path / "out").exists()


def test_an_overflowing_model_is_refused(tmp_path, run, monkeypatch):
    monkeypatch.setattr(zero_shot, "class_features", lambda *_: torch.full((5, 16), torch.nan, dtype=torch.float64))
    refused(run(tmp_path / "out"), "came out as NaN or infinity; use another model (--clip)")
    assert not (tmp_path / "out").exists()


def test_the_command_runs_as_a_program(tmp_path, hw2, images, labels, clip_folder):
    (tmp_path / "in").mkdir()
    shutil.copy(images / "0_450.png", tmp_path / "in")
    arguments = ["--images", tmp_path / "in", "--labels", labels, "--clip", clip_folder, "--output", tmp_path / "out"]
    found = hw2("concepts", "zero-shot", *arguments, "--device", "cpu")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("accuracy ")
    assert "Warning" not in found.stderr
    read(tmp_path / "out")
