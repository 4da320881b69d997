import pytest

from hw2.wording import are, counted, shortened


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d"], "a, b, c and 1 more"),
        ([1, 2, 3, 4, 5], "1, 2, 3 and 2 more"),
    ],
)
def test_long_lists_are_cut(names, text):
    assert shortened(names) == text


def test_numbers_agree():
    assert [f"{counted(n, 'file')} {are(n)}" for n in (0, 1, 2)] == ["0 files are", "1 file is", "2 files are"]
    assert counted(2, "box", "boxes") == "2 boxes"
