"""Whose chunk list is waited for: one silent source costs a moment, not its patience. docs/protocol.md §14.5."""

from random import Random

import pytest
import trio
from network_ground import Ground, run_on_simulated

from node.network.bulk.bulk import Bulk, Transfer
from node.network.bulk.lists import LIST_STAGGER_S
from node.network.bulk.swarm import SOURCES_AT_ONCE
from node.network.bulk.wire import LIST, NOT_HERE, OK, REQUEST_BYTES_MAX, pack_answer, pack_list, read_request
from node.seams import BLOB_PROTOCOL, Network, Stream, StreamClosed
from protocol.errors import FednodeError
from protocol.keys import BlobId
from protocol.limits import BLOB_STALL_S, CHUNK_BYTES
from simulations.world.disk import SimulatedDisk
from tracker.blobs.chunks import blob_id_of_data, chunk_hashes_of

SMALL = Random(1).randbytes(500)
LARGE = Random(2).randbytes(3 * CHUNK_BYTES)
SOON_S = 0.5  # of virtual time, for what goes to and fro


class Here:
    """A node with a disk, and what came to it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.disk = SimulatedDisk()
        self.transfers: list[Transfer] = []
        self.bulk = Bulk(network, self.disk, lambda peer, blob: True, self.transfers.append)

    def came(self) -> int:
        return sum(each.size for each in self.transfers if each.incoming)


async def begun(ground: Ground, network: Network) -> Here:
    here = Here(network)
    await ground.nursery.start(here.bulk.run)
    return here


class Listener:
    """A source that answers a request for a list after so many seconds with these frames, or never."""

    def __init__(self, network: Network, frames: list[bytes | int], after_s: float | None = 0.0) -> None:
        self.peer = network.node_id
        self.asked_at: list[float] = []
        self._frames = frames
        self._after_s = after_s
        network.handle(BLOB_PROTOCOL, self._serve)

    async def _serve(self, stream: Stream) -> None:
        try:
            while True:
                request = read_request(await stream.receive_frame(REQUEST_BYTES_MAX))
                if request.kind == LIST:
                    self.asked_at.append(trio.current_time())
                    await trio.sleep(3600 if self._after_s is None else self._after_s)  # virtual time passes
                    for frame in self._frames:
                        await stream.send_frame(
                            frame if isinstance(frame, bytes) else pack_answer(frame, request.number)
                        )
        except StreamClosed:
            return


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_silent_sources_cost_a_stagger_each(data: bytes) -> None:
    """§14.5"""

    async def test(ground: Ground) -> None:
        mine, other, *silent = await ground.nodes(5)
        here, there = await begun(ground, mine), await begun(ground, other)
        sources = [Listener(network, [], None).peer for network in silent]
        blob = await there.disk.put_blob(data)
        began = trio.current_time()
        fetched = await here.bulk.fetch(blob, [*sources, other.node_id], len(data))
        assert trio.current_time() - began < len(sources) * LIST_STAGGER_S + SOON_S
        assert fetched.source == other.node_id
        assert here.came() == len(data)
        assert not mine.conduct._standings, "who is slow is not at fault"

    run_on_simulated(test)


def test_who_fails_is_not_waited_for() -> None:
    """§14.5"""

    async def test(ground: Ground) -> None:
        mine, other, *poor = await ground.nodes(8)
        here, there = await begun(ground, mine), await begun(ground, other)
        sources = [Listener(network, [NOT_HERE]).peer for network in poor]
        blob = await there.disk.put_blob(SMALL)
        began = trio.current_time()
        await here.bulk.fetch(blob, [*sources, other.node_id], len(SMALL))
        assert trio.current_time() - began < LIST_STAGGER_S

    run_on_simulated(test)


def test_who_is_slow_gives_it_where_nobody_is_faster_and_only_as_many_as_that_are_asked() -> None:
    """§14.5"""
    frames: list[bytes | int] = [OK, pack_list(len(SMALL), chunk_hashes_of(SMALL)), SMALL]

    async def test(ground: Ground) -> None:
        mine, first, second, third = await ground.nodes(4)
        here = await begun(ground, mine)
        slow = Listener(first, frames, 1.5 * LIST_STAGGER_S)
        others = [Listener(second, [], None), Listener(third, [], None)]
        fetched = await here.bulk.fetch(
            blob_id_of_data(SMALL), [slow.peer, *(each.peer for each in others)], len(SMALL)
        )
        assert fetched.source == slow.peer
        assert [len(each.asked_at) for each in (slow, *others)] == [1, 1, 0]

    run_on_simulated(test)


def test_so_many_are_asked_at_a_time() -> None:
    """§14.5. When none of them gives anything, they are given up and others are asked."""

    async def test(ground: Ground) -> None:
        mine, *silent = await ground.nodes(2 + SOURCES_AT_ONCE)
        here = await begun(ground, mine)
        listeners = [Listener(network, [], None) for network in silent]
        began = trio.current_time()
        with pytest.raises(FednodeError, match="gave nothing for"):
            await here.bulk.fetch(BlobId("ab" * 32), [each.peer for each in listeners], 100)
        asked = [each.asked_at[0] - began for each in listeners]
        assert asked[SOURCES_AT_ONCE - 1] < (SOURCES_AT_ONCE - 1) * LIST_STAGGER_S + SOON_S
        assert asked[SOURCES_AT_ONCE] >= BLOB_STALL_S
        assert all(len(each.asked_at) == 1 for each in listeners)

    run_on_simulated(test)


def test_who_waits_for_a_list_when_the_node_stops_is_told_so() -> None:
    """Not left to wait, nor to ask again and again."""
    said: list[str] = []

    async def test(ground: Ground) -> None:
        mine, other = await ground.nodes(2)
        here, silent = Here(mine), Listener(other, [], None)

        async def fetch() -> None:
            try:
                await here.bulk.fetch(BlobId("ab" * 32), [silent.peer], 100)
            except FednodeError as error:
                said.append(error.what)

        async with trio.open_nursery() as callers, trio.open_nursery() as running:
            await running.start(here.bulk.run)
            callers.start_soon(fetch)
            await trio.sleep(SOON_S)  # virtual time passes
            assert silent.asked_at
            running.cancel_scope.cancel()

    run_on_simulated(test)
    assert ["the node stops" in what for what in said] == [True]
