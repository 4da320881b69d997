"""Parts with invented numbers, each different, for tests of the page."""

import dataclasses
import itertools
import random
from typing import get_args, get_origin, get_type_hints

import numpy as np

from hw2.report.part import Made, _divided
from hw2.report.parts import PARTS

LENGTH = 12
ROWS = {
    "digits_network": {"parts": [["stem", "Conv2d", "4 × 4", 123, 4.5]]},
    "digits_recipes": {"choices": [["num_steps", "1", "2"]]},
    "faces_variants": {"worst_name": "no_clamp", "mse": {"homework": 0.25, "no_clamp": 812.75}},
    "clip_templates": {
        "best": "mean",
        "worst": "openai80",
        "names": ["mean", "{object}"],
        "accuracy": [0.3, 0.7],
        "interval": [[0.2, 0.4], [0.6, 0.8]],
    },
    "pair": {"counts": [[30, 15, 5, 20, 10], [20, 10, 20, 12, 8], [1, 6, 1, 1, 0]]},
    "words": {"prompts": ["a <new1>"], "image_scores": [[60.5, 70.25]], "text_scores": [[21.5, 22.75]]},
}


def made(part, seed=0):
    rng = random.Random(f"{part.name}{seed}")
    names = itertools.count()

    def invented(kind):
        if get_origin(kind) is list:
            return [invented(get_args(kind)[0]) for _ in range(LENGTH)]
        if kind is float:
            return rng.uniform(0.01, 0.99) * 10 ** rng.randint(0, 3)
        if kind is int:
            return rng.randint(2, 10**5)
        if kind is bool:
            return True
        if kind is str:
            return f"name {next(names)}"
        return np.zeros(1)

    fields = {f.name: get_type_hints(part.kind)[f.name] for f in dataclasses.fields(part.kind)}
    values = {name: invented(kind) for name, kind in fields.items()} | ROWS.get(part.name, {})
    data = part.kind(**values)
    return Made(part, data, _divided(data)[1], 1.5, {})


def all_made(seed=0):
    return [made(part, seed) for part in PARTS]
