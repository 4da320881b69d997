"""The rehearsal as a whole: it builds the stub, and runs cases in processes that load it instead of CUDA."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tests.commands import ROOT
from tests.rehearsal.rows import Row

STUB = Path(__file__).parent / "stub.c"


def missing() -> str:
    """What this machine lacks for the rehearsal, or nothing. A GPU is not needed, and not used where there is one."""
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA; install the default build"
    if int(torch.version.cuda.partition(".")[0]) < 13:
        return f"the stub answers as a driver of CUDA 13; this PyTorch was built for {torch.version.cuda}"
    if sys.platform != "linux":
        return "only Linux can load a stub in place of CUDA"
    return "" if shutil.which("cc") else "there is no C compiler here; install one that is called cc"


def stubbed(folder: Path) -> dict[str, str]:
    """The environment of a process that loads the stub, which is built into this folder, instead of CUDA."""
    stub = folder / "libcuda.so.1"  # under this name, PyTorch takes it for the driver as well
    subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{stub.name}", "-o", stub, STUB], check=True)
    return {**os.environ, "LD_PRELOAD": str(stub), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def rehearse(names: Sequence[str], operations: bool = False, workers: int = 2) -> list[Row]:
    """The rows of these cases, in their order. A case whose process died has a row that says so.

    operations: count them, which takes time. workers: processes that share the cases; each imports everything.
    """
    with TemporaryDirectory() as folder:
        environment = {**stubbed(Path(folder)), "FAKE_CUDA_DEVICES": "2"}
        count = "operations" if operations else "nothing"
        shares = [(Path(folder) / f"{i}.jsonl", names[i::workers]) for i in range(workers)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.rehearsal.worker", str(file), count, *share],
                env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for file, share in shares
        ]  # fmt: skip
        rows: dict[str, Row] = {}
        for process, (file, share) in zip(processes, shares, strict=True):
            _, complaint = process.communicate()
            lines = file.read_text().splitlines() if file.exists() else []
            rows |= {name: Row(name, f"the process ended early: {complaint[-2000:]}") for name in share}
            rows |= {row.name: row for row in (Row(**json.loads(line)) for line in lines)}
    return [rows[name] for name in names]
