"""How each number is computed and where its rule comes from, in a few sentences."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from grading.core.errors import GradingError
from grading.core.spec import (
    CLIP_MODEL,
    CONCEPTS_POINTS,
    DIGITS_PER_CLASS,
    DIGITS_SIMPLE,
    DIGITS_SIMPLE_POINTS,
    DIGITS_STRONG,
    DIGITS_STRONG_POINTS,
    FACES_POINTS,
    FACES_THRESHOLD,
    IMAGES_PER_PROMPT,
    LATE_SHARE_PER_DAY,
    PROMPT_POINTS,
    REPORT_POINTS,
    SELECTED,
    STAFF_FIXED_SHARE,
    TEXT_WEIGHT,
)
from grading.core.text import printable


@dataclass(frozen=True)
class Explanation:
    """name: as people type it. pattern: a regular expression for all the names that it explains, in small letters.

    text: what it is and how it is computed. source: where the rule comes from.
    """

    name: str
    pattern: str
    text: str
    source: str


_PROMPT = (
    f"A prompt's folder must hold exactly {IMAGES_PER_PROMPT} images. Each gets an image score and a text score from "
    f"CLIP; the {SELECTED} with the largest image + {TEXT_WEIGHT:g} * text are taken (of equal ones the later name). "
    "The mean image score and the mean text score of those must both reach the prompt's baseline in input.json, "
    "compared before they are rounded: a printed 70.00 can still miss 70."
)
_PROMPT_SOURCE = "slides p37 and grade_hw2_3.py; baselines: input.json."

_DIGITS = (
    "The classifier of the data set looks at every image (28x28, values scaled to -1..1); the label is the first "
    f"character of the file's name. Accuracy = right answers / images. {20 * DIGITS_PER_CLASS} images are asked for, "
    f"{{digit}}_{{001..{DIGITS_PER_CLASS:03d}}}.png in mnistm/ and in svhn/"
)

EXPLANATIONS = (
    Explanation(
        "1 simple",
        r"1 simple|simple baseline",
        f"{DIGITS_SIMPLE_POINTS:g} points if the plain mean of the MNIST-M and the SVHN accuracy is at least "
        f"{DIGITS_SIMPLE:.2%}. All 1000 images must be there and readable, and no more than those.",
        "slides p8 (points, baseline) and p35 (files); digit_classifier.py (accuracy).",
    ),
    Explanation(
        "1 strong",
        r"1 strong|strong baseline",
        f"{DIGITS_STRONG_POINTS:g} more points if the plain mean of the MNIST-M and the SVHN accuracy is at least "
        f"{DIGITS_STRONG:.2%}. All 1000 images must be there and readable, and no more than those.",
        "slides p8 (points, baseline) and p35 (files); digit_classifier.py (accuracy).",
    ),
    Explanation(
        "2 public",
        r"2 public",
        f"{FACES_POINTS:g} points if the mean squared error of the faces made from the public noises is below "
        f"{FACES_THRESHOLD:g}; see mse. There must be one readable image for each noise, of its ground truth's size.",
        "slides p12 (points, threshold) and p35-38 (files).",
    ),
    Explanation(
        "2 private",
        r"2 private",
        f"{FACES_POINTS:g} points if the mean squared error of the faces made from noises that nobody knows is below "
        f"{FACES_THRESHOLD:g}; see mse. Names of images follow from those of the noises that the script is given.",
        "slides p12 (points, threshold) and p35-38 (files).",
    ),
    Explanation(
        "3 public 0/1",
        r"3 public( .+)?",
        f"{PROMPT_POINTS:g} points for each public prompt that passes; 0/1 is concept 0, second prompt. {_PROMPT}",
        _PROMPT_SOURCE,
    ),
    Explanation(
        "3 private 0/1",
        r"3 private( .+)?",
        f"What the public prompts leave of Problem 3's {CONCEPTS_POINTS:g} points, in equal parts for each private "
        f"prompt that passes. {_PROMPT}",
        _PROMPT_SOURCE,
    ),
    Explanation(
        "report 1",
        r"report( [123])?",
        f"Up to {REPORT_POINTS:g} points for a problem's part of the written report, given by staff who read it; "
        "nothing is computed.",
        "the slides' points of each problem; staff's table.",
    ),
    Explanation(
        "staff fixed",
        r"staff[ _]fixed",
        f"If staff had to mend the code to run it, {STAFF_FIXED_SHARE:.0%} of the performance points (Problems 1 to 3 "
        "without the report) are taken off.",
        "slides p44-45; staff's table.",
    ),
    Explanation(
        "late",
        r"late|late[ _]days",
        f"{LATE_SHARE_PER_DAY:.0%} of all points are taken off for each day late beyond the three free days of a "
        f"term: points * min({LATE_SHARE_PER_DAY:g} * days, 1), after what is lost because staff mended the code.",
        "slides p44-45; staff's table.",
    ),
    Explanation(
        "accuracy",
        r"(digits )?accuracy",
        "Problem 1's score: the plain mean of the MNIST-M and the SVHN accuracy, (accuracy_mnistm + accuracy_svhn) / "
        "2, however many images each has.",
        "slides p8; digit_classifier.py.",
    ),
    Explanation(
        "accuracy_mnistm",
        r"accuracy[ _]mnistm|mnistm",
        f"{_DIGITS}. The judge is the course's small convolutional network, Classifier.pth.",
        "digit_classifier.py; slides p35 (files).",
    ),
    Explanation(
        "accuracy_svhn",
        r"accuracy[ _]svhn|svhn",
        f"{_DIGITS}. The judge is resnet34_svhn of the package detectors, fed with 28x28 images as the official "
        "script does, although it was trained at 32x32.",
        "digit_classifier.py; slides p35 (files).",
    ),
    Explanation(
        "confusion",
        r"confusion|per_digit|digit \d",
        "How many images of each digit (rows) the classifier takes for which digit (columns). The diagonal's share "
        "of a row is that digit's accuracy. For information: it gives no points.",
        "ours, from the same answers as accuracy.",
    ),
    Explanation(
        "wilson_95",
        r"wilson(_95)?|95 % interval|interval",
        "The range in which the accuracy would lie with 95 % confidence if images were drawn again: Wilson's score "
        "interval of right answers among all. For information: it gives no points.",
        "Wilson 1927, JASA 22; ours.",
    ),
    Explanation(
        "realism",
        r"realism|diversity(_real)?|frechet[ _]distance|nearest(_rms(_real)?)?",
        "How digits compare with each other and with real ones in the classifier's features: mean distance of two "
        "images of a digit, Frechet distance, and the root mean squared difference to the nearest real image. For "
        "information: they give no points.",
        "ours; Frechet distance: Heusel et al. 2017, equation 6.",
    ),
    Explanation(
        "mse",
        r"mse|faces mse|psnr|ssim",
        "The mean over pixels and channels of (output - ground truth)^2, of 0-255 values of the PNG files in "
        "float64, averaged over the images. PSNR, 10 * log10(255^2 / mse), and SSIM are for information: they give "
        "no points.",
        f"slides p12 (must be below {FACES_THRESHOLD:g}); no official script was published.",
    ),
    Explanation(
        "clip_image_score",
        r"clip[ _]image[ _]score|image score",
        "Of one image: the mean over all reference pictures of its concept of 100 * cosine of the two pictures' CLIP "
        f"features. Of a prompt: the mean of its {SELECTED} selected images. Model: {CLIP_MODEL}.",
        "clip_image_score.py and grade_hw2_3.py.",
    ),
    Explanation(
        "clip_text_score",
        r"clip[ _]text[ _]score|text score",
        "Of one image: exp(logit_scale), about 100, * cosine of its CLIP features and those of the sentence in "
        f"prompt_4_clip_eval. Of a prompt: the mean of its {SELECTED} selected images. Model: {CLIP_MODEL}.",
        "clip_text_score.py and grade_hw2_3.py.",
    ),
    Explanation(
        "selected",
        r"selected|best five",
        f"The {SELECTED} of a prompt's {IMAGES_PER_PROMPT} images with the largest image score + {TEXT_WEIGHT:g} * "
        "text score; of equal ones the later name. Only they count.",
        "grade_hw2_3.py.",
    ),
    Explanation(
        "zero-shot",
        r"zero[- _]?shot",
        "CLIP classifies pictures that it was not trained for: the class whose sentence is nearest to the picture. "
        "The share of right answers is recomputed from predictions and file names, {class_id}_{image_id}.png. It "
        "belongs to the report and gives no points of its own. Usual: 56.48 % with “A photo of {object}.”",
        "slides (Problem 3, report); 56.48 %: two published reports.",
    ),
    Explanation(
        "copy",
        r"copy|collect",
        "The submission is copied, and everything runs in the copy. Pipes, sockets, devices and names that could "
        "lead elsewhere are left behind and named.",
        "ours.",
    ),
    Explanation(
        "fetch",
        r"fetch|hw2_download_ckpt\.sh|download",
        "If there is a hw2_download_ckpt.sh, it runs first, and it alone has the network. Nothing is lost if there "
        "is none.",
        "slides p35-38; the limit of an hour is ours.",
    ),
    Explanation(
        "freeze",
        r"freeze",
        "What is there after the download is recorded; from then on scripts can read the submission and not change "
        "it.",
        "ours.",
    ),
    Explanation(
        "hw2_1.sh",
        r"hw2_1\.sh",
        "The script of Problem 1 gets the output folder, runs without network, and has 15 minutes. What it wrote "
        "counts even if it was stopped or failed afterwards.",
        "slides p35-38.",
    ),
    Explanation(
        "hw2_2.sh public",
        r"hw2_2\.sh( public| private)?",
        "The script of Problem 2 gets the folder of noises, the output folder and UNet.pt, runs without network, and "
        "has 5 minutes. What it wrote counts even if it was stopped or failed afterwards.",
        "slides p35-38.",
    ),
    Explanation(
        "hw2_3.sh public",
        r"hw2_3\.sh( public| private)?",
        "The script of Problem 3 gets input.json, the output folder and the Stable Diffusion model.ckpt, runs "
        "without network, and has 15 minutes. What it wrote counts even if it was stopped or failed afterwards.",
        "slides p35-38.",
    ),
    Explanation(
        "twice",
        r"twice|hw2_[123]\.sh( public| private)? twice|seeds?",
        "A script is run a second time with the same inputs; both runs must leave the same files, byte for byte, as "
        "seeds must be fixed. If they differ, staff are warned; no points hang on it.",
        "slides p35-38 (seeds are fixed).",
    ),
    Explanation(
        "limits",
        r"limits?|memory|processes|space|file size|seconds|time",
        "A script is stopped when it goes beyond its time (15, 5 and 15 minutes), its memory, its number of "
        "processes, or what it may write. The run's sentence names the limit; what was written before counts.",
        "slides p35-38 (time); the other limits are ours.",
    ),
    Explanation(
        "warnings",
        r"warnings?|repeated|near-duplicates|copied( pictures)?|truth|too fast",
        "Signs that images may not have been made as they should: many equal ones, equal ones for different digits, "
        "outputs that came with the submission, ground truth in it, or a run that was faster than a network can be. "
        "They are for staff, cost nothing and prove nothing.",
        "ours.",
    ),
    Explanation(
        "could not check",
        r"could not( be)? check(ed)?|unchecked|error",
        "The grader could not do its part, for example because a file of staff's is missing. Such points are not "
        "zero and not in the total; staff must grade again.",
        "ours.",
    ),
)  # fmt: skip


def explain(name: str) -> str:
    """A few sentences on a line, figure, stage or check. Raises GradingError for a name that nothing has."""
    wanted = " ".join(name.lower().split())
    for explanation in EXPLANATIONS:
        if re.fullmatch(explanation.pattern, wanted):
            return f"{explanation.name}: {explanation.text}\nSource: {explanation.source}"
    known = [explanation.name for explanation in EXPLANATIONS]
    close = difflib.get_close_matches(wanted, known, n=3)
    hint = f"perhaps {' or '.join(close)}; all are: " if close else ""
    raise GradingError(f"nothing is called {printable(name)!s:.80}; expected {hint}{', '.join(known)}")
