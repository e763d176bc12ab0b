"""What this node says of itself to its groups: announcements, each signed once and told to many."""

from collections.abc import Callable

import trio

from node.identity import Identity
from node.seams import Network
from protocol.fields import NodeAddresses
from protocol.keys import GroupId
from protocol.limits import ADDRESSES_MAX
from protocol.presence import Capacity, Presence, announce

# An announcement is told to whoever connects for so long; then what it says of load and runs is old.
FRESH_S = 10.0


class Announcer:
    """Makes announcements.

    Args:
        describe: this node's capacity, the ids of its open runs, and how many data sets it has.
        now: the wall clock, in seconds since 1970.
    """

    def __init__(
        self,
        identity: Identity,
        network: Network,
        *,
        version: str,
        now: Callable[[], float],
        describe: Callable[[], tuple[Capacity, tuple[str, ...], int]],
    ) -> None:
        self._identity = identity
        self._network = network
        self._version = version
        self._now = now
        self._describe = describe
        self._sequence = 0
        self._newest: dict[GroupId, tuple[float, bytes]] = {}  # with when it was made, by trio's clock

    def where(self) -> NodeAddresses:
        """Where this node is dialled."""
        return NodeAddresses(
            node_id=self._identity.node_id,
            addresses=tuple(self._network.addresses()[:ADDRESSES_MAX]),
            entrance_addresses=tuple(self._network.entrance_addresses()[:ADDRESSES_MAX]),
        )

    def newest(self, group: GroupId) -> bytes:
        """The last announcement, or a new one where that is not fresh any more."""
        made_at, raw = self._newest.get(group, (float("-inf"), b""))
        return raw if trio.current_time() - made_at < FRESH_S else self.make(group)

    def make(self, group: GroupId) -> bytes:
        """A new announcement, newer than all before, also than those before a restart."""
        capacity, runs, data_sets = self._describe()
        now, where = self._now(), self.where()
        self._sequence = max(self._sequence + 1, int(now * 1000))
        presence = Presence(
            node_id=self._identity.node_id,
            group=group,
            name=self._identity.name,
            version=self._version,
            addresses=where.addresses,
            entrance_addresses=where.entrance_addresses,
            capacity=capacity,
            runs=runs,  # type: ignore[arg-type]
            data_sets=data_sets,
            announced_at=int(now),
            sequence=self._sequence,
        )
        raw = announce(self._identity.keys.node, presence)
        self._newest[group] = trio.current_time(), raw
        return raw
