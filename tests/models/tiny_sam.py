"""SAM2 models of random weights, small enough to be made anew by a test."""

from pathlib import Path

import torch
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2ImageProcessor, Sam2Model, Sam2Processor, Sam2VisionConfig

SIZE = 64


def tiny_sam(seed: int = 0) -> Sam2Model:
    """A SAM2 that sees 64x64 pixels and draws masks of 16x16."""
    backbone = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[SIZE, SIZE], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4], global_attention_blocks=[3],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=32,
    )  # fmt: skip
    model = Sam2Model(
        Sam2Config(
            vision_config=vision,
            prompt_encoder_config={"hidden_size": 32, "image_size": SIZE, "patch_size": 16, "mask_input_channels": 4},
            mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
        )
    )
    g = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():  # as initialised, all masks would be nearly the same
        noise = torch.randn(parameter.shape, generator=g)
        parameter.data = noise * (1.5 / parameter[0].numel() ** 0.5) if parameter.ndim > 1 else parameter + 0.3 * noise
    for name, buffer in model.named_buffers():
        if name.endswith("positional_embedding"):
            buffer.copy_(torch.randn(buffer.shape, generator=g))
    return model.eval().requires_grad_(False)


def tiny_processor() -> Sam2Processor:
    """Its processor."""
    return Sam2Processor(Sam2ImageProcessor(size={"height": SIZE, "width": SIZE}))


def save_tiny_sam(folder: Path, seed: int = 0) -> Path:
    """Write it as transformers does."""
    tiny_sam(seed).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder
