"""The grading of one whole submission, stage by stage, from its scripts to its reports.

Finished stages are in a journal, so a grading that was killed goes on where it stopped.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError, failure_sentence
from grading.core.results import Check, ConceptsResult, DigitsResult, FacesResult, StageResult, SubmissionResult
from grading.core.spec import FACES_THRESHOLD
from grading.core.text import printable
from grading.files.decode import read_images
from grading.files.images import DecodedImages, GradedImage, ImageRefused, read_png
from grading.files.storage import locked, write_whole
from grading.judges.classifiers import LoadedJudge, choose_digit_judge, chosen_device
from grading.judges.clip import ClipJudge, load_clip
from grading.points.lines import StaffEntry, score_lines, total, verdict
from grading.problems import suspicions as gaming
from grading.problems.concepts import grade_concepts, read_concepts
from grading.problems.digits import grade_digits
from grading.problems.faces import grade_faces
from grading.reports.gradescope import gradescope_results
from grading.reports.junit import junit_xml
from grading.reports.pictures import Pictures, make_pictures
from grading.reports.submission_page import submission_page
from grading.sandbox.run import run_sandboxed
from grading.submission.assignment import Assignment, Run
from grading.submission.journal import Journal
from grading.submission.provenance import data_hashes, hardware, listing_hash, versions
from grading.submission.stages import TIME_LIMITS, Workplace, compare_runs, copy_submission, fetch, freeze, run_script

PREPARED = ("copy", "fetch", "freeze")
"""Stages that are one: a grading that stopped among them begins anew."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")

MAX_OWN_PICTURES = 5000
"""Pictures of a submission that are compared with its outputs."""

Result = TypeVar("Result", bound=DigitsResult | FacesResult | ConceptsResult)


class Grader:
    """Grades submissions of one assignment, one after the other; judges are loaded when first needed, and kept."""

    def __init__(self, assignment: Assignment) -> None:
        """Raises GradingError if something that the assignment names is missing, or no sandbox can be made."""
        self.assignment = assignment
        self.runs = list(assignment.runs())
        self.sandbox = replace(assignment.sandbox, hidden=(*assignment.sandbox.hidden, *assignment.hidden()))
        named = {f"{run.folder}/{name}": path for run in self.runs for name, path in run.data.items()}
        named |= {f"{run.folder}/expected": path for run in self.runs if (path := run.expected) is not None}
        for path in named.values():
            if not path.exists():
                option = assignment.option(path)
                raise GradingError(
                    f"{printable(str(path))} is missing; expected the homework's data there: "
                    f"name another place with {option}, or leave the problem out with --problems"
                )
        run_sandboxed(["true"], submission=Path("/usr"), sandbox=assignment.sandbox).close()
        self.hashes = data_hashes(named)

    def grade(
        self,
        source: Path,
        folder: Path,
        staff: StaffEntry | None = None,
        on_stage: Callable[[str], None] = lambda _name: None,
    ) -> SubmissionResult:
        """The result of the submission in `source`, with all that belongs to it in `folder`.

        There: journal.jsonl, grade.json, the reports, and outputs/ with what the scripts wrote. Called again, it keeps
        what is finished, as long as submission and assignment are the same; what could not be done is tried again.
        on_stage is told the name of each stage when it begins.
        Raises GradingError if source is no folder, or folder is in use or cannot be written.
        """
        if source.is_symlink() or not source.is_dir():
            raise GradingError(f"{printable(str(source))} is no folder; expected a submission")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                return _Grading(self, source, folder, staff or StaffEntry(), on_stage).result()
        except OSError as error:
            name = printable(str(error.filename or folder))
            reason = f"({error.strerror}); make room or choose another folder"
            raise GradingError(f"{name} cannot be used {reason}") from None

    @functools.cached_property
    def device(self) -> str:
        """Where judges think."""
        return chosen_device(self.assignment.device)

    @functools.cached_property
    def digit_judges(self) -> dict[str, LoadedJudge]:
        """By data set."""
        return {
            "mnistm": choose_digit_judge("mnistm", self.assignment.mnistm_classifier, self.device),
            "svhn": choose_digit_judge("svhn", self.assignment.svhn_classifier, self.device),
        }

    @functools.cached_property
    def clip_judge(self) -> ClipJudge:
        """Of Problem 3."""
        return load_clip(self.assignment.clip, self.device)

    def record(self) -> dict[str, Any]:
        """What the numbers depend on, times and judges aside; judges are in the problems' results."""
        asked = self.assignment
        return {
            "versions": versions(),
            "hardware": hardware(),
            "data_sha256": self.hashes,
            "seeds": "grading draws nothing at random",
            "problems": list(asked.problems),
            "limits": asdict(asked.limits) | {"seconds": {str(n): TIME_LIMITS[n] for n in asked.problems}},
            "options": {
                "mnistm_classifier": asked.mnistm_classifier,
                "svhn_classifier": asked.svhn_classifier,
                "clip": asked.clip,
                "device": asked.device,
                "twice": asked.twice,
                "private": asked.private is not None,
                "sandbox": "none, the code is trusted" if asked.sandbox.trust else "bubblewrap",
                "gpu": asked.sandbox.gpu,
            },
        }


class _Grading:
    """One call of `Grader.grade`."""

    def __init__(
        self, grader: Grader, source: Path, folder: Path, staff: StaffEntry, on_stage: Callable[[str], None]
    ) -> None:
        self.grader, self.source, self.folder, self.staff, self.on_stage = grader, source, folder, staff, on_stage
        self.workplace = Workplace(folder / "work")
        self.outputs = folder / "outputs"
        self.record = grader.record()
        self.record["fingerprint"] = _fingerprint(self.record, source)

    def result(self) -> SubmissionResult:
        found = self.earlier_result() or self.graded()
        lines = score_lines(found.digits, found.faces, found.concepts, self.staff)
        points, max_points, unchecked = total(lines)
        found = replace(
            found, status=verdict(lines), points=points, max_points=max_points, unchecked=unchecked, lines=lines
        )
        write_whole(self.folder / "grade.json", _RESULT.dump_json(found, indent=2) + b"\n")
        self.on_stage("report")
        write_reports(found, self.folder, make_pictures(found, self.picture, self.truth))
        return found

    def earlier_result(self) -> SubmissionResult | None:
        """Of an earlier call, if nothing has changed since and there was nothing that we could not do."""
        try:
            found = _RESULT.validate_json((self.folder / "grade.json").read_bytes())
        except (OSError, ValidationError):
            return None
        same = found.record.get("fingerprint") == self.record["fingerprint"]
        undone = [stage for stage in found.stages if stage.status == "error"]
        return found if same and not undone and verdict(found.lines) != "error" else None

    def graded(self) -> SubmissionResult:
        started = time.time()
        journal = Journal(self.folder / "journal.jsonl", self.record["fingerprint"])
        stages = {stage.stage: stage for stage in self.stages(journal)}
        result = SubmissionResult(
            printable(self.source.name), "error", 0, 0, 0, stages=list(stages.values()), record=self.record
        )
        for run in self.grader.runs:
            self.on_stage(f"score {run.name}")
            stage = stages[run.name]
            if run.problem == 1:
                result = replace(result, digits=self.scored(run, stage, _no_digits, self.digits))
            elif run.problem == 2:
                result.faces[run.part] = self.scored(run, stage, _no_faces, self.faces)
            else:
                result.concepts[run.part] = self.scored(run, stage, _no_concepts, self.concepts)
            result.warnings.extend(self.warnings(run, stage, stages["freeze"].files))
            again = stages.get(f"{run.name} twice")
            if again and again.status == "fail":
                result.warnings.append(Check(again.stage, "warning", again.message))
        if verdict(score_lines(result.digits, result.faces, result.concepts, self.staff)) != "error":
            # else it is kept, and the scripts need not run again
            shutil.rmtree(self.workplace.path, ignore_errors=True)
        self.record["times"] = {"started": started, "finished": time.time()}
        return result

    # --- stages

    def stages(self, journal: Journal) -> Iterator[StageResult]:
        """All stages in order, those that the journal has not yet run now."""
        prepared = [journal.done.get(name) for name in PREPARED]
        if any(stage is None or stage.status == "error" for stage in prepared) or not self.workplace.path.exists():
            journal.clear()
            for name, work in zip(PREPARED, (self.copy, self.fetch, self.freeze), strict=True):
                self.on_stage(name)
                journal.add(work())
        yield from (journal.done[name] for name in PREPARED)
        unprepared = next((journal.done[name] for name in PREPARED if journal.done[name].status == "error"), None)
        for run in self.grader.runs:
            if unprepared:
                yield StageResult(run.name, "error", unprepared.message)
                continue
            yield self.stage(journal, run.name, functools.partial(self.run, run, run.folder))
            if self.grader.assignment.twice:
                again = functools.partial(self.run_again, run, journal.done[run.name])
                yield self.stage(journal, f"{run.name} twice", again)

    def stage(self, journal: Journal, name: str, work: Callable[[], StageResult]) -> StageResult:
        earlier = journal.done.get(name)
        if earlier is None or earlier.status == "error":
            self.on_stage(name)
            journal.add(replace(work(), stage=name))
        return journal.done[name]

    def copy(self) -> StageResult:
        return copy_submission(self.source, self.workplace)

    def fetch(self) -> StageResult:
        return fetch(self.workplace, self.grader.sandbox)

    def freeze(self) -> StageResult:
        return freeze(self.workplace)

    def run(self, run: Run, folder: str) -> StageResult:
        output = self.outputs / folder
        if output.exists():
            shutil.rmtree(output)
        done = run_script(
            self.workplace, run.problem, run.data, output, self.grader.sandbox, self.grader.assignment.limits
        )
        output.mkdir(parents=True, exist_ok=True)
        return done

    def run_again(self, run: Run, first: StageResult) -> StageResult:
        folder = f"{run.folder}_again"
        second = self.run(run, folder)
        compared = compare_runs(first, second)
        if compared.status == "pass":
            shutil.rmtree(self.outputs / folder)
        return replace(compared, seconds=second.seconds, log=second.log if compared.status == "fail" else "")

    # --- scores

    def scored(
        self, run: Run, stage: StageResult, failed: Callable[[Check], Result], work: Callable[[Run], Result]
    ) -> Result:
        """The result of one run's output. failed: makes one of an error of ours."""
        if stage.status == "error":
            return failed(Check("run", "error", stage.message))
        try:
            result = work(run)
        except Exception as error:
            return failed(Check("score", "error", failure_sentence(error)))
        before = [Check("run", "warning", stage.message)] if stage.status == "fail" else []
        refused = [Check("collect", "warning", sentence) for sentence in stage.refused]
        return replace(result, checks=[*before, *result.checks, *refused])

    def digits(self, run: Run) -> DigitsResult:
        return grade_digits(self.outputs / run.folder, self.grader.digit_judges, read=self.images.read_png)

    def faces(self, run: Run) -> FacesResult:
        return grade_faces(self.outputs / run.folder, run.root / "face" / "GT", read=self.images.read_png)

    def concepts(self, run: Run) -> ConceptsResult:
        asked = read_concepts(run.data["input.json"])
        references = self.grader.assignment.references(run.root)
        folder = self.outputs / run.folder
        return grade_concepts(folder, asked, references, self.grader.clip_judge, self.images.read_image)

    @functools.cached_property
    def decoded(self) -> dict[str, GradedImage | ImageRefused]:
        """All pictures below outputs/, read in one sandbox; Problem 3 takes other kinds than PNG, too."""
        names: dict[bool, list[str]] = {True: [], False: []}
        for run in self.grader.runs:
            found = sorted((self.outputs / run.folder).rglob("*"))
            names[run.problem != 3] += [str(path.relative_to(self.outputs)) for path in found if _is_picture(path)]
        return read_images(self.outputs, names[True], names[False], self.grader.sandbox)

    @property
    def images(self) -> DecodedImages:
        """What stands in for reading files of outputs/."""
        return DecodedImages(self.outputs, self.decoded)

    def picture(self, path: str) -> ImageU8 | None:
        """(H, W, 3) of a picture below outputs/, None if there is none that could be read."""
        try:
            return self.images.read_image(self.outputs, path)
        except (ImageRefused, GradingError):
            return None

    def truth(self, path: str) -> ImageU8 | None:
        """The face that public/NAME or private/NAME should be."""
        part, name = path.split("/", 1)
        root = next(run.root for run in self.grader.runs if (run.problem, run.part) == (2, part))
        try:
            return read_png(root / "face" / "GT", name).pixels_u8
        except ImageRefused:
            return None

    def warnings(self, run: Run, stage: StageResult, submitted: Mapping[str, str]) -> list[Check]:
        """For staff: what does not look like a network's work."""
        try:
            read = {name: image.pixels_u8 for name, image in self.decoded.items() if isinstance(image, GradedImage)}
            images = _below(run.folder, read)
            parts = {run.name: images}
            if run.problem == 1:
                parts = {f"{run.name} {part}": _below(part, images) for part in ("mnistm", "svhn")}
            found = [check for where, of_part in parts.items() for check in gaming.repeated_images(where, of_part)]
            if run.problem == 1:
                for where, of_part in parts.items():
                    found += gaming.near_duplicates_across_digits(where, of_part)
                found += gaming.too_fast(run.name, stage.seconds, len(images))
            truth = _truth(run)
            found += gaming.copied_files(run.name, stage.files, submitted, truth)
            found += gaming.copied_pixels(run.name, images, self.own_pictures)
        except Exception as error:
            return [Check(f"{run.name} warnings", "warning", failure_sentence(error))]
        return found

    @functools.cached_property
    def own_pictures(self) -> dict[str, ImageU8]:
        """Pictures that the submission came with, its downloads included."""
        root = self.workplace.submission
        names = [
            str(path.relative_to(root))
            for path in sorted(root.rglob("*"))
            if _is_picture(path) and not path.is_symlink() and path.name.isprintable()
        ]
        decoded = read_images(root, [], names[:MAX_OWN_PICTURES], self.grader.sandbox)
        return {name: image.pixels_u8 for name, image in decoded.items() if isinstance(image, GradedImage)}


_RESULT = TypeAdapter(SubmissionResult)


def write_reports(result: SubmissionResult, folder: Path, pictures: Pictures) -> None:
    """Write a submission's reports into its folder.

    report.html is for staff, student.html the same without anything private; results.json is Gradescope's.
    """
    write_whole(folder / "report.html", submission_page(result, pictures).encode())
    write_whole(folder / "student.html", submission_page(result, pictures, public_only=True).encode())
    write_whole(folder / "results.json", json.dumps(gradescope_results(result), indent=2).encode() + b"\n")
    write_whole(folder / "junit.xml", junit_xml(result).encode())


def _no_digits(check: Check) -> DigitsResult:
    return DigitsResult("error", checks=[check])


def _no_faces(check: Check) -> FacesResult:
    return FacesResult("error", FACES_THRESHOLD, checks=[check])


def _no_concepts(check: Check) -> ConceptsResult:
    return ConceptsResult("error", checks=[check])


def _truth(run: Run) -> dict[str, str]:
    folder = run.expected
    if folder is None:
        return {}
    return data_hashes({f"{folder.name}/{path.name}": path for path in sorted(folder.glob("*.png"))})


def _is_picture(path: Path) -> bool:
    return path.name.lower().endswith(PICTURES) and not path.is_dir()


def _below(folder: str, images: Mapping[str, ImageU8]) -> dict[str, ImageU8]:
    return {name.removeprefix(f"{folder}/"): pixels for name, pixels in images.items() if name.startswith(f"{folder}/")}


def _fingerprint(record: Mapping[str, Any], source: Path) -> str:
    """Of all that a result depends on; the machine aside."""
    content = {name: value for name, value in record.items() if name != "hardware"}
    return hashlib.sha256(json.dumps([content, listing_hash(source)], sort_keys=True).encode()).hexdigest()
