"""How often people are told that messages of a peer were dropped: who sends nothing else fills no log and no record."""

from collections.abc import Callable

from node.training.worker_output import Bucket
from protocol.keys import NodeId

COMPLAINTS_BURST = 5  # of one peer at once: enough to see what it does
COMPLAINTS_PER_S = 1 / 60  # beyond it: that it goes on
PEERS_MAX = 1024  # of whom it is counted; of more, the one that was complained of first begins anew


class Complaints:
    """Counts, by peer, what is not told. `now`: seconds, never less than before."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: dict[NodeId, Bucket] = {}
        self._untold: dict[NodeId, int] = {}

    def told(self, peer: NodeId, what: str) -> str:
        """What to tell of one more dropped message of `peer`; "" for nothing."""
        if peer not in self._buckets and len(self._buckets) >= PEERS_MAX:
            oldest = next(iter(self._buckets))
            del self._buckets[oldest]
            self._untold.pop(oldest, None)
        bucket = self._buckets.setdefault(peer, Bucket(COMPLAINTS_BURST, COMPLAINTS_PER_S, self._now()))
        if not bucket.take(1, self._now()):
            self._untold[peer] = self._untold.get(peer, 0) + 1
            return ""
        untold = self._untold.pop(peer, 0)
        return f"{what} ({untold} more since the last that was told)" if untold else what
