"""Submission results for tests of reports, made by the code that makes real ones: problems, points, verdict.

One has some of everything. In the other every text that strangers can write tries to break out of its report.
"""

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from grading.core.arrays import ImageU8
from grading.core.results import Check, Judge, Part, ProblemResult, ScoreLine, StageResult, SubmissionResult
from grading.files.images import GradedImage
from grading.homeworks.fall2024 import CONCEPTS, DIGITS, FACES, FALL2024
from grading.homeworks.homework import Homework
from grading.judges.protocols import Predictions
from grading.points.lines import score_lines, total, verdict
from grading.points.staff import StaffEntry
from grading.problems.digit_scores import DATASETS, DigitsResult, grade_digits
from grading.problems.faces import FacesResult, grade_faces
from grading.problems.prompt_scores import ConceptsResult, PromptScore, grade_concepts, score_prompt
from grading.problems.prompts import Concept
from grading.reports.pictures import Pictures, make_pictures

HOSTILE = (
    "<script>document.title='stolen'</script><img src=/stolen.png onerror=alert(1)>"
    "\"'`&amp;</td></textarea></title>--> ]]> {{ 7*7 }} {% raw %}\n\r\t\x00\x1b[31mred\x1b[0m\x08\udcff\ud800\ufffe"
    "\u202egnp.exe\u202c\u200f\u2066 [bold]markup[/bold]"
)

HOSTILE_NAME = "=" + "".join(c for c in HOSTILE if c not in "/\0\ud800")
"""What a folder can be called; \\udcff stands for a byte that is not UTF-8."""

SENTENCES = ["A corgi on a bench.", "A corgi on a bench, the Colosseum behind."]
THRESHOLD = (74.0, 35.0)

STAFF = StaffEntry({1: 12.0}, late_days=1)

WITHOUT_POINTS = replace(
    FALL2024,
    name="nopoints",
    title="Homework without points",
    problems=tuple(replace(problem, points={}) for problem in FALL2024.problems),
    report={},
    note="Its official baselines were never published.",
)
"""An edition whose points are not known."""


# --- problems, graded from small folders by judges that read their answers from pixels


class DigitJudge:
    """Takes an image for the digit that its first value is."""

    def __init__(self, name: str) -> None:
        self.identity = Judge(name, "embedded", f"{name}.safetensors", "ab" * 32)

    def predict(self, images):
        digits = np.array([image[0, 0, 0] for image in images], np.int64)
        return Predictions(digits, np.eye(10)[digits])


class ClipJudge:
    """Gives half of a picture's first two values as its image and text score; blue pictures are references."""

    identity = Judge("clip", "embedded", "small_clip", "cd" * 32)
    logit_scale = 100.0

    def image_features(self, images):
        found = []
        for red, green, blue in (image[0, 0] / 200 for image in images):
            found.append([1, 0, 0] if blue else [red, green, np.sqrt(1 - red**2 - green**2)])
        return np.array(found, np.float64)

    def text_features(self, sentences):
        return np.array([[0.0, 1.0, 0.0]] * len(sentences))


@functools.cache
def digits_result(mnistm: float = 0.97, svhn: float = 0.91) -> DigitsResult:
    """Complete folders; most mistakes of SVHN are in digit 8."""
    mistakes = {"mnistm": round(500 * (1 - mnistm)), "svhn": round(500 * (1 - svhn))}
    wrong = set()
    for dataset, count in mistakes.items():
        order = [(d, i) for i in range(1, 51) for d in range(10) if d != 8]
        order = [*((8, i) for i in range(1, 16)), *order] if dataset == "svhn" else order
        wrong |= {f"{dataset}/{digit}_{i:03d}.png" for digit, i in order[:count]}

    def read(folder, name, size=None):
        digit = int(name[0])
        shown = (digit + 1) % 10 if f"{folder.name}/{name}" in wrong else digit
        return GradedImage(np.full((28, 28, 3), shown, np.uint8))

    with tempfile.TemporaryDirectory() as folder:
        for dataset in DATASETS:
            (Path(folder) / dataset).mkdir()
            for name in DIGITS.rules.names(dataset):
                (Path(folder) / dataset / name).touch()
        return grade_digits(Path(folder), {name: DigitJudge(name) for name in DATASETS}, DIGITS.rules, read=read)


@functools.cache
def faces_result(*errors: float) -> FacesResult:
    """Images 00.png, 01.png, .. of 20x20 pixels with these mean squared errors: below 1 many 0s and 1s, else even."""
    with tempfile.TemporaryDirectory() as folder:
        output, truth = Path(folder) / "output", Path(folder) / "truth"
        for part in (output, truth):
            part.mkdir()
        for number, error in enumerate(errors):
            values = np.full(1200, round(np.sqrt(error)), np.uint8)
            if error < 1:
                values = np.arange(1200) < round(1200 * error)
            Image.new("RGB", (20, 20)).save(truth / f"{number:02d}.png")
            Image.fromarray(values.astype(np.uint8).reshape(20, 20, 3)).save(output / f"{number:02d}.png")
        return grade_faces(output, truth, FACES.threshold)


@functools.cache
def concepts_result(*scores: tuple[float, float]) -> ConceptsResult:
    """One concept whose prompts reach these scores: five images around them, and twenty worse ones."""
    with tempfile.TemporaryDirectory() as folder:
        output, references = Path(folder) / "output", Path(folder) / "references"
        (references / "0").mkdir(parents=True)
        Image.new("RGB", (8, 8), (0, 0, 255)).save(references / "0" / "01.png")
        for index, (image, text) in enumerate(scores):
            (output / "0" / str(index)).mkdir(parents=True)
            for number in range(25):
                best = number >= 20
                colour = (2 * (image + number - 22), 2 * text, 0) if best else (2 * (image - 8), 2 * (text - 2), 0)
                name = f"source0_prompt{index}_{number:02d}.png"
                Image.new("RGB", (8, 8), tuple(map(round, colour))).save(output / "0" / str(index) / name)
        sentences = [SENTENCES[index % 2] for index in range(len(scores))]
        asked = {"0": Concept("dog", sentences, [THRESHOLD] * len(scores))}
        return grade_concepts(output, asked, references, ClipJudge(), CONCEPTS.rules)


# --- submissions


def stage_results() -> list[StageResult]:
    """How a submission's stages ended: some passed, some failed, one could not be done."""
    log = "Traceback (most recent call last):\n" + "\n".join(f"  line {i}" for i in range(40)) + "\nMemoryError"
    ended = "hw2_3.sh ended with exit status 1; its last line is: no weights."
    public, private = {"kind": "script", "part": Part.PUBLIC}, {"kind": "script", "part": Part.PRIVATE}
    return [
        StageResult("copy", "pass", "The submission was copied."),
        StageResult("fetch", "pass", "hw2_download_ckpt.sh ran to its end.", "downloading\ndone", 61.5),
        StageResult("freeze", "pass", "The submission was frozen."),
        StageResult(
            "hw2_1.sh", "pass", "hw2_1.sh ran to its end.", "100%|####| 50/50", 412.25, kind="script", problem=1
        ),
        StageResult("hw2_2.sh public", "pass", "hw2_2.sh ran to its end.", "", 96.0, problem=2, **public),
        StageResult(
            "hw2_2.sh private", "fail", "hw2_2.sh was stopped: it ran longer than 5 minutes.", "PRIVATE-LOG", 300.0,
            problem=2, **private,
        ),
        StageResult("hw2_3.sh public", "fail", ended, log, 12.0, 1, problem=3, **public),
        StageResult(
            "hw2_3.sh private", "error", "The grader could not check this: PRIVATE.", problem=3,
            traceback='Traceback (most recent call last):\n  File "run.py"\nOSError: PRIVATE disk is full', **private,
        ),
    ]  # fmt: skip


def ended(result: ProblemResult, stage: StageResult) -> ProblemResult:
    """The result with what its script's end says, as the grader sets it."""
    return replace(result, ended=stage.message if stage.status == "fail" else "")


def problem_results(homework: Homework = FALL2024) -> list[ProblemResult]:
    """Some of everything: passed, failed, not checked, private."""
    digits, faces, concepts = (homework.problem(number) for number in (1, 2, 3))
    stages = {stage.stage: stage for stage in stage_results()}
    failure = Check("run", "error", stages["hw2_3.sh private"].message)
    return [
        digits.result(digits_result()),
        faces.result(faces_result(0.25, 0.27), Part.PUBLIC),
        ended(faces.result(faces_result(676.0, 676.0), Part.PRIVATE), stages["hw2_2.sh private"]),
        ended(concepts.result(concepts_result((80.0, 36.0), (76.0, 34.5)), Part.PUBLIC), stages["hw2_3.sh public"]),
        concepts.unchecked(Part.PRIVATE, failure, "Traceback (most recent call last):\nValueError: PRIVATE value"),
    ]


def summed(result: SubmissionResult, lines: list[ScoreLine]) -> SubmissionResult:
    """The same submission with these lines, and with the totals that follow."""
    points, max_points, unchecked = total(lines)
    return replace(
        result, lines=lines, points=points, max_points=max_points, unchecked=unchecked, status=verdict(lines)
    )


def regraded(
    result: SubmissionResult,
    results: list[ProblemResult],
    homework: Homework = FALL2024,
    staff: StaffEntry = STAFF,
) -> SubmissionResult:
    """The same submission with other results of problems, and with the lines and totals that follow."""
    return summed(replace(result, results=results), score_lines(homework, results, staff))


def submission_result(name: str = "r12345678", homework: Homework = FALL2024) -> SubmissionResult:
    """Some of everything: passed, failed, not checked, private, deduced."""
    result = SubmissionResult(
        name, "error", 0, 0, 0, homework.name,
        stages=stage_results(),
        warnings=[Check("hw2_1.sh mnistm repeated", "warning", "mnistm: 12 of 500 images are copies of 2 pictures.")],
        record={
            "versions": {"python": "3.11.7", "torch": "2.10.0"},
            "data_sha256": {"problem_2_private/noise": "PRIVATE" * 4},
            "options": {"private": True},
            "times": {"started": 1700000000.0, "finished": 1700000900.0},
        },
    )  # fmt: skip
    staff = STAFF if homework.has_points else StaffEntry()
    return regraded(result, problem_results(homework), homework, staff)


def without_private(result: SubmissionResult) -> SubmissionResult:
    """A submission that was graded without private inputs."""
    stages = [stage for stage in result.stages if stage.part is not Part.PRIVATE]
    public = [each for each in result.results if each.part is not Part.PRIVATE]
    return regraded(replace(result, stages=stages), public)


def hostile_result() -> SubmissionResult:
    """The same with HOSTILE wherever a stranger has a word."""
    good = submission_result(HOSTILE_NAME)
    names = {f"{HOSTILE}{number:02d}.png": (60.0 + number, 30.0 + number / 2) for number in range(25)}
    score: PromptScore = score_prompt(names, THRESHOLD, CONCEPTS.rules, src_image=HOSTILE, prompt=HOSTILE)
    faces = faces_result(0.5)
    of_name = {HOSTILE: 0.5}
    results = [
        DIGITS.result(replace(digits_result(), checks=[Check(HOSTILE, "fail", HOSTILE)] * 9)),
        FACES.result(
            replace(faces, expected=[HOSTILE], mse_per_image=of_name, psnr_per_image=of_name, ssim_per_image=of_name),
            Part.PUBLIC,
        ),
        CONCEPTS.result(
            ConceptsResult("fail", 1, 1, {HOSTILE: score}, checks=[Check(HOSTILE, "warning", HOSTILE)]), Part.PUBLIC
        ),
        CONCEPTS.unchecked(Part.PRIVATE, Check(HOSTILE, "error", HOSTILE)),
    ]
    results = [replace(each, ended=HOSTILE, summary=HOSTILE, traceback=HOSTILE) for each in results]
    found = regraded(good, results)
    own = {"message": HOSTILE, "log": f"{HOSTILE}\n{HOSTILE}", "refused": [HOSTILE] * 7, "traceback": HOSTILE}
    return replace(
        found,
        lines=[replace(line, title=line.title + HOSTILE, message=HOSTILE) for line in found.lines],
        stages=[replace(stage, status="error" if stage.status == "error" else "fail", **own) for stage in good.stages],
        warnings=[Check(HOSTILE, "warning", HOSTILE)],
        record={HOSTILE: {HOSTILE: HOSTILE}},
    )


def noise(path: str) -> ImageU8:
    """Of the size that is asked for."""
    size = 28 if path.startswith("problem_1/") else 256
    seed = sum(path.encode(errors="replace"))
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def pictures_of(result: SubmissionResult) -> Pictures:
    """Noise in every frame."""
    return make_pictures(result, noise, lambda each, path: noise(f"{each.folder}/{path}"))
