"""Stop, resume and extension: what the group's log asks, and what the chain of checkpoints makes of it. §8.9, §8.14,
§8.15."""

import random
from dataclasses import replace

import pytest
from run_world import IDS, RUN, SCHEMA, Faults, World

from protocol.keys import Hash, NodeId
from protocol.run.checkpoint import Checkpoint, Offer, open_checkpoint
from protocol.run.directions import Directions
from protocol.run.events import Began, Directed, Persist, Train, Trained, WentOn
from protocol.run.machine import RunMachine
from protocol.run.messages import Proposal, RunMessage

SEEDS = range(60)


def machine_of(world: World, index: int = 0) -> RunMachine:
    machine = world.nodes[index].machine
    assert machine is not None
    return machine


def end_of(world: World, index: int = 0) -> tuple[Hash, Checkpoint]:
    held = machine_of(world, index).ledger.committed
    assert held is not None
    return held.name, held.checkpoint


def stopped_world(seed: int, nodes: int = 4, rounds: int = 6, faults: Faults | None = None) -> World:
    world = World(seed, nodes, rounds=rounds, faults=faults)
    world.run(4.0)
    world.direct(Directions(stop="enough"))
    world.run(world.now + 120.0, until_ended=False)
    world.check_ended("stopped")
    return world


def test_a_stopped_run_goes_on_from_its_newest_checkpoint() -> None:
    """§8.14: it has all its rounds, though the stop took a number of its own."""
    world = stopped_world(1)
    name, last = end_of(world)
    trained = last.round - 1
    world.direct(Directions(resumed=frozenset({name})))
    world.run(world.now + 200.0, until_ended=False)
    world.check_ended("finished")
    _, finish = end_of(world)
    assert finish.rounds == 7
    assert finish.round - 1 == 6  # six rounds of training and one stop
    assert 0 < trained < 6


def test_a_finished_run_is_extended() -> None:
    """§8.14: it goes on from its last checkpoint until the new last round."""
    world = World(2, 4, rounds=2)
    world.run(60.0)
    world.check_ended("finished")
    world.direct(Directions(rounds=5))
    world.run(world.now + 120.0, until_ended=False)
    world.check_ended("finished")
    assert end_of(world)[1].round == 5
    assert sorted(world.committed) == [0, 1, 2, 3, 4, 5]


def test_a_run_under_way_is_extended() -> None:
    world = World(3, 4, rounds=3)
    world.run(2.0)
    world.direct(Directions(rounds=6))
    world.run(120.0)
    world.check_ended("finished")
    assert end_of(world)[1].round == 6


def test_one_that_has_not_heard_of_the_extension_does_not_acknowledge_it() -> None:
    """§8.15: two of three voters know, which is a majority; the third follows by the certificate alone."""
    world = World(4, 3, rounds=2)
    world.run(60.0)
    world.direct(Directions(rounds=4), 0, 1)
    world.run(world.now + 200.0, until_ended=False)
    assert all(end_of(world, index)[1].round == 4 for index in range(3))
    assert machine_of(world, 2).context.directions == Directions()
    assert [line.split()[1] for line in world.trace if line.endswith(" WentOn")].count("2") == 1


def test_a_minority_that_has_heard_of_it_commits_nothing() -> None:
    """§8.15: what one node of three makes of the log is not the group's word."""
    world = World(5, 3, rounds=2)
    world.run(60.0)
    world.direct(Directions(rounds=4), 0)
    world.run(world.now + 100.0, until_ended=False)
    assert max(world.committed) == 2


def test_an_extension_that_the_aggregator_alone_has_heard_of_waits() -> None:
    """§8.15: the others acknowledge it once their own copy of the log asks for it, and not before."""
    world = World(10, 4, rounds=6)
    world.run(2.0)
    world.direct(Directions(rounds=8), IDS.index(world.reigns[1]))
    world.run(world.now + 60.0)
    assert {made.rounds for made in world.checkpoints.values()} == {6}
    world.direct(Directions(rounds=8))
    world.run(world.now + 120.0)
    world.check_ended("finished")
    assert end_of(world)[1].round == 8


@pytest.mark.parametrize("seed", range(12))
def test_a_stop_that_is_lifted_while_its_checkpoint_is_on_its_way(seed: int) -> None:
    """§8.14, §8.15: it may be stored here and there; it is committed, ends nothing, and no round is lost."""
    world = World(seed, 3, rounds=6)
    world.run(3.0)
    sent: list[Proposal] = []

    def note(source: int, peer: NodeId, message: RunMessage) -> None:
        if isinstance(message, Proposal) and message.checkpoint:
            made = open_checkpoint(message.checkpoint).body
            if made.outcome == "stopped" and not sent:
                world.direct(Directions(was_stopped=True))
            sent.extend([message] if made.outcome == "stopped" else [])

    world.on_send = note
    world.direct(Directions(stop="a mistake", was_stopped=True))
    world.run(250.0, until_ended=False)
    assert sent
    world.check_ended("finished")
    _, last = end_of(world)
    assert last.round == last.rounds == 7


@pytest.mark.parametrize(
    ("directions", "outcome", "rounds", "allowed"),
    [
        (Directions(), "", 3, True),
        (Directions(), "", 4, False),
        (Directions(), "", 2, False),
        (Directions(rounds=4), "", 4, True),
        (Directions(), "stopped", 4, False),
        (Directions(stop="enough"), "stopped", 4, True),
        (Directions(stop="enough"), "stopped", 9, False),
        (Directions(resumed=frozenset({"a"})), "stopped", 4, True),
    ],
)
def test_what_a_voter_allows(directions: Directions, outcome: str, rounds: int, allowed: bool) -> None:
    """§8.15, case by case, after a checkpoint of a run of three rounds."""
    base = World(6, 3, rounds=3).nodes[0].machine.ledger.zero.checkpoint  # type: ignore[union-attr]
    after = base.model_copy(update={"outcome": outcome, "rounds": rounds})
    assert directions.allow(after, base) is allowed


def test_a_failed_participant_may_try_again_after_a_resumption() -> None:
    world = World(7, 4, rounds=5)
    world.nodes[2].failed_training = True
    world.run(3.0)
    world.direct(Directions(stop="a bug in the data"))
    world.run(world.now + 120.0, until_ended=False)
    world.nodes[2].failed_training = False
    name, _ = end_of(world)
    world.direct(Directions(resumed=frozenset({name})))
    world.run(world.now + 200.0, until_ended=False)
    world.check_ended("finished")
    assert machine_of(world, 2).participation.failed == ""


def test_stop_resume_stop_extend_under_faults() -> None:
    """§8.9, §8.14: whatever is lost, late or killed in between, everybody ends alike, with all the rounds."""
    for seed in SEEDS:
        faults = Faults(
            loss=0.05, repeat=0.05, crash_rate_per_s=0.01, cut_rate_per_s=0.02, crash_at_outputs=True, until_s=150.0
        )
        world = World(seed, 5, rounds=8, faults=faults)
        chance = random.Random(f"directions {seed}")
        directions = Directions()
        for turn in range(4):
            world.run(world.now + chance.uniform(2.0, 25.0), until_ended=False)
            if turn % 2 == 0:
                directions = replace(directions, stop=f"stop {turn}")
            else:
                ends = {h.name for h in _committed(world) if h.checkpoint.outcome == "stopped"}
                directions = replace(directions, stop=None, resumed=directions.resumed | ends, rounds=8 + turn)
            world.direct(directions)
        world.run(170.0, until_ended=False)
        # A stop that the chain had not answered when the next resumption came may have been answered since.
        for _ in range(3):
            ends = {h.name for h in _committed(world) if h.checkpoint.outcome == "stopped"}
            directions = replace(directions, stop=None, resumed=directions.resumed | ends)
            world.direct(directions)
            world.run(world.now + 150.0, until_ended=False)
        world.check_ended("finished")
        _, last = end_of(world)
        assert last.round == last.rounds >= 11, f"seed {seed}"


def _committed(world: World) -> list:  # type: ignore[type-arg]
    held = [node.machine.ledger.committed for node in world.nodes if node.machine]
    return [entry for entry in held if entry is not None]


def test_a_resumption_of_another_stop_changes_nothing() -> None:
    """§8.14: it names the checkpoint from which the run is to go on."""
    world = stopped_world(8)
    rounds = sorted(world.committed)
    world.direct(Directions(resumed=frozenset({"a" * 64})))
    world.run(world.now + 60.0, until_ended=False)
    world.check_ended("stopped")
    assert sorted(world.committed) == rounds


def test_nobody_trains_twice_from_one_base_when_a_run_goes_on() -> None:
    """§8.8, §8.14: one that trained on, was killed, and is back before it hears of it, has its update still."""
    world = World(9, 4, rounds=2)
    world.run(60.0)
    node, more = world.nodes[0], Directions(rounds=4)
    outputs = machine_of(world).step(Directed(more), world.now)
    (train,) = [output for output in outputs if isinstance(output, Train)]
    offer = Offer(
        run=RUN, node=IDS[0], round=train.round, base=train.name, update=SCHEMA, update_bytes=9, samples=10,
        codec="fp32", metrics={},
    )  # fmt: skip
    outputs = machine_of(world).step(Trained(offer), world.now)
    node.journal += [output.record for output in outputs if isinstance(output, Persist)]
    world.boot(node)
    machine = machine_of(world)
    machine.step(Began(), world.now)
    outputs = machine.step(Directed(more), world.now)
    assert [type(output) for output in outputs if isinstance(output, WentOn | Train)] == [WentOn]
    assert machine.participation.offer is not None
    assert machine.participation.offer[1] == offer
