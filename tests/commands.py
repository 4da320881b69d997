"""Run `hw2` and `hw2-grade` as a person does, but without importing PyTorch anew each time."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

ROOT = Path(__file__).parent.parent

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(["tests.preloaded"])


@dataclass(frozen=True)
class Stop:
    """The command sends itself a signal when it has written one file of this name and is about to name the second.

    name: a pattern for the file's name or path. how: SIGKILL leaves it no time for anything, as power that fails.
    """

    name: str
    how: Signals

    def watch(self) -> None:
        """From now on, in this process."""
        named: list[str] = []

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "os.rename" and Path(os.fsdecode(arguments[1])).match(self.name):
                named.append("")
                if len(named) == 2:
                    os.kill(os.getpid(), self.how)

        sys.addaudithook(hook)


def _main(
    module: str, arguments: list[str], outputs: tuple[str, str], variables: Mapping[str, str], stop: Stop | None
) -> None:
    """Do what `python -m MODULE ARGUMENTS` does; stdout and stderr go to two files."""
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(ROOT)
    os.environ.update(variables)
    if "OMP_NUM_THREADS" in variables:  # PyTorch, already loaded, no longer reads it
        importlib.import_module("torch").set_num_threads(int(variables["OMP_NUM_THREADS"]))
    if stop is not None:
        stop.watch()
    sys.argv = [module, *arguments]
    importlib.import_module(f"{module}.__main__").main()


@dataclass
class Started:
    """A command that runs in its own process, which started with the large libraries loaded."""

    module: str
    arguments: list[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    stop: Stop | None = None

    def __post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = f"{self._folder.name}/stdout", f"{self._folder.name}/stderr"
        arguments = (self.module, self.arguments, self._outputs, self.variables, self.stop)
        self.process = _forkserver.Process(target=_main, args=arguments)
        self.process.start()

    def ended(self, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Wait for its end. Raises TimeoutExpired, and kills it, if it takes longer."""
        command = [sys.executable, "-m", self.module, *self.arguments]
        self.process.join(seconds)
        with self._folder:
            if (status := self.process.exitcode) is None:
                self.process.kill()
                raise subprocess.TimeoutExpired(command, seconds)
            stdout, stderr = (Path(path).read_text(errors="surrogateescape") for path in self._outputs)
        return subprocess.CompletedProcess(command, status, stdout, stderr)


def start_command(
    module: str, *arguments: object, variables: Mapping[str, str] = {}, stop: Stop | None = None
) -> Started:
    """Start a command in its own process, with the large libraries loaded."""
    return Started(module, [*map(str, arguments)], variables, stop)


def run_command(
    module: str, *arguments: object, variables: Mapping[str, str] = {}, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process. Without options, the process starts with the large libraries loaded.

    variables: of its environment, besides those of the tests. The libraries that are loaded do not read them.
    """
    if not options:
        return start_command(module, *arguments, variables=variables).ended()
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, **options)


def wait_until(reached: Callable[[], object], seconds: float = 120) -> None:
    """Raises AssertionError if it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def run_in_two_processes(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes that train or draw together on this machine's CPU, told so as by torchrun.

    The first that fails ends the other. stdout and stderr are those of both.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"TORCHELASTIC_RUN_ID": "tests", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = [*map(str, arguments)]
    runs = [Started(module, words, {**shared, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    wait_until(lambda: any(r.process.exitcode for r in runs) or not any(r.process.is_alive() for r in runs), 300)
    for run in runs:
        if run.process.is_alive():
            run.process.join(5)
            run.process.kill()
    ends = [run.ended() for run in runs]
    said = ("".join(end.stdout for end in ends), "".join(end.stderr for end in ends))
    return subprocess.CompletedProcess(ends[0].args, max(abs(end.returncode) for end in ends), *said)


def run_by_torchrun(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes that PyTorch's launcher starts.

    `accelerate launch --cpu --num_processes 2` starts only one process.
    """
    launch: list[object] = ["--standalone", "--nproc-per-node", 2, "-m", module]
    return run_command("torch.distributed.run", *launch, *arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})
