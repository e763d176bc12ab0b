"""What the run view asks of a run, as questions of the local API: bounded, and the same ones from look to look.

A question that is the same as before needs no second answer until its stamp changes. So what moves on with the rounds
is asked for in blocks.
"""

from collections.abc import Callable
from typing import NamedTuple

from tui.drawing.axes import Frame
from tui.facts.asks import Ask, asking
from tui.facts.curves import Kind, points_of
from tui.facts.runs import Run
from tui.facts.spans import Rounds

ROUNDS_BLOCK = 500  # of these the newest one or two are asked for; the local API has the others
UPDATES_ASKED = 1_000  # the newest; of fifty nodes those of twenty rounds
EVENTS_ASKED = 500
SPANS_ASKED = 20_000  # of the rounds looked at, some 4 MB; a page ends with a round
POINTS_IN_PART = 1_200  # of each curve, where a part of the run is looked at closely


class RunAsks(NamedTuple):
    """The questions about one run as it is now."""

    rounds: Ask
    updates: Ask
    timeline: Ask
    manifest: Ask
    spans: Callable[[Rounds], Ask]
    part: Callable[[Kind, Frame], Ask | None]


def run_asks(run: Run) -> RunAsks:
    """The questions about this run."""
    id = run.run_id
    newest = run.round if run.ended else run.round + 1
    after = (run.round // ROUNDS_BLOCK - 1) * ROUNDS_BLOCK

    def spans(rounds: Rounds) -> Ask:
        first, last = rounds.block(newest)
        before = last if last <= newest else None  # up to the newest round the question stays the same
        return asking("runs", id, "spans", after_round=first, before_round=before, limit=SPANS_ASKED)

    def part(kind: Kind, frame: Frame) -> Ask | None:
        if frame.axis != "round" or frame.low is None or frame.high is None:
            return None
        size = 1
        while size < frame.high - frame.low:
            size *= 2
        first, last = int(frame.low // size) * size, int(frame.high // size + 1) * size
        return points_of(id, kind, POINTS_IN_PART, after_round=first - 1, before_round=last + 1)

    return RunAsks(
        asking("runs", id, "rounds", after_round=after if after > 0 else None),
        asking("runs", id, "updates", limit=UPDATES_ASKED),
        asking("runs", id, "timeline", limit=EVENTS_ASKED),
        asking("runs", id),
        spans,
        part,
    )
