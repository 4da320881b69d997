"""Why an expected output is missing: it was refused, or there is a file with another name or in another folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from grading.core.text import counted, listed, printable
from grading.files.layout import files_below

UNKNOWN = "is missing"
"""The reason if nothing else is known."""

OTHERS = 2
"""Files with other names that a reason names."""


@dataclass(frozen=True)
class Reason:
    """Missing outputs, all for the same reason. names: their paths. text: continues the sentence "NAME[0] ..."."""

    names: tuple[str, ...]
    text: str

    @property
    def known(self) -> bool:
        """Whether more is known than that the outputs are missing."""
        return self.text != UNKNOWN

    def sentence(self, naming: bool = True) -> str:
        """The reason of the first output, and how many more it holds for. naming: also name some of those."""
        first = f"{printable(self.names[0])} {printable(self.text)}."
        if len(self.names) == 1:
            return first
        same = "for the same reason" if self.known else "too"
        named = f": {listed(self.names[1:])}" if naming else ""
        return f"{first} {counted(len(self.names) - 1, 'more is', 'more are')} missing {same}{named}."


def missing_reasons(
    output: Path, missing: Sequence[str], expected: Sequence[str], refused: Mapping[str, str]
) -> list[Reason]:
    """The reasons why outputs are missing, each once, in the order of the outputs.

    missing, expected: paths below `output` of files or folders. refused: {path: reason} of what was not collected.
    """
    if not missing:
        return []
    there = _Outputs(output, expected, refused)
    found: dict[str, tuple[list[str], str]] = {}
    for path in missing:
        kind, text = there.why(path)
        found.setdefault(kind, ([], text))[0].append(path)
    return [Reason(tuple(names), text) for names, text in found.values()]


def others_in(output: Path, folder: str, counted_names: Sequence[str], refused: Mapping[str, str]) -> str:
    """A sentence on what else a folder holds, or would hold if it had not been refused; empty if that is nothing.

    folder: below `output`. counted_names: the names of its files that are known to be right.
    """
    left_out = [path for path in refused if path.startswith(f"{folder}/")]
    if left_out:
        return Reason(tuple(left_out), refused[left_out[0]]).sentence(naming=False)
    others = [path for path in files_below(output / folder) if path not in set(counted_names)]
    return f"There {'is' if len(others) == 1 else 'are'} {_named(others)}." if others else ""


def _named(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:OTHERS]) + (", .." if len(paths) > OTHERS else "")
    return f"{counted(len(paths), 'other')} named {shown}"


class _Outputs:
    """The files below an output folder that nobody asked for, by the ways in which people look for them."""

    def __init__(self, output: Path, expected: Sequence[str], refused: Mapping[str, str]) -> None:
        self.refused = refused
        wanted = set(expected)
        files = [path for path in files_below(output) if path not in wanted]
        self.folders: dict[str, list[str]] = {}
        self.by_stem: dict[str, str] = {}
        self.by_name: dict[str, list[str]] = {}
        for path in files:
            pure = PurePosixPath(path)
            self.folders.setdefault(str(pure.parent), []).append(path)
            self.by_stem.setdefault(_stem(path), path)
            self.by_name.setdefault(pure.name, []).append(path)

    def why(self, path: str) -> tuple[str, str]:
        """(kind of the reason, the reason), which continues the sentence "PATH ..."."""
        for part in (PurePosixPath(path), *PurePosixPath(path).parents) if self.refused else ():
            if reason := self.refused.get(str(part)):
                return reason, reason if str(part) == path else f"is missing: its folder {part}/ {reason}"
        if other := self.by_stem.get(_stem(path)):
            return "name", f"is missing; there is {other}"
        if other := self.elsewhere(path):
            where = str(PurePosixPath(other).parent)
            place = "in the output folder itself" if where == "." else f"in {where}/"
            return place, f"is missing; there is {other}, {place}"
        return self.others(path)

    def elsewhere(self, path: str) -> str:
        """A file or folder of that name in another folder, the one whose folders agree best; empty if there is none."""
        places = [folder for folder in self.folders if folder.endswith(f"/{path}")]
        places += self.by_name.get(PurePosixPath(path).name, [])
        return max(places, key=lambda place: place.endswith(f"/{path}"), default="")

    def others(self, path: str) -> tuple[str, str]:
        """Files of the same kind with other names in the same folder."""
        pure = PurePosixPath(path)
        same = [each for each in self.folders.get(str(pure.parent), []) if each.lower().endswith(pure.suffix.lower())]
        if not pure.suffix or not same:
            return UNKNOWN, UNKNOWN
        return "others", f"is missing; there {'is' if len(same) == 1 else 'are'} {_named(same)}"


def _stem(path: str) -> str:
    """The path in small letters without its endings, so that 00.PNG, 00.jpg and 00.png.png have the same."""
    pure = PurePosixPath(path.lower())
    return str(pure.with_name(pure.name.strip().split(".")[0] or pure.name))
