"""The configuration of a grading. The fields of `Assignment` are the options of the commands for submissions."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from grading import homeworks
from grading.core.errors import GradingError
from grading.core.results import Part
from grading.core.text import printable
from grading.environment.python import linked_folders
from grading.homeworks.homework import Homework
from grading.judges import JUDGES, Judges
from grading.judges.protocols import CLIP_MODEL, SAM_MODEL
from grading.judges.sources import NAMED, Choice
from grading.problems.problem import Input, Problem
from grading.sandbox.network import read_networks
from grading.sandbox.run import Limits, Sandbox
from grading.submission.devices import judges_device

JUDGE_OPTIONS = tuple(kind.option for kind in JUDGES.values())
"""The options that name one judge each."""

MAX_TIME_SCALE = 1000.0

EMBEDDED_MARK = "EMBEDDED.txt"
"""The file by which the data folder of the embedded homework is known, also where it was copied to."""


@dataclass(frozen=True)
class Assignment:
    """The configuration of a grading. Each annotated field is an option, declared here and nowhere else.

    limits, points: changes to the sandbox's limits and to the homework's points, from an assignment file. environment:
    more variables for the scripts. source: the values in the assignment file and on the command line, for the record.
    """

    data: Annotated[
        Path,
        typer.Option(
            help="Folder with the homework's data. (default: hw2_data in this folder; with `check`, the embedded "
            "homework; with `doctor`, none)"
        ),
    ]
    private: Annotated[
        Path | None,
        typer.Option(
            help="Folder like hw2_data, with the private inputs and ground truth. `submission` and `cohort` need this, "
            "or --public-only."
        ),
    ] = None
    homework: Annotated[str, typer.Option(help=f"Edition of the homework: {', '.join(homeworks.HOMEWORKS)}.")] = (
        homeworks.DEFAULT
    )
    problems: Annotated[str, typer.Option(help="Problems to grade, such as 1,3. (default: all)")] = ""
    unet: Annotated[
        Path | None, typer.Option(help="File that scripts get as UNet.pt. (default: DATA/face/UNet.pt)")
    ] = None
    stable_diffusion: Annotated[
        Path | None, typer.Option(help="File or folder that scripts get as model.ckpt. (default: DATA/model.ckpt)")
    ] = None
    judges: Annotated[
        Choice,
        typer.Option(help="Judges, unless one is named: official, or embedded (ours, for the embedded homework)."),
    ] = "official"
    mnistm_classifier: Annotated[
        str,
        typer.Option(
            help="Judge of MNIST-M digits: official (DATA/Classifier.pth), embedded, or a file like it. "
            "(default: as --judges)",
            metavar="official|embedded|FILE",
        ),
    ] = ""
    svhn_classifier: Annotated[
        str,
        typer.Option(
            help="Judge of SVHN digits: official (resnet34_svhn from the Hub), embedded, or its pytorch_model.bin. "
            "(default: as --judges)",
            metavar="official|embedded|FILE",
        ),
    ] = ""
    clip: Annotated[
        str,
        typer.Option(
            help=f"Judge of pictures: official ({CLIP_MODEL}), embedded, a folder of transformers, or a name on the "
            "Hub. (default: as --judges)",
            metavar="official|embedded|FOLDER|NAME",
        ),
    ] = ""
    sam: Annotated[
        str,
        typer.Option(
            help=f"Judge of masks (fall2025): official ({SAM_MODEL}), a folder of transformers, or a name on the Hub. "
            "(default: as --judges)",
            metavar="official|FOLDER|NAME",
        ),
    ] = ""
    device: Annotated[
        str, typer.Option(help="Device for the judges: cpu, cuda, cuda:N, or auto (a GPU if there is one).")
    ] = "auto"
    twice: Annotated[bool, typer.Option("--twice", help="Run each script twice and compare the files.")] = False
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Fix names, folders and line ends of scripts in the copy, and deduct points for fixed code."
        ),
    ] = False
    gpu: Annotated[bool, typer.Option("--gpu", help="Let scripts use the NVIDIA devices.")] = False
    trust: Annotated[bool, typer.Option("--trust", help="Run without a sandbox, for your own code only.")] = False
    host_network: Annotated[
        bool,
        typer.Option(
            "--host-network",
            help="Let downloads use this machine's own network, with its services and private addresses. (default: the "
            "Internet alone)",
        ),
    ] = False
    reachable: Annotated[
        str,
        typer.Option(
            help="Private addresses that downloads may reach, such as 10.1.2.3,10.2.0.0/16. (default: none)",
            metavar="ADDRESSES",
        ),
    ] = ""
    python: Annotated[
        Path,
        typer.Option(help="Environment whose python3 the scripts use. (default: the grader's own)", show_default=False),
    ] = Path(sys.prefix)
    hub_cache: Annotated[
        Path | None,
        typer.Option(help="Hugging Face cache that scripts may read, made by `hw2-grade hub-cache`. (default: none)"),
    ] = None
    time_scale: Annotated[
        float, typer.Option(help="Factor of the official time limits, for a machine slower than the course's.")
    ] = 1.0
    staff: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns submission, report_1, .., settled_1, .., late_days, staff_fixed (yes or no)."
        ),
    ] = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    points: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises GradingError for a time scale that is no positive number, and for addresses that are none."""
        read_networks(self.reachable)
        if not 0 < self.time_scale <= MAX_TIME_SCALE:
            raise GradingError(
                f"the time scale is {self.time_scale}; expected a number above 0, at most {MAX_TIME_SCALE:g}",
                option="time_scale",
            )

    @functools.cached_property
    def edition(self) -> Homework:
        """The homework, with this assignment's points and only the problems to grade."""
        edition = homeworks.chosen_homework(self.homework).with_points(self.points)
        numbers = [str(problem.number) for problem in edition.problems]
        wanted = self.problems.replace(" ", "").split(",") if self.problems else numbers
        if not wanted or not set(wanted) <= set(numbers):
            raise GradingError(
                f"the problems to grade are {printable(self.problems)}; expected some of {','.join(numbers)}, "
                "separated by commas",
                option="problems",
            )
        chosen = tuple(problem for problem in edition.problems if str(problem.number) in wanted)
        return replace(edition, problems=chosen)

    @property
    def embedded(self) -> bool:
        """Whether the data are those of the embedded homework, not the official ones."""
        return (self.data / EMBEDDED_MARK).is_file()

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox's settings. Files that scripts must not see are hidden."""
        return Sandbox(
            self.gpu, self.trust, self.python, dict(self.environment), tuple(self.hidden()),
            visible=tuple(linked_folders(self.python)), hub_cache=self.hub_cache, host_network=self.host_network,
            reachable=read_networks(self.reachable),
        )  # fmt: skip

    @property
    def run_limits(self) -> Limits:
        """The limits of each script. The official time limit of its problem always applies as well."""
        return Limits(**self.limits)

    @property
    def judge_choices(self) -> dict[str, str]:
        """The choice of each judge, by its name: its own option, or what all judges are."""
        return {name: getattr(self, kind.option) or self.judges for name, kind in JUDGES.items()}

    @property
    def judge_names(self) -> list[str]:
        """The judges that the problems to grade need."""
        return list(dict.fromkeys(name for problem in self.edition.problems for name in problem.judges))

    def find_judges(self) -> Judges:
        """The judges, of which none is found or loaded yet. Raises GradingError if they would block the scripts."""
        device = judges_device(self.device, self.gpu or self.trust)
        return Judges(self.judge_choices, device, self.data, self.hub_cache)

    def runs(self) -> Iterator[PlannedRun]:
        """Every run of a script that is graded, in order."""
        for problem in self.edition.problems:
            for part in problem.parts:
                root = self.private if part is Part.PRIVATE else self.data
                if root is not None:
                    yield PlannedRun(problem, part, root, {i.name: self.place(i, root) for i in problem.inputs})

    def place(self, given: Input, root: Path) -> Path:
        """The path of an input."""
        other: Path | None = getattr(self, given.option) if given.option else None
        return other or (self.data if given.shared else root) / given.path

    def hidden(self) -> Iterator[Path]:
        """Paths that no submission may read: the expected outputs, the private data, and the judges."""
        for problem in self.edition.problems:
            for root in (self.data, self.private):
                if root is not None and problem.expected and (root / problem.expected).exists():
                    yield root / problem.expected
        if self.private is not None:
            yield self.private
        yield from (Path(choice) for choice in self.judge_choices.values() if _is_path(choice))
        course = (kind.files.official for kind in JUDGES.values())
        yield from (self.data / name for name in course if isinstance(name, str) and (self.data / name).exists())

    def absolute(self) -> Assignment:
        """The same assignment with absolute paths, for a process with another current folder."""
        changes: dict[str, Any] = {}
        for name in OPTIONS:
            value = getattr(self, name)
            if isinstance(value, Path) or (name in JUDGE_OPTIONS and _is_path(value)):
                changes[name] = type(value)(Path(value).absolute())
        return replace(self, **changes)

    def record(self) -> dict[str, Any]:
        """The options that a result depends on, without paths; the grader records hashes of files and judges."""
        values = {name: getattr(self, name) for name in OPTIONS if name not in (*JUDGE_OPTIONS, "judges")}
        found = {name: value for name, value in values.items() if not isinstance(value, Path | None)}
        return found | {"private": self.private is not None, "limits": dict(self.limits), "points": dict(self.points)}


@dataclass(frozen=True)
class PlannedRun:
    """One run of a script. root: the part's data folder. inputs: their paths, by `Input.name`."""

    problem: Problem
    part: Part
    root: Path
    inputs: Mapping[str, Path]

    @property
    def name(self) -> str:
        """The name of its stage."""
        return self.part.of(self.problem.script)

    @property
    def folder(self) -> str:
        """The folder of its files, below outputs/."""
        return self.part.of(f"problem_{self.problem.number}").replace(" ", "_")

    @property
    def expected(self) -> Path | None:
        """The folder that its output is compared with, if there is one."""
        return self.root / self.problem.expected if self.problem.expected else None

    @property
    def references(self) -> Path | None:
        """The folder with more files that the scoring reads, if there is one."""
        folder = self.root / self.problem.references
        return folder if self.problem.references and folder.is_dir() else None


def _is_path(choice: str) -> bool:
    """Whether a judge is chosen by a path that exists, which its name alone would never be taken for."""
    return choice not in ("", *NAMED) and Path(choice).exists()


def _options() -> dict[str, typer.models.OptionInfo]:
    hints = get_type_hints(Assignment, include_extras=True)
    found = {}
    for each in fields(Assignment):
        extras = [extra for extra in get_args(hints[each.name])[1:] if isinstance(extra, typer.models.OptionInfo)]
        if extras:
            found[each.name] = extras[0]
    return found


OPTIONS = _options()
"""The options of an assignment, by the name of their field."""
