"""One case of the rehearsal: what it runs, on which fake devices, and the row of figures that comes of it."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from unittest import mock

from accelerate.state import AcceleratorState, PartialState
from torch import distributed, nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.flop_counter import FlopCounterMode

from tests.rehearsal.fake_cuda import GIB, FakeCuda, fake_cuda
from tests.rehearsal.rows import Row

Mark = Callable[..., None]
"""Called by a case at the end of each of its steps, with anything."""


@dataclass(frozen=True)
class Case:
    """What is run, and what must hold of it.

    run: the work; it is given a `Mark`. devices: how many there are. place: index of the only one that must be used;
    None: none. rank: of this process, if two share the work. total: GiB of each device. exact: whether float32 must be
    computed without TF32. most_gib: of living tensors, as measured when the case was written. most_syncs: from one mark
    to the next. steps: how many the homework's whole task has. short: whether `make test` runs it; long: only
    `make test-all`.
    """

    name: str
    run: Callable[[Mark], None]
    devices: int = 1
    place: int | None = 0
    rank: int | None = None
    total: float = 20
    exact: bool = True
    most_gib: float | None = None
    most_syncs: int | None = None
    steps: int | None = None
    short: bool = False
    long: bool = False


def measured(case: Case, operations: bool = False) -> Row:
    """Run a case. Its row tells what failed, if anything did. operations: count them, which takes time."""
    error, place, start = "", "", time.process_time()
    with ExitStack() as stack:
        stack.enter_context(_process(case.rank))
        gpu = stack.enter_context(fake_cuda(case.devices, int(case.total * GIB), case.exact))
        counter = stack.enter_context(FlopCounterMode(display=False)) if operations else None
        marks: list[tuple[int, int]] = []
        try:
            case.run(lambda *_: marks.append((gpu.syncs, counter.get_total_flops() if counter else 0)))
        except (Exception, SystemExit) as failure:
            error, place = f"{type(failure).__name__}: {failure}", _place(failure)
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(marks)]
    return Row(
        case.name,
        error=error or _misplaced(gpu, case),
        place=place,
        peak_gib=max(gpu.peak.values(), default=0) / GIB,
        step_tflop=steps[-1][1] / 1e12 if steps and operations else None,
        steps=case.steps,
        syncs=max((syncs for syncs, _ in steps), default=None),
        seconds=time.process_time() - start,
        most_gib=case.most_gib,
        most_syncs=case.most_syncs,
    )


def _misplaced(gpu: FakeCuda, case: Case) -> str:
    """What is wrong with the devices that were used, or nothing."""
    used = sorted(index for index, peak in gpu.peak.items() if peak)
    expected = [] if case.place is None else [case.place]
    if used == expected:
        return ""
    return f"used {', '.join(f'cuda:{i}' for i in used) or 'no device'}; expected " + (
        "no device" if case.place is None else f"cuda:{case.place} alone"
    )


def _place(failure: BaseException) -> str:
    """Lines of this project's packages on the way to a failure, the innermost first."""
    lines = []
    at: BaseException | None = failure
    while at is not None:
        frames = traceback.extract_tb(at.__traceback__)
        own = [f for f in frames if f"{os.sep}hw2{os.sep}" in f.filename or f"{os.sep}grading{os.sep}" in f.filename]
        lines += [f"{os.sep.join(f.filename.split(os.sep)[-3:])}:{f.lineno}" for f in reversed(own)]
        at = at.__context__
    return " < ".join(lines[:4])


class _Alone(nn.Module):
    """In place of DistributedDataParallel, which fails if the other processes send nothing."""

    def __init__(self, module: nn.Module, **_: object) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


@contextmanager
def _process(rank: int | None) -> Iterator[None]:
    """A fresh process as accelerate sees it: alone, or of this rank of two that share the work, one a device."""
    with ExitStack() as stack:
        if rank is not None:
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": 29500}
            launched = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1"}
            environment = {**{name: str(value) for name, value in names.items()}, **launched}
            stack.enter_context(mock.patch.dict(os.environ, environment))
            begin = distributed.init_process_group

            def alone(*args: Any, **kwargs: Any) -> None:
                """Collectives that return at once: the other process does not exist."""
                begin(backend="fake", rank=rank, world_size=2, store=FakeStore())

            stack.enter_context(mock.patch.object(distributed, "init_process_group", alone))
            stack.enter_context(mock.patch("torch.nn.parallel.DistributedDataParallel", _Alone))
        try:
            yield
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()
            AcceleratorState._reset_state(reset_partial_state=True)
            PartialState._reset_state()
