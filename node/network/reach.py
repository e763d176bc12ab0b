"""How far an address reaches, and the addresses that people give by hand for what others can reach from outside.

A node's entrance has the port after its door's, at home and through a router alike: who forwards one port, forwards
the next one too. Names are looked up when they are dialled, so a machine whose address changes is found by its name.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Literal

from protocol.errors import FednodeError, Refused
from protocol.limits import ADDRESS_CHARACTERS_MAX

Reach = Literal["machine", "network", "anywhere", ""]

_MULTIADDRESS = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/]{1,253})/tcp/(\d{1,5})(?:/p2p/[A-Za-z0-9]+)?")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
OUTSIDE_MAX = 4  # addresses that an owner gives by hand; a node behind more routers than that is rare
_PORT_MAX = 65_534  # the entrance has the next one
_HOW = "write HOST or HOST:PORT, such as node.example.org:4001; PORT is the one of this node as outsiders see it"


def host_and_port(address: str) -> tuple[str, int]:
    """Where `/ip4/HOST/tcp/PORT` and its like lead. Raises FednodeError for any other form."""
    match = _MULTIADDRESS.fullmatch(address)
    if match is None or int(match[3]) > _PORT_MAX + 1 or not _is_host(match[1], match[2]):
        raise FednodeError(
            f"{address[:120]!r} is not an address that a node can listen on or dial",
            remedy="write it like /ip4/192.0.2.7/tcp/4001",
        )
    return match[2], int(match[3])


def _is_host(kind: str, host: str) -> bool:
    if kind.startswith("dns"):
        return _NAME.fullmatch(host) is not None
    try:
        return ipaddress.ip_address(host).version == (4 if kind == "ip4" else 6)
    except ValueError:
        return False


def few_names(addresses: Iterable[str]) -> list[str]:
    """`addresses` with no more names among them than an owner can give: each costs whoever dials it a lookup."""
    kept, names = [], 0
    for address in addresses:
        names += address.startswith("/dns")
        if names <= OUTSIDE_MAX or not address.startswith("/dns"):
            kept.append(address)
    return kept


def multiaddress(host: str, port: int) -> str:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return f"/dns/{host}/tcp/{port}"
    return f"/ip{version}/{host}/tcp/{port}"


def entrance_beside(address: str) -> str:
    """The entrance's address where none is given: the next port, or any where any will do."""
    host, port = host_and_port(address)
    return multiaddress(host, port + 1 if port else 0)


def outside_address(text: str, port: int) -> str:
    """The multiaddress of a door that a person means by HOST or HOST:PORT. `port`: where none is given.

    Raises Refused for anything else, and for an address that nobody can dial.
    """
    host, given = _split(text.strip())
    number = int(given) if given.isdecimal() and len(given) <= 5 else port if not given else 0
    address = multiaddress(host, number)
    try:
        host_and_port(address)
        if not 0 < number <= _PORT_MAX or len(address) > ADDRESS_CHARACTERS_MAX or _is_nowhere(host):
            raise ValueError
    except (ValueError, FednodeError):
        raise Refused("bad-address", f"{text[:120]!r} is no address that others can dial", remedy=_HOW) from None
    return address


def _split(text: str) -> tuple[str, str]:
    """HOST and PORT; "" without one. An IPv6 address with a port is in brackets."""
    if text.startswith("/"):
        known, number = host_and_port(text)
        return known, str(number)
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host.strip("[]") and not host.endswith("]")):
        return text.strip("[]"), ""
    return host.strip("[]"), port or "0"


def _is_nowhere(host: str) -> bool:
    """0.0.0.0 and the like; and names of digits, which some resolvers take for addresses."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.replace(".", "").isdecimal()
    return address.is_unspecified or address.is_multicast


def reach_of(address: str) -> Reach:
    """Who can dial `address`: this machine alone, its local network, anybody; "" for what is no address."""
    try:
        host, _ = host_and_port(address)
    except FednodeError:
        return ""
    try:
        known = ipaddress.ip_address(host)
    except ValueError:
        name = host.rstrip(".").lower()
        if name == "localhost" or name.endswith(".localhost"):
            return "machine"
        is_local = "." not in name or name.endswith((".local", ".lan", ".internal", ".home.arpa"))
        return "network" if is_local else "anywhere"
    if known.is_loopback or known.is_unspecified:
        return "machine"
    return "anywhere" if known.is_global else "network"


def warning_about(addresses: Iterable[str], *, is_link: bool = False) -> str:
    """What to say of a token that leads only there; "" where anybody can follow it, or nobody was named. `is_link`: of
    a device token, which names what the whole node is announced at."""
    reaches = {reach_of(address) for address in addresses} - {""}
    how = "start it with --announce HOST:PORT" if is_link else "add --addr HOST:PORT"
    remedy = f"let a router forward this node's two ports and {how}"
    if not reaches:
        return f"The token names no address, so nobody can use it: {remedy}"
    if "anywhere" in reaches:
        return ""
    if "network" in reaches:
        return f"Only machines on your local network can use this token. For others, {remedy}"
    return (
        "Only this very machine can use this token, for it names no other address: start the node with "
        f"--listen 0.0.0.0, or {remedy}"
    )
