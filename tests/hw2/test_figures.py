import numpy as np
import pytest

from hw2.figures import TITLE_HEIGHT, Panel, image_grid_png
from tests.hw2.picture_cells import cell, pixels_of


def images(rows, columns, size):
    g = np.random.default_rng(0)
    return [[g.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(columns)] for _ in range(rows)]


def draw(grid, **options):
    labels = {"row_labels": ["row"] * len(grid), "column_labels": ["column"] * len(grid[0]), "title": "title"}
    return pixels_of(image_grid_png(grid, **{**labels, **options}))


@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("panels", [(), (Panel([0, 1], {"curve": [1, 2]}, "x", "y"),)])
def test_every_image_keeps_its_pixels(size, panels):
    grid = images(2, 3, size)
    picture = draw(grid, panels=panels)
    for row in range(2):
        for column in range(3):
            np.testing.assert_array_equal(cell(picture, row, column, size), grid[row][column])


def test_labels_title_and_curves_leave_ink():
    grid = [[np.full((32, 32, 3), 255, np.uint8)] * 3] * 2
    silent = {"row_labels": ["", ""], "column_labels": ["", "", ""], "title": ""}
    assert (draw(grid, **silent) == 255).all()
    for label in ({"title": "t"}, {"row_labels": ["a", ""]}, {"column_labels": ["", "b", ""]}):
        assert (draw(grid, **{**silent, **label}) < 128).any()
    panel = Panel([0, 1], {"curve": [1, 2]}, "x", "y")
    picture = draw(grid, **silent, panels=[panel])
    assert (picture < 128).any()
    assert not np.array_equal(picture, draw(grid, **silent, panels=[Panel([0, 1], {"curve": [2, 1]}, "x", "y")]))


def test_a_title_wider_than_the_grid_goes_on_in_another_line():
    grid = images(1, 2, 96)
    silent = {"row_labels": [""], "column_labels": ["", ""]}
    one, three = (draw(grid, **silent, title=title) for title in ("A short title", "A title of many words " * 2))
    assert (three < 128).sum() > (one < 128).sum()
    more = len(three) - len(one)
    assert more > 0
    np.testing.assert_array_equal(three[TITLE_HEIGHT + more :], one[TITLE_HEIGHT:])
    assert (three[: TITLE_HEIGHT + more, -4:] == 255).all()  # nothing is cut off at the edge


def test_the_same_picture_is_the_same_file():
    grid = images(1, 2, 32)
    labels = {"row_labels": ["r"], "column_labels": ["a", "b"], "title": "t"}
    assert image_grid_png(grid, **labels) == image_grid_png(grid, **labels)


def test_labels_must_match_the_grid():
    with pytest.raises(ValueError, match="one label for each row and column"):
        draw(images(2, 3, 8), row_labels=["only one"])
