"""The grading of one whole submission, stage by stage, from its scripts to its reports.

A journal keeps the finished stages, so a grading that was killed resumes where it stopped.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from grading.core.errors import GradingError
from grading.core.results import Check, Part, ProblemResult, StageResult, SubmissionResult
from grading.core.text import printable
from grading.environment.python import check_gpu, check_python
from grading.files.storage import locked, write_whole
from grading.judges import Judges
from grading.points.lines import score_lines, total, verdict
from grading.points.staff import StaffEntry
from grading.problems.problem import Run
from grading.reports.pictures import make_pictures
from grading.reports.write import write_reports
from grading.submission.assignment import Assignment, PlannedRun
from grading.submission.evidence import Pictures
from grading.submission.journal import Journal
from grading.submission.provenance import data_hashes, hardware, listing_hash, versions
from grading.submission.stages import (
    Stage,
    Workplace,
    compare_runs,
    copy_submission,
    described_failure,
    fetch,
    freeze,
    run_script,
)

NOT_IN_FINGERPRINT = ("hardware", "source")
"""Parts of the record that no result depends on."""


class Grader:
    """Grades submissions of one assignment, one after the other. Judges are loaded when first needed, and kept."""

    def __init__(self, assignment: Assignment) -> None:
        """Raises GradingError if a file that the assignment names is missing, or no script could run."""
        self.assignment = assignment
        self.homework = assignment.edition
        self.runs = list(assignment.runs())
        self.sandbox = assignment.sandbox
        self.judges = Judges(assignment.judges, assignment.device)
        named = {}
        for run in self.runs:
            for given in run.problem.inputs:
                path = run.inputs[given.name]
                own = given.option if given.option and getattr(assignment, given.option) else ""
                _check_there(path, given.option or _root_option(run, given.shared), replaced=bool(own))
                named[f"{run.folder}/{given.name}"] = path
            if run.expected is not None:
                _check_there(run.expected, _root_option(run))
                named[f"{run.folder}/expected"] = run.expected
        self.python = check_python(self.sandbox)
        check_gpu(self.sandbox)
        self.hashes = data_hashes(named)

    def grade(
        self,
        source: Path,
        folder: Path,
        staff: StaffEntry | None = None,
        on_stage: Callable[[str], None] = lambda _name: None,
    ) -> SubmissionResult:
        """Grade the submission in `source`, and write all files about it to `folder`.

        These are journal.jsonl, grade.json, the reports, and outputs/ with the files that the scripts wrote. Run again
        to resume: finished stages are kept if submission and assignment are the same, and stages that failed because of
        the grader are repeated. on_stage: called with the name of each stage when it begins.
        Raises GradingError if source is not a folder, or folder is in use or cannot be written.
        """
        if source.is_symlink() or not source.is_dir():
            raise GradingError(f"{printable(str(source))} is not a folder; expected a submission")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                return _Grading(self, source, folder, staff or StaffEntry(), on_stage).result()
        except OSError as error:
            name = printable(str(error.filename or folder))
            reason = f"({error.strerror}); free some space or choose another folder"
            raise GradingError(f"{name} cannot be used {reason}") from None

    def record(self) -> dict[str, Any]:
        """Everything that the numbers depend on, except times, and judges, which are in the problems' results."""
        asked = self.assignment
        seconds = {str(problem.number): problem.seconds for problem in self.homework.problems}
        return {
            "versions": versions(),
            "hardware": hardware(),
            "python": {"version": self.python.version, "packages_sha256": self.python.packages_sha256},
            "homework": self.homework.name,
            "data_sha256": self.hashes,
            "seeds": "grading draws nothing at random",
            "problems": [problem.number for problem in self.homework.problems],
            "limits": asdict(asked.run_limits) | {"seconds": seconds},
            "options": asked.record()
            | {"sandbox": "none, the code is trusted" if asked.trust else self.sandbox.backend},
            "source": dict(asked.source),
        }


class _Grading:
    """One call of `Grader.grade`."""

    def __init__(
        self, grader: Grader, source: Path, folder: Path, staff: StaffEntry, on_stage: Callable[[str], None]
    ) -> None:
        self.grader, self.source, self.folder, self.staff, self.on_stage = grader, source, folder, staff, on_stage
        self.homework = grader.homework
        self.workplace = Workplace(folder / "work")
        self.outputs = folder / "outputs"
        self.pictures = Pictures(self.outputs, self.workplace.submission, grader.runs, grader.sandbox)
        self.record = grader.record()
        self.record["fingerprint"] = _fingerprint(self.record, source)

    def result(self) -> SubmissionResult:
        found = self.earlier_result() or self.graded()
        lines = score_lines(self.homework, found.results, self.staff)
        points, max_points, unchecked = total(lines)
        found = replace(
            found, status=verdict(lines), points=points, max_points=max_points, unchecked=unchecked, lines=lines
        )
        write_whole(self.folder / "grade.json", RESULT.dump_json(found, indent=2) + b"\n")
        self.on_stage("report")
        pictures = make_pictures(found, self.pictures.output, self.pictures.expected)
        write_reports(found, self.folder, pictures, self.homework)
        return found

    def earlier_result(self) -> SubmissionResult | None:
        """The result of an earlier call; None if something has changed since, or could not be checked.

        Raises GradingError for a result that another version of the grader wrote.
        """
        path = self.folder / "grade.json"
        if not path.exists():
            return None
        try:
            found = RESULT.validate_json(path.read_bytes())
        except ValidationError:
            raise GradingError(
                f"{printable(str(path))} was not written by this version of the grader; choose another output "
                "folder, or delete the file to grade again",
                option="output",
            ) from None
        same = found.record.get("fingerprint") == self.record["fingerprint"]
        undone = [stage for stage in found.stages if stage.status == "error"]
        return found if same and not undone and verdict(found.lines) != "error" else None

    def graded(self) -> SubmissionResult:
        started = time.time()
        journal = Journal(self.folder / "journal.jsonl", self.record["fingerprint"])
        stages = {stage.stage: stage for stage in self.run_stages(journal, self.stages(journal))}
        results, warnings = [], []
        for run in self.grader.runs:
            self.on_stage(f"score {run.name}")
            results.append(self.scored(run, stages[run.name]))
            warnings += self.suspicions(run, stages[run.name], stages["freeze"].files)
            again = stages.get(f"{run.name} twice")
            if again and again.status == "fail":
                warnings.append(Check(again.stage, "warning", again.message))
        if all(result.status != "error" for result in results):
            # otherwise it is kept, so that the scripts need not run again
            shutil.rmtree(self.workplace.path, ignore_errors=True)
        self.record["times"] = {"started": started, "finished": time.time()}
        name, edition = printable(self.source.name), self.homework.name
        return SubmissionResult(
            name, "error", 0, 0, 0, edition, [], list(stages.values()), results, warnings, self.record
        )

    # --- stages

    def stages(self, journal: Journal) -> Iterator[Stage]:
        """All stages, in order. The first three are repeated together, because they share one folder."""
        yield Stage("copy", lambda: copy_submission(self.source, self.workplace), begins_anew=True)
        yield Stage("fetch", lambda: fetch(self.workplace, self.grader.sandbox), begins_anew=True)
        yield Stage("freeze", lambda: freeze(self.workplace), begins_anew=True)
        for run in self.grader.runs:
            number, part = run.problem.number, run.part
            yield Stage(run.name, functools.partial(self.run, run, run.folder), False, "script", number, part)
            if self.grader.assignment.twice:
                again = functools.partial(self.run_again, run, journal)
                yield Stage(f"{run.name} twice", again, False, "repeat", number, part)

    def run_stages(self, journal: Journal, stages: Iterator[Stage]) -> Iterator[StageResult]:
        """The results of all stages. Those that the journal lacks run now. Without a copy, no script can run."""
        planned: Sequence[Stage] = list(stages)
        undone = [stage for stage in planned if stage.begins_anew and not journal.has(stage.name)]
        if undone or not self.workplace.path.exists():
            journal.clear()
        for stage in planned:
            if not journal.has(stage.name):
                self.on_stage(stage.name)
                journal.add(replace(stage.work(), stage=stage.name))
            done = journal.done[stage.name]
            yield done
            if stage.begins_anew and done.status == "error":
                later = planned[planned.index(stage) + 1 :]
                yield from (each.not_run(done) for each in later if each.kind != "repeat")
                return

    def run(self, run: PlannedRun, folder: str) -> StageResult:
        output = self.outputs / folder
        if output.exists():
            shutil.rmtree(output)
        limits = self.grader.assignment.run_limits
        done = run_script(self.workplace, run.problem, run.part, run.inputs, output, self.grader.sandbox, limits)
        output.mkdir(parents=True, exist_ok=True)
        for made in (self.outputs, output):
            made.chmod(0o755)  # whatever the umask: the user of the sandbox reads it
        return done

    def run_again(self, run: PlannedRun, journal: Journal) -> StageResult:
        folder = f"{run.folder}_again"
        second = self.run(run, folder)
        compared = compare_runs(journal.done[run.name], second)
        if compared.status == "pass":
            shutil.rmtree(self.outputs / folder)
        return replace(compared, seconds=second.seconds, log=second.log if compared.status == "fail" else "")

    # --- scores

    def scored(self, run: PlannedRun, stage: StageResult) -> ProblemResult:
        """The result of one run's output."""
        problem, part = run.problem, run.part
        if stage.status == "error":
            return problem.unchecked(part, Check("run", "error", stage.message), stage.traceback)
        judges = self.grader.judges
        output, data, public = self.outputs / run.folder, run.root, self.grader.assignment.data
        try:
            result = problem.score(Run(part, output, data, public, run.inputs, judges, self.pictures.reader))
        except Exception as error:
            failure = described_failure(error, self.folder)
            return problem.unchecked(part, Check("score", "error", failure.sentence), failure.traceback)
        refused = [Check("collect", "warning", sentence) for sentence in stage.refused]
        ended = stage.message if stage.status == "fail" else ""
        return replace(result, ended=ended, checks=[*result.checks, *refused])

    def suspicions(self, run: PlannedRun, stage: StageResult, submitted: Mapping[str, str]) -> list[Check]:
        """Warnings for staff."""
        try:
            return run.problem.suspicions(self.pictures.evidence(run, stage, submitted))
        except Exception as error:
            return [Check(f"{run.name} warnings", "warning", described_failure(error, self.folder).sentence)]


RESULT = TypeAdapter(SubmissionResult)
"""Reads and writes grade.json."""


def _check_there(path: Path, option: str, replaced: bool = True) -> None:
    """Raises GradingError if one of staff's files is missing. option: the option that sets its path."""
    if not path.exists():
        other = "set another path" if replaced else "set its path"
        raise GradingError(
            f"{printable(str(path))} is missing; expected the homework's data there; {other}, or leave the problem out",
            option=option,
        )


def _root_option(run: PlannedRun, shared: bool = False) -> str:
    return "private" if run.part is Part.PRIVATE and not shared else "data"


def _fingerprint(record: Mapping[str, Any], source: Path) -> str:
    """The hash of everything that a result depends on, except the machine."""
    content = {name: value for name, value in record.items() if name not in NOT_IN_FINGERPRINT}
    return hashlib.sha256(json.dumps([content, listing_hash(source)], sort_keys=True).encode()).hexdigest()
