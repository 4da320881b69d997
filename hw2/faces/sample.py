"""Noise in, faces out: the recipe that the homework's ground truth was made with (SPEC section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw2.devices.arithmetic import exact
from hw2.devices.memory import in_batches
from hw2.diffusion.samplers import Network, ddim, walk
from hw2.diffusion.schedule import homework_schedule, timestep_pairs
from hw2.diffusion.seeding import image_generators
from hw2.drawing import draw_missing
from hw2.errors import InputError
from hw2.faces.network import FaceUNet
from hw2.files.output import OutputFolder
from hw2.files.torch_file import read_torch_file
from hw2.progress import OnStep, silent

MAX_SIDE = 4096
"""Far more than any face has; a file of a few bytes can claim billions."""

LONE_PIXELS = 256 * 256
"""In smaller images some feature map can have fewer than the 20480 numbers that PyTorch's choice depends on."""


def load_noises(folder: Path, downsampling: int = 1) -> dict[str, Tensor]:
    """The noises `folder/*.pt`, by file name without ending, in order; each (1, 3, H, W) float32 on the CPU.

    Raises InputError, naming the file, if there is none, or if one is unreadable, holds anything but one such finite
    tensor, differs in size from the others, or has a height or width that `downsampling` does not divide.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with noise files 00.pt, 01.pt, ..")
    paths = sorted(path for path in folder.glob("*.pt") if not path.name.startswith("."))
    if not paths:
        raise InputError(f"{folder} has no noise files; expected 00.pt, 01.pt, ..")
    noises = {path.stem: _load_noise(path, downsampling) for path in paths}
    first = noises[paths[0].stem]
    for path in paths:
        if noises[path.stem].shape != first.shape:
            found, expected = list(noises[path.stem].shape), list(first.shape)
            raise InputError(f"{path} is {found} but {paths[0].name} is {expected}; expected noises of one size")
    return noises


def _load_noise(path: Path, downsampling: int) -> Tensor:
    noise = read_torch_file(path)
    if not isinstance(noise, Tensor):
        raise InputError(f"{path} holds a {type(noise).__name__}; expected a tensor of shape [1, 3, height, width]")
    if noise.layout != torch.strided or noise.device.type != "cpu":
        raise InputError(f"{path} holds a {noise.layout} tensor on {noise.device}; expected plain numbers")
    if noise.ndim != 4 or noise.shape[:2] != (1, 3) or noise.numel() == 0:
        raise InputError(f"{path} has shape {list(noise.shape)}; expected [1, 3, height, width]")
    if max(noise.shape) > MAX_SIDE:
        raise InputError(f"{path} is {noise.shape[3]}x{noise.shape[2]} pixels; at most {MAX_SIDE} a side are supported")
    if noise.dtype != torch.float32:
        raise InputError(f"{path} holds {noise.dtype}; expected torch.float32")
    if noise.shape[2] % downsampling or noise.shape[3] % downsampling:
        raise InputError(
            f"{path} is {noise.shape[3]}x{noise.shape[2]} pixels; this network needs multiples of {downsampling}"
        )
    if not bool(noise.isfinite().all()):
        raise InputError(f"{path} holds NaN or infinity; expected finite numbers")
    return noise.detach().contiguous()


def batch_invariant(network: FaceUNet, dtype: torch.dtype = torch.float32) -> Network:
    """The network, computing in its own `dtype`, as a function of float32 samples that all share one timestep.

    On a CPU an image is then the same bit for bit in every batch; the tests show it for the bundled and the official
    network. Two things would prevent that. Matrix products of one and of many rows round differently, so the timestep
    is embedded once for all images. PyTorch computes a single small image by another convolution than a batch, so such
    an image is computed twice. On a GPU the library may still choose by batch size, and images agree to float32
    rounding. In float32, cuDNN is left out: see `exact`.
    """

    def noise_pred(sample: Tensor, timesteps: Tensor) -> Tensor:
        B, _, H, W = sample.shape
        lone = B == 1 and H * W < LONE_PIXELS
        sample = sample.expand(2, -1, -1, -1) if lone else sample
        with exact(cudnn=dtype != torch.float32):
            output: Tensor = network(sample.to(dtype), timesteps[:1])
        return output[:B].float()

    return noise_pred


@dataclass(frozen=True)
class FaceSampler:
    """DDIM over the homework's timesteps, the predicted image clamped to [-1, 1] at each.

    network: as `batch_invariant` makes it. seed: of the fresh noise that eta > 0 adds; a face's noise depends on
    (seed, its name) alone. batch_size changes speed and memory, never the faces.
    """

    network: Network
    num_inference_steps: int = 50
    seed: int = 0
    batch_size: int = 5
    device: str = "cpu"

    def sample(
        self, noises: dict[str, Tensor], eta: float = 0.0, on_step: OnStep = silent
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, face) for each noise (1, 3, H, W), in order; a face is (3, H, W) float32 on the CPU, unclamped.

        eta in [0, 1]. Raises InputError if the network's arithmetic overflows.
        """
        pairs = timestep_pairs("homework", self.num_inference_steps)

        def draw(names: Sequence[str], on_step: OnStep) -> list[tuple[str, Tensor]]:
            step = ddim(eta=eta, clip_sample=1.0, generator=image_generators(self.seed, names))
            sample = torch.cat([noises[name] for name in names]).to(self.device)  # (B, 3, H, W)
            for state in walk(step, self.network, sample, homework_schedule(), pairs):
                sample = state.sample
                on_step(", ".join(names), len(names))
            if not bool(sample.isfinite().all()):
                raise InputError(f"the faces of {', '.join(names)} came out as NaN or infinity; use float32", "dtype")
            return list(zip(names, sample.cpu(), strict=True))

        return in_batches(list(noises), self.batch_size, draw, on_step)

    def pixels(
        self, noises: dict[str, Tensor], eta: float = 0.0, on_step: OnStep = silent
    ) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """As `sample`, with each face as pixels (H, W, 3)."""
        return ((name, face_to_u8(face)) for name, face in self.sample(noises, eta, on_step))

    def write(self, folder: OutputFolder, noises: dict[str, Tensor], eta: float = 0.0, prefix: str = "") -> None:
        """Draw the faces that `folder` still misses and keep each as prefix + name + ".png"; see `sample`."""
        draw_missing(
            folder,
            list(noises),
            lambda missing, on_step: self.pixels({name: noises[name] for name in missing}, eta, on_step),
            self.num_inference_steps,
            what=prefix or "faces",
            file_of=lambda name: f"{prefix}{name}.png",
        )


def face_to_u8(face: Tensor) -> npt.NDArray[np.uint8]:
    """A face (3, H, W) as pixels (H, W, 3), scaled by its own minimum and maximum over all channels.

    The numbers are those of `torchvision.utils.save_image(face, path, normalize=True)`.
    """
    low, high = face.min(), face.max()
    face_01 = (face - low) / torch.clamp(high - low, min=1e-5)
    face_u8: npt.NDArray[np.uint8] = (face_01 * 255 + 0.5).clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()
    return face_u8
