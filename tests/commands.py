"""Run `hw2` and `hw2-grade` as a person does, but without importing PyTorch anew each time."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(
    [
        "torch", "torchvision", "accelerate", "scipy.stats", "matplotlib.pyplot", "typer", "tensorboard.compat.proto",
        "diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl",
        "transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip",
    ]
)  # fmt: skip


def _main(module: str, arguments: list[str], outputs: tuple[str, str]) -> None:
    """Do what `python -m MODULE ARGUMENTS` does; stdout and stderr go to two files."""
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(ROOT)
    sys.argv = [module, *arguments]
    importlib.import_module(f"{module}.__main__").main()


def run_command(module: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process. Without options, the process starts with the large libraries loaded."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    if options:
        return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, **options)
    with tempfile.TemporaryDirectory() as folder:
        outputs = f"{folder}/stdout", f"{folder}/stderr"
        process = _forkserver.Process(target=_main, args=(module, command[3:], outputs))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, 300)
        stdout, stderr = (Path(path).read_text(errors="surrogateescape") for path in outputs)
    return subprocess.CompletedProcess(command, process.exitcode, stdout, stderr)


def run_in_two_processes(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes that train or draw together on this machine's CPU.

    PyTorch's launcher starts them, because `accelerate launch --cpu --num_processes 2` starts only one process.
    """
    launch: list[object] = ["--standalone", "--nproc-per-node", 2, "-m", module]
    return run_command("torch.distributed.run", *launch, *arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})
