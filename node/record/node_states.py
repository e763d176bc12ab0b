"""Which of our nodes' comings and goings are put on record. Pure: what it is told, and when, are arguments.

A peer whose link flaps, or that comes and goes on purpose, costs at most EVENTS_PER_HOUR_MAX rows an hour: beyond them
its states are passed over until the hour has room again, and then the one it is in by then is recorded.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

HERE, AWAY, STARTED, STOPPED = "HERE", "AWAY", "STARTED", "STOPPED"
EVENTS_PER_HOUR_MAX = 12  # of one node: 288 rows a day at the very worst, 20 kB
FIRST_LOOKS_S = 30.0  # of our own life: until then a node that is not here yet need not be away
_HOUR_S = 3600.0


class Entry(NamedTuple):
    """A node went into a state."""

    node: str
    state: str
    reason: str


class NodeStates:
    """Compares what is so with what was recorded last.

    Args:
        recorded: the state recorded last of each node, and when, in seconds since 1970.
        since: when our own node started.
    """

    def __init__(self, recorded: Mapping[str, tuple[str, float]], since: float) -> None:
        self._recorded = dict(recorded)
        self._since = since
        self._lately: dict[str, deque[float]] = {}

    def look(self, here: Iterable[tuple[str, bool]], now: float) -> list[Entry]:
        """What is to be recorded now, given each node and whether it is here. `now`: seconds since 1970."""
        entries = []
        for node, is_here in here:
            state = HERE if is_here else AWAY
            before, at = self._recorded.get(node, ("", now))
            if state == before or (not is_here and (not before or now - self._since < FIRST_LOOKS_S)):
                continue  # of a node that was never here there is nothing to say
            if self._has_room(node, now):
                reason = f"after {_duration(now - at)}" if before else ""
                self._recorded[node] = (state, now)
                entries.append(Entry(node, state, reason))
        return entries

    def _has_room(self, node: str, now: float) -> bool:
        lately = self._lately.setdefault(node, deque())
        while lately and now - lately[0] >= _HOUR_S:
            lately.popleft()
        if len(lately) >= EVENTS_PER_HOUR_MAX:
            return False
        lately.append(now)
        return True


def start_entry(node: str, recorded: Mapping[str, tuple[str, float]]) -> Entry:
    """That our own node has started; whether it had been stopped in good order before, its last state tells."""
    before, _ = recorded.get(node, ("", 0.0))
    return Entry(node, STARTED, "had not been stopped in order" if before == STARTED else "")


def _duration(seconds: float) -> str:
    """In the largest unit that is at least one, for people."""
    for unit, name in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0.0):.0f} s"
