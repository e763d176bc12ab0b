"""Peers that ask for blobs, or give them, as no honest peer does: they cost others no memory, no time and no turns."""

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio
from network_ground import Ground, run_on_simulated

from node.network.bulk.board import HELD_S
from node.network.bulk.bulk import Bulk
from node.network.bulk.slots import CHUNKS_MAX, PEER_CHUNKS_MAX
from node.network.bulk.source import LINE_S_MAX, NEWS_PARK_S
from node.network.bulk.swarm import SOURCES_KNOWN_MAX
from node.network.bulk.wire import (
    CHUNK,
    COMING,
    GOT,
    LIST,
    NEWS,
    OK,
    PEERS_TOLD_MAX,
    REQUEST_BYTES_MAX,
    pack_answer,
    pack_asked_chunk,
    pack_asked_news,
    pack_indices,
    pack_list,
    pack_news,
    pack_request,
    read_news,
    read_request,
)
from node.seams import BLOB_PROTOCOL, BlobReader, Network, Stream, StreamClosed
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_STALL_S, CHUNK_BYTES
from simulations.world.disk import SimulatedDisk
from simulations.world.network_node import SimulatedNetwork
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of

DATA = Random(5).randbytes(16 * CHUNK_BYTES)
COUNT = 16
BLOB = blob_id_of(chunk_hashes_of(DATA), len(DATA))


Answer = Callable[[Stream, int, int], Awaitable[None]]


async def _bulk(
    ground: Ground, network: SimulatedNetwork, may_read: Callable[[NodeId, BlobId], bool] = lambda peer, blob: True
) -> tuple[Bulk, SimulatedDisk]:
    disk = SimulatedDisk()
    bulk = Bulk(network, disk, may_read)
    await ground.nursery.start(bulk.run)
    return bulk, disk


async def _ask_for_chunk(stream: Stream, index: int) -> None:
    await stream.send_frame(pack_request(CHUNK, 1, BLOB, pack_asked_chunk(index, False)))


def _answer_as(network: Network, answer: Answer) -> None:
    """Say that all of the blob is here, and let `answer` deal with what is asked of chunks."""

    async def serve(stream: Stream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    request = read_request(await stream.receive_frame(REQUEST_BYTES_MAX))
                    if request.kind == LIST:
                        await stream.send_frame(pack_answer(OK, request.number))
                        await stream.send_frame(pack_list(len(DATA), chunk_hashes_of(DATA)))
                        await stream.send_frame(pack_news(COUNT, range(COUNT), 0, []))
                    elif request.kind == NEWS:
                        await stream.send_frame(pack_answer(OK, request.number))
                        await stream.send_frame(pack_news(COUNT, range(COUNT), 0, []))
                    elif request.kind == CHUNK:
                        nursery.start_soon(answer, stream, request.number, int.from_bytes(request.body[:4], "big"))
        except* StreamClosed:
            pass

    network.handle(BLOB_PROTOCOL, serve)


# --- who asks --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("says_got", [True, False])
def test_who_asks_and_never_reads_has_few_chunks_of_our_memory(says_got: bool) -> None:
    """docs/protocol.md §14.7"""

    async def test(ground: Ground) -> None:
        greedy, network = await ground.nodes(2)
        bulk, disk = await _bulk(ground, network)
        await disk.put_blob(DATA)
        held, most = 0, 0
        give = bulk._serving._give

        async def counted(*arguments: object) -> bool:
            nonlocal held, most
            held += 1
            most = max(most, held)
            try:
                return await give(*arguments)  # type: ignore[arg-type]
            finally:
                held -= 1

        bulk._serving._give = counted  # type: ignore[method-assign, assignment]
        stream = await greedy.open(network.node_id, BLOB_PROTOCOL)
        with trio.move_on_after(BLOB_STALL_S):
            for number in range(200):
                await _ask_for_chunk(stream, number % COUNT if says_got else 0)
                if says_got:
                    await stream.send_frame(pack_request(GOT, 0, BLOB, pack_indices([number % COUNT])))
            await trio.sleep(BLOB_STALL_S / 2)  # virtual time: it is answered
        assert 0 < most <= PEER_CHUNKS_MAX
        await stream.reset()

    run_on_simulated(test)


def test_who_never_says_that_chunks_came_takes_nobody_elses_turn() -> None:
    """docs/protocol.md §14.7"""

    async def test(ground: Ground) -> None:
        greedy, network, honest = await ground.nodes(3)
        _, disk = await _bulk(ground, network)
        await disk.put_blob(DATA)
        bulk, _ = await _bulk(ground, honest)
        streams = [await greedy.open(network.node_id, BLOB_PROTOCOL) for _ in range(4)]

        async def take(stream: Stream) -> None:
            while True:
                for index in range(COUNT):
                    await _ask_for_chunk(stream, index)
                    with trio.move_on_after(1.0):
                        while True:
                            await stream.receive_frame(CHUNK_BYTES)

        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(take, stream)
            await trio.sleep(10 * BLOB_STALL_S)  # virtual time: it takes whatever it is given
            with trio.fail_after(2 * BLOB_STALL_S):
                await bulk.fetch(BLOB, [network.node_id], len(DATA))
            nursery.cancel_scope.cancel()

    run_on_simulated(test)


def test_fetches_that_are_given_up_leave_nothing_on_its_way() -> None:
    """docs/protocol.md §14.7: a taker that wants nothing more does not say what came."""

    async def test(ground: Ground) -> None:
        here, there = await ground.nodes(2)
        bulk, _ = await _bulk(ground, here)
        giver, disk = await _bulk(ground, there)
        blobs = [await disk.put_blob(Random(seed).randbytes(8 * CHUNK_BYTES)) for seed in range(CHUNKS_MAX)]
        for blob in blobs:
            with trio.move_on_after(0.3):
                await bulk.fetch(blob, [there.node_id], 1 << 30)
        await trio.sleep(BLOB_STALL_S)  # virtual time: what is under way arrives
        assert not giver._serving._slots._out

    run_on_simulated(test)


def test_a_stream_that_ends_while_the_disk_is_asked_leaves_nobody_after_the_blob() -> None:
    """docs/protocol.md §14.5"""

    async def test(ground: Ground) -> None:
        here, there = await ground.nodes(2)
        giver, disk = await _bulk(ground, there)
        await disk.put_blob(DATA)
        open_blob = disk.open_blob
        asked, go = trio.Event(), trio.Event()

        async def slow(blob: BlobId) -> BlobReader:
            asked.set()
            with trio.CancelScope(shield=True):  # as a thread, which is waited for
                await go.wait()
                return await open_blob(blob)

        disk.open_blob = slow  # type: ignore[method-assign, assignment]
        stream = await here.open(there.node_id, BLOB_PROTOCOL)
        await stream.send_frame(pack_request(NEWS, 1, BLOB, pack_asked_news(0, PEERS_TOLD_MAX)))
        await asked.wait()
        await stream.reset()
        await trio.sleep(1.0)  # virtual time: the reset arrives
        go.set()
        await trio.sleep(1.0)  # virtual time: so does the answer
        assert not giver._serving._after

    run_on_simulated(test)


# --- who gives -------------------------------------------------------------------------------------------------
async def _silent(stream: Stream, number: int, index: int) -> None:
    return


async def _coming(stream: Stream, number: int, index: int) -> None:
    """Say again and again that it comes."""
    while True:
        await stream.send_frame(pack_answer(COMING, number))
        await trio.sleep(BLOB_STALL_S / 4)  # virtual time


@pytest.mark.parametrize(("liars", "answer"), [(2, _silent), (3, _silent), (2, _coming), (3, _coming)])
def test_sources_that_hold_everything_up_do_not_hold_up_a_good_one(liars: int, answer: Answer) -> None:
    """docs/protocol.md §14.6, §14.9"""

    async def test(ground: Ground) -> None:
        one, good, *bad = await ground.nodes(2 + liars)
        bulk, disk = await _bulk(ground, one)
        _, there = await _bulk(ground, good)
        await there.put_blob(DATA)
        for network in bad:
            _answer_as(network, answer)
        with trio.fail_after(1.5 * HELD_S if liars == 2 else 1.5 * BLOB_STALL_S):
            await bulk.fetch(BLOB, [*(network.node_id for network in bad), good.node_id], len(DATA))
        assert await disk.read_blob(BLOB) == DATA

    run_on_simulated(test)


def test_who_says_for_ever_that_it_comes_is_dropped() -> None:
    """docs/protocol.md §14.9"""

    async def test(ground: Ground) -> None:
        one, bad = await ground.nodes(2)
        bulk, _ = await _bulk(ground, one)

        async def serve(stream: Stream) -> None:
            request = read_request(await stream.receive_frame(REQUEST_BYTES_MAX))
            await _coming(stream, request.number, 0)

        bad.handle(BLOB_PROTOCOL, serve)
        with trio.fail_after(LINE_S_MAX + 2 * BLOB_STALL_S), pytest.raises(FednodeError, match="gave nothing for"):
            await bulk.fetch(BLOB, [bad.node_id], len(DATA))

    run_on_simulated(test)


def test_who_says_nothing_is_waited_for_once() -> None:
    """docs/protocol.md §14.9"""

    async def test(ground: Ground) -> None:
        one, bad = await ground.nodes(2)
        bulk, _ = await _bulk(ground, one)

        async def serve(stream: Stream) -> None:
            await trio.sleep_forever()

        bad.handle(BLOB_PROTOCOL, serve)
        with trio.fail_after(1.5 * BLOB_STALL_S), pytest.raises(FednodeError, match="gave nothing for"):
            await bulk.fetch(BLOB, [bad.node_id], len(DATA))

    run_on_simulated(test)


def test_names_that_a_source_makes_up_take_nobodys_place() -> None:
    """docs/protocol.md §14.5: those who may not read the blob are not asked, and not remembered."""

    async def test(ground: Ground) -> None:
        one, good, bad = await ground.nodes(3)
        readers = {network.node_id for network in (one, good, bad)}
        bulk, _ = await _bulk(ground, one, lambda peer, blob: peer in readers)
        _, there = await _bulk(ground, good)
        await there.put_blob(DATA)
        made_up = 0
        asked_at: list[float] = []

        async def serve(stream: Stream) -> None:
            nonlocal made_up
            while True:
                request = read_request(await stream.receive_frame(REQUEST_BYTES_MAX))
                names = [NodeId(f"nobody{made_up + number}") for number in range(PEERS_TOLD_MAX)]
                made_up += len(names)
                if made_up > 3 * SOURCES_KNOWN_MAX:
                    names = [good.node_id]
                if request.kind == LIST:
                    await stream.send_frame(pack_answer(OK, request.number))
                    await stream.send_frame(pack_list(len(DATA), chunk_hashes_of(DATA)))
                elif request.kind == NEWS:
                    asked_at.append(trio.current_time())
                    await stream.send_frame(pack_answer(OK, request.number))
                await stream.send_frame(pack_news(COUNT, [], 0, names))

        bad.handle(BLOB_PROTOCOL, serve)
        with trio.fail_after(2 * NEWS_PARK_S):
            await bulk.fetch(BLOB, [bad.node_id], len(DATA))
        assert set(bulk._sources) == readers - {one.node_id}
        assert len(asked_at) < 100

    run_on_simulated(test)


def test_news_of_more_chunks_than_there_are_are_none() -> None:
    """docs/protocol.md §14.4"""
    told = pack_indices([1] * (COUNT + 1))
    head = (1).to_bytes(4, "big") + b"\2" + len(told).to_bytes(4, "big")
    with pytest.raises(RemoteProtocolError):
        read_news(head + told, COUNT)
    assert read_news((1).to_bytes(4, "big") + b"\2" + (4).to_bytes(4, "big") + told[:4], COUNT).chunks == [1]
