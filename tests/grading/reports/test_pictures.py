import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from grading.core.results import ConceptsResult, FacesResult
from grading.reports.pictures import AMPLIFICATION, CONCEPT_SIZE, FACE_SIZE, make_pictures
from tests.grading.reported import digits_result, hostile_result, pictures_of, submission_result


def decoded(picture):
    head, data = picture.uri.split(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(BytesIO(base64.b64decode(data)))
    assert image.size == (picture.width, picture.height)
    return np.asarray(image.convert("RGB")).astype(int)


def flat(value, size=256):
    return np.full((size, size, 3), value, np.uint8)


def only(**parts):
    return replace(submission_result(), **{"digits": None, "faces": {}, "concepts": {}, **parts})


def test_digits_stand_in_rows_of_their_first_ten_images():
    def read(path):
        run, dataset, name = path.split("/")
        assert run == "problem_1"
        digit, number = int(name[0]), int(name[2:5])
        return flat(20 * digit + number + (50 if dataset == "svhn" else 0), 28)

    pictures = make_pictures(only(digits=digits_result()), read, lambda _: None)
    for dataset, more in (("mnistm", 0), ("svhn", 50)):
        grid = decoded(pictures.digits[dataset])
        assert grid.shape == (298, 298, 3)
        for digit in range(10):
            for column in range(10):
                middle = grid[digit * 30 + 14, column * 30 + 14]
                assert np.abs(middle - (20 * digit + column + 1 + more)).max() <= 3


def test_a_missing_digit_is_seen_and_said():
    pictures = make_pictures(only(digits=digits_result()), lambda p: None if "3_004" in p else flat(0, 28), flat)
    grid = decoded(pictures.digits["svhn"])
    assert grid[3 * 30 + 4 : 3 * 30 + 24, 3 * 30 + 4 : 3 * 30 + 24].mean() > 150
    assert grid[2 * 30 + 4 : 2 * 30 + 24, 3 * 30 + 4 : 3 * 30 + 24].mean() < 10
    assert "1 of them are missing" in pictures.digits["svhn"].alt


@pytest.mark.parametrize("shape", [(1, 1), (28, 14), (400, 3), (3, 400), (100, 100)])
def test_digits_of_any_size_are_shown(shape):
    image = np.zeros((*shape, 3), np.uint8)
    pictures = make_pictures(only(digits=digits_result()), lambda _: image, lambda _: None)
    assert pictures.digits["mnistm"].width == 298


def test_faces_stand_beside_truth_and_their_amplified_difference():
    faces = {"private": FacesResult("pass", 20.0, expected=["07.png"])}
    asked = []

    def read(path):
        asked.append(path)
        return flat(100)

    def truth(path):
        asked.append(path)
        return flat(110)

    (row,) = make_pictures(only(faces=faces), read, truth).faces["private"]
    assert asked == ["problem_2_private/07.png", "private/07.png"]
    assert row.face.width == FACE_SIZE
    for picture, value in ((row.face, 100), (row.truth, 110), (row.difference, 10 * AMPLIFICATION)):
        assert np.abs(decoded(picture) - value).max() <= 2
    assert f"times {AMPLIFICATION}" in row.difference.alt


def test_a_difference_neither_wraps_around_nor_averages_out():
    noise = np.indices((256, 256)).sum(axis=0)[..., None].repeat(3, 2) % 2 * 4
    faces = {"public": FacesResult("pass", 20.0, expected=["0.png"])}
    (row,) = make_pictures(only(faces=faces), lambda _: flat(2), lambda _: noise.astype(np.uint8)).faces["public"]
    assert np.abs(decoded(row.difference) - 2 * AMPLIFICATION).max() <= 2  # everywhere 2 levels apart, up or down
    (row,) = make_pictures(only(faces=faces), lambda _: flat(0), lambda _: flat(255)).faces["public"]
    assert decoded(row.difference).min() >= 253


def test_what_is_made_smaller_is_averaged():
    board = (np.indices((384, 384)).sum(axis=0)[..., None].repeat(3, 2) % 2 * 200).astype(np.uint8)
    faces = {"public": FacesResult("pass", 20.0, expected=["0.png"])}
    (row,) = make_pictures(only(faces=faces), lambda _: board, lambda _: board).faces["public"]
    assert np.abs(decoded(row.face) - 100).max() <= 2


@pytest.mark.parametrize(("face", "truth"), [(None, flat(0)), (flat(0), None), (flat(0, 64), flat(0, 32))])
def test_without_two_equal_sizes_there_is_no_difference(face, truth):
    faces = {"public": FacesResult("fail", 20.0, expected=["0.png"])}
    (row,) = make_pictures(only(faces=faces), lambda _: face, lambda _: truth).faces["public"]
    assert row.difference.uri == ""
    assert "could not be read" in row.difference.alt
    assert (row.face.uri == "") == (face is None)


def test_the_selected_images_are_read_and_told_with_their_scores():
    concepts = submission_result().concepts["public"]
    asked = []

    def read(path):
        asked.append(path)
        return flat(len(asked), 512)

    drawn = make_pictures(only(concepts={"private": concepts}), read, lambda _: None).concepts["private"]["0/1"]
    names = concepts.prompts["0/1"].selected
    assert asked[5:] == [f"problem_3_private/0/1/{name}" for name in names]
    assert len(drawn) == 5
    assert drawn[4].width == CONCEPT_SIZE
    assert "image score 78.00, text score 34.50" in drawn[4].alt
    assert "A corgi on a bench" in drawn[0].alt


def test_what_could_not_be_graded_has_no_pictures():
    result = only(digits=replace(digits_result(), status="error"), concepts={"public": ConceptsResult("error")})
    pictures = make_pictures(result, lambda _: flat(0), lambda _: None)
    assert pictures.digits == {}
    assert pictures.concepts == {"public": {}}


def test_a_whole_submission_of_noise_stays_small():
    pictures = pictures_of(hostile_result())  # noise is what JPEG can do the least about
    drawn = [picture for each in pictures.concepts["public"].values() for picture in each]
    assert max(len(picture.uri) for picture in drawn) < 100_000
    assert len(pictures.digits["svhn"].uri) < 300_000
