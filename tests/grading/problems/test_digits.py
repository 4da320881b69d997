import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import norm

from grading.core.errors import GradingError
from grading.core.results import Check
from grading.homeworks.fall2024 import DIGITS
from grading.judges.classifiers import load_digit_judge
from grading.problems.digit_scores import grade_digits
from grading.problems.metrics import confusion_matrix, wilson_interval
from tests.grading.here import grade_here
from tests.grading.plain_digits import JUDGES, save


def messages(result, status="fail"):
    return [check.message for check in result.checks if check.status == status]


def test_a_thousand_names_are_expected():
    assert len(DIGITS.rules.names("mnistm")) == 500
    assert DIGITS.rules.names("mnistm")[0] == "0_001.png"
    assert DIGITS.rules.names("mnistm")[-1] == "9_050.png"


def test_the_score_is_the_plain_mean_of_the_two_accuracies(complete):
    result = grade_digits(complete, JUDGES, DIGITS.rules)
    assert (result.accuracy_mnistm, result.accuracy_svhn, result.accuracy) == (1.0, 0.9, 0.95)
    assert result.correct == {"mnistm": 500, "svhn": 450}
    assert result.total == {"mnistm": 500, "svhn": 500}
    assert result.per_digit["svhn"]["7"] == 0.0
    assert result.per_digit["svhn"]["1"] == 1.0
    assert result.confusion["svhn"][7] == [0, 50, 0, 0, 0, 0, 0, 0, 0, 0]
    assert result.status == "pass"
    assert result.judges == {dataset: JUDGES[dataset].identity for dataset in ("mnistm", "svhn")}
    assert result.thresholds == DIGITS.rules.baselines
    assert messages(result) == []
    assert messages(result, "pass") == [
        "The mean accuracy is 95.00%; the simple baseline is 90.00%.",
        "The mean accuracy is 95.00%; the strong baseline is 95.00%.",
    ]


def test_one_image_less_than_the_strong_baseline_still_passes_the_simple_one(complete):
    save(complete / "mnistm" / "0_001.png", 9)
    result = grade_digits(complete, JUDGES, DIGITS.rules)
    assert result.status == "pass"
    assert messages(result) == ["The mean accuracy is 94.90%; expected 95.00%."]


def test_below_the_simple_baseline_fails(complete):
    for i in range(1, 51):
        save(complete / "mnistm" / f"3_{i:03d}.png", 8)
        save(complete / "svhn" / f"3_{i:03d}.png", 8)
    result = grade_digits(complete, JUDGES, DIGITS.rules)
    assert result.accuracy == pytest.approx(0.85)
    assert result.status == "fail"


def test_a_single_good_image_scores_but_cannot_pass(tmp_path):
    save(tmp_path / "mnistm" / "4_001.png", 4)
    save(tmp_path / "svhn" / "4_001.png", 4)
    result = grade_digits(tmp_path, JUDGES, DIGITS.rules)
    assert result.accuracy == 1.0
    assert result.status == "fail"
    assert "mnistm: 499 of 500 images are missing: 0_001.png, 0_002.png, 0_003.png" in messages(result)[0]
    assert len(result.missing) == 998
    assert result.per_digit["mnistm"] == {"4": 1.0}


def test_a_missing_image_is_named_with_the_first_reason(complete):
    (complete / "svhn" / "3_007.png").rename(complete / "svhn" / "3_007.jpg")
    assert messages(grade_digits(complete, JUDGES, DIGITS.rules))[0] == (
        "svhn: 1 of 500 images is missing: 3_007.png. svhn/3_007.png is missing; there is svhn/3_007.jpg."
    )
    for name in ("3_008.png", "3_009.png"):
        (complete / "svhn" / name).unlink()
    (complete / "9_001.png").touch()
    (complete / "svhn" / "9_001.png").unlink()  # a second reason, which waits until the first is gone
    refused = {f"svhn/3_00{i}.png": "was too large" for i in (7, 8, 9)}
    assert messages(grade_digits(complete, JUDGES, DIGITS.rules, refused=refused))[0] == (
        "svhn: 4 of 500 images are missing: 3_007.png, 3_008.png, 3_009.png, 9_001.png. svhn/3_007.png was too large. "
        "2 more are missing for the same reason."
    )


def test_an_empty_data_set_has_no_accuracy(tmp_path):
    save(tmp_path / "mnistm" / "4_001.png", 4)
    result = grade_digits(tmp_path, JUDGES, DIGITS.rules)
    assert (result.accuracy_mnistm, result.accuracy_svhn, result.accuracy) == (1.0, None, None)
    assert result.wilson_95["mnistm"] == pytest.approx((0.2065, 1.0), abs=1e-4)  # of one out of one
    assert result.wilson_95["svhn"] is None
    assert result.status == "fail"
    sentence = "At least one data set has no image that could be scored."
    baselines = [check for check in result.checks if "baseline" in check.name]
    assert baselines == [Check(f"{name} baseline", "fail", sentence) for name in ("simple", "strong")]
    nowhere = grade_digits(tmp_path / "nowhere", JUDGES, DIGITS.rules)
    assert nowhere.accuracy is None
    assert nowhere.checks[0] == Check("folder", "fail", f"The folder {tmp_path}/nowhere does not exist.")


def test_extra_images_count_as_in_the_official_script_and_cannot_pass(complete):
    save(complete / "mnistm" / "0_051.png", 9)
    result = grade_digits(complete, JUDGES, DIGITS.rules)
    assert result.total["mnistm"] == 501
    assert result.correct["mnistm"] == 500
    assert result.unexpected == ["mnistm/0_051.png"]
    assert messages(result)[0] == "mnistm: the score includes 1 unexpected image: 0_051.png."
    assert result.status == "fail"


def test_stray_files_are_named_and_cost_nothing(complete):
    (complete / "mnistm" / ".DS_Store").touch()
    (complete / "svhn" / "7_notes.txt").touch()
    (complete / "svhn" / "X.png").touch()
    (complete / "report.pdf").touch()
    result = grade_digits(complete, JUDGES, DIGITS.rules)
    assert result.status == "pass"
    assert result.unexpected == ["report.pdf", "mnistm/.DS_Store", "svhn/7_notes.txt", "svhn/X.png"]
    assert {check.name: check.message for check in result.checks if check.status == "warning"} == {
        "unexpected": "The grader ignored 1 unexpected entry: report.pdf.",
        "mnistm files": "The grader ignored 1 unexpected entry: mnistm/.DS_Store.",
        "svhn files": "The grader ignored 2 unexpected entries: svhn/7_notes.txt, svhn/X.png.",
    }


def test_unreadable_images_fail_and_the_others_are_scored(complete):
    (complete / "mnistm" / "0_001.png").write_bytes(b"broken")
    (complete / "mnistm" / "0_002.png").unlink()
    (complete / "mnistm" / "0_002.png").symlink_to(complete / "mnistm" / "0_003.png")
    result = grade_digits(complete, JUDGES, DIGITS.rules)
    assert result.total["mnistm"] == 498
    assert messages(result) == [
        "mnistm/0_001.png is not a PNG image.",
        "mnistm/0_002.png is a link; expected the image itself.",
    ]


def test_an_output_that_is_no_folder_cannot_be_graded(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GradingError, match=f"^{tmp_path}/file is a file; expected the folder with mnistm/ and svhn/"):
        grade_digits(tmp_path / "file", JUDGES, DIGITS.rules)


def test_a_folder_that_cannot_be_listed_says_why(tmp_path):
    (tmp_path / "mnistm").touch()
    with pytest.raises(GradingError, match=rf"^{tmp_path} cannot be listed \(Not a directory\); check its rights$"):
        grade_digits(tmp_path, JUDGES, DIGITS.rules)


# --- numbers ---


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=50))
def test_the_confusion_matrix_counts_every_pair_once(pairs):
    labels, predictions = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    confusion = confusion_matrix(labels, predictions)
    assert (confusion.shape, confusion.dtype) == ((10, 10), np.int64)
    for label in range(10):
        for prediction in range(10):
            assert confusion[label, prediction] == pairs.count((label, prediction))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_solves_its_equation(counts):
    correct, total = counts
    z = norm.ppf(0.975)
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    assert ((low == 0), (high == 1)) == ((correct == 0), (correct == total))
    for bound in (low, high):
        # both ends are where the observed share lies z standard errors of the bound away (Wilson 1927)
        if 0 < bound < 1:
            assert (correct / total - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / total, abs=1e-9)


@pytest.mark.parametrize(("correct", "total"), [(-1, 2), (3, 2), (0, 0)])
def test_what_is_no_share_has_no_interval(correct, total):
    with pytest.raises(ValueError, match=f"^{correct} of {total} is not a share$"):
        wilson_interval(correct, total)


# --- real digits of a published solution ---


def test_the_official_judge_gives_a_published_solution_100_percent(shared_data):
    run = grade_here(
        "digits",
        shared_data / "peer_outputs" / "digits",
        *("--mnistm-classifier", shared_data / "Classifier.pth", "--svhn-classifier", "embedded"),
        *("--json", "-"),
    )
    result = json.loads(run.stdout)
    assert run.returncode == 1
    assert (result["accuracy_mnistm"], result["correct"]["mnistm"]) == (1.0, 100)
    assert result["judges"]["mnistm"]["kind"] == "official"
    assert result["judges"]["svhn"]["kind"] == "embedded"  # its trained weights cannot be had here
    assert len(result["missing"]) == 800


def test_the_official_judge_knows_real_mnistm_digits(shared_data):
    judge = load_digit_judge("mnistm", shared_data / "Classifier.pth")
    folder = shared_data / "hw2_data" / "digits" / "mnistm"
    rows = [line.split(",") for line in (folder / "train.csv").read_text().split()[1:1001]]
    images = [np.asarray(Image.open(folder / "data" / name).convert("RGB")) for name, _ in rows]
    right = (judge.predict(images).digits == np.array([int(label) for _, label in rows])).mean()
    assert right > 0.93  # 95.1 % on 9,001 test images


def test_a_judge_that_is_missing_is_an_error_of_the_call(tmp_path):
    judges = ["--mnistm-classifier", tmp_path / "a.pth", "--svhn-classifier", tmp_path / "b.bin"]
    (tmp_path / "0_001.png").touch()
    run = grade_here("digits", tmp_path, *judges)
    assert run.returncode == 2
    assert "the mnistm classifier" in run.stderr
    assert run.stderr.count("\n") == 1
