"""Where nodes can be dialled, remembered over restarts. Hints only: the secure handshake proves who answers."""

import msgpack

from node.seams import Disk, Network
from protocol.errors import RemoteProtocolError
from protocol.fields import NodeAddresses
from protocol.keys import NodeId
from protocol.wire import pack_plain, unpack

_FILE = "addresses"
_NODES_MAX = 4096  # the largest group; whoever was heard of longest ago is forgotten
_ENTRY_BYTES_MAX = 16 * 1024


class AddressBook:
    """The newest word on where each node is; tells the network."""

    def __init__(self, network: Network, disk: Disk, me: NodeId) -> None:
        self._network = network
        self._disk = disk
        self._me = me
        self._known: dict[NodeId, NodeAddresses] = {}
        self._saved: bytes = b""

    async def load(self) -> None:
        """Read what was remembered. A damaged file is as good as none: addresses are learned anew."""
        raw = await self._disk.read(_FILE)
        try:
            for entry in msgpack.unpackb(raw or b"\x90", raw=False):
                self.learn(unpack(NodeAddresses, pack_plain(entry), _ENTRY_BYTES_MAX))
        except (ValueError, TypeError, RemoteProtocolError):
            self._known.clear()

    def learn(self, entry: NodeAddresses) -> None:
        node = NodeId(entry.node_id)
        if node == self._me:
            return
        self._known.pop(node, None)
        self._known[node] = entry
        if len(self._known) > _NODES_MAX:
            del self._known[next(iter(self._known))]
        self._network.learn(node, entry.addresses, entry.entrance_addresses)

    def of(self, node: NodeId) -> NodeAddresses | None:
        return self._known.get(node)

    async def save(self) -> None:
        """Remember, if anything has changed since the last time."""
        packed: bytes = msgpack.packb([entry.model_dump() for entry in self._known.values()])
        if packed != self._saved:
            await self._disk.write(_FILE, packed)
            self._saved = packed
