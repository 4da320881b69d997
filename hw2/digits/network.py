"""The digit U-Net: one small network for both data sets, conditioned on time, digit and data set.

What it spends operations on (28x28 images; `hw2 digits info` counts them):

- Pixels are folded 2x2 into channels, so that the largest feature map is 14x14. A convolution at 28x28 would cost four
  times as much and cover half the distance, and the features of a digit are larger than two pixels.
- Twice the channels at 7x7 make a block there as expensive as one at 14x14. Most blocks are there, each followed by
  attention, which costs almost nothing over 49 positions and relates both ends of a stroke.
- The way up takes the features of the way down through a 1x1 convolution. The usual concatenation in front of a 3x3
  convolution costs half as much again as the block itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_CHANNELS = 3
IMAGE_SIZE = 28
NUM_DIGITS = 10
NULL_DIGIT = NUM_DIGITS
DATASETS = ("mnistm", "svhn")
NULL_DATASET = len(DATASETS)
LABELS = (NUM_DIGITS + 1, len(DATASETS) + 1)
"""How many digits and data sets there are, null included."""


@dataclass(frozen=True)
class DigitUNetConfig:
    """Size of a `DigitUNet`; the default is the bundled network.

    patch_size: side of the pixel squares folded into channels. channels: one width per level, each level half the size
    of the one before. num_res_blocks: per level, on the way down and again on the way up. attention_levels: levels
    whose blocks are followed by attention, head_dim channels a head. num_groups: of every group norm.
    Raises ValueError for sizes from which no network for 28x28 images can be built.
    """

    patch_size: int = 2
    channels: tuple[int, ...] = (64, 128)
    num_res_blocks: tuple[int, ...] = (2, 3)
    attention_levels: tuple[int, ...] = (1,)
    head_dim: int = 64
    num_groups: int = 8

    def __post_init__(self) -> None:
        numbers = (self.patch_size, *self.channels, *self.num_res_blocks, self.head_dim, self.num_groups)
        if not self.channels or not all(type(n) is int and 0 < n <= 4096 for n in numbers):
            raise ValueError(f"every size must be a positive integer, got {self}")
        if len(self.num_res_blocks) != len(self.channels) or max(self.num_res_blocks) > 16:
            raise ValueError(f"num_res_blocks needs one number of at most 16 for each level, got {self}")
        if IMAGE_SIZE % (self.patch_size * 2 ** (len(self.channels) - 1)):
            raise ValueError(f"patch_size and levels must divide {IMAGE_SIZE} pixels, got {self}")
        if not all(type(n) is int and 0 <= n < len(self.channels) for n in self.attention_levels):
            raise ValueError(f"attention_levels must name levels 0 .. {len(self.channels) - 1}, got {self}")
        if any(c % self.num_groups or c % 2 for c in self.channels):
            raise ValueError(f"every width must be even and divisible by num_groups, got {self}")
        if any(self.channels[level] % self.head_dim for level in (*self.attention_levels, len(self.channels) - 1)):
            raise ValueError(f"the width of a level with attention must be divisible by head_dim, got {self}")


class DigitUNet(nn.Module):
    """Predicts epsilon or v (whichever it was trained for) of a batch of noisy digits.

    forward(sample (B, 3, 28, 28), timesteps (B,) or (1,), digits (B,), datasets (B,)) -> (B, 3, 28, 28). digits are
    0 .. 9 or NULL_DIGIT, datasets indices into DATASETS or NULL_DATASET: null means "any", independently of the other.
    """

    def __init__(self, config: DigitUNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DigitUNetConfig()
        folded = IMAGE_CHANNELS * config.patch_size**2
        dim = 4 * config.channels[0]
        self.time = nn.Sequential(nn.Linear(config.channels[0], dim), nn.SiLU(), nn.Linear(dim, dim))
        self.digit = nn.Embedding(NUM_DIGITS + 1, dim)
        self.dataset = nn.Embedding(len(DATASETS) + 1, dim)
        self.stem = nn.Conv2d(folded, config.channels[0], 3, padding=1)

        def block(level: int) -> Block:
            head_dim = config.head_dim if level in config.attention_levels else None
            return Block(config.channels[level], dim, config.num_groups, head_dim)

        levels = range(len(config.channels))
        self.down = nn.ModuleList(nn.ModuleList(block(i) for _ in range(config.num_res_blocks[i])) for i in levels)
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1)
            for a, b in zip(config.channels[:-1], config.channels[1:], strict=True)
        )
        self.middle = Block(config.channels[-1], dim, config.num_groups, config.head_dim)
        self.merge = nn.ModuleList(
            nn.ModuleList(Pointwise(2 * width, width) for _ in range(depth))
            for width, depth in zip(config.channels, config.num_res_blocks, strict=True)
        )
        self.up = nn.ModuleList(nn.ModuleList(block(i) for _ in range(config.num_res_blocks[i])) for i in levels)
        self.grow = nn.ModuleList(
            Pointwise(b, a) for a, b in zip(config.channels[:-1], config.channels[1:], strict=True)
        )
        self.norm = nn.GroupNorm(config.num_groups, config.channels[0])
        self.out = nn.Conv2d(config.channels[0], folded, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        for embedding in (self.digit, self.dataset):
            nn.init.normal_(embedding.weight, std=0.5)

    def forward(self, sample: Tensor, timesteps: Tensor, digits: Tensor, datasets: Tensor) -> Tensor:
        condition = Condition(self._condition(timesteps, digits, datasets), None)
        if len(timesteps) == 1:
            # A row of a matrix product rounds differently in a product of one, few or many rows. All label pairs are
            # computed and each image takes its own: an image is independent of its batch, and there are fewer rows.
            pairs = torch.cartesian_prod(*(torch.arange(n, device=digits.device) for n in LABELS))
            condition = Condition(self._condition(timesteps, *pairs.unbind(1)), digits * LABELS[1] + datasets)
        hidden = self.stem(F.pixel_unshuffle(sample, self.config.patch_size))
        skips: list[Tensor] = []
        for level in range(len(self.down)):
            for block in _of_level(self.down, level):
                hidden = block(hidden, condition)
                skips.append(hidden)
            if level < len(self.shrink):
                hidden = self.shrink[level](hidden)
        hidden = self.middle(hidden, condition)
        for level in reversed(range(len(self.up))):
            for merge, block in zip(_of_level(self.merge, level), _of_level(self.up, level), strict=True):
                hidden = block(merge(torch.cat([hidden, skips.pop()], dim=1)), condition)
            if level > 0:
                hidden = F.interpolate(self.grow[level - 1](hidden), scale_factor=2.0, mode="nearest")
        output: Tensor = F.pixel_shuffle(self.out(F.silu(self.norm(hidden))), self.config.patch_size)
        return output

    def _condition(self, timesteps: Tensor, digits: Tensor, datasets: Tensor) -> Tensor:
        """What a block is conditioned on, (B, dim)."""
        time = self.time(sinusoids(timesteps, self.config.channels[0]).to(self.stem.weight.dtype))
        return F.silu(time + self.digit(digits) + self.dataset(datasets))


def _of_level(layers: nn.ModuleList, level: int) -> nn.ModuleList:
    chosen = layers[level]
    assert isinstance(chosen, nn.ModuleList)
    return chosen


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that rounds an image the same in every batch of two or more.

    With one thread of a CPU, PyTorch computes these, and nothing else here, in another way for fewer than 16 images.
    They are cheap, so the batch is filled up for them alone.
    """

    FEWEST = 16

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, sample: Tensor) -> Tensor:
        B = len(sample)
        if B >= self.FEWEST or sample.device.type != "cpu":
            return super().forward(sample)
        return super().forward(sample[torch.arange(self.FEWEST) % B])[:B]


class Condition(NamedTuple):
    """rows (R, dim), and which row belongs to each of the B images; None: R = B, one each."""

    rows: Tensor
    row_of_image: Tensor | None


def sinusoids(timesteps: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of geometrically spaced frequencies: (B,) -> (B, dim) float32 (Vaswani et al. 2017, 3.5)."""
    frequencies = torch.exp(torch.arange(0, dim, 2, device=timesteps.device) * (-math.log(10000) / dim))
    angles = timesteps.float().reshape(-1, 1) * frequencies  # (B, dim / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Block(nn.Module):
    """Two convolutions with the condition as scale and shift between them, plus the input; attention if head_dim.

    Scale and shift of the normalised features: Dhariwal & Nichol 2021, arXiv 2105.05233, section 3 (AdaGN).
    """

    def __init__(self, channels: int, condition_dim: int, groups: int, head_dim: int | None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.condition = nn.Linear(condition_dim, 2 * channels)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.attention = SelfAttention(channels, groups, head_dim) if head_dim else None

    def forward(self, sample: Tensor, condition: Condition) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(sample)))
        modulation = self.condition(condition.rows)
        if condition.row_of_image is not None:
            modulation = modulation[condition.row_of_image]
        scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
        hidden = self.norm2(hidden) * (1 + scale) + shift
        sample = sample + self.conv2(F.silu(hidden))
        return self.attention(sample) if self.attention is not None else sample


class SelfAttention(nn.Module):
    """Attention among all positions of a feature map, plus the input."""

    def __init__(self, channels: int, groups: int, head_dim: int) -> None:
        super().__init__()
        self.heads = channels // head_dim
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, sample: Tensor) -> Tensor:
        B, C, H, W = sample.shape
        tokens = self.norm(sample).flatten(2).transpose(1, 2)  # (B, H W, C)
        qkv = self.qkv(tokens).reshape(B, H * W, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each (B, heads, H W, head_dim)
        # 49 positions: PyTorch's fused attention on a CPU took a third of a training step here, these lines a tenth.
        weights = (query @ (key * key.shape[-1] ** -0.5).transpose(-1, -2)).softmax(dim=-1)  # (B, heads, H W, H W)
        attended = weights @ value
        attended = self.out(attended.transpose(1, 2).reshape(B, H * W, C))
        output: Tensor = sample + attended.transpose(1, 2).reshape(B, C, H, W)
        return output
