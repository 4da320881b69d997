"""Submission results for tests of reports: one as good as any, one whose every text wants to break out."""

from dataclasses import replace

import numpy as np

from grading.core.arrays import ImageU8
from grading.core.results import (
    Check,
    ConceptsResult,
    DigitsResult,
    FacesResult,
    Judge,
    PromptScore,
    ScoreLine,
    StageResult,
    SubmissionResult,
)
from grading.reports.pictures import Pictures, make_pictures

HOSTILE = (
    "<script>document.title='stolen'</script><img src=/stolen.png onerror=alert(1)>"
    "\"'`&amp;</td></textarea></title>--> ]]> {{ 7*7 }} {% raw %}\n\r\t\x00\x1b[31mred\x1b[0m\x08\udcff\ud800\ufffe"
    "\u202egnp.exe\u202c\u200f\u2066 [bold]markup[/bold]"
)

HOSTILE_NAME = "=" + "".join(c for c in HOSTILE if c not in "/\0\ud800")
"""What a folder can be called; \\udcff stands for a byte that is no UTF-8."""

SENTENCE = "A corgi on a bench, the Colosseum behind."


def prompt_score(image: float, text: float, threshold: tuple[float, float] = (74.0, 35.0)) -> PromptScore:
    """25 images around the scores; the selected five have exactly these means."""
    images = {f"source0_prompt0_{i}.png": (image - 5 - i / 10, text - 2) for i in range(20)}
    best = {f"source0_prompt0_{20 + i}.png": (image + i - 2, text) for i in range(5)}
    passed = image >= threshold[0] and text >= threshold[1]
    return PromptScore(threshold, image, text, passed, list(best), images | best, "dog", SENTENCE)


def faces_result(errors: dict[str, float], threshold: float = 20.0) -> FacesResult:
    """With these errors, and one image that is missing."""
    mse = sum(errors.values()) / len(errors)
    status = "pass" if mse < threshold else "fail"
    return FacesResult(
        status,
        threshold,
        mse=mse,
        mse_per_image=errors,
        psnr_per_image=dict.fromkeys(errors, 50.0),
        ssim_per_image=dict.fromkeys(errors, 0.99),
        expected=sorted(errors),
        found=sorted(errors),
        checks=[Check("mse", status, f"The mean squared error over {len(errors)} images is {mse:.4f}.")],
    )


def digits_result(mnistm: float = 0.97, svhn: float = 0.91) -> DigitsResult:
    """Complete folders."""
    accuracy = (mnistm + svhn) / 2
    per_digit = {
        "mnistm": {str(d): mnistm for d in range(10)},
        "svhn": {str(d): 0.7 if d == 8 else svhn for d in range(10)},
    }
    return DigitsResult(
        "pass" if accuracy >= 0.9 else "fail",
        thresholds={"simple": 0.9, "strong": 0.95},
        accuracy=accuracy,
        accuracy_mnistm=mnistm,
        accuracy_svhn=svhn,
        correct={"mnistm": round(500 * mnistm), "svhn": round(500 * svhn)},
        total={"mnistm": 500, "svhn": 500},
        per_digit=per_digit,
        confusion={name: np.eye(10, dtype=int).tolist() for name in per_digit},
        wilson_95={"mnistm": (0.951, 0.982), "svhn": (0.882, 0.932)},
        judges={name: Judge(name, "embedded", f"{name}.safetensors", "ab" * 32) for name in per_digit},
        checks=[
            Check("simple baseline", "pass", f"The mean accuracy is {accuracy:.2%}; the simple baseline is 90.00%."),
            Check("strong baseline", "fail", f"The mean accuracy is {accuracy:.2%}; expected 95.00%."),
        ],
    )


def submission_result(name: str = "r12345678") -> SubmissionResult:
    """Some of everything: passed, failed, not checked, private, deduced."""
    lines = [
        ScoreLine("1 simple", "Problem 1, simple baseline", 10.0, 10.0, "pass", "The mean accuracy is 94.00%."),
        ScoreLine("1 strong", "Problem 1, strong baseline", 0.0, 5.0, "fail", "It is 94.00%; expected 95.00%."),
        ScoreLine("2 public", "Problem 2, public noises", 10.0, 10.0, "pass", "The mean squared error is 0.26."),
        ScoreLine("2 private", "Problem 2, private noises", 0.0, 10.0, "fail", "PRIVATE-MSE 681.", True),
        ScoreLine("3 public 0/0", "Problem 3, public prompt 0/0", 2.5, 2.5, "pass", "0/0 reaches 79 and 34."),
        ScoreLine("3 public 0/1", "Problem 3, public prompt 0/1", 0.0, 2.5, "fail", "0/1: expected 35."),
        ScoreLine(
            "3 private 0/0", "Problem 3, private prompt 0/0", None, 10 / 3, "error", "PRIVATE not checked.", True
        ),
        ScoreLine("report 1", "Report, problem 1", 12.0, 15.0, "pass", "Staff gave 12 of 15 points."),
        ScoreLine("late", "Late", -10.35, 0.0, "pass", "1 days late: 30% of 34.5 points are lost."),
    ]
    stages = [
        StageResult("copy", "pass", "The submission was copied."),
        StageResult("fetch", "pass", "hw2_download_ckpt.sh ran to its end.", "downloading\ndone", 61.5),
        StageResult("freeze", "pass", "The submission was frozen."),
        StageResult("hw2_1.sh", "pass", "hw2_1.sh ran to its end.", "100%|####| 50/50", 412.25),
        StageResult("hw2_2.sh public", "pass", "hw2_2.sh ran to its end.", "", 96.0),
        StageResult(
            "hw2_2.sh private", "fail", "hw2_2.sh was stopped: it ran longer than 5 minutes.", "PRIVATE-LOG", 300.0
        ),
        StageResult(
            "hw2_3.sh public",
            "fail",
            "hw2_3.sh ended with exit status 1; expected 0. Its last words may say why.",
            "Traceback (most recent call last):\n" + "\n".join(f"  line {i}" for i in range(40)) + "\nMemoryError",
            12.0,
            1,
        ),
        StageResult("hw2_3.sh private", "error", "The grader could not do its part: PRIVATE."),
    ]
    return SubmissionResult(
        name,
        "error",
        24.15,
        68.33,
        10 / 3,
        lines=lines,
        stages=stages,
        digits=digits_result(),
        faces={
            "public": faces_result({"00.png": 0.25, "01.png": 0.27}),
            "private": faces_result({"00.png": 680.0, "01.png": 682.0}),
        },
        concepts={
            "public": ConceptsResult(
                "fail",
                1,
                2,
                {"0/0": prompt_score(80.0, 36.0), "0/1": prompt_score(76.0, 34.5)},
                checks=[Check("0/1 score", "fail", "0/1: text score 34.5000; expected at least 74 and 35.")],
            ),
            "private": ConceptsResult("error", checks=[Check("score", "error", "PRIVATE could not be done.")]),
        },
        warnings=[Check("hw2_1.sh mnistm repeated", "warning", "mnistm: 12 of 500 images are one of 2 pictures.")],
        record={
            "versions": {"python": "3.11.7", "torch": "2.10.0"},
            "data_sha256": {"problem_2_private/noise": "PRIVATE" * 4},
            "options": {"private": True},
            "times": {"started": 1700000000.0, "finished": 1700000900.0},
        },
    )


def hostile_result() -> SubmissionResult:
    """The same with HOSTILE wherever a stranger has a word."""
    good = submission_result(HOSTILE_NAME)
    score = prompt_score(80.0, 36.0)
    names = {name: f"{HOSTILE}{name}" for name in score.images}
    score = replace(
        score,
        selected=[names[name] for name in score.selected],
        images={names[name]: pair for name, pair in score.images.items()},
        prompt=HOSTILE,
    )
    assert good.digits
    return replace(
        good,
        lines=[replace(line, title=line.title + HOSTILE, message=HOSTILE) for line in good.lines]
        + [ScoreLine(f"3 public {HOSTILE}", HOSTILE, 0.0, 2.5, "fail", HOSTILE)],
        stages=[
            replace(stage, message=HOSTILE, log=f"{HOSTILE}\n{HOSTILE}", refused=[HOSTILE] * 7) for stage in good.stages
        ],
        digits=replace(good.digits, checks=[Check(HOSTILE, "fail", HOSTILE)] * 9),
        faces={"public": faces_result({HOSTILE: 0.5})},
        concepts={
            "public": ConceptsResult("fail", 1, 1, {HOSTILE: score}, checks=[Check(HOSTILE, "warning", HOSTILE)])
        },
        warnings=[Check(HOSTILE, "warning", HOSTILE)],
        record={HOSTILE: {HOSTILE: HOSTILE}},
    )


def pictures_of(result: SubmissionResult) -> Pictures:
    """Noise, of the sizes that are asked for."""

    def read(path: str) -> ImageU8:
        size = 28 if path.startswith("problem_1") else 256
        seed = sum(path.encode(errors="replace"))
        return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)

    return make_pictures(result, read, lambda path: read(f"truth/{path}"))
