"""What staff grade submissions with: data, judges, limits, and the runs of scripts that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grading.core.spec import CLIP_MODEL
from grading.sandbox.run import Limits, Sandbox


@dataclass(frozen=True)
class Assignment:
    """What staff grade with. data, private: folders in the layout of the homework's hw2_data.

    private: with noises, ground truth and prompts that nobody knows; without it, public points only. unet,
    stable_diffusion: what scripts are given as UNet.pt and model.ckpt, by default those in `data`. twice: run each
    script a second time. The judges as in `hw2-grade digits` and `hw2-grade concepts`.
    """

    data: Path
    private: Path | None = None
    unet: Path | None = None
    stable_diffusion: Path | None = None
    problems: tuple[int, ...] = (1, 2, 3)
    mnistm_classifier: str = "embedded"
    svhn_classifier: str = "embedded"
    clip: str = CLIP_MODEL
    device: str = "cpu"
    twice: bool = False
    sandbox: Sandbox = field(default_factory=Sandbox)
    limits: Limits = field(default_factory=Limits)

    def runs(self) -> Iterator[Run]:
        """Every run of a script that is graded, in order."""
        if 1 in self.problems:
            yield Run(1, "", {}, self.data)
        parts = {"public": self.data} | ({"private": self.private} if self.private else {})
        unet = self.unet or self.data / "face" / "UNet.pt"
        model = self.stable_diffusion or self.data / "model.ckpt"
        if 2 in self.problems:
            for part, root in parts.items():
                yield Run(2, part, {"noise": root / "face" / "noise", "UNet.pt": unet}, root)
        if 3 in self.problems:
            for part, root in parts.items():
                prompts = root / "textual_inversion" / "input.json"
                yield Run(3, part, {"input.json": prompts, "model.ckpt": model}, root)

    def option(self, path: Path) -> str:
        """What names the place of one of the data."""
        if path.name == "UNet.pt" or path == self.unet:
            return "--unet"
        if path.name == "model.ckpt" or path == self.stable_diffusion:
            return "--stable-diffusion"
        return "--private" if self.private is not None and path.is_relative_to(self.private) else "--data"

    def references(self, root: Path) -> Path:
        """The pictures of a run's concepts; private prompts may be about the public ones."""
        own = root / "textual_inversion"
        return own if any(path.is_dir() for path in own.iterdir()) else self.data / "textual_inversion"

    def hidden(self) -> Iterator[Path]:
        """What no submission may read."""
        for root in (self.data, self.private):
            if root is not None and (root / "face" / "GT").exists():
                yield root / "face" / "GT"
        if self.private is not None:
            yield self.private
        for judge in (self.mnistm_classifier, self.svhn_classifier):
            if Path(judge).is_file():
                yield Path(judge)


@dataclass(frozen=True)
class Run:
    """One run of a script. part: public or private, "" for Problem 1. data: its inputs, see `stages.ARGUMENTS`."""

    problem: int
    part: str
    data: Mapping[str, Path]
    root: Path

    @property
    def name(self) -> str:
        """Of its stage."""
        return f"hw2_{self.problem}.sh {self.part}".rstrip()

    @property
    def folder(self) -> str:
        """Below outputs/, where its files are."""
        return f"problem_{self.problem}_{self.part}".rstrip("_")

    @property
    def expected(self) -> Path | None:
        """What its output is compared with."""
        return {2: self.root / "face" / "GT"}.get(self.problem)
