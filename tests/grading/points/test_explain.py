import pytest

from grading.core.errors import GradingError
from grading.homeworks.fall2024 import FALL2024
from grading.points.explain import explain, explanations
from tests.grading.here import grade_here
from tests.grading.reported import HOSTILE, WITHOUT_POINTS, submission_result

RESULT = submission_result()
EXPLANATIONS = explanations(FALL2024)

ASKED = [
    "1 simple", "1 strong", "2 public", "2 private", "3 public 0/0", "3 public 0/1", "3 private 1/12", "3 public",
    "report 1", "report 2", "report 3", "settled", "settled_2", "staff fixed",
    "late", "accuracy", "accuracy_mnistm", "accuracy_svhn", "mse",
    "psnr", "ssim", "clip_image_score", "clip_text_score", "selected", "twice", "hw2_2.sh private twice", "copy",
    "fetch", "freeze", "hw2_1.sh", "hw2_2.sh public", "hw2_3.sh private", "limits", "zero-shot", "confusion",
    "per_digit", "wilson_95", "realism", "diversity", "frechet_distance", "nearest_rms_real", "warnings",
    "near-duplicates", "unchecked",
]  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_every_check_is_explained_in_a_few_sentences_with_its_source(name):
    text, source = explain(name, FALL2024).split("\nSource: ")
    assert 60 < len(text) < 700
    assert len(source) > 3
    assert source.endswith((".", ")"))


def shown_names(result):
    """Every name that a result shows."""
    yield from (line.name for line in result.lines)
    yield from (stage.stage for stage in result.stages)
    yield from (f"{stage.stage} twice" for stage in result.stages if stage.kind == "script")
    yield from (figure.key for each in result.results for figure in each.figures)


@pytest.mark.parametrize("name", sorted(set(shown_names(RESULT))))
def test_every_name_that_a_result_shows_is_explained(name):
    assert explain(name, FALL2024)


@pytest.mark.parametrize("name", sorted(set(shown_names(submission_result(homework=WITHOUT_POINTS)))))
def test_every_name_is_explained_where_points_are_not_known_too(name):
    text = explain(name, WITHOUT_POINTS)
    assert " points if" not in text
    assert "points in all" not in text


def test_the_names_that_a_result_shows_are_of_every_kind():
    assert {
        "1 simple",
        "3 private",
        "late",
        "report 1",
        "freeze",
        "hw2_2.sh private",
        "mse",
        "realism",
        "passed",
    } <= set(shown_names(RESULT))


@pytest.mark.parametrize("name", ["report 1", "late", "staff fixed", "settled"])
def test_a_homework_without_points_has_no_rules_about_them(name):
    with pytest.raises(GradingError, match="nothing is called"):
        explain(name, WITHOUT_POINTS)


@pytest.mark.parametrize("name", [each.name for each in EXPLANATIONS])
def test_each_name_leads_to_its_own_explanation_alone(name):
    assert explain(name, FALL2024).startswith(f"{name}: ")


def test_a_beginning_explains_all_that_begins_with_it_and_a_name_itself_alone():
    third = [each.name for each in EXPLANATIONS if each.name.startswith("3")]
    assert len(third) > 1
    assert explain("3", FALL2024) == "\n\n".join(explain(name, FALL2024) for name in third)
    assert explain(" CLIP", FALL2024).count("\nSource: ") == sum(e.name.startswith("clip") for e in EXPLANATIONS)
    assert explain("2 public", FALL2024).count("\nSource: ") == 1


def test_letters_and_spaces_may_be_any():
    assert explain("  MSE ", FALL2024) == explain("mse", FALL2024)
    assert explain("Staff  Fixed", FALL2024) == explain("staff fixed", FALL2024)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("1 simple", ["90.00%", "10 points", "p8"]),
        ("1 strong", ["95.00%", "5 more points", "p8"]),
        ("2 public", ["below 20", "10 points", "p12"]),
        ("3 public 0/1", ["10 points in all", "each has 2.5", "exactly 25", "image + 2.5 * text", "grade_hw2_3.py"]),
        ("3 private 0/1", ["10 points in all", "in equal parts"]),
        ("late", ["30 %", "3 free days", "p44-45"]),
        ("staff fixed", ["30 %", "p44-45"]),
        ("mse", ["0-255", "float64", "no official script"]),
        ("hw2_2.sh public", ["5 minutes", "p35-38"]),
        ("zero-shot", ["56.48 %"]),
    ],
)
def test_explanations_state_the_rule(name, facts):
    for fact in facts:
        assert fact in explain(name, FALL2024)


@pytest.mark.parametrize("name", ["", "4 public", "1 simplest", "report 4", ".*", HOSTILE, "digit 10"])
def test_an_unknown_name_is_told_the_known_ones(name):
    with pytest.raises(GradingError, match="nothing is called") as error:
        explain(name, FALL2024)
    assert "clip_image_score" in str(error.value)
    assert str(error.value).isprintable()


def test_a_slip_is_told_what_was_perhaps_meant():
    with pytest.raises(GradingError, match="perhaps you mean 2 public"):
        explain("2 pubic", FALL2024)


def test_the_command_explains_one_or_all_and_says_what_it_does_not_know():
    one = grade_here("explain", "mse")
    assert (one.returncode, one.stdout) == (0, explain("mse", FALL2024) + "\n")
    everything = grade_here("explain").stdout
    assert all(explain(each.name, FALL2024) in everything for each in EXPLANATIONS)
    unknown = grade_here("explain", "[red]x")
    assert unknown.returncode == 2
    assert "nothing is called [red]x" in unknown.stderr
    assert unknown.stdout == ""
