"""The networks of CompVis' Stable Diffusion v1, written anew from `ldm/modules` with its names and its arithmetic.

Deliberately literal: einsum for attention, every block built in the order of the original's loops.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class ResBlock(nn.Module):
    def __init__(self, channels, emb, out):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )  # fmt: skip
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Dropout(0), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x, emb, context):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0))

    def forward(self, x, context):
        q, k, v = (y.unflatten(-1, (self.heads, -1)) for y in (self.to_q(x), self.to_k(context), self.to_v(context)))
        similarity = torch.einsum("bihd,bjhd->bhij", q, k) * q.shape[-1] ** -0.5
        return self.to_out(torch.einsum("bhij,bjhd->bihd", similarity.softmax(-1), v).flatten(-2))


class GEGLU(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Dropout(0), nn.Linear(4 * width, width))


class BasicTransformerBlock(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.attn1 = CrossAttention(width, width, heads)
        self.ff = FeedForward(width)
        self.attn2 = CrossAttention(width, context, heads)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x, context):
        y = self.norm1(x)
        x = self.attn1(y, y) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff.net(self.norm3(x)) + x


class SpatialTransformer(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([BasicTransformerBlock(width, context, heads)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x, emb, context):
        h = self.proj_in(self.norm(x))
        y = self.transformer_blocks[0](h.flatten(2).transpose(1, 2), context)
        return self.proj_out(y.transpose(1, 2).unflatten(2, h.shape[2:])) + x


class Downsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x, emb, context):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x, emb, context):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x, emb, context):
        return super().forward(x)


class UNetModel(nn.Module):
    """openaimodel.py. attention: the levels (0 is the finest) that have SpatialTransformers."""

    def __init__(self, width, multipliers, layers, attention, context, heads):
        super().__init__()
        emb, self.width = 4 * width, width
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.input_blocks = nn.ModuleList([nn.Sequential(First(4, width, 3, padding=1))])
        widths, ch = [width], width
        for level, multiplier in enumerate(multipliers):
            for _ in range(layers):
                block = [ResBlock(ch, emb, multiplier * width)]
                ch = multiplier * width
                if level in attention:
                    block.append(SpatialTransformer(ch, context, heads))
                self.input_blocks.append(nn.Sequential(*block))
                widths.append(ch)
            if level != len(multipliers) - 1:
                self.input_blocks.append(nn.Sequential(Downsample(ch)))
                widths.append(ch)
        self.middle_block = nn.Sequential(
            ResBlock(ch, emb, ch), SpatialTransformer(ch, context, heads), ResBlock(ch, emb, ch)
        )
        self.output_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for i in range(layers + 1):
                block = [ResBlock(ch + widths.pop(), emb, width * multiplier)]
                ch = width * multiplier
                if level in attention:
                    block.append(SpatialTransformer(ch, context, heads))
                if level and i == layers:
                    block.append(Upsample(ch))
                self.output_blocks.append(nn.Sequential(*block))
        self.out = nn.Sequential(nn.GroupNorm(32, ch), nn.SiLU(), nn.Conv2d(ch, 4, 3, padding=1))

    def forward(self, x, timesteps, context):
        half = self.width // 2
        angles = timesteps[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=-1))
        kept = []
        for block in self.input_blocks:
            for layer in block:
                x = layer(x, emb, context)
            kept.append(x)
        for layer in self.middle_block:
            x = layer(x, emb, context)
        for block in self.output_blocks:
            x = torch.cat([x, kept.pop()], dim=1)
            for layer in block:
                x = layer(x, emb, context)
        return self.out(x)


def norm(width):
    return nn.GroupNorm(32, width, eps=1e-6)


class ResnetBlock(nn.Module):
    """diffusionmodules/model.py, without a time embedding."""

    def __init__(self, channels, out):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        y = self.norm(x)
        q, k, v = (layer(y).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (torch.einsum("bci,bcj->bij", q, k) * x.shape[1] ** -0.5).softmax(-1)
        return x + self.proj_out(torch.einsum("bij,bcj->bci", weights, v).unflatten(2, x.shape[2:]))


def middle(width):
    mid = nn.Module()
    mid.block_1, mid.attn_1, mid.block_2 = ResnetBlock(width, width), AttnBlock(width), ResnetBlock(width, width)
    return mid


def walk_middle(mid, x):
    return mid.block_2(mid.attn_1(mid.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, width, multipliers, layers):
        super().__init__()
        self.conv_in, self.down, ch = nn.Conv2d(3, width, 3, padding=1), nn.ModuleList(), width
        for level, multiplier in enumerate(multipliers):
            down = nn.Module()
            down.block = nn.ModuleList()
            for _ in range(layers):
                down.block.append(ResnetBlock(ch, width * multiplier))
                ch = width * multiplier
            if level != len(multipliers) - 1:
                down.downsample = nn.Module()
                down.downsample.conv = nn.Conv2d(ch, ch, 3, stride=2)
            self.down.append(down)
        self.mid, self.norm_out, self.conv_out = middle(ch), norm(ch), nn.Conv2d(ch, 8, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for down in self.down:
            for block in down.block:
                x = block(x)
            if hasattr(down, "downsample"):
                x = down.downsample.conv(F.pad(x, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(walk_middle(self.mid, x))))


class Decoder(nn.Module):
    def __init__(self, width, multipliers, layers):
        super().__init__()
        ch = width * multipliers[-1]
        self.conv_in, self.mid = nn.Conv2d(4, ch, 3, padding=1), middle(ch)
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            up = nn.Module()
            up.block = nn.ModuleList()
            for _ in range(layers + 1):
                up.block.append(ResnetBlock(ch, width * multiplier))
                ch = width * multiplier
            if level:
                up.upsample = nn.Module()
                up.upsample.conv = nn.Conv2d(ch, ch, 3, padding=1)
            self.up.insert(0, up)  # the original's own words: prepend to get consistent order
        self.norm_out, self.conv_out = norm(ch), nn.Conv2d(ch, 3, 3, padding=1)

    def forward(self, z):
        x = walk_middle(self.mid, self.conv_in(z))
        for up in reversed(self.up):
            for block in up.block:
                x = block(x)
            if hasattr(up, "upsample"):
                x = up.upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(x)))


class AutoencoderKL(nn.Module):
    def __init__(self, width, multipliers, layers):
        super().__init__()
        self.encoder, self.decoder = Encoder(width, multipliers, layers), Decoder(width, multipliers, layers)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)

    def moments(self, x):
        """Mean and logarithm of the variance, one behind the other."""
        return self.quant_conv(self.encoder(x))

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))
