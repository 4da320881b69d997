"""Why bubblewrap cannot make a sandbox on this machine, and what helps there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

USER_NAMESPACES = "allow unprivileged user namespaces"

APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"


@dataclass(frozen=True)
class Machine:
    """What tells one kind of machine from another. reason: what bubblewrap printed."""

    reason: str
    root: Path = Path("/")
    variables: Mapping[str, str] | None = None

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        return (self.root / path).exists()

    def text(self, path: str) -> str:
        """The start of a small file; empty if there is none."""
        try:
            with (self.root / path).open("rb") as file:
                return file.read(4096).decode(errors="replace").strip()
        except OSError:
            return ""

    def sysctl(self, name: str) -> str:
        """The value of a kernel setting, such as "kernel/apparmor_restrict_unprivileged_userns"."""
        return self.text(f"proc/sys/{name}")

    def variable(self, name: str) -> str:
        """The value of an environment variable; empty if it is not set."""
        return (os.environ if self.variables is None else self.variables).get(name, "")


def _in_docker(machine: Machine) -> bool:
    return machine.has(".dockerenv") or "/docker/" in machine.text("proc/self/cgroup")


def _in_podman(machine: Machine) -> bool:
    return machine.has("run/.containerenv") or machine.variable("container") == "podman"


def _in_kubernetes(machine: Machine) -> bool:
    return bool(machine.variable("KUBERNETES_SERVICE_HOST"))


def _in_gvisor(machine: Machine) -> bool:
    return "gvisor" in machine.text("proc/version").lower()


CAUSES: tuple[tuple[Callable[[Machine], bool], str], ...] = (
    (_in_gvisor, "gVisor has no namespaces for bubblewrap; run this container with runc (docker run --runtime=runc)"),
    (
        _in_kubernetes,
        "in Kubernetes, give the pod seccompProfile Unconfined, procMount Unmasked and hostUsers false",
    ),
    (
        _in_podman,
        "in podman, start the container with --security-opt seccomp=unconfined --security-opt unmask=ALL",
    ),
    (
        _in_docker,
        "in docker, start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined",
    ),
    (
        lambda machine: "newroot/proc" in machine.reason,
        "this machine is a container whose /proc is masked; in docker, start it with --security-opt "
        "systempaths=unconfined --security-opt seccomp=unconfined, in podman with --security-opt unmask=ALL",
    ),
    (
        lambda machine: "setuid mode" in machine.reason.lower(),
        "this bubblewrap is installed set-user-ID; run chmod u-s on it, and " + USER_NAMESPACES,
    ),
    (
        lambda machine: machine.sysctl("kernel/unprivileged_userns_clone") == "0",
        f"{USER_NAMESPACES} (Debian: sysctl kernel.unprivileged_userns_clone=1)",
    ),
    (
        lambda machine: machine.sysctl("user/max_user_namespaces") == "0",
        f"{USER_NAMESPACES} (sysctl user.max_user_namespaces=15000)",
    ),
    (
        lambda machine: machine.sysctl(APPARMOR) == "1",
        f"{USER_NAMESPACES} (Ubuntu 24.04: sysctl kernel.apparmor_restrict_unprivileged_userns=0)",
    ),
    (
        lambda machine: "no space left" in machine.reason.lower(),
        "too many namespaces are in use; end other sandboxes, or raise sysctl user.max_user_namespaces",
    ),
)
"""Each cause with its remedy, the most specific first."""

OTHERWISE = (
    f"{USER_NAMESPACES} (Ubuntu 24.04: sysctl kernel.apparmor_restrict_unprivileged_userns=0), or in docker, start the "
    "container with --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
)


def remedy(machine: Machine) -> str:
    """What lets bubblewrap make a sandbox on this machine, as the second half of a sentence."""
    return next((text for applies, text in CAUSES if applies(machine)), OTHERWISE)
