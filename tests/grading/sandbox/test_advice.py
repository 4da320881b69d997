"""Where bubblewrap fails, the remedy is that of the machine."""

import tempfile
from pathlib import Path

import pytest

from grading.core.errors import GradingError
from grading.sandbox.advice import Machine, remedy
from grading.sandbox.run import Sandbox, run_sandboxed

MASKED = "Can't mount proc on /newroot/proc: Operation not permitted"
DENIED = "setting up uid map: Permission denied"
CLONE, MOST = "proc/sys/kernel/unprivileged_userns_clone", "proc/sys/user/max_user_namespaces"
APPARMOR = "proc/sys/kernel/apparmor_restrict_unprivileged_userns"


@pytest.mark.parametrize(
    ("reason", "files", "variables", "helps"),
    [
        (MASKED, {".dockerenv": ""}, {}, "in docker, start the container with --security-opt seccomp=unconfined"),
        (DENIED, {"proc/self/cgroup": "1:cpu:/docker/0a", APPARMOR: "1"}, {}, "systempaths=unconfined"),
        (MASKED, {"run/.containerenv": ""}, {}, "in podman, start the container with"),
        (MASKED, {}, {"container": "podman"}, "--security-opt unmask=ALL"),
        (MASKED, {".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "procMount Unmasked"),
        (MASKED, {"proc/version": "Linux version 4.4.0 (gVisor)"}, {}, "run this container with runc"),
        (MASKED, {}, {}, "in docker, start it with --security-opt systempaths=unconfined"),
        (DENIED, {APPARMOR: "1\n"}, {}, "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
        ("No permissions to create new namespace", {CLONE: "0\n"}, {}, "sysctl kernel.unprivileged_userns_clone=1"),
        ("Creating new namespace failed", {MOST: "0\n", CLONE: "1\n"}, {}, "sysctl user.max_user_namespaces=15000"),
        ("Creating new namespace failed: No space left on device", {}, {}, "too many namespaces are in use"),
        ("--disable-userns is not supported in setuid mode", {}, {}, "run chmod u-s on it"),
        ("something else", {APPARMOR: "0"}, {}, "allow unprivileged user namespaces (Ubuntu 24.04"),
    ],
)
def test_the_remedy_is_that_of_the_machine(tmp_path, reason, files, variables, helps):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert helps in remedy(Machine(reason, tmp_path, variables))


@pytest.fixture
def open_folder():
    """A folder that every user can reach; root starts bubblewrap as another user."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_bubblewrap_that_fails_as_in_docker_gets_dockers_option(open_folder, monkeypatch):
    bwrap = open_folder / "bwrap"
    version = 'if [ "$1" = --version ]; then echo bubblewrap 0.9.0; exit; fi'
    bwrap.write_text(f'#!/bin/bash\n{version}\necho "bwrap: {MASKED}" >&2\nexit 1\n')
    bwrap.chmod(0o755)
    monkeypatch.setattr("grading.sandbox.bubblewrap._find_bubblewrap", lambda: str(bwrap))
    with pytest.raises(GradingError, match="systempaths=unconfined") as caught:
        run_sandboxed(["true"], submission=open_folder, sandbox=Sandbox())
    assert MASKED in str(caught.value)
    assert caught.value.option == "trust"
