"""Speed, each figure beside its floor or its rival, measured in one run: `make bench`.

Every comparison alternates its two sides and reports the ratio of their medians, so that a machine that speeds up or
slows down meanwhile does not decide it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from hw2.diffusion.samplers import ddim_step, walk
from hw2.diffusion.schedule import homework_schedule, timestep_pairs
from hw2.faces.checkpoint import load_face_unet
from hw2.faces.network import FaceUNet
from hw2.faces.sample import FaceSampler, batch_invariant, face_to_u8
from tests.oracles import diffusers_face_unet, random_face_weights
from tests.walks import last_sample

ROOT = Path(__file__).parents[2]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def seconds(*candidates: Callable[[], object], rounds: int) -> list[float]:
    """Median seconds of each candidate, one warm-up each, then in turn."""
    times: list[list[float]] = [[] for _ in candidates]
    for i in range(rounds + 1):
        for candidate, measured in zip(candidates, times, strict=True):
            start = time.perf_counter()
            candidate()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            if i > 0:
                measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in times]


def matmul_rate(dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product: what this machine can do at best."""
    n = 8192 if DEVICE == "cuda" else 2048
    a, b = torch.randn(2, n, n, device=DEVICE, dtype=dtype)
    return float(2 * n**3 / seconds(lambda: a @ b, rounds=5)[0])


def official_network() -> FaceUNet:
    network = FaceUNet().eval().requires_grad_(False)
    network.load_state_dict(random_face_weights(network, seed=0))
    return network.to(DEVICE)


def own_work(network: FaceUNet, batch: torch.Tensor) -> tuple[float, float]:
    """Seconds that one DDIM step takes beside its network call, and seconds of that call.

    The first is a walk over a network that costs nothing; the difference of two walks would drown in noise.
    """
    pairs, timesteps = timestep_pairs("homework", 50), torch.tensor([981], device=DEVICE)
    walk_s, call_s = seconds(
        lambda: last_sample(
            walk(partial(ddim_step, clip_sample=1.0), lambda x, t: x, batch, homework_schedule(), pairs)
        ),
        lambda: network(batch, timesteps),
        rounds=20 if DEVICE == "cuda" else 3,
    )
    return walk_s / len(pairs), call_s


@torch.inference_mode()
def bench_faces(table: Table) -> None:
    """All rows of Problem 2."""
    rate = matmul_rate(torch.float32)
    network = official_network()
    sample = torch.randn(1, 3, 256, 256, device=DEVICE)
    timesteps = torch.tensor([981], device=DEVICE)
    rounds = 20 if DEVICE == "cuda" else 3

    with FlopCounterMode(display=False) as counter:
        network(sample, timesteps)
    operations = counter.get_total_flops()
    theirs = diffusers_face_unet({k: v.cpu() for k, v in network.state_dict().items()}, network.config).to(DEVICE)
    ours_s, theirs_s = seconds(
        lambda: network(sample, timesteps),
        lambda: theirs(sample, timesteps),
        rounds=rounds,
    )
    table.add_row(
        "FaceUNet forward, 256x256, float32",
        f"{ours_s:.3f} s = {operations / ours_s / 1e9:.0f} GFLOP/s",
        f"floor {operations / rate:.3f} s ({operations / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s matmul)",
        f"{operations / rate / ours_s:.0%} of the floor's rate",
    )
    table.add_row(
        "the same against diffusers' UNet2DModel",
        f"{ours_s:.3f} s",
        f"{theirs_s:.3f} s",
        f"{theirs_s / ours_s:.2f}x as fast",
    )

    theirs.cpu()  # its memory is not to be counted as ours below
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

    if DEVICE == "cuda":
        faces = {}
        noises = {f"{i:02d}": torch.randn(1, 3, 256, 256) for i in range(10)}
        for dtype in (torch.float32, torch.bfloat16):
            sampler = FaceSampler(batch_invariant(network.to(dtype), dtype), device="cuda")
            list(sampler.sample(dict(list(noises.items())[:5])))
            torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            faces[dtype] = dict(sampler.sample(noises))
            elapsed, peak = time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30
            floor = operations * 10 * 50 / matmul_rate(dtype)
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
        table.add_row(
            "MSE of bfloat16 against float32 faces (random weights)", f"{statistics.fmean(errors):.3f}", "", ""
        )


def main() -> None:
    from tests.benchmarks.bench_concepts import bench_concepts
    from tests.benchmarks.bench_digits import bench_digits

    torch.backends.cudnn.allow_tf32 = False
    parts = {"faces": bench_faces, "digits": bench_digits, "concepts": bench_concepts}
    table = Table("what", "measured", "beside", "ratio", title=f"{DEVICE}, {torch.get_num_threads()} threads")
    for part in sys.argv[1:] or parts:
        parts[part](table)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
