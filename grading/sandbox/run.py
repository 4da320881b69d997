"""Runs a stranger's command where it can do no harm: bubblewrap, no privileges, and a watch on what it uses.

Inside there is /submission, the inputs, /output, /tmp, the system's /usr and one Python; no network, nothing else of
the host, and an environment of our choice. When the command ends or goes beyond its limits, all it started is killed.
Never tried on a GPU: the devices are passed as other projects pass them.
"""

from __future__ import annotations

import functools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Literal

from grading.core.errors import GradingError
from grading.core.text import printable

SUBMISSION, OUTPUT, HOME = "/submission", "/output", "/home/student"
"""Inside: the command's folder, where it writes, and its home if one is given."""

UID = 64202
"""Who runs the command where the grader is root: somebody who owns nothing. Root's processes cannot be counted out."""

TICK = 0.02
"""Seconds between two looks at what the command uses."""

LOG_HEAD, LOG_TAIL, LOG_PER_TICK = 4 * 2**10, 12 * 2**10, 2**20
"""Bytes kept of the beginning and the end of what a command prints, and bytes taken between two looks."""

MEMORY_RESERVE, DISK_RESERVE = 256 * 2**20, 2**30
"""Bytes that the machine itself must keep; with less, the run is given up, which is not the submission's fault."""

IN_MEMORY = (OUTPUT, "/tmp", "/dev/shm")  # noqa: S108 - of the sandbox
"""File systems of the sandbox that hold no more than they may, and go with their last descriptor."""

SYSTEM = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime", "/sys/devices/system/cpu")
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki")

START = """
processes=$1 kibibytes=$2 made=$3 go=$4
shift 4
echo 1000 > /proc/self/oom_score_adj  # where memory runs out, the kernel takes this one first
ulimit -c 0 -u "$processes" -f "$kibibytes"
echo >&"$made"
read -r _ <&"$go" || exit 1
exec {made}>&- {go}<&-
exec "$@"
"""

STEP_DOWN = f"""
while [ "$1" != -- ]; do
  mount --rbind "$1" "$2" || exit 1
  shift 2
done
shift
exec setpriv --reuid={UID} --regid={UID} --clear-groups --no-new-privs "$@"
"""

Limit = Literal["", "seconds", "memory", "processes", "space", "files", "file size"]


@dataclass(frozen=True)
class Limits:
    """What one command may use.

    memory_bytes: of all its processes and of the files in /output and /tmp, which lie in memory. processes: threads
    counted. space_bytes, files: in each folder that it may write. file_bytes: of one file.
    """

    seconds: float = 900.0
    memory_bytes: int = 16 * 2**30
    processes: int = 1024
    space_bytes: int = 2**30
    files: int = 20_000
    file_bytes: int = 2**30


@dataclass(frozen=True)
class Sandbox:
    """Staff's choices, the same for all commands.

    gpu: pass the NVIDIA devices. trust: no sandbox at all, for one's own code. python: the environment whose python3
    comes first. environment: variables for the command, such as CUDA_VISIBLE_DEVICES; it sees none of ours. hidden:
    what no command may see; a run that would show it is refused.
    """

    gpu: bool = False
    trust: bool = False
    python: Path = Path(sys.prefix)
    environment: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[Path, ...] = ()


@dataclass
class RunResult:
    """How a command ended; to be used in a `with`. exit_status: negative or over 128 for a signal.

    limit: what it went beyond, if so. log: beginning and end of what it printed. output: a descriptor of its output
    folder, good until `close`; nothing runs in there any more.
    """

    exit_status: int
    limit: Limit
    seconds: float
    log: str
    output: int
    cleanup: ExitStack = field(repr=False)

    @property
    def timed_out(self) -> bool:
        """Whether it was stopped because it ran too long."""
        return self.limit == "seconds"

    def close(self) -> None:
        """Let go of the output folder."""
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
    limits: Limits | None = None,
    network: bool = False,
    sandbox: Sandbox | None = None,
) -> RunResult:
    """Run `command` in `submission`, which it sees as /submission, until it ends or goes beyond its limits.

    inputs: what it may read, writable: folders of the host that it may change; both as {path inside: path outside}.
    A trusted command runs outside: paths inside become paths outside in its arguments, and only `seconds` holds.
    Raises GradingError if the sandbox cannot be made or the machine itself runs short.
    """
    limits, sandbox = limits or Limits(), sandbox or Sandbox()
    given = {SUBMISSION: submission, **(inputs or {}), **(writable or {})}
    folders = {inside: path.absolute() for inside, path in given.items()}
    for path in folders.values():
        if not path.exists():
            raise GradingError(f"{printable(str(path))} does not exist; expected something to give to the run")
    cleanup = ExitStack()
    try:
        run: _Trusted | _Bubble
        if sandbox.trust:
            run = _Trusted(folders, sandbox, cleanup)
        else:
            run = _Bubble(folders, set(writable or ()), limits, network, sandbox, cleanup)
        run.start(command)
        began = time.monotonic()
        limit = run.watch(began + limits.seconds)
        seconds = time.monotonic() - began
        run.kill()
        status = run.process.wait()
        run.log.drain()
        limit = limit or run.exceeded()
        if not limit and status in (128 + signal.SIGXFSZ, -signal.SIGXFSZ):
            limit = "file size"
        return RunResult(status, limit, seconds, run.log.text(), run.output, cleanup)
    except BaseException:
        cleanup.close()
        raise


class _Log:
    """The beginning and the end of a text that may never end."""

    def __init__(self, pipe: FileIO) -> None:
        self.pipe = pipe
        self.head, self.tail, self.length = b"", b"", 0
        os.set_blocking(pipe.fileno(), False)

    def drain(self) -> None:
        """Take what is there, but no more than delays the next look: who floods us has to wait."""
        taken = 0
        while taken < LOG_PER_TICK and (piece := self.pipe.read(2**16)):
            taken += len(piece)
            self.length += len(piece)
            room = max(LOG_HEAD - len(self.head), 0)
            self.head, self.tail = self.head + piece[:room], (self.tail + piece[room:])[-LOG_TAIL:]

    def text(self) -> str:
        """Lines that are safe to print, as a terminal would leave them: of a progress bar, its last state."""
        cut = self.length - len(self.head) - len(self.tail)
        note = f"\n[.. {cut} bytes left out ..]\n".encode() if cut else b""
        lines = (self.head + note + self.tail).decode(errors="replace").split("\n")
        return "\n".join(printable(line.rstrip("\r").rsplit("\r", 1)[-1].expandtabs()) for line in lines).strip("\n")


class _Trusted:
    """A command of our own, run as it is, in a process group that is killed at the end."""

    def __init__(self, folders: Mapping[str, Path], sandbox: Sandbox, resources: ExitStack) -> None:
        self.resources = resources
        path = f"{sandbox.python.absolute() / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        self.environment = {**os.environ, "PATH": path, **sandbox.environment}
        output = tempfile.TemporaryDirectory(prefix="hw2-grade-", ignore_cleanup_errors=True)
        self.outside = {inside: str(path.resolve()) for inside, path in folders.items()}
        self.outside[OUTPUT] = self.resources.enter_context(output)
        self.output = _open_folder(self.outside[OUTPUT], self.resources)

    def start(self, command: Sequence[str]) -> None:
        inside = re.compile("(" + "|".join(map(re.escape, self.outside)) + ")(?=/|$)")
        arguments = [inside.sub(lambda m: self.outside[m[0]], a, count=1) if a.startswith("/") else a for a in command]
        reader, writer = _pipe(self.resources)
        self.log = _Log(reader)
        self.process = subprocess.Popen(  # noqa: S603 - running it is what we are for
            arguments, cwd=self.outside[SUBMISSION], stdin=subprocess.DEVNULL, stdout=writer, stderr=writer,
            start_new_session=True, env=self.environment,
        )  # fmt: skip
        self.resources.callback(self.kill)

    def watch(self, deadline: float) -> Limit:
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                return "seconds"
            self.log.drain()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(TICK)
        return ""

    def exceeded(self) -> Limit:
        return ""

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class _Bubble:
    """A stranger's command in a bubble of its own, and what can be seen of it from outside."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        writable: set[str],
        limits: Limits,
        network: bool,
        sandbox: Sandbox,
        resources: ExitStack,
    ) -> None:
        self.resources = resources
        self.limits = limits
        self.disks = [folders[inside] for inside in writable]
        self.next_disk_check = 0.0
        self.arguments = _bubblewrap_arguments(folders, writable, limits, network, sandbox, resources)

    def start(self, command: Sequence[str]) -> None:
        reader, writer = _pipe(self.resources)
        info, info_writer = _pipe(self.resources)
        made, made_writer = _pipe(self.resources)
        go_reader, go = _pipe(self.resources)
        self.log = _Log(reader)
        passed = [end.fileno() for end in (info_writer, made_writer, go_reader)]
        numbers = (self.limits.processes, self.limits.file_bytes // 2**10, *passed[1:])
        self.process = subprocess.Popen(  # noqa: S603 - running it is what we are for
            [*self.arguments, "--info-fd", str(passed[0]), "bash", "-c", START, "bash", *map(str, numbers), *command],
            env={},  # bubblewrap's own environment could be read in /proc/1/environ
            cwd="/", stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, pass_fds=passed, start_new_session=True,
        )  # fmt: skip
        self.resources.callback(self.process.wait)
        self.resources.callback(self.process.kill)
        for end in (writer, info_writer, made_writer, go_reader):
            end.close()
        self._wait_until_made(made)
        init = int(json.loads(info.read(4096))["child-pid"])  # without it the kernel kills all others in there
        try:
            self.init = os.pidfd_open(init)
            self.resources.callback(os.close, self.init)
            self.processes = _open_folder(f"/proc/{init}/root/proc", self.resources)
            self.spaces = [_open_folder(f"/proc/{init}/root{path}", self.resources) for path in IN_MEMORY]
            self.output = self.spaces[0]
            go.write(b"go\n")
        except OSError as error:
            raise GradingError(f"the sandbox cannot be watched ({error.strerror})") from None

    def _wait_until_made(self, made: FileIO) -> None:
        ready, _, _ = select.select([made], [], [], 30)
        if not ready or not made.read(16):
            self.process.kill()
            self.process.wait()
            self.log.drain()
            reason = self.log.text().removeprefix("bwrap: ") or "it says nothing"
            raise GradingError(
                f"bubblewrap cannot make a sandbox here ({reason}); allow unprivileged user namespaces (Ubuntu 24.04: "
                "sysctl kernel.apparmor_restrict_unprivileged_userns=0), or trust your own code with --trust"
            )

    def watch(self, deadline: float) -> Limit:
        poll = select.poll()
        poll.register(self.init, select.POLLIN)
        while not poll.poll(TICK * 1000):
            self.log.drain()
            if time.monotonic() > deadline:
                return "seconds"
            if limit := self.exceeded():
                return limit
        return ""

    def exceeded(self) -> Limit:
        """Which limit does not hold now. The kernel holds those on processes and space; here is seen that it had to."""
        in_memory = 0
        for space in self.spaces:
            system = os.fstatvfs(space)
            in_memory += (system.f_blocks - system.f_bfree) * system.f_frsize
            if system.f_bfree == 0:
                return "space"
            if system.f_files - system.f_ffree > self.limits.files:
                return "files"
        tasks, resident = 0, in_memory
        for process in self._pids():
            fields = _read_at(self.processes, f"{process}/stat").rpartition(b")")[2].split()
            if fields:  # proc(5): 20 num_threads, 24 rss, counted after the name, which is 2
                tasks += int(fields[17])
                resident += int(fields[21]) * os.sysconf("SC_PAGESIZE")
        if tasks >= self.limits.processes:
            return "processes"
        if resident > self.limits.memory_bytes and self._memory(in_memory) > self.limits.memory_bytes:
            return "memory"
        _check_machine_memory()
        return self._exceeded_on_disk()

    def _pids(self) -> Iterator[str]:
        return (name for name in os.listdir(self.processes) if name.isdecimal())  # noqa: PTH208 - of a descriptor

    def _memory(self, in_memory: int) -> int:
        """Bytes that cannot be given back, those that processes share counted once (slower than adding `rss`)."""
        private, shared = 0, 0
        for process in self._pids():
            for line in _read_at(self.processes, f"{process}/smaps_rollup").splitlines():
                if line.startswith(b"Pss_Anon:"):
                    private += int(line.split()[1]) * 1024
                elif line.startswith(b"Pss_Shmem:"):
                    shared += int(line.split()[1]) * 1024
        return private + max(shared, in_memory)

    def _exceeded_on_disk(self) -> Limit:
        if not self.disks or time.monotonic() < self.next_disk_check:
            return ""
        for disk in self.disks:
            system = os.statvfs(disk)
            if system.f_bavail * system.f_frsize < DISK_RESERVE:
                raise GradingError(f"less than 1 GiB is free beside {printable(str(disk))}; make room")
            used, files = _usage(disk)
            if used > self.limits.space_bytes:
                return "space"
            if files > self.limits.files:
                return "files"
        self.next_disk_check = time.monotonic() + 1.0
        return ""

    def kill(self) -> None:
        """End everything inside, and return when it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.init, signal.SIGKILL)
        poll = select.poll()
        poll.register(self.init, select.POLLIN)
        if not poll.poll(10_000):
            raise GradingError("the run could not be killed; look for a process that waits for a disk or a device")


def _bubblewrap_arguments(
    folders: Mapping[str, Path],
    writable: set[str],
    limits: Limits,
    network: bool,
    sandbox: Sandbox,
    resources: ExitStack,
) -> list[str]:
    """The command that makes the sandbox, without what runs in it.

    Root steps down first. What lies in folders that are closed to others is mounted where the unprivileged user finds
    it, in a mount namespace that nobody else sees. No other process stays between the grader and bubblewrap: it could
    not tell bubblewrap that the grader has died.
    """
    bwrap = _find_bubblewrap()
    root = os.geteuid() == 0
    python = _python_roots(sandbox.python)
    _check_hidden(sandbox.hidden, [Path("/usr"), *python, *folders.values()])
    for inside in folders.keys() - writable:
        if root and inside != SUBMISSION:
            _check_readable(folders[inside])

    paths = [Path(path) for path in (*SYSTEM, *(NETWORK if network else ()), *(["/sys"] if sandbox.gpu else ()))]
    binds = [("--ro-bind", path, str(path)) for path in (*paths, *python) if path.exists()]
    binds += [("--bind" if inside in writable else "--ro-bind", path, inside) for inside, path in folders.items()]

    arguments: list[str] = []
    if root:
        arguments += ["unshare", "--mount", "--propagation", "private", "sh", "-c", STEP_DOWN, "sh"]
        for i, (how, path, inside) in enumerate(binds):
            if _is_closed(path):
                open_path = _mount_point(path, resources)
                arguments += [str(path.resolve()), str(open_path)]
                binds[i] = (how, open_path, inside)
        arguments += ["--"]
    arguments += [bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    arguments += ["--cap-drop", "ALL", *(["--share-net"] if network else []), "--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        folder = Path("/", name)
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            arguments += ["--ro-bind", str(folder), str(folder)]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for device in sorted(Path("/dev").glob("nvidia*")) if sandbox.gpu else ():
        arguments += ["--dev-bind", str(device), str(device)]
    for inside in IN_MEMORY:
        arguments += ["--size", str(limits.space_bytes), "--tmpfs", inside]
    for how, path, inside in binds:
        arguments += [how, str(path), inside]
    environment = {
        "PATH": f"{sandbox.python.absolute() / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": HOME if HOME in folders else "/tmp",  # noqa: S108 - of the sandbox
        "USER": "student", "LOGNAME": "student", "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # or the last words of who is stopped are lost
        "MPLCONFIGDIR": "/tmp", "TRITON_CACHE_DIR": "/tmp/triton", "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor",  # noqa: S108
        **sandbox.environment,
    }  # fmt: skip
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SUBMISSION]


@functools.cache
def _find_bubblewrap() -> str:
    path = shutil.which("bwrap")
    if path is None:
        raise GradingError(
            "bubblewrap is not installed, and without it strangers' code is not run; install it (apt-get install "
            "bubblewrap), or trust your own code with --trust"
        )
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    version = re.search(r"(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < (0, 8):
        raise GradingError(f"{path} is {said.strip() or 'of no known version'}; expected bubblewrap 0.8 or newer")
    return path


def _python_roots(prefix: Path) -> list[Path]:
    """Folders that an environment consists of, those aside that every sandbox has: its own, and that of its base."""
    roots = [prefix.absolute()]
    with suppress(OSError):
        home = re.search(r"^home\s*=\s*(.+)$", (prefix / "pyvenv.cfg").read_text(), re.MULTILINE)
        if home:
            roots += [Path(home[1].strip()).parent, Path(home[1].strip()).resolve().parent]
    return [root for root in dict.fromkeys(roots) if root != Path("/") and not root.is_relative_to("/usr")]


def _is_closed(path: Path) -> bool:
    return any(not parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _mount_point(path: Path, resources: ExitStack) -> Path:
    """An empty file or folder that everybody can reach. It is removed as such: never what was mounted there."""
    folder = Path(tempfile.mkdtemp(prefix=f"hw2-grade-{os.getpid()}-", dir="/tmp"))
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
                shown = printable(str(secret))
                raise GradingError(
                    f"{shown} must stay hidden, but lies in {printable(str(folder))}, which runs can see"
                )


def _check_readable(path: Path) -> None:
    """Staff's own files with rights for staff alone would look like the submission's failure."""
    if path.stat().st_uid == UID:
        return  # what a download left behind
    for each in (path, *sorted(path.rglob("*"))):
        if not each.stat().st_mode & 0o004:
            raise GradingError(f"{printable(str(each))} cannot be read by other users; chmod -R a+rX it")


def _check_machine_memory() -> None:
    available = re.search(rb"MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_bytes())
    if available and int(available[1]) * 1024 < MEMORY_RESERVE:
        raise GradingError("the machine ran out of memory during the run; grade fewer submissions at a time")


def _usage(folder: Path) -> tuple[int, int]:
    """Bytes on disk and number of entries of a folder that is being written, as far as they can be seen."""
    used = entries = 0
    for path, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        for name in files:
            with suppress(OSError):
                used += Path(path, name).lstat().st_blocks * 512
    return used, entries


def _pipe(resources: ExitStack) -> tuple[FileIO, FileIO]:
    reader, writer = os.pipe()
    return resources.enter_context(FileIO(reader, "r")), resources.enter_context(FileIO(writer, "w"))


def _open_folder(path: str, resources: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    resources.callback(os.close, descriptor)
    return descriptor


def _read_at(folder: int, path: str) -> bytes:
    """The start of a file under an open folder; nothing if it has gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
