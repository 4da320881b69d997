"""Submissions of a class that share outputs, weights or code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.cohort.similar import find_alike
from grading.homeworks.fall2024 import FALL2024
from grading.reports.class_page import class_page
from grading.reports.class_statistics import Likeness
from grading.submission.facts import Facts
from tests.grading.reported import HOSTILE, HOSTILE_NAME, submission_result


def hashes(*numbers):
    return [f"{number:064x}" for number in numbers]


def outputs(**runs):
    return {name: Facts(outputs={"hw2_1.sh": hashes(*numbers)}) for name, numbers in runs.items()}


def of_code(owners):
    return {name: Facts(code={f"{file}.py": f"hash of {file}" for file in files}) for name, files in owners.items()}


def told(facts):
    return [(each.kind, each.submissions, each.shared) for each in find_alike(facts)]


def test_outputs_that_are_mostly_the_same_are_one_group():
    facts = outputs(a=range(10), b=range(100, 110), c=[*range(8), 50, 51], d=range(10))
    assert told(facts) == [("outputs", ("a", "c", "d"), "hw2_1.sh: 8 same files")]


@pytest.mark.parametrize(("first", "second"), [(4, 4), (10, 7)])
def test_few_equal_outputs_are_chance(first, second):
    assert told(outputs(a=range(first), b=[*range(second), *range(100, 100 + 10 - second)])) == []


def test_a_part_of_anothers_outputs_is_the_same_too():
    assert told(outputs(a=range(1000), b=range(5))) == [("outputs", ("a", "b"), "hw2_1.sh: 5 same files")]


def plain_groups(facts):
    """Every submission beside the first one of every group."""
    groups = []
    for name, each in facts.items():
        files = set(each.outputs["hw2_1.sh"])
        for first, names in groups:
            shared = len(first & files)
            if shared >= 5 and shared >= 0.8 * min(len(first), len(files)):
                names.append(name)
                break
        else:
            groups.append((files, [name]))
    return [tuple(names) for _, names in groups if len(names) > 1]


@given(st.lists(st.sets(st.integers(0, 12), max_size=12), max_size=12))
def test_groups_are_those_that_comparing_all_with_all_finds(files):
    facts = outputs(**{f"s{i}": sorted(each) for i, each in enumerate(files)})
    assert [each.submissions for each in find_alike(facts)] == plain_groups(facts)


def test_two_runs_that_wrote_nothing_are_not_the_same():
    assert told({"a": Facts(outputs={"hw2_1.sh": []}), "b": Facts(outputs={"hw2_1.sh": []}), "c": Facts()}) == []


def test_outputs_of_different_scripts_are_not_compared():
    facts = {"a": Facts(outputs={"hw2_1.sh": hashes(*range(9))}), "b": Facts(outputs={"x": hashes(*range(9))})}
    assert told(facts) == []


def test_the_same_weights_are_found_under_any_name_however_many_share_them():
    facts = {name: Facts(weights={f"{name}.pt": "same", f"own_{name}.pt": name}) for name in "abcdefgh"}
    assert told(facts) == [("large files", tuple("abcdefgh"), "1 same file (a.pt)")]


def test_submissions_that_share_the_same_code_are_one_row_and_most_files_come_first():
    facts = of_code({"a": "pqx", "b": "qx", "c": "xy", "d": "qz"})
    facts |= of_code({"e": "mno", "f": "mno", "g": "", "h": "", "i": "", "j": "", "k": "", "l": "", "m": "", "n": ""})
    assert told(facts) == [
        ("code", ("e", "f"), "3 same files (m.py, n.py, o.py)"),
        ("code", ("a", "b", "d"), "1 same file (q.py)"),
        ("code", ("a", "b", "c"), "1 same file (x.py)"),
    ]


@pytest.mark.parametrize(
    ("owners", "size", "shown"), [(2, 6, False), (2, 7, True), (3, 9, False), (3, 10, True), (5, 5, True)]
)
def test_what_a_third_of_a_class_shares_is_the_template(owners, size, shown):
    facts = of_code({f"r{number:02d}": "t" if number < owners else "" for number in range(size)})
    assert bool(told(facts)) == shown


def test_the_page_lists_them_with_links_and_says_that_it_proves_nothing():
    alike = [Likeness("code", ("r1", "r2"), "1 same file (draw.py)")]
    page = class_page([submission_result(name) for name in ("r1", "r2", "r3")], FALL2024, alike)
    section = page.split("The same in several submissions</h2>")[1].split("<h2")[0]
    assert "This proves nothing" in section
    assert "1 same file (draw.py)" in section
    assert 'href="students/r1/report.html"' in section
    assert 'href="students/r3/report.html"' not in section
    assert "The same in several submissions" not in class_page([submission_result()], FALL2024)


def test_hostile_names_cannot_break_the_page():
    page = class_page([submission_result(HOSTILE_NAME)], FALL2024, [Likeness("code", (HOSTILE_NAME,), HOSTILE)])
    page.encode()
    assert "<script>" not in page
