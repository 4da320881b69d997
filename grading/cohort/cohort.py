"""A whole class: each submission graded by some worker of the engine Ray, once, on one machine or on many.

What is finished lies in the submissions' own folders (see `submission.Grader`); nothing else has to be remembered. On
a cluster all machines must see the same files under the same names, and have this package.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from grading.cohort.screen import Running, Screen
from grading.core.errors import GradingError, failure_sentence
from grading.core.results import Check, SubmissionResult
from grading.core.text import printable
from grading.files.storage import locked, write_whole
from grading.points.lines import StaffEntry

if TYPE_CHECKING:
    from grading.submission.assignment import Assignment

MAX_TRIES = 3
"""Workers that may die over one submission, and in a row before they can begin."""

LOCK_WAIT = 60.0
"""Seconds to wait for a folder in which a worker of an earlier call, or of a lost machine, is still at work."""

LOOK = 0.5
"""Seconds between two looks at the workers."""

OBJECT_STORE = 80 * 2**20
"""Bytes, about Ray's least: results are small."""

OWN_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # what makes Ray listen on 127.0.0.1 only
    "RAY_DEDUP_LOGS": "0",
    "RAY_TQDM_PATCH_PRINT": "0",  # or it replaces builtins.print
    "RAY_memory_monitor_refresh_ms": "0",  # the sandbox watches memory; a worker must not die for what it runs
}


class Grades(Protocol):
    """What a worker needs; a `Grader` can do it."""

    def grade(self, source: Path, folder: Path, staff: StaffEntry, on_stage: Callable[[str], None]) -> SubmissionResult:
        """As `Grader.grade`."""


@dataclass(frozen=True)
class Submission:
    """One submission of the class: what was handed in, and the folder of ours for all that becomes of it."""

    source: Path
    folder: Path
    staff: StaffEntry = field(default_factory=StaffEntry)

    @property
    def name(self) -> str:
        """That of its folder, which its result has too, so that pages find it."""
        return self.folder.name


def grade_cohort(
    submissions: Path,
    assignment: Assignment,
    output: Path,
    staff: Mapping[str, StaffEntry] | None = None,
    workers: int | None = None,
    address: str = "",
) -> list[SubmissionResult]:
    """Grade every sub-folder of `submissions`; the results are in the order of their names, without files' hashes.

    Leaves in `output`: students/NAME/ with all that `Grader.grade` writes, scores.csv and index.html. Called again, it
    keeps what is finished and goes on with the rest. staff: by name. workers: how many submissions run at a time, by
    default one for each GPU, or one. address: of a Ray cluster that this machine belongs to, "auto" or HOST:PORT; ""
    starts Ray here.
    Raises GradingError if there is nothing to grade, output is in use, Ray or a worker cannot begin, or on Ctrl-C.
    """
    from grading.reports.class_page import class_page, scores_csv

    submissions, output, assignment = submissions.absolute(), output.absolute(), _absolute(assignment)
    found, notes = find_submissions(submissions, output, staff or {})
    wants_gpu = assignment.sandbox.gpu or assignment.device != "cpu"
    must_have_gpu = assignment.sandbox.gpu or assignment.device.startswith("cuda")
    try:
        with locked(output), Screen(len(found)) as screen:
            try:
                for note in notes:
                    screen.say(note.message)
                with ray_engine(address, workers, wants_gpu, must_have_gpu) as engine:
                    results = grade_all(found, functools.partial(_grader, assignment), engine, screen)
            except KeyboardInterrupt:
                done = f"{screen.outcomes.total()} of {screen.total} submissions"
                raise GradingError(f"interrupted after {done}; the same command goes on from there") from None
            write_whole(output / "scores.csv", scores_csv(results).encode())
            write_whole(output / "index.html", class_page(results).encode())
    except OSError as error:
        name = printable(str(error.filename or output))
        raise GradingError(f"{name} cannot be used ({error.strerror}); make room or choose another folder") from None
    return results


def find_submissions(
    submissions: Path, output: Path, staff: Mapping[str, StaffEntry]
) -> tuple[list[Submission], list[Check]]:
    """The sub-folders in the order of their names, and warnings of what else is there, or is in `staff` alone.

    Raises GradingError if there is none, or output and submissions lie within each other.
    """
    shown = printable(str(submissions))
    students = output / "students"
    if output.resolve().is_relative_to(submissions.resolve()):
        raise GradingError(f"the output {printable(str(output))} lies among the submissions; choose another folder")
    if submissions.resolve().is_relative_to(students.resolve()):
        raise GradingError(f"the submissions {shown} lie in the output's folder students; choose another output")
    found, notes = [], []
    try:
        entries = sorted(os.scandir(submissions), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise GradingError(f"{shown} cannot be read ({error.strerror}); expected a folder of submissions") from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folder = students / _folder_name(entry.name)
            found.append(Submission(Path(entry.path), folder, staff.get(entry.name, StaffEntry())))
        else:
            what = "a symbolic link, which is not followed" if entry.is_symlink() else "no folder"
            notes.append(Check("entry", "warning", f"{printable(entry.name)} is {what}: it is not graded."))
    if not found:
        raise GradingError(f"{shown} has no sub-folders; expected one for each submission")
    if len({submission.name for submission in found}) < len(found):
        raise GradingError(f"two submissions of {shown} would share one folder of the output; rename one of them")
    for name in sorted(staff.keys() - {submission.source.name for submission in found}):
        notes.append(Check("staff", "warning", f"The staff's file names {printable(name)}, which is not there."))
    return found, notes


def _folder_name(name: str) -> str:
    """The same for a name that can be printed; else one that can, and is nobody else's."""
    if name.isprintable():
        return name
    return f"{printable(name)[:50]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


@dataclass(frozen=True)
class Engine:
    """A Ray that runs. resources: what one worker takes of it."""

    workers: int
    resources: Mapping[str, Any]


@contextmanager
def ray_engine(
    address: str = "", workers: int | None = None, wants_gpu: bool = False, must_have_gpu: bool = False
) -> Iterator[Engine]:
    """Ray of our own, or that of `address`; afterwards its workers are gone.

    Our own listens on 127.0.0.1 only and serves who knows a secret of this process; it sends no statistics.
    Raises GradingError if there is no Ray, or no GPU where one is needed.
    """
    if workers is not None and workers < 1:
        raise GradingError(f"{workers} workers were asked for; expected 1 or more")
    if not address:
        # Ray reads these once a process, most of them when it is imported
        os.environ.update(OWN_RAY)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise GradingError(
            "a class is graded with Ray, which is not installed; pip install 'dlcv-hw2[cohort]'"
        ) from None
    # of our own, since others could replace Ray's sockets; short, since those may have 107 characters
    scratch = Path(tempfile.mkdtemp(prefix="hw2-ray-", dir="/tmp"))
    try:
        # of workers that die we tell ourselves; Ray would on stdout, at length
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            try:
                _start_ray(address, scratch, workers, wants_gpu)
                gpus = int(ray.cluster_resources().get("GPU", 0)) if wants_gpu else 0
                if must_have_gpu and not gpus:
                    raise GradingError("a GPU was asked for and Ray finds none; choose --device cpu or another machine")
                yield Engine(workers or gpus or 1, {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1})
            finally:
                ray.shutdown()
    except ray.exceptions.RayError as error:
        raise GradingError(f"Ray failed ({_reason(error)}); the same command goes on from there") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _start_ray(address: str, scratch: Path, workers: int | None, wants_gpu: bool) -> None:
    import ray

    own: dict[str, Any] = {}
    if not address:
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE, "_temp_dir": str(scratch)}
        own |= {} if wants_gpu else {"num_cpus": workers or 1, "num_gpus": 0}
    try:
        with contextlib.chdir(scratch):  # workers import from the current folder first, which could be a submission
            ray.init(address=address or "local", configure_logging=False, log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = f"at {printable(address)}" if address else "here"
        raise GradingError(f"Ray cannot be started or joined {where} ({_reason(error)})") from None


class Worker:
    """Lives in a process of its own, somewhere; its grader, with the judges, is made once."""

    def __init__(self, make_grader: Callable[[], Grades]) -> None:
        self.make_grader = make_grader

    def prepare(self) -> str:
        """Why there will be no grader; "" if there is one."""
        try:
            self.grader = self.make_grader()
        except Exception as error:
            return failure_sentence(error)
        return ""

    def grade(self, submission: Submission) -> SubmissionResult:
        """Without the hashes of its files: a class's would not fit into memory, and they are in its folder."""
        try:
            with locked(submission.folder, LOCK_WAIT):
                pass
            on_stage = functools.partial(_tell_stage, submission.folder)
            result = self.grader.grade(submission.source, submission.folder, submission.staff, on_stage)
        except Exception as error:
            return ungraded(submission.name, failure_sentence(error))
        finally:
            with suppress(OSError):
                _stage_file(submission.folder).unlink(missing_ok=True)
        stages = [replace(stage, files={}) for stage in result.stages]
        return replace(result, submission=submission.name, stages=stages)


def grade_all(
    submissions: Sequence[Submission], make_grader: Callable[[], Grades], engine: Engine, screen: Screen
) -> list[SubmissionResult]:
    """One result for each submission, in the same order. make_grader: runs in each worker, once.

    Raises GradingError if a worker says that it cannot grade at all, or MAX_TRIES in a row die before they can begin.
    """
    shift = _Shift(submissions, make_grader, engine, screen)
    try:
        shift.work()
    finally:
        shift.end()
    return [shift.results[submission.name] for submission in submissions]


class _Shift:
    """One call of `grade_all`. Workers are preparing, idle or running; the keys are what Ray will tell of."""

    def __init__(
        self, submissions: Sequence[Submission], make_grader: Callable[[], Grades], engine: Engine, screen: Screen
    ) -> None:
        import ray

        self.ray: Any = ray
        self.actor: Any = ray.remote(**engine.resources, max_restarts=0, max_task_retries=0)(Worker)
        self.make_grader, self.screen = make_grader, screen
        self.wanted = min(engine.workers, len(submissions))
        self.waiting = deque(submissions)
        self.workers: list[Any] = []
        self.preparing: dict[Any, Any] = {}
        self.idle: list[Any] = []
        self.running: dict[Any, tuple[Any, Submission, float]] = {}
        self.deaths = Counter[str]()
        self.stillborn = 0
        self.results: dict[str, SubmissionResult] = {}

    def work(self) -> None:
        for _ in range(self.wanted):
            self.hire()
        while self.waiting or self.running:
            # only to those that have begun: others may wait for a machine for ever
            while self.waiting and self.idle:
                worker, submission = self.idle.pop(), self.waiting.popleft()
                self.running[worker.grade.remote(submission)] = worker, submission, time.monotonic()
            for told in self.ray.wait([*self.preparing, *self.running], timeout=LOOK)[0]:
                (self.prepared if told in self.preparing else self.ended)(told)
            self.screen.workers = len(self.idle) + len(self.running)
            self.screen.running = [
                Running(submission.name, began, _stage(submission.folder))
                for _, submission, began in self.running.values()
            ]

    def hire(self) -> None:
        worker = self.actor.remote(self.make_grader)
        self.workers.append(worker)
        self.preparing[worker.prepare.remote()] = worker

    def prepared(self, told: Any) -> None:
        worker = self.preparing.pop(told)
        try:
            unfit = self.ray.get(told)
        except self.ray.exceptions.RayError as error:
            self.stillborn += 1
            if self.stillborn >= MAX_TRIES:
                raise GradingError(f"workers die before they can begin ({_reason(error)})") from None
            self.hire()
            return
        if unfit:
            raise GradingError(f"a worker cannot grade: {unfit.rstrip('.')}")
        self.stillborn = 0
        self.idle.append(worker)

    def ended(self, told: Any) -> None:
        worker, submission, began = self.running.pop(told)
        try:
            result = self.ray.get(told)
        except self.ray.exceptions.RayError as error:
            self.ray.kill(worker)  # it may only be out of reach
            self.hire()
            self.deaths[submission.name] += 1
            said = f"{submission.name}: its worker died ({_reason(error)})"
            if self.deaths[submission.name] < MAX_TRIES:
                self.screen.say(f"{said}; it will be tried again.")
                self.waiting.append(submission)
                return
            self.screen.say(f"{said}; it is given up.")
            sentence = f"The grader could not do its part: {MAX_TRIES} workers died over this submission."
            result = ungraded(submission.name, sentence)
        else:
            self.idle.append(worker)
        self.results[submission.name] = result
        self.screen.finished(result, time.monotonic() - began)

    def end(self) -> None:
        """Ray would end them, too, but when it finds time."""
        for worker in self.workers:
            self.ray.kill(worker)


def ungraded(name: str, sentence: str) -> SubmissionResult:
    """The result of a submission that we could not grade, which is nobody's zero."""
    return SubmissionResult(name, "error", 0, 0, 0, warnings=[Check("grading", "error", sentence)])


def _grader(assignment: Assignment) -> Grades:
    """In a worker: a grader whose scripts see the GPU that Ray set aside for it, no other."""
    from grading.submission.grader import Grader

    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if assignment.sandbox.gpu and devices is not None:
        environment = {**assignment.sandbox.environment, "CUDA_VISIBLE_DEVICES": devices}
        assignment = replace(assignment, sandbox=replace(assignment.sandbox, environment=environment))
    return Grader(assignment)


def _absolute(assignment: Assignment) -> Assignment:
    """The same for a process whose current folder is another one."""

    def path(given: Path | None) -> Path | None:
        return given and given.absolute()

    def name(given: str) -> str:
        return str(Path(given).absolute()) if Path(given).exists() else given

    sandbox = replace(
        assignment.sandbox,
        python=assignment.sandbox.python.absolute(),
        hidden=tuple(hidden.absolute() for hidden in assignment.sandbox.hidden),
    )
    return replace(
        assignment,
        data=assignment.data.absolute(),
        private=path(assignment.private),
        unet=path(assignment.unet),
        stable_diffusion=path(assignment.stable_diffusion),
        mnistm_classifier=name(assignment.mnistm_classifier),
        svhn_classifier=name(assignment.svhn_classifier),
        clip=name(assignment.clip),
        sandbox=sandbox,
    )


def _stage_file(folder: Path) -> Path:
    return folder / "stage"


def _tell_stage(folder: Path, stage: str) -> None:
    with suppress(OSError):  # the screen is not worth a grade
        _stage_file(folder).write_text(stage)


def _stage(folder: Path) -> str:
    try:
        return _stage_file(folder).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _reason(error: Exception) -> str:
    """The first line of what Ray says."""
    return printable(str(error).strip().partition("\n")[0])
