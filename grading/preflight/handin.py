"""What a student can see before handing in: everything about a folder that costs points or may cost some.

Nothing is run. To add a check, add a function and its row in CHECKS.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

from rich.console import Group
from rich.text import Text

from grading.causes.downloads import POINTER
from grading.core.errors import GradingError
from grading.core.text import counted, printable
from grading.environment.probes import Page
from grading.files.texts import read_start
from grading.files.unpack import is_zip, unpack_zip
from grading.homeworks.homework import Homework
from grading.preflight import code_checks, link_checks
from grading.preflight.own_code import DOWNLOAD, HandIn
from grading.sandbox.temporary import temporary_folder
from grading.submission.near_misses import near_misses, no_commands, read_script

Status = Literal["fail", "warning", "pass"]

STYLES: dict[Status, str] = {"fail": "red", "warning": "yellow", "pass": "green"}

MAX_SHOWN = 10
"""Findings of one check that are shown with one status."""

MAX_LARGE, MAX_PATTERNS = 100, 1000
"""Large files, and lines of .gitignore, that are compared."""

MAX_FILE_BYTES = 100 * 2**20
"""GitHub refuses larger files (docs.github.com: About large files on GitHub)."""


@dataclass(frozen=True)
class Finding:
    """One answer of a check. sentence: safe to print; says what there is, where, and what to do."""

    check: str
    status: Status
    sentence: str


@dataclass(frozen=True)
class HandInReport:
    """All findings: first those that fail, then warnings, then what passed."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether something would cost points for sure."""
        return any(finding.status == "fail" for finding in self.findings)


Ask = Callable[[Sequence[str]], Sequence[Page]]
"""Fetches the first bytes of links, such as `Probes.pages`."""

Answer = tuple[Status, str]
"""A status and its sentence, in which names are not yet safe to print."""


@dataclass(frozen=True)
class Check:
    """A row of CHECKS. find: what is wrong. passed: the sentence if nothing is. applies: whether there is anything to
    check; if not, the check says nothing.
    """

    name: str
    find: Callable[[HandIn], Iterator[Answer]]
    passed: str
    applies: Callable[[HandIn], bool] = lambda _handin: True


def examine_handin(folder: Path, homework: Homework, ask: Ask | None = None) -> HandInReport:
    """Check a folder, or a zip file of it, for the problems of a homework.

    ask: fetches the links of the download script; without it they are only read. Raises GradingError if there is no
    such folder, or the links could not be asked.
    """
    if is_zip(folder):
        with temporary_folder("check") as place:
            if refused := unpack_zip(folder, place / "submission").refused:
                return HandInReport((Finding("zip", "fail", refused[0]),))
            return examine_handin(place / "submission", homework, ask)
    if not folder.is_dir():
        raise GradingError(f"{printable(str(folder))} is not a folder; expected the one with your scripts")
    handin = HandIn(folder, homework)
    checks = (*CHECKS, _online(ask)) if ask else CHECKS
    found = [finding for check in checks for finding in _findings(check, handin)]
    return HandInReport(tuple(sorted(found, key=lambda finding: list(STYLES).index(finding.status))))


def handin_lines(report: HandInReport) -> Group:
    """The findings as lines for people, grouped by status, and the verdict."""
    lines = [Text.assemble((f"{each.status:8}", STYLES[each.status]), each.sentence) for each in report.findings]
    counts = Counter(each.status for each in report.findings)
    passed, warned = counted(counts["pass"], "check") + " passed", counted(counts["warning"], "warning")
    verdict = f"{counts['fail']} to fix, {warned}, {passed}."
    return Group(*lines, Text(verdict, "bold red" if report.failed else "bold green"))


def _findings(check: Check, handin: HandIn) -> Iterator[Finding]:
    counts: Counter[Status] = Counter()
    for status, sentence in dict.fromkeys(check.find(handin)):
        counts[status] += 1
        if counts[status] <= MAX_SHOWN:
            yield Finding(check.name, status, printable(sentence))
    for status, count in counts.items():
        if count > MAX_SHOWN:
            yield Finding(check.name, status, f"{count - MAX_SHOWN} more of the same kind ({check.name}).")
    if not counts and check.applies(handin):
        yield Finding(check.name, "pass", check.passed)


def _layout(handin: HandIn) -> Iterator[Answer]:
    """Each problem's script; the download script is needed only where it has another name."""
    for script in (*(problem.script for problem in handin.homework.problems), DOWNLOAD):
        there = os.path.lexists(handin.folder / script)
        sentences = near_misses(handin.folder, script)
        if not there and (sentences or script != DOWNLOAD):
            yield "fail", " ".join([f"{script} is not in the top folder.", *sentences])
        elif there:
            yield from (("fail", sentence) for sentence in sentences)


def _template(handin: HandIn) -> Iterator[Answer]:
    for _, script in handin.scripts():
        yield from (("fail", sentence) for sentence in no_commands(handin.folder, script))


def _large_files(handin: HandIn) -> Iterator[Answer]:
    ignored = _ignored_names(handin.folder)
    sizes = ((path, _size(handin.folder / path)) for path in handin.entries)
    for path, size in islice((each for each in sizes if each[1] > MAX_FILE_BYTES), MAX_LARGE):
        if not any(map(_matcher(path), ignored)):
            shown = f"{path} has {size / 2**20:.0f} MiB; GitHub takes at most {MAX_FILE_BYTES // 2**20}"
            yield "fail", f"{shown}. Upload it elsewhere, fetch it in {DOWNLOAD}, and name it in .gitignore."


def _ignored_names(folder: Path) -> list[str]:
    """The patterns of the top .gitignore. Git itself is not asked, because a repository's settings can run commands."""
    lines = read_script(folder / ".gitignore").decode(errors="replace").splitlines()
    return [line.strip().strip("/") for line in lines if line.strip() and not line.startswith(("#", "!"))][
        :MAX_PATTERNS
    ]


def _matcher(path: str) -> Callable[[str], bool]:
    pure = PurePosixPath(path)
    names = [str(each) for each in (pure, *pure.parents)] + list(pure.parts)
    return lambda pattern: any(fnmatch(name, pattern) for name in names)


def _size(path: Path) -> int:
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _lfs(handin: HandIn) -> Iterator[Answer]:
    for path in handin.entries:
        if 0 < _size(handin.folder / path) < 1024 and read_start(handin.folder / path, len(POINTER)) == POINTER:
            todo = f"Fetch the file in {DOWNLOAD} instead, or commit it without LFS."
            yield "fail", f"{path} is a pointer of Git LFS: staff get these 3 lines, not the file. {todo}"


def _links(handin: HandIn) -> Iterator[Answer]:
    for path in handin.entries:
        if os.path.islink(handin.folder / path) and _leads_out(handin.folder, path):  # noqa: PTH114 - takes any length
            yield "fail", f"{path} is a link to a place outside this folder. Put a copy of the file there."


def _leads_out(folder: Path, path: str) -> bool:
    target = os.path.normpath(PurePosixPath(path).parent / os.readlink(folder / path))  # noqa: PTH115 - a plain string
    return target.startswith(("/", "../")) or target == ".."


def _has_scripts(handin: HandIn) -> bool:
    return any(handin.scripts())


def _has_code(handin: HandIn) -> bool:
    return any(handin.reached(script) for _, script in handin.scripts())


def _has_download(handin: HandIn) -> bool:
    return bool(handin.lines(DOWNLOAD))


def _online(ask: Ask) -> Check:
    def find(handin: HandIn) -> Iterator[Answer]:
        asked = link_checks.asked_links(handin)
        pages = ask([link for _, link in asked]) if asked else ()
        yield from link_checks.online_links(asked, pages)

    return Check("online", find, "The links of the download script answer without a login.", _has_download)


CHECKS: tuple[Check, ...] = (
    Check("layout", _layout, "The scripts are in the top folder, and bash can read them."),
    Check("template", _template, "No script is the unchanged template.", _has_scripts),
    Check("large files", _large_files, "No file is too large for GitHub."),
    Check("git lfs", _lfs, "No file is a pointer of Git LFS."),
    Check("links", _links, "No link leads out of the folder."),
    Check(
        "downloads",
        link_checks.download_links,
        "The links of the download script have forms that can be fetched.",
        _has_download,
    ),
    Check("network", code_checks.network, "Nothing needs the network while the scripts run.", _has_scripts),
    Check(
        "started files", code_checks.started_files, "The Python files that the scripts start are there.", _has_scripts
    ),
    Check("syntax", code_checks.syntax, "Python can read the code.", _has_code),
    Check("arguments", code_checks.arguments, "The scripts use their arguments.", _has_scripts),
    Check(
        "paths", code_checks.paths, "No path of your own machine or of hw2_data is written in the code.", _has_scripts
    ),
    Check("gpu", code_checks.devices, "The code asks for no GPU but the first.", _has_scripts),
    Check("packages", code_checks.packages, "The code imports only packages of the course.", _has_code),
    Check("training", code_checks.training, "The scripts import no training code.", _has_code),
    Check("noises", code_checks.noises, "The code does not assume ten noises named 00 .. 09.", _has_code),
    Check("output folder", code_checks.output_folder, "The code makes its output folder.", _has_code),
)
"""All checks, in the order in which they are shown."""
