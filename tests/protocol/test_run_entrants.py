"""Who asks to be taken into a run that goes on: members whom nothing speaks against, as long as there is room.
docs/protocol.md §6.4."""

import pytest
from run_victims import OUTSIDER, Gatherer
from run_world import IDS, RUN, ready_note

from protocol import reign
from protocol.run_events import Received
from protocol.run_messages import ReadyMessage


def asks(gatherer: Gatherer, index: int = OUTSIDER) -> bool:
    """Whether the aggregator remembers the one who asks."""
    gatherer.machine.step(Received(IDS[index], ReadyMessage(run=RUN, ready=ready_note(index))), gatherer.now)
    assert gatherer.machine.reign is not None
    return IDS[index] in gatherer.machine.reign.entrants


def test_a_member_is_to_be_taken_in() -> None:
    assert asks(Gatherer())


def test_who_is_no_member_is_not() -> None:
    gatherer = Gatherer()
    gatherer.machine.context.is_member = lambda node: node != IDS[OUTSIDER]
    assert not asks(gatherer)


def test_who_was_proven_to_lie_is_not() -> None:
    gatherer = Gatherer()
    gatherer.machine.context.deposed[IDS[OUTSIDER]] = "two checkpoints"
    assert not asks(gatherer)


def test_who_is_in_already_is_not() -> None:
    assert not asks(Gatherer(), 1)


def test_nobody_is_beyond_the_most_that_a_roster_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    gatherer = Gatherer()
    monkeypatch.setattr(reign, "ROSTER_NODES_MAX", len(gatherer.machine.ledger.roster()) + 1)
    assert asks(gatherer)
    assert not asks(gatherer, OUTSIDER + 1)
