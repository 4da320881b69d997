"""The face network in diffusers' words: the configuration and the weights of a `UNet2DModel` that computes the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hw2.faces.network import FaceUNetConfig, TimestepEmbedding

CLASS_NAME = "UNet2DModel"
INV_FREQ = "time.0.inv_freq"
"""A constant that the official checkpoint keeps among its weights; diffusers does not."""

ALWAYS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": False,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": None,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
}
"""Entries of a configuration that are the same for every face network."""

UNSAID: dict[str, Any] = {"flip_sin_to_cos": True, "attention_head_dim": 8}
"""What diffusers assumes where a configuration leaves an entry of ALWAYS out, if that is another value."""

ATTENTION = {True: "AttnDownBlock2D", False: "DownBlock2D"}

LAYERS = {
    "time.1": "time_embedding.linear_1",
    "time.3": "time_embedding.linear_2",
    "down1": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
"""Ours -> theirs, as in the next table."""

PARTS = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time.1": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "skip": "conv_shortcut",
}
"""Of a residual block."""


def config_to_diffusers(config: FaceUNetConfig, sample_size: int | None) -> dict[str, Any]:
    """The entries of `config.json`. sample_size: side of the images in pixels, which diffusers' pipelines draw."""
    down = [ATTENTION[level in config.attention_levels] for level in range(len(config.channel_multipliers))]
    return {
        "_class_name": CLASS_NAME,
        "sample_size": sample_size,
        "block_out_channels": [config.channel * m for m in config.channel_multipliers],
        "layers_per_block": config.num_res_blocks,
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "norm_num_groups": config.num_groups,
        **ALWAYS,
    }


def config_from_diffusers(found: Mapping[str, Any]) -> FaceUNetConfig:
    """The face network that a configuration describes. Raises ValueError, naming the entry, if none computes that."""
    for name, value in ALWAYS.items():
        if (other := found.get(name, UNSAID.get(name, value))) != value:
            raise ValueError(f"{name} is {other!r}, and this network has {value!r}")
    widths, down = found["block_out_channels"], found["down_block_types"]
    if not widths or widths[0] < 1 or any(width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels are {widths}, not multiples of the first")
    if unknown := [name for name in down if name not in ATTENTION.values()]:
        raise ValueError(f"down_block_types has {unknown[0]!r}")
    config = FaceUNetConfig(
        channel=widths[0],
        channel_multipliers=tuple(width // widths[0] for width in widths),
        num_res_blocks=found.get("layers_per_block", 2),
        attention_levels=tuple(level for level, name in enumerate(down) if name == ATTENTION[True]),
        num_groups=found.get("norm_num_groups", 32),
    )
    for name in ("down_block_types", "up_block_types"):
        if list(found[name]) != (expected := config_to_diffusers(config, None)[name]):
            raise ValueError(f"{name} is {list(found[name])}, and this network has {expected}")
    return config


def weights_to_diffusers(weights: Mapping[str, Tensor], config: FaceUNetConfig) -> dict[str, Tensor]:
    """A face network's weights under diffusers' names; attention's 1x1 convolution becomes three linear layers."""
    found = {}
    for kind in ("weight", "bias"):
        for ours, theirs in _layers(config).items():
            if f"{ours}.{kind}" in weights:  # a block has `skip` only where its width changes
                found[f"{theirs}.{kind}"] = weights[f"{ours}.{kind}"]
        for ours, theirs in _attentions(config).items():
            parts = [*weights[f"{ours}.qkv.{kind}"].chunk(3), weights[f"{ours}.out.{kind}"]]
            for name, part in zip(("to_q", "to_k", "to_v", "to_out.0"), parts, strict=True):
                found[f"{theirs}.{name}.{kind}"] = part.flatten(1) if kind == "weight" else part
    return found


def weights_from_diffusers(found: Mapping[str, Tensor], config: FaceUNetConfig) -> dict[str, Tensor]:
    """The reverse of `weights_to_diffusers`. What has no place in this network keeps its name."""
    rest = dict(found)
    weights = {INV_FREQ: TimestepEmbedding(config.channel).inv_freq}
    for kind in ("weight", "bias"):
        for ours, theirs in _layers(config).items():
            if f"{theirs}.{kind}" in rest:
                weights[f"{ours}.{kind}"] = rest.pop(f"{theirs}.{kind}")
        for ours, theirs in _attentions(config).items():
            for target, names in (("qkv", ("to_q", "to_k", "to_v")), ("out", ("to_out.0",))):
                keys = [f"{theirs}.{name}.{kind}" for name in names]
                if all(key in rest for key in keys):
                    joined = torch.cat([rest.pop(key) for key in keys])
                    weights[f"{ours}.{target}.{kind}"] = joined[..., None, None] if kind == "weight" else joined
    return {**rest, **weights}


def _layers(config: FaceUNetConfig) -> dict[str, str]:
    """Layers that both have, without attention's projections: ours -> theirs."""
    layers = dict(LAYERS)
    for ours, theirs, _ in _blocks(config):
        layers |= {f"{ours}.resblocks.{a}": f"{theirs}.{b}" for a, b in PARTS.items()}
    layers |= {f"{ours}.norm": f"{theirs}.group_norm" for ours, theirs in _attentions(config).items()}
    last, per_level = len(config.channel_multipliers) - 1, config.num_res_blocks + 1
    for i in range(last):
        layers[f"down{1 + (i + 1) * per_level}.0"] = f"down_blocks.{i}.downsamplers.0.conv"
        layers[f"up{(i + 1) * (per_level + 1)}.1"] = f"up_blocks.{i}.upsamplers.0.conv"
    return layers


def _attentions(config: FaceUNetConfig) -> dict[str, str]:
    """Ours -> theirs."""
    return {
        f"{ours}.attention": theirs.replace("resnets", "attentions")
        for ours, theirs, attention in _blocks(config)
        if attention
    }


def _blocks(config: FaceUNetConfig) -> Iterator[tuple[str, str, bool]]:
    """Residual blocks: our name, theirs, and whether attention follows.

    Our flat numbers count through a level's blocks and the convolution after them; down1 is the first convolution.
    """
    levels, n = range(len(config.channel_multipliers)), config.num_res_blocks
    yield "mid1", "mid_block.resnets.0", True
    yield "mid2", "mid_block.resnets.1", False
    for i, level in enumerate(reversed(levels)):
        attention, down, up = level in config.attention_levels, 2 + level * (n + 1), 1 + i * (n + 2)
        for block in range(n):
            yield f"down{down + block}", f"down_blocks.{level}.resnets.{block}", attention
        for block in range(n + 1):
            yield f"up{up + block}", f"up_blocks.{i}.resnets.{block}", attention
