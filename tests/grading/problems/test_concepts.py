"""The CLIP scores of Problem 3, against the official procedure done by hand, one image at a time."""

import itertools
import json
import os
import re
import shutil
import struct
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grading.core.bounds import MAX_PIXELS
from grading.core.errors import GradingError
from grading.core.results import Check
from grading.homeworks.fall2024 import CONCEPTS
from grading.judges.clip import load_clip
from grading.problems.prompt_scores import (
    ConceptsResult,
    PromptScore,
    clip_scores,
    grade_concepts,
    official_lines,
    score_prompt,
)
from grading.problems.prompts import read_concepts
from tests.grading.here import grade_here
from tests.models.tiny_clip import save_tiny_clip
from tests.oracles import clip_scores_twin

RULES = CONCEPTS.rules

SIZE = 32
INPUT = {
    "0": {
        "src_image": "dog",
        "prompt_4_clip_eval": ["a red dog on the beach", "a dog"],
        "baseline": [[-100, -1000], [200, -1000]],
    },
    "style": {"src_image": "x", "prompt_4_clip_eval": ["a cat " * 40], "baseline": [[-100, -1000]]},
}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def picture(rng, mode="RGB", size=None):
    width, height = size or rng.integers(20, 90, 2)
    pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


KINDS = [
    ("png", "RGB"), ("PNG", "L"), ("png", "RGBA"), ("png", "P"), ("png", "LA"), ("jpg", "RGB"), ("JPEG", "CMYK"),
    ("jpeg", "L"), ("bmp", "RGB"), ("gif", "P"), ("png", "1"), ("png", "I;16"),
]  # fmt: skip


def save(image, path):
    """In the format of the name, whatever the case of its letters."""
    kind = {"jpg": "JPEG", "jpeg": "JPEG"}.get(path.suffix[1:].lower(), path.suffix[1:].upper())
    image.save(path, format=kind)


@pytest.fixture
def world(tmp_path):
    """Output and reference folders of INPUT, with images of every size and mode."""
    rng = np.random.default_rng(0)
    (tmp_path / "input.json").write_text(json.dumps(INPUT))
    for concept, entry in INPUT.items():
        (tmp_path / "references" / concept).mkdir(parents=True)
        for i in range(3):
            save(picture(rng), tmp_path / "references" / concept / f"{i:02d}.jpg")
        for index in range(len(entry["baseline"])):
            folder = tmp_path / "out" / concept / str(index)
            folder.mkdir(parents=True)
            for i in range(25):
                suffix, mode = KINDS[i % len(KINDS)]
                name = f"source{concept}_prompt{index}_{i}.{suffix}"
                if mode == "I;16":
                    Image.fromarray(rng.integers(0, 2**16, (40, 50), dtype=np.uint16)).save(folder / name)
                else:
                    save(picture(rng, mode), folder / name)
    return tmp_path


def opened(folder):
    """name -> image, in the order of names."""
    images = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            image.load()
            images[path.name] = image
    return images


def grade(world, clip_folder, **options):
    judge = load_clip(str(clip_folder), **options)
    return grade_concepts(world / "out", read_concepts(world / "input.json"), world / "references", judge, RULES)


@pytest.mark.filterwarnings("ignore:Palette images")  # PIL's advice on what the test itself opens
def test_every_score_and_selection_is_the_official_ones(world, clip_folder):
    result = grade(world, clip_folder)
    assert list(result.prompts) == ["0/0", "0/1", "style/0"]
    spread = []
    for key, score in result.prompts.items():
        concept, index = key.split("/")
        sentence = INPUT[concept]["prompt_4_clip_eval"][int(index)]
        images, references = opened(world / "out" / key), opened(world / "references" / concept)
        scores = clip_scores_twin(images.values(), references.values(), sentence, clip_folder, SIZE)
        expected = dict(zip(images, scores, strict=True))
        assert list(score.images) == list(expected)
        np.testing.assert_allclose(list(score.images.values()), list(expected.values()), rtol=0, atol=1e-3)
        total = {name: image + 2.5 * text for name, (image, text) in expected.items()}
        assert score.selected == sorted(total, key=total.get)[-5:]
        means = np.mean([expected[name] for name in score.selected], axis=0)
        np.testing.assert_allclose([score.clip_image_score, score.clip_text_score], means, rtol=0, atol=1e-3)
        spread.append(np.std(list(total.values())))
    assert min(spread) > 1  # the images differ enough for a selection to mean something
    assert {key: score.passed for key, score in result.prompts.items()} == {"0/0": True, "0/1": False, "style/0": True}
    assert (result.passed, result.total, result.status) == (2, 3, "fail")


def test_if_every_prompt_passes_the_result_does_and_says_for_what_and_by_whom(world, clip_folder):
    low = {concept: {**entry, "baseline": [[-100, -1000]] * 2} for concept, entry in INPUT.items()}
    (world / "input.json").write_text(json.dumps(low))
    judge = load_clip(str(clip_folder))
    asked = read_concepts(world / "input.json")
    result = grade_concepts(world / "out", asked, world / "references", judge, RULES)
    assert (result.passed, result.total, result.status, result.judge) == (3, 3, "pass", judge.identity)
    assert {key: (score.src_image, score.prompt) for key, score in result.prompts.items()} == {
        "0/0": ("dog", "a red dog on the beach"),
        "0/1": ("dog", "a dog"),
        "style/0": ("x", "a cat " * 40),
    }
    (world / "out" / "0" / "1" / sorted(os.listdir(world / "out" / "0" / "1"))[0]).unlink()
    result = grade_concepts(world / "out", asked, world / "references", judge, RULES)
    assert (result.passed, result.status) == (2, "fail")
    assert [check.message for check in result.checks if check.name == "0/1 score"] == [
        f"0/1: image score {result.prompts['0/1'].clip_image_score:.4f}, text score "
        f"{result.prompts['0/1'].clip_text_score:.4f}. This reaches the baseline, but the folder is not complete."
    ]


def test_scores_are_those_of_transformers_4(tmp_path, clip_folder):
    """The numbers are what the official procedure gives under transformers 4.57.3 for this model and these images."""
    rng = np.random.default_rng(7)
    for part, count in (("references/0", 3), ("out/0/0", 6)):
        (tmp_path / part).mkdir(parents=True)
        for i in range(count):
            width, height = rng.integers(20, 90, 2)
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / f"{i}.png")
    entry = {"src_image": "dog", "prompt_4_clip_eval": ["a red dog on the beach"], "baseline": [[70, 3]]}
    (tmp_path / "input.json").write_text(json.dumps({"0": entry}))
    score = grade(tmp_path, clip_folder).prompts["0/0"]
    expected = [
        (75.977296, 0.998023), (95.858888, 3.398066), (94.527447, 3.436632), (96.419764, 3.804367),
        (95.407363, 3.657126), (96.894723, 3.566418),
    ]  # fmt: skip
    np.testing.assert_allclose(list(score.images.values()), expected, rtol=0, atol=1e-3)
    assert score.selected == ["2.png", "1.png", "4.png", "5.png", "3.png"]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_scores_are_the_same_bits_for_any_batch_size(world, clip_folder, batch_size):
    assert grade(world, clip_folder, batch_size=batch_size) == grade(world, clip_folder)


PAIRS = st.tuples(st.integers(0, 4).map(float), st.integers(0, 4).map(float))


@given(st.lists(PAIRS, min_size=5, max_size=25), PAIRS)
def test_the_five_best_are_selected_and_of_equal_ones_the_later(pairs, threshold):
    images = {f"{i:02d}.png": pair for i, pair in enumerate(pairs)}
    score = score_prompt(images, threshold, RULES)
    total = {name: image + 2.5 * text for name, (image, text) in images.items()}
    left = dict(total)
    for name in reversed(score.selected):  # take the best away, one by one
        best = max(left.values())
        assert left.pop(name) == best
        assert not any(value == best and other > name for other, value in left.items())
    assert len(score.selected) == 5
    means = [sum(images[name][i] for name in score.selected) / 5 for i in (0, 1)]
    assert [score.clip_image_score, score.clip_text_score] == means
    assert score.passed == (means[0] >= threshold[0] and means[1] >= threshold[1])


def test_a_score_that_equals_its_threshold_passes_and_one_below_it_does_not():
    images = {str(i): (70.0, 30.0) for i in range(25)}
    assert score_prompt(images, (70.0, 30.0), RULES).passed
    assert not score_prompt(images, (np.nextafter(70.0, 71), 30.0), RULES).passed
    assert not score_prompt(images, (70.0, np.nextafter(30.0, 31)), RULES).passed
    assert not score_prompt(images, (70.0, 30.0), RULES, complete=False).passed


@pytest.mark.parametrize("count", [0, 4, 24, 26])
def test_other_counts_than_25_fail_the_prompt(world, clip_folder, count):
    folder = world / "out" / "0" / "0"
    names = sorted(path.name for path in folder.iterdir())
    for name in names[count:]:
        (folder / name).unlink()
    if count == 26:
        shutil.copy(folder / names[0], folder / "one_more.png")
    result = grade(world, clip_folder)
    assert not result.prompts["0/0"].passed
    assert (result.prompts["0/0"].clip_image_score is None) == (count < 5)
    assert f"0/0/ has {count} images; expected exactly 25." in [check.message for check in result.checks]
    assert result.prompts["style/0"].passed


def test_what_is_no_image_is_ignored_and_what_cannot_be_read_fails(world, clip_folder):
    folder = world / "out" / "0" / "0"
    (folder / "notes.txt").write_text("hello")
    (folder / ".DS_Store").write_bytes(b"Bud1")
    assert grade(world, clip_folder).prompts["0/0"].passed
    victims = sorted(path for path in folder.iterdir() if path.suffix == ".png")
    victims[0].write_bytes(victims[0].read_bytes()[:100])
    victims[1].unlink()
    victims[1].symlink_to(world / "references" / "0" / "00.jpg")
    result = grade(world, clip_folder)
    messages = " ".join(check.message for check in result.checks)
    assert not result.prompts["0/0"].passed
    assert len(result.prompts["0/0"].images) == 23
    assert f"0/0/{victims[0].name} is broken" in messages
    assert f"0/0/{victims[1].name} is a link" in messages
    failed = {check.name for check in result.checks if check.status == "fail"}
    assert failed >= {f"0/0/{victim.name}" for victim in victims[:2]}


def test_missing_and_linked_folders_fail_and_others_are_named(world, clip_folder):
    (world / "out" / "style").rename(world / "elsewhere")
    (world / "out" / "style").symlink_to(world / "elsewhere")
    shutil.rmtree(world / "out" / "0" / "1")
    (world / "out" / "cat").mkdir()
    (world / "out" / "0" / "7").mkdir()
    result = grade(world, clip_folder)
    messages = [check.message for check in result.checks]
    assert "0/1/ is missing; expected a folder with 25 images in it." in messages
    assert "style/0/ is a link; expected a folder with 25 images in it." in messages
    assert result.missing == ["0/1/", "style/0/"]
    assert result.unexpected == ["cat", "0/7"]
    warning = Check("files", "warning", "The grader ignored 2 unexpected entries: cat, 0/7.")
    assert [check for check in result.checks if check.status == "warning"] == [warning]
    assert result.status == "fail"


def test_files_in_place_of_folders_fail_their_prompts(world, clip_folder):
    for part in ("0/0", "0/1", "style"):
        shutil.rmtree(world / "out" / part)
    (world / "out" / "0" / "0").write_text("")
    (world / "out" / "0" / "1").symlink_to("1")
    (world / "out" / "style").write_text("")
    result = grade(world, clip_folder)
    assert (result.status, result.passed, result.missing) == ("fail", 0, ["0/0/", "0/1/", "style/0/"])
    assert result.checks[0].message == "0/0/ is not a folder; expected a folder with 25 images in it."


def test_an_output_folder_that_is_not_there_fails(world, clip_folder):
    shutil.rmtree(world / "out")
    result = grade(world, clip_folder)
    assert (result.status, result.passed, result.total) == ("fail", 0, 3)
    assert result.checks[0] == Check("folder", "fail", f"The folder {world / 'out'} does not exist.")


def test_an_output_that_is_a_file_cannot_be_graded(world, clip_folder):
    shutil.rmtree(world / "out")
    (world / "out").touch()
    with pytest.raises(GradingError) as refusal:
        grade(world, clip_folder)
    assert str(refusal.value) == f"{world / 'out'} is a file; expected the folder with 0, style"


def test_equal_images_have_equal_scores_and_the_last_are_selected(world, clip_folder):
    folder = world / "out" / "0" / "0"
    shutil.rmtree(folder)
    folder.mkdir()
    for i in range(25):
        shutil.copy(world / "references" / "0" / "00.jpg", folder / f"{i:02d}.jpg")
    score = grade(world, clip_folder).prompts["0/0"]
    assert len(set(score.images.values())) == 1
    assert score.selected == ["20.jpg", "21.jpg", "22.jpg", "23.jpg", "24.jpg"]


@pytest.mark.parametrize("width", [32, 64, 512, 513])
def test_equal_features_tie_whatever_their_number(width):
    """A matrix product would add up some rows in another order."""
    rng = np.random.default_rng(0)
    for count, known in itertools.product((5, 24, 25, 26, 33), range(1, 8)):
        sizes = (width, (known, width), width)
        image, references, text = (rng.standard_normal(size).astype(np.float32) for size in sizes)
        scores = clip_scores(np.tile(image, (count, 1)), references, text, 100.0)
        assert len(set(scores)) == 1
        exact = image.astype(float) @ references.T.astype(float)
        expected = (100 * exact.mean(), 100 * (image.astype(float) @ text))
        np.testing.assert_allclose(scores[0], expected, rtol=0, atol=1e-9)


def test_images_are_read_one_at_a_time(world):
    """Together, a hundred of the largest would need 5 GB."""
    alive = []

    class Judge:
        identity, logit_scale = None, 1.0

        def image_features(self, images):
            count = 0
            for image in images:
                alive.append(sum(reference() is not None for reference in seen))
                seen.append(weakref.ref(image))
                del image
                count += 1
            return np.ones((count, 2), np.float32)

        def text_features(self, sentences):
            return np.ones((len(sentences), 2), np.float32)

    seen = []
    grade_concepts(world / "out", read_concepts(world / "input.json"), world / "references", Judge(), RULES)
    assert len(alive) == 81
    assert max(alive) <= 1


def test_a_hostile_image_fails_its_prompt_alone(world, clip_folder):
    name = sorted(path.name for path in (world / "out" / "0" / "0").iterdir() if path.suffix == ".bmp")[0]
    side = int(MAX_PIXELS**0.5) + 1
    header = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, *[0] * 6)
    (world / "out" / "0" / "0" / name).write_bytes(header)
    result = grade(world, clip_folder)
    assert f"0/0/{name} claims {side}x{side} pixels; that is too large to be read." in [
        c.message for c in result.checks
    ]
    assert not result.prompts["0/0"].passed
    assert result.prompts["style/0"].passed


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is empty"),
        ("[" * 100_000, "not valid JSON"),
        ('{"\\ud800": {}}', "not valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "no JSON object"),
        ('{"0": 5}', "no JSON object for concept 0"),
        ('{"..": {}}', "expected the name of a folder"),
        ('{"a/b": {}}', "expected the name of a folder"),
        ('{"\\n": 5}', r"concept \\n"),
        ({"src_image": None}, "no text under src_image"),
        ({"prompt_4_clip_eval": None}, "no list of sentences"),
        ({"prompt_4_clip_eval": [""]}, "no list of sentences"),
        ({"baseline": None}, "has no baselines for the 2 prompts"),
        ({"baseline": [[1, 2]]}, "has 1 baseline for the 2 prompts"),
        ({"baseline": [[1, 2], [1]]}, r"the baseline \[1\]"),
        ({"baseline": [[1, 2], [1, float("nan")]]}, "the baseline"),
        ({"baseline": [[1, 2], [1, True]]}, "the baseline"),
        ({"baseline": [[1, 2], [1, 10**400]]}, "the baseline"),
        ({"baseline": [[1, 2], "x" * 10**6]}, "the baseline"),
    ],
)
def test_prompts_that_say_too_little_are_refused(tmp_path, content, match):
    if isinstance(content, dict):
        entry = {key: value for key, value in {**INPUT["0"], **content}.items() if value is not None}
        content = json.dumps({"0": entry})
    (tmp_path / "input.json").write_text(content)
    with pytest.raises(GradingError, match=match) as caught:
        read_concepts(tmp_path / "input.json")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_pipe_is_no_prompts(tmp_path):
    os.mkfifo(tmp_path / "input.json")
    with pytest.raises(GradingError, match="is not a file"):
        read_concepts(tmp_path / "input.json")


def test_thresholds_of_prompts_that_are_not_there_are_ignored_as_officially(tmp_path):
    entry = {**INPUT["0"], "baseline": [[1, 2], [3, 4], [5, 6]]}
    (tmp_path / "input.json").write_text(json.dumps({"0": entry}))
    assert read_concepts(tmp_path / "input.json")["0"].thresholds[:2] == [(1, 2), (3, 4)]


def test_the_official_prompts_are_read(shared_data):
    concepts = read_concepts(shared_data / "hw2_data" / "textual_inversion" / "input.json")
    assert {key: c.thresholds for key, c in concepts.items()} == {"0": [(79, 34), (74, 35)], "1": [(70, 30), (70, 30)]}


def test_references_must_be_there(world, clip_folder):
    for path in (world / "references" / "style").iterdir():
        path.unlink()
    with pytest.raises(
        GradingError, match=r"style has no images \(\.png \.jpg \.jpeg \.bmp \.gif\); expected the concept's pictures$"
    ):
        grade(world, clip_folder)
    (world / "references" / "style" / "a.png").write_bytes(b"no")
    with pytest.raises(GradingError, match=r"style/a\.png is no image; expected a picture"):
        grade(world, clip_folder)
    shutil.rmtree(world / "references" / "style")
    (world / "references" / "style").write_text("")
    with pytest.raises(GradingError, match="style cannot be listed"):
        grade(world, clip_folder)


def test_staff_may_link_to_their_references(world, clip_folder):
    expected = grade(world, clip_folder)
    (world / "references" / "0" / "00.jpg").rename(world / "elsewhere.jpg")
    (world / "references" / "0" / "00.jpg").symlink_to(world / "elsewhere.jpg")
    assert grade(world, clip_folder) == expected
    (world / "references" / "0" / "00.jpg").unlink()
    (world / "references" / "0" / "00.jpg").symlink_to("00.jpg")
    with pytest.raises(GradingError, match="link to itself"):
        grade(world, clip_folder)


def test_the_official_lines_are_those_of_grade_hw2_3():
    prompts = {
        "0/0": PromptScore((70.0, 30.0), 80.125, 31.5, True, src_image="dog", prompt="a dog"),
        "0/1": PromptScore((70.0, 30.5), 69.999, 31.5, src_image="dog", prompt="a <new1>\n"),
        "1/0": PromptScore((65.0, 25.0), src_image="cat", prompt="too few"),
    }
    assert official_lines(ConceptsResult("fail", passed=1, total=3, prompts=prompts)) == (
        'Image source: "dog", text prompt: a dog\n'
        "CLIP Image Score: 80.12\n"
        "CLIP Text Score: 31.50\n"
        "PASS\n"
        'Image source: "dog", text prompt: a <new1>\\n\n'
        "CLIP Image Score: 70.00\n"
        "CLIP Text Score: 31.50\n"
        "Fail! Baseline is 70.00/30.50\n"
        'Image source: "cat", text prompt: too few\n'
        "Fail! Baseline is 65.00/25.00\n"
        "You have passed 1/3 cases\n"
    )


def test_the_command_prints_scores_json_and_the_official_lines(world, clip_folder):
    command = ["concepts", world / "out", "--prompts", world / "input.json", "--references", world / "references"]
    command += ["--clip", clip_folder, "--device", "cpu"]
    run = grade_here(*command, "--json", world / "result.json")
    assert run.returncode == 1, run.stderr
    assert run.stderr == ""
    assert re.search(r"prompts passed\W+2\W+at least 3", run.stdout)
    result = json.loads((world / "result.json").read_text())
    assert result["problem"] == "concepts"
    assert result["judge"]["kind"] == "custom"
    score = result["prompts"]["0/1"]
    assert set(score) >= {"clip_image_score", "clip_text_score", "threshold", "passed", "selected", "images"}
    run = grade_here(*command, "--format", "official", "--batch-size", "3")
    assert run.stdout.splitlines()[4:8] == [
        'Image source: "dog", text prompt: a dog',
        f"CLIP Image Score: {score['clip_image_score']:.2f}",
        f"CLIP Text Score: {score['clip_text_score']:.2f}",
        "Fail! Baseline is 200.00/-1000.00",
    ]
    assert run.stdout.splitlines()[-1] == "You have passed 2/3 cases"
    assert run.stderr == ""
    run = grade_here(*command, "--json", "-")
    assert json.loads(run.stdout) == result
    save(picture(np.random.default_rng(1)), world / "out" / "0" / "1" / "more.png")
    run = grade_here(*command, "--format", "official")
    assert run.stderr == "hw2-grade: 0/1/ has 26 images; expected exactly 25.\n"
    assert "has 26" not in run.stdout


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--clip": "none"}, "none is not a CLIP model; expected a folder"),
        ({"--prompts": "none.json"}, "none.json is not a file; expected the homework's input.json"),
        ({"--references": "none"}, "none/0 has no images"),
        ({"--device": "tpu"}, "the device for the judges is tpu; expected cpu, cuda, cuda:N or auto (option --device)"),
        ({"output": "README.md"}, "README.md is a file; expected the folder with 0, style"),
    ],
)
def test_what_the_caller_got_wrong_is_exit_2(world, clip_folder, change, sentence):
    options = {"--prompts": world / "input.json", "--references": world / "references", "--clip": clip_folder} | change
    output = options.pop("output", world / "out")
    run = grade_here("concepts", output, *(part for option in options.items() for part in option))
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert sentence in run.stderr
