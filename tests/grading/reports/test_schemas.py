"""The schemas of what the grader writes. Gradescope's is in test_gradescope.py."""

import json
import os
from dataclasses import replace

import jsonschema
import pydantic
import pytest

from fixtures.making.schemas import FOLDER, TYPES, schemas
from grading.cli.student_commands import Checked
from grading.core.results import Check
from grading.preflight.doctor import Preflight, Row
from grading.preflight.handin import Finding, HandInReport
from grading.problems.prompt_scores import ConceptsResult
from grading.problems.realism import Realism
from grading.problems.zero_shot import ZeroShotResult
from grading.reports.terminal import to_json
from grading.submission.written import write_grade
from tests.commands import ROOT
from tests.grading.here import grade_here
from tests.grading.reported import concepts_result, digits_result, faces_result, hostile_result, submission_result

CHECK = Check("call", "error", "It could not be done.")
REALISM = Realism({"0": 0.5, "1": None}, {"0": 0.5}, 1.5, 2.5, 3.5, {"0_001.png": ("a.png", 2.0)})
HANDIN = HandInReport((Finding("scripts", "pass", "All scripts are there."),))

WRITTEN = [
    ("grade", submission_result()),
    ("grade", hostile_result()),
    ("digits", digits_result()),
    ("digits", replace(digits_result(), realism={"svhn": REALISM}, wilson_95={"svhn": None})),
    ("faces", faces_result(0.25, 676.0)),
    ("faces", faces_result(0.0)),
    ("concepts", concepts_result((80.0, 36.0), (76.0, 34.5))),
    ("concepts", ConceptsResult("error", checks=[CHECK])),
    ("zero-shot", ZeroShotResult("fail", 0.5, 1, 2, (0.1, 0.9), {"cat": 0.5}, [[1, 1], [0, 0]])),
    ("zero-shot", ZeroShotResult("error", checks=[CHECK])),
    ("check", Checked(HANDIN, None)),
    ("check", Checked(HANDIN, submission_result())),
    ("doctor", Preflight((Row("data", "not ready", "is not there", "give --data", blocks=True),))),
]


def validator(name):
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_type_has_its_schema_and_the_page_of_results_links_each():
    page = (ROOT / "docs" / "results.md").read_text()
    assert set(os.listdir(FOLDER)) == {*schemas(), "gradescope.schema.json"}
    assert all(f"(../grading/reports/schemas/{name})" in page for name in schemas())


def test_the_schemas_are_those_of_the_types():
    if f"pydantic=={pydantic.VERSION}" not in (ROOT / "constraints.txt").read_text().splitlines():
        pytest.skip("other versions of pydantic than the tested one write schemas in other words")
    for name, text in schemas().items():
        assert json.loads((FOLDER / name).read_text()) == json.loads(text), "run python -m fixtures.making.schemas"


@pytest.mark.parametrize(("name", "result"), WRITTEN, ids=[f"{name}-{i}" for i, (name, _) in enumerate(WRITTEN)])
def test_what_is_written_fits_its_schema(name, result):
    validator(name).validate(json.loads(to_json(result)))


def test_every_schema_is_tried():
    assert {name for name, _ in WRITTEN} == set(TYPES)


def test_a_grade_fits_with_its_digest(tmp_path):
    write_grade(tmp_path, submission_result())
    validator("grade").validate(json.loads((tmp_path / "grade.json").read_bytes()))


def test_a_problem_by_its_command_fits_its_schema(tmp_path):
    labels, predictions = tmp_path / "id2label.json", tmp_path / "predictions.csv"
    labels.write_text('{"0": "cat", "1": "dog"}')
    predictions.write_text("image_name,predicted_id\n0_1.png,0\n1_1.png,0\n")
    found = json.loads(grade_here("zero-shot", predictions, "--labels", labels, "--json", "-").stdout)
    assert found["accuracy"] == 0.5
    validator("zero-shot").validate(found)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda grade: grade.pop("points"),
        lambda grade: grade.update(points="25.9"),
        lambda grade: grade.update(status="passed"),
        lambda grade: grade.update(score=1),
        lambda grade: grade.update(digest="short"),
        lambda grade: grade["lines"][0].update(part="secret"),
        lambda grade: grade["lines"][0].pop("name"),
        lambda grade: grade["stages"][0].update(seconds=None),
        lambda grade: grade["results"][0]["judges"][0].update(kind="unknown"),
        lambda grade: grade["results"][0]["figures"][0].update(interval=[0.5]),
    ],
)
def test_another_grade_does_not_fit(spoil):
    grade = json.loads(to_json(submission_result()))
    spoil(grade)
    with pytest.raises(jsonschema.ValidationError):
        validator("grade").validate(grade)
