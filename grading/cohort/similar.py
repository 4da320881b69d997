"""Submissions of a class with the same outputs, weights or code. Information for staff; it proves nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from grading.core.text import counted, listed
from grading.reports.class_statistics import Likeness
from grading.submission.facts import Facts

FEWEST_OUTPUTS, EQUAL_SHARE = 5, 0.8
"""Runs have the same outputs if they share FEWEST_OUTPUTS different files, and EQUAL_SHARE of the smaller run."""

FEWEST_CLASS, TEMPLATE_SHARE = 6, 1 / 3
"""Code that TEMPLATE_SHARE of a class of at least FEWEST_CLASS submissions has is taken for the homework's template."""

SHOWN = 3
"""Files that a line names."""


def find_alike(facts: Mapping[str, Facts]) -> list[Likeness]:
    """Groups of submissions that share something, by the name of each. Those that share most come first."""
    runs = dict.fromkeys(run for each in facts.values() for run in each.outputs)
    outputs = [group for run in runs for group in _same_outputs(run, facts)]
    template = len(facts) * TEMPLATE_SHARE if len(facts) >= FEWEST_CLASS else math.inf
    weights = _same_files("large files", {name: each.weights for name, each in facts.items()}, math.inf)
    code = _same_files("code", {name: each.code for name, each in facts.items()}, template)
    return [*outputs, *weights, *code]


def _same_outputs(run: str, facts: Mapping[str, Facts]) -> Iterator[Likeness]:
    """Groups of submissions whose files of one run are mostly those of the group's first one."""
    groups: list[tuple[set[str], list[str]]] = []
    having: dict[str, list[int]] = {}  # the groups whose first one has a file
    for name, each in facts.items():
        files = set(each.outputs.get(run, ()))
        shared = Counter(number for digest in files for number in having.get(digest, ()))
        same = [number for number, count in shared.items() if _are_same(count, groups[number][0], files)]
        if same:
            groups[min(same)][1].append(name)
            continue
        for digest in files:
            having.setdefault(digest, []).append(len(groups))
        groups.append((files, [name]))
    for files, names in groups:
        if len(names) > 1:
            common = set.intersection(files, *(set(facts[name].outputs[run]) for name in names))
            yield Likeness("outputs", tuple(names), f"{run}: {counted(len(common), 'same file')}")


def _are_same(shared: int, first: set[str], second: set[str]) -> bool:
    return shared >= FEWEST_OUTPUTS and shared >= EQUAL_SHARE * min(len(first), len(second))


def _same_files(kind: str, files: Mapping[str, Mapping[str, str]], most: float) -> Iterable[Likeness]:
    """Groups with the files that all of a group share. files: path -> hash by submission. A file with as many
    owners as `most` is left out.
    """
    owners: dict[str, dict[str, str]] = {}
    for name, each in files.items():
        for path, digest in each.items():
            owners.setdefault(digest, {}).setdefault(name, path)
    groups: dict[tuple[str, ...], list[str]] = {}
    for owner in owners.values():
        if 1 < len(owner) < most:
            groups.setdefault(tuple(owner), []).append(next(iter(owner.values())))
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [Likeness(kind, names, _told(paths)) for names, paths in ordered]


def _told(paths: list[str]) -> str:
    return f"{counted(len(paths), 'same file')} ({listed(paths, SHOWN)})"
