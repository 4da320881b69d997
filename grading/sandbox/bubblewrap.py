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
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.sandbox.advice import Machine, remedy
from grading.sandbox.backend import HOME, OUTPUT, SUBMISSION, UID, Job, Sandbox
from grading.sandbox.calls import open_filter
from grading.sandbox.cgroups import enter, new_group
from grading.sandbox.channel import Log, open_folder, open_pipe
from grading.sandbox.cpu import CpuMeter, CpuUse
from grading.sandbox.gpu import check_open, driver_binds, driver_folders, find_devices, gpu_environment
from grading.sandbox.keyring import OWN_KEYRING
from grading.sandbox.layers import can_overlay, with_copies
from grading.sandbox.limits import Limit, Limits, Watch
from grading.sandbox.mounts import step_down, veil
from grading.sandbox.network import connect, has_own_network, network_files
from grading.sandbox.nvml import GpuMemory
from grading.sandbox.own_code import Covers, Shown, look, outer_first
from grading.sandbox.unmapped import Unmapped

IN_MEMORY = (OUTPUT, "/tmp", "/dev/shm")  # noqa: S108 - of the sandbox
"""File systems of the sandbox that are kept in memory, bounded in size, and freed with their last descriptor."""

SYSTEM = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime", "/sys/devices/system/cpu")

MAKING_SECONDS, KILLING_SECONDS = 30, 10
"""Seconds allowed for bubblewrap to make a sandbox, and for the kernel to end all of its processes."""

TRUST_INSTEAD = "or trust the code if it is your own"

START = """
processes=$1 kibibytes=$2 made=$3 go=$4
shift 4
umask 022  # not staff's own
ulimit -c 0 -u "$processes" -f "$kibibytes"
echo >&"$made"
read -r _ <&"$go" || exit 1
exec {made}>&- {go}<&-
exec "$@"
"""


class Bubblewrap:
    """Runs an untrusted command in its own sandbox, and watches it from outside."""

    def __init__(self, job: Job, resources: ExitStack) -> None:
        self.overlaid = job.layered if can_overlay(job) else frozenset()
        self.job, self.resources = job if self.overlaid else with_copies(job, resources), resources
        self.arguments, self.contents = _arguments(self.job, self.overlaid, resources)
        self.group = new_group(job.limits.memory_bytes, job.limits.processes, resources)
        self.cpu: CpuUse | None = None

    def start(self) -> None:
        """Make the sandbox, open what the watch needs, and only then start the command."""
        reader, writer = open_pipe(self.resources)
        info, info_writer = open_pipe(self.resources)
        made, made_writer = open_pipe(self.resources)
        go_reader, go = open_pipe(self.resources)
        self.log = Log(reader)
        passed = [*(end.fileno() for end in (info_writer, made_writer, go_reader)), open_filter(self.resources)]
        numbers = (self.job.limits.processes, self.job.limits.file_bytes // 2**10, *passed[1:3])
        command = ["bash", "-c", START, "bash", *map(str, numbers), *self.job.command]
        options = ["--info-fd", str(passed[0]), "--seccomp", str(passed[3])]
        sandboxed = [*OWN_KEYRING, *self.arguments, *options, *command]
        self.process = subprocess.Popen(  # noqa: S603 - running it is what this file is for
            enter(self.group.entries if self.group else (), sandboxed),
            env={},  # bubblewrap's own environment could be read in /proc/1/environ
            cwd="/", stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, start_new_session=True,
            pass_fds=[*passed, *self.contents],
        )  # fmt: skip
        self.resources.callback(self.process.wait)
        self.resources.callback(self.process.kill)
        for end in (writer, info_writer, made_writer, go_reader):
            end.close()
        self._wait_until_made(made)
        init = int(json.loads(info.read(4096))["child-pid"])
        self._observe(init)
        self._connect(init)
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
            memory = self.group or Unmapped(processes, init, self.resources)
        except OSError as error:
            raise _unobserved(error) from None
        self.output = in_memory[0]
        disks = [self.job.folders[inside] for inside in self.job.writable]
        copies = [self.job.folders[inside] for inside in self.job.layered - self.overlaid]
        self.gpu = GpuMemory(init) if self.job.sandbox.gpu else None
        self.watch = Watch(self.job.limits, processes, in_memory, disks, copies, self.gpu, memory)
        self.meter = CpuMeter(processes)

    def _connect(self, init: int) -> None:
        if has_own_network(self.job):
            try:
                connect(init, self.job.sandbox, self.resources)
            except OSError as error:
                raise _unobserved(error) from None

    @property
    def gpu_bytes(self) -> int | None:
        """The most GPU memory that all processes inside were found to use; None if it is not measured."""
        return self.gpu.peak if self.gpu else None

    @property
    def sees_kills(self) -> bool:
        """Whether the kernel counts what it kills, for the group of this run."""
        return self.group is not None

    def wait(self, seconds: float) -> bool:
        """Wait for the sandbox's first process, which ends with the command."""
        poll = select.poll()
        poll.register(self.init, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def exceeded(self) -> Limit:
        """The limit that the watch finds exceeded; empty if there is none."""
        self.meter.look()
        return self.watch.exceeded()

    def kill(self) -> int:
        """End all processes inside, wait for their end, and return the command's exit status."""
        self.meter.look(now=True)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.init, signal.SIGKILL)
        if not self.wait(KILLING_SECONDS):
            raise GradingError(
                f"the run could not be killed within {KILLING_SECONDS} seconds; look for a process that waits for a "
                "disk or a device"
            )
        status = self.process.wait()
        counted = self.group.cpu_seconds() if self.group else None
        self.cpu = self.meter.use(self.watch.cpu_seconds if counted is None else counted)
        self.watch.next_disk_check = 0.0  # nothing hides from the last look, because nothing moves any more
        return status


def _unobserved(error: OSError) -> GradingError:
    return GradingError(f"the sandbox ended before the run began ({error.strerror}); grade again")


def _arguments(job: Job, overlaid: Collection[str], resources: ExitStack) -> tuple[list[str], list[int]]:
    """The command that makes the sandbox, without what runs in it, and the descriptors that it reads.

    overlaid: paths inside that get an overlay.
    Root gives up its privileges first. No other process may stay between the grader and bubblewrap, because bubblewrap
    would then not notice the grader's death.
    """
    bwrap = _find_bubblewrap()
    python = _python_roots(job.sandbox.python)
    visible = [*job.sandbox.visible, *(driver_binds(driver_folders(os.environ)) if job.sandbox.gpu else ())]
    roots = outer_first([*python, *visible])
    shown = [look(root, str(root), searched=True) for root in (Path("/usr"), *roots)]
    for inside, path in job.folders.items():
        shown.append(Shown(path, inside) if inside in (SUBMISSION, HOME) else look(path, inside, searched=False))
    _check_hidden(job.sandbox.hidden, shown)
    system = (*SYSTEM, *(["/sys"] if job.sandbox.gpu else ()))
    binds = [("--ro-bind", path, str(path)) for path in (*map(Path, system), *roots) if path.exists()]
    binds += [("--ro-bind", path, inside) for inside, path in network_files(job, resources).items()]
    devices = find_devices(job.sandbox.devices) if job.sandbox.gpu else []
    binds += [("--dev-bind", path, f"/dev/{path.name}") for path in devices]
    for inside, path in job.folders.items():
        binds.append(("--bind" if inside in job.writable | job.layered else "--ro-bind", path, inside))

    read_only = job.folders.keys() - job.writable - job.layered
    if os.geteuid() == 0:
        check_open(devices)
        for inside in read_only - {SUBMISSION}:
            _check_readable(job.folders[inside])
        layers = dict.fromkeys(overlaid, job.limits.space_bytes)
        arguments, binds = step_down(binds, layers, read_only, resources)
        arguments += [bwrap]
    else:
        arguments, binds = veil(binds, read_only, resources)
        arguments += [bwrap, "--uid", str(os.getuid()), "--gid", str(os.getgid())]
    arguments += ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    arguments += ["--cap-drop", "ALL", *(["--share-net"] if job.network and not has_own_network(job) else [])]
    covers, own = Covers(resources), {each.inside: each for each in shown}
    arguments += [*_system_folders(), *covers.over(own["/usr"])]
    arguments += ["--proc", "/proc", "--dev", "/dev", *_tmpfs(job.limits)]
    for how, path, inside in binds:
        arguments += [how, str(path), inside, *(covers.over(own[inside]) if inside in own else ())]
    for name, value in _environment(job.sandbox, job.folders).items():
        arguments += ["--setenv", name, value]
    arguments += [*covers.closing, *_read_only(job.sandbox.gpu), "--chdir", SUBMISSION]
    return arguments, covers.contents


def _read_only(gpu: bool) -> list[str]:
    """In /proc, a run could write how willingly the kernel kills it when memory runs out.

    With a GPU it stays writable: CUDA names its threads there, and cuInit fails with error 304 if it cannot.
    """
    places = ("/dev", "/") if gpu else ("/dev", "/proc", "/")
    return [argument for place in places for argument in ("--remount-ro", place)]


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


def _check_hidden(hidden: Sequence[Path], visible: Sequence[Shown]) -> None:
    for secret in hidden:
        for each in visible:
            if each.shows(secret):
                shown, where = printable(str(secret)), printable(str(each.outside))
                raise GradingError(f"{shown} must stay hidden, but it is in {where}, which runs can see; move it")


def _check_readable(path: Path) -> None:
    """Refuse inputs that only staff may read. The run would fail, and the submission would be blamed for it."""
    if path.stat().st_uid == UID:
        return  # what a download left behind
    for each in (path, *sorted(path.rglob("*"))):
        if not each.is_symlink() and not each.stat().st_mode & 0o004:
            shown = printable(str(each))
            raise GradingError(f"{shown} cannot be read by other users, so no run can read it; run chmod -R a+rX on it")
