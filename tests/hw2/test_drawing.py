"""Drawing what a folder misses: nothing twice, and nothing left behind by a failure."""

import numpy as np
import pytest

from hw2.drawing import draw_missing
from hw2.errors import InputError
from hw2.files.output import OutputFolder, png_bytes

NAMES = ["a", "b", "c"]


def picture(name):
    return np.full((2, 2, 3), ord(name), np.uint8)


def draw(drawn, fails_at=None):
    def images(names, on_step):
        for name in names:
            if name == fails_at:
                raise InputError("overflow")
            on_step(name, 2)
            drawn.append(name)
            yield name, picture(name)

    return images


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(tmp_path / "out", [f"x {name}.png" for name in NAMES], settings=1)


def run(folder, images):
    draw_missing(folder, NAMES, images, 2, what="letters", file_of=lambda name: f"x {name}.png")


def test_only_missing_files_are_drawn_and_counted(folder, tmp_path, capsys):
    folder.write("x b.png", png_bytes(picture("z")))
    drawn = []
    run(folder, draw(drawn))
    assert drawn == ["a", "c"]
    assert "letters" in (said := capsys.readouterr().err)
    assert "letters: 4 of 4" in said
    folder.finish()
    for name, kept in (("a", "a"), ("b", "z"), ("c", "c")):
        assert (tmp_path / "out" / f"x {name}.png").read_bytes() == png_bytes(picture(kept))


def test_what_is_finished_before_an_error_is_kept(folder):
    with pytest.raises(InputError, match="overflow"):
        run(folder, draw([], fails_at="c"))
    assert folder.missing() == ["x c.png"]


def test_an_error_before_the_first_file_leaves_nothing(folder, tmp_path):
    with pytest.raises(InputError, match="overflow"):
        run(folder, draw([], fails_at="a"))
    assert not (tmp_path / "out").exists()
