"""Limits on whole transfers, over the simulated network: how long they take, and that nobody gives up."""

from random import Random

import pytest
import trio
from network_ground import Ground, run_on_simulated

from node.network.bulk.bulk import Bulk
from node.network.bulk.pace import Pace
from protocol.keys import BlobId
from protocol.limits import BLOB_STALL_S, CHUNK_BYTES
from simulations.world.disk import SimulatedDisk
from simulations.world.network_node import SimulatedNetwork

MEGABYTE = 1e6


async def bulk_of(ground: Ground, network: SimulatedNetwork, pace: Pace | None = None) -> tuple[Bulk, SimulatedDisk]:
    disk = SimulatedDisk()
    bulk = Bulk(network, disk, lambda peer, blob: True, pace=pace)
    await ground.nursery.start(bulk.run)
    return bulk, disk


def content(seed: int, chunks: int) -> bytes:
    return Random(seed).randbytes(chunks * CHUNK_BYTES)


@pytest.mark.parametrize(
    "limited", [Pace(up_bytes_per_s=MEGABYTE), Pace(down_bytes_per_s=MEGABYTE)], ids=["up", "down"]
)
def test_a_blob_takes_as_long_as_the_limit_says(limited: Pace) -> None:
    async def test(ground: Ground) -> None:
        here, there = await ground.nodes(2)
        is_up = limited.up.bytes_per_s is not None
        taker, _ = await bulk_of(ground, here, None if is_up else limited)
        _, disk = await bulk_of(ground, there, limited if is_up else None)
        blob = await disk.put_blob(content(1, 20))
        began = trio.current_time()
        await taker.fetch(blob, [there.node_id], 1 << 30)
        assert trio.current_time() - began == pytest.approx(19 * CHUNK_BYTES / MEGABYTE, rel=0.1)

    run_on_simulated(test)


def test_a_limit_may_change_on_the_way_and_is_shown_by_the_rate() -> None:
    async def test(ground: Ground) -> None:
        here, there = await ground.nodes(2)
        pace = Pace(up_bytes_per_s=MEGABYTE)
        taker, _ = await bulk_of(ground, here)
        giver, disk = await bulk_of(ground, there, pace)
        blob = await disk.put_blob(content(2, 40))
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taker.fetch, blob, [there.node_id], 1 << 30)
            await trio.sleep(12)  # virtual time passes
            for bulk, direction in ((taker, "in"), (giver, "out")):
                (shown,) = bulk.transfers()
                assert (shown.blob, shown.direction, shown.total_bytes) == (blob, direction, 40 * CHUNK_BYTES)
                assert shown.done_bytes == pytest.approx(12 * MEGABYTE, rel=0.25)
                assert shown.rate_bytes_per_s == pytest.approx(MEGABYTE, rel=0.3)
                assert shown.left_s == pytest.approx(30, rel=0.4)
            pace.set_limits(None, None)
        assert trio.current_time() - began < 18, "28 MB are left for the line alone"
        assert taker.transfers() == giver.transfers() == []

    run_on_simulated(test)


def test_many_takers_share_a_low_limit_and_none_takes_the_giver_for_frozen() -> None:
    """A chunk of each in turn takes longer than a peer waits for one that says nothing."""

    async def test(ground: Ground) -> None:
        networks = await ground.nodes(7)
        _, disk = await bulk_of(ground, networks[0], Pace(up_bytes_per_s=MEGABYTE / 5))
        assert 6 * CHUNK_BYTES / (MEGABYTE / 5) > BLOB_STALL_S
        blobs = [await disk.put_blob(content(seed, 4)) for seed in range(6)]
        took: list[float] = []
        began = trio.current_time()

        async def take(network: SimulatedNetwork, blob: BlobId) -> None:
            taker, _ = await bulk_of(ground, network)
            await taker.fetch(blob, [networks[0].node_id], 1 << 30)
            took.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            for network, blob in zip(networks[1:], blobs, strict=True):
                nursery.start_soon(take, network, blob)
        whole = 6 * 4 * CHUNK_BYTES / (MEGABYTE / 5)
        assert max(took) == pytest.approx(whole, rel=0.15)
        assert min(took) > 0.4 * whole, "they went on together"

    run_on_simulated(test)
