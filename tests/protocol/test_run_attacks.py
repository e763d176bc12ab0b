"""What a liar may try in the fields of a checkpoint that no sum decides, and in offers that nobody asked for.
docs/protocol.md §8.3, §8.7, §8.9, §8.15, §8.18."""

from typing import Any

import pytest
from run_victims import OUTSIDER, Gatherer, Victim, collected, signed_offer
from run_world import IDS, KEYS, RUN, World, ready_note

from protocol.keys import NodeId
from protocol.run.checkpoint import Ack, Checkpoint, Issue, UpdateEntry, checkpoint_name, sign_note
from protocol.run.directions import Directions
from protocol.run.events import Directed, Obtained, Received, Recompute, Recomputed
from protocol.run.messages import Acknowledgement, Heartbeat, OfferMessage, Proposal, RunMessage
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


@pytest.mark.parametrize("is_bound", [True, False])
def test_who_is_no_members_node_is_not_taken_in(is_bound: bool) -> None:
    """§6.4: else a liar takes in keys of its own until they are most of the voters."""
    victim = Victim()
    victim.machine.context.is_member = lambda node: is_bound or node != IDS[OUTSIDER]
    base = victim.committed.checkpoint
    roster = (*base.roster, IDS[OUTSIDER])
    made = victim.next_checkpoint(roster=roster, entrants=(ready_note(OUTSIDER),))
    assert is_acknowledged(victim, made) is is_bound


def test_a_usurper_is_not_believed_while_the_aggregator_lives() -> None:
    """§7.6: neither its heartbeat nor its term; once nobody is heard, whoever was elected is."""
    victim = Victim()
    machine = victim.machine
    usurper = next(node for node in machine.context.voters if node not in (machine.context.me, IDS[victim.aggregator]))

    def heartbeat(node: NodeId, term: int) -> None:
        said = Heartbeat(run=RUN, term=term, committed_round=0, committed="", opened=True, states="")
        victim.step(Received(node, said))

    heartbeat(IDS[victim.aggregator], 1)
    heartbeat(usurper, 2)
    assert (machine.election.aggregator, machine.election.term) == (IDS[victim.aggregator], 1)
    victim.now += machine.context.settings.election_timeout_s + 1
    heartbeat(usurper, 2)
    assert (machine.election.aggregator, machine.election.term) == (usurper, 2)


def test_an_aggregator_whose_proposal_nobody_can_fetch_makes_way() -> None:
    """§8.21: after a round's deadline; the round is then another's, from the updates that are there."""
    world = World(12, 4, rounds=2, round_deadline_s=8.0)
    first = world.nodes[0].machine.context.voters[0]  # type: ignore[union-attr]
    obtain = world._obtain

    def never_from_the_first(node: Any, name: Any, checkpoint: Checkpoint, sources: Any) -> None:
        if checkpoint.round and checkpoint.maker == first and IDS[node.index] != first:
            world.answer(node, Obtained(name, False), (0.1, 0.2))
        else:
            obtain(node, name, checkpoint, sources)

    world._obtain = never_from_the_first  # type: ignore[method-assign]
    world.run(200.0)
    world.check_ended("finished")
    assert len(set(world.reigns.values())) > 1


def test_a_stranger_is_not_obeyed_when_the_aggregator_is_silent() -> None:
    """§7.6: whoever never was ready to vote does not reign."""
    victim = Victim()
    election = victim.machine.election
    victim.now += victim.machine.context.settings.election_timeout_s + 1
    before = (election.aggregator, election.term)
    said = Heartbeat(run=RUN, term=election.term + 1, committed_round=0, committed="", opened=True, states="")
    victim.step(Received(IDS[OUTSIDER], said))
    assert (election.aggregator, election.term) == before


def test_a_strangers_late_offer_is_nothing_to_an_aggregator() -> None:
    """§8.3, §8.20: it would fit, were it of a node of the roster."""
    victim = Victim(late_are_used=True)
    machine = victim.world.nodes[victim.aggregator].machine
    assert machine is not None
    while machine.reign is None or machine.reign.gathering is None:
        victim.world.run(victim.world.now + 0.05, until_ended=False)
    base = machine.reign.gathering.base.checkpoint
    assert base.round >= 1
    raw = signed_offer(OUTSIDER, base.round, base.previous)
    assert collected(machine.step(Received(IDS[OUTSIDER], OfferMessage(run=RUN, offer=raw)), victim.world.now)) == []


def test_acknowledgements_of_an_earlier_term_count_for_nothing() -> None:
    """§8.1: whoever issues a checkpoint again needs a majority in its own term."""
    gatherer = Gatherer()
    machine = gatherer.machine
    reign, held = machine.reign, machine.ledger.committed
    assert reign is not None
    assert held is not None
    reign.proposed, reign.acks = (held, b""), {}
    peer = next(node for node in machine.context.voters if node != machine.context.me)
    for term in (reign.term - 1, reign.term):
        ack = Ack(run=RUN, term=term, round=held.checkpoint.round, checkpoint=held.name, node=peer)
        reign.on_ack(peer, sign_note(KEYS[IDS.index(peer)], ack))
        assert (peer in reign.acks) is (term == reign.term)
