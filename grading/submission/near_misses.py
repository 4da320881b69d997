"""Near misses: a script with another name or in another folder, or one that bash cannot read as it was meant."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from grading.core.text import printable
from grading.files.layout import files_below

OLD_NAMES = {"hw2_download_ckpt.sh": ("hw2_download.sh",)}
"""Names that a script had in earlier years."""

ENDINGS = r"([\W_]*(\(\d+\)|copy|final))?(\.(sh|bash|zsh|txt|bat|command))*"
"""What editors, browsers and desktops append to a script's name."""

MAX_SCRIPT_BYTES = 2**20
"""Larger files are no scripts, and are not looked into."""

MAX_LISTED = 200_000
"""Files of a submission that are looked through; .git alone may have thousands."""

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Candidate:
    """A file that may be meant as a script. path: below the submission, as it is there."""

    script: str
    path: str

    @property
    def folder(self) -> str:
        """The folders above it, from the submission's top; empty if there are none."""
        parent = str(PurePosixPath(self.path.replace("\\", "/")).parent)
        return "" if parent == "." else parent

    @property
    def name(self) -> str:
        """Its own name, without folders."""
        return self.path.replace("\\", "/").rsplit("/", 1)[-1]

    @property
    def advice(self) -> str:
        """What there is, and what to do about it; a sentence."""
        steps = []
        if "\\" in self.path:
            steps.append("make the zip file again with / in its paths, because \\ became part of the names")
        if self.folder:
            steps.append(f"move all that is in {self.folder}/ to the submission's top folder")
        if self.name != self.script:
            steps.append(f"rename {self.name if steps else 'it'} to {self.script}")
        shown = f"'{self.path}'" if self.path != self.path.strip() else self.path
        return printable(f"There is {shown}: {', and '.join(steps)}.")


def near_misses(submission: Path, script: str) -> list[str]:
    """Sentences on what is nearly right about a script: its name and place, or its content; empty if nothing is.

    Follows no link and runs nothing.
    """
    if not os.path.lexists(submission / script):
        found = candidate(submission, script)
        return [found.advice] if found else []
    if not stat.S_ISREG((submission / script).lstat().st_mode):
        return [f"{script} is not a plain file; expected the script itself."]
    return list(_faults(submission, script))


def candidate(submission: Path, script: str) -> Candidate | None:
    """The file that is most likely meant as a missing script: the one in the fewest folders, with the nearest name."""
    found = [Candidate(script, path) for path in visible_files(submission) if _is_meant(path, script)]
    return min(found, key=_distance, default=None)


def visible_files(submission: Path) -> list[str]:
    """Paths of the submission's own files, without those that macOS, git and the like add."""
    return [
        path for path in files_below(submission, most=MAX_LISTED) if not any(map(_is_added, re.split(r"[/\\]", path)))
    ]


def started_scripts(submission: Path, script: str) -> list[str]:
    """A script that is there, and the .sh files that it names, and those that they name; each once."""
    others = [path for path in visible_files(submission) if path.endswith(".sh")]
    found = [script]
    for path in found:  # which grows
        text = read_script(submission / path)
        found += [other for other in others if other not in found and PurePosixPath(other).name.encode() in text]
    return found


def read_script(path: Path) -> bytes:
    """The content of a small regular file; empty for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        small = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_SCRIPT_BYTES
        return file.read(MAX_SCRIPT_BYTES) if small else b""


def _faults(submission: Path, script: str) -> Iterator[str]:
    for path in started_scripts(submission, script):
        content, shown = read_script(submission / path), printable(path)
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            yield f"{shown} is UTF-16, which bash cannot read; save it as UTF-8."
        if content.startswith(BOM):
            yield f"{shown} begins with a byte order mark (BOM), which bash cannot read; save it as UTF-8 without BOM."
        if b"\r\n" in content:
            yield f"{shown} has Windows line ends (CRLF), which bash cannot read; save it with Unix line ends (LF)."
        elif b"\r" in content and b"\n" not in content:
            yield f"{shown} has old Macintosh line ends (CR), which bash cannot read; save it with Unix line ends (LF)."


def no_commands(submission: Path, script: str) -> list[str]:
    """A sentence if a script has only comments, as the template that students begin with; empty if it has more."""
    path = submission / script
    if not path.is_file() or any(map(_is_command, read_script(path).splitlines())):
        return []
    return [f"{script} is the template, unchanged: it has no commands. Add those that run your code."]


def _is_command(line: bytes) -> bool:
    bare = line.removeprefix(BOM).strip()
    return bool(bare) and not bare.startswith(b"#")


def _is_added(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_meant(path: str, script: str) -> bool:
    name = unicodedata.normalize("NFKC", re.split(r"[/\\]", path)[-1])
    return any(re.fullmatch(_pattern(wanted), name, re.IGNORECASE) for wanted in (script, *OLD_NAMES.get(script, ())))


def _pattern(script: str) -> str:
    """Matches the script's name with any separators, in upper or lower case, with any of the endings."""
    pieces = script.removesuffix(".sh").split("_")
    return r"\W*" + r"[\W_]*".join(map(re.escape, pieces)) + ENDINGS + r"\W*"


def _distance(found: Candidate) -> tuple[int, int, str]:
    """(number of folders, how far the name is from the script's, path)."""
    parts = PurePosixPath(found.path.replace("\\", "/")).parts
    nearness = 0 if parts[-1] == found.script else 1 if parts[-1].lower().endswith(".sh") else 2
    return len(parts), nearness, found.path
