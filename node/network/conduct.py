"""How peers behave: what no honest node does is counted against the neighbour that did it, and too much of it shuts the
door for a while.

Charged is only what the neighbour itself must have made: a frame on its own stream, bytes of a blob that it had to
verify before. What somebody else may have written and it merely passed on (gossip, an operation, a statement within a
message), and what a restart or an old copy explains, is dropped and never charged.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

from protocol.keys import NodeId
from protocol.limits import (
    FAULT_FORGIVEN_PER_S,
    FAULT_SCORE_MAX,
    PEER_CONTROL_BYTES_BURST,
    PEER_CONTROL_BYTES_PER_S,
    PEER_FRAMES_BURST,
    PEER_FRAMES_PER_S,
    PEER_MEMBERSHIP_BYTES_BURST,
    PEER_MEMBERSHIP_BYTES_PER_S,
    REFUSALS_FORGOTTEN_S,
    REFUSE_FIRST_S,
    REFUSE_LAST_S,
)

log = logging.getLogger("fednode.network")

PEERS_MAX = 4096  # of whom it is remembered, as many as the largest group has; of more, the longest blameless go

Fault = Literal["malformed", "false-data", "crowding", "flood", "overrun"]
# Ten bad messages within a minute or so; four floods; two of what nothing but malice explains.
WEIGHTS: dict[Fault, float] = {
    "malformed": 10.0,  # a frame of its own that is too long, is no message, or speaks in another's name
    "false-data": 10.0,  # bytes that are not the blob's: a source verifies them before it sends
    "crowding": 5.0,  # a connection more than it may have: who dials many addresses of ours at once may do it once
    "flood": 25.0,  # as many control messages beyond the rate as a whole burst has
    "overrun": 50.0,  # more streams or unread bytes than any node has use for
}


class Allowance:
    """So much at once, and so much a second in the long run; beyond it there is debt. Time in seconds is handed in."""

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._level, self._at = burst, now

    def _refill(self, now: float) -> None:
        self._level = min(self._burst, self._level + (now - self._at) * self._per_s)
        self._at = now

    def spend(self, amount: float, now: float) -> float:
        """Take `amount` in any case. Gives the seconds to wait until there is no debt."""
        self._refill(now)
        self._level -= amount
        return max(0.0, -self._level / self._per_s)

    def take(self, amount: float, now: float) -> bool:
        """Take `amount`, if there is so much."""
        self._refill(now)
        if self._level < amount:
            return False
        self._level -= amount
        return True


class Allowances:
    """One for each peer, for so many of them as matter: of more, the one that came first is forgotten."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._of: dict[Hashable, Allowance] = {}

    def of(self, peer: Hashable, now: float) -> Allowance:
        found = self._of.get(peer)
        if found is None:
            if len(self._of) >= PEERS_MAX:
                del self._of[next(iter(self._of))]
            found = self._of[peer] = Allowance(self._burst, self._per_s, now)
        return found

    def forget(self, peer: Hashable) -> None:
        self._of.pop(peer, None)


@dataclass(slots=True)
class _Standing:
    """What is held against one peer. Times by the clock."""

    score: float = 0.0
    at: float = 0.0
    refusals: int = 0
    refused_until: float = 0.0
    why: str = ""


class Conduct:
    """The faults of each peer, and who is refused for them.

    Args:
        clock: gives the time in seconds, never less than before.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._standings: dict[NodeId, _Standing] = {}
        self._frames = Allowances(PEER_FRAMES_BURST, PEER_FRAMES_PER_S)
        self._bytes = Allowances(PEER_CONTROL_BYTES_BURST, PEER_CONTROL_BYTES_PER_S)
        self._dear_bytes = Allowances(PEER_MEMBERSHIP_BYTES_BURST, PEER_MEMBERSHIP_BYTES_PER_S)
        self._beyond: dict[NodeId, int] = {}
        self.on_refusal: Callable[[NodeId], None] = lambda peer: None

    def fault(self, peer: NodeId, fault: Fault, what: str) -> None:
        """Count `fault` against `peer`; at FAULT_SCORE_MAX refuse it for a while, and have it hung up on."""
        now = self._clock()
        standing = self._standings.pop(peer, None) or _Standing(at=now)
        self._standings[peer] = standing
        if len(self._standings) > PEERS_MAX:
            del self._standings[next(iter(self._standings))]
        passed = now - standing.at
        if passed > REFUSALS_FORGOTTEN_S:
            standing.refusals = 0
        standing.score = max(0.0, standing.score - passed * FAULT_FORGIVEN_PER_S) + WEIGHTS[fault]
        standing.at = now
        if standing.score >= FAULT_SCORE_MAX and standing.refused_until <= now:
            self._refuse(peer, standing, now, f"{fault}: {what}")

    def _refuse(self, peer: NodeId, standing: _Standing, now: float, why: str) -> None:
        seconds = min(REFUSE_FIRST_S * 2.0**standing.refusals, REFUSE_LAST_S)
        standing.refusals += 1
        standing.score = 0.0
        standing.refused_until = now + seconds
        standing.why = why[:300]
        log.warning("%s breaks the protocol and is refused for %.0f s: %s", peer, seconds, standing.why)
        self.on_refusal(peer)

    def refuses(self, peer: NodeId) -> bool:
        standing = self._standings.get(peer)
        return standing is not None and standing.refused_until > self._clock()

    def trouble(self, peer: NodeId) -> str:
        """Why `peer` is refused now and for how long yet, in a sentence; "" for one who is not."""
        standing = self._standings.get(peer)
        if standing is None or (left := standing.refused_until - self._clock()) <= 0:
            return ""
        return f"It broke the protocol and is refused for {left:.0f} s more ({standing.why})"

    def heard(self, peer: NodeId, size: int, *, is_of_run: bool) -> float:
        """A control message of `size` bytes came from `peer`; what is not of a run is dear to check. Gives the seconds
        to wait before it is taken in, and the next is read."""
        now = self._clock()
        pause = max(self._frames.of(peer, now).spend(1, now), self._bytes.of(peer, now).spend(size, now))
        if not is_of_run:
            pause = max(pause, self._dear_bytes.of(peer, now).spend(size, now))
        if not pause:
            self._beyond.pop(peer, None)
            return 0.0
        self._beyond[peer] = self._beyond.get(peer, 0) + 1
        if self._beyond[peer] >= PEER_FRAMES_BURST:
            del self._beyond[peer]
            self.fault(peer, "flood", f"{PEER_FRAMES_BURST} control messages beyond {PEER_FRAMES_PER_S} a second")
        return pause
