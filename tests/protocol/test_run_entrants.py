"""Who asks to be taken into a run that goes on: members whom nothing speaks against, as long as there is room.
docs/protocol.md §6.4."""

import pytest
from run_victims import NODES, OUTSIDER, Gatherer, Victim, ack, signed_offer
from run_world import IDS, KEYS, RUN, ready_note

from protocol.run.checkpoint import Issue, UpdateEntry, checkpoint_name, sign_note
from protocol.run.events import Combined, Obtain, Received
from protocol.run.messages import Acknowledgement, Proposal, ReadyMessage
from protocol.wire import hash_of


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


def test_nobody_is_beyond_the_most_that_the_configuration_allows() -> None:
    gatherer = Gatherer(nodes_max=NODES + 1)
    assert asks(gatherer)
    assert not asks(gatherer, OUTSIDER + 1)


@pytest.mark.parametrize(("nodes_max", "is_acknowledged"), [(NODES, False), (NODES + 1, True)])
def test_who_is_taken_in_beyond_that_is_acknowledged_by_nobody(nodes_max: int, is_acknowledged: bool) -> None:
    victim = Victim(nodes_max=nodes_max)
    roster = (*victim.committed.checkpoint.roster, IDS[OUTSIDER])
    entered = victim.next_checkpoint(roster=roster, entrants=(ready_note(OUTSIDER),))
    peer = IDS[victim.aggregator]
    issue = Issue(run=RUN, term=1, round=entered.round, checkpoint=checkpoint_name(entered))
    key = KEYS[victim.aggregator]
    proposal = Proposal(run=RUN, issue=sign_note(key, issue), checkpoint=sign_note(key, entered))
    outputs = victim.step(Received(peer, proposal))
    assert any(isinstance(each, Obtain) for each in outputs) is is_acknowledged


@pytest.mark.parametrize("again", [OUTSIDER, OUTSIDER + 1])
def test_who_asks_while_another_is_being_taken_in_finds_the_room_that_that_one_leaves(again: int) -> None:
    """Else no voter would acknowledge the next checkpoint, and the run would stand still."""
    gatherer = Gatherer(nodes_max=NODES + 1)
    machine = gatherer.machine
    assert asks(gatherer)
    assert len(next_roster(gatherer)) == NODES + 1
    asks(gatherer, again)
    assert machine.reign is not None
    assert machine.reign.proposed is not None
    held, _ = machine.reign.proposed
    for index in gatherer.others:
        answer = Acknowledgement(run=RUN, ack=ack(index, held.checkpoint.round, held.name))
        machine.step(Received(IDS[index], answer), gatherer.now)
    assert machine.ledger.committed_round == 1
    assert next_roster(gatherer) == (*IDS[:NODES], IDS[OUTSIDER])


def test_who_has_left_the_group_since_asking_is_not_taken_in() -> None:
    gatherer = Gatherer()
    assert asks(gatherer)
    gatherer.machine.context.is_member = lambda node: node != IDS[OUTSIDER]
    assert next_roster(gatherer) == tuple(IDS[:NODES])


def next_roster(gatherer: Gatherer) -> tuple[str, ...]:
    """The roster of the checkpoint that is made of the round under way."""
    machine = gatherer.machine
    assert machine.reign is not None
    assert machine.reign.gathering is not None
    gathering = machine.reign.gathering
    raw = signed_offer(gatherer.others[0], gathering.round, gathering.base.name)
    entries = (UpdateEntry(offer=raw, weight=10, refused="", reason=""),)
    model = hash_of(b"model")
    combined = Combined(gathering.round, machine.reign.term, model=model, entries=entries, parameters=7)
    machine.step(combined, gatherer.now)
    assert machine.reign.proposed is not None
    return machine.reign.proposed[0].checkpoint.roster
