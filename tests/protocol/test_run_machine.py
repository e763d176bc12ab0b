"""The run machine under a seeded network. docs/protocol.md §6 to §8."""

import os

import pytest
from run_world import IDS, Broken, Faults, World, play

from protocol.run.directions import Directions
from protocol.run.messages import AskCommit, Heartbeat, Proposal

SEEDS = int(os.environ.get("SEEDS", "300"))
HARD = Faults(
    loss=0.1,
    repeat=0.1,
    delay_s=(0.01, 0.8),
    crash_rate_per_s=0.03,
    cut_rate_per_s=0.02,
    crash_at_outputs=True,
    until_s=60,
)


def test_clean_run_commits_every_round_in_the_first_term() -> None:
    """§6.1, §7.9: the first in rank stands first; §8.9: the last round's checkpoint ends the run."""
    world = play(1, 5, Faults())
    assert list(world.reigns) == [1]
    assert world.reigns[1] == world.nodes[0].machine.context.voters[0]  # type: ignore[union-attr]
    assert world.trainings == 5 * 3
    assert not world.misbehaved
    assert not world.evidence


def test_every_node_has_everybodys_measurements() -> None:
    world = play(2, 5, Faults())
    by_node = {index: sum(1 for i, _ in world.measured if i == index) for index in range(5)}
    assert by_node == dict.fromkeys(range(5), 5 * 4)  # five nodes' reports on checkpoints 0 to 3


def test_same_seed_same_trace() -> None:
    assert play(7, 5, HARD).trace == play(7, 5, HARD).trace


@pytest.mark.parametrize("part", range(6))
def test_faults(part: int) -> None:
    """§7.1, §7.3, §8.5, §8.6: loss, delay, repetition, reordering, cuts and crashes at any output, thousands of seeds
    with SEEDS=…; no two aggregators a term, no second vote, one commit a round, and the run ends everywhere."""
    for seed in range(part * SEEDS // 6, (part + 1) * SEEDS // 6):
        try:
            play(seed, (2, 3, 4, 5, 7)[seed % 5], HARD, rounds=4)
        except Broken as broken:
            raise AssertionError(f"seed {seed}: {broken}") from None


def test_lost_aggregator_is_replaced_and_its_round_finished_without_training_again() -> None:
    """§8.8: the updates that participants hold finish the round."""
    world = World(3, 5, rounds=3)
    world.run(2.0, until_ended=False)
    aggregator = IDS.index(world.reigns[1])
    trained = world.trainings
    assert trained >= 5
    world.nodes[aggregator].machine = None
    world.nodes[aggregator].epoch += 1
    while 2 not in world.reigns:
        world.run(world.now + 1.0, until_ended=False)
    assert world.now < 2.0 + 5.0 + 5.0
    rounds = max(world.committed)
    world.run(world.now + 120.0, until_ended=False)
    survivors = [node for node in world.nodes if node.index != aggregator]
    assert all(node.ended == "finished" for node in survivors)
    assert world.trainings <= trained + 4 * (3 - rounds)


def test_minority_commits_nothing_and_rejoins() -> None:
    """§7.8: an aggregator that is cut off with a minority steps down; §8.6: it commits nothing."""
    world = World(4, 5, rounds=60)
    world.run(2.0)
    aggregator = IDS.index(world.reigns[1])
    minority = {aggregator, (aggregator + 1) % 5}
    world.cut = {frozenset((a, b)) for a in minority for b in range(5) if b not in minority}
    before = {index: world.nodes[index].machine.ledger.committed_round for index in minority}  # type: ignore[union-attr]
    world.run(30.0)
    for index in minority:
        machine = world.nodes[index].machine
        assert machine is not None
        assert machine.ledger.committed_round <= before[index] + 1
        assert machine.reign is None
    assert max(world.committed) > max(before.values()) + 3
    world.cut = set()
    world.run(400.0)
    world.check_ended("finished")


def test_run_of_two_pauses_while_one_is_away() -> None:
    world = World(5, 2, rounds=20)
    world.run(3.0)
    world.crash(world.nodes[1], 60.0)
    world.run(50.0)
    paused_at = max(world.committed)
    world.run(60.0)
    assert max(world.committed) == paused_at
    world.run(300.0)
    world.check_ended("finished")


def test_stop_is_an_entry_of_the_chain() -> None:
    """§8.9: all nodes end alike."""
    world = World(6, 4, rounds=50)
    world.run(3.0)
    world.direct(Directions(stop="enough"))
    world.run(60.0)
    world.check_ended("stopped")
    newest = world.nodes[0].machine.ledger.newest  # type: ignore[union-attr]
    assert (newest.outcome, newest.reason, newest.updates) == ("stopped", "enough", ())


def test_a_failed_node_is_not_waited_for() -> None:
    """§8.7: the round goes on without one whose training failed."""
    world = World(8, 4, rounds=3)
    world.nodes[2].failed_training = True
    world.run(60.0)
    world.check_ended("finished")
    assert max(at for at, _ in world.commit_times) < 15.0


def test_an_aggregator_that_cannot_combine_makes_way() -> None:
    """§8.21: the run is finished by another, and from the updates that are there."""
    world = World(9, 4, rounds=3)
    first = IDS.index(world.nodes[0].machine.context.voters[0])  # type: ignore[union-attr]
    world.nodes[first].cannot_combine = True
    world.run(120.0)
    world.check_ended("finished")
    assert max(at for at, _ in world.commit_times) < 60.0
    assert world.trainings == 4 * 3
    newest = world.nodes[0].machine.ledger.newest  # type: ignore[union-attr]
    assert newest.maker != IDS[first]


def test_a_dead_node_is_waited_for_only_until_it_counts_as_lost() -> None:
    world = World(9, 4, rounds=3)
    world.nodes[3].machine = None
    world.nodes[3].epoch += 1
    world.run(200.0, until_ended=False)
    assert sorted(world.committed) == [0, 1, 2, 3]
    assert max(at for at, _ in world.commit_times) < 40.0


def test_fraction_trains_the_chosen_only() -> None:
    """§6.3."""
    world = play(10, 5, Faults(), rounds=4, fraction=0.4)
    assert world.trainings == 2 * 4


def test_late_node_gets_the_end_from_those_who_saw_it() -> None:
    """§8.10."""
    world = World(11, 4, rounds=2)
    world.run(0.5, until_ended=False)
    world.crash(world.nodes[3], 100.0)
    world.run(200.0)
    world.check_ended("finished")


def test_strangers_and_forgers_change_nothing() -> None:
    """§7.6, §8.4: what comes from no voter, or is not signed by whom it should be, is dropped by name."""
    world = World(12, 4, rounds=30)
    world.run(3.0)
    machine = world.nodes[1].machine
    assert machine is not None
    from protocol.run.events import Misbehaved, Received

    term, stranger = machine.election.term, IDS[20]
    heartbeat = Heartbeat(
        run=machine.context.run, term=term + 5, committed_round=99, committed="ab" * 32, opened=True, states=""
    )
    machine.step(Received(stranger, heartbeat), world.now)
    assert machine.election.term == term
    proposal = Proposal(run=machine.context.run, issue=b"junk", checkpoint=b"junk")
    outputs = machine.step(Received(IDS[2], proposal), world.now)
    assert any(isinstance(output, Misbehaved) and output.peer == IDS[2] for output in outputs)
    assert machine.step(Received(stranger, AskCommit(run=machine.context.run, have_round=99)), world.now) == []
    world.run(200.0)
    world.check_ended("finished")


def test_a_term_far_ahead_is_not_believed() -> None:
    """§7.4: a voter that lies cannot use up the terms."""
    world = World(13, 4, rounds=4)
    world.run(1.0)
    machine = world.nodes[0].machine
    assert machine is not None
    from protocol.run.events import Received, Timer
    from protocol.run.messages import HeartbeatReply, VoteRequest

    term, liar = machine.election.term, IDS[2]
    run = machine.context.run
    machine.step(Received(liar, VoteRequest(run=run, term=2**53, stored_term=9, stored_round=9)), world.now)
    machine.step(Received(liar, HeartbeatReply(run=run, term=2**53, committed_round=0, state="T")), world.now)
    machine.step(
        Received(liar, Heartbeat(run=run, term=2**53, committed_round=0, committed="", opened=False, states="")),
        world.now,
    )
    machine.step(Timer("election"), world.now + 60.0)
    assert machine.election.term in (term, term + 1)
    world.run(60.0)
    world.check_ended("finished")
