"""Where nodes can be dialled: the newest word of each node about itself, remembered over restarts, and hints.

A hint comes from anybody, such as a machine on the local network. It is one more thing to try, never in place of what
the node itself has signed; it is not passed on and not remembered. The secure handshake proves who answers.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgpack

from node.seams import Disk, Network
from protocol.errors import RemoteProtocolError
from protocol.fields import NodeAddresses
from protocol.group.address_record import AddressRecord, is_newer, open_address_record
from protocol.keys import NodeId
from protocol.limits import HINTS_MAX

ADDRESSES = "addresses"  # the file
_NODES_MAX = 4096  # the largest group; whoever was heard of longest ago is forgotten
_REMEMBERED_FILES = 2  # as read; the nodes of a simulation begin with one and the same


class AddressBook:
    """Tells the network what it learns, and `changed` of each node that may be found elsewhere than before."""

    def __init__(
        self, network: Network, disk: Disk, me: NodeId, changed: Callable[[NodeId], None] = lambda node: None
    ) -> None:
        self._network = network
        self._disk = disk
        self.me = self._me = me
        self.on_ours: Callable[[AddressRecord], None] = lambda record: None  # of us, newer than what was made here
        self._changed = changed
        self._known: dict[NodeId, tuple[bytes, AddressRecord]] = {}
        self._hints: dict[NodeId, dict[tuple[str, str], None]] = {}
        self._is_saved = True

    async def load(self) -> None:
        """Read what was remembered. A damaged file is as good as none: addresses are learned anew."""
        try:
            for raw in unpack_records(await self._disk.read(ADDRESSES) or b"\x90"):
                self.learn(raw, is_made_here=True)
        except (ValueError, TypeError, RemoteProtocolError):
            self._known.clear()
        self._is_saved = True

    def learn(self, raw: bytes, *, is_made_here: bool = False) -> None:
        """Take a record in, unless a newer one of its node is here. Raises RemoteProtocolError for a forged one.

        The caller asks whether the node is one that matters here, and says when it has made the record itself.
        """
        record = open_address_record(raw)
        node = NodeId(record.node_id)
        before = self._known.get(node)
        if not is_newer(record, before and before[1]):
            return
        self._known.pop(node, None)  # so that the newest stand last
        self._known[node] = raw, record
        self._is_saved = False
        if len(self._known) > _NODES_MAX:
            del self._known[next(iter(self._known))]
        if node != self._me:  # our own is only remembered, so that the next one's sequence is higher
            self._tell(node, is_new=before is None or before[1].where() != record.where())
        elif not is_made_here:
            self.on_ours(record)

    def hint(self, node: NodeId, door: str, entrance: str) -> None:
        """`node`, of which the caller knows that we want it, may be found there. Of hints the newest few are kept."""
        hints = self._hints.setdefault(node, {})
        is_new = (door, entrance) not in hints
        hints.pop((door, entrance), None)
        hints[door, entrance] = None
        if len(hints) > HINTS_MAX:
            del hints[next(iter(hints))]
        if len(self._hints) > _NODES_MAX:
            del self._hints[next(iter(self._hints))]
        if is_new:
            self._tell(node, is_new=True)

    def told(self, entry: NodeAddresses) -> None:
        """A token says where to knock. What is known of that node by its own word stays."""
        node = NodeId(entry.node_id)
        doors, entrances = self._candidates(node)
        self._network.learn(node, _each_once(doors, entry.addresses), _each_once(entry.entrance_addresses, entrances))

    def _tell(self, node: NodeId, *, is_new: bool) -> None:
        self._network.learn(node, *self._candidates(node))
        if is_new:
            self._changed(node)

    def _candidates(self, node: NodeId) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Doors and entrances to try, hints last."""
        where = self.of(node) or NodeAddresses(node_id=node)
        hints = self._hints.get(node, {})
        return (
            _each_once(where.addresses, (door for door, _ in hints)),
            _each_once(where.entrance_addresses, (entrance for _, entrance in hints)),
        )

    def of(self, node: NodeId) -> NodeAddresses | None:
        """Where the node says that it is."""
        known = self._known.get(node)
        return known[1].where() if known else None

    def hints(self, node: NodeId) -> tuple[str, ...]:
        """Where its door may be, besides."""
        return tuple(door for door, _ in self._hints.get(node, {}))

    def is_findable(self, node: NodeId) -> bool:
        return node in self._known or node in self._hints

    def record(self, node: NodeId) -> bytes | None:
        known = self._known.get(node)
        return known[0] if known else None

    def sequence(self, node: NodeId) -> int:
        """Of the record that is here, -1 without one."""
        known = self._known.get(node)
        return known[1].sequence if known else -1

    async def save(self) -> None:
        """Remember, if anything has changed since the last time."""
        if not self._is_saved:
            self._is_saved = True  # what is learned while it is written is not
            try:
                await self._disk.write(ADDRESSES, pack_records(raw for raw, _ in self._known.values()))
            except BaseException:
                self._is_saved = False
                raise


def _each_once(*addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for some in addresses for address in some))


@lru_cache(maxsize=_REMEMBERED_FILES)
def unpack_records(raw: bytes) -> tuple[bytes, ...]:
    """What is in the file. Raises ValueError or TypeError when it is damaged."""
    records = msgpack.unpackb(raw)
    if not isinstance(records, list) or not all(isinstance(record, bytes) for record in records):
        raise TypeError("not a list of records")
    return tuple(records)


def pack_records(records: Iterable[bytes]) -> bytes:
    """The file."""
    packed: bytes = msgpack.packb(list(records))
    return packed
