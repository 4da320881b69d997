"""The job that a backend runs, and the protocol of all backends, which `run_sandboxed` calls."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Protocol

from grading.sandbox.channel import Log
from grading.sandbox.cpu import CpuUse
from grading.sandbox.gpu import DEVICES
from grading.sandbox.limits import Limit, Limits

SUBMISSION, OUTPUT, HOME = "/submission", "/output", "/home/student"
"""Paths inside the sandbox: the command's folder, the folder for its output, and its home if one is given."""

UID = 64202
"""The user that runs the command if the grader is root. It owns nothing. The kernel does not limit root's processes."""


@dataclass(frozen=True)
class Sandbox:
    """Settings chosen by staff, the same for all commands.

    gpu: pass the NVIDIA devices, and the grader's own variables that choose among them. trust: use no sandbox, for your
    own code only. python: the environment whose python3 comes first on the PATH. environment: variables for the
    command, such as CUDA_VISIBLE_DEVICES; an untrusted command gets none of the grader's own. hidden: files and folders
    that no command may see; a run that would show one is refused. visible: files and folders that every command may
    read at their own paths, such as packages that the environment links to. hub_cache: staff's cache of models, see
    `grading.environment.hub`; scripts get it as an input. backend: what protects the grader from untrusted commands, a
    name in `grading.sandbox.run.BACKENDS`. devices: the folder of the host's devices. host_network: commands with
    network get the host's, in place of the Internet alone. reachable: private addresses that they may reach as well.
    """

    gpu: bool = False
    trust: bool = False
    python: Path = Path(sys.prefix)
    environment: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[Path, ...] = ()
    visible: tuple[Path, ...] = ()
    hub_cache: Path | None = None
    backend: str = "bubblewrap"
    devices: Path = DEVICES
    host_network: bool = False
    reachable: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class Job:
    """One command and what it may use.

    folders: {path inside: path outside} of the submission and of all else that it gets. writable: the paths inside that
    it may change. layered: paths inside that it may change freely, because what it writes there is discarded.
    """

    command: tuple[str, ...]
    folders: Mapping[str, Path]
    writable: frozenset[str]
    limits: Limits
    network: bool
    sandbox: Sandbox
    layered: frozenset[str] = frozenset()


class Backend(Protocol):
    """Runs one job. It is made from the job and an ExitStack, which releases all resources of the backend.

    Every method may raise GradingError if something other than the command fails.
    """

    @property
    def log(self) -> Log:
        """The output of the command, available after `start`."""

    @property
    def output(self) -> int:
        """A descriptor of the output folder, available after `start`."""

    @property
    def gpu_bytes(self) -> int | None:
        """The most GPU memory that the command was found to use; None if it is not measured."""

    @property
    def cpu(self) -> CpuUse | None:
        """The CPU time of all that the command started, available after `kill`; None if it is not measured."""

    @property
    def sees_kills(self) -> bool:
        """Whether `exceeded` finds out if the kernel killed a process of the command for want of memory."""

    def start(self) -> None:
        """Start the command."""

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`, and return whether the command has ended."""

    def exceeded(self) -> Limit:
        """The limit, other than time, that the command exceeds now; empty if there is none."""

    def kill(self) -> int:
        """End all processes that the command started, and return its exit status."""
