import numpy as np
import pytest
import torch
from PIL import Image

from hw2.digits.data import DigitImages, load_digits, read_labels
from hw2.errors import InputError


@pytest.fixture
def load(digits_folder, tmp_path):
    return lambda: load_digits(digits_folder, tmp_path / "cache")


def test_every_image_comes_with_its_own_labels(load):
    data = load()
    assert data.images_u8.shape == (60, 3, 28, 28)
    assert data.images_u8.dtype == torch.uint8
    for image, digit, dataset in zip(data.images_u8, data.digits, data.datasets, strict=True):
        assert (image[0] == digit).all()  # red
        assert (image[1] == dataset).all()  # green


def test_pixels_are_those_of_the_files(load, digits_folder):
    image = np.asarray(Image.open(digits_folder / "digits" / "svhn" / "data" / "00007.png"))
    np.testing.assert_array_equal(load().images_u8[30 + 7].permute(1, 2, 0).numpy(), image)


def test_the_cache_is_used_and_a_changed_image_is_noticed(load, digits_folder, tmp_path, monkeypatch):
    first = load()
    with monkeypatch.context() as patch:
        patch.setattr("hw2.digits.data._decode", lambda job: pytest.fail("decoded again"))
        assert torch.equal(load().images_u8, first.images_u8)
    assert {p.suffix for p in (tmp_path / "cache").iterdir()} == {".safetensors"}
    path = digits_folder / "digits" / "mnistm" / "data" / "00000.png"
    Image.new("RGB", (28, 28), "blue").save(path)
    assert load().images_u8[0, 2].min() == 255


def test_a_broken_cache_is_made_again(load, tmp_path):
    first = load()
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(load().images_u8, first.images_u8)


def test_the_digits_folder_itself_will_do(digits_folder, tmp_path):
    assert len(load_digits(digits_folder / "digits", tmp_path / "cache")) == 60


def test_windows_line_ends_a_byte_order_mark_and_blank_lines_are_read(digits_folder, load):
    table = digits_folder / "digits" / "svhn" / "train.csv"
    before = load()
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert torch.equal(load().digits, before.digits)


def rewrite_row(folder, old, new):
    table = folder / "digits" / "mnistm" / "train.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("00003.png,3", "00003.png,10", r"row 5 \(00003.png\) has the label '10'; expected a digit 0 to 9"),
        ("00003.png,3", "00003.png,-1", "has the label '-1'"),
        ("00003.png,3", "00003.png,three", "has the label 'three'"),
        ("00003.png,3", "00003.png,٣", "has the label"),
        ("00003.png,3", f"00003.png,{'9' * 5000}", "has the label '9{80}'"),
        ("00003.png,3", "00003.png", "row 5 has 1 columns"),
        ("00003.png,3", "../../x.png,3", r"row 5 names '../../x.png'"),
        ("00003.png,3", "0\0.png,3", r"row 5 names '0\\x00.png'"),
        ("00003.png,3", "00002.png,2", "row 5 lists 00002.png again"),
        ("00003.png,3", "99999.png,3", r"99999.png \(row 5 of train.csv\) cannot be read: No such file"),
        ("image_name,label", "name,digit", "starts with 'name,digit'; expected the columns image_name,label"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused_by_row(digits_folder, load, old, new, sentence):
    rewrite_row(digits_folder, old, new)
    with pytest.raises(InputError, match=sentence):
        load()


@pytest.mark.parametrize("content", [b"", b"image_name,label\n", b"\xff\xfe\x00", b'image_name,label\n"a'])
def test_an_empty_or_unreadable_table_is_refused(digits_folder, load, content):
    (digits_folder / "digits" / "mnistm" / "train.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"mnistm/.*"):
        load()


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (Image.new("RGB", (32, 32)), "is 32x32 pixels; expected 28x28"),
        (Image.new("L", (28, 28)), "has the mode L; expected 8-bit RGB"),
        (Image.new("RGBA", (28, 28)), "has the mode RGBA"),
    ],
)
def test_an_image_of_another_kind_is_refused_with_file_and_row(digits_folder, load, image, sentence):
    image.save(digits_folder / "digits" / "svhn" / "data" / "00004.png")
    with pytest.raises(InputError, match=rf"svhn/data/00004.png \(row 6 of train.csv\) {sentence}"):
        load()


@pytest.mark.parametrize("content", [b"", b"no png", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"\0" * 100_000])
def test_a_file_that_is_no_digit_is_refused(digits_folder, load, content):
    (digits_folder / "digits" / "svhn" / "data" / "00004.png").write_bytes(content)
    with pytest.raises(InputError, match=r"00004.png \(row 6 of train.csv\) is "):
        load()


def test_a_missing_data_set_is_refused_with_the_expected_layout(digits_folder, load):
    (digits_folder / "digits" / "svhn" / "train.csv").unlink()
    with pytest.raises(InputError, match=r"svhn/train.csv is missing; expected the homework's layout digits/"):
        load()


def test_concatenating_keeps_the_order(load):
    data = load()
    twice = DigitImages.concatenate([data, data])
    assert len(twice) == 120
    assert torch.equal(twice.images_u8[60:], data.images_u8)


def test_real_tables_are_read(shared_data):
    labels = read_labels(shared_data / "hw2_data" / "digits" / "svhn" / "train.csv")
    assert len(labels) == 1083


def test_a_png_that_claims_billions_of_pixels_is_refused(digits_folder, load):
    path = digits_folder / "digits" / "svhn" / "data" / "00003.png"
    path.write_bytes(path.read_bytes()[:16] + b"\0\1\0\0\0\1\0\0" + path.read_bytes()[24:])
    with pytest.raises(InputError, match=r"00003.png \(row 5 of train.csv\) is not a readable PNG"):
        load()
