"""Whole nodes that die after every single durable write of a run, one simulation for each: they come back, and the run
goes on. docs/protocol.md §7.3, §8.4, §8.8. The same for one run's machine, before every message too, is in
tests/protocol/test_run_crash_points.py.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from node.home.identity import Keys
from protocol.keys import RunId
from simulations.nodes.seeded_group import Placed, place_group
from simulations.nodes.simulated_node import EPOCH_S, SimulatedNode
from simulations.training.idle_trainer import IdleTrainer
from simulations.world.deterministic import run_deterministically, until
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore

NODES, ROUNDS = 3, 3
DOWN_S = 4.0
DEADLINE_S = 600.0  # of virtual time, for a run of some seconds
PARTS = 6
CONFIGURATION = """
name = "crashes"
[task]
name = "digits"
[data]
name = "idle"
[training]
rounds = 3
[roster]
nodes_min = 3
"""


class Ground:
    """A group of three, of which one dies after the write with number `point`, counted from the proposal on."""

    def __init__(self, point: int | None, folder: Path) -> None:
        self.point = point
        self.writes = 0
        self.died: SimulatedNode | None = None
        world, store = SimulatedWorld(Random(1)), SharedStore(None)
        self.world, self.store, self.folder = world, store, folder
        self.nodes = [
            SimulatedNode(n, 1, world, store, folder, lambda number, folder: IdleTrainer()) for n in range(NODES)
        ]
        self._counting = False
        for node in self.nodes:
            self._watch(node)

    def _watch(self, node: SimulatedNode) -> None:
        durably: Callable[[Callable[[], object]], Any] = node.disk._durably

        async def counted(write: Callable[[], object]) -> None:
            await durably(write)
            if self._counting:
                self.writes += 1
                if self.writes == self.point:
                    self.died = node
                    node.kill()

        node.disk._durably = counted  # type: ignore[method-assign]

    async def play(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.world.run)
            await self._start(nursery)
            founder = self.nodes[0].node
            assert founder is not None
            self._counting = True
            run = RunId("")
            try:
                run = RunId((await founder.service.start_run(CONFIGURATION, None, None, {}))["run_id"])
            except BaseException:
                if self.died is not self.nodes[0]:
                    raise
            await self._finish(run, nursery)
            nursery.cancel_scope.cancel()
        self.store.close()

    async def _start(self, nursery: trio.Nursery) -> None:
        placed = [
            Placed(Keys(n.keys.key, n.keys.member_key, n.keys.seal_key.private_bytes_raw()), n.name, n.disk)
            for n in self.nodes
        ]
        await place_group(self.world, placed, "crashes", now_s=int(EPOCH_S), random=Random(1))
        data = self.folder / "idle.csv"
        data.write_text("x\n1\n")
        for node in self.nodes:
            real = await nursery.start(node.live)
            await real.service.data_add("idle", str(data), {})
            await real.service.set_policy(["all"])
        await until(
            lambda: all(n.node and n.node.groups.neighbours.wanted() <= n.node.groups.connected for n in self.nodes)
        )

    async def _finish(self, run: RunId, nursery: trio.Nursery) -> None:
        """Let the dead come back, and everybody end alike. A proposal that died with its proposer is no run."""
        with trio.fail_after(DEADLINE_S):
            while not (self._has_ended() or self._was_never_proposed()):
                if self.died is not None and not self.died.is_wanted:
                    await trio.sleep(DOWN_S)  # virtual time passes
                    nursery.start_soon(self.died.live)
                await trio.sleep(0.2)  # virtual time passes

    def _machines(self) -> list[Any]:
        drivers = [known.driver for n in self.nodes if n.node for known in n.node.runs.known.values()]
        return [driver.machine for driver in drivers if driver is not None]

    def _has_ended(self) -> bool:
        machines = self._machines()
        if len(machines) < NODES or not all(machine.ledger.has_ended for machine in machines):
            return False
        assert {machine.ledger.committed.name for machine in machines} == {machines[0].ledger.committed.name}
        assert machines[0].ledger.committed_round == ROUNDS
        return True

    def _was_never_proposed(self) -> bool:
        """The proposer died before its proposal was durable: then nobody knows of a run."""
        up = [n.node for n in self.nodes if n.node is not None]
        return self.died is self.nodes[0] and len(up) == NODES and not any(node.runs.known for node in up)


def play(point: int | None) -> Ground:
    with tempfile.TemporaryDirectory(prefix="fednode-crashes-") as folder:
        ground = Ground(point, Path(folder))
        run_deterministically(1, ground.play)
    return ground


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_node_that_dies_after_any_durable_write_comes_back_and_the_run_goes_on(part: int) -> None:
    count = play(None).writes
    assert count > 50, count
    for point in range(1 + part, count + 1, PARTS):
        try:
            assert play(point).died is not None
        except BaseException as error:
            raise AssertionError(f"the node that died after write {point} of {count}") from error
