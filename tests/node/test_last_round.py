"""A node that missed a run's last commit has its model, though the others have let go of what the round needed."""

from pathlib import Path

from hostile_ground import HostileGround, on_hostile_ground

from protocol.keys import BlobId, RunId
from protocol.run_machine import RunMachine


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


def _machine(ground: HostileGround, at: int, run: RunId) -> RunMachine:
    driver = ground.lives[at].node.runs.known[run].driver
    assert driver is not None
    return driver.machine


def _rounds(ground: HostileGround, run: RunId) -> list[int]:
    drivers = [life.node.runs.known[run].driver for life in ground.lives if run in life.node.runs.known]
    return [driver.machine.ledger.committed_round for driver in drivers if driver is not None]
