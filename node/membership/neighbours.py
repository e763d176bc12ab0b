"""Whom this node holds connections to, and where they and we can be dialled."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import nsmallest
from itertools import islice

from node.membership.address_book import AddressBook
from node.membership.announcer import Announcer
from node.membership.group_place import GroupPlace
from node.network.reach import Reach, entrance_beside, reach_of
from protocol.fields import NodeAddresses
from protocol.group.state import NodeEntry
from protocol.keys import GroupId, NodeId
from protocol.limits import ADDRESSES_MAX, ENTRANCES_MAX, KNOWN_ADDRESSES_MAX
from protocol.run.voters import lot

# How many nodes of its groups a node holds connections to without need: gossip stays connected at any size, and an idle
# node's heartbeats stay few. Below this size everybody is connected to everybody.
KEPT_PEERS_MAX = 12
# In a token that is drawn as a QR code: 2 nodes with 2 addresses each make one of some 90 cells, which a terminal has
# room for and a telephone's camera reads; one node more, in case the inviter's is off.
BRIEF_ENTRANCES_MAX = 2
BRIEF_ADDRESSES_MAX = 2
_REACH_ORDER: Mapping[Reach, int] = {"anywhere": 0, "network": 1, "": 2, "machine": 3}


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
        """The nodes to hold connections to: everybody in small groups, else those that a lot of the pair chooses; none
        whose entrance says that we are out, which need not be dialled again and again."""
        places = self._places.values()
        wanted = {peer for place in places for peer in self.wanted_in(place) if peer not in place.shut_at}
        return wanted | {*self._siblings()}

    def wanted_in(self, place: GroupPlace) -> tuple[NodeId, ...]:
        """Of one group, also those whose entrance says that we are out. Chosen anew only when the group has other nodes
        than before: a lot for each takes a while in a large one."""
        nodes, before = place.state().nodes, self._wanted.get(place.group)
        if before is None or before[0] is not nodes:
            others = (node for node in nodes if node != self._me and place.admits(node))
            self._wanted[place.group] = before = nodes, tuple(kept_by_lot(place.group, self._me, others))
        return before[1]

    def known_records(self, place: GroupPlace) -> tuple[bytes, ...]:
        """Where nodes of the group say that they are, this one first; as many as are told at once."""
        known = (self.addresses.record(node) for node in place.state().nodes if node != self._me)
        others = islice((raw for raw in known if raw is not None), KNOWN_ADDRESSES_MAX - 1)
        return (self._announcer.record(), *others)

    def entrances(
        self,
        place: GroupPlace,
        outside: Sequence[str] = (),
        connected: Collection[NodeId] = (),
        *,
        qr: bool = False,
    ) -> tuple[NodeAddresses, ...]:
        """Where a token's holder can knock: here first, then at others, who admit while we are off line; first those
        who are `connected`. No more than is of use; `qr`: so few that a token with them is a QR code to film."""
        nodes = sorted(
            (node for node in place.state().nodes if node != self._me), key=lambda node: node not in connected
        )
        known = (self.addresses.of(node) for node in nodes)
        by_hand = tuple(map(entrance_beside, (*outside, *self._announcer.outside)))
        found = (
            NodeAddresses(
                node_id=entry.node_id, entrance_addresses=worth_knocking(entry.entrance_addresses, by_hand, qr)
            )
            for entry in (self._announcer.where(outside), *known)
            if entry is not None and entry.entrance_addresses
        )
        return tuple(islice(found, BRIEF_ENTRANCES_MAX if qr else ENTRANCES_MAX))


def kept_by_lot(group: GroupId, me: NodeId, others: Iterable[NodeId]) -> list[NodeId]:
    """Of `others`, those whose lot with this node is the smallest: both ends of a pair draw the same."""
    return nsmallest(KEPT_PEERS_MAX, others, key=lambda node: lot(group, *sorted((node, me))))


def worth_knocking(addresses: Sequence[str], by_hand: Sequence[str] = (), qr: bool = False) -> tuple[str, ...]:
    """Of one node's entrance addresses, those that a token is to have: what the owner gave `by_hand` first, then by how
    far they reach; what leads to the very machine alone only where nothing else is known."""
    order = {each: -1 if each in by_hand else _REACH_ORDER[reach_of(each)] for each in addresses}
    found = sorted(order, key=order.__getitem__)
    is_elsewhere = any(reach_of(each) != "machine" for each in found if each not in by_hand)
    if is_elsewhere:  # what was given by hand may be mistyped: it alone is not enough
        found = [each for each in found if each in by_hand or reach_of(each) != "machine"]
    return tuple(found[: BRIEF_ADDRESSES_MAX if qr else ADDRESSES_MAX])
