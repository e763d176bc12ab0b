"""Which sockets a node listens on, and the addresses under which others reach them.

We bind our sockets ourselves, without SO_REUSEPORT: the library sets it, and then two nodes share a port without a word
and each gets half of the other's callers.
"""

import errno
import ipaddress
import socket
from functools import partial

import psutil
import trio

from node.network.dialling import Race
from node.network.reach import host_and_port, multiaddress
from protocol.errors import FednodeError

BACKLOG = 128
LOOKUPS_MAX = 32  # of names at once, a thread each: those of eight nodes that have as many as they may
NAME_ADDRESSES_MAX = 4  # tried of those that a name has: a machine with two cards, of either version
# A peer whose machine vanished without a word: its connection goes after about a minute instead of two hours.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


async def connect_tcp(host: str, port: int, lookups: trio.CapacityLimiter) -> trio.SocketStream:
    """A connection to `host`, a name or an address. Raises OSError; set a deadline around it.

    `lookups`: for names. One whose server never answers keeps a thread for long, and must not keep all that there are.
    """
    hosts = await _hosts_of(host, lookups)
    race = Race(partial(trio.open_tcp_stream, port=port), lambda late: late.socket.close(), lambda error: False)
    await race.run(hosts)
    if race.found is None:
        raise next(iter(race.failures.values()), OSError(f"the name {host} has no address"))
    return race.found[1]


async def _hosts_of(host: str, lookups: trio.CapacityLimiter) -> list[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        look = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await trio.to_thread.run_sync(look, limiter=lookups, abandon_on_cancel=True)  # type: ignore[call-arg]
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:NAME_ADDRESSES_MAX]
    return [host]


async def bind(address: str) -> trio.SocketListener:
    """A listening socket on `address` that is ours alone. Raises FednodeError when somebody else has it."""
    host, port = host_and_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        # A node that restarts gets its port back at once; on Linux this does not let two listen on one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _not_bound(address, error) from error
    return trio.SocketListener(listener)


def _not_bound(address: str, error: OSError) -> FednodeError:
    if error.errno == errno.EADDRINUSE:
        return FednodeError(
            f"The port of {address} is in use by another program, perhaps by another node",
            remedy="stop that program, or listen on another port",
        )
    return FednodeError(
        f"This machine cannot listen on {address} ({error.strerror or error})",
        remedy="listen on an address that this machine has, or on /ip4/0.0.0.0/tcp/PORT for all of them",
    )


def announced(listener: trio.SocketListener) -> list[str]:
    """The multiaddresses under which others can reach `listener`: for 0.0.0.0, one for each of this machine's."""
    host, port = listener.socket.getsockname()[:2]
    if not ipaddress.ip_address(host).is_unspecified:
        return [multiaddress(host, port)]
    return [multiaddress(concrete, port) for concrete in _interface_hosts(listener.socket.family)]


def machine_hosts() -> frozenset[str]:
    """All addresses of this machine's interfaces, by any of which only it is reached. It blocks for a moment."""
    families = (socket.AF_INET, socket.AF_INET6)
    found = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    return frozenset(address.address.partition("%")[0] for address in found if address.family in families)


def _interface_hosts(family: int) -> list[str]:
    """This machine's addresses. Loopback, where only we ourselves are, only when there is nothing else."""
    running = {name for name, status in psutil.net_if_stats().items() if status.isup}
    hosts = [
        address.address
        for name, addresses in sorted(psutil.net_if_addrs().items())
        for address in addresses
        if address.family == family and name in running
    ]
    usable = [host for host in hosts if "%" not in host and not ipaddress.ip_address(host).is_link_local]
    return [host for host in usable if not ipaddress.ip_address(host).is_loopback] or usable


def keep_alive(stream: trio.SocketStream) -> None:
    """Have the operating system notice when the machine at the other end is gone."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
