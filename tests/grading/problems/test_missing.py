"""Why an output is missing."""

import pytest

from grading.problems.missing import missing_reasons

WANTED = ["00.png", "01.png", "02.png"]


@pytest.fixture
def output(tmp_path):
    def make(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        return tmp_path

    return make


def sentences(output, missing=WANTED, expected=WANTED, refused=None):
    return [reason.sentence() for reason in missing_reasons(output, missing, expected, refused or {})]


@pytest.mark.parametrize("other", ["00.jpg", "00.PNG", "00.png.png", "00.JPEG", "00.png "])
def test_a_file_with_another_ending_is_named(output, other):
    assert sentences(output(other), ["00.png"]) == [f"00.png is missing; there is {other}."]


def test_one_reason_of_many_is_given_once(output):
    assert sentences(output("00.jpg", "01.jpg", "02.jpg")) == [
        "00.png is missing; there is 00.jpg. 2 more are missing for the same reason: 01.png, 02.png."
    ]
    assert sentences(output()) != sentences(output().parent / "none")


def test_with_nothing_there_nothing_is_guessed(tmp_path):
    assert sentences(tmp_path / "none") == ["00.png is missing. 2 more are missing too: 01.png, 02.png."]


def test_files_with_other_names_are_counted(output):
    (found,) = sentences(output("0_00.png", "0_01.png", "0_02.png", "log.txt"))
    assert found.startswith("00.png is missing; there are 3 others named 0_00.png, 0_01.png, ...")


def test_another_folder_is_named(output):
    (found,) = sentences(output("output/00.png", "output/01.png", "output/02.png"))
    assert found.startswith("00.png is missing; there is output/00.png, in output/.")
    digits = ["mnistm/0_001.png", "svhn/0_001.png"]
    (found,) = sentences(output("0_001.png"), digits, digits)
    assert found.startswith("mnistm/0_001.png is missing; there is 0_001.png, in the output folder itself.")


def test_an_output_that_was_asked_for_is_not_taken_for_another(output):
    digits = ["mnistm/0_001.png", "svhn/0_001.png"]
    assert sentences(output("svhn/0_001.png"), digits[:1], digits) == ["mnistm/0_001.png is missing."]


def test_what_was_refused_says_why_and_so_does_its_folder(tmp_path):
    link = "is a link; expected the file itself"
    assert sentences(tmp_path, refused=dict.fromkeys(WANTED, link)) == [
        f"00.png {link}. 2 more are missing for the same reason: 01.png, 02.png."
    ]
    digits = ["svhn/0_001.png"]
    assert sentences(tmp_path, digits, digits, {"svhn": link}) == [
        f"svhn/0_001.png is missing: its folder svhn/ {link}."
    ]


def test_hostile_names_are_spelled_out_and_links_not_followed(output, tmp_path):
    folder = output("00.png\x1b[31m")
    (folder / "out").symlink_to("/")
    assert all(sentence.isprintable() for sentence in sentences(folder))
