"""All parts of the report, in the order of the page."""

from __future__ import annotations

from hw2.faces.figures import ALPHAS
from hw2.report import faces, faces_drawn
from hw2.report.part import Part

PARTS = (
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
)  # fmt: skip

PROBLEMS = (1, 2, 3)


def parts_of(problems: tuple[int, ...]) -> list[Part]:
    """The parts of these problems."""
    return [part for part in PARTS if part.problem in problems]
