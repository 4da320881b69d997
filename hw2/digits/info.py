"""What the digit network costs, and what other designs would cost: the reasons for its shape, in numbers."""

from __future__ import annotations

import dataclasses

import torch
from torch.utils.flop_counter import FlopCounterMode

from hw2.digits.network import IMAGE_CHANNELS, IMAGE_SIZE, DigitUNet, DigitUNetConfig


@dataclasses.dataclass(frozen=True)
class Cost:
    """parameters: numbers that are trained. operations: multiplications and additions of one 28x28 image, forward.

    parts: the operations of each part of the network.
    """

    parameters: int
    operations: int
    parts: dict[str, int]


def cost(config: DigitUNetConfig) -> Cost:
    """Count a network's parameters and operations, on the meta device: nothing is computed."""
    with torch.device("meta"):
        network = DigitUNet(config)
        sample = torch.empty(2, IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
        labels = torch.zeros(2, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            network(sample, labels, labels, labels)
    by_module = {name: sum(ops.values()) // len(sample) for name, ops in counter.get_flop_counts().items()}
    called = {path for path in by_module if path.startswith("DigitUNet.")}
    outermost = {path for path in called if not any(path.startswith(f"{other}.") for other in called)}
    parts: dict[str, int] = {}
    for path in outermost:
        part = path.split(".")[1]
        parts[part] = parts.get(part, 0) + by_module[path]
    return Cost(
        parameters=sum(p.numel() for p in network.parameters()),
        operations=by_module["Global"],
        parts={name: parts[name] for name, _ in network.named_children() if parts.get(name)},
    )


def alternatives(config: DigitUNetConfig) -> dict[str, DigitUNetConfig]:
    """The network and other designs, each of which differs in one decision."""
    return {
        "this network": config,
        "without attention": dataclasses.replace(config, attention_levels=()),
        "attention at 14x14 too": dataclasses.replace(config, attention_levels=(0, 1)),
        "pixels not folded, three levels": dataclasses.replace(
            config,
            patch_size=1,
            channels=(config.channels[0], *config.channels),
            num_res_blocks=(config.num_res_blocks[0], *config.num_res_blocks),
            attention_levels=(2,),
        ),
        "128 and 256 channels": dataclasses.replace(config, channels=(128, 256)),
    }
