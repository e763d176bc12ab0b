"""A run that begins where another ended, in a simulated group."""

from pathlib import Path
from random import Random

import trio

from node.data.shares import digits_split
from simulations.nodes.simulated_node import live
from simulations.simulate import CONFIGURATION
from simulations.world.deterministic import run_deterministically, until
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore


def test_a_run_starts_from_its_parents_newest_checkpoint(tmp_path: Path) -> None:
    """§6.5: checkpoint 0 is the model that the start names; with a parent, that is the parent's newest."""

    async def main() -> None:
        world = SimulatedWorld(Random(1))
        shared = SharedStore(tmp_path / "store.duckdb")
        paths = digits_split(1).write(tmp_path / "data")
        folder = tmp_path / "node"
        folder.mkdir()
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            node = await nursery.start(live, 0, 1, world, shared, folder)
            await node.service.data_add("digits", str(paths[0]), {})
            await node.service.create_group("alone")
            runs = []
            for parent in ("", "first"):
                name = "second" if parent else "first"
                text = CONFIGURATION.format(seed=1, rounds=2, nodes=1).replace("simulation", name, 1)
                text = f'parent = "{parent}"\n{text}' if parent else text
                run = await node.service.start_run(text, None, None, {})
                runs.append(node.runs.known[run["run_id"]])
                with trio.fail_after(600):
                    await until(lambda: runs[-1].driver is not None)
                    await runs[-1].driver.ended.wait()
            first, second = (known.driver.machine.ledger for known in runs)
            assert second.zero.checkpoint.model == first.newest.model
            assert second.zero.checkpoint.model != first.zero.checkpoint.model
            nursery.cancel_scope.cancel()
        shared.close()

    run_deterministically(1, main)
