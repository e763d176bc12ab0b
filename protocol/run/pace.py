"""How long a round waits for the slow: a fixed time, or one that follows from how fast updates came of late.

docs/protocol.md §8.19. Who takes three times as long as the middle one of the others is not worth everybody's waiting.
"""

from collections import deque
from collections.abc import Iterable
from statistics import median

STRAGGLER_FACTOR = 3.0
_ROUNDS_REMEMBERED = 5  # enough to even out one odd round, few enough to follow a change of load


def adaptive_deadline_s(medians_s: Iterable[float], least_s: float, most_s: float) -> float:
    """The deadline after rounds whose median update came after so many seconds each; `most_s` before the first."""
    known = sorted(medians_s)
    return min(most_s, max(least_s, STRAGGLER_FACTOR * median(known))) if known else most_s


class Pace:
    """One reign's measurements. `least_s` None: the deadline does not adapt."""

    def __init__(self, least_s: float | None, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._medians_s: deque[float] = deque(maxlen=_ROUNDS_REMEMBERED)
        self._arrivals_s: list[float] = []

    def on_update(self, after_s: float) -> None:
        """An update was collected so long after its round was opened."""
        self._arrivals_s.append(after_s)

    def next_deadline_s(self) -> float:
        """Close the round that was measured, and give the deadline of the next."""
        if self._arrivals_s:
            self._medians_s.append(median(self._arrivals_s))
            self._arrivals_s = []
        if self._least_s is None:
            return self._most_s
        return adaptive_deadline_s(self._medians_s, self._least_s, self._most_s)
