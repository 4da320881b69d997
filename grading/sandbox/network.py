"""The network of a download: the Internet, and neither the host nor the private networks that the host is in.

The download has a network namespace of its own, so it reaches none of the host's sockets on the loopback or with
abstract names. A program of the host connects the namespace to the Internet by the host's own sockets, as for rootless
containers. Routes close all other addresses before the command begins. The command cannot change them, because it has
no capability. There is no IPv6.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from urllib.parse import urlsplit

from grading.core.errors import GradingError
from grading.core.text import printable
from grading.sandbox import routes
from grading.sandbox.backend import Job, Sandbox
from grading.sandbox.channel import open_pipe
from grading.sandbox.temporary import prefix

NAME_SERVERS = "/etc/resolv.conf"
HOSTS_NAME_SERVERS = Path(NAME_SERVERS)
FILES = ("/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki")
"""What programs need for names and for encrypted connections."""

PRIVATE = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
            "168.63.129.16/32",  # where Azure's machines find their host
        ),
    )
)  # fmt: skip
"""Networks that are not the Internet: private, link-local with the clouds' metadata, shared, multicast, reserved."""

VIRTUAL = IPv4Network("169.254.2.0/24")
"""The network between the namespace and the program. It is link-local, so no host of a real network is hidden by it."""

GATEWAY, NAME_SERVER = VIRTUAL[2], VIRTUAL[3]
"""Addresses that the program has in VIRTUAL. It passes questions for names to the host's own name server."""

INTERFACE = "tap0"

MIN_PREFIX = 8
"""A network of the host with a shorter prefix is no local network."""

PROGRAM, DEVICE = "slirp4netns", Path("/dev/net/tun")

READY_SECONDS = 10
"""Seconds allowed for the program to connect the namespace, and for the routes."""

NS_GET_USERNS = 0xB701
"""The request of linux/nsfs.h for the user namespace that owns a namespace."""

INSTEAD = "or allow downloads the host's network, with all that this machine can reach"


def has_own_network(job: Job) -> bool:
    """Whether a job gets the Internet alone. Without it, a job has no network or the host's."""
    return job.network and not job.sandbox.host_network


def check_network(sandbox: Sandbox) -> None:
    """Raises GradingError if downloads cannot have a network of their own here, and may not use the host's."""
    if sandbox.trust or sandbox.host_network:
        return
    if shutil.which(PROGRAM) is None:
        raise _refused(
            f"{PROGRAM} is not installed, and downloads get no network without it; install it (apt-get install "
            f"{PROGRAM}), {INSTEAD}"
        )
    _check_device()
    _check_name_servers()
    open_networks(sandbox)


def _check_device() -> None:
    if not DEVICE.exists():
        raise _refused(
            f"there is no {DEVICE}, which downloads need for a network of their own; run modprobe tun as root, give a "
            f"container this device, {INSTEAD}"
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise _refused(
            f"this user cannot open {DEVICE}, which downloads need for a network of their own; run chmod 666 {DEVICE} "
            f"as root, {INSTEAD}"
        )


def _check_name_servers() -> None:
    """The program passes questions for names to an IPv4 server alone."""
    with suppress(OSError):
        servers = re.findall(r"^nameserver\s+(\S+)", HOSTS_NAME_SERVERS.read_text(errors="replace"), re.MULTILINE)
        if servers and all(":" in server for server in servers):
            raise _refused(
                f"{HOSTS_NAME_SERVERS} names no server with an IPv4 address, which downloads need for a network of "
                f"their own; add one, {INSTEAD}"
            )


def read_networks(text: str) -> tuple[IPv4Network, ...]:
    """The networks in a text such as "10.1.2.3,10.2.0.0/16". Raises GradingError."""
    try:
        return tuple(IPv4Network(each.strip()) for each in text.split(",") if each.strip())
    except ValueError as error:
        raise GradingError(
            f"{printable(text)} names no addresses ({printable(str(error))}); expected IPv4 addresses or networks such "
            "as 10.1.2.3,10.2.0.0/16",
            option="reachable",
        ) from None


def open_networks(sandbox: Sandbox) -> list[IPv4Network]:
    """What downloads may reach although it is private: what staff allow, and hosts of links in staff's environment.

    Such a link is a proxy's. Raises GradingError if it leads to the host's loopback, which no other namespace reaches.
    """
    found = list(sandbox.reachable)
    for name, value in sandbox.environment.items():
        for address in _addresses(value):
            if address.is_loopback:
                raise _refused(
                    f"{printable(name)} is {printable(value)}, but downloads do not reach the loopback of this "
                    f"machine; name the machine's address in its network, {INSTEAD}"
                )
            found.append(IPv4Network(address))
    return found


def _addresses(value: str) -> Iterator[IPv4Address]:
    """The addresses of a link's host; none if the value is no link, or the name is unknown."""
    if re.match(r"\w+://", value):
        with suppress(OSError, UnicodeError, ValueError):
            found = socket.getaddrinfo(urlsplit(value).hostname, None, socket.AF_INET, socket.SOCK_STREAM)
            yield from (IPv4Address(place[4][0]) for place in found)


def is_closed(host: str, sandbox: Sandbox) -> bool:
    """Whether a host is a private address that downloads do not reach. A name is none."""
    with suppress(ValueError):
        network = IPv4Network(host)
        anywhere = sandbox.trust or sandbox.host_network or any(map(network.subnet_of, sandbox.reachable))
        return not anywhere and any(map(network.subnet_of, PRIVATE))
    return False


def closed_networks(own: Iterable[IPv4Interface], opened: Collection[IPv4Network]) -> list[IPv4Network]:
    """What downloads do not reach: private networks and the host's own, its addresses, and the virtual network's.

    An allowed network opens the closed ones within it. The host's own addresses are opened only by their own name.
    """
    own = list(own)
    local = [each.network for each in own if each.network.prefixlen >= MIN_PREFIX]
    ranges = [each for each in (*PRIVATE, *local) if not any(map(each.subnet_of, opened))]
    hosts = [IPv4Network(each.ip) for each in own if IPv4Network(each.ip) not in opened]
    virtual = list(VIRTUAL.address_exclude(IPv4Network(NAME_SERVER)))
    return list(dict.fromkeys([*ranges, *hosts, *virtual]))


def network_files(job: Job, resources: ExitStack) -> dict[str, Path]:
    """The host's files for a job with network, {path inside: path outside}, and a name server that it reaches."""
    if not job.network:
        return {}
    found = {name: Path(name) for name in (NAME_SERVERS, *FILES) if Path(name).exists()}
    if has_own_network(job):
        found[NAME_SERVERS] = _name_server_file(resources)
    return found


def _name_server_file(resources: ExitStack) -> Path:
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix=prefix("grade"), dir="/tmp")))
    folder.chmod(0o755)
    file = folder / "resolv.conf"
    file.write_text(f"nameserver {NAME_SERVER}\n")
    file.chmod(0o644)
    return file


def connect(process: int, sandbox: Sandbox, resources: ExitStack) -> None:
    """Connect the network namespace of a sandbox's process to the Internet, until `resources` are released.

    The program ends with this process, however this ends. Raises GradingError, and OSError if the sandbox has ended.
    """
    check_network(sandbox)
    network = _open(f"/proc/{process}/ns/net", resources)
    owner = fcntl.ioctl(network, NS_GET_USERNS)
    resources.callback(os.close, owner)
    users = () if os.geteuid() == 0 else (owner,)
    _start(network, users, resources)
    _close_addresses(network, users, sandbox)


def _entered(users: Sequence[int], *options: str) -> list[str]:
    """The beginning of a command that runs as root of a user namespace, if there is one in users."""
    of_user = [option for each in users for option in (f"--user={_path(each)}", "--preserve-credentials")]
    return ["nsenter", *of_user, *options] if users or options else []


def _start(network: int, users: Sequence[int], resources: ExitStack) -> None:
    """Start the program in the grader's own network namespace, and wait until it has made the interface.

    users: the user namespace in which a grader that is not root may make it.
    """
    ready, ready_writer = open_pipe(resources)
    ended, _ = open_pipe(resources)
    said, said_writer = open_pipe(resources)
    for each in (said, said_writer):  # messages that nobody reads do not stop the program
        os.set_blocking(each.fileno(), False)
    passed = [ready_writer.fileno(), ended.fileno(), network, *users]
    program = subprocess.Popen(  # noqa: S603 - a system command
        [
            *_entered(users), PROGRAM, "--configure", "--mtu=65520", f"--cidr={VIRTUAL}", "--disable-host-loopback",
            "--enable-sandbox", "--enable-seccomp", f"--ready-fd={passed[0]}", f"--exit-fd={passed[1]}",
            "--netns-type=path", _path(network), INTERFACE,
        ],
        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said_writer, pass_fds=passed,
        start_new_session=True, env={"PATH": os.environ.get("PATH", os.defpath)},
    )  # fmt: skip
    resources.callback(program.wait)
    resources.callback(program.kill)
    for each in (ready_writer, ended, said_writer):
        each.close()
    readable, _, _ = select.select([ready], [], [], READY_SECONDS)
    if not readable or not ready.read(1):
        program.kill()
        program.wait()
        raise _unconnected(said)


def _unconnected(said: FileIO) -> GradingError:
    text = (said.read(2**16) or b"").decode(errors="replace")
    lines = [line for line in text.splitlines() if "WARNING" not in line]
    reason = printable("; ".join(lines[-2:])) or "it printed no reason"
    return _refused(f"{PROGRAM} cannot connect downloads to the Internet here ({reason}); correct this, {INSTEAD}")


def _close_addresses(network: int, users: Sequence[int], sandbox: Sandbox) -> None:
    """Set the routes of the namespace, by a process of the grader's that joins it."""
    opened = open_networks(sandbox)
    try:
        closed = closed_networks(routes.own_addresses(), opened)
    except OSError as error:
        raise _unclosed(str(error.strerror)) from None
    set_routes = subprocess.run(  # noqa: S603 - a system command
        [
            *_entered(users, f"--net={_path(network)}"), sys.executable, "-I", "-S", routes.__file__,
            INTERFACE, str(GATEWAY), _joined(opened), _joined(closed),
        ],
        cwd="/", pass_fds=[network, *users], capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if set_routes.returncode:
        raise _unclosed(set_routes.stderr.strip().rpartition("\n")[2])


def _unclosed(reason: str) -> GradingError:
    shown = printable(reason) or "no reason was printed"
    return _refused(f"private addresses cannot be closed to downloads here ({shown}); correct this, {INSTEAD}")


def _refused(sentence: str) -> GradingError:
    return GradingError(sentence, option="host_network")


def _open(path: str, resources: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    resources.callback(os.close, descriptor)
    return descriptor


def _path(descriptor: int) -> str:
    """A path by which a process that has the same descriptor opens it again."""
    return f"/proc/self/fd/{descriptor}"


def _joined(networks: Iterable[IPv4Network]) -> str:
    return ",".join(map(str, networks))
