"""Runs an untrusted command without privileges and with limits on what it uses, so that the grader is safe.

The command sees /submission, its inputs, /output, /tmp, the system's /usr and one Python. It has no network, sees
nothing else of the host, and gets an environment that the grader chooses. When it ends or exceeds a limit, all that it
started is killed. A GPU's devices are passed as in other projects (see `grading.sandbox.gpu`). Its tests have stand-ins
for the devices and for NVML; tests/grading/sandbox/test_gpu_real.py needs a real GPU.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from grading.core.errors import GradingError
from grading.core.text import listed, printable
from grading.sandbox.backend import HOME, OUTPUT, SUBMISSION, UID, Backend, Job, Sandbox
from grading.sandbox.bubblewrap import Bubblewrap
from grading.sandbox.cpu import CpuUse
from grading.sandbox.limits import Limit, Limits, oom_kills, out_of_memory
from grading.sandbox.temporary import remove_litter
from grading.sandbox.trusted import Trusted

__all__ = ["BACKENDS", "HOME", "OUTPUT", "SUBMISSION", "UID", "Limits", "RunResult", "Sandbox", "run_sandboxed"]

TICK = 0.02
"""Seconds between two checks of what the command uses."""

NO_PROTECTION = "trusted"

BACKENDS: dict[str, Callable[[Job, ExitStack], Backend]] = {"bubblewrap": Bubblewrap, NO_PROTECTION: Trusted}
"""All backends by name. NO_PROTECTION is used for trusted commands only, the others for untrusted commands."""


@dataclass
class RunResult:
    """The result of a command. Use it in a `with`.

    exit_status: negative or over 128 for a signal. limit: the limit that it exceeded; empty if there is none. log: the
    beginning and the end of what it printed. output: a descriptor of its output folder, valid until `close`; no
    process uses it any more. gpu_bytes: the most GPU memory that was found in use; None if it was not measured. cpu:
    the CPU time of all its processes; None if it was not measured.
    """

    exit_status: int
    limit: Limit
    seconds: float
    log: str
    output: int
    cleanup: ExitStack = field(repr=False)
    gpu_bytes: int | None = None
    cpu: CpuUse | None = None

    def close(self) -> None:
        """Release the output folder."""
        self.cleanup.close()

    def __enter__(self) -> RunResult:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def run_sandboxed(
    command: Sequence[str],
    *,
    submission: Path,
    inputs: Mapping[str, Path] | None = None,
    writable: Mapping[str, Path] | None = None,
    layered: Collection[str] = (),
    limits: Limits | None = None,
    network: bool = False,
    sandbox: Sandbox | None = None,
) -> RunResult:
    """Run `command` in `submission`, which it sees as /submission, until it ends or exceeds a limit.

    inputs: what it may read, writable: folders of the host that it may change; both as {path inside: path outside}.
    layered: paths inside of folders that it may change for itself. Each run begins from the host's folder. What it
    writes there counts towards its limits and is discarded. network: it reaches the Internet alone, unless staff allow
    more (see `grading.sandbox.network`).
    A trusted command runs outside. Paths inside become paths outside in its arguments, and only `seconds` applies.
    Raises GradingError if the sandbox cannot be made, or the machine runs out of memory or disk space.
    """
    remove_litter()
    limits, sandbox = limits or Limits(), sandbox or Sandbox()
    given = {SUBMISSION: submission, **(inputs or {}), **(writable or {})}
    folders = {inside: path.absolute() for inside, path in given.items()}
    for inside, path in folders.items():
        if not path.exists():
            raise GradingError(
                f"{printable(str(path))} does not exist, but the run needs it as {inside}; check the path"
            )
    job = Job(tuple(command), folders, frozenset(writable or ()), limits, network, sandbox, frozenset(layered))
    cleanup = ExitStack()
    try:
        backend = _backend(sandbox)(job, cleanup)
        backend.start()
        began, kills = time.monotonic(), oom_kills()
        limit = _watch(backend, began + limits.seconds)
        seconds = time.monotonic() - began
        status = backend.kill()
        backend.log.drain()
        limit = limit or backend.exceeded()
        if not limit and status in (128 + signal.SIGXFSZ, -signal.SIGXFSZ):
            limit = "file size"
        killed = status in (128 + signal.SIGKILL, -signal.SIGKILL) and not backend.sees_kills
        if not limit and killed and oom_kills() > kills:
            raise out_of_memory()
        log, output = backend.log.text(), backend.output
        return RunResult(status, limit, seconds, log, output, cleanup, backend.gpu_bytes, backend.cpu)
    except BaseException:
        cleanup.close()
        raise


def _backend(sandbox: Sandbox) -> Callable[[Job, ExitStack], Backend]:
    if sandbox.trust:
        return BACKENDS[NO_PROTECTION]
    names = sorted(BACKENDS.keys() - {NO_PROTECTION})
    if sandbox.backend not in names:
        shown = printable(sandbox.backend)
        raise GradingError(f"{shown} is not a backend for untrusted code; choose {listed(names)}", option="backend")
    return BACKENDS[sandbox.backend]


def _watch(backend: Backend, deadline: float) -> Limit:
    """Wait until the command ends, and return the limit that it exceeded before; empty if there is none."""
    while not backend.wait(TICK):
        backend.log.drain()
        if time.monotonic() > deadline:
            return "seconds"
        if limit := backend.exceeded():
            return limit
    return ""
