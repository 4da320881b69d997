"""The face U-Net: the homework's noise-prediction network, key for key.

The default configuration has the 427 keys and 113,673,219 parameters of the official `UNet.pt`. It is the DDPM network
for 256x256 images (Ho et al. 2020, appendix B) with one attention level. Flat names count through the levels::

    down1                 3x3 convolution of the image
    down2 .. downN        per level: residual blocks, then a stride-2 convolution (not after the last level)
    mid1, mid2            a residual block with attention, one without
    up1 .. upM            per level, from the smallest: one residual block more than on the way down, each fed with the
                          output of its mirror image, then nearest-neighbour upsampling and a convolution
    out                   group norm, swish, 3x3 convolution
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class FaceUNetConfig:
    """Size of a `FaceUNet`; the defaults are the official network.

    channel: width of the first level. channel_multipliers: one per level, from the full resolution down.
    num_res_blocks: per level on the way down; one more on the way up. attention_levels: indices of levels whose
    residual blocks are followed by attention (level 4 of a 256x256 image is 16x16). num_groups: of every group norm,
    a divisor of every width. Raises ValueError for sizes from which no network can be built.
    """

    channel: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (4,)
    num_groups: int = 32

    def __post_init__(self) -> None:
        numbers = (self.channel, *self.channel_multipliers, self.num_res_blocks, self.num_groups)
        if not self.channel_multipliers or not all(type(n) is int and 0 < n <= 4096 for n in numbers):
            raise ValueError(f"every size must be a positive integer, got {self}")
        if len(self.channel_multipliers) > 10 or self.num_res_blocks > 16:
            raise ValueError(f"at most 10 levels of 16 blocks are built, got {self}")
        if not all(type(n) is int and 0 <= n < len(self.channel_multipliers) for n in self.attention_levels):
            raise ValueError(f"attention_levels must name levels 0 .. {len(self.channel_multipliers) - 1}, got {self}")
        if self.channel % self.num_groups or self.channel % 2:
            raise ValueError(f"channel must be even and divisible by num_groups, got {self}")

    @property
    def downsampling(self) -> int:
        """The factor that an image's height and width must be divisible by."""
        return int(2 ** (len(self.channel_multipliers) - 1))


class FaceUNet(nn.Module):
    """Predicts the noise in a batch of images.

    forward(sample (B, 3, H, W), timesteps (B,) or (1,)) -> noise_pred (B, 3, H, W); H and W divisible by
    config.downsampling. Timesteps are embedded in float32 whatever the weights' dtype.
    """

    def __init__(self, config: FaceUNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FaceUNetConfig()
        widths = [config.channel * m for m in config.channel_multipliers]
        time_dim = 4 * config.channel
        groups = config.num_groups

        self.time = nn.Sequential(
            TimestepEmbedding(config.channel),
            nn.Linear(config.channel, time_dim),
            nn.SiLU(),
            nn.Linear(time_dim, time_dim),
        )
        down: list[nn.Module] = [nn.Conv2d(IMAGE_CHANNELS, config.channel, 3, padding=1)]
        channels = config.channel
        skips = [channels]  # channels of each feature map that the way up uses again
        for level, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                down.append(Block(channels, width, time_dim, groups, attention=level in config.attention_levels))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                down.append(nn.Sequential(nn.Conv2d(channels, channels, 3, stride=2, padding=1)))
                skips.append(channels)
        self._down = _register(self, "down", down)

        self.mid1 = Block(channels, channels, time_dim, groups, attention=True)
        self.mid2 = Block(channels, channels, time_dim, groups, attention=False)

        up: list[nn.Module] = []
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(config.num_res_blocks + 1):
                attention = level in config.attention_levels
                up.append(Block(channels + skips.pop(), width, time_dim, groups, attention))
                channels = width
            if level > 0:
                up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1)))
        self._up = _register(self, "up", up)

        self.out = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), _zero(nn.Conv2d(channels, IMAGE_CHANNELS, 3, padding=1))
        )

    def forward(self, sample: Tensor, timesteps: Tensor) -> Tensor:
        time = self.time[1:](self.time[0](timesteps).to(sample.dtype))  # (B or 1, time_dim)
        features = []
        for name in self._down:
            layer = getattr(self, name)
            sample = layer(sample, time) if isinstance(layer, Block) else layer(sample)
            features.append(sample)
        sample = self.mid2(self.mid1(sample, time), time)
        for name in self._up:
            layer = getattr(self, name)
            if isinstance(layer, Block):
                sample = layer(torch.cat([sample, features.pop()], dim=1), time)
            else:
                sample = layer(sample)
        noise_pred: Tensor = self.out(sample)
        return noise_pred


class TimestepEmbedding(nn.Module):
    """Sinusoids of geometrically spaced frequencies, sines first: (B,) -> (B, dim) (Vaswani et al. 2017, 3.5)."""

    inv_freq: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        if torch.get_default_device().type == "meta":  # it has no values; for arange, PyTorch would import its compiler
            inv_freq = torch.empty((dim + 1) // 2)
        else:
            inv_freq = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000) / dim))
        self.register_buffer("inv_freq", inv_freq)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # `network.to(torch.bfloat16)` must not reach the frequencies: timestep 981 would be off by several radians.
        inv_freq = self.inv_freq
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.inv_freq = inv_freq.to(self.inv_freq.device)
        return self

    def forward(self, timesteps: Tensor) -> Tensor:
        angles = timesteps.float().reshape(-1, 1) * self.inv_freq  # (B, dim / 2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Block(nn.Module):
    """A residual block, optionally followed by attention."""

    def __init__(self, in_channels: int, out_channels: int, time_dim: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.resblocks = ResidualBlock(in_channels, out_channels, time_dim, groups)
        self.attention = SelfAttention(out_channels, groups) if attention else None

    def forward(self, sample: Tensor, time: Tensor) -> Tensor:
        sample = self.resblocks(sample, time)
        if self.attention is not None:
            sample = self.attention(sample)
        return sample


class ResidualBlock(nn.Module):
    """Two convolutions around the addition of the time embedding, plus the input (DDPM appendix B)."""

    def __init__(self, in_channels: int, out_channels: int, time_dim: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, out_channels))
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.conv2 = _zero(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, sample: Tensor, time: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(sample)))
        hidden = hidden + self.time(time)[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        if self.skip is not None:
            sample = self.skip(sample)
        output: Tensor = sample + hidden
        return output


class SelfAttention(nn.Module):
    """One-head attention over all pixels, plus the input; scaled by sqrt(channels)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, sample: Tensor) -> Tensor:
        B, C, H, W = sample.shape
        qkv = self.qkv(self.norm(sample)).reshape(B, 3, 1, C, H * W)
        query, key, value = qkv.transpose(-1, -2).unbind(1)  # each (B, 1, H W, C)
        attended = F.scaled_dot_product_attention(query, key, value)
        # Without contiguous() the convolution picks its algorithm, and so its rounding, by the size of the batch.
        attended = attended.transpose(-1, -2).reshape(B, C, H, W).contiguous()
        output: Tensor = sample + self.out(attended)
        return output


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Start a branch at zero, so that an untrained network passes its input through (DDPM's initialisation)."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _register(parent: nn.Module, prefix: str, layers: list[nn.Module]) -> list[str]:
    """Give the layers the flat names of the official checkpoint, prefix1, prefix2, ..; returns them in order."""
    names = [f"{prefix}{i}" for i in range(1, len(layers) + 1)]
    for name, layer in zip(names, layers, strict=True):
        parent.add_module(name, layer)
    return names
