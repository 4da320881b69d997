"""The way of one submission: copied, its checkpoints fetched, frozen, each script run, its output collected."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from grading.core.errors import GradingError, failure_sentence
from grading.core.results import StageResult, Status
from grading.core.text import printable
from grading.files.take import Caps, Collected, collect_folder
from grading.sandbox.run import HOME, OUTPUT, SUBMISSION, UID, Limits, RunResult, Sandbox, run_sandboxed

FETCH = "hw2_download_ckpt.sh"

ARGUMENTS = {
    1: (OUTPUT,),
    2: ("/data/noise", OUTPUT, "/data/UNet.pt"),
    3: ("/data/input.json", OUTPUT, "/data/model.ckpt"),
}
"""Of hw2_1.sh, hw2_2.sh and hw2_3.sh (slides p35-38). Those under /data are inputs: staff say where they lie."""

TIME_LIMITS = {1: 900.0, 2: 300.0, 3: 900.0}
"""Seconds (slides p35-38)."""

FETCH_LIMITS = Limits(seconds=3600.0, space_bytes=20 * 2**30, file_bytes=20 * 2**30, files=200_000)
"""Ours: the homework names none. Stable Diffusion has 4 GiB."""

SUBMISSION_CAPS = Caps(entries=200_000, file_bytes=20 * 2**30, total_bytes=40 * 2**30, depth=32, links=True)


@dataclass(frozen=True)
class Workplace:
    """A folder of ours in which one submission is worked on; the student's own is only ever read."""

    path: Path

    @property
    def submission(self) -> Path:
        """The copy that is run."""
        return self.path / "submission"

    @property
    def home(self) -> Path:
        """The home folder, where downloads may leave something for the scripts."""
        return self.path / "home"


def copy_submission(source: Path, workplace: Workplace) -> StageResult:
    """Copy a submission as it is, except for pipes, sockets and devices. Replaces an earlier copy."""

    def copy() -> StageResult:
        if not source.is_dir():
            raise GradingError(f"{printable(str(source))} is no folder; expected a submission")
        for folder in (workplace.submission, workplace.home):
            if folder.exists():
                shutil.rmtree(folder)
        taken = collect_folder(source, workplace.submission, SUBMISSION_CAPS)
        workplace.home.mkdir()
        if os.geteuid() == 0:
            for folder in (workplace.submission, workplace.home):
                _give_away(folder)
        return _told("copy", taken, "The submission was copied.")

    return _stage("copy", copy)


def fetch(workplace: Workplace, sandbox: Sandbox | None = None, limits: Limits = FETCH_LIMITS) -> StageResult:
    """Run hw2_download_ckpt.sh, if there is one, with network; it may write to the copy and to its home."""

    def run() -> StageResult:
        if not os.path.lexists(workplace.submission / FETCH):
            return StageResult("fetch", "pass", f"There is no {FETCH}: nothing had to be fetched.")
        writable = {SUBMISSION: workplace.submission, HOME: workplace.home}
        with run_sandboxed(
            ["bash", FETCH], submission=workplace.submission, writable=writable, limits=limits, network=True,
            sandbox=sandbox,
        ) as ended:  # fmt: skip
            return _ended("fetch", FETCH, ended, limits)

    return _stage("fetch", run)


def freeze(workplace: Workplace) -> StageResult:
    """Record what is there, which scripts may only read from here on; after the runs, `files` must be the same."""

    def look() -> StageResult:
        return _told(
            "freeze", collect_folder(workplace.submission, None, SUBMISSION_CAPS), "The submission was frozen."
        )

    return _stage("freeze", look)


def run_script(
    workplace: Workplace,
    problem: int,
    data: Mapping[str, Path],
    output: Path,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
) -> StageResult:
    """Run hw2_N.sh with the official arguments and no network, and collect what it wrote into `output`, a new folder.

    data: where the inputs of `ARGUMENTS` lie, by their names there without /data: {"noise": .., "UNet.pt": ..}. What a
    script wrote before it failed is collected, too: the official graders look at the files only. limits: the official
    time holds in any case.
    """
    script = f"hw2_{problem}.sh"

    def run() -> StageResult:
        if not os.path.lexists(workplace.submission / script):
            return StageResult(script, "fail", f"{script} is missing; expected it in the submission's top folder.")
        allowed = limits or Limits()
        allowed = replace(allowed, seconds=min(allowed.seconds, TIME_LIMITS[problem]))
        inputs = {f"/data/{name}": path for name, path in data.items()}
        missing = {name for name in ARGUMENTS[problem] if name.startswith("/data/")} - inputs.keys()
        if missing:
            raise GradingError(f"{script} was given no {' and no '.join(sorted(missing))}; say where they lie")
        with run_sandboxed(
            ["bash", script, *ARGUMENTS[problem]], submission=workplace.submission,
            inputs={**inputs, HOME: workplace.home}, limits=allowed, sandbox=sandbox,
        ) as ended:  # fmt: skip
            taken = collect_folder(ended.output, output)
            return replace(_ended(script, script, ended, allowed), files=taken.files, refused=taken.refused)

    return _stage(script, run)


def compare_runs(first: StageResult, second: StageResult) -> StageResult:
    """Whether two runs of a script left the same files, byte for byte, as fixed seeds promise."""
    stage = f"{first.stage} twice"
    for result in (first, second):
        if result.status == "error":
            return StageResult(stage, "error", f"The runs could not be compared: {result.message}")
    names = sorted(first.files.keys() | second.files.keys())
    differ = [name for name in names if first.files.get(name) != second.files.get(name)]
    if not names:
        return StageResult(stage, "pass", f"Two runs of {first.stage} left no files to compare.")
    if not differ:
        return StageResult(stage, "pass", f"Two runs of {first.stage} gave the same {len(names)} files.")
    shown = ", ".join(printable(name) for name in differ[:3]) + (", .." if len(differ) > 3 else "")
    return StageResult(
        stage,
        "fail",
        f"Two runs of {first.stage} differ in {len(differ)} of {len(names)} files ({shown}); expected the same, "
        "as seeds must be fixed.",
    )


def _stage(name: str, work: Callable[[], StageResult]) -> StageResult:
    """What the stage says, or that we could not do it: our failures must never look like the submission's."""
    try:
        return work()
    except Exception as error:
        return StageResult(name, "error", failure_sentence(error))


def _told(stage: str, taken: Collected, done: str) -> StageResult:
    if taken.refused and not taken.files:
        return StageResult(stage, "fail", taken.refused[0], refused=taken.refused)
    return StageResult(stage, "pass", done, files=taken.files, refused=taken.refused)


def _ended(stage: str, script: str, run: RunResult, limits: Limits) -> StageResult:
    reached = {
        "seconds": f"it ran longer than {_time(limits.seconds)}",
        "memory": f"it used more than {_size(limits.memory_bytes)} of memory",
        "processes": f"it started {limits.processes} processes and threads at once, which is the limit",
        "space": f"it wrote more than {_size(limits.space_bytes)} to one place",
        "files": f"it made more than {limits.files} files in one place",
        "file size": f"it wrote a file of more than {_size(limits.file_bytes)}",
    }
    if run.limit:
        message = f"{script} was stopped: {reached[run.limit]}."
    elif run.exit_status:
        message = f"{script} ended with exit status {run.exit_status}; expected 0. Its last words may say why."
    else:
        message = f"{script} ran to its end."
    status: Status = "fail" if run.limit or run.exit_status else "pass"
    return StageResult(stage, status, message, run.log, run.seconds, run.exit_status, run.limit)


def _time(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 and seconds % 60 == 0 else f"{seconds:g} seconds"


def _size(size: int) -> str:
    return f"{size / 2**30:g} GiB" if size >= 2**30 else f"{size / 2**20:g} MiB"


def _give_away(folder: Path) -> None:
    """A copy of ours becomes that of the user who runs it; links themselves, not what they point at."""
    os.chown(folder, UID, UID)
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(path, name), UID, UID, follow_symlinks=False)
