"""What a run's nodes were busy with, as frozen values, and which rounds of it are looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

from tui.facts.fields import Json, items, measure, moment, number, text

ROUNDS_SHOWN = 3  # at first: so many that one sees a rhythm, and can still tell what is what
ROUNDS_SHOWN_MAX = 24
ROUNDS_TOGETHER = 4  # spans are asked for in blocks of rounds, so that each new one does not ask for all anew


@dataclass(frozen=True, slots=True)
class Span:
    """One node's kind of work in one round. Times in seconds since 1970, by that node's clock."""

    node_id: str
    round: int
    name: str
    began: float
    ended: float


def spans_of(answer: Json) -> tuple[Span, ...]:
    """What an answer of /v1/runs/{run}/spans has; what has no beginning or no length is left out."""
    found = []
    for source in items(answer, "spans"):
        began, seconds = moment(source, "started_at"), measure(source, "seconds")
        if began is not None and seconds is not None and 0 <= seconds < 1e9:
            at = began.timestamp()
            found.append(Span(text(source, "node_id"), number(source, "round"), text(source, "name"), at, at + seconds))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Rounds:
    """Which rounds are looked at: `count` of them up to `last`; without it up to the newest."""

    last: int | None = None
    count: int = ROUNDS_SHOWN

    def ends(self, newest: int) -> tuple[int, int]:
        """The first and the last of them, where `newest` is the one under way."""
        last = min(max(self.last or newest, 1), max(newest, 1))
        return max(last - self.count + 1, 1), last

    def moved(self, step: int, newest: int) -> "Rounds":
        last = max(self.ends(newest)[1] + step, 1)
        return Rounds(None if last >= newest else last, self.count)

    def widened(self, more: int) -> "Rounds":
        return Rounds(self.last, min(max(self.count + more, 1), ROUNDS_SHOWN_MAX))

    def block(self, newest: int) -> tuple[int, int]:
        """What to ask for: after which round, and before which."""
        first, last = self.ends(newest)
        return (first - 1) // ROUNDS_TOGETHER * ROUNDS_TOGETHER, last + 1

    def among(self, spans: Sequence[Span], newest: int) -> tuple[Span, ...]:
        first, last = self.ends(newest)
        return tuple(span for span in spans if first <= span.round <= last)
