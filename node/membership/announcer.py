"""What this node says of itself: where it is, in a signed record, and announcements to its groups."""

from collections.abc import Callable, Sequence

import trio

from node.home.identity import Identity
from node.membership.address_book import AddressBook
from node.network.reach import OUTSIDE_MAX, entrance_beside
from node.seams import Network
from protocol.fields import NodeAddresses
from protocol.group.address_record import SEQUENCE_MAX, AddressRecord, make_address_record
from protocol.group.presence import Capacity, Presence, announce
from protocol.keys import GroupId
from protocol.limits import ADDRESSES_MAX

# An announcement is told to whoever connects for so long; then what it says of load and runs is old.
FRESH_S = 10.0


class Announcer:
    """Makes announcements.

    Args:
        addresses: remembers this node's own record among the others'.
        outside: where outsiders reach this node's door, for what a router forwards; the entrance has the next port.
        describe: this node's capacity, the ids of its open runs, and how many data sets it has.
        now: the wall clock, in seconds since 1970.
    """

    def __init__(
        self,
        identity: Identity,
        network: Network,
        addresses: AddressBook,
        *,
        version: str,
        now: Callable[[], float],
        describe: Callable[[], tuple[Capacity, tuple[str, ...], int]],
        outside: Sequence[str] = (),
    ) -> None:
        self._identity = identity
        self._network = network
        self._version = version
        self._now = now
        self._describe = describe
        self._outside = tuple(outside)[:OUTSIDE_MAX]
        self._addresses = addresses
        self._sequence = 0
        self._record: tuple[NodeAddresses, bytes] | None = None
        self._newest: dict[GroupId, tuple[float, bytes]] = {}  # with when it was made, by trio's clock

    def where(self, more: Sequence[str] = ()) -> NodeAddresses:
        """Where this node is dialled, what the owner gave by hand first, and `more` of it before all."""
        outside = (*more, *self._outside)
        doors = (*outside, *self._network.addresses())
        entrances = (*map(entrance_beside, outside), *self._network.entrance_addresses())
        return NodeAddresses(
            node_id=self._identity.node_id,
            addresses=tuple(dict.fromkeys(doors))[:ADDRESSES_MAX],
            entrance_addresses=tuple(dict.fromkeys(entrances))[:ADDRESSES_MAX],
        )

    @property
    def outside(self) -> tuple[str, ...]:
        return self._outside

    def renew(self) -> None:
        """Have the record signed anew, with a sequence above all that is known of ours, before it is told again."""
        self._record = None

    def record(self) -> bytes:
        """This node's address record: signed anew when its addresses are others than before."""
        where = self.where()
        if self._record is None or self._record[0] != where:
            record = AddressRecord(
                node_id=self._identity.node_id,
                addresses=where.addresses,
                entrance_addresses=where.entrance_addresses,
                sequence=self._next_sequence(),
            )
            self._record = where, make_address_record(self._identity.keys.node, record)
            self._addresses.learn(self._record[1], is_made_here=True)
        return self._record[1]

    def _next_sequence(self) -> int:
        """Higher than all before, and than that of the record before a restart: the clock may have been wrong then."""
        before = max(self._sequence, self._addresses.sequence(self._identity.node_id))
        self._sequence = min(max(before + 1, int(self._now() * 1000)), SEQUENCE_MAX)
        return self._sequence

    def newest(self, group: GroupId) -> bytes:
        """The last announcement, or a new one where that is not fresh any more."""
        made_at, raw = self._newest.get(group, (float("-inf"), b""))
        return raw if trio.current_time() - made_at < FRESH_S else self.make(group)

    def make(self, group: GroupId) -> bytes:
        """A new announcement."""
        capacity, runs, data_sets = self._describe()
        presence = Presence(
            node_id=self._identity.node_id,
            group=group,
            name=self._identity.name,
            version=self._version,
            where=self.record(),
            capacity=capacity,
            runs=runs,  # type: ignore[arg-type]
            data_sets=data_sets,
            announced_at=int(self._now()),
            sequence=self._next_sequence(),
        )
        raw = announce(self._identity.keys.node, presence)
        self._newest[group] = trio.current_time(), raw
        return raw
