"""The stages of one submission: copy it, fetch its checkpoints, freeze it, run each script and collect its output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from grading.core.errors import Failure, GradingError, record_failure
from grading.core.results import Part, StageResult, Status
from grading.core.text import counted, listed, printable
from grading.environment.hub import hub_environment, hub_folders, with_models
from grading.files.take import Caps, Collected, collect_folder
from grading.problems.problem import DATA, Problem
from grading.sandbox.run import HOME, SUBMISSION, UID, Limits, RunResult, Sandbox, run_sandboxed

FETCH = "hw2_download_ckpt.sh"

FETCH_LIMITS = Limits(seconds=3600.0, space_bytes=20 * 2**30, file_bytes=20 * 2**30, files=200_000)
"""The limits of a download. They are our own: the homework sets none. Stable Diffusion has 4 GiB."""

SUBMISSION_CAPS = Caps(entries=200_000, file_bytes=20 * 2**30, total_bytes=40 * 2**30, depth=32, links=True)


@dataclass(frozen=True)
class Stage:
    """One step of a grading.

    begins_anew: if this stage must run again, all stages must run again. kind, problem, part: as in `StageResult`.
    """

    name: str
    work: Callable[[], StageResult]
    begins_anew: bool = False
    kind: Literal["own", "script", "repeat"] = "own"
    problem: int | None = None
    part: Part = Part.WHOLE

    def not_run(self, because: StageResult) -> StageResult:
        """The result if an earlier stage failed because of the grader."""
        return StageResult(self.name, "error", because.message, kind=self.kind, problem=self.problem, part=self.part)


@dataclass(frozen=True)
class Workplace:
    """The grader's folder for one submission; the student's own folder is only read."""

    path: Path

    @property
    def submission(self) -> Path:
        """The copy that is run."""
        return self.path / "submission"

    @property
    def home(self) -> Path:
        """The home folder, where downloads may put files for the scripts."""
        return self.path / "home"


def copy_submission(source: Path, workplace: Workplace) -> StageResult:
    """Copy a submission as it is, except for pipes, sockets and devices. Replaces an earlier copy."""

    def copy() -> StageResult:
        if not source.is_dir():
            raise GradingError(f"{printable(str(source))} is not a folder; expected a submission")
        for folder in (workplace.submission, workplace.home):
            if folder.exists():
                shutil.rmtree(folder)
        taken = collect_folder(source, workplace.submission, SUBMISSION_CAPS)
        workplace.home.mkdir()
        if os.geteuid() == 0:
            for folder in (workplace.submission, workplace.home):
                _give_away(folder)
        return _told("copy", taken, "The submission was copied.")

    return _stage(workplace, "copy", copy)


def fetch(workplace: Workplace, sandbox: Sandbox | None = None, limits: Limits = FETCH_LIMITS) -> StageResult:
    """Run hw2_download_ckpt.sh, if there is one, with network; it may write to the copy and to its home."""

    def run() -> StageResult:
        if not os.path.lexists(workplace.submission / FETCH):
            return StageResult("fetch", "pass", f"There is no {FETCH}, so nothing was downloaded.")
        writable = {SUBMISSION: workplace.submission, HOME: workplace.home}
        inside = _with_hub(sandbox or Sandbox(), network=True)
        with run_sandboxed(
            ["bash", FETCH], submission=workplace.submission, writable=writable, limits=limits, network=True,
            sandbox=inside,
        ) as ended:  # fmt: skip
            return replace(_ended("fetch", FETCH, ended, limits), kind="script")

    return _stage(workplace, "fetch", run)


def freeze(workplace: Workplace) -> StageResult:
    """Record the files. From now on, no script changes them; after the runs, `files` must be the same."""

    def look() -> StageResult:
        return _told(
            "freeze", collect_folder(workplace.submission, None, SUBMISSION_CAPS), "The submission was frozen."
        )

    return _stage(workplace, "freeze", look)


def run_script(
    workplace: Workplace,
    problem: Problem,
    part: Part,
    inputs: Mapping[str, Path],
    output: Path,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
) -> StageResult:
    """Run a problem's script with its official arguments and no network, and collect its files into `output`.

    inputs: the paths of the problem's inputs, by name. output: a new folder. Files that a script wrote before it failed
    are collected as well, because the official graders check the files only. limits: the official time limit always
    applies as well.
    """
    script = problem.script

    def run() -> StageResult:
        if not os.path.lexists(workplace.submission / script):
            return StageResult(script, "fail", f"{script} is missing; expected it in the submission's top folder.")
        allowed = limits or Limits()
        allowed = replace(allowed, seconds=min(allowed.seconds, problem.seconds))
        inside = _with_hub(sandbox or Sandbox())
        given = {f"{DATA}{name}": path for name, path in inputs.items()}
        if missing := sorted({name for name in problem.arguments if name.startswith(DATA)} - given.keys()):
            names = listed([name.removeprefix(DATA) for name in missing])
            raise GradingError(f"{script} needs {names}, but no path is set; add it to the inputs")
        with run_sandboxed(
            with_models(["bash", script, *problem.arguments], inside), submission=workplace.submission,
            inputs={**given, **hub_folders(inside.hub_cache), HOME: workplace.home},
            layered=(SUBMISSION, HOME), limits=allowed, sandbox=inside,
        ) as ended:  # fmt: skip
            taken = collect_folder(ended.output, output)
            return replace(_ended(script, script, ended, allowed), files=taken.files, refused=taken.refused)

    done = _stage(workplace, script, run)
    return replace(done, stage=part.of(script), kind="script", problem=problem.number, part=part)


def compare_runs(first: StageResult, second: StageResult) -> StageResult:
    """Compare the files of two runs of a script, byte for byte. With fixed seeds they are the same."""
    stage = f"{first.stage} twice"
    facts: dict[str, Any] = {"kind": "repeat", "problem": first.problem, "part": first.part}
    for result in (first, second):
        if result.status == "error":
            return StageResult(stage, "error", f"The runs could not be compared: {result.message}", **facts)
    names = sorted(first.files.keys() | second.files.keys())
    differ = [name for name in names if first.files.get(name) != second.files.get(name)]
    if not names:
        return StageResult(stage, "pass", f"Two runs of {first.stage} left no files to compare.", **facts)
    if not differ:
        same = f"the same {counted(len(names), 'file')}"
        return StageResult(stage, "pass", f"Two runs of {first.stage} gave {same}.", **facts)
    return StageResult(
        stage,
        "fail",
        f"Two runs of {first.stage} differ in {len(differ)} of {counted(len(names), 'file')} ({listed(differ, 3)}); "
        "expected the same files, because seeds must be fixed.",
        **facts,
    )


def _stage(workplace: Workplace, name: str, work: Callable[[], StageResult]) -> StageResult:
    """The stage's result. A failure of the grader is never reported as a failure of the submission."""
    try:
        return work()
    except Exception as error:
        failure = described_failure(error, workplace.path.parent)
        return StageResult(name, "error", failure.sentence, traceback=failure.traceback)


def described_failure(error: Exception, folder: Path) -> Failure:
    """The failure of a grading into `folder`. Students read its sentence, so it does not show staff's paths."""
    failure = record_failure(error, folder)
    return replace(failure, sentence=failure.sentence.replace(f"{folder.absolute()}{os.sep}", ""))


def _with_hub(sandbox: Sandbox, *, network: bool = False) -> Sandbox:
    return replace(sandbox, environment={**hub_environment(sandbox, network=network), **sandbox.environment})


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
        "files": f"it made more than {counted(limits.files, 'file')} in one place",
        "file size": f"it wrote a file of more than {_size(limits.file_bytes)}",
    }
    if run.limit:
        message = f"{script} was stopped: {reached[run.limit]}."
    elif run.exit_status:
        message = f"{script} ended with exit status {run.exit_status}; expected 0. Its last log lines may show why."
    else:
        message = f"{script} ran to its end."
    status: Status = "fail" if run.limit or run.exit_status else "pass"
    return StageResult(stage, status, message, run.log, run.seconds, run.exit_status, run.limit)


def _time(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 and seconds % 60 == 0 else f"{seconds:g} seconds"


def _size(size: int) -> str:
    return f"{size / 2**30:g} GiB" if size >= 2**30 else f"{size / 2**20:g} MiB"


def _give_away(folder: Path) -> None:
    """Give the copy to the user who runs it. Links are changed themselves, not the files that they point to."""
    os.chown(folder, UID, UID)
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(path, name), UID, UID, follow_symlinks=False)
