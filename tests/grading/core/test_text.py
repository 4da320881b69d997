import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.core.text import SHOWN, counted, listed, printable

any_text = st.text(st.characters())
"""Any characters, including half surrogate pairs, which stand for bytes of file names that are not UTF-8."""


@given(any_text)
def test_printable_text_holds_no_character_that_controls_a_terminal(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # no half surrogate pair is left, which would raise
    assert printable(shown) == shown


@given(any_text)
def test_characters_that_are_safe_to_print_stay_as_they_are(text):
    safe = "".join(c for c in text if c.isprintable())
    assert printable(safe) == safe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("數字 é\\n", "數字 é\\n"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff.png", "\\udcff.png"),
    ],
)
def test_what_is_not_safe_to_print_is_spelled_out(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (counted(0, "file"), "0 files"),
        (counted(1, "file"), "1 file"),
        (counted(2, "file"), "2 files"),
        (counted(11, "file"), "11 files"),
        (counted(1, "entry", "entries"), "1 entry"),
        (counted(3, "entry", "entries"), "3 entries"),
    ],
)
def test_a_number_agrees_with_its_noun(found, expected):
    assert found == expected


@given(st.integers(0, 10**9))
def test_only_one_is_singular(number):
    found, noun = counted(number, "day").split()
    assert int(found) == number
    assert (noun == "day") is (number == 1)


@pytest.mark.parametrize(
    ("names", "shown", "expected"),
    [
        ([], 2, ""),
        (["a"], 2, "a"),
        (["a", "b"], 2, "a, b"),
        (["a", "b", "c"], 2, "a, b and 1 more"),
        (["a", "\n", "c", "d", "e"], 2, "a, \\n and 3 more"),
    ],
)
def test_a_long_list_is_cut_and_says_by_how_much(names, shown, expected):
    assert listed(names, shown) == expected


@given(st.lists(st.text("abcd", min_size=1, max_size=3), max_size=20), st.integers(1, 10))
def test_a_list_names_its_first_entries_in_order_and_counts_the_others(names, shown):
    text, _, rest = listed(names, shown).partition(" and ")
    named = text.split(", ") if text else []
    assert named == names[:shown]
    assert int(rest.removesuffix(" more") or 0) == len(names) - len(named)


def test_a_list_without_a_length_names_the_usual_number():
    names = [f"{i}.png" for i in range(SHOWN + 1)]
    assert listed(names[:-1]) == ", ".join(names[:-1])
    assert listed(names).endswith(" and 1 more")


@given(st.lists(any_text, max_size=8))
def test_a_list_is_safe_to_print(names):
    assert listed(names).isprintable()
