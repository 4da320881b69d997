"""The CLIP scores of Problem 3, against the official procedure done by hand, one image at a time."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from grading.clip import load_clip
from grading.concepts import grade_concepts, read_concepts, score_prompt
from grading.results import GradingError
from tests.tiny_clip import save_tiny_clip

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


def by_hand(image, model):
    """What the official preprocessing and model make of one image: features (1, D)."""
    image = image.convert("RGB")
    short = min(image.size)
    size = [SIZE if side == short else int(SIZE * side / short) for side in image.size]
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - SIZE) // 2, (size[1] - SIZE) // 2
    pixels = np.asarray(image)[top : top + SIZE, left : left + SIZE] / 255
    pixels = (pixels - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    with torch.no_grad():
        vision = model.vision_model(torch.from_numpy(pixels).float().permute(2, 0, 1)[None])
        return model.visual_projection(vision.pooler_output)


def official_scores(world, clip_folder, concept, sentence, folder):
    """name -> (image score, text score), the slow way."""
    model, tokenizer = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    references = []
    for path in sorted((world / "references" / concept).iterdir()):
        with Image.open(path) as image:
            references.append(by_hand(image, model))
    ids = tokenizer([sentence], truncation=True, max_length=32, return_tensors="pt").input_ids
    with torch.no_grad():
        text = model.text_projection(model.text_model(ids).pooler_output)
    scores = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            features = by_hand(image, model)
        cosines = [torch.cosine_similarity(features, reference).item() for reference in references]
        logits = model.logit_scale.exp() * torch.cosine_similarity(features, text)
        scores[path.name] = (100 * sum(cosines) / len(cosines), logits.item())
    return scores


def grade(world, clip_folder, **options):
    judge = load_clip(str(clip_folder), **options)
    return grade_concepts(world / "out", read_concepts(world / "input.json"), world / "references", judge)


@pytest.mark.filterwarnings("ignore:Palette images")  # PIL's advice on what the test itself opens
def test_every_score_and_selection_is_the_official_ones(world, clip_folder):
    result = grade(world, clip_folder)
    assert list(result.prompts) == ["0/0", "0/1", "style/0"]
    spread = []
    for key, score in result.prompts.items():
        concept, index = key.split("/")
        sentence = INPUT[concept]["prompt_4_clip_eval"][int(index)]
        expected = official_scores(world, clip_folder, concept, sentence, world / "out" / key)
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


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_scores_are_the_same_bits_for_any_batch_size(world, clip_folder, batch_size):
    assert grade(world, clip_folder, batch_size=batch_size) == grade(world, clip_folder)


PAIRS = st.tuples(st.integers(0, 4).map(float), st.integers(0, 4).map(float))


@given(st.lists(PAIRS, min_size=5, max_size=25), PAIRS)
def test_the_five_best_are_selected_and_of_equal_ones_the_later(pairs, threshold):
    images = {f"{i:02d}.png": pair for i, pair in enumerate(pairs)}
    score = score_prompt(images, threshold)
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
    assert score_prompt(images, (70.0, 30.0)).passed
    assert not score_prompt(images, (np.nextafter(70.0, 71), 30.0)).passed
    assert not score_prompt(images, (70.0, np.nextafter(30.0, 31))).passed
    assert not score_prompt(images, (70.0, 30.0), complete=False).passed


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
    victims[0].write_bytes(b"\x89PNG\r\n\x1a\n broken")
    victims[1].unlink()
    victims[1].symlink_to(world / "references" / "0" / "00.jpg")
    result = grade(world, clip_folder)
    messages = " ".join(check.message for check in result.checks)
    assert not result.prompts["0/0"].passed
    assert len(result.prompts["0/0"].images) == 23
    assert f"0/0/{victims[0].name} is broken" in messages
    assert f"0/0/{victims[1].name} is a link" in messages


def test_missing_and_linked_folders_fail_and_others_are_named(world, clip_folder):
    (world / "out" / "style").rename(world / "elsewhere")
    (world / "out" / "style").symlink_to(world / "elsewhere")
    shutil.rmtree(world / "out" / "0" / "1")
    (world / "out" / "cat").mkdir()
    (world / "out" / "0" / "7").mkdir()
    result = grade(world, clip_folder)
    assert result.missing == ["0/1/", "style/0/"]
    assert result.unexpected == ["cat", "0/7"]
    assert result.status == "fail"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "not valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "no JSON object"),
        ('{"0": 5}', "no JSON object for concept 0"),
        ('{"..": {}}', "must be that of a folder"),
        ('{"a/b": {}}', "must be that of a folder"),
        ('{"0": {"baseline": [[1, 2]]}}', "no list of sentences"),
        ('{"0": {"prompt_4_clip_eval": ["a"]}}', "has no baselines for the 1 prompts"),
        ('{"0": {"prompt_4_clip_eval": ["a", "b"], "baseline": [[1, 2]]}}', "has 1 baselines for the 2 prompts"),
        ('{"0": {"prompt_4_clip_eval": ["a"], "baseline": [[1]]}}', r"the baseline \[1\]"),
        ('{"0": {"prompt_4_clip_eval": ["a"], "baseline": [[1, NaN]]}}', "the baseline"),
        ('{"0": {"prompt_4_clip_eval": ["a"], "baseline": [[1, true]]}}', "the baseline"),
    ],
)
def test_prompts_that_say_too_little_are_refused(tmp_path, content, match):
    (tmp_path / "input.json").write_text(content)
    with pytest.raises(GradingError, match=match) as caught:
        read_concepts(tmp_path / "input.json")
    assert "\n" not in str(caught.value)


def test_the_official_prompts_are_read(shared_data):
    concepts = read_concepts(shared_data / "hw2_data" / "textual_inversion" / "input.json")
    assert {key: c.thresholds for key, c in concepts.items()} == {"0": [(79, 34), (74, 35)], "1": [(70, 30), (70, 30)]}


def test_references_must_be_there(world, clip_folder):
    for path in (world / "references" / "style").iterdir():
        path.unlink()
    with pytest.raises(GradingError, match="style has no images"):
        grade(world, clip_folder)
    (world / "references" / "style" / "a.png").write_bytes(b"no")
    with pytest.raises(GradingError, match="is broken and cannot be decoded"):
        grade(world, clip_folder)


def test_the_command_prints_scores_json_and_the_official_lines(world, clip_folder, hw2_grade):
    command = ["concepts", world / "out", "--prompts", world / "input.json", "--references", world / "references"]
    command += ["--clip", clip_folder, "--device", "cpu"]
    run = hw2_grade(*command, "--json", world / "result.json")
    assert run.returncode == 1, run.stderr
    assert run.stderr == ""
    assert "2 of 3" in run.stdout
    result = json.loads((world / "result.json").read_text())
    assert result["problem"] == "concepts"
    assert result["judge"]["kind"] == "custom"
    score = result["prompts"]["0/1"]
    assert set(score) >= {"clip_image_score", "clip_text_score", "threshold", "passed", "selected", "images"}
    run = hw2_grade(*command, "--format", "official", "--batch-size", "3")
    assert run.stdout.splitlines()[4:8] == [
        'Image source: "dog", text prompt: a dog',
        f"CLIP Image Score: {score['clip_image_score']:.2f}",
        f"CLIP Text Score: {score['clip_text_score']:.2f}",
        "Fail! Baseline is 200.00/-1000.00",
    ]
    assert run.stdout.splitlines()[-1] == "You have passed 2/3 cases"
    run = hw2_grade(*command, "--json", "-")
    assert json.loads(run.stdout) == result


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--clip": "none"}, "none is no CLIP model; expected a folder"),
        ({"--prompts": "none.json"}, "none.json cannot be read"),
        ({"--references": "none"}, "none/0 has no images"),
        ({"--device": "tpu"}, "--device is tpu"),
        ({"output": "none"}, "none is not a folder"),
    ],
)
def test_what_the_caller_got_wrong_is_exit_2(world, clip_folder, hw2_grade, change, sentence):
    options = {"--prompts": world / "input.json", "--references": world / "references", "--clip": clip_folder} | change
    output = options.pop("output", world / "out")
    run = hw2_grade("concepts", output, *(part for option in options.items() for part in option))
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert sentence in run.stderr


def test_broken_and_hostile_models_are_refused(tmp_path, clip_folder):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    with pytest.raises(GradingError, match="cannot be loaded as a CLIP model"):
        load_clip(str(folder))
    weights.unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(GradingError, match="cannot be loaded as a CLIP model") as caught:
        load_clip(str(folder))
    assert not (tmp_path / "ran").exists()
    assert "\n" not in str(caught.value)
    (folder / "pytorch_model.bin").unlink()
    weights.write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    config["projection_dim"] = 24
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(GradingError, match="no weights of the right shape for text_projection"):
        load_clip(str(folder))
