"""Reads what a Markdown page of this project types, links to, and calls its sections."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.commands import ROOT

INDEX = ROOT / "docs" / "index.md"

PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for folder in ("docs", "fixtures", "tests", ".github") for page in sorted((ROOT / folder).rglob("*.md"))),
)
"""Every page but CHANGELOG.md, whose commands are those of their time."""

FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")

COMMANDS = ("", "sh")
"""Languages of the blocks that hold nothing but commands; a block without a language is one of them."""

TYPED = ("hw2", "hw2-grade", "make", "python", "pytest")
"""What a command in a sentence begins with, if it is to be parsed."""

MARK = re.compile(r"\A# (Needs|Takes|需要)\s*(.+?)[.。]$", re.MULTILINE)

NEEDS = {
    "the course's data", "Stable Diffusion", "a GPU", "several GPUs", "the network", "root", "Docker", "Slurm",
    "several machines", "a class", "photographs", "課程的資料", "GPU",
}  # fmt: skip
"""What a block of commands may need that a machine that runs the tests may lack."""


@dataclass(frozen=True)
class Block:
    """The commands of a block. mark: what its first line says that it needs or takes, such as Needs and a GPU."""

    page: str
    lines: tuple[str, ...]
    mark: str
    of: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.lines[0]}"


@dataclass(frozen=True)
class Shown:
    """A command of a transcript, and the lines that it is said to print; .. stands for lines that are left out."""

    command: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return self.command


@dataclass(frozen=True)
class Command:
    """A command as it is typed. words: without variables and redirections. whole: no part of it is left out (..)."""

    page: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands(page: Path) -> Iterator[Command]:
    """Every command in a page's blocks, and those in its sentences."""
    text = page.read_text()
    for language, block in FENCE.findall(text):
        if language in COMMANDS:
            for line in typed_lines(block):
                yield from commands_of_line(page, line)
        elif language == "console":
            for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE):
                yield from commands_of_line(page, line)
    for quoted in INLINE.findall(FENCE.sub("", text)):
        line = " ".join(quoted.split())
        if re.search(r"\b[A-Z]{2,}\b", line) is None and _program(line.split()[:1]) in TYPED and " " in line:
            yield from (Command(each.page, each.words, whole=False) for each in commands_of_line(page, line))


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that hold nothing but commands."""
    for language, block in FENCE.findall(page.read_text()):
        if language in COMMANDS:
            found = MARK.search(block)
            mark, of = found.groups() if found else ("", "")
            lines = (line for line in typed_lines(block) if shlex.split(line, comments=True))
            yield Block(
                page.relative_to(ROOT).as_posix(), tuple(lines), mark, tuple(re.split(r", | and |、| ?與 ?", of))
            )


def transcripts(page: Path) -> Iterator[Shown]:
    """Each command of a page's transcripts."""
    for language, block in FENCE.findall(page.read_text()):
        if language == "console":
            for command, lines in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                yield Shown(command, tuple(lines.splitlines()))


def not_printed(lines: Iterable[str], stdout: str) -> str:
    """The first line of a transcript that was not printed after those before it; empty if all were.

    A line may also be the beginning of a printed one, up to a space.
    """
    printed = iter([line.rstrip() for line in stdout.splitlines()])
    for line in lines:
        if line != ".." and not any(line == said or said.startswith(f"{line} ") for said in printed):
            return line
    return ""


def typed_lines(block: str) -> Iterator[str]:
    """The lines of a block; one that ends with a backslash, or within quotes, continues."""
    line = ""
    for part in block.splitlines():
        line += part
        if line.endswith("\\"):
            line = line[:-1]
            continue
        try:
            shlex.split(line, comments=True)
        except ValueError:  # a quote is open
            line += "\n"
            continue
        if line.strip():
            yield line
        line = ""
    if line:
        raise ValueError(f"a command does not end: {line}")


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures, but those of other sites."""
    text = INLINE.sub("", FENCE.sub("", page.read_text()))
    return (target for target in LINK.findall(text) if "://" not in target)


def broken_link(page: Path, target: str) -> str:
    """What is wrong with a link of a page; empty if it leads to a file or folder, and to a heading that is there."""
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    if not there.exists():
        return f"{target}: there is no such file"
    return f"{target}: there is no such heading" if anchor and anchor not in anchors(there) else ""


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        plain = LINK.sub("]", heading).replace("[", "").replace("]", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def documented_fields(file: str) -> list[str]:
    """The fields of a JSON file that docs/results.md names in the row that begins with these words."""
    rows = (ROOT / "docs" / "results.md").read_text().splitlines()
    (fields,) = (row.split("|")[2] for row in rows if row.startswith(f"| {file} |"))
    return re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", fields))


def commands_of_line(page: Path, line: str) -> Iterator[Command]:
    """The commands of a page's line, which && or a semicolon separate."""
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if not words and re.match(r"[A-Z][A-Z0-9_]*=", word):
            continue  # a variable of the command
        if word not in ("&&", ";"):
            words.append(word)
        elif words:
            kept = tuple(each for each in words if each != "..")
            yield Command(page.relative_to(ROOT).as_posix(), kept, len(kept) == len(words))
            words = []


def _program(words: list[str]) -> str:
    return Path(words[0]).name if words else ""
