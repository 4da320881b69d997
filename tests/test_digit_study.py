"""The study by which the digits' default way of drawing was chosen."""

import csv
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from fixtures.making import digit_study
from fixtures.making.digit_study import CHOSEN as KEPT
from fixtures.making.digit_study import READ_RIGHT, SEEDS, UNSEEN, Setting, Study, load_study, run, settings
from hw2.digits.data import load_digits
from hw2.digits.recognizer import Recognizer
from hw2.digits.sample import TRIES, DigitSampler, official_names

CHOSEN = [Setting("ddim", 2, 3.0, (0, 1000)), Setting("dpm++", 3, 1.0, (0, 1000))]


@pytest.fixture
def recognizer() -> Recognizer:
    torch.manual_seed(0)
    return Recognizer().eval()


@pytest.fixture
def study(digits_folder, recognizer, tmp_path) -> Study:
    return Study(load_digits(digits_folder, tmp_path / "cache"), recognizer, "cpu", per_digit=2)


def test_without_guidance_an_interval_changes_nothing_so_there_is_one_setting():
    chosen = settings(["ddim"], [4, 6], [1.0, 5.0], [(0, 1000), (0, 800)])
    assert Counter((each.num_inference_steps, each.guidance_scale) for each in chosen) == {
        (4, 1.0): 1, (4, 5.0): 2, (6, 1.0): 1, (6, 5.0): 2,
    }  # fmt: skip


def test_the_options_choose_what_is_drawn(monkeypatch):
    chosen = []
    monkeypatch.setattr(digit_study, "load_study", lambda *options: None)
    monkeypatch.setattr(digit_study, "run", lambda study, models, output: chosen.extend(models[0][2]))
    digit_study.main(["--samplers", "ddim", "--steps", "12", "--scales", "1", "4", "--intervals", "0-500", "200-700"])
    assert chosen == [
        Setting("ddim", 12, 1.0, (0, 500)),
        Setting("ddim", 12, 4.0, (0, 500)),
        Setting("ddim", 12, 4.0, (200, 700)),
    ]


@pytest.mark.parametrize("interval", ["abc", "500-0", "0-"])
def test_an_interval_that_is_none_is_told(interval, capsys):
    with pytest.raises(SystemExit, match="2"):
        digit_study.main(["--intervals", interval])
    assert f"{interval} is no interval; expected two timesteps, such as 0-500" in capsys.readouterr().err


def test_a_row_counts_what_the_recognizer_reads_in_the_images_of_all_seeds(study, recognizer, tiny_digit_model):
    rows = list(study.rows("tiny", tiny_digit_model, CHOSEN))
    assert [(row.sampler, row.steps, row.scale, row.dataset) for row in rows] == [
        ("ddim", 2, 3.0, "mnistm"), ("ddim", 2, 3.0, "svhn"), ("dpm++", 3, 1.0, "mnistm"), ("dpm++", 3, 1.0, "svhn"),
    ]  # fmt: skip
    names = [name for name in official_names(2) if name.startswith("svhn/")]
    right = 0
    for seed in SEEDS:
        images = dict(DigitSampler(tiny_digit_model, "ddim", 2, 3.0, seed=seed).pixels(names))
        for name, pixels in images.items():
            scores = recognizer(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1)
            right += int(scores.argmax()) == int(name[5])
    assert rows[1].accuracy == right / (len(SEEDS) * len(names))
    assert rows[1].accuracy_low < rows[1].accuracy < rows[1].accuracy_high
    assert rows[1].frechet > 0
    assert rows[1].frechet_error > 0


def test_real_images_are_compared_with_the_other_real_images_of_their_data_set(study, digits_folder):
    for row in (row for row in study.real_rows() if row.model == "real images"):
        files = sorted((digits_folder / "digits" / row.dataset / "data").glob("[0-9]*.png"))
        images = np.stack([np.asarray(Image.open(file)) for file in files]).astype(float)
        rms = ((images[:, None] - images) ** 2).mean(axis=(2, 3, 4)) ** 0.5
        assert row.nearest == pytest.approx(np.median((rms + np.diag([np.inf] * len(rms))).min(axis=1)), rel=1e-6)
        assert row.diversity > 0


def test_real_images_that_are_read_right_are_told_beside_all(study, monkeypatch):
    everything = list(map(study._seen, study._pixels))
    labels = [real.digits.numpy() for real in study._real]
    wrong = [np.where(np.arange(len(own)) % 3, own, 10) for own in labels]  # a third of the images is read as no digit
    reads = [(read, features) for read, (_, features) in zip(wrong, everything, strict=True)]
    monkeypatch.setattr(study, "_seen", lambda pixels: reads[[p is pixels for p in study._pixels].index(True)])
    rows = {(row.dataset, row.model): row for row in study.real_rows()}
    for i, dataset in enumerate(("mnistm", "svhn")):
        all_real, right = rows[dataset, "real images"], rows[dataset, READ_RIGHT]
        assert (all_real.accuracy, right.accuracy) == (20 / 30, 1)
        kept = reads[i][0] == labels[i]
        pairs = [everything[i][1][kept & (labels[i] == digit)] for digit in range(10)]
        assert right.nearest > 0, "no image is its own neighbour"
        assert right.diversity == pytest.approx(np.mean([np.linalg.norm(a - b) for a, b in pairs]))


def test_real_images_that_the_recognizer_was_not_trained_on_are_told_apart(
    digits_folder, recognizer, tmp_path, monkeypatch
):
    trained = []
    monkeypatch.setattr(digit_study, "WORK", tmp_path)
    monkeypatch.setattr(digit_study, "BatchSource", lambda data, config, device: trained.append(data))
    monkeypatch.setattr(digit_study, "load_or_train_recognizer", lambda *_: recognizer)
    rows = [row for row in load_study(digits_folder, tmp_path / "r", "cpu").real_rows() if row.model == UNSEEN]
    assert [row.dataset for row in rows] == ["mnistm", "svhn"]
    images = load_digits(digits_folder, tmp_path / "cache")
    known = {image.numpy().tobytes() for image in trained[0].images_u8}
    never = torch.tensor([image.numpy().tobytes() not in known for image in images.images_u8])
    assert (len(known), int(never.sum())) == (48, 12)
    for i, row in enumerate(rows):
        mine = never & (images.datasets == i)
        read = recognizer(images.images_u8[mine] / 127.5 - 1).argmax(1) == images.digits[mine]
        assert row.accuracy == float(read.float().mean())


def test_the_study_leaves_its_table_and_its_plot(study, tiny_digit_model, tmp_path, capsys):
    rows = run(study, [("tiny", tiny_digit_model, CHOSEN)], tmp_path / "out")
    written = list(csv.DictReader((tmp_path / "out" / "study.csv").read_text().splitlines()))
    assert [float(line["frechet"]) for line in written] == pytest.approx([row.frechet for row in rows], rel=1e-4)
    assert len(capsys.readouterr().out.splitlines()) == len(rows) >= 6
    assert np.asarray(Image.open(tmp_path / "out" / "study.png").convert("L")).std() > 5


class EvenDigits:
    """In place of a recognizer: even digits are always recognized, and odd ones never."""

    def __init__(self):
        self.asked = 0

    def probabilities(self, images_pm1, digits):
        assert -1 <= images_pm1.min() < 0 < images_pm1.max() <= 1
        self.asked += len(images_pm1)
        return 1.0 - digits % 2


def test_a_chooser_draws_again_and_says_which_real_images_it_would_keep(
    study, recognizer, digits_folder, tiny_digit_model, tmp_path
):
    chooser = EvenDigits()
    images = load_digits(digits_folder, tmp_path / "cache")
    choosing = Study(images, recognizer, "cpu", per_digit=2, chooser=chooser)
    kept = [row for row in choosing.real_rows() if row.model == KEPT]
    assert [row.dataset for row in kept] == ["mnistm", "svhn"]
    for i, row in enumerate(kept):
        mine = (images.datasets == i) & (images.digits % 2 == 0)
        read = recognizer(images.images_u8[mine] / 127.5 - 1).argmax(1) == images.digits[mine]
        assert row.accuracy == float(read.float().mean())
    assert chooser.asked == 60
    assert len(list(choosing.rows("tiny", tiny_digit_model, CHOSEN[:1]))) == 2
    assert chooser.asked == 60 + len(SEEDS) * (20 + 20 * TRIES)  # 40 digits: 20 once, 20 as often as can be
    assert not [row for row in study.real_rows() if row.model == KEPT]
