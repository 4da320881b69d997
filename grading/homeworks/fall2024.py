"""The official numbers of DLCV Fall 2024, homework 2, with their sources. "slides" are those of hw2_intro.pdf."""

from grading.homeworks.homework import Homework
from grading.problems.concepts import Concepts
from grading.problems.digit_scores import DATASETS, DigitsRules
from grading.problems.digits import Digits
from grading.problems.faces import Faces
from grading.problems.prompt_scores import ConceptsRules

DIGITS = Digits(
    number=1,
    arguments=("/output",),  # slides p35
    seconds=900.0,  # slides p35
    rules=DigitsRules(
        digits=dict.fromkeys(DATASETS, range(10)),
        per_digit=50,  # {digit}_{001..050}.png, slides p35
        simple=0.90,  # of the mean of the two accuracies, slides p8
        strong=0.95,
    ),
    source="slides p8 (points, baselines) and p35-38 (files, time limit)",
    points={"simple": 10.0, "strong": 5.0},  # slides p8
)

FACES = Faces(
    number=2,
    arguments=("/data/noise", "/output", "/data/UNet.pt"),  # slides p36
    seconds=300.0,  # slides p36
    source="slides p12 (points, threshold) and p35-38 (files, time limit)",
    threshold=20.0,  # the mean squared error of 0-255 values must be below it, slides p12
    points={"public": 10.0, "private": 10.0},  # slides p12
)

CONCEPTS = Concepts(
    number=3,
    arguments=("/data/input.json", "/output", "/data/model.ckpt"),  # slides p37
    seconds=900.0,  # slides p37
    rules=ConceptsRules(
        images=25,  # slides p37, clip_image_score.py
        extensions=(".png", ".jpg", ".jpeg", ".bmp", ".gif"),  # clip_image_score.py
        selected=5,  # grade_hw2_3.py
        text_weight=2.5,  # grade_hw2_3.py
    ),
    source="slides p35-38 (files, time limit)",
    points={"public": 10.0, "private": 10.0},  # 2.5 for each of the four public prompts, 20 in all
)

FALL2024 = Homework(
    name="fall2024",
    title="DLCV Fall 2024, homework 2",
    problems=(DIGITS, FACES, CONCEPTS),
    report={1: 15.0, 2: 15.0, 3: 15.0},
    staff_fixed_share=0.30,  # slides p44-45
    late_share_per_day=0.30,  # slides p44-45
    free_days=3,  # of a term, slides p44-45
)
