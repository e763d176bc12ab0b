"""Which commit may be taken without its server state, what such a one is not acknowledged for, and what comes of one
that is had twice. §8.1, §8.4, §8.6."""

from typing import Any

import pytest
from run_victims import OUTSIDER, Gatherer, Victim
from run_world import IDS, KEYS, RUN
from test_run_rules import certificate

from protocol.keys import Hash
from protocol.run.checkpoint import Checkpoint, Issue, checkpoint_name, sign_note
from protocol.run.directions import Directions
from protocol.run.events import Committed, Obtain, Obtained, Received, RunOutput, Send, Timer
from protocol.run.messages import Acknowledgement, Commit, Proposal
from protocol.wire import hash_of


def last_of(victim: Victim, **changes: Any) -> Checkpoint:
    number = victim.committed.checkpoint.round + 1
    state = hash_of(b"state")
    return victim.next_checkpoint(outcome="finished", rounds=number, server_state=state, **changes)


def told(victim: Victim, checkpoint: Checkpoint) -> list[RunOutput]:
    raw = sign_note(KEYS[victim.aggregator], checkpoint)
    acks = certificate(checkpoint, 0, 1, 2)
    return victim.step(
        Received(IDS[OUTSIDER], Commit(run=RUN, round=checkpoint.round, checkpoint=raw, acks=acks, reports=()))
    )


def tries(victim: Victim, name: Hash, count: int) -> list[tuple[bool, bool]]:
    """Of so many tries in vain: whether each was for the whole, and whether the state might be lacking."""
    found = []
    for _ in range(count):
        victim.step(Obtained(name, False))
        (wanted,) = (each for each in victim.step(Timer("obtain")) if isinstance(each, Obtain))
        found.append((wanted.previous is None, wanted.may_lack_state))
    return found


@pytest.mark.parametrize("is_last", [True, False])
def test_what_ends_the_run_is_had_without_its_state_where_all_else_was_in_vain(is_last: bool) -> None:
    """§8.6: whoever goes on from a checkpoint needs its state."""
    victim = Victim()
    checkpoint = last_of(victim) if is_last else victim.next_checkpoint(server_state=hash_of(b"state"))
    (first,) = (each for each in told(victim, checkpoint) if isinstance(each, Obtain))
    assert not first.may_lack_state
    found = tries(victim, checkpoint_name(checkpoint), 5)
    assert found == [(False, False), (True, is_last), (False, False), (False, False), (True, is_last)]


def test_what_was_had_without_its_state_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.4, §8.6: whoever proposes it anew meanwhile hears of it when all of it is here."""
    monkeypatch.setattr(Directions, "allow", lambda *arguments: True)  # a run of fewer rounds is another test's matter
    victim = Victim()
    checkpoint, peer = last_of(victim), IDS[victim.aggregator]
    name = checkpoint_name(checkpoint)
    told(victim, checkpoint)
    assert tries(victim, name, 2)[-1] == (True, True)
    issue = Issue(run=RUN, term=1, round=checkpoint.round, checkpoint=name)
    raw = sign_note(KEYS[victim.aggregator], checkpoint)
    proposal = Proposal(run=RUN, issue=sign_note(KEYS[victim.aggregator], issue), checkpoint=raw)
    (wanted,) = (each for each in victim.step(Received(peer, proposal)) if isinstance(each, Obtain))
    assert not wanted.may_lack_state
    outputs = victim.step(Obtained(name, True, may_lack_state=True))
    assert any(isinstance(each, Committed) for each in outputs)
    assert not acknowledged(outputs)
    assert acknowledged(victim.step(Obtained(name, True)))


def acknowledged(outputs: list[RunOutput]) -> bool:
    return any(isinstance(each, Send) and isinstance(each.message, Acknowledgement) for each in outputs)


def test_an_aggregator_that_has_its_checkpoint_twice_keeps_the_updates_of_the_round() -> None:
    """§8.1: it may have been on its way twice, before its reign and for it. Who has a receipt offers no more, and would
    take an update that is left out for a lie."""
    gatherer = Gatherer()
    reign = gatherer.machine.reign
    assert reign is not None
    gathering = reign.gathering
    gatherer.deliver(gatherer.others[0])
    assert not gatherer.machine.step(Obtained(gatherer.base, True), gatherer.now)
    assert reign.proposed is None
    assert reign.gathering is gathering
