import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hw2.digits.data import load_digits
from hw2.digits.prepare import blend, load_photographs, mnistm_digits, prepare_digits, random_patch, svhn_digits
from hw2.errors import InputError


@given(st.integers(0, 255), st.integers(0, 255))
def test_blending_is_the_absolute_difference(photograph, ink):
    patch, digit = np.full((28, 28, 3), photograph, np.uint8), np.full((28, 28), ink, np.uint8)
    assert (blend(patch, digit) == abs(photograph - ink)).all()


def test_blending_shows_the_photograph_on_paper_and_its_negative_under_ink():
    patch = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    digit = np.zeros((28, 28), np.uint8)
    digit[:, 14:] = 255
    image = blend(patch, digit)
    np.testing.assert_array_equal(image[:, :14], patch[:, :14])
    np.testing.assert_array_equal(image[:, 14:], 255 - patch[:, 14:])


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    (folder / "train").mkdir(parents=True)
    g = np.random.default_rng(0)
    for i, size in enumerate([(40, 60, 3), (28, 28, 3), (100, 30, 3)]):
        Image.fromarray(g.integers(0, 256, size, dtype=np.uint8)).save(folder / "train" / f"{i}.png")
    (folder / "._0.png").write_bytes(b"AppleDouble")
    return folder


def test_patches_come_from_every_photograph_and_fit(photographs):
    loaded = load_photographs(photographs)
    assert [p.shape for p in loaded] == [(40, 60, 3), (28, 28, 3), (100, 30, 3)]
    rng = np.random.default_rng(0)
    patches = [random_patch(loaded, rng) for _ in range(100)]
    assert {p.shape for p in patches} == {(28, 28, 3)}
    assert len({p.tobytes() for p in patches}) > 50
    assert sum((p == loaded[1]).all() for p in patches) > 20  # the one with a single place


@pytest.mark.parametrize("problem", ["missing", "empty", "small", "broken"])
def test_photographs_that_cannot_be_used_are_refused(photographs, problem):
    if problem == "small":
        Image.new("RGB", (27, 100)).save(photographs / "s.png")
    if problem == "broken":
        (photographs / "b.jpg").write_bytes(b"no jpeg")
    folder = {"missing": photographs / "no", "empty": photographs / "empty"}.get(problem, photographs)
    (photographs / "empty").mkdir()
    with pytest.raises(InputError, match=r"photographs?|JPEG"):
        load_photographs(folder)


class FakeMnist:
    """torchvision's MNIST as prepare_digits sees it: 20 digits, no download."""

    size, mode = 28, "L"

    def __init__(self, root, download):
        assert download

    def __len__(self):
        return 20

    def __getitem__(self, i):
        if i >= 20:
            raise IndexError
        return Image.new(self.mode, (self.size, self.size), 255 if self.mode == "L" else (i, i, i)), i % 10


class FakeSvhn(FakeMnist):
    size, mode = 32, "RGB"


def test_prepared_folders_are_the_homeworks_layout(tmp_path, photographs, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.MNIST", FakeMnist)
    monkeypatch.setattr("torchvision.datasets.SVHN", FakeSvhn)
    prepare_digits(tmp_path / "out", photographs, tmp_path / "downloads", seed=1)
    data = load_digits(tmp_path / "out", tmp_path / "cache")
    assert data.digits.tolist() == [i % 10 for i in range(20)] * 2
    assert data.datasets.tolist() == [0] * 20 + [1] * 20
    assert torch.equal(data.images_u8[25], torch.full((3, 28, 28), 5, dtype=torch.uint8))
    with pytest.raises(InputError, match="exists already"):
        prepare_digits(tmp_path / "out", photographs, tmp_path / "downloads")


def test_a_blended_digit_depends_on_the_seed_and_its_number_alone(photographs):
    loaded, mnist = load_photographs(photographs), FakeMnist("", download=True)
    first, again, other = ([image for image, _ in mnistm_digits(mnist, loaded, seed)] for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_svhn_is_scaled_smoothly():
    checks = Image.fromarray(np.kron(np.indices((16, 16)).sum(0) % 2 * 255, np.ones((2, 2))).astype(np.uint8)).convert(
        "RGB"
    )
    ((image, label),) = svhn_digits([(checks, 3)])
    assert image.shape == (28, 28, 3)
    assert label == 3
    assert abs(image.mean() - 127.5) < 3


def test_blended_digits_have_the_statistics_of_real_mnistm(shared_data):
    # Real MNIST-M: where two images show ink, the photograph turns over, so pixels stay within 0 .. 255 and images of
    # one data set share brightness and contrast. Blending real MNIST-M's own paper corners must give a real contrast.
    paths = sorted((shared_data / "hw2_data" / "digits" / "mnistm" / "data").glob("[0-9]*.png"))[:500]
    real = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in paths]).permute(0, 3, 1, 2).float()
    corners = real[:, :, :4, :4].mean(dim=(1, 2, 3))
    middles = real[:, :, 10:18, 10:18].mean(dim=(1, 2, 3))
    patches = real[:200, :, :14, :14].repeat(1, 1, 2, 2).permute(0, 2, 3, 1).byte().numpy()
    ink = np.zeros((28, 28), np.uint8)
    ink[10:18, 10:18] = 255
    blended = torch.stack([torch.from_numpy(blend(patch, ink)) for patch in patches]).float()
    # In real images and in ours, a bright surrounding goes with a darker middle and the other way round.
    for paper, inked in (
        (corners, middles),
        (blended[:, :4, :4].mean((1, 2, 3)), blended[:, 10:18, 10:18].mean((1, 2, 3))),
    ):
        contrast = inked - paper
        assert torch.corrcoef(torch.stack([paper, contrast]))[0, 1] < -0.6


def test_a_photograph_that_claims_billions_of_pixels_is_refused(photographs):
    path = photographs / "train" / "0.png"
    path.write_bytes(path.read_bytes()[:16] + b"\0\1\0\0\0\1\0\0" + path.read_bytes()[24:])
    with pytest.raises(InputError, match=r"0\.png is not a readable JPEG or PNG"):
        load_photographs(photographs)


def test_odd_exif_data_are_no_obstacle(photographs):
    Image.new("RGB", (40, 40)).save(photographs / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x01")
    assert len(load_photographs(photographs)) == 4
