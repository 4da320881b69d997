"""The stages of one submission: copy it, fetch its checkpoints, freeze it, run each script and collect its output."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from grading.core.errors import Failure, GradingError, record_failure
from grading.core.results import Part, StageResult
from grading.core.text import counted, listed, printable
from grading.environment.hub import hub_environment, hub_folders, with_models
from grading.files.sweep import sweep
from grading.files.take import SUBMISSION_CAPS, Collected, collect_folder
from grading.files.unpack import is_zip, names_in_zip, unpack_zip
from grading.problems.problem import DATA, Problem
from grading.sandbox.folders import remove
from grading.sandbox.network import check_network
from grading.sandbox.run import HOME, SUBMISSION, UID, Limits, Sandbox, run_sandboxed
from grading.submission.ending import RAN, ending, scaled_time
from grading.submission.fixes import fix_submission
from grading.submission.near_misses import near_misses, no_commands
from grading.submission.provenance import listing_hash

FETCH = "hw2_download_ckpt.sh"

FETCH_LIMITS = Limits(seconds=3600.0, space_bytes=20 * 2**30, file_bytes=20 * 2**30, files=200_000)
"""The limits of a download. We chose them, because the homework sets none. Stable Diffusion has 4 GiB."""


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
        message = because.cause.evidence if because.cause else because.message
        return StageResult(
            self.name, "error", message, kind=self.kind, problem=self.problem, part=self.part, cause=because.cause
        )


def stage_names(runs: Sequence[str], *, fix: bool = False, twice: bool = False) -> list[str]:
    """The names that `Grader.grade` calls `on_stage` with, in their order. runs: names of the planned runs."""
    names = ["copy", *(["fix"] if fix else []), "fetch", "freeze"]
    names += [f"{run}{again}" for run in runs for again in (["", " twice"] if twice else [""])]
    return [*names, *(f"score {run}" for run in runs), "report"]


@dataclass(frozen=True)
class Workplace:
    """The grader's folder for one submission; the student's own folder is only read.

    It is closed to other users, who could otherwise run a program in it that has set-user-ID, as another user.
    """

    path: Path

    def close(self) -> None:
        """Make the folder, and close it to other users. Runs of root reach it by mounts that only they see."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)

    def discard(self) -> None:
        """Remove the folder. What cannot be removed stays."""
        with suppress(OSError):
            remove(self.path)

    @property
    def submission(self) -> Path:
        """The copy that is run."""
        return self.path / "submission"

    @property
    def home(self) -> Path:
        """The home folder, where downloads may put files for the scripts."""
        return self.path / "home"

    @property
    def given(self) -> Path:
        """The folder with copies of inputs, for one run of a script."""
        return self.path / "given"


def copy_submission(source: Path, workplace: Workplace) -> StageResult:
    """Copy a submission unchanged, without pipes, sockets and devices, or unpack it. Replaces an earlier copy."""

    def copy() -> StageResult:
        if not source.is_dir() and not is_zip(source):
            raise GradingError(f"{printable(str(source))} is not a folder; expected a submission")
        workplace.close()
        for folder in (workplace.submission, workplace.home):
            if os.path.lexists(folder):
                remove(folder)
        if is_zip(source):
            taken = unpack_zip(source, workplace.submission)
        else:
            taken = collect_folder(source, workplace.submission, SUBMISSION_CAPS)
        workplace.home.mkdir()
        _sweep(workplace)
        return _told("copy", taken, "The submission was copied.")

    return _stage(workplace, "copy", copy)


def fix(workplace: Workplace, scripts: Sequence[str]) -> StageResult:
    """Fix the copy. hints: a sentence for each change. log: the changes to scripts, as `diff -u` shows them."""

    def work() -> StageResult:
        fixes = fix_submission(workplace.submission, scripts)
        log = "\n".join(line for each in fixes for line in each.diff)
        done = "The copy was changed so that it can run." if fixes else "Nothing had to be fixed."
        files = collect_folder(workplace.submission, None, SUBMISSION_CAPS).files
        return hinted(StageResult("fix", "pass", done, log, files=files), [each.done for each in fixes])

    return _stage(workplace, "fix", work)


def fetch(workplace: Workplace, sandbox: Sandbox | None = None, limits: Limits = FETCH_LIMITS) -> StageResult:
    """Run hw2_download_ckpt.sh, if there is one, with network. It may write to the copy and to the home folder.

    What it leaves there has no special rights afterwards. Files that trusted code leaves stay as they are: they may be
    other names of files elsewhere.
    """

    def run() -> StageResult:
        if not os.path.lexists(workplace.submission / FETCH):
            none = StageResult("fetch", "pass", f"There is no {FETCH}, so nothing was downloaded.")
            return hinted(none, near_misses(workplace.submission, FETCH))
        writable = {SUBMISSION: workplace.submission, HOME: workplace.home}
        inside = _with_hub(sandbox or Sandbox(), network=True)
        try:
            with run_sandboxed(
                ["bash", FETCH], submission=workplace.submission, writable=writable, limits=limits, network=True,
                sandbox=inside,
            ) as ended:  # fmt: skip
                done = replace(ending("fetch", FETCH, ended, limits), kind="script")
        finally:
            if not inside.trust:
                _sweep(workplace)
        return hinted(done, near_misses(workplace.submission, FETCH))

    return _stage(workplace, "fetch", run)


def check_fetch(submissions: Iterable[Path], sandbox: Sandbox) -> None:
    """Raises GradingError if one of the submissions has a download, and downloads can have no network here."""
    if any(FETCH in names_in_zip(each) if is_zip(each) else os.path.lexists(each / FETCH) for each in submissions):
        check_network(sandbox)


def freeze(workplace: Workplace) -> StageResult:
    """Record the files. From now on, no script changes them, which `unchanged.copy_changes` checks."""

    def look() -> StageResult:
        taken = collect_folder(workplace.submission, None, SUBMISSION_CAPS)
        return replace(_told("freeze", taken, "The submission was frozen."), seal=home_seal(workplace))

    return _stage(workplace, "freeze", look)


def home_seal(workplace: Workplace) -> str:
    """The hash of the names, sizes and times of what is in the home; empty if it cannot be listed.

    Contents are not read, because downloads have gigabytes.
    """
    try:
        return listing_hash(workplace.home)
    except GradingError:
        return ""


def run_script(
    workplace: Workplace,
    problem: Problem,
    part: Part,
    inputs: Mapping[str, Path],
    output: Path,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
    time_scale: float = 1.0,
) -> StageResult:
    """Run a problem's script with its official arguments and no network, and collect its files into `output`.

    inputs: the paths of the problem's inputs, by name. output: a new folder. Files that a script wrote before it failed
    are collected as well, because the official graders check the files only. limits: the official time limit always
    applies as well. time_scale: factor of the time limit.
    """
    script = problem.script

    def run() -> StageResult:
        if not os.path.lexists(workplace.submission / script):
            none = StageResult(script, "fail", f"{script} is missing; expected it in the submission's top folder.")
            return hinted(none, near_misses(workplace.submission, script))
        unscaled = limits or Limits()
        unscaled = replace(unscaled, seconds=min(unscaled.seconds, problem.seconds))
        allowed = replace(unscaled, seconds=unscaled.seconds * time_scale)
        inside = _with_hub(sandbox or Sandbox())
        with run_sandboxed(
            with_models(["bash", script, *problem.arguments], inside), submission=workplace.submission,
            inputs={**_given(workplace, problem, inputs), **hub_folders(inside.hub_cache), HOME: workplace.home},
            layered=(SUBMISSION, HOME), limits=allowed, sandbox=inside,
        ) as ended:  # fmt: skip
            taken = collect_folder(ended.output, output)
            done = ending(script, script, ended, allowed, scaled_time(unscaled.seconds, problem.seconds, time_scale))
            return _collected(workplace, script, done, taken)

    done = _stage(workplace, script, run)
    return replace(done, stage=part.of(script), kind="script", problem=problem.number, part=part)


def _collected(workplace: Workplace, script: str, done: StageResult, taken: Collected) -> StageResult:
    """The result of a run with its files, and what may explain that some are missing."""
    if done.status == "pass" and not taken.files:
        nothing = "nothing" if not taken.refused else "nothing that could be collected"
        end = f"{RAN} in {done.seconds:.1f} s and wrote {nothing}"
        done = replace(done, message=done.message.replace(RAN, end, 1))
    done = replace(done, files=taken.files, refused=taken.refused, reasons=taken.reasons)
    whole = [] if taken.reasons else taken.refused
    nearly = near_misses(workplace.submission, script)
    return hinted(done, [*whole, *nearly, *no_commands(workplace.submission, script)])


def earlier_hints(stages: Mapping[str, StageResult]) -> list[str]:
    """What the stages before the scripts say to a line that fails: near misses, and what the copy lacks."""
    left_out = stages["copy"].refused
    more = f" {counted(len(left_out) - 1, 'more entry is', 'more entries are')} like this." if left_out[1:] else ""
    return [*(f"In the submission, {sentence}{more}" for sentence in left_out[:1]), *stages["fetch"].hints]


def hinted(stage: StageResult, hints: Sequence[str]) -> StageResult:
    """The stage with more hints, and a message that ends with them."""
    return replace(stage, message=" ".join([stage.message, *hints]), hints=[*stage.hints, *hints])


def matching(path: Path, pattern: str) -> list[str]:
    """Sorted names of a folder's files that match, without hidden ones, which systems add for themselves.

    Raises GradingError if there are none.
    """
    visible = [each for each in path.iterdir() if each.is_file() and not each.name.startswith(".")]
    if found := sorted(each.name for each in visible if fnmatch.fnmatchcase(each.name, pattern)):
        return found
    raise GradingError(f"{printable(str(path))} has no files {pattern}; expected the homework's files there")


def _given(workplace: Workplace, problem: Problem, inputs: Mapping[str, Path]) -> dict[str, Path]:
    """The inputs by their paths inside. A folder with other files than the homework names is replaced by a copy.

    Raises GradingError if an argument of the script has no path.
    """
    needed = {name.removeprefix(DATA) for name in problem.arguments if name.startswith(DATA)}
    if missing := sorted(needed - inputs.keys()):
        raise GradingError(f"{problem.script} needs {listed(missing)}, but no path is set; add it to the inputs")
    shutil.rmtree(workplace.given, ignore_errors=True)
    patterns = {each.name: each.pattern for each in problem.inputs if each.pattern}
    return {
        f"{DATA}{name}": _without_others(path, patterns[name], workplace.given / name) if name in patterns else path
        for name, path in inputs.items()
    }


def _without_others(path: Path, pattern: str, copy: Path) -> Path:
    if not path.is_dir():
        return path
    names = matching(path, pattern)
    if len(names) == len(list(path.iterdir())):
        return path
    copy.mkdir(parents=True, mode=0o755)
    for name in names:
        shutil.copyfile(path / name, copy / name)
        (copy / name).chmod(0o644)
    return copy


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
        return StageResult(stage, "fail", taken.refused[0], refused=taken.refused, reasons=taken.reasons)
    return StageResult(stage, "pass", done, files=taken.files, refused=taken.refused, reasons=taken.reasons)


def _sweep(workplace: Workplace) -> None:
    """Take all rights from the files that a submission brought or downloaded, and give them to the user who runs it."""
    for folder in (workplace.submission, workplace.home):
        sweep(folder, UID if os.geteuid() == 0 else None)
