import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

import grading.sandbox.network
from grading.core.errors import GradingError
from grading.sandbox.network import check_network, closed_networks, is_closed, open_networks, read_networks
from grading.sandbox.routes import own_addresses
from grading.sandbox.run import Sandbox
from tests.grading.sandbox.internet import ELSEWHERE, OWN, SITE
from tests.grading.sandboxed import ROOT, needs_network, needs_sandbox, run

MACHINE = [IPv4Interface("127.0.0.1/8"), IPv4Interface("140.112.30.40/24"), IPv4Interface("10.1.2.3/16")]


def closed(address, opened=()):
    networks = closed_networks(MACHINE, [IPv4Network(each) for each in opened])
    return any(IPv4Address(address) in each for each in networks)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "10.255.255.254", "172.16.0.1", "172.31.9.9", "192.168.1.1", "100.64.0.1", "100.100.100.200"),
        *("127.0.0.1", "127.0.0.53", "169.254.169.254", "169.254.0.1", "0.0.0.0", "168.63.129.16", "192.0.0.192"),
        *("224.0.0.251", "239.255.255.250", "255.255.255.255", "140.112.30.40", "140.112.30.1", "169.254.2.2"),
    ],
)
def test_private_addresses_and_those_of_the_machine_and_its_network_are_closed(address):
    assert closed(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "140.112.31.1", "11.0.0.1"])
def test_the_internet_is_open(address):
    assert not closed(address)


def test_the_name_server_of_the_virtual_network_is_the_only_address_in_it_that_is_open():
    virtual = [each for each in closed_networks([], []) if each.subnet_of(IPv4Network("169.254.2.0/24"))]
    assert [str(each) for each in IPv4Network("169.254.2.0/24") if not any(each in net for net in virtual)] == [
        "169.254.2.3"
    ]


def test_what_staff_allow_is_open_and_the_machine_itself_only_by_its_own_address():
    assert not closed("192.168.7.7", ["192.168.0.0/16"])
    assert not closed("140.112.30.1", ["140.112.0.0/16"])
    assert closed("140.112.30.40", ["140.112.0.0/16"])
    assert closed("169.254.169.254", ["192.168.0.0/16"])
    named = closed_networks(MACHINE, [IPv4Network("140.112.30.40")])
    assert IPv4Network("140.112.30.40") not in named


def test_a_machine_whose_network_is_nearly_everything_keeps_the_internet():
    tunnel = [IPv4Interface("26.1.2.3/1")]
    assert not any(IPv4Address("8.8.8.8") in each for each in closed_networks(tunnel, []))


def test_the_addresses_of_this_machine_are_those_that_ip_tells():
    if shutil.which("ip") is None:
        pytest.skip("there is no ip to compare with")
    told = json.loads(subprocess.run(["ip", "-j", "-4", "address"], capture_output=True, check=True).stdout)
    expected = {f"{each['local']}/{each['prefixlen']}" for link in told for each in link.get("addr_info", [])}
    assert {str(each) for each in own_addresses()} == expected


def test_addresses_are_read_and_what_is_none_is_refused():
    assert read_networks("10.1.2.3, 10.2.0.0/16,") == (IPv4Network("10.1.2.3/32"), IPv4Network("10.2.0.0/16"))
    for wrong in ("mirror.example", "10.1.2.3/8", "::1", "10.1.2"):
        with pytest.raises(GradingError, match=r"names no addresses .*expected IPv4 addresses or networks") as error:
            read_networks(wrong)
        assert error.value.option == "reachable"


def test_a_proxy_that_staff_name_can_be_reached_and_one_on_the_loopback_is_refused():
    proxy = Sandbox(environment={"https_proxy": "http://user:word@10.1.2.3:3128", "NO_PROXY": "10.5.5.5", "X": "1://["})
    assert open_networks(proxy) == [IPv4Network("10.1.2.3")]
    with pytest.raises(GradingError, match=r"http_proxy is http://localhost:3128, but .* loopback") as error:
        open_networks(Sandbox(environment={"http_proxy": "http://localhost:3128"}))
    assert error.value.option == "host_network"


def test_a_private_address_is_closed_unless_staff_allow_it():
    assert is_closed("10.1.2.3", Sandbox())
    assert not is_closed("8.8.8.8", Sandbox())
    assert not is_closed("nas.example", Sandbox())
    for allowed in (Sandbox(host_network=True), Sandbox(trust=True), Sandbox(reachable=(IPv4Network("10.0.0.0/8"),))):
        assert not is_closed("10.1.2.3", allowed)


# --- what is missing


def refusal():
    with pytest.raises(GradingError) as error:
        check_network(Sandbox())
    assert error.value.option == "host_network"
    assert "--" not in str(error.value)
    return str(error.value)


def test_without_the_program_downloads_are_refused_unless_staff_allow_the_hosts_network(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert refusal() == (
        "slirp4netns is not installed, and downloads get no network without it; install it (apt-get install "
        "slirp4netns), or allow downloads the host's network, with all that this machine can reach"
    )
    check_network(Sandbox(host_network=True))
    check_network(Sandbox(trust=True))


def test_a_machine_without_the_device_is_told_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(grading.sandbox.network, "DEVICE", tmp_path / "tun")
    assert f"there is no {tmp_path}/tun" in refusal()
    (tmp_path / "tun").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"run chmod 666 {tmp_path}/tun as root" in refusal()


def test_a_machine_whose_name_servers_have_no_ipv4_address_is_told_so(monkeypatch, tmp_path):
    servers = tmp_path / "resolv.conf"
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(grading.sandbox.network, "DEVICE", servers)
    monkeypatch.setattr(grading.sandbox.network, "HOSTS_NAME_SERVERS", servers)
    servers.write_text("search example\nnameserver 2001:db8::53\n")
    assert refusal().startswith(f"{servers} names no server with an IPv4 address")
    servers.write_text("nameserver 2001:db8::53\nnameserver 127.0.0.53\n")
    check_network(Sandbox())


@needs_network
def test_a_program_that_fails_is_quoted_and_the_command_does_not_run(folder, monkeypatch, tmp_path):
    program = tmp_path / "slirp4netns"
    program.write_text("#!/bin/sh\necho WARNING: something >&2\necho 'no such luck' >&2\nexit 1\n")
    program.chmod(0o755)
    folder.chmod(0o777)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(GradingError, match=r"cannot connect downloads to the Internet here \(no such luck\)") as error:
        run("touch /submission/ran", folder, network=True, writable={"/submission": folder})
    assert error.value.option == "host_network"
    assert not (folder / "ran").exists()


@needs_sandbox
def test_the_command_begins_only_when_its_network_is_ready(folder, monkeypatch):
    begun = []

    def slow(process, sandbox, resources):
        time.sleep(0.5)
        begun.append((folder / "ran").exists())

    folder.chmod(0o777)
    monkeypatch.setattr("grading.sandbox.bubblewrap.connect", slow)
    run("touch /submission/ran", folder, network=True, writable={"/submission": folder})
    assert begun == [False]
    assert (folder / "ran").exists()


@needs_network
def test_a_sandbox_whose_routes_fail_does_not_run(folder, monkeypatch):
    monkeypatch.setattr(grading.sandbox.network, "closed_networks", lambda own, opened: ["nothing"])
    with pytest.raises(GradingError, match=r"private addresses cannot be closed to downloads here \(.*nothing"):
        run("true", folder, network=True)


# --- what a download reaches


@functools.cache
def why_no_internet() -> str:
    """Why no network namespaces with another machine can be made here; empty if they can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "only root with iproute2 can make another machine"
    link = "ip link add test0 type veth peer name test1 && touch /dev/net/tun"
    made = subprocess.run(["unshare", "--net", "sh", "-c", link], capture_output=True, text=True)
    return made.stderr


needs_internet = pytest.mark.skipif(bool(why_no_internet()), reason=why_no_internet())


@functools.cache
def can_act_as_user() -> bool:
    as_user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "/usr/bin/python3", "-c"]
    code = "import sys, grading.sandbox.run; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([*as_user, code], cwd=ROOT, capture_output=True).returncode == 0


USER = pytest.param("1000", marks=pytest.mark.skipif(not can_act_as_user(), reason="no other user can run the grader"))


def call(user, **settings):
    """What a download reaches, and the last line of its log. user: the grader's, who runs the system's Python."""
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    module = [sys.executable, "-m", "tests.grading.sandbox.internet", user, json.dumps(settings)]
    called = subprocess.run([*apart, *module], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert called.returncode == 0, called.stderr
    lines = called.stdout.splitlines()
    return {line.split()[1] for line in lines if line.startswith("reached")}, lines[-1]


@needs_network
@needs_internet
@pytest.mark.parametrize("user", ["0", USER])
def test_a_download_reaches_the_internet_by_name_and_neither_the_machine_nor_private_networks(user):
    assert call(user) == ({SITE}, "fetched b'the weights'")


@needs_network
@needs_internet
def test_with_the_hosts_network_a_download_reaches_all_of_that():
    assert call("0", host_network=True) == ({SITE, *ELSEWHERE, *OWN}, "fetched b'the weights'")


@needs_network
@needs_internet
@pytest.mark.parametrize("user", ["0", USER])
def test_a_download_reaches_the_private_addresses_that_staff_name(user):
    named = ["10.0.0.0/8", "169.254.169.254/32"]
    assert call(user, reachable=named)[0] == {SITE, "10.9.9.1", "169.254.169.254"}


@needs_network
def test_a_download_cannot_change_its_routes_and_does_not_see_the_program(folder):
    tries = (
        "ip route delete unreachable 10.0.0.0/8; ip route add 10.9.9.9/32 via 169.254.2.2; ip link set tap0 down;"
        "unshare --user --net true; cat /proc/*/comm; cat /proc/net/fib_trie | grep -c 10.9.9.9"
    )
    log = run(tries, folder, network=True).log
    if shutil.which("ip"):
        assert log.count("Operation not permitted") >= 3
    assert "slirp4netns" not in log
    assert log.splitlines()[-1] == "0"


@needs_network
def test_a_script_has_no_interface_but_its_loopback(folder):
    assert run("grep -c : /proc/net/dev", folder).log == "1"
    assert run("grep -c : /proc/net/dev", folder, network=True).log == "2"


def programs(parent: int) -> list[int]:
    """The processes slirp4netns that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, state = (folder / "comm").read_text().strip(), (folder / "stat").read_text()
        except OSError:
            continue
        if name == "slirp4netns" and int(state.rpartition(")")[2].split()[1]) == parent:
            found.append(int(folder.name))
    return found


def soon(happens):
    end = time.monotonic() + 30
    while not happens() and time.monotonic() < end:
        time.sleep(0.02)
    return happens()


@needs_network
def test_the_program_ends_with_the_run(folder):
    run("true", folder, network=True)
    assert programs(os.getpid()) == []


@needs_network
def test_the_program_ends_when_its_grader_is_killed(folder):
    code = (
        "import sys; from pathlib import Path; from grading.sandbox.run import run_sandboxed\n"
        "run_sandboxed(['sleep', '60'], submission=Path(sys.argv[1]), network=True)"
    )
    grader = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)
    try:
        assert soon(lambda: programs(grader.pid))
        (program,) = programs(grader.pid)
    finally:
        grader.send_signal(signal.SIGKILL)
        grader.wait()
    assert soon(lambda: not Path(f"/proc/{program}").exists())
