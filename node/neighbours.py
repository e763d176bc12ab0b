"""Whom this node holds connections to, and where they and we can be dialled."""

from collections.abc import Callable, Mapping
from heapq import nsmallest

from node.address_book import AddressBook
from node.group_place import GroupPlace
from protocol.fields import NodeAddresses
from protocol.group_state import NodeEntry
from protocol.keys import GroupId, NodeId
from protocol.voters import lot

# How many nodes of its groups a node holds connections to without need: gossip stays connected at any size, and an idle
# node's heartbeats stay few. Below this size everybody is connected to everybody.
KEPT_PEERS_MAX = 12


class Neighbours:
    """Of the groups in `places`. `where`: this node's own addresses."""

    def __init__(
        self,
        me: NodeId,
        addresses: AddressBook,
        places: Mapping[GroupId, GroupPlace],
        where: Callable[[], NodeAddresses],
    ) -> None:
        self.addresses = addresses
        self._me = me
        self._places = places
        self._where = where
        self._wanted: dict[GroupId, tuple[Mapping[NodeId, NodeEntry], tuple[NodeId, ...]]] = {}

    def wanted(self) -> set[NodeId]:
        """The nodes to hold connections to: everybody in small groups, else those that a lot of the pair chooses."""
        return {peer for place in self._places.values() for peer in self._wanted_in(place)}

    def _wanted_in(self, place: GroupPlace) -> tuple[NodeId, ...]:
        """Chosen anew only when the group has other nodes than before: a lot for each takes a while in a large one."""
        nodes, before = place.state().nodes, self._wanted.get(place.group)
        if before is None or before[0] is not nodes:
            others = (node for node in nodes if node != self._me and place.admits(node))
            chosen = nsmallest(KEPT_PEERS_MAX, others, key=lambda node: lot(place.group, *sorted((node, self._me))))
            self._wanted[place.group] = before = nodes, tuple(chosen)
        return before[1]

    def known_addresses(self, place: GroupPlace) -> tuple[NodeAddresses, ...]:
        """Where nodes of the group can be dialled, this one first."""
        known = (self.addresses.of(node) for node in place.state().nodes if node != self._me)
        return (self._where(), *(entry for entry in known if entry is not None))

    def entrances(self, place: GroupPlace) -> tuple[NodeAddresses, ...]:
        """Where a token's holder can knock: here first, then at others, who admit while we are off line."""
        return tuple(
            NodeAddresses(node_id=entry.node_id, entrance_addresses=entry.entrance_addresses)
            for entry in self.known_addresses(place)
            if entry.entrance_addresses
        )
