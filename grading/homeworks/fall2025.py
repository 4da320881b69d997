"""DLCV Fall 2025, homework 2, as far as it is known from public solutions and its grading script.

Points, baselines and time limits are not known. Scores are reported without points. The time limits are ours.
"""

from dataclasses import replace

from grading.homeworks.fall2024 import DIGITS as DIGITS_2024
from grading.homeworks.fall2024 import FACES as FACES_2024
from grading.homeworks.homework import Homework
from grading.problems.control import Control
from grading.problems.digit_scores import DigitsRules

SOURCE = "public solutions of Fall 2025; the time limit is ours, as in Fall 2024"

DIGITS = replace(
    DIGITS_2024,  # the script, time limit and digit_classifier.py are the same
    rules=DigitsRules(digits={"mnistm": range(0, 10, 2), "svhn": range(1, 10, 2)}, per_digit=50),
    points={},
    source=SOURCE,
)

FACES = replace(FACES_2024, threshold=None, points={}, source=SOURCE)  # the same task, noises and network

CONTROL = Control(
    number=3,
    arguments=("/data/prompt.json", "/data/source", "/output", "/data/model.ckpt"),  # hw2_3.sh
    seconds=900.0,  # ours, taken from Problem 3 in Fall 2024
    best=10,  # grade_hw2_3.py of Fall 2025
    source=SOURCE,
)

FALL2025 = Homework(
    name="fall2025",
    title="DLCV Fall 2025, homework 2",
    problems=(DIGITS, FACES, CONTROL),
    note="Scores are reported without points, because the points and baselines of Fall 2025 are not known.",
)
