"""A node that misses the commit which used its update learns of it before it trains again: docs/protocol.md §8.27."""

from pathlib import Path
from typing import Any

import pytest
import trio
from hostile_ground import CONFIGURATION, HostileGround, Life, on_hostile_ground
from test_run_methods import SCAFFOLD, assert_common_is_mean

from node.api.service.service import LogsQuery
from node.run.carried import MISSED_WAIT_S
from node.run.driver import RunDriver
from node.run.history import RunHistory
from protocol.keys import RunId
from protocol.run.checkpoint import open_offer
from simulations.training.trainer import InProcessSession, InProcessTrainer

NODES = 4
TIMING = "[timing]\nlost_after_s = 4.0\nleave_after_s = 4000.0\n[round]\ndeadline_s = 50.0\n"


def driver_of(life: Life, run: RunId) -> RunDriver | None:
    known = life.node.runs.known.get(run)
    return known.driver if known is not None else None


async def cut_off_while_it_is_used(
    ground: HostileGround, keys: str, *, rounds: int, restart: bool = False
) -> tuple[RunId, list[Life], Life, int]:
    """A run in which one node's update is used while that is cut off, until two commits later. Gives also
    this node, which is not the aggregator, and the round."""
    lives = await ground.group(NODES)
    text = CONFIGURATION.format(name="run", rounds=rounds, nodes=NODES, audit="none", join_deadline_s=600.0)
    text = text.replace('codec = "fp32"', keys) + TIMING
    run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])

    def aggregator() -> Life | None:
        drivers = [driver_of(life, run) for life in lives]
        leaders = {driver.machine.election.aggregator if driver else None for driver in drivers}
        return next((life for life in lives if {life.node.identity.node_id} == leaders), None)

    await ground.settled(aggregator, "an aggregator")
    leader = aggregator()
    assert leader is not None
    driver = driver_of(leader, run)
    victim = next(life for life in lives if life is not leader)
    me = victim.node.identity.node_id
    assert driver is not None

    def collected() -> int:
        gathering = driver.machine.reign.gathering if driver.machine.reign else None
        return gathering.round if gathering and gathering.round >= 2 and me in gathering.collected else 0

    while not collected():
        await trio.sleep(0.01)  # virtual time: between this and the commit there is more
    at = collected()
    ground.world.partition([[me], [life.node.identity.node_id for life in lives if life is not victim]])
    await ground.settled(lambda: driver.machine.ledger.committed_round >= at, "the commit")
    entries = [(open_offer(entry.offer).body.node, entry.weight) for entry in driver.machine.ledger.newest.updates]
    assert [weight for node, weight in entries if node == me and weight]
    await ground.settled(lambda: driver.machine.ledger.committed_round >= at + 1, "two commits")
    if restart:
        await ground.restart(victim)
    ground.world.heal()
    return run, lives, victim, at


@pytest.mark.parametrize("restart", [False, True])
def test_the_common_control_stays_the_mean_of_the_nodes_own(restart: bool, tmp_path: Path) -> None:
    """§8.27. Though the node was cut off, or even started again, before it heard of the commit."""

    async def test(ground: HostileGround) -> None:
        run, lives, _, _ = await cut_off_while_it_is_used(ground, SCAFFOLD, rounds=9, restart=restart)
        known = (await ground.ended(run, lives))[0]
        await assert_common_is_mean(lives, run, known)

    on_hostile_ground(tmp_path, test)


def test_what_was_used_counts_before_the_next_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.27, for a codec's losses."""
    done: list[tuple[str, str, int]] = []
    follow(monkeypatch, done)

    async def test(ground: HostileGround) -> None:
        run, lives, victim, at = await cut_off_while_it_is_used(ground, 'codec = "int8"', rounds=9)
        await ground.ended(run, lives)
        mine = [(what, number) for folder, what, number in done if folder == victim.folder.name]
        assert mine.count(("trained", at)) == 1
        next_training = next(i for i, (what, number) in enumerate(mine) if what == "trained" and number > at)
        assert mine[next_training][1] > at + 1
        assert ("used", at) in mine[:next_training]

    on_hostile_ground(tmp_path, test)


def test_what_nobody_tells_in_time_is_said_and_not_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§8.27. The others answer nothing about the past, for the longest time."""
    done: list[tuple[str, str, int]] = []
    follow(monkeypatch, done)
    looked: list[float] = []

    async def ask_one(self: RunHistory, *_: Any) -> bool:
        looked.append(trio.current_time())
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(RunHistory, "_ask_one", ask_one)

    async def test(ground: HostileGround) -> None:
        run, lives, victim, at = await cut_off_while_it_is_used(ground, 'codec = "int8"', rounds=9)
        for known in await ground.ended(run, lives):
            assert known.driver is not None
            assert known.driver.machine.ledger.newest.outcome == "finished"
        mine = [(what, number) for folder, what, number in done if folder == victim.folder.name]
        assert ("used", at) not in mine
        assert sum(what == "trained" and number > at for what, number in mine) >= 2
        assert looked
        page = await victim.node.service.logs(run, LogsQuery(level="WARNING"))
        said = [row["message"] for row in page.lines if "nobody has told this node" in row["message"]]
        assert len(said) == 1
        assert f"what round {at} used" in said[0]
        assert MISSED_WAIT_S <= 60  # a round's deadline, for most

    on_hostile_ground(tmp_path, test)


def follow(monkeypatch: pytest.MonkeyPatch, done: list[tuple[str, str, int]]) -> None:
    """Note, in order, what each node trains, and what of it counts: its folder, which of the two, the round."""
    carry_on, train = InProcessTrainer.carry_on, InProcessSession.train

    async def carrying(self: InProcessTrainer, run_id: str, round_number: int, update: Any, *, used: bool) -> None:
        if used:
            done.append((self._directory.name, "used", round_number))
        await carry_on(self, run_id, round_number, update, used=used)

    async def training(self: InProcessSession, round_number: int, *arguments: Any) -> Any:
        done.append((self._state.parent.name, "trained", round_number))
        return await train(self, round_number, *arguments)

    monkeypatch.setattr(InProcessTrainer, "carry_on", carrying)
    monkeypatch.setattr(InProcessSession, "train", training)
