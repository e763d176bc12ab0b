"""Who may come in: the door for members, and the bounds of the entrance where strangers knock.

Both networks, the real one and the simulated one, ask the same two objects, so that their answers cannot differ.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from node.seams import ENTRANCE_PROTOCOL, StreamClosed, TrafficCounters
from protocol.errors import Refused
from protocol.keys import NodeId
from protocol.limits import ENTRANCE_ATTEMPTS_PER_MINUTE, ENTRANCE_STREAMS_MAX

_MINUTE_S = 60.0


class Door:
    """The predicate that says whom we admit, and the counters of what went through. Closed to all until `set`."""

    def __init__(self) -> None:
        self._admits: Callable[[NodeId], bool] = lambda _: False
        self.counters = TrafficCounters()

    def set(self, admits: Callable[[NodeId], bool]) -> None:
        self._admits = admits

    def admits(self, peer: NodeId) -> bool:
        return self._admits(peer)

    def knock(self, peer: NodeId) -> bool:
        """Whether `peer`, who has just proved its name, may come in. A no is counted."""
        if self._admits(peer):
            return True
        self.counters.refused_at_door += 1
        return False

    def handed_over(self, peer: NodeId, protocol: str, size: int, *, came_in: bool = False) -> None:
        """Say that a handler of `protocol` gets `size` bytes of `peer`'s. Call it where that happens, not before.

        Raises StreamClosed when the door was open to `peer` as its stream began (`came_in`), and is not any more."""
        if protocol != ENTRANCE_PROTOCOL and not self._admits(peer):
            if came_in:
                raise StreamClosed(f"{peer} was put out of the group", remedy="nothing to do")
            self.counters.stranger_bytes += size


class EntranceBounds:
    """How much of us strangers can have, over all strangers: attempts in a minute, conversations at once.

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, counters: TrafficCounters, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self._attempts: deque[float] = deque()
        self._conversations = 0

    def attempt(self) -> bool:
        """Whether one more stranger may try now. A no is counted, and costs us nothing else."""
        now = self._clock()
        while self._attempts and self._attempts[0] <= now - _MINUTE_S:
            self._attempts.popleft()
        if len(self._attempts) >= ENTRANCE_ATTEMPTS_PER_MINUTE:
            self._counters.refused_at_door += 1
            return False
        self._attempts.append(now)
        return True

    @contextmanager
    def conversation(self) -> Iterator[None]:
        """Hold one of the entrance's places. Raises Refused when all are taken."""
        if self._conversations >= ENTRANCE_STREAMS_MAX:
            self._counters.refused_at_door += 1
            raise Refused(
                "entrance-full",
                f"All {ENTRANCE_STREAMS_MAX} places at the entrance are taken",
                remedy="try again in half a minute",
            )
        self._conversations += 1
        try:
            yield
        finally:
            self._conversations -= 1
