"""Stable Diffusion: words to states, images to latents and back, latents to noise.

The same code runs v1.4 and the bundled small model; only weights and configuration differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AddedToken, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from hw2.concepts.attention import CrossAttention
from hw2.concepts.embeddings import token_pieces
from hw2.devices.arithmetic import exact
from hw2.devices.estimate import operations
from hw2.diffusion.schedule import NoiseSchedule, PredictionType, linear_betas, scaled_linear_betas
from hw2.errors import InputError
from hw2.files.leftovers import leftovers_in, switches_off
from hw2.files.model_folder import check_layers
from hw2.wording import shortened

FEWEST = 16
"""Batches of this many rows or more round an image the same; see `StableDiffusion.predict`."""

PLACEHOLDER = re.compile(r"<[^<>\s]+>")
"""The form of placeholder tokens, to find those without an embedding."""

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


class WordTable(nn.Module):
    """Token embeddings: first those of the vocabulary, which are never trained, then the learned ones.

    weight: (V, D), a buffer. vectors: (N, D), the only parameter of the model that textual inversion trains.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach())
        self.vectors = nn.Parameter(weight.new_empty(0, weight.shape[1], dtype=torch.float32), requires_grad=False)

    weight: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """(B, L) token ids to (B, L, D)."""
        V = len(self.weight)
        words = F.embedding(ids.clamp(max=V - 1), self.weight)
        if len(self.vectors) == 0:
            return words
        learned = F.embedding((ids - V).clamp(min=0), self.vectors).to(words.dtype)
        return torch.where((ids < V)[..., None], words, learned)


@dataclass(frozen=True)
class StableDiffusion:
    """The networks, all frozen, on one device and in one dtype."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    schedule: NoiseSchedule
    prediction_type: PredictionType
    words: WordTable

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.words.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the networks."""
        return self.words.weight.dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image's latents."""
        side = int(self.unet.config.sample_size)
        return int(self.unet.config.in_channels), side, side

    @property
    def image_size(self) -> int:
        """Pixels a side: 512 for v1.4."""
        return self.latent_shape[1] * int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def fingerprint(self) -> str:
        """SHA-256 of all weights, which does not depend on the file's place. Call it before adding words."""
        digest = hashlib.sha256(f"{self.prediction_type} {self.schedule.betas.tolist()}".encode())
        for network in (self.unet, self.vae, self.text_encoder):
            for name, value in sorted(network.state_dict().items()):
                digest.update(name.encode())
                digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    # --- words

    def add_words(self, learned: dict[str, Tensor]) -> None:
        """Give the model new words, each a token and its vectors (n, D). Each vector takes one position of a prompt.

        Raises InputError if a token is in the vocabulary already, or if vectors have another width.
        """
        width = self.words.weight.shape[1]
        for token, vectors in learned.items():
            if vectors.shape[1] != width:
                raise InputError(
                    f"the embedding of {token} is {vectors.shape[1]} wide, and this model's words are {width} wide; "
                    "train it with this model"
                )
            pieces = token_pieces(token, len(vectors))
            if known := [piece for piece in pieces if piece in self.tokenizer.get_vocab()]:
                raise InputError(f"{known[0]} is a word of the model already; choose another token")
            self.tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
        rows = [self.words.vectors.data, *(v.to(self.device, torch.float32) for v in learned.values())]
        self.words.vectors = nn.Parameter(torch.cat(rows), requires_grad=False)

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """(B, 77) token ids, on the model's device. Raises InputError for a long prompt or an unknown token."""
        texts = [self._expanded(prompt) for prompt in prompts]
        for prompt, text in zip(prompts, texts, strict=True):
            found = len(self.tokenizer(text, truncation=False, verbose=False).input_ids)
            if found > self.tokenizer.model_max_length:
                raise InputError(
                    f"the prompt {prompt!r} has {found} tokens with start and end; "
                    f"shorten it to at most {self.tokenizer.model_max_length}"
                )
            if unknown := [t for t in PLACEHOLDER.findall(prompt) if t not in self.tokenizer.get_vocab()]:
                raise InputError(
                    f"the prompt {prompt!r} has {unknown[0]}, but no embedding of that token is given; give its file"
                )
        ids: Tensor = self.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        return ids.to(self.device)

    def _expanded(self, prompt: str) -> str:
        """A prompt with every token of several vectors written out, as diffusers does: <x> is <x> <x>_1 <x>_2 .."""
        vocabulary = self.tokenizer.get_added_vocab()

        def spelled(found: re.Match[str]) -> str:
            count = next(n for n in range(1, len(vocabulary) + 2) if f"{found[0]}_{n}" not in vocabulary)
            return " ".join(token_pieces(found[0], count))

        return PLACEHOLDER.sub(spelled, prompt)

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """encoder_hidden_states (B, 77, D) of token ids: the text encoder's last layer, as v1 uses it."""
        with exact():
            states: Tensor = self.text_encoder(ids).last_hidden_state
        return states

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """encoder_hidden_states (B, 77, D) of prompts; a prompt's states do not depend on the others."""
        with torch.no_grad():
            return torch.cat([self.encode_tokens(ids) for ids in self.tokenize(prompts).split(1)])

    # --- images

    def latent_distribution(self, images_pm1: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (B, 4, h, w) float32, of the scaled latents of (B, 3, H, W) in [-1, 1]."""
        scale = float(self.vae.config.scaling_factor)
        with torch.no_grad(), exact():
            found = [self.vae.encode(image.to(self.device, self.dtype)).latent_dist for image in images_pm1.split(1)]
        mean, std = (torch.cat([getattr(f, name) for f in found]).float() for name in ("mean", "std"))
        return mean * scale, std * scale

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 4, h, w) scaled latents to images (B, 3, H, W) float32, near [-1, 1].

        Images are decoded one at a time: one of 512x512 fills a GPU, and its rounding does not depend on others.
        """
        scale = float(self.vae.config.scaling_factor)
        with torch.no_grad(), exact():
            images = [self.vae.decode((one / scale).to(self.device, self.dtype)).sample for one in latents.split(1)]
        return torch.cat(images).float()

    # --- noise

    def predict(self, latents: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
        """model_output (B, 4, h, w) float32 for noisy latents, timesteps (B,) and encoder_hidden_states (B, 77, D).

        On a CPU, small batches are filled up to FEWEST rows unless something is trained: the libraries choose other
        algorithms for them, and an image would change with the batch.
        """
        B = len(latents)
        row = torch.arange(B, device=latents.device)
        if latents.device.type == "cpu" and not torch.is_grad_enabled():
            row = torch.arange(max(B, FEWEST)) % B
        with exact():
            output: Tensor = self.unet(latents.to(self.dtype)[row], timesteps[row], states.to(self.dtype)[row]).sample
        return output[:B].float()

    def operations(self) -> tuple[int, int]:
        """Operations of the U-Net for one row, and of decoding one image."""
        latents = torch.zeros(1, *self.latent_shape, dtype=self.dtype)
        width = int(self.unet.config.cross_attention_dim)
        states = torch.zeros(1, self.tokenizer.model_max_length, width, dtype=self.dtype)
        unet = operations(self.unet, latents, torch.zeros(1, dtype=torch.int64), states)
        return unet, operations(_Decoder(self.vae), latents)

    @contextmanager
    def attention(self, handler: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
        """Pass every cross-attention map to `handler`, which returns the map to use; see `attention`."""
        before = self.unet.attn_processors
        changed = {
            name: CrossAttention(name, handler) if ".attn2." in name else processor
            for name, processor in before.items()
        }
        self.unet.set_attn_processor(changed)
        try:
            yield
        finally:
            self.unet.set_attn_processor(before)


class _Decoder(nn.Module):
    """The decoder of an autoencoder as a network: latents (B, 4, h, w) to images."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.vae.decode(latents).sample
        return images


def load_stable_diffusion(
    path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> StableDiffusion:
    """The model in `path`: a folder as diffusers saves it, or the original single file of v1.x. Nothing is downloaded.

    Raises InputError if it is neither, or invalid.
    """
    prediction_type: PredictionType = "epsilon"
    if path.is_file():
        from hw2.concepts.single_file import read_single_file, sd_v1_tokenizer

        unet, vae, text_encoder = read_single_file(path)
        tokenizer = sd_v1_tokenizer()
        schedule = NoiseSchedule(scaled_linear_betas())
    elif path.is_dir():
        unet, vae, text_encoder, tokenizer = _read_folder(path)
        schedule, prediction_type = _read_scheduler(path / "scheduler" / "scheduler_config.json")
    else:
        raise InputError(f"{path} does not exist; expected sd-v1-4.ckpt, or a Stable Diffusion folder of diffusers")
    table = text_encoder.get_input_embeddings().weight
    if len(tokenizer) != len(table):
        raise InputError(
            f"{path} has a tokenizer of {len(tokenizer)} words and a text encoder of {len(table)}; they must be equal"
        )
    places = text_encoder.config.max_position_embeddings
    length = tokenizer.model_max_length
    if not isinstance(length, int) or not 2 < length <= places:
        raise InputError(
            f"{path} has a tokenizer for {length!r:.80} tokens a prompt and a text encoder for {places}; "
            "they must be equal"
        )
    if not isinstance(unet.config.sample_size, int) or unet.config.sample_size < 1:
        raise InputError(
            f"{path} has a U-Net whose sample_size is {unet.config.sample_size}; expected a number such as 64"
        )
    model = assembled(unet, vae, text_encoder, tokenizer, schedule, prediction_type, device=device, dtype=dtype)
    for network in (unet, vae, text_encoder):
        if broken := [name for name, value in network.state_dict().items() if not bool(value.isfinite().all())]:
            raise InputError(f"{path} has weights that are not finite: {shortened(broken)}; download it again")
    return model


def assembled(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    schedule: NoiseSchedule,
    prediction_type: PredictionType = "epsilon",
    *,
    device: torch.device | str,
    dtype: torch.dtype,
) -> StableDiffusion:
    """The model of these networks, which are frozen and moved to `device` and `dtype` in place."""
    words = WordTable(text_encoder.get_input_embeddings().weight)
    text_encoder.set_input_embeddings(words)
    for network in (unet, vae, text_encoder):
        nn.Module.to(network, device=device, dtype=dtype)  # diffusers' own `to` warns needlessly
        network.eval().requires_grad_(False)
    return StableDiffusion(tokenizer, text_encoder, vae, unet, schedule, prediction_type, words)


def _read_folder(path: Path) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer]:
    if missing := [part for part in PARTS if not (path / part).is_dir()]:
        raise InputError(
            f"{path} has no folder {missing[0]}; expected {', '.join(PARTS)} in it, as diffusers saves Stable Diffusion"
        )
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    classes: dict[str, Any] = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    loaded = []
    with _quiet():
        for part, cls in classes.items():
            check_layers(path / part / "config.json")
            try:
                network, found = cls.from_pretrained(path / part, torch_dtype=torch.float32, **options)
            except Exception as error:  # the libraries raise nearly every exception for invalid files
                _refuse_leftovers(path / part)
                raise InputError(f"{path / part} cannot be loaded ({_first_line(error)}); download it again") from None
            if absent := sorted(found["missing_keys"]):  # they would continue with random numbers
                raise InputError(f"{path / part} has no weights for {shortened(absent)}; download it again")
            # a network without some layers; the numbers 0 to 76 are not weights
            if extra := sorted(key for key in found["unexpected_keys"] if not key.endswith("position_ids")):
                raise InputError(
                    f"{path / part} has weights that are not in its config: {shortened(extra)}; download it again"
                )
            loaded.append(network)
        try:
            tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
        except Exception as error:
            _refuse_leftovers(path / "tokenizer")
            raise InputError(
                f"{path / 'tokenizer'} cannot be loaded ({_first_line(error)}); download it again"
            ) from None
    return loaded[0], loaded[1], loaded[2], tokenizer


def _read_scheduler(path: Path) -> tuple[NoiseSchedule, PredictionType]:
    """The model's noise schedule and what it predicts, from diffusers' configuration of any scheduler."""
    try:
        config = json.loads(path.read_bytes())
        T, start, end = int(config["num_train_timesteps"]), float(config["beta_start"]), float(config["beta_end"])
        kind, prediction_type = config["beta_schedule"], config.get("prediction_type", "epsilon")
        if not 1 <= T <= 10_000:
            raise ValueError(f"{T} timesteps")
        betas = {"scaled_linear": scaled_linear_betas, "linear": linear_betas}[kind]
        if prediction_type not in get_args(PredictionType):
            raise ValueError(f"unknown prediction_type {prediction_type!r}")
        return NoiseSchedule(betas(T, start, end)), prediction_type
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        _refuse_leftovers(path.parent)
        raise InputError(
            f"{path} does not describe a supported schedule ({_first_line(error)}); expected (scaled_)linear betas"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Load without the libraries' own progress bars and advice."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        transformers_logging.enable_progress_bar()


def _refuse_leftovers(folder: Path) -> None:
    if found := leftovers_in(folder):
        raise InputError(f"{folder} cannot be loaded: {found}")


def _first_line(error: Exception) -> str:
    if switches_off(str(error)):
        return "its weights are not plain tensors, and nothing else is loaded"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
