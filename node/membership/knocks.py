"""When to knock again at an entrance that turned this node away: ever less often, so that neither end's log fills."""

from collections.abc import Callable, Collection

from protocol.keys import GroupId, NodeId

# Whoever turned us away may have been behind, and hears better soon; whoever put us out says the same for ever.
KNOCK_FIRST_S, KNOCK_LAST_S = 5.0, 600.0


class Knocks:
    """Of one node. `now`: seconds, never less than before. `last_s`: the longest pause."""

    def __init__(self, now: Callable[[], float], last_s: float = KNOCK_LAST_S) -> None:
        self._now = now
        self._last_s = last_s
        self._next: dict[tuple[GroupId, NodeId], tuple[float, float]] = {}  # when, and how long we waited for that

    def may(self, group: GroupId, peer: NodeId) -> bool:
        return self._now() >= self._next.get((group, peer), (0.0, 0.0))[0]

    def turned_away(self, group: GroupId, peer: NodeId) -> None:
        """It did, just now: the pause doubles."""
        _, before = self._next.get((group, peer), (0.0, 0.0))
        pause = min(max(2 * before, KNOCK_FIRST_S), self._last_s)
        self._next[group, peer] = self._now() + pause, pause

    def keep(self, group: GroupId, peers: Collection[NodeId]) -> None:
        """Forget all others of the group."""
        self._next = {key: pause for key, pause in self._next.items() if key[0] != group or key[1] in peers}

    def welcomed(self, group: GroupId, peer: NodeId | None = None) -> None:
        """`peer` let us in, or, without one, somebody has: knock at once where that is needed."""
        for key in [key for key in self._next if key[0] == group and peer in (None, key[1])]:
            del self._next[key]
