"""The grading of one whole submission, stage by stage, from its scripts to its reports.

A journal keeps the finished stages, so a grading that was killed resumes where it stopped.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from grading.causes.downloads import download_failed
from grading.causes.rule import Scene
from grading.causes.table import blamed, find_cause
from grading.core.errors import GradingError
from grading.core.log import detail
from grading.core.results import CAUSE, Check, Part, ProblemResult, StageResult, SubmissionResult
from grading.core.text import printable
from grading.environment.probes import Probes
from grading.environment.python import check_gpu, check_python
from grading.files.storage import check_apart, locked
from grading.files.unpack import is_zip, submission_name
from grading.points.lines import SETTLED, score_lines, settled_warnings, total, verdict
from grading.points.staff import StaffEntry
from grading.problems.problem import Run
from grading.reports.pictures import make_pictures
from grading.reports.write import write_reports
from grading.sandbox.folders import remove
from grading.submission.assignment import Assignment, PlannedRun
from grading.submission.devices import gpu_facts
from grading.submission.evidence import Pictures, expected_hashes
from grading.submission.facts import facts_of, replaced_code, write_facts
from grading.submission.fingerprint import fingerprint, judge_facts, more_facts, scripts_use
from grading.submission.journal import Journal
from grading.submission.provenance import data_hashes, hardware, versions
from grading.submission.stages import (
    FETCH,
    Stage,
    Workplace,
    compare_runs,
    copy_submission,
    described_failure,
    earlier_hints,
    fetch,
    fix,
    freeze,
    matching,
    run_script,
)
from grading.submission.unchanged import copy_changes, output_changes
from grading.submission.written import DamagedError, read_grade, write_grade


class Grader:
    """Grades submissions of one assignment, one after the other. Judges are loaded when first needed, and kept."""

    def __init__(self, assignment: Assignment) -> None:
        """Raises GradingError if a file or a judge is missing, or no script could run."""
        self.assignment = assignment
        self.homework = assignment.edition
        self.runs = list(assignment.runs())
        self.sandbox = assignment.sandbox
        self.judges = assignment.find_judges()
        named = {}
        for run in self.runs:
            for given in run.problem.inputs:
                path = run.inputs[given.name]
                own = given.option if given.option and getattr(assignment, given.option) else ""
                _check_there(path, given.option or _root_option(run, given.shared), replaced=bool(own))
                if given.pattern and path.is_dir():
                    matching(path, given.pattern)
                named[f"{run.folder}/{given.name}"] = path
            if run.expected is not None:
                _check_there(run.expected, _root_option(run))
                named[f"{run.folder}/expected"] = run.expected
            if run.references is not None:
                named[f"{run.folder}/references"] = run.references
        self.python = check_python(self.sandbox)
        self.gpu_facts = gpu_facts(self.sandbox, check_gpu(self.sandbox))
        self.probes = Probes(self.sandbox)
        self.hashes = data_hashes(named)
        self.more_facts = more_facts(assignment.hub_cache, assignment.environment)
        self.judge_facts = judge_facts(self.judges.sources(assignment.judge_names))

    def grade(
        self,
        source: Path,
        folder: Path,
        staff: StaffEntry | None = None,
        on_stage: Callable[[str], None] = lambda _name: None,
    ) -> SubmissionResult:
        """Grade the submission in `source`, and write all files about it to `folder`.

        These are journal.jsonl, grade.json, facts.json, the reports, and outputs/ with the files that the scripts
        wrote. Run again to resume: finished stages are kept if submission and assignment are the same, and stages that
        failed because of the grader are repeated. on_stage: called with the name of each stage when it begins.
        Raises GradingError if source is not a folder, or if folder is in source or around it, in use, or read-only.
        """
        if source.is_symlink() or not (source.is_dir() or is_zip(source)):
            raise GradingError(f"{printable(str(source))} is not a folder; expected a submission")
        check_apart(source, folder, "submission")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                return _Grading(self, source, folder, staff or StaffEntry(), on_stage).result()
        except OSError as error:
            name = printable(str(error.filename or folder))
            reason = f"({error.strerror}); free some space or choose another folder"
            raise GradingError(f"{name} cannot be used {reason}") from None

    def record(self) -> dict[str, Any]:
        """Everything that the numbers depend on, except times."""
        asked = self.assignment
        seconds = {str(problem.number): problem.seconds for problem in self.homework.problems}
        return {
            "versions": versions(),
            "hardware": hardware() | self.gpu_facts,
            "python": {
                "version": self.python.version,
                "packages_sha256": self.python.packages_sha256,
                "packages": list(self.python.packages),
            },
            **self.more_facts,
            "homework": self.homework.name,
            "embedded": asked.embedded,
            "data_sha256": self.hashes,
            "judges": self.judge_facts,
            "time_scale": asked.time_scale,
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
        self.scripts = [FETCH, *dict.fromkeys(run.problem.script for run in grader.runs)]
        self.record = grader.record()
        self.record["fingerprint"] = fingerprint(self.record, source)
        self.told: dict[str, str] = {}

    def result(self) -> SubmissionResult:
        found = self.earlier_result() or self.graded()
        fixes = tuple(found.record.get("fixes", ()))
        staff = replace(self.staff, staff_fixed=True, fixes=fixes) if fixes else self.staff
        lines = score_lines(self.homework, found.results, staff)
        points, max_points, unchecked = total(lines)
        found = replace(
            found, status=verdict(lines), points=points, max_points=max_points, unchecked=unchecked, lines=lines,
            warnings=self.warnings(found),
        )  # fmt: skip
        write_grade(self.folder, found)
        self.on_stage("report")
        pictures = make_pictures(found, self.pictures.output, self.pictures.expected)
        write_reports(found, self.folder, pictures, self.homework)
        return found

    def warnings(self, found: SubmissionResult) -> list[Check]:
        """The warnings of a result, with those about the staff file as it is now."""
        settled = settled_warnings(self.homework, found.results, self.staff)
        return [*(each for each in found.warnings if each.name != SETTLED), *settled]

    def earlier_result(self) -> SubmissionResult | None:
        """The result of an earlier call; None if something has changed since, or could not be checked.

        Raises GradingError for a result that another version of the grader wrote.
        """
        try:
            found = read_grade(self.folder)
        except DamagedError as error:
            self.told["grade.json"] = f"The submission was graded again, because its grade.json {error}."
            return None
        if found is None or found.record.get("fingerprint") != self.record["fingerprint"]:
            return None
        statuses = [*(stage.status for stage in found.stages), *(result.status for result in found.results)]
        if "error" in statuses or not set(scripts_use(found.record)) <= set(scripts_use(self.record)):
            return None
        return None if self.changed({stage.stage: stage for stage in found.stages}) else found

    def changed(self, stages: Mapping[str, StageResult]) -> list[str]:
        """The finished runs whose outputs were changed since."""
        changes = output_changes(self.outputs, stages, {run.name: run.folder for run in self.grader.runs})
        for name, found in changes.items():
            self.told[name] = f"{name} ran again, because its outputs had been changed since they were made ({found})."
        return list(changes)

    def graded(self) -> SubmissionResult:
        started = time.time()
        journal = Journal(self.folder / "journal.jsonl", self.record["fingerprint"], scripts_use(self.record))
        stages = {stage.stage: stage for stage in self.run_stages(journal, self.stages(journal))}
        results: list[ProblemResult] = []
        warnings = [Check(name, "warning", sentence) for name, sentence in self.told.items()]
        if fixed := stages.get("fix"):
            self.record["fixes"] = fixed.hints
            warnings += [Check("fix", "warning", hint) for hint in fixed.hints]
        for run in self.grader.runs:
            self.on_stage(f"score {run.name}")
            scored = self.scored(run, stages[run.name], earlier_hints(stages))
            results.append(self.explained(run, scored, stages, journal))
            warnings += self.suspicions(run, stages[run.name], stages["freeze"].files)
            again = stages.get(f"{run.name} twice")
            if again and again.status == "fail":
                warnings.append(Check(again.stage, "warning", again.message))
        if stages["freeze"].status == "fail":
            said = f"The outputs were not compared with the submission's files: {stages['freeze'].message}"
            warnings.append(Check("freeze", "warning", said))
        warnings += [*self.pictures.not_compared(), *self.replaced(list(stages.values()))]
        if all(result.status != "error" for result in results):
            # after an error the copy is kept, so that the scripts need not run again
            self.workplace.discard()
        self.record["times"] = {"started": started, "finished": time.time()}
        name, edition = printable(submission_name(self.source)), self.homework.name
        return SubmissionResult(
            name, "error", 0, 0, 0, edition, [], list(stages.values()), results, warnings, self.record
        )

    # --- stages

    def stages(self, journal: Journal) -> Iterator[Stage]:
        """All stages, in order. Those before the scripts are repeated together, because they share one folder."""
        yield Stage("copy", lambda: copy_submission(self.source, self.workplace), begins_anew=True)
        if self.grader.assignment.fix:
            yield Stage("fix", lambda: fix(self.workplace, self.scripts), begins_anew=True)
        yield Stage("fetch", functools.partial(self.fetch, journal), begins_anew=True)
        yield Stage("freeze", lambda: freeze(self.workplace), begins_anew=True)
        for run in self.grader.runs:
            number, part = run.problem.number, run.part
            yield Stage(run.name, functools.partial(self.run, run, run.folder), False, "script", number, part)
            if self.grader.assignment.twice:
                again = functools.partial(self.run_again, run, journal)
                yield Stage(f"{run.name} twice", again, False, "repeat", number, part)

    def run_stages(self, journal: Journal, stages: Iterator[Stage]) -> Iterator[StageResult]:
        """The results of all stages. Stages that are not in the journal run now. Without a copy, no script can run."""
        planned: Sequence[Stage] = list(stages)
        self.forget_changed(journal, planned)
        for stage in planned:
            if not journal.has(stage.name):
                self.on_stage(stage.name)
                journal.add(replace(stage.work(), stage=stage.name))
            done = journal.done[stage.name]
            detail(f"{stage.name}: {done.status}; {printable(done.message)}")
            yield done
            if stage.begins_anew and done.status == "error":
                later = planned[planned.index(stage) + 1 :]
                yield from (each.not_run(done) for each in later if each.kind != "repeat")
                return

    def forget_changed(self, journal: Journal, planned: Sequence[Stage]) -> None:
        """Forget the stages whose files are not as they were recorded, with all that depends on them."""
        if journal.damage:
            self.told["journal"] = journal.damage
        for name in self.changed(journal.done):
            journal.forget(name)
            journal.forget(f"{name} twice")
        undone = any(stage.begins_anew and not journal.has(stage.name) for stage in planned)
        if undone or not self.workplace.path.exists():
            journal.clear()
        elif found := self.copy_changes(journal.done["freeze"]):
            self.told["freeze"] = f"All stages ran again, because the copy had been changed since ({found})."
            journal.clear()

    def copy_changes(self, frozen: StageResult) -> str:
        """What was changed in the copy since. Trusted code, which runs in the copy itself, may change it."""
        return "" if self.grader.assignment.trust else copy_changes(self.workplace, frozen)

    def fetch(self, journal: Journal) -> StageResult:
        """The download. Where it failed although its links can be reached now, it is tried once more."""
        done = fetch(self.workplace, self.grader.sandbox)
        submitted = journal.done["copy"].files
        for _ in range(2):
            scene = self.scene(done, submitted)
            if not download_failed(scene):
                return done
            if cause := find_cause(scene, download=True):
                return blamed(done, cause)
            copy_submission(self.source, self.workplace)
            if self.grader.assignment.fix:
                fix(self.workplace, self.scripts)
            done = fetch(self.workplace, self.grader.sandbox)
        return done

    def run(self, run: PlannedRun, folder: str) -> StageResult:
        output = self.outputs / folder
        if output.exists():
            remove(output)
        asked, sandbox = self.grader.assignment, self.grader.sandbox
        done = run_script(
            self.workplace, run.problem, run.part, run.inputs, output, sandbox, asked.run_limits, asked.time_scale
        )
        output.mkdir(parents=True, exist_ok=True)
        for made in (self.outputs, output):
            made.chmod(0o755)  # whatever the umask: the user of the sandbox reads it
        return done

    def run_again(self, run: PlannedRun, journal: Journal) -> StageResult:
        folder = f"{run.folder}_again"
        second = self.run(run, folder)
        compared = compare_runs(journal.done[run.name], second)
        if compared.status == "pass":
            remove(self.outputs / folder)
        return replace(compared, seconds=second.seconds, log=second.log if compared.status == "fail" else "")

    # --- scores

    def scored(self, run: PlannedRun, stage: StageResult, hints: Sequence[str] = ()) -> ProblemResult:
        """The result of one run's output. hints: of earlier stages, for the lines that fail."""
        problem, part = run.problem, run.part
        if stage.status == "error":
            return problem.unchecked(part, Check("run", "error", stage.message), stage.traceback)
        judges = self.grader.judges
        output, data, public = self.outputs / run.folder, run.root, self.grader.assignment.data
        try:
            reader = self.pictures.reader
            result = problem.score(Run(part, output, data, public, run.inputs, judges, reader, stage.reasons))
        except Exception as error:
            failure = described_failure(error, self.folder)
            return problem.unchecked(part, Check("score", "error", failure.sentence), failure.traceback)
        refused = [Check("collect", "warning", sentence) for sentence in stage.refused]
        told = stage.status == "fail" or not result.complete
        ended = " ".join([*([stage.message] if told else []), *hints])
        return replace(result, ended=ended, checks=[*result.checks, *refused])

    def explained(
        self, run: PlannedRun, result: ProblemResult, stages: dict[str, StageResult], journal: Journal
    ) -> ProblemResult:
        """The same result, unless outputs are missing because of the machine: then it could not be checked.

        The stage at fault is then an error in `stages` and in the journal, so that it runs again the next time.
        """
        if result.status == "error" or result.complete:
            return result
        fetched, stage = stages["fetch"], stages[run.name]
        try:
            at_fault = fetched if fetched.cause and fetched.cause.whose == "machine" else stage
            cause = at_fault.cause or find_cause(self.scene(stage, stages["copy"].files))
        except Exception as error:
            failure = described_failure(error, self.folder)
            return run.problem.unchecked(run.part, Check("cause", "error", failure.sentence), failure.traceback)
        if cause is None:
            return result
        done = replace(blamed(at_fault, cause), status="error" if cause.whose == "machine" else at_fault.status)
        stages[done.stage] = done
        journal.add(done)
        if cause.whose == "machine":
            return run.problem.unchecked(run.part, Check(CAUSE, "error", cause.evidence))
        return replace(result, ended=f"{result.ended} {cause.evidence}")

    def scene(self, stage: StageResult, submitted: Mapping[str, str]) -> Scene:
        """What the rules on causes are given."""
        asked, place = self.grader.assignment, self.workplace
        return Scene(
            stage, place.submission, place.home, submitted, self.grader.probes, FETCH, asked.hub_cache, asked.gpu
        )

    def suspicions(self, run: PlannedRun, stage: StageResult, submitted: Mapping[str, str]) -> list[Check]:
        """Warnings for staff."""
        try:
            return run.problem.suspicions(self.pictures.evidence(run, stage, submitted))
        except Exception as error:
            return [Check(f"{run.name} warnings", "warning", described_failure(error, self.folder).sentence)]

    def replaced(self, stages: Sequence[StageResult]) -> list[Check]:
        """Warnings about replaced code. Also writes the facts that a class is compared by."""
        submission = self.workplace.submission
        try:
            truth = {digest for run in self.grader.runs for digest in expected_hashes(run).values()}
            write_facts(self.folder, facts_of(submission, stages, truth | set(self.grader.hashes.values())))
            return list(replaced_code(submission, stages))
        except Exception as error:
            return [Check("facts", "warning", described_failure(error, self.folder).sentence)]


def _check_there(path: Path, option: str, replaced: bool = True) -> None:
    """Raises GradingError if one of staff's files is missing. option: the option that sets its path."""
    if not path.exists():
        other = "set another path" if replaced else "set its path"
        raise GradingError(
            f"{printable(str(path))} is missing, but the homework's data must be there; {other}, or leave the problem "
            "out",
            option=option,
        )


def _root_option(run: PlannedRun, shared: bool = False) -> str:
    return "private" if run.part is Part.PRIVATE and not shared else "data"
