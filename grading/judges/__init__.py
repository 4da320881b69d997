"""The judges by name. Judges are networks that score images. To add one, add a file and a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class JudgeKind:
    """A judge that staff can choose. option: the option that sets it. load: (choice, device) -> judge."""

    option: str
    load: Callable[[str, str], Any]


def _digits(dataset: Any) -> Callable[[str, str], Any]:
    def load(choice: str, device: str) -> Any:
        from grading.judges.classifiers import choose_digit_judge

        return choose_digit_judge(dataset, choice, device)

    return load


def _clip(choice: str, device: str) -> Any:
    from grading.judges.clip import load_clip

    return load_clip(choice, device)


def _sam(choice: str, device: str) -> Any:
    from grading.judges.sam import load_sam

    return load_sam(choice, device)


JUDGES: dict[str, JudgeKind] = {
    "mnistm": JudgeKind("mnistm_classifier", _digits("mnistm")),
    "svhn": JudgeKind("svhn_classifier", _digits("svhn")),
    "clip": JudgeKind("clip", _clip),
    "sam": JudgeKind("sam", _sam),
}


@dataclass(frozen=True)
class Judges(Mapping[str, Any]):
    """Judges by name. Each is loaded at its first use and kept. choices: what staff chose, by name."""

    choices: Mapping[str, str]
    device: str = "auto"
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Any:
        if name not in self.loaded:
            from grading.judges.device import chosen_device

            self.loaded[name] = JUDGES[name].load(self.choices[name], chosen_device(self.device))
        return self.loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.choices)

    def __len__(self) -> int:
        return len(self.choices)
