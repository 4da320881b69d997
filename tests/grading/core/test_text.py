import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grading.core.text import SHOWN, beside, counted, listed, printable

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


@pytest.mark.parametrize(
    ("value", "limit", "unit", "shown"),
    [
        (0.79996, 0.8, "%", "79.996%"),  # 80.00% would seem to reach the baseline
        (0.8, 0.8, "%", "80.00%"),
        (0.800004, 0.8, "%", "80.0004%"),
        (0.94535, 0.8, "%", "94.53%"),
        (0.000251, 0.000251, "%", "0.0251%"),  # 0.0251 / 100 is another number
        (19.99999, 20.0, "f", "19.99999"),
        (20.00001, 20.0, "f", "20.00001"),
        (68.004, 68.004, "f", "68.004"),  # the limit's own decimals
        (25.126, None, "f", "25.13"),
    ],
)
def test_a_number_is_shown_on_its_own_side_of_the_limit(value, limit, unit, shown):
    assert beside(value, [limit], 2, unit) == shown


finite = st.floats(-1000, 1000)


@example(
    5.8515948215677475e-15, [0.0, 5.8515948215677475e-15], 0
)  # on one limit, with more decimals than are ever shown
@given(finite, st.lists(finite, max_size=3), st.integers(0, 4))
def test_whoever_compares_what_is_shown_with_a_limit_finds_what_the_grader_found(value, limits, decimals):
    shown = float(beside(value, limits, decimals))
    for limit in limits:
        if abs(value - limit) > 1e-15:
            assert (shown > limit, shown < limit) == (value > limit, value < limit)
