"""A node that missed a run's last commit has its model, though the others have let go of what the round needed."""

import math
from pathlib import Path

import pytest
import trio
from hostile_ground import CONFIGURATION, HostileGround, on_hostile_ground

from node.record.retention import Retention
from protocol.keys import BlobId, RunId
from protocol.run.machine import RunMachine
from simulations.nodes.simulated_node import virtual_now
from tracker.retention import DAY_S


def test_the_model_is_had_whole_where_its_difference_has_gone(tmp_path: Path) -> None:
    """docs/protocol.md §8.6"""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        run = await ground.propose(lives[0], rounds=6, nodes=4)
        await ground.settled(lambda: _rounds(ground, run) == [5] * 4, "the last round")
        leader = _machine(ground, 0, run).election.aggregator
        victim = next(life for life in lives if life.node.identity.node_id != leader)
        others = [life for life in lives if life is not victim]
        ground.world.partition([[victim.node.identity.node_id], [life.node.identity.node_id for life in others]])
        await ground.ended(run, others)
        last = _machine(ground, others[0].number, run).ledger.newest
        assert _machine(ground, victim.number, run).ledger.newest.round == last.round - 1
        for life in others:
            await life.node.disk.delete_blob(BlobId(last.difference))
        ground.world.heal()
        await ground.ended(run, lives)
        assert await victim.node.disk.has_blob(BlobId(last.model))

    on_hostile_ground(tmp_path, test)


def test_the_model_is_had_without_the_server_state_that_nobody_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/protocol.md §8.6. The run is long over when a node comes back that missed its end."""

    async def always(self: Retention) -> float:
        return math.inf  # the store's file has the real clock's time

    monkeypatch.setattr(Retention, "_known_since_s", always)

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(4)
        text = CONFIGURATION.format(name="run", rounds=4, nodes=4, audit="none", join_deadline_s=600.0)
        text = text.replace('codec = "fp32"', 'codec = "bf16"\nserver_optimizer = "adam"\nserver_learning_rate = 0.01')
        run = RunId((await lives[0].node.service.start_run(text, None, None, {}))["run_id"])
        await ground.settled(lambda: _rounds(ground, run) == [3] * 4, "the last round")
        leader = _machine(ground, 0, run).election.aggregator
        victim = next(life for life in lives if life.node.identity.node_id != leader)
        others = [life for life in lives if life is not victim]
        ground.world.partition([[victim.node.identity.node_id], [life.node.identity.node_id for life in others]])
        await ground.ended(run, others)
        last = _machine(ground, others[0].number, run).ledger.newest
        assert last.server_state
        assert _machine(ground, victim.number, run).ledger.newest.round == last.round - 1
        await trio.sleep(60)  # virtual time: so long the others wait for its last report
        for life in others:
            await life.node.retention.set({"ended": "1d"})
            monkeypatch.setattr(life.node, "now", lambda: virtual_now() + 2 * DAY_S)
            await life.node.retention.collect_blobs(unused_s=0.0)
            assert not await life.disk.has_blob(BlobId(last.server_state))
            assert not await life.disk.has_blob(BlobId(last.difference))
            assert await life.disk.has_blob(BlobId(last.model))
        ground.world.heal()
        await ground.ended(run, lives)
        assert _machine(ground, victim.number, run).ledger.newest == last
        assert await victim.disk.has_blob(BlobId(last.model))
        assert not await victim.disk.has_blob(BlobId(last.server_state))
        await ground.restart(victim)
        await ground.ended(run, lives)
        assert _machine(ground, victim.number, run).ledger.newest == last

    on_hostile_ground(tmp_path, test)


def _machine(ground: HostileGround, at: int, run: RunId) -> RunMachine:
    driver = ground.lives[at].node.runs.known[run].driver
    assert driver is not None
    return driver.machine


def _rounds(ground: HostileGround, run: RunId) -> list[int]:
    drivers = [life.node.runs.known[run].driver for life in ground.lives if run in life.node.runs.known]
    return [driver.machine.ledger.committed_round for driver in drivers if driver is not None]
