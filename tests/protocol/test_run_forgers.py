"""Lies told to one honest node: forged proposals, certificates and offers, made with keys that really sign. Every kind
stands beside its honest twin, which is taken. docs/protocol.md §6 to §8."""

from typing import Any

import pytest
from run_victims import NODES, OUTSIDER, Gatherer, Victim, ack, collected, commits, signed_offer
from run_world import IDS, KEYS, RUN, ready_note

from protocol.keys import NodeId
from protocol.run.checkpoint import Ack, Issue, UpdateEntry, checkpoint_name, sign_note
from protocol.run.events import (
    Collect,
    Combine,
    Evidence,
    Misbehaved,
    ParticipantState,
    Received,
    Send,
    Timer,
)
from protocol.run.messages import Acknowledgement, Commit, Proposal, ReceiptMessage
from protocol.wire import hash_of


# --- proposals ---------------------------------------------------------------------------------------------------
def test_honest_checkpoint_is_acknowledged() -> None:
    """§8.3, §8.4: the twin of all that follows."""
    assert Victim().acknowledges(Victim().next_checkpoint())


@pytest.mark.parametrize(
    "updates",
    [
        lambda v: (v.entry(0), v.entry(0, update=hash_of(b"second"))),
        lambda v: (v.entry(0), v.entry(1, base=hash_of(b"another base"))),
        lambda v: (v.entry(0), v.entry(1, weight=0)),
        lambda v: (v.entry(0), v.entry(1, weight=10, refused="not-finite")),
        lambda v: (v.entry(0), v.entry(1, round=1)),
        lambda v: (v.entry(0), v.entry(1, run=hash_of(b"another run"))),
        lambda v: (v.entry(0), v.entry(OUTSIDER)),
        lambda v: (v.entry(0), UpdateEntry(offer=b"junk", weight=1, refused="", reason="")),
    ],
    ids=["twice", "other base", "used, no weight", "refused, weight", "other round", "other run", "stranger", "junk"],
)
def test_forged_updates_are_not_acknowledged(updates: Any) -> None:
    """§8.3."""
    victim = Victim()
    assert not victim.acknowledges(victim.next_checkpoint(updates=updates(victim)))


def test_refused_update_may_have_been_learned_from_another_base() -> None:
    """§8.3: that is what it was refused for."""
    victim = Victim()
    other = victim.entry(1, weight=0, refused="wrong-base", base=hash_of(b"another base"))
    assert victim.acknowledges(victim.next_checkpoint(updates=(victim.entry(0), other)))


def test_rosters_grow_only_by_their_own_ready() -> None:
    """§6.4."""
    roster = Victim().committed.checkpoint.roster
    victim = Victim()
    assert not victim.acknowledges(victim.next_checkpoint(roster=(*roster, IDS[OUTSIDER])))
    assert not victim.acknowledges(victim.next_checkpoint(roster=roster[1:]))
    entered = {"roster": (*roster, IDS[OUTSIDER]), "entrants": (ready_note(OUTSIDER),)}
    assert victim.acknowledges(victim.next_checkpoint(**entered))


def test_voters_change_by_one_and_are_of_the_roster() -> None:
    """§8.13."""
    voters = Victim().committed.checkpoint.voters
    assert Victim().acknowledges(Victim().next_checkpoint(voters=voters[:-1]))
    assert not Victim().acknowledges(Victim().next_checkpoint(voters=voters[:-2]))
    assert not Victim().acknowledges(Victim().next_checkpoint(voters=(*voters[:-1], voters[0])))
    assert not Victim().acknowledges(Victim().next_checkpoint(voters=(*voters, IDS[OUTSIDER])))
    assert not Victim().acknowledges(Victim().next_checkpoint(maker=IDS[OUTSIDER]))


def test_issue_that_another_signed_is_not_obeyed() -> None:
    """§7.6: only the aggregator's own word counts."""
    victim = Victim()
    other = next(index for index in range(NODES) if index not in (victim.me, victim.aggregator))
    assert not victim.acknowledges(victim.next_checkpoint(), issuer=other)


def test_second_checkpoint_for_a_committed_round_is_not_acknowledged() -> None:
    """§8.5: not even under a newer term, under which the committed one is acknowledged again (§8.1, §8.2)."""
    victim = Victim()
    committed = victim.committed.checkpoint
    assert not victim.acknowledges(committed.model_copy(update={"model": hash_of(b"another")}), term=2)
    assert victim.acknowledges(committed, term=3)


def test_checkpoint_that_builds_on_another_is_not_acknowledged() -> None:
    """§8.5."""
    victim = Victim()
    other = hash_of(b"another checkpoint")
    entries = (victim.entry(0, base=other), victim.entry(1, base=other))
    assert not victim.acknowledges(victim.next_checkpoint(previous=other, updates=entries))


def test_checkpoint_is_not_issued_before_the_term_that_it_was_made_in() -> None:
    victim = Victim()
    assert not victim.acknowledges(victim.next_checkpoint(made_in_term=2), term=1)


def test_two_issues_for_one_round_and_term_are_evidence() -> None:
    """§8.12."""
    victim = Victim()
    assert victim.acknowledges(victim.next_checkpoint())
    other = victim.next_checkpoint(model=hash_of(b"another"))
    issue = Issue(run=RUN, term=1, round=other.round, checkpoint=checkpoint_name(other))
    key = KEYS[victim.aggregator]
    outputs = victim.step(
        Received(
            IDS[victim.aggregator],
            Proposal(run=RUN, issue=sign_note(key, issue), checkpoint=sign_note(key, other)),
        )
    )
    (evidence,) = [output for output in outputs if isinstance(output, Evidence)]
    assert evidence.second == sign_note(key, issue)
    assert IDS[victim.aggregator] in victim.machine.context.deposed
    assert not any(isinstance(getattr(output, "message", None), Acknowledgement) for output in outputs)


# --- certificates ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("signers", "terms", "changes", "believed"),
    [
        ((0, 1, 2), (1, 1, 1), {}, True),
        ((0, 1, 2, 3), (1, 2, 2, 2), {}, True),
        ((0, 1), (1, 1), {}, False),
        ((0, 1, 0, 1), (1, 1, 1, 1), {}, False),
        ((0, 1, 2, 3), (1, 1, 2, 2), {}, False),
        ((0, 1, OUTSIDER, OUTSIDER + 1), (1, 1, 1, 1), {}, False),
        ((0, 1, 2), (1, 1, 1), {"checkpoint": hash_of(b"another")}, False),
        ((0, 1, 2), (1, 1, 1), {"round": 0}, False),
        ((0, 1, 2), (1, 1, 1), {"run": hash_of(b"another run")}, False),
        ((), (), {}, False),
    ],
)
def test_certificates(
    signers: tuple[int, ...], terms: tuple[int, ...], changes: dict[str, Any], believed: bool
) -> None:
    """§8.6: more than half of the voters, each once, under one term, for this checkpoint of this run."""
    victim = Victim()
    checkpoint = victim.next_checkpoint()
    name = checkpoint_name(checkpoint)
    acks = tuple(
        ack(index, checkpoint.round, name, term, **changes) for index, term in zip(signers, terms, strict=True)
    )
    assert commits(victim, checkpoint, acks) is believed


def test_acknowledgement_in_anothers_name_is_worth_nothing() -> None:
    """§8.6."""
    victim = Victim()
    checkpoint = victim.next_checkpoint()
    name = checkpoint_name(checkpoint)
    forged = sign_note(KEYS[OUTSIDER], Ack(run=RUN, term=1, round=checkpoint.round, checkpoint=name, node=IDS[2]))
    acks = (ack(0, checkpoint.round, name), ack(1, checkpoint.round, name), forged)
    assert not commits(victim, checkpoint, acks)


def test_two_commits_for_one_round_are_evidence() -> None:
    """§8.12: voters have lied, and their signatures prove it; the first stands."""
    victim = Victim()
    committed = victim.committed
    other = committed.checkpoint.model_copy(update={"model": hash_of(b"another")})
    acks = tuple(ack(index, other.round, checkpoint_name(other), 2) for index in range(3))
    raw = sign_note(KEYS[IDS.index(NodeId(other.maker))], other)
    outputs = victim.step(
        Received(IDS[victim.aggregator], Commit(run=RUN, round=other.round, checkpoint=raw, acks=acks, reports=()))
    )
    assert [output.second for output in outputs if isinstance(output, Evidence)] == [raw]
    assert victim.machine.ledger.committed is committed


# --- offers ------------------------------------------------------------------------------------------------------
def test_only_ones_own_offer_counts() -> None:
    """§8.11: what another passes on, is of another run or round, or is not signed, starts nothing."""
    gatherer = Gatherer()
    first, second = gatherer.others[:2]
    relayed = gatherer.offer(first, gatherer.good(second))
    assert "(wrong-sender)" in relayed[0].what  # type: ignore[union-attr]
    assert collected(relayed) == []
    assert collected(gatherer.offer(first, gatherer.good(first, run=hash_of(b"another run")))) == []
    assert collected(gatherer.offer(first, signed_offer(first, 2, gatherer.base))) == []
    assert isinstance(gatherer.offer(first, b"junk")[0], Misbehaved)
    assert collected(gatherer.offer(first, gatherer.good(first))) == [IDS[first]]
    assert collected(gatherer.offer(second, gatherer.good(second))) == [IDS[second]]


def test_second_update_of_one_node_is_refused() -> None:
    """§8.11."""
    gatherer = Gatherer()
    first = gatherer.others[0]
    gatherer.offer(first, gatherer.good(first))
    outputs = gatherer.offer(first, gatherer.good(first, update=hash_of(b"another")))
    assert [type(output) for output in outputs] == [Misbehaved]
    assert "(second-update)" in outputs[0].what  # type: ignore[union-attr]


@pytest.mark.parametrize(("number", "code"), [(0, "too-late"), (2, "wrong-round"), (9, "wrong-round")])
def test_an_offer_for_another_round_is_turned_away_once(number: int, code: str) -> None:
    """§8.11: by name, but it is no part of the round, and shuts out none for it."""
    gatherer = Gatherer()
    first = gatherer.others[0]
    outputs = gatherer.offer(first, gatherer.good(first, round=number))
    assert [type(output) for output in outputs] == [ParticipantState]
    assert f"({code})" in outputs[0].reason  # type: ignore[union-attr]
    assert gatherer.offer(first, gatherer.good(first, round=number)) == []
    assert collected(gatherer.offer(first, gatherer.good(first))) == [IDS[first]]


@pytest.mark.parametrize(
    ("changes", "code"), [({"base": hash_of(b"another")}, "wrong-base"), ({"samples": 0}, "no-samples")]
)
def test_offers_that_break_a_rule_are_refused_by_name(changes: dict[str, Any], code: str) -> None:
    """§8.11: the refusal is told, and stands in the checkpoint."""
    gatherer = Gatherer()
    first, second = gatherer.others[:2]
    outputs = gatherer.offer(first, gatherer.good(first, **changes))
    assert collected(outputs) == []
    assert [output.node for output in outputs if isinstance(output, ParticipantState)] == [IDS[first]]
    (combine,) = [output for output in gatherer.deliver(second) if isinstance(output, Combine)]
    assert [entry.refused for entry in combine.refused] == [code]
    assert len(combine.offers) == 1


def test_who_does_not_train_is_refused() -> None:
    """§6.3, §8.11."""
    gatherer = Gatherer(fraction=0.5)
    idle = next(index for index in range(NODES) if index not in gatherer.trainers)
    outputs = gatherer.offer(idle, gatherer.good(idle))
    assert collected(outputs) == []
    assert any(
        "does not train" in output.reason or "not-chosen" in output.reason
        for output in outputs
        if isinstance(output, ParticipantState)
    )


def test_round_waits_for_the_least_number_of_updates() -> None:
    """§8.7: not even the deadline makes up for missing ones."""
    gatherer = Gatherer(updates_min=2)
    first, second = gatherer.others[:2]
    outputs = gatherer.deliver(first)
    gatherer.now += gatherer.machine.context.settings.round_deadline_s + 1
    outputs += gatherer.machine.step(Timer("round"), gatherer.now)
    assert not [output for output in outputs if isinstance(output, Combine)]
    assert [output for output in gatherer.deliver(second) if isinstance(output, Combine)]


def test_every_collected_update_gets_a_receipt_however_often_it_is_offered() -> None:
    """§8.8."""
    gatherer = Gatherer(updates_min=3)
    first = gatherer.others[0]
    outputs = gatherer.deliver(first)
    assert [output.peer for output in outputs if isinstance(getattr(output, "message", None), ReceiptMessage)] == [
        IDS[first]
    ]
    again = gatherer.offer(first, gatherer.good(first))
    assert [type(output) for output in again if isinstance(output, Send | Collect)] == [Send]
