"""What is said of a prompt's pictures, by a judge whose scores are exact."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from grading.core.results import Check, Judge
from grading.problems.prompt_scores import ConceptsRules, grade_concepts, score_prompt
from grading.problems.prompts import Concept

RULES = ConceptsRules(images=6, extensions=(".png",), selected=5, text_weight=2.5)


class ExactJudge:
    """Every picture has the image score 50 and the text score 75."""

    identity = Judge("clip", "custom", "exact", "0" * 64)
    logit_scale = 100.0

    def image_features(self, images):
        return np.array([[1.0, 0.0] if image[0, 0, 0] else [0.5, 0.75] for image in images], np.float32).reshape(-1, 2)

    def text_features(self, sentences):
        return np.array([[0.0, 1.0]] * len(sentences), np.float32)


def picture(path, red=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (red, 0, 0)).save(path)


def graded(folder, images, baseline=(50.0, 75.0), refused=None, other=None):
    """The result for a prompt's folder with so many images, and another file; None for no folder."""
    picture(folder / "references" / "0" / "00.png", red=255)
    (folder / "out" / "0").mkdir(parents=True)
    for i in range(images or 0):
        picture(folder / "out" / "0" / "0" / f"{i:02d}.png")
    if other:
        (folder / "out" / "0" / "0" / other).touch()
    concepts = {"0": Concept("dog", ["a dog"], [baseline])}
    return grade_concepts(folder / "out", concepts, folder / "references", ExactJudge(), RULES, refused=refused)


FOUND = "0/0: image score 50.0000, text score 75.0000"


@pytest.mark.parametrize(
    ("images", "baseline", "checks"),
    [
        (6, (50.0, 75.0), [Check("0/0 score", "pass", f"{FOUND}; reaches 50 and 75.")]),
        (6, (50.5, 75.0), [Check("0/0 score", "fail", f"{FOUND}; expected at least 50.5 and 75.")]),
        (6, (50.0, 75.5), [Check("0/0 score", "fail", f"{FOUND}; expected at least 50 and 75.5.")]),
        (
            5,
            (50.0, 75.0),
            [
                Check("0/0 count", "fail", "0/0/ has 5 images; expected exactly 6."),
                Check("0/0 score", "fail", f"{FOUND}. This reaches the baseline, but the folder is not complete."),
            ],
        ),
        (
            7,
            (50.5, 75.0),
            [
                Check("0/0 count", "fail", "0/0/ has 7 images; expected exactly 6."),
                Check("0/0 score", "fail", f"{FOUND}; expected at least 50.5 and 75."),
            ],
        ),
        (
            4,
            (50.0, 75.0),
            [
                Check("0/0 count", "fail", "0/0/ has 4 images; expected exactly 6."),
                Check("0/0 score", "fail", "0/0/ has fewer than five images that could be scored."),
            ],
        ),
    ],
)
def test_each_prompt_has_its_verdict(tmp_path, images, baseline, checks):
    result = graded(tmp_path, images, baseline)
    assert result.checks == checks
    score = result.prompts["0/0"]
    assert (score.passed, score.threshold, score.src_image, score.prompt) == (
        images == 6 and checks[-1].status == "pass",
        baseline,
        "dog",
        "a dog",
    )
    assert list(score.images.values()) == [(50.0, 75.0)] * images


def test_a_folder_that_was_not_collected_says_why(tmp_path):
    result = graded(tmp_path, None, refused={"0/0": "was too large"})
    expected = Check("0/0 folder", "fail", "0/0/ was too large; expected a folder with 6 images in it.")
    assert result.checks[0] == expected
    assert result.missing == ["0/0/"]


@pytest.mark.parametrize(("images", "said"), [(5, " There is 1 other named extra.txt."), (7, "")])
def test_other_files_are_named_where_images_are_missing(tmp_path, images, said):
    result = graded(tmp_path, images, other="extra.txt")
    assert result.checks[0] == Check("0/0 count", "fail", f"0/0/ has {images} images; expected exactly 6.{said}")


def test_no_more_than_four_times_as_many_images_are_read(tmp_path):
    assert len(graded(tmp_path, 26).prompts["0/0"].images) == 24


def test_a_prompt_without_a_name_has_none():
    for images in ({}, {f"{i}.png": (50.0, 75.0) for i in range(6)}):
        score = score_prompt(images, (1.0, 2.0), RULES)
        assert (score.src_image, score.prompt, score.images) == ("", "", images)
