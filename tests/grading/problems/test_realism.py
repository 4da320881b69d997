import json
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grading.core.errors import GradingError
from grading.homeworks.fall2024 import DIGITS
from grading.judges import Judges
from grading.problems.digit_scores import grade_digits
from grading.problems.metrics import frechet_distance, mean_pairwise_distance, nearest
from grading.problems.realism import Realism, load_real_digits, realism_figures
from tests.grading.here import grade_here
from tests.grading.plain_digits import JUDGES, save
from tests.oracles import frechet_distance_by_matrix_root

EMBEDDED = ("--judges", "embedded")

numbers = st.integers(0, 2**32 - 1)


@given(numbers, st.integers(2, 6), st.integers(30, 60), st.integers(30, 60))
def test_the_frechet_distance_is_that_of_another_implementation(seed, dims, n, m):
    g = np.random.default_rng(seed)
    a, b = g.normal(size=(n, dims)) * g.uniform(0.1, 3), g.normal(size=(m, dims)) + g.uniform(-2, 2)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance_by_matrix_root(a, b), rel=1e-6, abs=1e-6)


def test_fewer_images_than_features_have_a_frechet_distance():
    """Their covariance has eigenvalues of 0, which come out a little below it."""
    g = np.random.default_rng(0)
    a, b = g.normal(size=(5, 40)), g.normal(size=(6, 40))
    covariances = [np.cov(each.T) for each in (a, b)]
    norms = np.linalg.svd((a - a.mean(0)) @ (b - b.mean(0)).T, compute_uv=False).sum() / (4 * 5) ** 0.5
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * norms
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_gaussians_with_known_moments():
    # In one dimension it is (m1 - m2)^2 + (s1 - s2)^2: here with means 1 and 4, standard deviations 1 and 3
    a, b = np.array([[0.0], [2.0]]) / 2**0.5 * 1.0, np.array([[0.0], [2.0]]) / 2**0.5 * 3.0
    a, b = np.column_stack([a - a.mean() + 1, np.zeros(2)]), np.column_stack([b - b.mean() + 4, np.zeros(2)])
    assert frechet_distance(a, b) == pytest.approx(9 + 4)


@given(numbers)
def test_the_frechet_distance_is_a_distance(seed):
    g = np.random.default_rng(seed)
    a, b = g.normal(size=(10, 3)), g.normal(size=(12, 3)) * 2 + 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, a + 3) == pytest.approx(27)  # a shift by 3 in each of three directions


def test_diversity_is_the_mean_over_pairs():
    assert mean_pairwise_distance(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx((5 + 0 + 5) / 3)
    assert mean_pairwise_distance(np.array([[0.0, 0], [3, 4]])) == 5
    features = np.random.default_rng(0).normal(size=(6, 3))
    distances = [np.sqrt(((a - b) ** 2).sum()) for a, b in combinations(features, 2)]
    assert mean_pairwise_distance(features) == pytest.approx(np.mean(distances))
    assert mean_pairwise_distance(np.zeros((1, 4))) is None
    assert mean_pairwise_distance(np.zeros((0, 4))) is None


@given(numbers)
def test_the_nearest_image_is_found_by_comparing_with_each(seed):
    g = np.random.default_rng(seed)
    images, reference = (g.integers(0, 256, (n, 3, 2, 3), dtype=np.uint8) for n in (4, 7))
    index, rms = nearest(images, reference)
    for i, image in enumerate(images):
        distances = [np.sqrt(((image.astype(float) - other.astype(float)) ** 2).mean()) for other in reference]
        assert rms[i] == pytest.approx(min(distances))
        assert distances[index[i]] == min(distances)
    index, rms = nearest(reference[:3], reference, skip_same=True)
    assert (index != np.arange(3)).all()
    assert (rms > 0).all()


@pytest.fixture
def real(tmp_path):
    """Real images of both data sets: 40 of noise, and one that the submission copies."""
    g = np.random.default_rng(1)
    for dataset in ("mnistm", "svhn"):
        data = tmp_path / "real" / dataset / "data"
        data.mkdir(parents=True)
        rows = ["image_name,label"]
        for i in range(40):
            Image.fromarray(g.integers(0, 256, (28, 28, 3), dtype=np.uint8)).save(data / f"{i:05d}.png")
            rows.append(f"{i:05d}.png,{i % 10}")
        Image.new("RGB", (28, 28), (3, 3, 3)).save(data / "copied.png")
        (data.parent / "train.csv").write_text("\n".join([*rows, "copied.png,3"]) + "\n")
    return tmp_path / "real"


def test_copies_are_found_and_shown(complete, real):
    pictures = []
    result = grade_digits(complete, JUDGES, DIGITS.rules, real, pictures.append)
    realism = result.realism["mnistm"]
    assert realism.nearest["3_007.png"] == ("copied.png", 0.0)  # the submission's threes are (3, 3, 3) everywhere
    assert realism.nearest["9_001.png"] == ("copied.png", 6.0)
    assert realism.nearest_rms < 10 < realism.nearest_rms_real
    assert realism.frechet_distance > 1
    assert set(realism.diversity) == set(realism.diversity_real) == set("0123456789")
    assert realism.diversity["3"] == 0.0
    (picture,) = pictures
    shown = np.asarray(picture)
    assert (shown[24, 12] == 3).all()  # the nearest first: a three, and beside it what it copies
    assert (shown[24, 16 + 112 + 4] == 3).all()


def test_without_real_images_only_diversity_is_known(complete):
    realism = grade_digits(complete, JUDGES, DIGITS.rules).realism["svhn"]
    assert realism.diversity["3"] == 0.0
    assert (realism.diversity_real, realism.frechet_distance, realism.nearest) == (None, None, None)


def test_real_images_change_no_score(complete, real):
    with_real, without = (
        grade_digits(complete, JUDGES, DIGITS.rules, real),
        grade_digits(complete, JUDGES, DIGITS.rules),
    )
    assert (with_real.accuracy, with_real.status, with_real.confusion) == (
        without.accuracy,
        without.status,
        without.confusion,
    )


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (None, "cannot be read"),
        ("a,b\n1,2\n", "is not a table of image_name,label"),
        ("image_name,label\nx.png,y\n", "is not a table"),
        ("image_name,label\n00000.png,0\n", "does not list two images"),
        ("image_name,label\n00000.png,0\n00001.png,10\n", "labels 0 to 9"),
        ("image_name,label\n00000.png,0\n../x.png,1\n", "names '../x.png'"),
        ("image_name,label\n00000.png,0\nno.png,1\n", "no.png"),
    ],
)
def test_real_images_that_cannot_be_read_are_an_error_of_the_call(real, table, sentence):
    path = real / "svhn" / "train.csv"
    path.unlink() if table is None else path.write_text(table)
    with pytest.raises(GradingError, match=sentence):
        load_real_digits(real / "svhn")


@pytest.fixture
def few(tmp_path):
    """A submission with one image of each digit."""
    for dataset, digit in product(("mnistm", "svhn"), range(10)):
        save(tmp_path / "few" / dataset / f"{digit}_001.png", digit)
    return tmp_path / "few"


def test_the_command_writes_the_neighbours_and_says_that_the_embedded_judges_judged(few, real, tmp_path):
    report, picture = tmp_path / "r.json", tmp_path / "n.png"
    run = grade_here("digits", few, "--real", real, "--neighbours", picture, *EMBEDDED, "--json", report)
    assert run.stdout.endswith("fail, judged by the embedded judges: scores are not the official ones\n")
    result = json.loads(report.read_text())
    assert result["realism"]["svhn"]["nearest"]["3_001.png"] == ["copied.png", 0.0]
    for dataset in ("mnistm", "svhn"):
        assert result["judges"][dataset]["kind"] == "embedded"
        assert result["judges"][dataset]["file"] == f"judge_{dataset}.safetensors"
    with Image.open(picture) as image:
        assert image.height > 20 * 112


def test_neighbours_need_real_images(few, tmp_path):
    run = grade_here("digits", few, *EMBEDDED, "--neighbours", tmp_path / "m.png")
    assert run.returncode == 2
    assert "add --real FOLDER" in run.stderr


# --- choosing a judge ---


def test_without_a_choice_the_official_judges_are_asked_for_and_their_file_is_named(few):
    run = grade_here("digits", few)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == (
        "hw2-grade: the official mnistm classifier is the course's Classifier.pth, but this project does not contain "
        "it; give that file, or choose the embedded judges, whose scores are not the official ones "
        "(option --mnistm-classifier).\n"
    )


def test_the_embedded_judges_read_real_digits(shared_data):
    for dataset, least in (("mnistm", 0.92), ("svhn", 0.75)):
        folder = shared_data / "hw2_data" / "digits" / dataset
        rows = [line.split(",") for line in (folder / "train.csv").read_text().split()[1:301]]
        images = [np.asarray(Image.open(folder / "data" / name).convert("RGB")) for name, _ in rows]
        judge = Judges({dataset: "embedded"}, "cpu")[dataset]
        right = (judge.predict(images).digits == np.array([int(label) for _, label in rows])).mean()
        assert right > least


def test_every_realism_figure_has_a_row_with_its_own_value():
    realism = Realism({"0": 1.0, "1": 3.0, "2": None}, {"0": 5.0}, 7.25, 11.5, 13.125, {})
    figures = list(realism_figures("SVHN", realism))
    assert {figure.row: figure.value for figure in figures} == {
        "diversity": 2.0,
        "diversity of real images": 5.0,
        "Frechet distance": 7.25,
        "RMS to the nearest real image": 11.5,
        "the same among real images": 13.125,
    }
    assert {(figure.column, figure.informative) for figure in figures} == {("SVHN", True)}
    alone = list(realism_figures("SVHN", Realism({"0": 1.5})))
    assert [(figure.row, figure.value) for figure in alone] == [("diversity", 1.5)]


def test_a_graded_folder_shows_its_realism(complete, real):
    result = DIGITS.result(grade_digits(complete, JUDGES, DIGITS.rules, real))
    shown = [(figure.row, figure.column) for figure in result.figures if figure.key == "realism"]
    assert len(shown) == len(set(shown)) == 5 * 2
