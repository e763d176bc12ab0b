"""How often a node's state is recorded: one that flaps must not fill the record, which keeps states for good.

What is too often waits: the newest of it is recorded once there is room, with the next round, or when the run ends.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from node.training.worker_output import Bucket

# Of one node at once and in every round: an honest one has four states in a round, and two more whenever it is lost.
STATES_BURST = 20
STATES_PER_S = 1 / 60  # beyond it: of one that comes and goes for hours without a round, it is seen to the minute


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's state, as it is recorded."""

    node: str
    state: str
    reason: str
    round: int


class StateGate:
    """Says of nodes' states whether they are recorded now, or later."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: dict[str, Bucket] = {}
        self._held: dict[str, NodeState] = {}

    def passes(self, state: NodeState) -> bool:
        """Whether to record it now; otherwise it is held in place of an older one of its node."""
        bucket = self._buckets.setdefault(state.node, Bucket(STATES_BURST, STATES_PER_S, self._now()))
        if bucket.take(1, self._now()):
            self._held.pop(state.node, None)
            return True
        self._held[state.node] = state
        return False

    def open(self) -> None:
        """A round is over, or the run: everybody begins anew."""
        self._buckets.clear()

    def due(self) -> Iterator[NodeState]:
        """What was held and passes now."""
        yield from [state for state in list(self._held.values()) if self.passes(state)]
