import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from grading.core.results import AMPLIFICATION, Card, Frame, Part
from grading.reports.pictures import make_pictures
from tests.grading.reported import (
    concepts_result,
    hostile_result,
    pictures_of,
    problem_results,
    submission_result,
)


def nothing(*_):
    return None


def decoded(picture):
    head, data = picture.uri.split(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(BytesIO(base64.b64decode(data)))
    assert image.size == (picture.width, picture.height)
    return np.asarray(image.convert("RGB")).astype(int)


def flat(value, size=256):
    return np.full((size, size, 3), value, np.uint8)


def drawn(result, output, expected=nothing):
    """The pictures of one problem's result, card by card."""
    made = make_pictures(replace(submission_result(), results=[result]), output, expected)
    return [[made[result.folder, frame] for frame in card.frames] for card in result.cards]


def of_digits():
    return problem_results()[0]


def of_faces(part=Part.PUBLIC):
    return problem_results()[1 if part is Part.PUBLIC else 2]


def framed(*frames):
    """A result of Problem 2's public part with these frames alone."""
    return replace(of_faces(), cards=[Card("a card", frames=frames)])


def test_digits_stand_in_rows_of_their_first_ten_images():
    def read(path):
        run, dataset, name = path.split("/")
        assert run == "problem_1"
        digit, number = int(name[0]), int(name[2:5])
        return flat(20 * digit + number + (50 if dataset == "svhn" else 0), 28)

    for (picture,), more in zip(drawn(of_digits(), read), (0, 50), strict=True):
        grid = decoded(picture)
        assert grid.shape == (298, 298, 3)
        for digit in range(10):
            for column in range(10):
                middle = grid[digit * 30 + 14, column * 30 + 14]
                assert np.abs(middle - (20 * digit + column + 1 + more)).max() <= 3


def test_a_missing_digit_is_seen_and_said():
    _, (picture,) = drawn(of_digits(), lambda path: None if "3_004" in path else flat(0, 28))
    grid = decoded(picture)
    assert grid[3 * 30 + 4 : 3 * 30 + 24, 3 * 30 + 4 : 3 * 30 + 24].mean() > 150
    assert grid[2 * 30 + 4 : 2 * 30 + 24, 3 * 30 + 4 : 3 * 30 + 24].mean() < 10
    assert picture.alt.endswith("1 image is missing or could not be read.")
    _, (picture,) = drawn(of_digits(), nothing)
    assert picture.alt.endswith("100 images are missing or could not be read.")


@pytest.mark.parametrize("shape", [(1, 1), (28, 14), (400, 3), (3, 400), (100, 100)])
def test_digits_of_any_size_are_shown(shape):
    image = np.zeros((*shape, 3), np.uint8)
    assert drawn(of_digits(), lambda _: image)[0][0].width == 298


def test_faces_stand_beside_truth_and_their_amplified_difference():
    asked = []

    def output(path):
        asked.append(path)
        return flat(100)

    def expected(result, path):
        asked.append(f"{result.part}: {path}")
        return flat(110)

    face, truth, difference = drawn(of_faces(Part.PRIVATE), output, expected)[1]
    image, reference = "problem_2_private/01.png", "private: face/GT/01.png"
    assert asked[4:] == [image, reference, image, reference]
    assert face.width == 192
    for picture, value in ((face, 100), (truth, 110), (difference, 10 * AMPLIFICATION)):
        assert np.abs(decoded(picture) - value).max() <= 2
    assert f"times {AMPLIFICATION}" in difference.alt


def test_a_difference_neither_wraps_around_nor_averages_out():
    noise = (np.indices((256, 256)).sum(axis=0)[..., None].repeat(3, 2) % 2 * 4).astype(np.uint8)
    (_, _, picture), _ = drawn(of_faces(), lambda _: flat(2), lambda *_: noise)
    assert np.abs(decoded(picture) - 2 * AMPLIFICATION).max() <= 2  # everywhere 2 levels apart, up or down
    (_, _, picture), _ = drawn(of_faces(), lambda _: flat(0), lambda *_: flat(255))
    assert decoded(picture).min() >= 253


def test_what_is_made_smaller_is_averaged():
    board = (np.indices((384, 384)).sum(axis=0)[..., None].repeat(3, 2) % 2 * 200).astype(np.uint8)
    (face, _, _), _ = drawn(of_faces(), lambda _: board)
    assert np.abs(decoded(face) - 100).max() <= 2


@pytest.mark.parametrize(("face", "truth"), [(None, flat(0)), (flat(0), None), (flat(0, 64), flat(0, 32))])
def test_without_two_equal_sizes_there_is_no_difference(face, truth):
    (shown, _, difference), _ = drawn(of_faces(), lambda _: face, lambda *_: truth)
    assert difference.uri == ""
    assert "could not be read" in difference.alt
    assert (shown.uri == "") == (face is None)


def test_the_selected_images_are_read_and_told_with_their_scores():
    asked = []

    def read(path):
        asked.append(path)
        return flat(len(asked), 512)

    _, pictures = drawn(problem_results()[3], read)
    names = concepts_result((80.0, 36.0), (76.0, 34.5)).prompts["0/1"].selected
    assert asked[5:] == [f"problem_3_public/0/1/{name}" for name in names[::-1]]
    assert len(pictures) == 5
    assert pictures[0].width == 224
    assert "image score 78.00, text score 34.50" in pictures[0].alt
    assert "A corgi on a bench" in pictures[4].alt


def test_any_problem_can_frame_a_picture_or_a_grid_of_any_shape():
    single, grid = Frame("one", (("a.png",),), size=40), Frame("four", (("a", "b", "c"), ("d",)), "expected", size=20)
    asked = []

    def output(path):
        asked.append(path)
        return flat(9, 80)

    def expected(result, path):
        asked.append((result.folder, path))
        return flat(200, 80)

    ((one, four),) = drawn(framed(single, grid), output, expected)
    assert asked == ["problem_2_public/a.png", *(("problem_2_public", name) for name in "abcd")]
    assert (one.width, one.height, one.alt) == (40, 40, "one.")
    assert (four.width, four.height) == (3 * 20 + 2 * 2, 2 * 20 + 2)
    assert decoded(four)[32, 50].min() > 250  # where the second row ends
    ((empty,),) = drawn(framed(Frame("none", ())), output, expected)
    assert empty.width == empty.height == 1


def test_equal_frames_of_two_parts_have_pictures_of_their_own():
    public, private = of_faces(), of_faces(Part.PRIVATE)
    frame = public.cards[0].frames[0]
    made = make_pictures(
        replace(submission_result(), results=[public, private]),
        lambda path: flat(10 if "public" in path else 200),
        nothing,
    )
    assert decoded(made[public.folder, frame]).max() < 20
    assert decoded(made[private.folder, frame]).min() > 190


def test_what_could_not_be_graded_has_no_pictures():
    result = submission_result()
    assert make_pictures(replace(result, results=result.results[-1:]), flat, nothing) == {}


def test_a_whole_submission_of_noise_stays_small():
    result = hostile_result()
    pictures = pictures_of(result)  # noise is what JPEG can do the least about
    grids = [picture for (_, frame), picture in pictures.items() if len(frame.images) > 1]
    single = [picture for (_, frame), picture in pictures.items() if len(frame.images) == 1]
    assert (len(grids), len(single)) == (2, 3 + 5)
    assert max(len(picture.uri) for picture in single) < 100_000
    assert max(len(picture.uri) for picture in grids) < 300_000
