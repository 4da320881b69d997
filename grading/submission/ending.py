"""How a script ended, in a sentence: with its exception, or the limit that stopped it."""

from __future__ import annotations

from grading.core.pythonlog import MAX_TEXT, find_error
from grading.core.results import StageResult, Status
from grading.core.text import counted
from grading.sandbox.run import Limits, RunResult

RAN = "ran to its end"


def ending(stage: str, script: str, run: RunResult, limits: Limits, scaled: str = "") -> StageResult:
    """The result of a script that ended, with a sentence on how. scaled: as `scaled_time` makes it."""
    reached = {
        "seconds": f"it ran longer than {_time(limits.seconds)}{scaled}",
        "memory": f"it used more than {_size(limits.memory_bytes)} of memory",
        "processes": f"it started {limits.processes} processes and threads at once, which is the limit",
        "space": f"it wrote more than {_size(limits.space_bytes)} to one place",
        "files": f"it made more than {counted(limits.files, 'file')} in one place",
        "file size": f"it wrote a file of more than {_size(limits.file_bytes)}",
        "gpu memory": f"it used more than {_size(limits.gpu_bytes)} of GPU memory",
    }
    if run.limit:
        message = f"{script} was stopped: {reached[run.limit]}."
    elif run.exit_status:
        message = f"{script} ended with exit status {run.exit_status}{_last_words(run.log)}."
    else:
        error = find_error(run.log)
        message = f"{script} {RAN}{f', but printed {error}' if error else ''}."
    status: Status = "fail" if run.limit or run.exit_status else "pass"
    used, lost = (run.cpu.used, run.cpu.lost) if run.cpu else (None, 0.0)
    return StageResult(
        stage, status, message, run.log, run.seconds, run.exit_status, run.limit,
        gpu_bytes=run.gpu_bytes, cpu_seconds=used, cpu_lost=lost,
    )  # fmt: skip


def _last_words(log: str) -> str:
    """The exception that a script printed, or else its last line."""
    if error := find_error(log):
        return f": {error}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return " and printed nothing"
    return f"; its last line is: {lines[-1] if len(lines[-1]) <= MAX_TEXT else lines[-1][:MAX_TEXT] + ' ..'}"


def _time(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 and seconds % 60 == 0 else f"{seconds:g} seconds"


def _size(size: int) -> str:
    return f"{size / 2**30:g} GiB" if size >= 2**30 else f"{size / 2**20:g} MiB"


def scaled_time(seconds: float, official: float, scale: float) -> str:
    """How a time limit was scaled, such as " (the official 15 minutes x 2)"; empty if it was not."""
    if scale == 1:
        return ""
    return f" ({'the official ' if seconds == official else ''}{_time(seconds)} x {scale:g})"
