"""What is told of transfers: a rate that holds on slow lines too, and nothing of those that are over."""

from random import Random

import pytest
import trio
import trio.testing
from network_ground import Ground, run_on_simulated

from node.network.bulk.bulk import Bulk
from node.network.bulk.pace import Pace
from node.network.bulk.progress import OUT_IDLE_S, Meter, Outgoing
from node.network.rates import RATE_BYTES_PER_S_MIN
from protocol.keys import BlobId, NodeId
from protocol.limits import CHUNK_BYTES
from simulations.world.disk import SimulatedDisk
from simulations.world.network_node import SimulatedNetwork

CHUNK_S = CHUNK_BYTES / RATE_BYTES_PER_S_MIN
PEER, BLOB = NodeId("12D3peer"), BlobId("ab" * 32)


def in_virtual_time(test):  # type: ignore[no-untyped-def]
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


async def bulk_of(ground: Ground, network: SimulatedNetwork, pace: Pace | None = None) -> tuple[Bulk, SimulatedDisk]:
    disk = SimulatedDisk()
    bulk = Bulk(network, disk, lambda peer, blob: True, pace=pace)
    await ground.nursery.start(bulk.run)
    return bulk, disk


def test_the_rate_is_sound_where_a_chunk_takes_longer_than_one_looks_back() -> None:
    async def test(ground: Ground) -> None:
        here, there = await ground.nodes(2)
        taker, _ = await bulk_of(ground, here)
        giver, disk = await bulk_of(ground, there, Pace(up_bytes_per_s=RATE_BYTES_PER_S_MIN))
        blob = await disk.put_blob(Random(1).randbytes(10 * CHUNK_BYTES))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taker.fetch, blob, [there.node_id], 1 << 30)
            await trio.sleep(1)  # virtual time passes
            for second in range(2, 74):
                await trio.sleep(1)  # virtual time passes
                for bulk in (taker, giver):
                    (shown,) = bulk.transfers()
                    if second > CHUNK_S + 3:
                        assert shown.rate_bytes_per_s == pytest.approx(RATE_BYTES_PER_S_MIN, rel=0.1)
                        assert shown.left_s is not None
                    else:
                        assert shown.rate_bytes_per_s in (0.0, pytest.approx(RATE_BYTES_PER_S_MIN, rel=0.1))
        assert taker.transfers() == giver.transfers() == []

    run_on_simulated(test)


def test_what_a_taker_has_of_two_ends_for_both_when_it_is_whole() -> None:
    async def test(ground: Ground) -> None:
        here, *there = await ground.nodes(3)
        taker, _ = await bulk_of(ground, here)
        content = Random(2).randbytes(20 * CHUNK_BYTES)
        givers = []
        for network in there:
            giver, disk = await bulk_of(ground, network, Pace(up_bytes_per_s=1e6))
            blob = await disk.put_blob(content)
            givers.append(giver)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taker.fetch, blob, [network.node_id for network in there], 1 << 30)
            await trio.sleep(5)  # virtual time passes
            for giver in givers:
                (shown,) = giver.transfers()
                assert 2 * CHUNK_BYTES < shown.done_bytes < 10 * CHUNK_BYTES
        await trio.sleep(0.5)  # virtual time passes
        assert [giver.transfers() for giver in givers] == [[], []]

    run_on_simulated(test)


def test_a_taker_that_is_cut_off_is_shown_no_more() -> None:
    async def test(ground: Ground) -> None:
        here, there = await ground.nodes(2)
        taker, _ = await bulk_of(ground, here)
        giver, disk = await bulk_of(ground, there, Pace(up_bytes_per_s=1e6))
        blob = await disk.put_blob(Random(3).randbytes(20 * CHUNK_BYTES))
        with trio.move_on_after(5):
            await taker.fetch(blob, [there.node_id], 1 << 30)
        await trio.sleep(4)  # virtual time passes
        assert giver.transfers() == []

    run_on_simulated(test)


def test_a_rate_sinks_when_chunks_are_late_and_ends_when_they_stay_away() -> None:
    async def test() -> None:
        meter = Meter()
        meter.add(100)
        assert meter.rate() == 0.0, "the first chunk tells nothing"
        for _ in range(10):
            await trio.sleep(1)  # virtual time passes
            meter.add(100)
        assert meter.rate() == pytest.approx(100)
        await trio.sleep(1)  # virtual time passes
        assert meter.rate() == pytest.approx(100), "nothing is late yet"
        await trio.sleep(2)  # virtual time passes
        assert 60 < meter.rate() < 90
        await trio.sleep(3)  # virtual time passes
        assert meter.rate() == 0.0

    in_virtual_time(test)


def test_what_goes_out_is_forgotten_when_it_is_over_or_long_idle() -> None:
    async def test() -> None:
        outgoing = Outgoing()
        outgoing.sent(PEER, BLOB, 10, 100)
        await trio.sleep(2)  # virtual time passes
        assert [each.done_bytes for each in outgoing.progress()] == [10]
        outgoing.over(PEER, BLOB)
        outgoing.over(PEER, BLOB)
        assert outgoing.progress() == []
        outgoing.sent(PEER, BLOB, 10, 100)
        await trio.sleep(OUT_IDLE_S + 1)  # virtual time passes
        assert outgoing.progress() == []

    in_virtual_time(test)
