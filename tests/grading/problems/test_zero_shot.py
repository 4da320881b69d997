import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.core.errors import GradingError
from grading.problems.zero_shot import grade_zero_shot, read_labels
from tests.grading.here import grade_here

LABELS = {"0": "apple", "1": "sea_horse", "12": "cup"}
ROWS = ["image_name,predicted_id", "0_450.png,0", "0_451.png,1", "1_450.png,1", "12_499.png,12"]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "id2label.json").write_text(json.dumps(LABELS))
    (tmp_path / "predictions.csv").write_text("\n".join(ROWS) + "\n")
    return tmp_path


def grade(files, rows=ROWS):
    (files / "predictions.csv").write_text("\n".join(rows) + "\n")
    return grade_zero_shot(files / "predictions.csv", read_labels(files / "id2label.json"))


def test_accuracy_comes_from_the_file_names_alone(files):
    result = grade(files)
    assert (result.status, result.accuracy, result.correct, result.total) == ("pass", 0.75, 3, 4)
    assert result.per_class == {"apple": 0.5, "sea_horse": 1.0, "cup": 1.0}
    assert result.confusion == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    low, high = result.wilson_95
    assert low == pytest.approx(0.3006, abs=1e-4)
    assert high == pytest.approx(0.9544, abs=1e-4)


def test_other_columns_and_orders_are_not_looked_at(files):
    rows = ["correct,predicted_id,label,image_name"]
    rows += [f"True,{row.split(',')[1]},apple,{row.split(',')[0]}" for row in ROWS[1:]]
    assert grade(files, rows) == grade(files)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("7_450.png,0", "Line 6: '7_450.png' is not an image of a class in the labels"),
        ("cat.png,0", "Line 6: 'cat.png' is not an image of a class"),
        ("0_452.png,99", "Line 6: '99' is not a class id"),
        ("0_452.png", "Line 6: '' is not a class id"),
        ("0_450.png,0", "Line 6: '0_450.png' is repeated"),
    ],
)
def test_rows_that_mean_nothing_count_as_wrong(files, row, sentence):
    result = grade(files, [*ROWS, row])
    assert (result.status, result.correct, result.total) == ("fail", 3, 5)
    assert result.confusion == grade(files).confusion
    assert result.checks[-1].status == "fail"
    assert result.checks[0].message.startswith(sentence)


def test_a_prediction_that_is_no_class_counts_against_its_images_class(files):
    result = grade(files, [*ROWS, "0_452.png,99", "0_453.png,apple"])
    assert result.per_class == {"apple": 0.25, "sea_horse": 1.0, "cup": 1.0}
    only = grade(files, [ROWS[0], "0_450.png,0", "1_450.png,77", "12_450.png,cup"])
    assert only.per_class == {"apple": 1.0, "sea_horse": 0.0, "cup": 0.0}
    assert not any(check.name == "classes" for check in only.checks)


def test_lines_are_counted_as_an_editor_does(files):
    rows = ["image_name,predicted_id,note", "", '0_450.png,0,"two\nlines"', " ", "1_450.png,77,", ""]
    result = grade(files, rows)
    assert (result.correct, result.total) == (1, 2)
    assert result.checks[0].message.startswith("Line 6: '77' is not a class id")


def test_images_may_be_named_with_their_folder_and_in_capitals(files):
    rows = [ROWS[0], "val/0_450.png,0", r"C:\\val\\0_451.png,1", "/data/val/1_450.PNG,1", "12_499.png,12"]
    assert grade(files, rows) == grade(files)
    assert "is repeated" in grade(files, [*rows, "elsewhere/0_450.png,0"]).checks[0].message


def test_the_confusion_is_in_the_labels_own_order(files):
    (files / "id2label.json").write_text(json.dumps(dict(reversed(LABELS.items()))))
    assert grade(files).confusion == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


LINES = st.lists(st.tuples(st.sampled_from(list(LABELS)), st.sampled_from(list(LABELS))), min_size=1, max_size=30)


@given(LINES)
def test_accuracy_and_confusion_are_what_counting_gives(pairs):
    with tempfile.TemporaryDirectory() as folder:
        rows = [f"{true}_{i}.png,{predicted}" for i, (true, predicted) in enumerate(pairs)]
        path = Path(folder) / "predictions.csv"
        path.write_text("\n".join([ROWS[0], *rows]))
        result = grade_zero_shot(path, LABELS)
    right = [true == predicted for true, predicted in pairs]
    assert (result.correct, result.total, result.accuracy) == (sum(right), len(right), sum(right) / len(right))
    for i, true in enumerate(LABELS):
        assert result.confusion[i] == [pairs.count((true, predicted)) for predicted in LABELS]
        of_class = [r for r, (label, _) in zip(right, pairs, strict=True) if label == true]
        assert result.per_class.get(LABELS[true]) == (sum(of_class) / len(of_class) if of_class else None)


def test_classes_without_images_are_named_and_cost_nothing(files):
    result = grade(files, ROWS[:3])
    assert (result.status, result.accuracy) == ("pass", 0.5)
    assert result.checks[0].message == "The predictions have no image of 2 of 3 classes: sea_horse, cup."
    assert result.checks[0].status == "warning"
    assert "cup" not in result.per_class
    assert [check.name for check in grade(files).checks] == ["accuracy"]


def test_a_file_of_bad_lines_does_not_fill_the_report(files):
    result = grade(files, [*ROWS, *["x,y"] * 1000])
    assert (result.status, result.correct, result.total) == ("fail", 3, 1004)
    assert [check.status for check in result.checks] == ["fail"] * 12
    assert result.checks[10].message == "Predictions on 990 more invalid lines count as wrong."


def test_what_spreadsheets_leave_in_a_file_is_read(files):
    expected = grade(files)
    (files / "predictions.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(ROWS).encode())
    assert grade_zero_shot(files / "predictions.csv", LABELS) == expected
    assert grade(files, ["image_name , predicted_id", *ROWS[1:]]) == expected


NO_ROWS, NO_COLUMN = "no rows with a column image_name", "no rows with a column predicted_id"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is empty"),
        ("\n", NO_ROWS),
        ("image_name\n0_1.png\n", NO_COLUMN),
        ('a,"b\n', "not a CSV"),
        ("image_name,predicted_id,image_name\n0_1.png,0,x\n", "several columns image_name"),
    ],
)
def test_other_files_are_refused(files, content, match):
    (files / "predictions.csv").write_text(content)
    with pytest.raises(GradingError, match=match):
        grade_zero_shot(files / "predictions.csv", LABELS)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"0": 1}', '{"0": "a", "1": "a"}', '{"0": "\\ud800"}'])
def test_other_labels_are_refused(tmp_path, content):
    (tmp_path / "id2label.json").write_text(content)
    with pytest.raises(GradingError, match=r"id2label\.json"):
        read_labels(tmp_path / "id2label.json")


def test_the_command_says_the_accuracy(files):
    grade(files)
    labels = ["--labels", files / "id2label.json"]
    run = grade_here("zero-shot", files / "predictions.csv", *labels, "--json", files / "r.json")
    assert run.returncode == 0, run.stderr
    assert "75.00%" in run.stdout
    assert json.loads((files / "r.json").read_text())["accuracy"] == 0.75
    run = grade_here("zero-shot", files / "none.csv", *labels)
    assert run.returncode == 2
    assert "none.csv is not a file" in run.stderr
