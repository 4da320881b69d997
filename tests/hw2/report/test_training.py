import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from hw2.digits.data import DigitImages
from hw2.report import training
from hw2.report.curves import read_curves
from hw2.report.page import report_page
from hw2.report.parts import PARTS
from hw2.report.reproducibility import Record
from hw2.report.texts import LANGUAGES, load_texts
from hw2.report.training import digit_curves, nearest, word_curves


def quiet(*_):
    pass


@pytest.mark.parametrize("below", ["tensorboard", "."])
def test_the_curves_of_tensorboard_are_those_that_were_logged(tmp_path, below):
    with SummaryWriter(str(tmp_path / below)) as writer:
        for step, value in ((5, 0.5), (10, 0.25)):
            writer.add_scalar("loss", value, step)
            writer.add_scalar("other", 1.0, step)
    assert read_curves(tmp_path, ["loss"], "log") == {"loss": ([5, 10], [0.5, 0.25])}


class Logged:
    training_curves = {  # noqa: RUF012
        "loss": ([100, 200, 300], [0.9, 0.4, 0.5]),
        "accuracy/mnistm": ([200], [0.75]), "accuracy/svhn": ([200], [0.25]),
    }  # fmt: skip
    word_curves = {  # noqa: RUF012
        "loss": ([5, 10, 15], [0.3, 0.1, 0.2]), "validation loss": ([5, 10, 15], [0.3, 0.15, 0.2]),
    }  # fmt: skip


def test_the_numbers_of_a_training_are_its_first_and_last_and_its_best():
    digits = digit_curves(Logged(), quiet)
    assert (digits.first_loss, digits.last_loss, digits.last_accuracy) == (0.9, 0.5, [0.75, 0.25])
    word = word_curves(Logged(), quiet)
    assert (word.best, word.best_validation, word.last, word.last_validation) == (10, 0.15, 15, 0.2)


def test_the_nearest_image_is_found_and_an_image_itself_is_skipped():
    real = np.stack([np.full((2, 2, 3), level, np.uint8) for level in (0, 250, 100, 104)])
    assert nearest(real[[1]] - 10, real) == ([1], [10])
    assert nearest(real[[2, 0]], real) == ([2, 0], [0, 0])
    assert nearest(real[[2, 0]], real, skip=np.array([2, 0])) == ([3, 2], [4, 100])


def test_each_data_set_is_compared_with_its_own_training_images(monkeypatch):
    levels = torch.tensor([10, 200, 20, 90], dtype=torch.uint8)
    data = DigitImages(levels[:, None, None, None].expand(-1, 3, 28, 28), torch.zeros(4), torch.tensor([0, 1, 0, 1]))

    class Drawn:
        def pixels(self, names, on_step):
            return [(name, np.full((28, 28, 3), 100, np.uint8)) for name in names]

    class Inputs:
        training_digits = data

    monkeypatch.setattr(training, "sampler", lambda inputs: Drawn())
    found = training.nearest_images(Inputs(), quiet)
    assert found.training == [2, 2]
    assert (found.median, found.among) == ([80, 10], [10, 110])
    assert [int(row.max()) for row in found.images] == [100, 20, 100, 90]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_part_without_its_inputs_is_a_sentence_in_its_place(language):
    absent = [part for part in PARTS if "absent" in load_texts(language)["parts"][part.name]]
    assert [part.name for part in absent] == ["digits_curves", "digits_nearest", "word_curves"]
    page = report_page([], language, Record({}, {}, {}, {}, 0.0, 0, "cpu", "ab"), absent)
    assert page.count("<figcaption>") == 3
    assert "--word-log FOLDER" in page
    assert (
        page.index("digits_curves")
        < page.index("digits_nearest")
        < page.index('<section id="problem-3"')
        < page.index("word_curves")
    )
