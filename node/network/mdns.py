"""The local network: says to it that this node is here, and hears which others say so (multicast DNS, RFC 6762).

What goes out is the node's id and its two ports; no name of a group, a member or a machine. What comes in is a hint:
that a node may be at the very address that the datagram came from, if that is on a network of ours: whoever writes
another's address on it can have us knock at a neighbour's machine, and at nobody's farther away.
Nothing is kept here, and what does not speak of our service is not even read. Of the library zeroconf only the coding
of messages is used: its threads and its cache, which any machine around could fill, stay unused.
Rules: docs/protocol.md §12.
"""

import ipaddress
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import trio
from zeroconf import (  # type: ignore[attr-defined]  # it has these for whoever wants no more, and lists them nowhere
    DNSIncoming,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSService,
    DNSText,
)

from node.network.conduct import Allowance
from node.network.reach import host_and_port, multiaddress
from protocol.errors import FednodeError
from protocol.keys import NodeId, node_public_key

log = logging.getLogger("fednode.mdns")

GROUP, PORT = "224.0.0.251", 5353  # what RFC 6762 has for all
SERVICE = "_fednode._tcp.local."
_MARK = b"\x08_fednode"  # the service's first label, as it stands in every message about it
_PACKET_BYTES_MAX = 9000  # RFC 6762 §17
_TTL_S = 120  # RFC 6762 §10, for what depends on a machine's address
_HOPS = 255
_QUERY_FLAGS, _ANSWER_FLAGS = 0x0000, 0x8400
_PTR, _TXT, _SRV, _IN, _UNIQUE = 12, 16, 33, 1, 0x8000

# Between two questions while a wanted node is away; and how often it is looked which interfaces the machine has, for it
# may have moved to another network.
SEARCH_S = 20.0
RETRY_S = 60.0  # until the socket is tried again: the port may be another program's alone
ANSWER_GAP_S = 1.0  # between two answers: RFC 6762 §6, and who asks all the time gains nothing
# Messages about us that are read: a room of a hundred nodes that start at once, again and again. More go unread.
_READ_PER_S, _READ_BURST = 20, 200
# Datagrams taken from the system, about whatever: more than a large house's printers and telephones say. Each costs
# some 10 µs; beyond, the system drops what comes in a pause.
_TAKEN_PER_S, _TAKEN_BURST = 1000, 1000
_FLOOD_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Sighting:
    """Somebody at `host` says that `node` is there, with its door and its entrance at these ports."""

    node: NodeId
    host: str
    door_port: int
    entrance_port: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What a message says of our service."""

    asks: bool = False
    sightings: tuple[Sighting, ...] = ()


def announcement(node: NodeId, door_port: int, entrance_port: int, *, ttl_s: int = _TTL_S) -> bytes:
    """The message that says where `node` is. With `ttl_s` 0: that it is there no more."""
    name = f"{node}.{SERVICE}"
    out = DNSOutgoing(_ANSWER_FLAGS)
    text = f"entrance={entrance_port}".encode()
    out.add_answer_at_time(DNSPointer(SERVICE, _PTR, _IN, ttl_s, name), 0)
    out.add_answer_at_time(DNSService(name, _SRV, _IN | _UNIQUE, ttl_s, 0, 0, door_port, f"{node}.local."), 0)
    out.add_answer_at_time(DNSText(name, _TXT, _IN | _UNIQUE, ttl_s, bytes([len(text)]) + text), 0)
    return out.packets()[0]


def question() -> bytes:
    """The message that asks which nodes are here."""
    out = DNSOutgoing(_QUERY_FLAGS)
    out.add_question(DNSQuestion(SERVICE, _PTR, _IN))
    return out.packets()[0]


def read(data: bytes, host: str) -> Heard:
    """What the message `data`, which came from `host`, says of our service. Anything else, and nonsense, says nothing.

    Never raises: whoever is on the local network may have made it.
    """
    if _MARK not in data.lower() or len(data) > _PACKET_BYTES_MAX:
        return Heard()
    message = DNSIncoming(data, (host, PORT))
    if not message.valid:
        return Heard()
    if message.is_query():
        return Heard(asks=any(asked.name.lower() == SERVICE for asked in message.questions))
    doors: dict[str, int] = {}
    entrances: dict[str, int] = {}
    for record in message.answers():
        instance, _, service = record.name.partition(".")
        if service.lower() != SERVICE or record.ttl == 0:
            continue
        if isinstance(record, DNSService):
            doors[instance] = record.port
        elif isinstance(record, DNSText):
            entrances[instance] = _entrance_in(record.text)
    return Heard(
        sightings=tuple(
            Sighting(NodeId(node), host, port, entrances[node])
            for node, port in doors.items()
            if _is_node(node) and _is_port(port) and _is_port(entrances.get(node, 0))
        )
    )


def _entrance_in(text: bytes) -> int:
    """The port in a record of length-prefixed texts, of which ours is the first; 0 where it is not there."""
    first = text[1 : 1 + text[0]] if text else b""
    key, _, number = first.partition(b"=")
    return int(number) if key == b"entrance" and number.isdigit() and len(number) <= 5 else 0


def _is_port(port: int) -> bool:
    return 0 < port < 65_536


def _is_node(text: str) -> bool:
    try:
        node_public_key(NodeId(text))
    except FednodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Here:
    """One of this machine's addresses, and where the node listens there."""

    host: str
    door_port: int
    entrance_port: int


class LocalNetwork:
    """Speaks and listens until cancelled. Start `run` in a nursery.

    Args:
        addresses, entrance_addresses: this node's own, as the network has them at the moment.
        is_searching: whether there is somebody to be found.
        on_sighting: node, its door and its entrance; told of every sighting, whoever made it up.
    """

    def __init__(
        self,
        node: NodeId,
        *,
        addresses: Callable[[], Sequence[str]],
        entrance_addresses: Callable[[], Sequence[str]],
        is_searching: Callable[[], bool],
        on_sighting: Callable[[NodeId, str, str], None],
    ) -> None:
        self._node = node
        self._addresses = addresses
        self._entrance_addresses = entrance_addresses
        self._is_searching = is_searching
        self._on_sighting = on_sighting
        self._asked = trio.Event()
        self._joined: set[str] = set()
        self._may_read = Allowance(_READ_BURST, _READ_PER_S, trio.current_time())
        self._may_take = Allowance(_TAKEN_BURST, _TAKEN_PER_S, trio.current_time())
        self.trouble = ""  # why nobody is heard or told here, for people

    async def run(self) -> None:
        """Until cancelled. Where there is no multicast `trouble` says so, and it is tried again now and then."""
        while True:
            try:
                channel = await _multicast_socket()
            except OSError as error:
                self._complain(f"port {PORT} cannot be listened on ({error.strerror or error})")
            else:
                with channel:
                    self._joined = set()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._listen, channel)
                        nursery.start_soon(self._speak, channel)
            await trio.sleep(RETRY_S)

    def _complain(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.info("nodes on the local network are not found: %s", trouble)
        self.trouble = trouble

    # --- speaking ------------------------------------------------------------------------------------------------
    async def _speak(self, channel: trio.socket.SocketType) -> None:
        """Say where we are when we come, when asked, and on a network that is new; ask while somebody is away."""
        try:
            await self._tell(channel, self._join(channel), asks=True)
            ask_again_at = trio.current_time() + SEARCH_S
            while True:
                await trio.sleep(ANSWER_GAP_S)
                left = max(0.0, ask_again_at - trio.current_time()) if self._is_searching() else SEARCH_S
                was_asked = await self._asked_within(left)
                new = self._join(channel)
                asks = bool(new) or (self._is_searching() and trio.current_time() >= ask_again_at)
                await self._tell(channel, self._here() if was_asked else new, asks=asks)
                if asks:
                    ask_again_at = trio.current_time() + SEARCH_S
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(ANSWER_GAP_S):
                await self._tell(channel, self._here(), asks=False, ttl_s=0)

    async def _asked_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds) as patience:
            await self._asked.wait()
        self._asked = trio.Event()
        return not patience.cancelled_caught

    async def _tell(
        self, channel: trio.socket.SocketType, where: Sequence[_Here], *, asks: bool, ttl_s: int = _TTL_S
    ) -> None:
        for here in where:
            told = announcement(self._node, here.door_port, here.entrance_port, ttl_s=ttl_s)
            await self._send(channel, here, told)
        for here in self._here() if asks else ():
            await self._send(channel, here, question())

    async def _send(self, channel: trio.socket.SocketType, here: _Here, data: bytes) -> None:
        try:
            channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(here.host))
            await channel.sendto(data, (GROUP, PORT))
            self.trouble = ""
        except OSError as error:
            self._complain(f"nothing can be sent from {here.host} ({error.strerror or error})")

    def _here(self) -> list[_Here]:
        """Each IPv4 address of this machine where the node listens."""
        entrances = dict(reversed([host_and_port(address) for address in self._entrance_addresses()]))
        doors = dict(reversed([host_and_port(address) for address in self._addresses()]))
        return [
            _Here(host, port, entrances[host])
            for host, port in reversed(doors.items())
            if ":" not in host and host in entrances
        ]

    def _join(self, channel: trio.socket.SocketType) -> list[_Here]:
        """Listen on every interface that the node has; gives those that are new."""
        new = []
        here = self._here()
        for each in here:
            if each.host in self._joined:
                continue
            try:
                group = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(each.host))
                channel.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            except OSError as error:
                self._complain(f"{each.host} cannot be listened on ({error.strerror or error})")
            else:
                new.append(each)
        self._joined = {each.host for each in here if each.host in self._joined or each in new}
        if not here:
            self._complain("the node listens on no IPv4 address")
        return new

    # --- listening -----------------------------------------------------------------------------------------------
    async def _listen(self, channel: trio.socket.SocketType) -> None:
        while True:
            try:
                data, (host, *_) = await channel.recvfrom(_PACKET_BYTES_MAX + 1)
            except OSError as error:
                self._complain(f"nothing can be received ({error.strerror or error})")
                await trio.sleep(ANSWER_GAP_S)
                continue
            self.take(data, host)
            if self._may_take.spend(1, trio.current_time()):
                await trio.sleep(_FLOOD_PAUSE_S)

    def take(self, data: bytes, host: str) -> None:
        """A datagram has come from `host`. Of a flood only so much is read. (`nobody_floods_by_multicast`)"""
        if _MARK not in data.lower() or not self._may_read.take(1, trio.current_time()):
            return
        heard = read(data, host)
        if heard.asks:
            self._asked.set()
        for seen in heard.sightings if is_near(host) else ():
            if seen.node != self._node:
                self._on_sighting(
                    seen.node, multiaddress(seen.host, seen.door_port), multiaddress(seen.host, seen.entrance_port)
                )


def is_near(host: str) -> bool:
    """Whether `host` is on a network that this machine has an address in (RFC 6762 §11)."""
    there = ipaddress.ip_address(host)
    return any(
        there in ipaddress.ip_network(f"{here.address}/{here.netmask}", strict=False)
        for addresses in psutil.net_if_addrs().values()
        for here in addresses
        if here.family == socket.AF_INET and here.netmask
    )


async def _multicast_socket() -> trio.socket.SocketType:
    """A socket for the group alone: what is sent to this machine's own address, from farther away, does not get here.

    Other programs on this machine have the port too.
    """
    channel = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
        channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # two nodes on one machine
        await channel.bind((GROUP, PORT))
    except BaseException:
        channel.close()
        raise
    return channel
