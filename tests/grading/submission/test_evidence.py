"""The pictures of a grading, and what is said of those that could not be compared."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import grading.submission.evidence
from grading.core.errors import GradingError
from grading.core.results import StageResult
from grading.files.decode import Request
from grading.problems.suspicions import copied_pixels
from grading.sandbox.run import Sandbox
from grading.submission.evidence import Pictures
from tests.grading.files import hostile
from tests.grading.files.pngs import PIXELS
from tests.grading.sandboxed import BOTH, TRUSTED

RUN = SimpleNamespace(name="hw2_1.sh", folder="1", problem=SimpleNamespace(png_only=True), expected=None)


@pytest.fixture
def pictures(tmp_path):
    """An output, and a copy of its pixels in the submission."""
    for folder in ("outputs/1", "submission/data"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(PIXELS).save(tmp_path / "outputs" / "1" / "0_001.png")
    Image.fromarray(PIXELS).save(tmp_path / "submission" / "data" / "real.bmp")
    return Pictures(tmp_path / "outputs", tmp_path / "submission", [RUN], TRUSTED)


def copies(pictures: Pictures) -> list[str]:
    evidence = pictures.evidence(RUN, StageResult("hw2_1.sh", "pass", ""), {})
    return [check.message for check in copied_pixels("hw2_1.sh", evidence.images, evidence.own_pictures)]


COPIED = "hw2_1.sh: the submission contains pictures with the pixels of 1 of 1 output (0_001.png shows data/real.bmp)."


@BOTH
def test_large_pictures_in_a_submission_do_not_hide_a_copied_one(pictures, sandbox: Sandbox):
    """18 of them, of 4096 pixels, used up the pixels that were read, and no warning said so."""
    gif = hostile.large_gif()
    for i in range(18):
        (pictures.submission / f"a{i:02d}.gif").write_bytes(gif)
    pictures.sandbox = sandbox
    assert copies(pictures) == [COPIED]
    assert pictures.not_compared() == []


def test_large_pictures_that_are_as_large_as_an_output_do_not_hide_a_copied_one(pictures, monkeypatch):
    (pictures.outputs / "1" / "large.png").write_bytes(hostile.transparent_png())
    Image.new("RGB", (4096, 4096)).save(pictures.outputs / "1" / "1_001.png")
    for i in range(4):
        (pictures.submission / f"a{i:02d}.gif").write_bytes(hostile.slow_bmp())
    real = grading.submission.evidence.read_digests

    def hurried(*arguments):
        return real(*arguments, request=Request((), picture_seconds=0.3, seconds=1.0))

    monkeypatch.setattr(grading.submission.evidence, "read_digests", hurried)
    assert copies(pictures) == [COPIED.replace("of 1 output", "of 2 outputs")]
    (check,) = pictures.not_compared()
    assert check.status == "warning"
    assert check.message.startswith(
        "4 pictures in the submission were not compared with its outputs (a00.gif takes more"
    )


def test_pictures_beyond_the_limit_are_counted(pictures, monkeypatch):
    monkeypatch.setattr(grading.submission.evidence, "MAX_OWN_PICTURES", 1)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures.submission / "a.png")
    assert copies(pictures) == [COPIED]  # the smallest file comes first
    (check,) = pictures.not_compared()
    assert check.message == (
        "1 picture in the submission was not compared with its outputs (a.png was not read, because there are more "
        "than 1 pictures)."
    )


def test_a_padded_copy_is_said_not_to_be_compared(pictures):
    with (pictures.submission / "data" / "real.bmp").open("ab") as file:
        file.truncate(2**24 + 1)
    assert copies(pictures) == []
    (check,) = pictures.not_compared()
    assert "(data/real.bmp has 16777217 bytes; at most 16777216 are read)" in check.message


def test_files_that_are_no_pictures_are_nothing_to_warn_of(pictures):
    (pictures.submission / "pointer.png").write_text("version https://git-lfs.github.com/spec/v1")
    assert pictures.not_compared() == []


def test_a_submission_without_outputs_has_nothing_to_compare(pictures):
    (pictures.outputs / "1" / "0_001.png").unlink()
    (pictures.submission / "a.jpg").write_bytes(hostile.padded_jpeg())
    assert pictures.own == {}


def test_a_reader_that_fails_is_said_by_the_runs_alone(pictures, monkeypatch):
    def failing(*_arguments):
        raise GradingError("no sandbox")

    monkeypatch.setattr(grading.submission.evidence, "read_digests", failing)
    assert pictures.not_compared() == []
    with pytest.raises(GradingError):
        copies(pictures)
