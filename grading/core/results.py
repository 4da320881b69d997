"""What grading found out, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["pass", "fail", "error"]
"""error: could not be done, which is nobody's zero."""


@dataclass(frozen=True)
class Check:
    """One question and its answer. message: a sentence for the student; status "warning" costs nothing."""

    name: str
    status: Status | Literal["warning"]
    message: str


@dataclass(frozen=True)
class FacesResult:
    """Problem 2. Scores are means over the images that could be scored, None where there is none.

    mse: of 0-255 values, the official score. psnr (dB; None for identical images) and ssim are for information.
    """

    status: Status
    threshold: float
    mse: float | None = None
    mse_per_image: dict[str, float] = field(default_factory=dict)
    psnr: float | None = None
    psnr_per_image: dict[str, float | None] = field(default_factory=dict)
    ssim: float | None = None
    ssim_per_image: dict[str, float | None] = field(default_factory=dict)
    expected: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["faces"] = "faces"


@dataclass(frozen=True)
class Judge:
    """Which classifier spoke.

    kind: "official" for the course's own weights, "embedded" for those that this project trained and ships, else
    "custom". sha256: of the weights' file.
    """

    dataset: str
    kind: Literal["official", "embedded", "custom"]
    file: str
    sha256: str


@dataclass(frozen=True)
class Realism:
    """How one data set's digits compare with each other and with real ones; for information, never for the score.

    diversity: mean Euclidean distance between two images of a digit, in the judge's features, by digit; None for fewer
    than two images. The rest is None where no real images were given: diversity_real, the same for real ones;
    frechet_distance between both in those features, all digits together; nearest_rms, the root mean squared difference
    of 0-255 values to the nearest real image, median over the images; nearest_rms_real, the same from real image to
    another real one: a copied digit is much nearer than that. nearest: the real image nearest to each.
    """

    diversity: dict[str, float | None] = field(default_factory=dict)
    diversity_real: dict[str, float | None] | None = None
    frechet_distance: float | None = None
    nearest_rms: float | None = None
    nearest_rms_real: float | None = None
    nearest: dict[str, tuple[str, float]] | None = None


@dataclass(frozen=True)
class DigitsResult:
    """Problem 1. Accuracies are shares, 0 to 1, None where no image could be scored; `accuracy` is their mean.

    Dicts are by data set, "mnistm" and "svhn". confusion: 10x10 counts, rows labels, columns predictions. per_digit:
    accuracy of each digit that has images. wilson_95: the interval that the accuracy lies in with 95 % confidence.
    realism: for information.
    """

    status: Status
    thresholds: dict[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    accuracy_mnistm: float | None = None
    accuracy_svhn: float | None = None
    correct: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    per_digit: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: dict[str, list[list[int]]] = field(default_factory=dict)
    wilson_95: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    judges: dict[str, Judge] = field(default_factory=dict)
    realism: dict[str, Realism] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["digits"] = "digits"


@dataclass(frozen=True)
class PromptScore:
    """One prompt of Problem 3. clip_image_score, clip_text_score: means over the five selected images, 0 to 100.

    threshold: (image, text), both to be reached. selected: names of the five, best last. images: (image, text) scores
    of each. Scores are None where there are no five images.
    """

    threshold: tuple[float, float]
    clip_image_score: float | None = None
    clip_text_score: float | None = None
    passed: bool = False
    selected: list[str] = field(default_factory=list)
    images: dict[str, tuple[float, float]] = field(default_factory=dict)
    src_image: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class ConceptsResult:
    """Problem 3. prompts: by "concept/index", e.g. "0/1"; passed of total reach both of their thresholds."""

    status: Status
    passed: int = 0
    total: int = 0
    prompts: dict[str, PromptScore] = field(default_factory=dict)
    judge: Judge | None = None
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["concepts"] = "concepts"


@dataclass(frozen=True)
class ZeroShotResult:
    """Zero-shot classification. accuracy: share of right predictions, None without any; per_class by class name.

    confusion: counts, rows true classes, columns predicted ones, both in the order of the labels' file.
    """

    status: Status
    accuracy: float | None = None
    correct: int = 0
    total: int = 0
    wilson_95: tuple[float, float] | None = None
    per_class: dict[str, float] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problem: Literal["zero-shot"] = "zero-shot"


@dataclass(frozen=True)
class StageResult:
    """What became of one stage. message: a sentence for the student; log: beginning and end of what the script printed.

    status: "error" where we could not do our part. files: sha256 by path of what the stage leaves behind. refused: what
    it does not, a sentence each.
    """

    stage: str
    status: Status
    message: str
    log: str = ""
    seconds: float = 0.0
    exit_status: int | None = None
    limit: str = ""
    files: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScoreLine:
    """One line of a submission's score.

    name: unique, such as "2 public" or "3 private 0/1" or "late". points: None where it could not be checked, which is
    nobody's zero; negative for a deduction, whose max_points is 0. private: not to be shown before grades are
    published. message: what was expected and what was found, for the student.
    """

    name: str
    title: str
    points: float | None
    max_points: float
    status: Status
    message: str
    private: bool = False


@dataclass(frozen=True)
class SubmissionResult:
    """One whole submission.

    status: "pass" if every line of the homework has its full points, "error" if any could not be checked. points: sum
    over the lines that could be, never below 0, of max_points; unchecked: how many of max_points could not be.
    stages: in the order in which they ran; logs of scripts are in them. digits, faces, concepts: None, or without the
    key "public" or "private", where not graded. warnings: for staff. record: what is needed to get the same again;
    times are in stages[].seconds and record["times"] alone.
    """

    submission: str
    status: Status
    points: float
    max_points: float
    unchecked: float
    lines: list[ScoreLine] = field(default_factory=list)
    stages: list[StageResult] = field(default_factory=list)
    digits: DigitsResult | None = None
    faces: dict[str, FacesResult] = field(default_factory=dict)
    concepts: dict[str, ConceptsResult] = field(default_factory=dict)
    warnings: list[Check] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    problem: Literal["submission"] = "submission"
