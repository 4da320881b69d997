"""The engine of one machine: each worker is a process of Python's own, with a GPU of its own where there are GPUs."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from grading.cohort.engine import LostError, check_workers
from grading.cohort.find import Submission
from grading.cohort.worker import Grades, Worker
from grading.core.errors import GradingError
from grading.sandbox.gpu import visible_gpus

START = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from grading.cohort.process_engine import serve
serve(int(sys.argv[1]))
"""
"""The program of a worker. Its arguments are the descriptor of its link and the places to import from."""


@dataclass(eq=False)
class Process:
    """A worker in a process of its own. See `engine.Hired`. gpus: where its GPU goes back to."""

    process: subprocess.Popen[bytes]
    link: Any
    gpu: str
    gpus: list[str]

    def grade(self, submission: Submission) -> None:
        """See `Hired`."""
        self.tell(submission)

    def tell(self, what: object) -> None:
        """Send what it is to work with."""
        with contextlib.suppress(OSError):  # it is dead, as `answer` will say
            self.link.send(what)

    def answer(self) -> Any:
        """See `Hired`."""
        try:
            return self.link.recv()
        except (EOFError, OSError):
            pass
        raise LostError(_end(self.process.wait()))

    def end(self) -> None:
        """See `Hired`."""
        self.process.kill()
        self.process.wait()
        self.link.close()
        if self.gpu:
            self.gpus.append(self.gpu)
            self.gpu = ""


@dataclass(frozen=True)
class ProcessEngine:
    """See `engine.Engine`. gpus: those that no worker has yet, by their names in CUDA_VISIBLE_DEVICES."""

    workers: int
    gpus: list[str] = field(default_factory=list)

    def hire(self, make_grader: Callable[[], Grades]) -> Process:
        """See `Engine`."""
        gpu = self.gpus.pop(0) if self.gpus else ""
        threads = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // self.workers, 1))}
        own = {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
        ours, theirs = multiprocessing.Pipe()
        # -P: Python itself would import from the current folder first, which could be a submission
        command = [sys.executable, "-P", "-c", START, str(theirs.fileno()), json.dumps(sys.path)]
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - the grader's own code
                command, env=threads | dict(os.environ) | own, pass_fds=[theirs.fileno()],
                # what libraries print would break the screen, and a terminal's Ctrl-C is for the class alone
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        hired = Process(process, ours, gpu, self.gpus)
        hired.tell(make_grader)
        return hired

    def answered(self, hired: Sequence[Process], seconds: float) -> list[Process]:
        """See `Engine`."""
        ready = connection.wait([worker.link for worker in hired], seconds)
        return [worker for worker in hired if worker.link in ready]


@contextmanager
def process_engine(
    workers: int | None = None, wants_gpu: bool = False, must_have_gpu: bool = False
) -> Iterator[ProcessEngine]:
    """Processes of this machine, one for each GPU, or one. workers: another number; never more than there are GPUs.

    Raises GradingError if a GPU is needed and there is none.
    """
    check_workers(workers)
    gpus = visible_gpus(os.environ) if wants_gpu else []
    if must_have_gpu and not gpus:
        raise GradingError("a GPU is required, but there is none here; use the CPU or another machine")
    yield ProcessEngine(min(workers or len(gpus), len(gpus)) if gpus else workers or 1, gpus)


def serve(descriptor: int) -> None:
    """The work of a worker's process: it makes its grader, then grades what it is sent. It ends with its employer."""
    link: Any = connection.Connection(descriptor)
    sent: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_receive, args=(link, sent), daemon=True).start()
    worker = Worker(sent.get())
    link.send(worker.prepare())
    while True:
        link.send(worker.grade(sent.get()))


def _receive(link: Any, sent: queue.Queue[Any]) -> None:
    """Take what the employer sends, also while the worker grades, so that its death is known at once."""
    try:
        while True:
            sent.put(link.recv())
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def _end(status: int) -> str:
    """How a process ended, such as "signal SIGKILL"."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
