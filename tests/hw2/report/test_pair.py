import numpy as np
import pytest
import torch

from hw2.concepts.generate import ConceptSampler
from hw2.concepts.zero_shot import wilson_interval
from hw2.report import pair
from hw2.report.pair import Ruler, _overlap, mirrored_halves, outcomes, pair_rows
from hw2.report.parts import PARTS
from tests.hw2.report.made import made

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(left, right, width=6):
    drawn = np.zeros((4, width, 3), np.uint8)
    drawn[:, : width // 2], drawn[:, width // 2 :] = left, right
    return drawn


def test_a_half_is_beside_its_own_mirror_image_and_nothing_of_the_other_half_is_left():
    both = picture(RED, BLUE)
    both[:, 0] = 7  # the left edge
    left, right = mirrored_halves(both)
    assert left.shape == right.shape == both.shape
    np.testing.assert_array_equal(left[0, :, 0], [7, 255, 255, 255, 255, 7])
    np.testing.assert_array_equal(right, picture(BLUE, BLUE))


def test_a_word_wins_that_keeps_more_of_its_look_and_is_shown_if_a_half_has_three_quarters_of_it():
    shares = torch.tensor([[1.0, 0.0], [0.2, 0.8], [0.9, 0.5], [0.1, 0.7], [0.6, 0.5], [1.0, 0.9]])
    assert outcomes(shares) == [3, 2, 2, 1, 1]
    assert outcomes(1 - shares) == [1, 2, 1, 2, 1]


def test_the_ruler_is_one_at_one_word_zero_at_the_other_and_half_between_them():
    first, second = torch.eye(2, 4).double()
    ruler = Ruler.between(first.expand(3, -1), second.expand(2, -1))
    assert ruler.shares(torch.stack([first, second, (first + second) / 2])).tolist() == pytest.approx([1, 0, 0.5])


class Colours:
    """A CLIP whose feature is the share of each colour."""

    def preprocess(self, image):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()

    def image_features(self, pixels):
        return torch.nn.functional.normalize(pixels.double().mean((2, 3)), dim=-1)


class Given:
    """Inputs with two words: what stands first fills both halves, except in every fifth picture, which has both."""

    tokens, clip_model = ("<red>", "<any>", "<blue>"), Colours()
    ordinary = {"<red>": "thing"}  # noqa: RUF012


def drawn(sampler, names, on_step):
    found = []
    for name, prompt in names.items():
        first, second = ({"<red>": RED, "<blue>": BLUE}[prompt.split()[place]] for place in (1, 4))
        found.append(picture(first, second if int(name.split()[-1]) % 5 == 0 else first))
    return found


def test_who_wins_is_counted_by_the_word_that_stands_first_in_each_order(monkeypatch):
    monkeypatch.setattr(pair, "concept_sampler", lambda inputs: ConceptSampler(None))
    monkeypatch.setattr(pair, "pictures", drawn)

    def with_maps(sampler, prompt, tokens, names, on_step):
        assert tokens == ("<red>", "<blue>")
        return drawn(sampler, dict.fromkeys(names, prompt), on_step), torch.rand(len(names), 2, 4, 4)

    def blended(sampler, composition, names, on_step):
        assert composition.words == {"<red>": "thing", "<blue>": "thing"}
        pixels = torch.from_numpy(picture(BLUE, RED)).permute(2, 0, 1) / 127.5 - 1
        return [(name, pixels) for name in names]

    monkeypatch.setattr(pair, "_with_maps", with_maps)
    monkeypatch.setattr(pair, "draw_blended", blended)
    found = pair.pair(Given(), lambda *_: None)
    assert (found.prompt, found.swapped) == ("a <red> and a <blue> on the grass", "a <blue> and a <red> on the grass")
    assert found.counts == [[40, 10, 40, 0, 0], [40, 10, 40, 0, 0], [0, 8, 0, 0, 0]]
    assert (found.wins, found.both, found.pictures) == (80, 20, 100)
    assert found.wins_interval == list(wilson_interval(80, 100))
    assert found.shares == pytest.approx([1, 0.2])
    assert (found.checked, found.checked_right) == (20, 20)
    assert (found.blended, found.blended_both) == (8, 8)


def test_maps_of_one_place_correlate_and_those_of_two_places_do_not():
    left = torch.zeros(1, 1, 4, 4)
    left[..., :2] = 1
    assert _overlap(torch.cat([left, 3 * left + 2], 1)) == pytest.approx(1)
    assert _overlap(torch.cat([left, 1 - left], 1)) == pytest.approx(-1)


def test_the_table_adds_both_orders_and_leaves_the_blended_ones_apart():
    rows = pair_rows(made(next(part for part in PARTS if part.name == "pair")).data)
    assert [row.cells for row in rows] == [
        [50, 30, 15, 5, 20, 10],
        [50, 20, 10, 20, 12, 8],
        [100, 50, 25, 25, 32, 18],
        [8, 1, 6, 1, 1, 0],
    ]


def test_a_half_meets_its_mirror_image_where_the_picture_was_cut():
    drawn = np.arange(2 * 8 * 3, dtype=np.uint8).reshape(2, 8, 3)
    left, right = mirrored_halves(drawn)
    assert left.shape == right.shape == drawn.shape
    for half, cut, edge in ((left, 3, 0), (right, 4, 7)):
        assert (half[:, 3] == half[:, 4]).all()
        assert (half[:, 3] == drawn[:, cut]).all()
        assert (half[:, 0] == half[:, 7]).all()
        assert (half[:, 0] == drawn[:, edge]).all()
