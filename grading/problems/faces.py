"""Problem 2: a folder of faces and its ground truth -> the official mean squared error."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Check, FacesResult
from grading.core.spec import FACES_THRESHOLD
from grading.core.text import printable
from grading.files.images import ImageRefused, PngReader, read_png
from grading.files.layout import check_layout, png_names
from grading.problems.metrics import mse, psnr, ssim


def grade_faces(
    output: Path, ground_truth: Path, threshold: float = FACES_THRESHOLD, read: PngReader = read_png
) -> FacesResult:
    """Score `output/NAME.png` against every `ground_truth/NAME.png`.

    Passes if every expected image is there and readable and the mean over images of the mean squared error is below
    `threshold` (slides p12). An image that is missing or refused fails its own check and is left out of the mean.
    read: what reads the output.
    Raises GradingError if the ground truth is missing, empty or unreadable, or threshold is not a positive number.
    """
    if not threshold > 0 or threshold == float("inf"):
        raise GradingError(f"the threshold is {threshold:g}; expected a positive number")
    references = _read_ground_truth(ground_truth)
    if output.exists() and not output.is_dir():
        raise GradingError(f"{printable(str(output))} is a file; expected the folder with the faces")
    try:
        layout = check_layout(output, references)
    except OSError as error:
        raise GradingError(f"{printable(str(output))} cannot be listed ({error.strerror}); check its rights") from None

    checks = []
    if not output.exists():
        checks.append(Check("folder", "fail", f"The folder {printable(str(output))} does not exist."))
    errors: dict[str, float] = {}
    psnrs: dict[str, float | None] = {}
    ssims: dict[str, float | None] = {}
    for name in layout.expected:
        if name in layout.missing:
            checks.append(Check(name, "fail", f"{printable(name)} is missing."))
            continue
        reference = references[name]
        try:
            image = read(output, name, size=(reference.shape[1], reference.shape[0]))
        except ImageRefused as refusal:
            checks.append(Check(name, "fail", f"{printable(name)} {printable(str(refusal))}."))
            continue
        if image.note:
            checks.append(Check(name, "warning", f"{printable(name)} {image.note}."))
        errors[name] = mse(image.pixels_u8, reference)
        psnrs[name] = psnr(image.pixels_u8, reference)
        ssims[name] = ssim(image.pixels_u8, reference)
    if layout.unexpected:
        names = ", ".join(printable(name) for name in layout.unexpected[:5])
        more = f" and {len(layout.unexpected) - 5} more" if len(layout.unexpected) > 5 else ""
        checks.append(Check("unexpected", "warning", f"Not asked for, and ignored: {names}{more}."))

    score = fmean(errors.values()) if errors else None
    checks.append(_score_check(score, threshold, len(errors), len(layout.expected)))
    known_psnrs = [value for value in psnrs.values() if value is not None]
    known_ssims = [value for value in ssims.values() if value is not None]
    return FacesResult(
        status="fail" if any(check.status == "fail" for check in checks) else "pass",
        threshold=threshold,
        mse=score,
        mse_per_image=errors,
        psnr=fmean(known_psnrs) if known_psnrs else None,
        psnr_per_image=psnrs,
        ssim=fmean(known_ssims) if known_ssims else None,
        ssim_per_image=ssims,
        expected=layout.expected,
        found=layout.found,
        missing=layout.missing,
        unexpected=layout.unexpected,
        checks=checks,
    )


def _score_check(score: float | None, threshold: float, scored: int, expected: int) -> Check:
    if score is None:
        return Check("mse", "fail", "No image could be scored.")
    over = f"over {scored} of {expected} images" if scored < expected else f"over {expected} images"
    if score < threshold:
        return Check("mse", "pass", f"The mean squared error {over} is {score:.4f}, below {threshold:g}.")
    return Check("mse", "fail", f"The mean squared error {over} is {score:.4f}; expected less than {threshold:g}.")


def _read_ground_truth(folder: Path) -> dict[str, ImageU8]:
    shown = printable(str(folder))
    try:
        names = png_names(folder)
    except OSError as error:
        raise GradingError(f"the ground truth folder {shown} cannot be listed ({error.strerror})") from None
    if not names:
        raise GradingError(f"the ground truth folder {shown} holds no PNG images; expected 00.png, 01.png, ..")
    references = {}
    for name in names:
        try:
            path = (folder / name).resolve()  # staff may link to their ground truth
            references[name] = read_png(path.parent, path.name).pixels_u8
        except RuntimeError:
            raise GradingError(f"the ground truth {printable(str(folder / name))} is a link to itself") from None
        except ImageRefused as refusal:
            raise GradingError(f"the ground truth {printable(str(folder / name))} {printable(str(refusal))}") from None
    return references
