"""Finding nodes again that have moved: whoever cannot reach a wanted peer asks those whom it reaches.

So a group in which all nodes but one have changed their addresses meets again through the one that stayed. What comes
back are the records that the nodes have signed themselves. Rules: docs/protocol.md §12.
"""

from collections.abc import Callable, Iterable, Mapping, Set

from node.membership.address_book import AddressBook
from node.membership.group_place import GroupPlace
from node.network.links import Links
from protocol.group.address_record import (
    AddressesAsked,
    AddressesTold,
    Held,
    open_address_message,
    records_of_nodes,
)
from protocol.keys import GroupId, NodeId
from protocol.limits import KNOWN_ADDRESSES_MAX
from protocol.wire import pack

ADDRESS_CHANNEL = "addresses"


class Whereabouts:
    """Of the nodes in `places`. `wanted`: whom this node would be connected to; `connected`: whom it is;
    `admits`: to whom its door is open."""

    def __init__(
        self,
        addresses: AddressBook,
        places: Mapping[GroupId, GroupPlace],
        links: Links,
        *,
        wanted: Callable[[], Set[NodeId]],
        connected: Callable[[], Set[NodeId]],
        admits: Callable[[NodeId], bool],
    ) -> None:
        self._addresses = addresses
        self._places = places
        self._links = links
        self._wanted = wanted
        self._connected = connected
        self._admits = admits

    def ask(self, place: GroupPlace, peers: Iterable[NodeId], *, of_us: bool = False) -> None:
        """Ask `peers` of the group where the wanted nodes are that this one has dialled in vain, if there are any; and,
        if so told, where we are: whoever has our key may have said something newer."""
        away = sorted(node for node in self._wanted() - self._connected() if place.admits(node) and self._is_lost(node))
        away = [self._addresses.me, *away] if of_us and place.admits(self._addresses.me) else away
        if not away:
            return
        nodes = tuple(Held(node_id=node, sequence=self._addresses.sequence(node)) for node in away)
        asked = pack(AddressesAsked(group=place.group, nodes=nodes[:KNOWN_ADDRESSES_MAX]))
        for peer in peers:
            self._links.send(peer, ADDRESS_CHANNEL, asked, f"asked/{place.group}")

    def _is_lost(self, node: NodeId) -> bool:
        return self._links.failure(node) is not None

    def on_message(self, peer: NodeId, payload: bytes) -> None:
        """A peer asks, or answers. Raises RemoteProtocolError."""
        message = open_address_message(payload)
        place = self._places.get(message.group)
        if place is None or not place.admits(peer):
            return
        if isinstance(message, AddressesAsked):
            self._tell(place, peer, message)
        else:
            for raw in records_of_nodes(message.records, place.state()):
                self._addresses.learn(raw)

    def _tell(self, place: GroupPlace, peer: NodeId, asked: AddressesAsked) -> None:
        newer = [
            raw
            for held in asked.nodes
            if place.admits(NodeId(held.node_id))
            and self._addresses.sequence(NodeId(held.node_id)) > held.sequence
            and (raw := self._addresses.record(NodeId(held.node_id))) is not None
        ]
        if newer:
            answer = AddressesTold(group=place.group, records=tuple(newer))
            self._links.send(peer, ADDRESS_CHANNEL, pack(answer), f"told/{place.group}")

    def sighted(self, node: NodeId, door: str, entrance: str) -> None:
        """Somebody on the local network says that `node` is there. It counts only for a node of our groups, or of our
        own member, that we are not connected to. (`only_wanted_nodes_are_sought`)"""
        if self._admits(node) and node not in self._connected():
            self._addresses.hint(node, door, entrance)

    def is_searching(self) -> bool:
        """Whether a wanted node is not connected."""
        return bool(self._wanted() - self._connected())
