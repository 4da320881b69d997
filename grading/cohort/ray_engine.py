"""The engine of several machines: a cluster of Ray."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading.cohort.engine import LostError, check_workers
from grading.cohort.find import Submission
from grading.cohort.worker import Grades, Worker
from grading.core.errors import GradingError
from grading.core.extras import install
from grading.core.text import printable
from grading.sandbox.temporary import prefix

LOCAL = "local"
"""Ray's own word for an address: a Ray of this machine alone, as tests use it."""

OBJECT_STORE = 80 * 2**20
"""Bytes, about the least that Ray accepts. Results are small."""

OWN_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # makes Ray listen on 127.0.0.1 only
    "RAY_DEDUP_LOGS": "0",
    "RAY_TQDM_PATCH_PRINT": "0",  # otherwise Ray replaces builtins.print
    "RAY_memory_monitor_refresh_ms": "0",  # the sandbox limits memory; Ray must not kill a worker for it
}

TOKEN = secrets.token_hex(32)
"""The secret of this process. Ray keeps the first one that it reads, so that there can be no second."""


OPEN = "r"
"""Ray's folder for sockets and logs, in a folder that is closed: Ray lets all users write to its own."""


@dataclass(eq=False)
class Actor:
    """A worker of Ray. See `engine.Hired`. pending: Ray's handle of its next answer."""

    actor: Any
    pending: Any

    def grade(self, submission: Submission) -> None:
        """See `Hired`."""
        self.pending = self.actor.grade.remote(submission)

    def answer(self) -> Any:
        """See `Hired`."""
        import ray

        try:
            return ray.get(self.pending)
        except ray.exceptions.RayError as error:
            raise LostError(ray_reason(error)) from None

    def end(self) -> None:
        """See `Hired`. Ray itself would end it later."""
        import ray

        ray.kill(self.actor)


@dataclass(frozen=True)
class RayEngine:
    """A running Ray. See `engine.Engine`. resources: what one worker reserves."""

    workers: int
    resources: Mapping[str, Any]

    def hire(self, make_grader: Callable[[], Grades]) -> Actor:
        """See `Engine`."""
        import ray

        made: Any = ray.remote(**self.resources, max_restarts=0, max_task_retries=0)(Worker)
        actor = made.remote(make_grader)
        return Actor(actor, actor.prepare.remote())

    def answered(self, hired: Sequence[Actor], seconds: float) -> list[Actor]:
        """See `Engine`."""
        import ray

        by_handle = {worker.pending: worker for worker in hired}
        return [by_handle[handle] for handle in ray.wait(list(by_handle), timeout=seconds)[0]]


@contextmanager
def ray_engine(
    address: str, workers: int | None = None, wants_gpu: bool = False, must_have_gpu: bool = False
) -> Iterator[RayEngine]:
    """Join the cluster at `address`, or start a Ray of this machine's own for LOCAL. Its workers end with the context.

    A Ray of this machine's own listens on 127.0.0.1 only, requires a secret of this process, and sends no statistics.
    Raises GradingError if Ray is not installed, or if a GPU is needed and there is none.
    """
    check_workers(workers)
    if address == LOCAL:
        # Ray reads these once per process, most of them when it is imported
        os.environ.update(OWN_RAY)
        os.environ.setdefault("RAY_AUTH_TOKEN", TOKEN)
    try:
        import ray
    except ImportError:
        raise GradingError(
            f"grading on several machines needs Ray, which is not installed; run {install('cohort')}"
        ) from None
    # A private folder, so that other users cannot reach what is in it. Its path is short: the path of a socket of Ray
    # may have at most 107 characters.
    scratch = Path(tempfile.mkdtemp(prefix=prefix("ray"), dir="/tmp"))
    try:
        # The screen reports workers that die. Ray would print long messages about them on stdout.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            try:
                _start_ray(address, scratch, workers, wants_gpu)
                gpus = int(ray.cluster_resources().get("GPU", 0)) if wants_gpu else 0
                if must_have_gpu and not gpus:
                    raise GradingError("a GPU is required, but Ray finds none; use the CPU or another machine")
                yield RayEngine(workers or gpus or 1, {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1})
            finally:
                ray.shutdown()
    except ray.exceptions.RayError as error:
        raise GradingError(f"Ray failed ({ray_reason(error)}); run the same command again to resume") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _start_ray(address: str, scratch: Path, workers: int | None, wants_gpu: bool) -> None:
    import ray

    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE, "_temp_dir": str(scratch / OPEN)}
        own |= {} if wants_gpu else {"num_cpus": workers or 1, "num_gpus": 0}
    try:
        # workers import from the current folder first, which could be a submission
        with contextlib.chdir(scratch), _own_signals():
            ray.init(address=address, configure_logging=False, log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = "here" if address == LOCAL else f"at {printable(address)}"
        raise GradingError(f"Ray cannot be started or joined {where} ({ray_reason(error)})") from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, which Ray replaces by one that says nothing."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def ray_reason(error: Exception) -> str:
    """The first line of Ray's message."""
    return printable(str(error).strip().partition("\n")[0])
