"""A machine on a small Internet, made of network namespaces. It calls a download there, and prints what it reached.

Run it as root, in network and mount namespaces of its own: `unshare --net --mount python -m .. USER SETTINGS`, where
SETTINGS is JSON of `Sandbox`'s fields. Names are known only to a name server on the machine's own loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path

import pyseccomp

from grading.sandbox.run import Sandbox, run_sandboxed

SITE, MACHINE = "198.51.100.1", "203.0.113.2"
ELSEWHERE = ("10.9.9.1", "172.16.5.5", "192.168.7.7", "100.64.3.3", "169.254.169.254", "168.63.129.16", "203.0.113.1")
OWN = (MACHINE, "198.51.100.77", "10.8.8.8", "127.0.0.1", "127.0.0.53")
VIRTUAL = ("169.254.2.2", "169.254.2.3", "169.254.2.9")
PORT = 8000

CALL = f"""
import socket, urllib.request
for address in {(SITE, *ELSEWHERE, *OWN, *VIRTUAL)}:
    try:
        with socket.create_connection((address, {PORT}), 1 if address in {VIRTUAL} else 5) as caller:
            print("reached", address)
    except OSError as error:
        print("refused", address, error)
try:
    print("fetched", urllib.request.urlopen("http://weights.example:{PORT}/weights", timeout=20).read())
except OSError as error:
    print("failed", error)
"""


def call(command: str) -> None:
    subprocess.run(command.split(), check=True)


def make_internet() -> None:
    other = subprocess.Popen(["unshare", "--net", "--kill-child", "sleep", "300"])
    own = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{other.pid}/ns/net") == own:
        time.sleep(0.01)
    there = f"nsenter --net=/proc/{other.pid}/ns/net"
    call(f"ip link add machine type veth peer name site netns {other.pid}")
    for where, link, address in (("", "machine", f"{MACHINE}/24"), (there, "site", "203.0.113.1/24")):
        call(f"{where} ip address add {address} dev {link}")
        call(f"{where} ip link set {link} up")
        call(f"{where} ip link set lo up")
    for address in (SITE, *ELSEWHERE[:-1]):
        call(f"{there} ip address add {address}/32 dev lo")
    for address in OWN[1:3]:
        call(f"ip address add {address}/32 dev lo")
    call("ip route add default via 203.0.113.1")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    (folder / "weights").write_text("the weights")
    serve = [*there.split(), sys.executable, "-m", "http.server", str(PORT), "--directory", str(folder)]
    subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def answer_names() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.53", 53))
    while True:
        question, caller = server.recvfrom(512)
        asks_ipv4 = question[12:].partition(b"\0")[2][:2] == b"\0\1"
        found = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(SITE) if asks_ipv4 else b""
        counts = b"\0\1\0\1" if found else b"\0\1\0\0"
        server.sendto(question[:2] + b"\x81\x80" + counts + bytes(4) + question[12:] + found, caller)


def greet(server: socket.socket) -> None:
    while True:
        server.accept()[0].close()


def make_machine() -> None:
    """The files and servers of the machine. Its user may open /dev/net/tun, as on most machines."""
    call("mount --make-rprivate /")
    call("mount -t tmpfs tmpfs /mnt")
    Path("/mnt/resolv.conf").write_text("nameserver 127.0.0.53\n")
    call("mount --bind /mnt/resolv.conf /etc/resolv.conf")
    call("mknod -m 666 /mnt/tun c 10 200")
    call("mount --bind /mnt/tun /dev/net/tun")
    threading.Thread(target=answer_names, daemon=True).start()
    server = socket.create_server(("0.0.0.0", PORT))
    threading.Thread(target=greet, args=[server], daemon=True).start()


def download(settings: dict[str, object]) -> None:
    reachable = tuple(IPv4Network(each) for each in settings.pop("reachable", []))  # type: ignore[attr-defined]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        folder.chmod(0o755)
        sandbox = Sandbox(python=Path("/usr"), reachable=reachable, **settings)  # type: ignore[arg-type]
        done = run_sandboxed(["python3", "-c", CALL], submission=folder, network=True, sandbox=sandbox)
        print(stack.enter_context(done).log)


if __name__ == "__main__":
    user, asked = sys.argv[1:]
    if user == "here":
        download(json.loads(asked))
        sys.exit()
    make_internet()
    make_machine()
    as_user = [] if user == "0" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    python = sys.executable if user == "0" else "/usr/bin/python3"
    # the system's Python may lack pyseccomp, and the user cannot read ours
    packages = Path(tempfile.mkdtemp(dir="/tmp"))
    packages.chmod(0o755)
    shutil.copy(str(pyseccomp.__file__), packages)
    variables = {**os.environ, "PYTHONPATH": str(packages)}
    subprocess.run([*as_user, python, "-m", "tests.grading.sandbox.internet", "here", asked], check=True, env=variables)
