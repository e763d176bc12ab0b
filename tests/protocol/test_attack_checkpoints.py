"""What a liar may try in the fields of a checkpoint that no sum decides, and in offers that nobody asked for.
docs/protocol.md §8.3, §8.7, §8.9, §8.15, §8.18."""

from typing import Any

import pytest
from run_victims import OUTSIDER, Gatherer, Victim, signed_offer
from run_world import IDS, KEYS, RUN, World

from protocol.checkpoint import Checkpoint, Issue, UpdateEntry, checkpoint_name, sign_note
from protocol.directions import Directions
from protocol.keys import NodeId
from protocol.run_events import Directed, Obtained, Received, Recompute, Recomputed
from protocol.run_messages import Acknowledgement, Heartbeat, OfferMessage, Proposal, RunMessage
from protocol.wire import hash_of

EVIL = hash_of(b"evil")


def is_acknowledged(victim: Victim, made: Checkpoint) -> bool:
    """Whether the victim acknowledges what its aggregator issues, has obtained it, and finds the sum right."""
    peer, name = IDS[victim.aggregator], checkpoint_name(made)
    issue = Issue(run=RUN, term=1, round=made.round, checkpoint=name)
    raw = sign_note(KEYS[victim.aggregator], made)
    proposal = Proposal(run=RUN, issue=sign_note(KEYS[victim.aggregator], issue), checkpoint=raw)
    outputs = victim.step(Received(peer, proposal)) + victim.step(Obtained(name, True))
    if any(isinstance(output, Recompute) for output in outputs):
        outputs += victim.step(Recomputed(name, ""))
    return any(isinstance(getattr(output, "message", None), Acknowledgement) for output in outputs)


def _far_entry(victim: Victim) -> UpdateEntry:
    number = victim.committed.checkpoint.round + 2
    return UpdateEntry(offer=signed_offer(0, number, EVIL), weight=10, refused="", reason="")


def test_the_honest_one_is_acknowledged() -> None:
    victim = Victim(audit="full")
    assert is_acknowledged(victim, victim.next_checkpoint())


@pytest.mark.parametrize(
    "changes",
    [
        {"updates": (), "model": EVIL, "difference": EVIL},  # a model out of nothing, which nobody can recompute
        {"updates": ()},
        {"outcome": "failed", "reason": "a lie"},  # nobody honest ever makes one, and nothing resumes it
    ],
)
def test_a_round_without_updates_and_a_failure_are_never_acknowledged(changes: dict[str, Any]) -> None:
    victim = Victim(audit="full")
    assert not is_acknowledged(victim, victim.next_checkpoint(**changes))


@pytest.mark.parametrize(
    ("changes", "is_right"),
    [
        ({}, True),
        ({"model": EVIL}, False),
        ({"model": EVIL, "difference": EVIL}, False),
        ({"server_state": EVIL}, False),
        ({"rounds": 0}, False),
        ({"voters": tuple(IDS[:3])}, False),
        ({"roster": tuple(IDS[:3]), "voters": tuple(IDS[:3])}, False),
    ],
)
def test_a_stop_changes_nothing_but_the_length_of_the_run(changes: dict[str, Any], is_right: bool) -> None:
    victim = Victim(audit="full")
    victim.step(Directed(Directions(stop="enough")))
    base = victim.committed.checkpoint
    stop: dict[str, Any] = {
        "updates": (),
        "model": base.model,
        "server_state": base.server_state,
        "difference": "",
        "exponents": (),
        "parts": (),
        "outcome": "stopped",
        "rounds": base.rounds + 1,
    }
    assert is_acknowledged(victim, victim.next_checkpoint(**{**stop, **changes})) is is_right


def test_a_stranger_cannot_stall_a_run_by_offering() -> None:
    """An update of a node that is not in the roster must not get into the checkpoint, not even as refused (§8.3)."""
    world = World(3, 4, rounds=3)

    def offer(source: int, _: NodeId, message: RunMessage) -> None:
        machine = world.nodes[source].machine
        if isinstance(message, Heartbeat) and machine and machine.reign and machine.reign.gathering:
            gathering = machine.reign.gathering
            raw = signed_offer(OUTSIDER, gathering.round, gathering.base.name)
            world._push(world.now + 0.01, source, Received(IDS[OUTSIDER], OfferMessage(run=RUN, offer=raw)))

    world.on_send = offer
    world.run(300.0)
    world.check_ended("finished")


@pytest.mark.parametrize("number", [0, 1])
def test_a_strangers_offer_is_nothing_to_an_aggregator(number: int) -> None:
    gatherer = Gatherer(late_are_used=True)
    gathering = gatherer.machine.reign.gathering  # type: ignore[union-attr]
    assert gathering is not None
    gatherer.offer(OUTSIDER, signed_offer(OUTSIDER, number, gatherer.base))
    assert not gathering.refused
    assert not gathering.offers


@pytest.mark.parametrize("audit", ["none", "full"])
@pytest.mark.parametrize("outcome", ["", "stopped"])
def test_no_round_is_leapt_over(audit: str, outcome: str) -> None:
    """§8.5: what builds on a checkpoint that is not committed here is not acknowledged before that one is known."""
    victim = Victim(audit=audit)
    base = victim.committed.checkpoint
    offers = () if outcome else (_far_entry(victim),)
    made = victim.next_checkpoint(
        round=base.round + 2, previous=EVIL, model=EVIL, difference=EVIL, updates=offers, outcome=outcome
    )
    assert not is_acknowledged(victim, made)
