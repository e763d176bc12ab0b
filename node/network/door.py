"""Who may come in: the door for members, and the bounds of the entrance where strangers knock.

Both networks, the real one and the simulated one, ask the same objects, so that their answers cannot differ.
"""

import ipaddress
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from node.network.conduct import Allowances, Conduct
from node.seams import ENTRANCE_PROTOCOL, StreamClosed, TrafficCounters, Unreachable
from protocol.errors import Refused
from protocol.keys import NodeId
from protocol.limits import (
    ENTRANCE_ATTEMPTS_PER_MINUTE,
    ENTRANCE_PEER_ATTEMPTS_PER_MINUTE,
    ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE,
    ENTRANCE_SOURCE_STREAMS_MAX,
    ENTRANCE_STREAMS_MAX,
    PEER_CONNECTIONS_BURST,
    PEER_CONNECTIONS_MAX,
    PEER_CONNECTIONS_PER_S,
)

_MINUTE_S = 60.0
_COUNTED_MAX = 1024  # addresses, and nodes, whose attempts are counted; of more, those heard of longest ago go
_IPV6_PREFIX_BITS = 64  # what one customer of a provider has at least


def source_of(host: str) -> str:
    """What counts as one place that somebody dials from: an IPv4 address, or a network of IPv6, which has more
    addresses than anybody could count."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, _IPV6_PREFIX_BITS), strict=False))
    return str(address)


class Door:
    """The predicate that says whom we admit, how peers behave, and the counters of what went through. Closed to all
    until `set`, and to a peer that breaks the protocol, for a while.

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._admits: Callable[[NodeId], bool] = lambda _: False
        self._inside: Counter[NodeId] = Counter()
        self._clock = clock
        self._entries = Allowances(PEER_CONNECTIONS_BURST, PEER_CONNECTIONS_PER_S)
        self.counters = TrafficCounters()
        self.conduct = Conduct(clock)

    def set(self, admits: Callable[[NodeId], bool]) -> None:
        self._admits = admits

    def admits(self, peer: NodeId) -> bool:
        return self._admits(peer) and not self.conduct.refuses(peer)

    def check_may_dial(self, peer: NodeId) -> None:
        """Raises Unreachable where we do not let `peer` in ourselves."""
        if trouble := self.conduct.trouble(peer):
            raise Unreachable(f"Node {peer} is not dialled. {trouble}", remedy="wait, and look at what it runs")
        if not self._admits(peer):
            raise Unreachable(f"Node {peer} is in none of our groups", remedy="let it join first")

    def knock(self, peer: NodeId) -> bool:
        """Whether `peer`, who has just proved its name, may come in. A no is counted."""
        if self.admits(peer):
            return True
        self.counters.refused_at_door += 1
        return False

    def enter(self, peer: NodeId) -> bool:
        """As `knock`, for a connection that `peer` has opened; of these it may have a few. After a yes, `leave`."""
        if not self.knock(peer):
            return False
        if self._inside[peer] >= PEER_CONNECTIONS_MAX:
            self.counters.refused_at_door += 1
            self.conduct.fault(peer, "crowding", f"it opened more than {PEER_CONNECTIONS_MAX} connections at once")
            return False
        if not self._may_come_again(peer):
            self.counters.refused_at_door += 1
            return False
        self._inside[peer] += 1
        return True

    def _may_come_again(self, peer: NodeId) -> bool:
        """Whether `peer` does not come and go all the time. It is no fault: its line may be bad."""
        now = self._clock()
        return self._entries.of(peer, now).take(1, now)

    def leave(self, peer: NodeId) -> None:
        """A connection that had come in by `enter` has ended."""
        self._inside -= Counter([peer])

    def handed_over(self, peer: NodeId, protocol: str, size: int, *, came_in: bool = False) -> None:
        """Say that a handler of `protocol` gets `size` bytes of `peer`'s. Call it where that happens, not before.

        Raises StreamClosed when the door was open to `peer` as its stream began (`came_in`), and is not any more."""
        if protocol != ENTRANCE_PROTOCOL and not self.admits(peer):
            if came_in:
                raise StreamClosed(f"{peer} was put out of the group", remedy="nothing to do")
            self.counters.stranger_bytes += size


class PerMinute:
    """Counts attempts of the last minute by who makes them, of so many at once."""

    def __init__(self, attempts_max: int) -> None:
        self._max = attempts_max
        self._attempts: dict[str, deque[float]] = {}

    def may(self, who: str, now: float) -> bool:
        """Whether `who` has an attempt left."""
        attempts = self._attempts.get(who, deque[float]())
        while attempts and attempts[0] <= now - _MINUTE_S:
            attempts.popleft()
        return len(attempts) < self._max

    def note(self, who: str, now: float) -> None:
        attempts = self._attempts.pop(who, None) or deque[float](maxlen=self._max)
        attempts.append(now)
        self._attempts[who] = attempts
        if len(self._attempts) > _COUNTED_MAX:
            del self._attempts[next(iter(self._attempts))]


class Places:
    """So many at once, and of them so many for one source."""

    def __init__(self, places_max: int, source_max: int) -> None:
        self._max, self._source_max = places_max, source_max
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, source: str) -> Iterator[bool]:
        """Hold a place. Gives False, and holds none, where all are taken, or all of the source's."""
        if self._taken.total() >= self._max or self._taken[source] >= self._source_max:
            yield False
            return
        self._taken[source] += 1
        try:
            yield True
        finally:
            self._taken -= Counter([source])


class EntranceBounds:
    """How much of us strangers can have: attempts in a minute, conversations at once; over all of them, and less for
    each source, so that one who floods leaves room for others.

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, counters: TrafficCounters, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self._all = PerMinute(ENTRANCE_ATTEMPTS_PER_MINUTE)
        self._of_source = PerMinute(ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE)
        self._of_peer = PerMinute(ENTRANCE_PEER_ATTEMPTS_PER_MINUTE)
        self._conversations = Places(ENTRANCE_STREAMS_MAX, ENTRANCE_SOURCE_STREAMS_MAX)

    def attempt(self, source: str) -> bool:
        """Whether somebody at `source` may try now. A no is counted, and costs us and others nothing else."""
        now = self._clock()
        if self._of_source.may(source, now) and self._all.may("", now):
            self._of_source.note(source, now)
            self._all.note("", now)
            return True
        self._counters.refused_at_door += 1
        return False

    def attempt_of(self, peer: NodeId) -> bool:
        """As `attempt`, for a stranger that has proved its name."""
        now = self._clock()
        if self._of_peer.may(peer, now):
            self._of_peer.note(peer, now)
            return True
        self._counters.refused_at_door += 1
        return False

    @contextmanager
    def conversation(self, source: str) -> Iterator[None]:
        """Hold one of the entrance's places. Raises Refused when all are taken."""
        with self._conversations.place(source) as held:
            if not held:
                self._counters.refused_at_door += 1
                raise Refused(
                    "entrance-full",
                    f"All {ENTRANCE_STREAMS_MAX} places at the entrance are taken, or all that one address may have",
                    remedy="try again in half a minute",
                )
            yield
