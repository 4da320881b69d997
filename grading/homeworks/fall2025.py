"""DLCV Fall 2025, homework 2, as far as public solutions and its grading script tell.

Points, baselines and time limits are not known. Scores are reported; the time limits are ours.
"""

from dataclasses import replace

from grading.homeworks.fall2024 import DIGITS as DIGITS_2024
from grading.homeworks.fall2024 import FACES as FACES_2024
from grading.homeworks.homework import Homework
from grading.problems.control import Control
from grading.problems.digit_scores import DigitsRules

SOURCE = "public solutions of Fall 2025; the time limit is ours, as in Fall 2024"

DIGITS = replace(
    DIGITS_2024,  # script, time limit and classifiers; digit_classifier.py is the same, byte for byte
    rules=DigitsRules(digits={"mnistm": range(0, 10, 2), "svhn": range(1, 10, 2)}, per_digit=50),
    points={},
    source=SOURCE,
)

FACES = replace(FACES_2024, threshold=None, points={}, source=SOURCE)  # the same task, noises and network

CONTROL = Control(
    number=3,
    arguments=("/data/prompt.json", "/data/source", "/output", "/data/model.ckpt"),  # hw2_3.sh
    seconds=900.0,  # ours, that of Problem 3 in Fall 2024
    best=10,  # grade_hw2_3.py of Fall 2025
    source=SOURCE,
)

FALL2025 = Homework(
    name="fall2025",
    title="DLCV Fall 2025, homework 2",
    problems=(DIGITS, FACES, CONTROL),
    note="Scores are reported without points: the points and baselines of Fall 2025 are not known.",
)
