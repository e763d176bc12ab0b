"""A simulated node is killed and started again on the same disk, and its disk's faults are what they say."""

from pathlib import Path
from random import Random

import pytest
import trio

from protocol.errors import FednodeError
from simulations.nodes.simulated_node import START_AGAIN_S, SimulatedNode, in_process_trainer
from simulations.world.deterministic import run_deterministically, until
from simulations.world.disk import ChunkPool
from simulations.world.faulty_disk import FaultyDisk
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore


def test_a_killed_node_comes_back_as_who_it_was_with_what_was_durable(tmp_path: Path) -> None:
    async def main() -> None:
        world = SimulatedWorld(Random(1))
        one = SimulatedNode(0, 1, world, SharedStore(), tmp_path, in_process_trainer(1000.0))
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            node = await nursery.start(one.live)
            await node.service.create_group("a group")
            one.kill()
            assert not one.is_up
            with pytest.raises(FednodeError, match="killed"):
                await one.disk.write("late", b"a dying process writes nothing")
            again = await nursery.start(one.live)
            assert again is not node
            assert again.identity.node_id == node.identity.node_id
            assert [place.state().name for place in again.groups.places.values()] == ["a group"]
            assert await one.disk.read("late") is None
            nursery.cancel_scope.cancel()

    run_deterministically(1, main)


def test_a_node_whose_disk_is_full_starts_once_there_is_room(tmp_path: Path) -> None:
    async def main() -> float:
        world = SimulatedWorld(Random(1))
        one = SimulatedNode(0, 1, world, SharedStore(), tmp_path, in_process_trainer(1000.0))
        one.disk.is_full = True
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            nursery.start_soon(one.live)
            await trio.sleep(2.5 * START_AGAIN_S)  # virtual time passes
            assert not one.is_up
            one.disk.is_full = False
            await until(lambda: one.is_up)
            nursery.cancel_scope.cancel()
        return trio.current_time()

    assert run_deterministically(1, main) < 4 * START_AGAIN_S


def test_a_disk_is_slow_and_tells_what_is_durable() -> None:
    async def main() -> None:
        told: list[tuple[str, bytes]] = []
        disk = FaultyDisk(Random(1), ChunkPool(), lambda journal, record: told.append((journal, record)))
        disk.slow_s = 3.0
        await disk.append("run-1", b"a record")
        assert trio.current_time() == 3.0
        assert told == [("run-1", b"a record")]
        assert disk.durable_records("run-1") == [b"a record"]
        blob = await disk.put_blob(b"some bytes")
        assert disk.holds(blob)
        assert disk.damage_newest_blob() == blob
        with pytest.raises(FednodeError, match="damaged"):
            await disk.read_blob(blob)

    run_deterministically(1, main)
