"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from grading.core.results import (
    Check,
    ConceptsResult,
    DigitsResult,
    FacesResult,
    ScoreLine,
    StageResult,
    SubmissionResult,
    ZeroShotResult,
)
from grading.core.text import printable
from grading.reports.visibility import OUTCOMES, is_deduction, log_tail, shown_points, shown_seconds, unchecked_sentence

STYLES = {"pass": "green", "fail": "red", "warning": "yellow", "error": "magenta"}

STAGE_LINES = 8
"""Of a failed script's log; all of it is in the JSON."""

Result = FacesResult | DigitsResult | ConceptsResult | ZeroShotResult | SubmissionResult


def to_json(result: Result) -> str:
    """One JSON object, keys in a fixed order, no NaN, ASCII only (so that any file name survives)."""
    return json.dumps(asdict(result), indent=2, sort_keys=True, allow_nan=False) + "\n"


def faces_table(result: FacesResult) -> RenderableType:
    """Problem 2 for the terminal: a row per image, then what is wrong, then the verdict."""
    table = Table(title="Problem 2: faces", title_justify="left")
    for column, justify in (("image", "left"), ("MSE", "right"), ("PSNR dB", "right"), ("SSIM", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name in result.expected:
        if name in result.mse_per_image:
            psnr, ssim = result.psnr_per_image[name], result.ssim_per_image[name]
            identical = "identical" if result.mse_per_image[name] == 0 else "-"
            cells = [f"{result.mse_per_image[name]:.4f}", _number(psnr, ".2f", identical), _number(ssim, ".4f")]
        else:
            cells = ["-", "-", "-"]
        table.add_row(Text(printable(name)), *cells)
    table.add_section()
    means = (_number(result.mse, ".4f"), _number(result.psnr, ".2f"), _number(result.ssim, ".4f"))
    table.add_row(Text("mean", "bold"), Text(means[0], "bold"), *means[1:])
    return Group(table, *(_line(check) for check in result.checks), _verdict(result.status))


def digits_table(result: DigitsResult) -> RenderableType:
    """Problem 1 for the terminal: a row per digit, a column per data set, then what is wrong, then the verdict."""
    table = Table(title="Problem 1: digits", title_justify="left")
    table.add_column("accuracy")
    for dataset in result.judges:
        table.add_column(dataset, justify="right")
    for digit in range(10):
        accuracies = [_number(result.per_digit[dataset].get(str(digit)), ".0%") for dataset in result.judges]
        table.add_row(f"digit {digit}", *accuracies)
    table.add_section()
    means = {"mnistm": result.accuracy_mnistm, "svhn": result.accuracy_svhn}
    table.add_row("all digits", *(_number(means[dataset], ".2%") for dataset in result.judges))
    intervals = (result.wilson_95[dataset] for dataset in result.judges)
    table.add_row("95 % interval", *(f"{i[0]:.1%} .. {i[1]:.1%}" if i else "-" for i in intervals))
    table.add_row("judge", *(f"{judge.kind} {judge.sha256[:8]}" for judge in result.judges.values()))
    table.add_section()
    table.add_row(Text("mean", "bold"), Text(_number(result.accuracy, ".2%"), "bold"))
    return Group(table, _realism_table(result), *(_line(check) for check in result.checks), _verdict(result.status))


def concepts_table(result: ConceptsResult) -> RenderableType:
    """Problem 3 for the terminal: a row per prompt, then what is wrong, then the verdict."""
    table = Table(title="Problem 3: concepts", title_justify="left")
    for column, justify in (("prompt", "left"), ("", "left"), ("image", "right"), ("text", "right"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for key, score in result.prompts.items():
        image, text = (_number(value, ".2f") for value in (score.clip_image_score, score.clip_text_score))
        verdict = Text("pass", STYLES["pass"]) if score.passed else Text("fail", STYLES["fail"])
        limits = (f"{limit:g}" for limit in score.threshold)
        needed = " / ".join(f"{found} of {limit}" for found, limit in zip((image, text), limits, strict=True))
        table.add_row(Text(printable(key)), Text(printable(score.prompt)), *needed.split(" / "), verdict)
    table.add_section()
    judge = f"judge: {result.judge.kind} {result.judge.sha256[:8]}" if result.judge else ""
    table.add_row(Text("passed", "bold"), Text(f"{result.passed} of {result.total}", "bold"), "", "", judge)
    return Group(table, *(_line(check) for check in result.checks), _verdict(result.status))


def zero_shot_table(result: ZeroShotResult) -> RenderableType:
    """Zero-shot classification for the terminal: a row per class, then what is wrong, then the verdict."""
    table = Table(title="Problem 3: zero-shot classification", title_justify="left")
    table.add_column("class")
    table.add_column("accuracy", justify="right")
    for name, accuracy in sorted(result.per_class.items(), key=lambda item: -item[1]):
        table.add_row(Text(printable(name)), f"{accuracy:.0%}")
    table.add_section()
    low_high = f"{result.wilson_95[0]:.1%} .. {result.wilson_95[1]:.1%}" if result.wilson_95 else "-"
    table.add_row("95 % interval", low_high)
    table.add_row(Text(f"{result.correct} of {result.total}", "bold"), Text(_number(result.accuracy, ".2%"), "bold"))
    return Group(table, *(_line(check) for check in result.checks), _verdict(result.status))


def submission_table(result: SubmissionResult) -> RenderableType:
    """A whole submission for the terminal: points, a sentence per line, what went wrong, warnings, the verdict."""
    table = Table(title=Text(f"Submission {printable(result.submission)}"), title_justify="left")
    for column, justify in (("line", "left"), ("", "left"), ("points", "right"), ("of", "right"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for line in result.lines:
        most = "" if is_deduction(line) else shown_points(line.max_points)
        outcome = Text("") if is_deduction(line) else Text(OUTCOMES[line.status], STYLES[line.status])
        title = Text(printable(line.title) + (" (private)" if line.private else ""))
        table.add_row(Text(printable(line.name)), title, shown_points(line.points), most, outcome)
    table.add_section()
    total, most = shown_points(result.points), shown_points(result.max_points)
    table.add_row(Text("total", "bold"), "", Text(total, "bold"), Text(most, "bold"), "")
    said = [_sentence(line) for line in result.lines]
    failed = [text for stage in result.stages if stage.status != "pass" for text in _stage(stage)]
    unchecked = unchecked_sentence(result)
    return Group(
        table,
        *said,
        *([Text("Stages that did not pass", "bold"), *failed] if failed else []),
        *([Text("Warnings for staff", "bold"), *map(_line, result.warnings)] if result.warnings else []),
        *([_line(Check("unchecked", "error", unchecked))] if unchecked else []),
        _verdict(result.status),
    )


def _sentence(line: ScoreLine) -> Text:
    if is_deduction(line):
        return Text.assemble(("minus".rjust(7), STYLES["warning"]), "  ", printable(f"{line.title}: {line.message}"))
    return _line(Check(line.name, line.status, f"{line.title}: {line.message}"))


def _stage(stage: StageResult) -> list[Text]:
    """What a stage says, and the last lines that its script printed."""
    head = _line(Check(stage.stage, stage.status, f"{stage.stage} ({shown_seconds(stage.seconds)}): {stage.message}"))
    return [head, *(Text(f"         | {line}", "dim") for line in log_tail(stage.log, STAGE_LINES))]


def _realism_table(result: DigitsResult) -> Table:
    """For information: a row per figure, a column per data set; only diversity where no real images were given."""
    table = Table(title="For information, in the judges' features", title_justify="left")
    table.add_column("figure")
    for dataset in result.realism:
        table.add_column(dataset, justify="right")
    realism = list(result.realism.values())
    table.add_row("diversity", *(_number(_mean(r.diversity), ".2f") for r in realism))
    if any(r.diversity_real is not None for r in realism):
        table.add_row("diversity of real ones", *(_number(_mean(r.diversity_real or {}), ".2f") for r in realism))
        table.add_row("Frechet distance", *(_number(r.frechet_distance, ".2f") for r in realism))
        table.add_row("RMS to nearest real", *(_number(r.nearest_rms, ".1f") for r in realism))
        table.add_row("the same among real", *(_number(r.nearest_rms_real, ".1f") for r in realism))
    return table


def _mean(values: Mapping[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known) if known else None


def _number(value: float | None, style: str, otherwise: str = "-") -> str:
    return otherwise if value is None else format(value, style)


def _line(check: Check) -> Text:
    return Text.assemble((f"{check.status:>7}", STYLES[check.status]), "  ", printable(check.message))


def _verdict(status: str) -> Text:
    return Text.assemble(("verdict", "bold"), "  ", (status, f"bold {STYLES[status]}"))


def stdout_console() -> Console:
    """Results go to stdout; long names are not cut, and no terminal is too old for a name."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(highlight=False, soft_wrap=True)
