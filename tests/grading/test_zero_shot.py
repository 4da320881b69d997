import json

import pytest

from grading.results import GradingError
from grading.zero_shot import grade_zero_shot, read_labels

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
    assert result.confusion == {"0": {"0": 1, "1": 1}, "1": {"1": 1}, "12": {"12": 1}}
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
        ("7_450.png,0", "Line 6: '7_450.png' is no image of a class in the labels"),
        ("cat.png,0", "Line 6: 'cat.png' is no image of a class"),
        ("0_452.png,99", "Line 6: '99' is no class id"),
        ("0_452.png", "Line 6: '' is no class id"),
        ("0_450.png,0", "Line 6: '0_450.png' came before"),
    ],
)
def test_rows_that_mean_nothing_count_as_wrong(files, row, sentence):
    result = grade(files, [*ROWS, row])
    assert (result.status, result.correct, result.total) == ("fail", 3, 5)
    assert result.checks[0].message.startswith(sentence)


NO_ROWS, NO_COLUMN = "no rows with a column image_name", "no rows with a column predicted_id"


@pytest.mark.parametrize(
    ("content", "match"), [("", NO_ROWS), ("image_name\n0_1.png\n", NO_COLUMN), ('a,"b\n', "not a CSV")]
)
def test_other_files_are_refused(files, content, match):
    (files / "predictions.csv").write_text(content)
    with pytest.raises(GradingError, match=match):
        grade_zero_shot(files / "predictions.csv", LABELS)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"0": 1}'])
def test_other_labels_are_refused(tmp_path, content):
    (tmp_path / "id2label.json").write_text(content)
    with pytest.raises(GradingError, match=r"id2label\.json"):
        read_labels(tmp_path / "id2label.json")


def test_the_command_says_the_accuracy(files, hw2_grade):
    grade(files)
    labels = ["--labels", files / "id2label.json"]
    run = hw2_grade("zero-shot", files / "predictions.csv", *labels, "--json", files / "r.json")
    assert run.returncode == 0, run.stderr
    assert "75.00%" in run.stdout
    assert json.loads((files / "r.json").read_text())["accuracy"] == 0.75
    run = hw2_grade("zero-shot", files / "none.csv", *labels)
    assert run.returncode == 2
    assert "none.csv is not a file" in run.stderr
