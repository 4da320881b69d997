import json
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import norm
from torch import nn
from torchvision import transforms

from grading.core.errors import GradingError
from grading.core.results import Judge
from grading.homeworks.fall2024 import DIGITS
from grading.judges.classifiers import (
    Look,
    MnistmClassifier,
    SvhnClassifier,
    images_to_pm1,
    load_digit_judge,
)
from grading.problems.digits import grade_digits
from grading.problems.metrics import confusion_matrix, wilson_interval


class RedJudge:
    """Reads the digit from the red channel, where the tests wrote it."""

    identity = Judge("mnistm", "custom", "red", "0" * 64)

    def look(self, images):
        digits = np.array([image[0, 0, 0] for image in images], np.int64)
        return Look(digits, np.array([[image[0, 0, 1], image[0, 0, 2]] for image in images], float).reshape(-1, 2))


JUDGES = {"mnistm": RedJudge(), "svhn": RedJudge()}


def save(path, shows, size=28):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), shows, np.uint8)).save(path)


@pytest.fixture
def complete(tmp_path):
    """A complete submission: MNIST-M all right, in SVHN every image of 7 shows a 1."""
    for name in DIGITS.rules.names("mnistm"):
        save(tmp_path / "out" / "mnistm" / name, int(name[0]))
        save(tmp_path / "out" / "svhn" / name, 1 if name[0] == "7" else int(name[0]))
    return tmp_path / "out"


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


def test_an_empty_data_set_has_no_accuracy(tmp_path):
    save(tmp_path / "mnistm" / "4_001.png", 4)
    result = grade_digits(tmp_path, JUDGES, DIGITS.rules)
    assert (result.accuracy_mnistm, result.accuracy_svhn, result.accuracy) == (1.0, None, None)
    assert result.wilson_95["svhn"] is None
    assert result.status == "fail"
    assert grade_digits(tmp_path / "nowhere", JUDGES, DIGITS.rules).accuracy is None


def test_extra_images_count_as_in_the_official_script_and_cannot_pass(complete):
    save(complete / "mnistm" / "0_051.png", 9)
    result = grade_digits(complete, JUDGES, DIGITS.rules)
    assert result.total["mnistm"] == 501
    assert result.correct["mnistm"] == 500
    assert result.unexpected == ["mnistm/0_051.png"]
    assert messages(result)[0] == "mnistm: 1 more than asked for, counted too: 0_051.png."
    assert result.status == "fail"


def test_stray_files_are_named_and_cost_nothing(complete):
    (complete / "mnistm" / ".DS_Store").touch()
    (complete / "svhn" / "7_notes.txt").touch()
    (complete / "report.pdf").touch()
    result = grade_digits(complete, JUDGES, DIGITS.rules)
    assert result.status == "pass"
    assert result.unexpected == ["report.pdf", "mnistm/.DS_Store", "svhn/7_notes.txt"]
    assert len(messages(result, "warning")) == 3


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
    with pytest.raises(GradingError, match="is a file; expected the folder with mnistm/ and svhn/"):
        grade_digits(tmp_path / "file", JUDGES, DIGITS.rules)


# --- the judges ---


@pytest.mark.parametrize("size", [28, 32, 64, 20])
def test_judges_see_what_the_official_transform_makes(size):
    g = np.random.default_rng(0)
    images = [g.integers(0, 256, (size, size + 3 * (size != 28), 3), dtype=np.uint8) for _ in range(3)]
    official = transforms.Compose(
        [transforms.Resize((28, 28)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )
    expected = torch.stack([official(Image.fromarray(image)) for image in images])
    torch.testing.assert_close(images_to_pm1(images), expected, rtol=0, atol=1e-6)


def test_the_svhn_network_is_a_resnet34_for_small_images():
    network = SvhnClassifier()
    assert sum(p.numel() for p in network.parameters()) == 21_282_122
    assert list(network.state_dict()["conv1.weight"].shape) == [64, 3, 3, 3]
    assert isinstance(network.maxpool, nn.Identity)
    features = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)
    assert features(torch.zeros(1, 3, 28, 28)).shape == (1, 64, 28, 28)


def test_the_mnistm_network_equals_a_literal_sequence_of_layers():
    network = MnistmClassifier()
    layers = nn.Sequential(
        network.conv1, nn.ReLU(), nn.MaxPool2d(2), network.conv2, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        network.fc1, nn.ReLU(), network.fc2, nn.ReLU(), network.fc3,
    )  # fmt: skip
    images = torch.rand(4, 3, 28, 28) * 2 - 1
    torch.testing.assert_close(network(images), layers(images))


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_judge_predicts_the_same_one_by_one_and_by_hundreds(tmp_path, wrapped):
    torch.manual_seed(0)
    weights = MnistmClassifier().state_dict()
    torch.save({"state_dict": weights, "optimizer": {}} if wrapped else weights, tmp_path / "c.pth")
    judge = load_digit_judge("mnistm", tmp_path / "c.pth")
    assert judge.identity.kind == "custom"
    images = list(np.random.default_rng(0).integers(0, 256, (300, 28, 28, 3), dtype=np.uint8))
    together = judge.look(images)
    assert len(set(together.digits.tolist())) > 1
    alone = [judge.look([image]) for image in images]
    np.testing.assert_array_equal(together.digits, np.concatenate([look.digits for look in alone]))
    np.testing.assert_allclose(together.features, np.concatenate([look.features for look in alone]), atol=1e-5)
    assert judge.look([]).digits.shape == (0,)
    assert judge.look([]).features.shape == (0, 64)


def test_weights_without_batch_counters_are_as_good(tmp_path):
    weights = {k: v for k, v in SvhnClassifier().state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "c.bin")
    load_digit_judge("svhn", tmp_path / "c.bin")


class MakesFolder:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_judge_that_is_none_is_refused_and_never_run(tmp_path):
    path = tmp_path / "c.pth"
    with pytest.raises(GradingError, match=r"c\.pth cannot be read \(No such file"):
        load_digit_judge("mnistm", path)
    for content, sentence in (
        (pickle.dumps(MakesFolder(tmp_path / "trap")), "could run code"),
        (b"", "not a readable PyTorch file"),
    ):
        path.write_bytes(content)
        with pytest.raises(GradingError, match=sentence):
            load_digit_judge("mnistm", path)
    assert not (tmp_path / "trap").exists()
    for thing, sentence in (([1], "holds a list"), (SvhnClassifier().state_dict(), "does not fit the mnistm")):
        torch.save(thing, path)
        with pytest.raises(GradingError, match=sentence):
            load_digit_judge("mnistm", path)


# --- numbers ---


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=50))
def test_the_confusion_matrix_counts_every_pair_once(pairs):
    labels, predictions = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    confusion = confusion_matrix(labels, predictions)
    for label in range(10):
        for prediction in range(10):
            assert confusion[label, prediction] == pairs.count((label, prediction))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_solves_its_equation(counts):
    correct, total = counts
    z = norm.ppf(0.975)
    for bound in wilson_interval(correct, total):
        # both ends are where the observed share lies z standard errors of the bound away (Wilson 1927)
        if 0 < bound < 1:
            assert (correct / total - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / total, abs=1e-9)


# --- real digits of a published solution ---


def test_the_official_judge_gives_a_published_solution_100_percent(shared_data, hw2_grade, tmp_path):
    torch.manual_seed(0)
    torch.save(SvhnClassifier().state_dict(), tmp_path / "svhn.bin")  # its trained weights cannot be had here
    run = hw2_grade(
        "digits",
        shared_data / "peer_outputs" / "digits",
        *("--mnistm-classifier", shared_data / "Classifier.pth", "--svhn-classifier", tmp_path / "svhn.bin"),
        *("--json", "-"),
    )
    result = json.loads(run.stdout)
    assert run.returncode == 1
    assert (result["accuracy_mnistm"], result["correct"]["mnistm"]) == (1.0, 100)
    assert result["judges"]["mnistm"]["kind"] == "official"
    assert result["judges"]["svhn"]["kind"] == "custom"
    assert len(result["missing"]) == 800


def test_the_official_judge_knows_real_mnistm_digits(shared_data):
    judge = load_digit_judge("mnistm", shared_data / "Classifier.pth")
    folder = shared_data / "hw2_data" / "digits" / "mnistm"
    rows = [line.split(",") for line in (folder / "train.csv").read_text().split()[1:1001]]
    images = [np.asarray(Image.open(folder / "data" / name).convert("RGB")) for name, _ in rows]
    right = (judge.look(images).digits == np.array([int(label) for _, label in rows])).mean()
    assert right > 0.93  # 95.1 % on 9,001 test images


def test_a_judge_that_is_missing_is_an_error_of_the_call(tmp_path, hw2_grade):
    judges = ["--mnistm-classifier", tmp_path / "a.pth", "--svhn-classifier", tmp_path / "b.bin"]
    run = hw2_grade("digits", tmp_path, *judges)
    assert run.returncode == 2
    assert "the mnistm classifier" in run.stderr
    assert run.stderr.count("\n") == 1
