"""Where nodes can be dialled, remembered over restarts. Hints only: the secure handshake proves who answers."""

from collections.abc import Iterable
from functools import lru_cache

import msgpack

from node.seams import Disk, Network
from protocol.errors import RemoteProtocolError
from protocol.fields import NodeAddresses
from protocol.keys import NodeId
from protocol.wire import pack_plain, unpack

ADDRESSES = "addresses"  # the file
_NODES_MAX = 4096  # the largest group; whoever was heard of longest ago is forgotten
_ENTRY_BYTES_MAX = 16 * 1024
_REMEMBERED_FILES = 2  # as read; the nodes of a simulation begin with one and the same


class AddressBook:
    """The newest word on where each node is; tells the network."""

    def __init__(self, network: Network, disk: Disk, me: NodeId) -> None:
        self._network = network
        self._disk = disk
        self._me = me
        self._known: dict[NodeId, NodeAddresses] = {}
        self._is_saved = True

    async def load(self) -> None:
        """Read what was remembered. A damaged file is as good as none: addresses are learned anew."""
        try:
            for entry in unpack_addresses(await self._disk.read(ADDRESSES) or b"\x90"):
                self.learn(entry)
        except (ValueError, TypeError, RemoteProtocolError):
            self._known.clear()
        self._is_saved = True

    def learn(self, entry: NodeAddresses) -> None:
        node = NodeId(entry.node_id)
        if node == self._me:
            return
        before = self._known.pop(node, None)
        self._is_saved = self._is_saved and before == entry
        self._known[node] = entry
        if len(self._known) > _NODES_MAX:
            del self._known[next(iter(self._known))]
        self._network.learn(node, entry.addresses, entry.entrance_addresses)

    def of(self, node: NodeId) -> NodeAddresses | None:
        return self._known.get(node)

    async def save(self) -> None:
        """Remember, if anything has changed since the last time."""
        if not self._is_saved:
            self._is_saved = True  # what is learned while it is written is not
            try:
                await self._disk.write(ADDRESSES, pack_addresses(self._known.values()))
            except BaseException:
                self._is_saved = False
                raise


@lru_cache(maxsize=_REMEMBERED_FILES)
def unpack_addresses(raw: bytes) -> tuple[NodeAddresses, ...]:
    """What is in the file. Raises ValueError, TypeError or RemoteProtocolError when it is damaged."""
    entries = msgpack.unpackb(raw, raw=False)
    return tuple(unpack(NodeAddresses, pack_plain(entry), _ENTRY_BYTES_MAX) for entry in entries)


def pack_addresses(known: Iterable[NodeAddresses]) -> bytes:
    """The file."""
    packed: bytes = msgpack.packb([entry.model_dump() for entry in known])
    return packed
