"""Problem 3: pictures of learned concepts, judged by CLIP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from grading.core.results import Card, Figure, Frame, Outcome, Part, ProblemResult
from grading.core.text import beside, counted, printable, shortened
from grading.problems.problem import Explanation, Input, Problem, Run, messages, plain
from grading.problems.prompt_scores import ConceptsResult, ConceptsRules, PromptScore, grade_concepts
from grading.problems.prompts import read_concepts


@dataclass(frozen=True, kw_only=True)
class Concepts(Problem):
    """Pictures of learned concepts, judged by CLIP."""

    rules: ConceptsRules

    name = "concepts"
    parts = (Part.PUBLIC, Part.PRIVATE)
    inputs = (
        Input("input.json", "textual_inversion/input.json"),
        Input("model.ckpt", "model.ckpt", shared=True, option="stable_diffusion"),
    )
    judges = ("clip",)
    references = "textual_inversion"
    png_only = False
    unknown = (("", "prompts"),)

    def part_title(self, part: Part) -> str:
        """See `Problem`."""
        return "" if part is Part.WHOLE else f", {part} prompts"

    def score(self, run: Run) -> ProblemResult:
        """See `Problem`. If the private data has no references, those of the public concepts are used."""
        asked = read_concepts(run.inputs["input.json"])
        own = run.data / self.references
        references = own if any(path.is_dir() for path in own.iterdir()) else run.public / self.references
        graded = grade_concepts(
            run.output, asked, references, run.judges["clip"], self.rules, run.images.read_image, run.refused
        )
        return self.result(graded, run.part)

    def result(self, graded: ConceptsResult, part: Part) -> ProblemResult:
        """The result for reports."""
        summary = ""
        if graded.prompts:
            reach = "reaches" if graded.total == 1 else "reach"
            shown = f"The {self.rules.selected} selected images of each prompt are shown, the best first."
            summary = f"{graded.passed} of {counted(graded.total, 'prompt')} {reach} both baselines. {shown}"
        return ProblemResult(
            self.number, part, self.name, self.title(part), graded.status, summary=summary,
            figures=list(_figures(graded)),
            outcomes=[_outcome(graded, key, score) for key, score in graded.prompts.items()],
            cards=[_card(key, score) for key, score in graded.prompts.items()], checks=graded.checks,
            judges=[graded.judge] if graded.judge else [], details=plain(graded),
            complete=all(len(score.images) >= self.rules.images for score in graded.prompts.values()),
        )  # fmt: skip

    def explanations(self) -> Iterable[Explanation]:
        """See `Problem`."""
        return explanations(self)


LONGEST_TITLE = 60
"""Characters of a prompt in the title of its line."""


def _outcome(graded: ConceptsResult, key: str, score: PromptScore) -> Outcome:
    own = [check for check in graded.checks if check.name.startswith((f"{key} ", f"{key}/"))]
    title = f"prompt “{printable(shortened(score.prompt, LONGEST_TITLE))}”"
    return Outcome(key, title, score.passed, messages(own, "pass"), messages(own, "fail"))


def _figures(graded: ConceptsResult) -> Iterable[Figure]:
    yield Figure(
        "passed", "prompts passed", float(graded.passed), decimals=0, baseline=float(graded.total),
        leaderboard="Prompts passed",
    )  # fmt: skip
    for key, score in graded.prompts.items():
        row = f"{printable(key)} {printable(score.prompt)}"
        for column, value, limit in (
            ("image score", score.clip_image_score, score.threshold[0]),
            ("text score", score.clip_text_score, score.threshold[1]),
        ):
            yield Figure(
                f"clip_{column}".replace(" ", "_"), f"{column} of {printable(key)}", value, baseline=limit,
                table="prompt", row=row, column=column,
            )  # fmt: skip


def _card(key: str, score: PromptScore) -> Card:
    """The selected images of a prompt, the best first."""
    note = "too few images could be scored"
    if score.clip_image_score is not None and score.clip_text_score is not None:
        note = (
            f"image {beside(score.clip_image_score, score.threshold[:1], 2)} (needs {score.threshold[0]:g}) · "
            f"text {beside(score.clip_text_score, score.threshold[1:], 2)} (needs {score.threshold[1]:g})"
        )
    frames = []
    for name in reversed(score.selected):
        image, text = score.images[name]
        alt = (
            f"{printable(name)}, drawn for “{printable(score.prompt)}”: image score {image:.2f}, text score {text:.2f}"
        )
        frames.append(Frame(alt, ((f"{key}/{name}",),), caption=f"{image:.1f} · {text:.1f}", size=224))
    title = f"{printable(key)} {printable(score.prompt)}"
    return Card(title, note, "pass" if score.passed else "fail", tuple(frames))


def explanations(problem: Concepts) -> Iterable[Explanation]:
    """How the lines and figures of Problem 3 are computed."""
    number, rules = problem.number, problem.rules
    prompt = (
        f"A prompt's folder must hold exactly {rules.images} images. CLIP gives each an image score and a text score. "
        f"The {rules.selected} images with the largest image + {rules.text_weight:g} * text are selected; of equal "
        "ones the later name. The mean image score and the mean text score of the selected images must both reach the "
        "baseline in input.json. The scores are not rounded for this, so a printed 70.00 can still miss 70."
    )
    source = f"{problem.source}; grade_hw2_3.py; baselines: input.json."
    for part, example in (("public", "0/1 is the second prompt of concept 0. "), ("private", "")):
        points = ""
        if problem.points:
            points = (
                f"The {part} prompts give {problem.points[part]:g} points in all, in equal parts for each prompt that "
                f"passes. {'Of the official four prompts, each has 2.5. ' if part == 'public' else ''}"
            )
        name = f"{number} {part} 0/1"
        yield Explanation(name, rf"{number} {part}( .+)?", f"{points}{example}{prompt}", source)
    yield Explanation(
        "clip_image_score",
        r"clip[ _]image[ _]score|image score",
        "The score of one image is 100 * the cosine of its CLIP features and those of a reference picture, averaged "
        f"over all reference pictures of its concept. The score of a prompt is the mean of its {rules.selected} "
        "selected images. The model is openai/clip-vit-base-patch32.",
        "clip_image_score.py and grade_hw2_3.py.",
    )
    yield Explanation(
        "clip_text_score",
        r"clip[ _]text[ _]score|text score",
        "The score of one image is exp(logit_scale), about 100, * cosine of its CLIP features and those of the "
        f"sentence in prompt_4_clip_eval. The score of a prompt is the mean of its {rules.selected} selected images. "
        "The model is openai/clip-vit-base-patch32.",
        "clip_text_score.py and grade_hw2_3.py.",
    )
    yield Explanation(
        "passed", r"(prompts )?passed", "The number of prompts that reach both baselines. See clip_image_score.", source
    )
    yield Explanation(
        "selected",
        r"selected|best five",
        f"The {rules.selected} of a prompt's {rules.images} images with the largest image score + "
        f"{rules.text_weight:g} * text score are selected; of equal ones the later name. Only they are averaged.",
        "grade_hw2_3.py.",
    )
