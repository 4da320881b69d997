"""The addresses of a network namespace and its routes, by netlink. It needs the standard library alone.

As a program it closes addresses in the network namespace that it runs in: `routes.py INTERFACE GATEWAY OPEN CLOSED`,
where OPEN and CLOSED are networks, separated by commas. A more specific network wins.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

MESSAGE, ROUTE, ADDRESS, ATTRIBUTE = map(struct.Struct, ("=IHHII", "=BBBBBBBBI", "=BBBBI", "=HH"))
"""The kernel's nlmsghdr, rtmsg, ifaddrmsg and rtattr."""

NEW_ADDRESS, GET_ADDRESS, NEW_ROUTE, ERROR, DONE = 20, 22, 24, 2, 3
REQUEST, ACKNOWLEDGE, DUMP, CREATE, REPLACE = 0x1, 0x4, 0x300, 0x400, 0x100
MAIN_TABLE, STATIC, EVERYWHERE, UNICAST, UNREACHABLE = 254, 4, 0, 1, 7
DESTINATION, INTERFACE, GATEWAY, OWN_ADDRESS = 1, 4, 5, 2
"""Numbers of linux/netlink.h and linux/rtnetlink.h."""


def own_addresses() -> list[IPv4Interface]:
    """The IPv4 addresses of this network namespace, each with its network. Raises OSError."""
    request = ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
    found = []
    for kind, body in _replies(GET_ADDRESS, REQUEST | DUMP, request):
        own = dict(_attributes(body[ADDRESS.size :])).get(OWN_ADDRESS)
        if kind == NEW_ADDRESS and own:
            found.append(IPv4Interface((own, ADDRESS.unpack_from(body)[1])))
    return found


def close(network: IPv4Network) -> None:
    """Make a network unreachable. Raises OSError."""
    _add(network, UNREACHABLE, b"")


def open_by(network: IPv4Network, interface: str, gateway: IPv4Address) -> None:
    """Make a network reachable by a gateway. Raises OSError."""
    index = struct.pack("=I", socket.if_nametoindex(interface))
    _add(network, UNICAST, _attribute(GATEWAY, gateway.packed) + _attribute(INTERFACE, index))


def _add(network: IPv4Network, kind: int, attributes: bytes) -> None:
    route = ROUTE.pack(socket.AF_INET, network.prefixlen, 0, 0, MAIN_TABLE, STATIC, EVERYWHERE, kind, 0)
    body = route + _attribute(DESTINATION, network.network_address.packed) + attributes
    for _ in _replies(NEW_ROUTE, REQUEST | ACKNOWLEDGE | CREATE | REPLACE, body):
        pass


def _replies(kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """The kind and the body of each message that the kernel answers a request with."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.sendall(MESSAGE.pack(MESSAGE.size + len(body), kind, flags, 1, 0) + body)
        while True:
            reply = kernel.recv(2**16)
            while reply:
                length, answered, *_ = MESSAGE.unpack_from(reply)
                content, reply = reply[MESSAGE.size : length], reply[_aligned(length) :]
                if answered == ERROR and (number := -struct.unpack_from("=i", content)[0]):
                    raise OSError(number, "the kernel refuses a request about routes")
                if answered in (ERROR, DONE):
                    return
                yield answered, content


def _attribute(kind: int, content: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(content), kind) + content


def _attributes(text: bytes) -> Iterator[tuple[int, bytes]]:
    while len(text) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(text)
        yield kind, text[ATTRIBUTE.size : length]
        text = text[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _networks(text: str) -> list[IPv4Network]:
    return [IPv4Network(each) for each in text.split(",") if each]


if __name__ == "__main__":
    _, name, through, opened, closed = sys.argv
    for each in _networks(opened):
        open_by(each, name, IPv4Address(through))
    for each in _networks(closed):  # the gateway itself is among them, so they come last
        close(each)
