"""Benchmarks of Problem 2: the network beside the machine's floor, the sampler's own work beside the network's."""

from __future__ import annotations

import statistics
from functools import partial

import torch
from rich.table import Table

from hw2.diffusion.samplers import ddim_step, walk
from hw2.diffusion.schedule import homework_schedule, timestep_pairs
from hw2.faces.checkpoint import load_face_unet
from hw2.faces.network import FaceUNet
from hw2.faces.sample import FaceSampler, batch_invariant, face_to_u8
from tests.benchmarks.measure import DEVICE, matmul_rate, operations, seconds, seconds_and_gib
from tests.commands import ROOT
from tests.models.tiny_faces import random_face_weights
from tests.oracles import diffusers_face_unet
from tests.walks import last_sample

ROUNDS = 20 if DEVICE == "cuda" else 3


def official_network() -> FaceUNet:
    """A network of the official size with random weights."""
    network = FaceUNet().eval().requires_grad_(False)
    network.load_state_dict(random_face_weights(network, seed=0))
    return network.to(DEVICE)


@torch.inference_mode()
def bench_faces(table: Table) -> None:
    """All rows of Problem 2."""
    network = official_network()
    sample = torch.randn(1, 3, 256, 256, device=DEVICE)
    needed = operations(lambda: network(sample, torch.tensor([981], device=DEVICE)))
    bench_network(table, network, sample, needed)
    bench_own_work(table, network, sample)
    if DEVICE == "cuda":
        bench_whole_faces(table, network, needed)


def bench_network(table: Table, network: FaceUNet, sample: torch.Tensor, needed: int) -> None:
    """One call of the network, which needs `needed` operations, beside a matrix product and diffusers' network."""
    rate = matmul_rate(torch.float32)
    timesteps = torch.tensor([981], device=DEVICE)
    theirs = diffusers_face_unet({k: v.cpu() for k, v in network.state_dict().items()}, network.config).to(DEVICE)
    ours_s, theirs_s = seconds(
        lambda: network(sample, timesteps),
        lambda: theirs(sample, timesteps),
        rounds=ROUNDS,
    )
    table.add_row(
        "FaceUNet forward, 256x256, float32",
        f"{ours_s:.3f} s = {needed / ours_s / 1e9:.0f} GFLOP/s",
        f"floor {needed / rate:.3f} s ({needed / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s matmul)",
        f"{needed / rate / ours_s:.0%} of the floor's rate",
    )
    table.add_row(
        "the same against diffusers' UNet2DModel",
        f"{ours_s:.3f} s",
        f"{theirs_s:.3f} s",
        f"{theirs_s / ours_s:.2f}x as fast",
    )
    theirs.cpu()  # the memory of later rows is ours alone


def bench_own_work(table: Table, network: FaceUNet, sample: torch.Tensor) -> None:
    """The sampler's own work in a step, beside the network call of that step."""
    small = load_face_unet(ROOT / "hw2" / "models" / "face_unet.safetensors", device=DEVICE)
    for what, predictor, batch in (
        ("one 256x256 face", network, sample),
        ("five 32x32 faces", small, torch.randn(5, 3, 32, 32, device=DEVICE)),
    ):
        step_s, call_s = own_work(predictor, batch)
        table.add_row(
            f"DDIM's own work in a step, {what}",
            f"{step_s * 1e3:.3f} ms",
            f"network call {call_s * 1e3:.1f} ms",
            f"{step_s / call_s:.2%} overhead (goal: under 2%)",
        )


def own_work(network: FaceUNet, batch: torch.Tensor) -> tuple[float, float]:
    """Seconds that one DDIM step takes besides its network call, and seconds of that call.

    The first is measured with a network that costs nothing: in the difference of two whole walks, noise would be larger
    than the figure.
    """
    pairs, timesteps = timestep_pairs("homework", 50), torch.tensor([981], device=DEVICE)
    walk_s, call_s = seconds(
        lambda: last_sample(
            walk(partial(ddim_step, clip_sample=1.0), lambda x, t: x, batch, homework_schedule(), pairs)
        ),
        lambda: network(batch, timesteps),
        rounds=ROUNDS,
    )
    return walk_s / len(pairs), call_s


def bench_whole_faces(table: Table, network: FaceUNet, needed: int) -> None:
    """Ten faces on a GPU: time and memory in two precisions, and how far the second's pixels are from the first's."""
    faces: dict[torch.dtype, dict[str, torch.Tensor]] = {}
    noises = {f"{i:02d}": torch.randn(1, 3, 256, 256) for i in range(10)}
    for dtype in (torch.float32, torch.bfloat16):
        sampler = FaceSampler(batch_invariant(network.to(dtype), dtype), device="cuda")
        list(sampler.sample(dict(list(noises.items())[:5])))
        drawn = faces[dtype] = {}
        elapsed, peak = seconds_and_gib(partial(_draw, sampler, noises, drawn))
        floor = needed * 10 * 50 / matmul_rate(dtype)
        table.add_row(
            f"10 faces of 256x256, 50 steps, {dtype}",
            f"{elapsed:.2f} s, peak {peak:.2f} GiB",
            f"floor {floor:.2f} s",
            f"{floor / elapsed:.0%} of the floor's rate",
        )
    errors = [
        ((face_to_u8(faces[torch.float32][n]).astype(float) - face_to_u8(faces[torch.bfloat16][n])) ** 2).mean()
        for n in noises
    ]
    table.add_row("MSE of bfloat16 against float32 faces (random weights)", f"{statistics.fmean(errors):.3f}", "", "")


def _draw(sampler: FaceSampler, noises: dict[str, torch.Tensor], drawn: dict[str, torch.Tensor]) -> None:
    """Draw the face of each noise into `drawn`."""
    drawn.update(sampler.sample(noises))
