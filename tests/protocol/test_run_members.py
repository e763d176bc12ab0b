"""A run that shrinks and grows: lost voters leave one at a time, others move up, who is back is taken in again."""

import os

import pytest
from run_world import IDS, KEYS, RUN, Broken, Faults, World, play, ready_note

from protocol.run.events import Began, Ended, Measured, Received, Send, Timer
from protocol.run.machine import RunMachine
from protocol.run.messages import ReadyMessage
from protocol.run.succession import next_voters

SEEDS = int(os.environ.get("SEEDS", "120"))
CHURN = Faults(
    loss=0.1, repeat=0.1, delay_s=(0.01, 0.8), crash_rate_per_s=0.03, down_s=(1.0, 40.0), cut_rate_per_s=0.02,
    crash_at_outputs=True, until_s=60,
)  # fmt: skip


def voters_of(world: World, index: int) -> tuple[str, ...]:
    machine = world.nodes[index].machine
    assert machine is not None
    return machine.ledger.newest.voters


@pytest.mark.parametrize(
    ("voters", "gone", "candidates", "expected"),
    [
        ("abcde", "", "abcde", "abcde"),
        ("abcde", "bd", "ace", "acde"),  # one at a time
        ("abc", "b", "ac", "abc"),  # never below three by shrinking …
        ("abc", "b", "acf", "abcf"),  # … but another may come first
        ("abcf", "b", "acf", "acf"),
        ("ab", "b", "a", "ab"),
        ("abc", "", "abcf", "abcf"),
    ],
)
def test_voters_change_by_one(voters: str, gone: str, candidates: str, expected: str) -> None:
    """§8.13."""
    assert "".join(next_voters(voters, set(gone), candidates)) == expected  # type: ignore[arg-type]


def test_a_run_outlives_the_loss_of_most_nodes_one_after_the_other() -> None:
    """§8.13: four of seven are lost for good, one after the other; each time a majority is left of who then votes."""
    world = World(1, 7, rounds=400, leave_after_s=10.0, lost_after_s=4.0)
    world.run(3.0)
    for index in (6, 5, 4, 3):
        world.nodes[index].machine = None
        world.nodes[index].epoch += 1
        world.run(world.now + 45.0)
    alive = [node.index for node in world.nodes if node.machine is not None]
    assert len(alive) == 3
    before = max(world.invariants.committed)
    world.run(world.now + 10.0)
    assert max(world.invariants.committed) > before
    assert set(voters_of(world, alive[0])) == {IDS[index] for index in alive}


def test_who_was_put_out_is_taken_in_again() -> None:
    """§6.4, §8.13: with its own signed ready, by the next checkpoint; who missed many changes is shown them all."""
    world = World(2, 6, rounds=600, leave_after_s=6.0, lost_after_s=3.0)
    world.run(3.0)
    for index in (4, 5):
        world.crash(world.nodes[index], 60.0)
    world.run(50.0)
    assert len(voters_of(world, 0)) == 4
    world.run(110.0)
    newest = world.nodes[0].machine.ledger.newest  # type: ignore[union-attr]
    assert set(newest.roster) == set(IDS[:6])
    assert set(newest.voters) == set(IDS[:6])
    assert voters_of(world, 5) == voters_of(world, 0)


def test_a_newly_elected_aggregator_asks_voters_that_know_older_ones() -> None:
    """§7.11: its election is among the voters that it holds itself."""
    world = World(3, 5, rounds=600, leave_after_s=6.0, lost_after_s=3.0)
    world.run(3.0)
    world.crash(world.nodes[4], 30.0)
    world.run(60.0)
    aggregator = next(node for node in world.nodes if node.machine is not None and node.machine.reign is not None)
    world.crash(aggregator, 200.0)
    before = max(world.invariants.committed)
    world.run(100.0)
    assert max(world.invariants.committed) > before + 3


@pytest.mark.parametrize("part", range(3))
def test_churn(part: int) -> None:
    """§8.13 with §7 and §8 whole: at most one aggregator a term, one commit a round, majorities of the right voters."""
    for seed in range(part * SEEDS // 3, (part + 1) * SEEDS // 3):
        try:
            play(seed, (3, 4, 5, 6, 7)[seed % 5], CHURN, rounds=12, leave_after_s=8.0, lost_after_s=4.0)
        except Broken as broken:
            raise AssertionError(f"seed {seed}: {broken}") from None


def test_who_asks_after_the_end_learns_of_the_end() -> None:
    """§8.10: it is not taken in, asks no more, and fetches nothing."""
    world = World(4, 4, rounds=2)
    world.run(60.0)
    world.check_ended("finished")
    outsider = RunMachine(
        me=IDS[9], key=KEYS[9], run=RUN, start=world.start, starter=IDS[0], settings=world.settings,
        jitter=lambda: 0.5, entry=ready_note(9),
    )  # fmt: skip
    outsider.step(Began(), world.now)
    asked = [output for output in outsider.step(Timer("election"), world.now + 60.0) if isinstance(output, Send)]
    assert any(isinstance(output.message, ReadyMessage) for output in asked)
    voter = world.nodes[IDS.index(asked[0].peer)].machine
    assert voter is not None
    answers = voter.step(Received(IDS[9], asked[0].message), world.now + 60.0)
    told = outsider.step(
        Received(asked[0].peer, next(o.message for o in answers if isinstance(o, Send))), world.now + 61.0
    )
    assert {type(output) for output in told} == {Ended, Measured}
    assert outsider.step(Timer("election"), world.now + 120.0) == []
