"""The backend bubblewrap. It isolates an untrusted command by namespaces, without privileges, and watches it."""

from __future__ import annotations

import functools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.sandbox.advice import Machine, remedy
from grading.sandbox.backend import HOME, OUTPUT, SUBMISSION, UID, Job, Sandbox
from grading.sandbox.channel import Log, open_folder, open_pipe
from grading.sandbox.gpu import check_open, driver_binds, driver_folders, find_devices, gpu_environment
from grading.sandbox.keyring import OWN_KEYRING
from grading.sandbox.layers import FILE, LAYER, MERGED, PRIVATE_MOUNTS, VEIL, can_overlay, can_veil, with_copies
from grading.sandbox.limits import Limit, Limits, Watch
from grading.sandbox.nvml import GpuMemory
from grading.sandbox.temporary import prefix

IN_MEMORY = (OUTPUT, "/tmp", "/dev/shm")  # noqa: S108 - of the sandbox
"""File systems of the sandbox that are kept in memory, bounded in size, and freed with their last descriptor."""

SYSTEM = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime", "/sys/devices/system/cpu")
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki")

MAKING_SECONDS, KILLING_SECONDS = 30, 10
"""Seconds allowed for bubblewrap to make a sandbox, and for the kernel to end all of its processes."""

TRUST_INSTEAD = "or trust the code if it is your own"

START = """
processes=$1 kibibytes=$2 made=$3 go=$4
shift 4
echo 1000 > /proc/self/oom_score_adj  # if memory runs out, the kernel ends this process first
umask 022  # not staff's own
ulimit -c 0 -u "$processes" -f "$kibibytes"
echo >&"$made"
read -r _ <&"$go" || exit 1
exec {made}>&- {go}<&-
exec "$@"
"""

BIND, VEILED = "bind", "veil"
"""How a path is mounted for the user UID. A number instead is the size of a layer in bytes."""

STEP_DOWN = f"""{LAYER}{VEIL}
while [ "$1" != -- ]; do
  case "$3" in
    {BIND}) mount --rbind "$1" "$2" ;;
    {VEILED}) veil "$1" "$2" ;;
    *) layer "$1" "$2" "$3" ;;
  esac || exit 1
  shift 3
done
shift
exec setpriv --reuid={UID} --regid={UID} --clear-groups --no-new-privs "$@"
"""

Bind = tuple[str, Path, str]
"""bubblewrap's option, the path outside and the path inside."""


class Bubblewrap:
    """Runs an untrusted command in its own sandbox, and watches it from outside."""

    def __init__(self, job: Job, resources: ExitStack) -> None:
        self.overlaid = job.layered if can_overlay(job) else frozenset()
        self.job, self.resources = job if self.overlaid else with_copies(job, resources), resources
        self.arguments = _arguments(self.job, self.overlaid, resources)

    def start(self) -> None:
        """Make the sandbox, open what the watch needs, and only then start the command."""
        reader, writer = open_pipe(self.resources)
        info, info_writer = open_pipe(self.resources)
        made, made_writer = open_pipe(self.resources)
        go_reader, go = open_pipe(self.resources)
        self.log = Log(reader)
        passed = [end.fileno() for end in (info_writer, made_writer, go_reader)]
        numbers = (self.job.limits.processes, self.job.limits.file_bytes // 2**10, *passed[1:])
        command = ["bash", "-c", START, "bash", *map(str, numbers), *self.job.command]
        self.process = subprocess.Popen(  # noqa: S603 - running it is what this file is for
            [*OWN_KEYRING, *self.arguments, "--info-fd", str(passed[0]), *command],
            env={},  # bubblewrap's own environment could be read in /proc/1/environ
            cwd="/", stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, pass_fds=passed, start_new_session=True,
        )  # fmt: skip
        self.resources.callback(self.process.wait)
        self.resources.callback(self.process.kill)
        for end in (writer, info_writer, made_writer, go_reader):
            end.close()
        self._wait_until_made(made)
        self._observe(int(json.loads(info.read(4096))["child-pid"]))
        try:
            go.write(b"go\n")
        except OSError as error:
            raise _unobserved(error) from None

    def _wait_until_made(self, made: FileIO) -> None:
        ready, _, _ = select.select([made], [], [], MAKING_SECONDS)
        if not ready or not made.read(16):
            self.process.kill()
            self.process.wait()
            self.log.drain()
            reason = "; ".join(self.log.text().removeprefix("bwrap: ").splitlines()) or "it printed no reason"
            raise GradingError(
                f"bubblewrap cannot make a sandbox here ({reason}); {remedy(Machine(reason))}, {TRUST_INSTEAD}",
                option="trust",
            )

    def _observe(self, init: int) -> None:
        """Open what the watch needs. init: the sandbox's first process; when it ends, the kernel kills all others."""
        try:
            self.init = os.pidfd_open(init)
            self.resources.callback(os.close, self.init)
            processes = open_folder(f"/proc/{init}/root/proc", self.resources)
            in_memory = [
                open_folder(f"/proc/{init}/root{path}", self.resources) for path in (*IN_MEMORY, *self.overlaid)
            ]
        except OSError as error:
            raise _unobserved(error) from None
        self.output = in_memory[0]
        disks = [self.job.folders[inside] for inside in self.job.writable]
        copies = [self.job.folders[inside] for inside in self.job.layered - self.overlaid]
        self.gpu = GpuMemory(init) if self.job.sandbox.gpu else None
        self.watch = Watch(self.job.limits, processes, in_memory, disks, copies, self.gpu)

    @property
    def gpu_bytes(self) -> int | None:
        """The most GPU memory that all processes inside were found to use; None if it is not measured."""
        return self.gpu.peak if self.gpu else None

    def wait(self, seconds: float) -> bool:
        """Wait for the sandbox's first process, which ends with the command."""
        poll = select.poll()
        poll.register(self.init, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def exceeded(self) -> Limit:
        """The limit that the watch finds exceeded; empty if there is none."""
        return self.watch.exceeded()

    def kill(self) -> int:
        """End all processes inside, wait for their end, and return the command's exit status."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.init, signal.SIGKILL)
        if not self.wait(KILLING_SECONDS):
            raise GradingError(
                f"the run could not be killed within {KILLING_SECONDS} seconds; look for a process that waits for a "
                "disk or a device"
            )
        return self.process.wait()


def _unobserved(error: OSError) -> GradingError:
    return GradingError(f"the sandbox ended before the run began ({error.strerror}); grade again")


def _arguments(job: Job, overlaid: Collection[str], resources: ExitStack) -> list[str]:
    """The command that makes the sandbox, without what runs in it. overlaid: paths inside that get an overlay.

    Root gives up its privileges first. No other process may stay between the grader and bubblewrap, because bubblewrap
    would then not notice the grader's death.
    """
    bwrap = _find_bubblewrap()
    python = _python_roots(job.sandbox.python)
    visible = [*job.sandbox.visible, *(driver_binds(driver_folders(os.environ)) if job.sandbox.gpu else ())]
    _check_hidden(job.sandbox.hidden, [Path("/usr"), *python, *visible, *job.folders.values()])
    system = (*SYSTEM, *(NETWORK if job.network else ()), *(["/sys"] if job.sandbox.gpu else ()))
    binds = [("--ro-bind", path, str(path)) for path in (*map(Path, system), *python, *visible) if path.exists()]
    devices = find_devices(job.sandbox.devices) if job.sandbox.gpu else []
    binds += [("--dev-bind", path, f"/dev/{path.name}") for path in devices]
    for inside, path in job.folders.items():
        binds.append(("--bind" if inside in job.writable | job.layered else "--ro-bind", path, inside))

    arguments: list[str] = []
    if os.geteuid() == 0:
        check_open(devices)
        read_only = job.folders.keys() - job.writable - job.layered
        for inside in read_only - {SUBMISSION}:
            _check_readable(job.folders[inside])
        layers = dict.fromkeys(overlaid, job.limits.space_bytes)
        arguments, binds = _step_down(binds, layers, read_only, resources)
    arguments += [bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    arguments += ["--cap-drop", "ALL", *(["--share-net"] if job.network else [])]
    arguments += [*_system_folders(), "--proc", "/proc", "--dev", "/dev", *_tmpfs(job.limits)]
    for how, path, inside in binds:
        arguments += [how, str(path), inside]
    for name, value in _environment(job.sandbox, job.folders).items():
        arguments += ["--setenv", name, value]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SUBMISSION]


def _step_down(
    binds: Iterable[Bind], layers: Mapping[str, int], read_only: Collection[str], resources: ExitStack
) -> tuple[list[str], list[Bind]]:
    """The command that turns root into UID, and the binds with paths that UID can reach.

    Files in folders that are closed to other users are mounted at a path that UID can reach, in a mount namespace that
    no other process sees. layers: {path inside: bytes} of those that get an overlay. read_only: paths inside whose
    places on the host the command must not learn, as far as overlays can hide them.
    """
    arguments = [*PRIVATE_MOUNTS, STEP_DOWN, "sh"]
    reachable: list[Bind] = []
    for how, path, inside in binds:
        if inside in layers:
            point = _mount_point(path, resources)
            arguments += [str(path.resolve()), str(point), str(layers[inside])]
            reachable.append((how, point / MERGED, inside))
        elif inside in read_only and can_veil(path):
            real = path.resolve()
            point = _mount_point(real if real.is_dir() else real.parent, resources)
            arguments += [str(real), str(point), VEILED]
            reachable.append((how, point / (MERGED if real.is_dir() else FILE), inside))
        elif _is_closed(path):
            point = _mount_point(path, resources)
            arguments += [str(path.resolve()), str(point), BIND]
            reachable.append((how, point, inside))
        else:
            reachable.append((how, path, inside))
    return [*arguments, "--"], reachable


def _system_folders() -> list[str]:
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        folder = Path("/", name)
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            arguments += ["--ro-bind", str(folder), str(folder)]
    return arguments


def _tmpfs(limits: Limits) -> list[str]:
    arguments: list[str] = []
    for inside in IN_MEMORY:
        arguments += ["--size", str(limits.space_bytes), "--tmpfs", inside]
    return arguments


def _environment(sandbox: Sandbox, folders: Mapping[str, Path]) -> dict[str, str]:
    home = HOME if HOME in folders else "/tmp"  # noqa: S108 - of the sandbox
    return {
        "PATH": f"{sandbox.python.absolute() / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "USER": "student", "LOGNAME": "student", "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # otherwise the last lines of a command that is stopped are lost
        # below the home, where runs find what a download left; whatever they write there is thrown away
        "XDG_CACHE_HOME": f"{home}/.cache", "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_DATA_HOME": f"{home}/.local/share", "XDG_STATE_HOME": f"{home}/.local/state",
        "MPLCONFIGDIR": "/tmp/matplotlib", "NUMBA_CACHE_DIR": "/tmp/numba", "CUDA_CACHE_PATH": "/tmp/cuda",  # noqa: S108
        "TRITON_CACHE_DIR": "/tmp/triton", "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor",  # noqa: S108
        # torch before 2.6, which the course used, loads whole pickles; their code is as untrusted as all that runs here
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
        **(gpu_environment(os.environ) if sandbox.gpu else {}),
        **sandbox.environment,
    }  # fmt: skip


@functools.cache
def _find_bubblewrap() -> str:
    path = shutil.which("bwrap")
    if path is None:
        raise GradingError(
            "bubblewrap is not installed, and untrusted code does not run without it; install it (apt-get install "
            f"bubblewrap), {TRUST_INSTEAD}",
            option="trust",
        )
    found = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    version = re.search(r"(\d+)\.(\d+)", found)
    if version is None or (int(version[1]), int(version[2])) < (0, 8):
        shown = printable(found) or "of unknown version"
        raise GradingError(
            f"{path} is {shown}; expected bubblewrap 0.8 or newer; install a newer one, {TRUST_INSTEAD}", option="trust"
        )
    return path


def _python_roots(prefix: Path) -> list[Path]:
    """The folders of a Python environment and of the Python it is based on, except those that every sandbox has."""
    roots = [prefix.absolute()]
    with suppress(OSError):
        home = re.search(r"^home\s*=\s*(.+)$", (prefix / "pyvenv.cfg").read_text(), re.MULTILINE)
        if home:
            roots += [Path(home[1].strip()).parent, Path(home[1].strip()).resolve().parent]
    return [root for root in dict.fromkeys(roots) if root != Path("/") and not root.is_relative_to("/usr")]


def _is_closed(path: Path) -> bool:
    return any(not parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _mount_point(path: Path, resources: ExitStack) -> Path:
    """An empty file or folder that every user can reach. Cleanup removes only this, never what was mounted on it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix("grade"), dir="/tmp"))
    resources.callback(folder.rmdir)
    folder.chmod(0o711)
    point = folder / "mount"
    if path.is_dir():
        point.mkdir()
        resources.callback(point.rmdir)
    else:
        point.touch()
        resources.callback(point.unlink)
    return point


def _check_hidden(hidden: Sequence[Path], visible: Sequence[Path]) -> None:
    for secret in hidden:
        for folder in visible:
            if secret.resolve().is_relative_to(folder.resolve()):
                shown, where = printable(str(secret)), printable(str(folder))
                raise GradingError(f"{shown} must stay hidden, but it is in {where}, which runs can see; move it")


def _check_readable(path: Path) -> None:
    """Refuse inputs that only staff may read. The run would fail, and the submission would be blamed for it."""
    if path.stat().st_uid == UID:
        return  # what a download left behind
    for each in (path, *sorted(path.rglob("*"))):
        if not each.is_symlink() and not each.stat().st_mode & 0o004:
            shown = printable(str(each))
            raise GradingError(f"{shown} cannot be read by other users, so no run can read it; run chmod -R a+rX on it")
