"""The backend without protection. It runs trusted code directly, and ends its process group afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack, suppress

from grading.sandbox.backend import OUTPUT, SUBMISSION, Job
from grading.sandbox.channel import Log, open_folder, open_pipe
from grading.sandbox.layers import with_copies
from grading.sandbox.limits import Limit
from grading.sandbox.temporary import temporary_folder


class Trusted:
    """Runs a trusted command. Paths inside become paths outside in its arguments. Only the time limit applies."""

    def __init__(self, job: Job, resources: ExitStack) -> None:
        self.command, self.resources, self.killed = job.command, resources, False
        job = with_copies(job, resources)
        path = f"{job.sandbox.python.absolute() / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        self.environment = {**os.environ, "PATH": path, **job.sandbox.environment}
        self.outside = {inside: str(path.resolve()) for inside, path in job.folders.items()}
        self.outside[OUTPUT] = str(resources.enter_context(temporary_folder("grade")))
        self.output = open_folder(self.outside[OUTPUT], resources)

    @property
    def gpu_bytes(self) -> None:
        """Not measured. A trusted command has no limit on it."""

    @property
    def cpu(self) -> None:
        """Not measured."""

    @property
    def sees_kills(self) -> bool:
        """Nothing is found out about a trusted command."""
        return False

    def start(self) -> None:
        """Start the command in a process group of its own."""
        reader, writer = open_pipe(self.resources)
        self.log = Log(reader, self.outside)
        self.process = subprocess.Popen(  # noqa: S603 - running it is what this file is for
            [self._outside(argument) for argument in self.command], cwd=self.outside[SUBMISSION],
            stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, start_new_session=True, env=self.environment,
        )  # fmt: skip
        self.resources.callback(self.kill)

    def _outside(self, argument: str) -> str:
        for inside in sorted(self.outside, key=len, reverse=True):
            if argument == inside or argument.startswith(f"{inside}/"):
                return self.outside[inside] + argument.removeprefix(inside)
        return argument

    def wait(self, seconds: float) -> bool:
        """Wait for the command's own process, but not for processes that it leaves behind."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def exceeded(self) -> Limit:
        """Return no limit. A trusted command may use as much as it needs."""
        return ""

    def kill(self) -> int:
        """End the process group. Do so only once, because its number may belong to another group later."""
        if not self.killed:
            self.killed = True
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()
