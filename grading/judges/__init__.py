"""The judges by name. Judges are networks that score images. To add one, add a file and a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grading.core.log import detail
from grading.core.text import printable
from grading.judges.protocols import CLIP_MODEL, SAM_MODEL, SVHN_MODEL
from grading.judges.sources import WEIGHTS, HubModel, JudgeFiles, JudgeSource, find_judge


@dataclass(frozen=True)
class JudgeKind:
    """A judge that staff can choose. files: the places it can come from. load: (source, device) -> judge."""

    files: JudgeFiles
    load: Callable[[JudgeSource, str], Any]

    @property
    def option(self) -> str:
        """The option that names it."""
        return self.files.option


def _digits(dataset: Any) -> Callable[[JudgeSource, str], Any]:
    def load(source: JudgeSource, device: str) -> Any:
        from grading.judges.classifiers import load_digit_judge

        return load_digit_judge(dataset, source.path, source.kind, device)

    return load


def _clip(source: JudgeSource, device: str) -> Any:
    from grading.judges.clip import load_clip

    judge = load_clip(str(source.path), device)
    return replace(judge, identity=source.known(judge.identity))


def _sam(source: JudgeSource, device: str) -> Any:
    from grading.judges.sam import load_sam

    judge = load_sam(str(source.path), device)
    return replace(judge, identity=source.known(judge.identity))


_CLIP_FILES = (("config.json",), ("preprocessor_config.json",), ("tokenizer.json", "vocab.json"), WEIGHTS)
_SAM_FILES = (("config.json",), ("preprocessor_config.json", "processor_config.json"), WEIGHTS)

JUDGES: dict[str, JudgeKind] = {
    "mnistm": JudgeKind(
        JudgeFiles(
            "mnistm_classifier", "mnistm classifier", "Classifier.pth", "judge_mnistm.safetensors",
            "a file like the course's Classifier.pth",
        ),
        _digits("mnistm"),
    ),
    "svhn": JudgeKind(
        JudgeFiles(
            "svhn_classifier", "svhn classifier", HubModel(SVHN_MODEL, (("pytorch_model.bin",),), single=True),
            "judge_svhn.safetensors", "its pytorch_model.bin as a file",
        ),
        _digits("svhn"),
    ),
    "clip": JudgeKind(
        JudgeFiles("clip", "CLIP model", HubModel(CLIP_MODEL, _CLIP_FILES), "small_clip", "a folder with its files"),
        _clip,
    ),
    "sam": JudgeKind(
        JudgeFiles("sam", "SAM2 model", HubModel(SAM_MODEL, _SAM_FILES), "", "a folder with its files"), _sam
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Judges(Mapping[str, Any]):
    """Judges by name. Each is loaded at its first use and kept.

    choices: what staff chose, by name. data, hub_cache: where official ones are searched for, as in `find_judge`.
    """

    choices: Mapping[str, str]
    device: str = "auto"
    data: Path | None = None
    hub_cache: Path | None = None
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)
    found: dict[str, JudgeSource] = field(default_factory=dict, repr=False)

    def sources(self, names: Iterable[str]) -> dict[str, JudgeSource]:
        """The places of these judges. Files of this machine are checked before anything is downloaded.

        Raises GradingError if one cannot be had.
        """
        names = list(names)
        for name in sorted(names, key=lambda name: JUDGES[name].files.on_hub(self.choices[name])):
            self.source(name)
        return {name: self.found[name] for name in names}

    def source(self, name: str) -> JudgeSource:
        """The place of one judge, found once. Raises GradingError if it cannot be had."""
        if name not in self.found:
            self.found[name] = find_judge(JUDGES[name].files, self.choices[name], self.data, self.hub_cache)
        return self.found[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self.loaded:
            source = self.source(name)
            from grading.judges.device import chosen_device

            detail(f"loading the judge {name} from {printable(str(source.path))}")
            self.loaded[name] = JUDGES[name].load(source, chosen_device(self.device))
        return self.loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.choices)

    def __len__(self) -> int:
        return len(self.choices)
