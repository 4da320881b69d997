"""All parts of the report, in the order of the page."""

from __future__ import annotations

from hw2.faces.figures import ALPHAS
from hw2.report import concepts, concepts_drawn, digits, digits_drawn, faces, faces_drawn, pair, settings, training
from hw2.report.part import Part

PARTS = (
    Part(
        "digits_network", 1, digits.Network, digits.network, rows=digits.network_rows,
        formats=["", "", ",", ".1f"], command="hw2 digits info",
    ),
    Part("digits_recipes", 1, digits.Recipes, digits.recipes, rows=digits.recipe_rows, formats=["", ""]),
    Part(
        "digits_curves", 1, training.DigitCurves, training.digit_curves, draw=digits_drawn.draw_curves,
        given=lambda inputs: inputs.digit_log is not None,
    ),
    Part(
        "digits_grids", 1, digits.Grids, digits.grids, lambda inputs: 200 * digits.NUM_STEPS, digits_drawn.draw_grids,
        command="hw2 digits grid --checkpoint {digits} --output grid.png",
    ),
    Part(
        "digits_reverse", 1, digits.Reverse, digits.reverse, lambda inputs: 2000, digits_drawn.draw_reverse,
        command="hw2 digits reverse --checkpoint {digits} --output reverse.png",
    ),
    Part(
        "digits_guidance", 1, settings.Guidance, settings.guidance, settings.guidance_steps, digits_drawn.draw_guidance,
    ),
    Part("digits_solvers", 1, settings.Solvers, settings.solvers, settings.solver_steps, digits_drawn.draw_solvers),
    Part(
        "digits_nearest", 1, training.Nearest, training.nearest_images, training.nearest_steps,
        digits_drawn.draw_nearest, given=lambda inputs: bool(inputs.training_tables),
    ),
    Part(
        "faces_eta", 2, faces.EtaGrid, faces.eta_grid, faces.eta_steps, faces_drawn.draw_eta,
        command="hw2 faces eta-grid --noise {data}/face/noise --checkpoint {unet} --output eta.png",
    ),
    Part(
        "faces_paths", 2, faces.Paths, faces.near_paths, faces.path_steps(ALPHAS), faces_drawn.draw_paths,
        command="hw2 faces interpolate --noise {data}/face/noise --checkpoint {unet} --output paths.png",
    ),
    Part("faces_far", 2, faces.Paths, faces.far_paths, faces.path_steps(faces.FAR_ALPHAS), faces_drawn.draw_paths),
    Part(
        "faces_variants", 2, faces.Variants, faces.variants, faces.variant_steps,
        rows=faces.variant_rows, formats=[".2f"],
    ),
    Part("clip_case", 3, concepts.Case, concepts.case, draw=concepts_drawn.draw_case),
    Part(
        "clip_templates", 3, concepts.Templates, concepts.templates, lambda inputs: len(concepts.TEMPLATES) + 2,
        concepts_drawn.draw_templates, rows=concepts.template_rows, formats=[".1%", ".1%", ".1%"],
    ),
    Part(
        "clip_cases", 3, concepts.Cases, concepts.cases, draw=concepts_drawn.draw_cases,
        command="hw2 concepts zero-shot --images {data}/clip_zeroshot/val --labels {data}/clip_zeroshot/id2label.json "
        "--output zero_shot",
    ),
    Part(
        "words", 3, concepts.Words, concepts.words, concepts.word_steps, concepts_drawn.draw_words,
        rows=concepts.word_rows, formats=[".1f", ".1f", ".1f", ".1f"],
    ),
    Part(
        "word_curves", 3, training.WordCurves, training.word_curves, draw=concepts_drawn.draw_word_curves,
        given=lambda inputs: inputs.word_log is not None,
    ),
    Part(
        "pair", 3, pair.Pair, pair.pair, pair.pair_steps, concepts_drawn.draw_pair, rows=pair.pair_rows,
        formats=["", "", "", "", "", ""],
    ),
)  # fmt: skip

PROBLEMS = (1, 2, 3)


def parts_of(problems: tuple[int, ...]) -> list[Part]:
    """The parts of these problems."""
    return [part for part in PARTS if part.problem in problems]
