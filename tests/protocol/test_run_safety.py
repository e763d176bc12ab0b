"""Runs in a storm, and what elections must withstand: every message and record is held against the sentences of
docs/protocol.md §7 and §8 (run_invariants.py)."""

import os

import pytest
from run_world import IDS, RUN, Broken, Faults, World, play

from protocol.run.checkpoint import open_issue
from protocol.run.election import TERM_LEAP_MAX, Role
from protocol.run.events import Began, Elected, Obtained, Persist, Received, Send, Timer
from protocol.run.journal import TermRecord, read_record
from protocol.run.machine import RunMachine
from protocol.run.messages import (
    Acknowledgement,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    PreVoteRequest,
    Proposal,
    VoteReply,
    VoteRequest,
)

SEEDS = int(os.environ.get("SEEDS", "120"))
PARTS = 6
# Slow disks, messages that come after all that was said since, nodes that hear and are not heard: many elections, and
# many answers to questions that nobody asks any more.
STORM = Faults(
    loss=0.05,
    repeat=0.2,
    delay_s=(0.01, 0.4),
    late=0.1,
    obtain_s=(0.01, 4.0),
    crash_rate_per_s=0.02,
    down_s=(0.5, 10.0),
    cut_rate_per_s=0.1,
    one_way_rate_per_s=0.1,
    crash_at_outputs=True,
    until_s=120,
)


def following(world: World, until_s: float = 2.0) -> tuple[RunMachine, int]:
    """The machine of a voter that follows the aggregator of term 1, and the aggregator's index."""
    world.run(until_s, until_ended=False)
    aggregator = IDS.index(world.reigns[1])
    machine = world.nodes[(aggregator + 1) % len(world.nodes)].machine
    assert machine is not None
    assert machine.election.aggregator == IDS[aggregator]
    return machine, aggregator


def idle_world(seed: int, nodes: int) -> World:
    """A run in which all training fails, so that everybody holds checkpoint 0 and nothing more comes."""
    world = World(seed, nodes)
    for node in world.nodes:
        node.failed_training = True
    return world


@pytest.mark.parametrize("flaps", [1, 4])
def test_a_flapping_node_elects_nobody(flaps: int) -> None:
    """§7.2: who was away and comes back has not raised the term, and the aggregator goes on."""
    world = idle_world(21, 5)
    _, aggregator = following(world, 5.0)
    flapping = (aggregator + 2) % 5
    for _ in range(flaps):
        world.cut = {frozenset((flapping, other)) for other in range(5) if other != flapping}
        world.run(world.now + 60.0, until_ended=False)
        world.cut = set()
        world.run(world.now + 20.0, until_ended=False)
    assert list(world.reigns) == [1]
    assert {node.machine.election.term for node in world.nodes if node.machine} == {1}


def test_a_thawed_node_elects_nobody() -> None:
    """§7.2: a node that stood still for a minute takes its old timers for news; nobody follows it."""
    world = idle_world(22, 5)
    machine, _ = following(world, 5.0)
    frozen = IDS.index(machine.context.me)
    world.frozen = {frozen}
    world.run(65.0, until_ended=False)
    world.frozen = set()
    world.run(100.0, until_ended=False)
    assert list(world.reigns) == [1]


def test_who_alone_hears_no_aggregator_elects_nobody() -> None:
    """§7.5: the others hear the aggregator, and grant nothing, so the term does not rise."""
    world = idle_world(23, 5)
    machine, aggregator = following(world, 5.0)
    world.one_way_cut = {(aggregator, IDS.index(machine.context.me))}
    world.run(120.0, until_ended=False)
    world.one_way_cut = set()
    world.run(140.0, until_ended=False)
    assert list(world.reigns) == [1]
    assert machine.election.term == 1


def test_no_vote_while_an_aggregator_lives() -> None:
    """§7.5: neither the vote nor the newer term is taken, as long as the aggregator was heard just now."""
    world = idle_world(24, 5)
    machine, aggregator = following(world)
    candidate = next(node for node in machine.context.voters if node not in (machine.context.me, IDS[aggregator]))
    request = VoteRequest(run=RUN, term=2, stored_term=2, stored_round=9)
    outputs = machine.step(Received(candidate, request), world.now)
    assert [output.message for output in outputs if isinstance(output, Send)] == [
        VoteReply(run=RUN, term=1, granted=False)
    ]
    late = world.now + machine.context.settings.election_timeout_s + 0.1
    outputs = machine.step(Received(candidate, request), late)
    kinds = [type(output).__name__ for output in outputs]
    assert kinds.index("Persist") < kinds.index("Send")
    assert VoteReply(run=RUN, term=2, granted=True) in [getattr(output, "message", 0) for output in outputs]
    records = [read_record(output.record) for output in outputs if isinstance(output, Persist)]
    assert records[-1] == TermRecord(term=2, voted_for=candidate)


@pytest.mark.parametrize(
    ("terms", "rounds", "granted"),
    [(0, 0, True), (0, 1, True), (1, -1, True), (0, -1, False), (-1, 9, False), (-1, 0, False)],
)
def test_votes_go_by_term_and_round_the_term_first(terms: int, rounds: int, granted: bool) -> None:
    """§7.7: the candidate's checkpoint is so much newer, or older, than the voter's."""
    world = World(25, 5, rounds=40)
    machine, aggregator = following(world, 5.0)
    term, number = machine.election.stored
    assert number >= 1
    candidate = next(node for node in machine.context.voters if node not in (machine.context.me, IDS[aggregator]))
    stored = {"stored_term": term + terms, "stored_round": number + rounds}
    later = world.now + 60.0
    for request in (PreVoteRequest(run=RUN, term=7, **stored), VoteRequest(run=RUN, term=7, **stored)):
        outputs = machine.step(Received(candidate, request), later)
        assert [out.message.granted for out in outputs if isinstance(out, Send)] == [granted]  # type: ignore[union-attr]


def test_only_this_terms_votes_of_voters_elect() -> None:
    """§7.2, §7.10: what comes late from an earlier term, and what others than voters say, counts for nothing."""
    world = World(28, 5)
    machine = world.nodes[0].machine
    assert machine is not None
    others = [node for node in machine.context.voters if node != machine.context.me]
    machine.step(Began(), 0.0)
    for term, at in ((1, 10.0), (2, 20.0)):
        machine.step(Timer("election"), at)
        for peer in (IDS[20], IDS[21], IDS[22]):
            machine.step(Received(peer, PreVoteReply(run=RUN, term=term, granted=True)), at)
        for peer in others:
            machine.step(Received(peer, PreVoteReply(run=RUN, term=term + 1, granted=True)), at)
        assert (machine.election.role, machine.election.term) == (Role.ASKING, term - 1)
        for peer in others[:2]:
            machine.step(Received(peer, PreVoteReply(run=RUN, term=term, granted=True)), at)
        assert (machine.election.role, machine.election.term) == (Role.CANDIDATE, term)
    for peer in others:
        machine.step(Received(peer, VoteReply(run=RUN, term=1, granted=True)), 20.1)
    for peer in (IDS[20], IDS[21], IDS[22]):
        machine.step(Received(peer, VoteReply(run=RUN, term=2, granted=True)), 20.1)
    for peer in (others[0], others[0]):
        machine.step(Received(peer, VoteReply(run=RUN, term=2, granted=True)), 20.1)
    assert machine.election.role is Role.CANDIDATE
    machine.step(Received(others[1], VoteReply(run=RUN, term=2, granted=True)), 20.2)
    assert machine.election.role is Role.AGGREGATOR


def test_who_may_vote_one_day_does_not_count_today() -> None:
    """§7.11: all nodes answer a candidate, and it counts those who are voters of its newest stored checkpoint."""
    world = World(30, 5)
    voters = world.nodes[0].machine.context.voters  # type: ignore[union-attr]
    machine = world.nodes[IDS.index(voters[0])].machine
    assert machine is not None
    machine.context.voters = voters[:3]
    machine.step(Began(), 0.0)
    machine.step(Timer("election"), 10.0)
    for peer in voters[3:]:
        machine.step(Received(peer, PreVoteReply(run=RUN, term=1, granted=True)), 10.0)
    assert machine.election.role is Role.ASKING
    machine.step(Received(voters[1], PreVoteReply(run=RUN, term=1, granted=True)), 10.0)
    assert machine.election.role is Role.CANDIDATE
    for peer in voters[3:]:
        machine.step(Received(peer, VoteReply(run=RUN, term=1, granted=True)), 10.1)
    assert machine.election.role is Role.CANDIDATE
    machine.step(Received(voters[2], VoteReply(run=RUN, term=1, granted=True)), 10.1)
    assert machine.election.role is Role.AGGREGATOR


def test_heartbeats_of_an_earlier_term_are_answered_with_the_newer_one() -> None:
    """§7.6."""
    world = idle_world(26, 5)
    machine, aggregator = following(world)
    candidate = next(node for node in machine.context.voters if node not in (machine.context.me, IDS[aggregator]))
    request = VoteRequest(run=RUN, term=5, stored_term=2, stored_round=0)
    later = world.now + 60.0
    machine.step(Received(candidate, request), later)
    old = Heartbeat(run=RUN, term=1, committed_round=0, committed="", opened=True, states="")
    outputs = machine.step(Received(IDS[aggregator], old), later)
    replies = [output.message for output in outputs if isinstance(output, Send)]
    assert [reply.term for reply in replies if isinstance(reply, HeartbeatReply)] == [5]
    assert not [output for output in outputs if isinstance(output, Elected)]
    assert machine.election.aggregator is None


def test_nobody_uses_up_the_numbers_of_terms() -> None:
    """§7.4, §7.6: a term that no honest node can have reached is not taken over, and who claims it is not obeyed."""
    world = idle_world(29, 5)
    machine, aggregator = following(world)
    liar = next(node for node in machine.context.voters if node not in (machine.context.me, IDS[aggregator]))
    far, later = machine.election.term + TERM_LEAP_MAX + 1, world.now + 60.0
    machine.step(Timer("election"), later)
    assert machine.election.aggregator is None
    for message in (
        VoteRequest(run=RUN, term=far, stored_term=far, stored_round=9),
        VoteReply(run=RUN, term=far, granted=True),
        PreVoteReply(run=RUN, term=far, granted=False),
        HeartbeatReply(run=RUN, term=far, committed_round=0, state="R"),
        Heartbeat(run=RUN, term=far, committed_round=0, committed="", opened=True, states=""),
    ):
        outputs = machine.step(Received(liar, message), later)
        assert not [output for output in outputs if isinstance(output, Persist | Elected)]
        assert machine.election.term == 1
        assert machine.election.aggregator is None


def test_a_proposal_whose_term_passed_while_it_was_fetched_is_not_acknowledged() -> None:
    """§8.4: the term is looked at again when the last chunk is durable."""
    world = World(27, 5, rounds=40)
    machine, aggregator = following(world, 4.0)
    proposals: list[Proposal] = []
    world.on_send = lambda _, peer, message: (
        proposals.append(message) if isinstance(message, Proposal) and peer == machine.context.me else None
    )
    me = IDS.index(machine.context.me)
    world.one_way_cut = {(other, me) for other in range(5)}
    world.run(world.now + 4.0, until_ended=False)
    term, stored = machine.election.term, machine.ledger.stored.checkpoint.round
    newest = next(message for message in proposals if open_issue(message.issue).body.round == stored + 1)
    outputs = machine.step(Received(IDS[aggregator], newest), world.now)
    (obtain,) = [output for output in outputs if type(output).__name__ == "Obtain"]
    candidate = next(node for node in machine.context.voters if node not in (machine.context.me, IDS[aggregator]))
    request = VoteRequest(run=RUN, term=term + 1, stored_term=term, stored_round=stored)
    machine.step(Received(candidate, request), world.now + 60.0)
    assert machine.election.term == term + 1
    outputs = machine.step(Obtained(obtain.name, True), world.now + 60.0)
    assert not [output for output in outputs if isinstance(getattr(output, "message", None), Acknowledgement)]
    assert machine.ledger.stored.checkpoint.round == stored


@pytest.mark.parametrize("part", range(PARTS))
def test_storm(part: int) -> None:
    """§7.1, §7.3, §7.4, §7.10, §8.1, §8.4, §8.5, §8.6, §8.8: whatever the weather, and thousands of seeds with SEEDS=…,
    the record of a promise is durable before the promise is given, and no honest node is said to misbehave."""
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        try:
            world = play(seed, (3, 5, 4, 2, 7)[seed % 5], STORM, rounds=12)
        except Broken as broken:
            raise AssertionError(f"seed {seed}: {broken}") from None
        assert not world.misbehaved, f"seed {seed}"
        assert not world.evidence, f"seed {seed}"
