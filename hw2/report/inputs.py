"""What a report is made from: files, and the networks in them. Everything is checked before the work begins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.digits.network import DATASETS
from hw2.errors import InputError
from hw2.files.bundled import DIGIT_UNET, FACE_UNET, MODELS, SMALL_CLIP, SMALL_SD
from hw2.report.curves import Curves, read_curves
from hw2.wording import shortened

if TYPE_CHECKING:
    from torch import Tensor

    from hw2.concepts.clip import Clip
    from hw2.concepts.prompts import ConceptPrompts
    from hw2.concepts.stable_diffusion import StableDiffusion
    from hw2.digits.checkpoint import DigitModel
    from hw2.digits.data import DigitImages
    from hw2.faces.network import FaceUNet
    from hw2.faces.sample import FaceSampler
    from hw2.figures import ImageU8

FIXTURES = MODELS.parent.parent / "fixtures"
"""The embedded data of a checkout. An installed wheel has none."""

DIGIT_TRAINING = MODELS / "digit_unet.training.csv"
"""Curves of the bundled model's training, if they are there: a CSV as `read_curves` takes it."""

WORD_TRAINING = FIXTURES / "training" / "new1.csv"
"""The same of an embedded word's training."""

SEED = 0


@dataclass(frozen=True)
class Inputs:
    """The files of a report.

    data: the homework's hw2_data. unet, digits, stable_diffusion: weights. clip: a name as `load_clip` takes it.
    embeddings: files of learned words. digit_log, word_log: logs of a training of digits and of a word, or None.
    """

    data: Path
    unet: Path
    digits: Path
    stable_diffusion: Path
    clip: str
    embeddings: tuple[Path, ...]
    device: str = "cpu"
    digit_log: Path | None = None
    word_log: Path | None = None

    def check(self, problems: Iterable[int]) -> None:
        """Raises InputError for the first file of these problems that is missing or invalid."""
        if not self.data.is_dir():
            raise InputError(f"{self.data} is not a folder; give the homework's hw2_data", "data")
        for problem in problems:
            for name in CHECKED[problem]:
                getattr(self, name)

    def files(self, problem: int) -> dict[str, str]:
        """Name -> SHA-256 of every file that a problem's figures depend on."""
        return {shown_path(path): sha256(path) for path in _each_file(self._paths[problem])}

    def embedded(self, problems: Iterable[int]) -> bool:
        """Whether a figure of these problems depends on an embedded file."""
        paths = (path.resolve() for problem in problems for path in self._paths[problem])
        return any(path.is_relative_to(own.resolve()) for path in paths for own in (MODELS, FIXTURES))

    @property
    def _paths(self) -> Mapping[int, list[Path]]:
        words = self.data / "textual_inversion"
        zero_shot = self.data / "clip_zeroshot"
        return {
            1: [self.digits, *filter(None, [self.digit_log]), *self.training_tables],
            2: [self.unet, self.data / "face"],
            3: [
                self.stable_diffusion, Path(self.clip), *self.embeddings, words, zero_shot,
                *filter(None, [self.word_log]),
            ],
        }  # fmt: skip

    # --- Problem 1

    @cached_property
    def digit_model(self) -> DigitModel:
        """The network that draws digits."""
        from hw2.digits.checkpoint import load_digit_model

        return load_digit_model(self.digits, device=self.device)

    @property
    def training_tables(self) -> list[Path]:
        """The tables of the training images of digits; none if the data have no digits."""
        return sorted((self.data / "digits").glob("*/train.csv"))

    @cached_property
    def training_digits(self) -> DigitImages | None:
        """The training images of digits; None if the data have none."""
        from hw2.digits.data import load_digits

        return load_digits(self.data) if (self.data / "digits").is_dir() else None

    @cached_property
    def training_curves(self) -> Curves:
        """The curves of `digit_log`, none without it."""
        return read_curves(self.digit_log, ("loss", *(f"accuracy/{dataset}" for dataset in DATASETS)), "digit_log")

    @cached_property
    def word_curves(self) -> Curves:
        """The curves of `word_log`, none without it."""
        return read_curves(self.word_log, ("loss", "validation loss"), "word_log")

    # --- Problem 2

    @cached_property
    def face_network(self) -> FaceUNet:
        """The network that draws faces."""
        from hw2.faces.checkpoint import load_face_unet

        return load_face_unet(self.unet, device=self.device)

    @cached_property
    def faces(self) -> FaceSampler:
        """DDIM by the homework's recipe."""
        from hw2.faces.sample import FaceSampler, batch_invariant

        return FaceSampler(batch_invariant(self.face_network), seed=SEED, device=self.device)

    @cached_property
    def noises(self) -> dict[str, Tensor]:
        """The homework's noises by name, each (1, 3, H, W)."""
        from hw2.faces.sample import load_noises

        found = load_noises(self.data / "face" / "noise", self.face_network.config.downsampling)
        if len(found) < 2:
            raise InputError(f"{self.data / 'face' / 'noise'} has one noise; expected two or more to interpolate")
        return found

    @cached_property
    def ground_truth(self) -> dict[str, ImageU8]:
        """The face of every noise, (H, W, 3)."""
        from hw2.concepts.zero_shot import read_pixels

        found = {}
        for name, noise in self.noises.items():
            path = self.data / "face" / "GT" / f"{name}.png"
            if not path.is_file():
                raise InputError(f"{path} is not a file; expected the ground truth of noise {name}")
            found[name] = read_pixels(path)
            if found[name].shape[:2] != tuple(noise.shape[2:]):
                height, width = found[name].shape[:2]
                raise InputError(
                    f"{path} is {width}x{height} pixels, and its noise is {noise.shape[3]}x{noise.shape[2]}; "
                    "expected one size"
                )
        return found

    # --- Problem 3

    @cached_property
    def clip_model(self) -> Clip:
        """The CLIP that classifies and scores."""
        from hw2.concepts.clip import load_clip

        return load_clip(self.clip, self.device)

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Class id -> name."""
        from hw2.concepts.zero_shot import read_class_names

        return read_class_names(self.data / "clip_zeroshot" / "id2label.json")

    @cached_property
    def classified(self) -> list[Path]:
        """The images to classify."""
        from hw2.concepts.zero_shot import list_images

        return list_images(self.data / "clip_zeroshot" / "val", self.class_names)[0]

    @cached_property
    def prompts(self) -> dict[str, ConceptPrompts]:
        """Concept -> token and prompts."""
        from hw2.concepts.prompts import read_prompts

        return read_prompts(self.data / "textual_inversion" / "input.json")

    @cached_property
    def sentences(self) -> dict[str, list[str]]:
        """Concept -> the sentences that its prompts are scored with, where an ordinary word replaces the token."""
        from hw2.files.small_file import read_json

        path = self.data / "textual_inversion" / "input.json"
        found = {}
        for concept, entry in read_json(path, "expected the homework's input.json").items():
            sentences, prompts = entry.get("prompt_4_clip_eval"), self.prompts[concept].prompts
            if not isinstance(sentences, list) or len(sentences) != len(prompts):
                raise InputError(f"{path} has no prompt_4_clip_eval for each prompt of concept {concept}; add it")
            found[concept] = [str(sentence) for sentence in sentences]
        return found

    @cached_property
    def ordinary(self) -> dict[str, str]:
        """Token of a prompt -> the ordinary word that its sentences have in the token's place."""
        found = {}
        for concept, entry in self.prompts.items():
            before, _, after = entry.prompts[0].partition(entry.token_name)
            sentence = self.sentences[concept][0]
            word = sentence.removeprefix(before).removesuffix(after)
            if before + word + after != sentence:
                raise InputError(
                    f"the prompt {entry.prompts[0]!r} and its sentence {sentence!r} differ in more than one word; "
                    "write both alike in input.json"
                )
            found[entry.token_name] = word
        return found

    @cached_property
    def concept_images(self) -> dict[str, Tensor]:
        """Concept -> its few images, (N, 3, S, S) in [-1, 1]."""
        from hw2.files.pictures import read_images

        folder, size = self.data / "textual_inversion", self.model.image_size
        return {concept: read_images(folder / concept, size, "images of the concept") for concept in self.prompts}

    @cached_property
    def tokens(self) -> list[str]:
        """The learned words. Raises InputError if a prompt has another."""
        from hw2.concepts.embeddings import read_embeddings

        if not self.embeddings:
            raise InputError("no learned words are given; give their files", "embeddings")
        found: list[str] = []
        for path in self.embeddings:
            for token, vectors in read_embeddings(path).items():
                if token in found:
                    raise InputError(f"{path} has {token} again; give each word once", "embeddings")
                self._bare_model.add_words({token: vectors})
                found.append(token)
        for concept in self.prompts.values():
            if concept.token_name not in found:
                raise InputError(
                    f"the prompts have the word {concept.token_name}, and the files hold {shortened(found)}; "
                    "give the file of that word",
                    "embeddings",
                )
        return found

    @cached_property
    def model(self) -> StableDiffusion:
        """Stable Diffusion with the learned words."""
        assert self.tokens
        return self._bare_model

    @cached_property
    def _bare_model(self) -> StableDiffusion:
        from hw2.concepts.stable_diffusion import load_stable_diffusion

        return load_stable_diffusion(self.stable_diffusion, device=self.device)


CHECKED = {
    1: ("digit_model", "training_digits", "training_curves"),
    2: ("face_network", "noises", "ground_truth"),
    3: ("clip_model", "class_names", "classified", "prompts", "sentences", "ordinary", "tokens", "concept_images",
        "word_curves"),
}  # fmt: skip
"""Problem -> the inputs to load before its work begins; loading checks them."""


def chosen_inputs(
    data: Path | None,
    unet: Path | None,
    digits: Path | None,
    stable_diffusion: Path | None,
    clip: str | None,
    embeddings: Iterable[Path],
    device: str,
    digit_log: Path | None = None,
    word_log: Path | None = None,
) -> Inputs:
    """The given files, and the embedded ones for those that are not given.

    With data of the homework, its UNet.pt is the default, and learned words have none. The bundled digit model and the
    embedded words have their logs.
    Raises InputError if this installation has no embedded data.
    """
    embedded = FIXTURES / "hw2_data"
    if data is None and not embedded.is_dir():
        raise InputError("this installation has no data of its own; give the homework's hw2_data", "data")
    words = tuple(embeddings)
    if data is None and not words:
        words = tuple(sorted((FIXTURES / "submissions" / "reference" / "learned").glob("*.safetensors")))
        word_log = word_log or WORD_TRAINING
    if digit_log is None and digits is None and DIGIT_TRAINING.is_file():
        digit_log = DIGIT_TRAINING
    return Inputs(
        data or embedded,
        unet or (FACE_UNET if data is None else data / "face" / "UNet.pt"),
        digits or DIGIT_UNET,
        stable_diffusion or SMALL_SD,
        clip or str(SMALL_CLIP),
        words,
        device,
        digit_log,
        word_log,
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _each_file(paths: Iterable[Path]) -> list[Path]:
    """The files among the paths, and those in the folders among them, without hidden ones."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in inside if file.is_file() and not file.name.startswith(".")]
    return found


def shown_path(path: Path) -> str:
    """A path for people: relative to the checkout if it is in there."""
    root = FIXTURES.parent.resolve()
    resolved = path.resolve()
    return str(resolved.relative_to(root) if resolved.is_relative_to(root) else path)
