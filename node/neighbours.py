"""Whom this node holds connections to, and where they and we can be dialled."""

from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest
from itertools import islice

from node.address_book import AddressBook
from node.announcer import Announcer
from node.group_place import GroupPlace
from protocol.fields import NodeAddresses
from protocol.group_state import NodeEntry
from protocol.keys import GroupId, NodeId
from protocol.limits import KNOWN_ADDRESSES_MAX
from protocol.voters import lot

# How many nodes of its groups a node holds connections to without need: gossip stays connected at any size, and an idle
# node's heartbeats stay few. Below this size everybody is connected to everybody.
KEPT_PEERS_MAX = 12


class Neighbours:
    """Of the groups in `places`. `announcer` knows where this node itself is; `siblings`: those of our own member's
    nodes that we want, too."""

    def __init__(
        self,
        me: NodeId,
        addresses: AddressBook,
        places: Mapping[GroupId, GroupPlace],
        announcer: Announcer,
        siblings: Callable[[], Sequence[NodeId]],
    ) -> None:
        self.addresses = addresses
        self._me = me
        self._places = places
        self._announcer = announcer
        self._siblings = siblings
        self._wanted: dict[GroupId, tuple[Mapping[NodeId, NodeEntry], tuple[NodeId, ...]]] = {}

    def wanted(self) -> set[NodeId]:
        """The nodes to hold connections to: everybody in small groups, else those that a lot of the pair chooses."""
        return {peer for place in self._places.values() for peer in self._wanted_in(place)} | {*self._siblings()}

    def _wanted_in(self, place: GroupPlace) -> tuple[NodeId, ...]:
        """Chosen anew only when the group has other nodes than before: a lot for each takes a while in a large one."""
        nodes, before = place.state().nodes, self._wanted.get(place.group)
        if before is None or before[0] is not nodes:
            others = (node for node in nodes if node != self._me and place.admits(node))
            chosen = nsmallest(KEPT_PEERS_MAX, others, key=lambda node: lot(place.group, *sorted((node, self._me))))
            self._wanted[place.group] = before = nodes, tuple(chosen)
        return before[1]

    def known_records(self, place: GroupPlace) -> tuple[bytes, ...]:
        """Where nodes of the group say that they are, this one first; as many as are told at once."""
        known = (self.addresses.record(node) for node in place.state().nodes if node != self._me)
        others = islice((raw for raw in known if raw is not None), KNOWN_ADDRESSES_MAX - 1)
        return (self._announcer.record(), *others)

    def entrances(self, place: GroupPlace, outside: Sequence[str] = ()) -> tuple[NodeAddresses, ...]:
        """Where a token's holder can knock: here first, then at others, who admit while we are off line."""
        known = (self.addresses.of(node) for node in place.state().nodes if node != self._me)
        return tuple(
            NodeAddresses(node_id=entry.node_id, entrance_addresses=entry.entrance_addresses)
            for entry in (self._announcer.where(outside), *known)
            if entry is not None and entry.entrance_addresses
        )
