"""A blob spreads as a swarm: fast over slow lines, with few copies from where it was first, whoever crashes or lies."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import trio
from scenario_helpers import COHORT, played
from swarms import LINE_BITS_PER_S, Peer, Swarm, run_swarm
from trio.testing import MockClock

from node.network.bulk.board import ASKED_MAX, END_CHUNKS_MAX, END_PATIENCE, Board, Use
from node.network.bulk.bulk import Bulk, Transfer
from node.network.bulk.serve import Holding
from node.network.bulk.slots import BRISK_CHUNKS_MAX, LONE_CHUNKS_MAX, PEER_LINE_MAX, Place, Slots
from node.network.bulk.source import BlobSource
from node.network.bulk.swarm import SOURCES_AT_ONCE, SOURCES_KNOWN_MAX
from node.seams import BlobWriter
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId
from protocol.limits import CHUNK_BYTES
from simulations.world.disk import SimulatedDisk
from simulations.world.network_wires import WireProfile
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of

BLOB = BlobId("ab" * 32)


def test_a_hundred_have_it_soon_and_it_is_sent_few_times_by_whom_it_came_from() -> None:
    """docs/protocol.md §14.5, §14.6"""

    async def test(swarm: Swarm) -> None:
        await swarm.enter(101)
        await swarm.spread()
        assert swarm.last_s() <= 2.5 * swarm.copy_s
        assert swarm.origin_copies() <= math.log2(100)
        for peer in swarm.peers[1:]:
            assert await peer.disk.has_blob(swarm.blob)
            assert len(peer.sources()) <= SOURCES_KNOWN_MAX
            assert sum(transfer.size for transfer in peer.transfers if transfer.incoming) == len(swarm.data)

    run_swarm(test, 24)


def test_what_is_one_chunk_is_given_on_as_well() -> None:
    """docs/protocol.md §14.5"""

    async def test(swarm: Swarm) -> None:
        await swarm.enter(41)
        await swarm.spread()
        assert swarm.origin_copies() <= 2 * math.log2(40)

    run_swarm(test, 1)


def _lie(peer: Peer) -> None:
    """From now on give other bytes than those of the blob."""

    async def read(blob: BlobId, holding: Holding, index: int) -> bytes:
        return bytes(CHUNK_BYTES)

    peer.bulk._serving._read = read  # type: ignore[method-assign]


def test_it_spreads_though_some_crash_and_one_lies_and_streams_break() -> None:
    """docs/protocol.md §14.2: who gives other bytes is found out, and nobody else is blamed."""

    async def test(swarm: Swarm) -> None:
        await swarm.enter(25)
        liar, victims = swarm.peers[1], swarm.peers[5:10]
        _lie(liar)

        async def crash() -> None:
            for victim in victims:
                await trio.sleep(2.0)  # virtual time: what is under way goes on
                swarm.world.crash(victim.me)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            await swarm.spread()
        crashed = {victim.me for victim in victims}
        for peer in swarm.peers[1:]:
            if peer.me not in crashed:
                assert await peer.disk.read_blob(swarm.blob) == swarm.data
                assert liar.me not in peer.sources()
        blamed = {peer for each in swarm.peers for peer in each.network.conduct._standings}
        assert blamed == {liar.me}

    run_swarm(test, 8, profile=WireProfile(bytes_per_s=1e9, stream_break_probability=0.002))


def test_what_has_come_is_given_before_the_rest_has_come() -> None:
    """docs/protocol.md §14.3"""

    async def test(swarm: Swarm) -> None:
        allowed: set[NodeId] = set()
        await swarm.enter(4, may_read=lambda peer, blob: peer in allowed)
        half, after, stranger = swarm.peers[1:]
        allowed.update([half.me, after.me])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(swarm.fetch, half)
            await trio.sleep(swarm.copy_s / 3)  # virtual time: what is under way goes on
            assert not await half.disk.has_blob(swarm.blob)
            with pytest.raises(FednodeError, match="may not give it to us"):
                await stranger.bulk.fetch(swarm.blob, [half.me], len(swarm.data))
            await swarm.fetch(after, half.me)
        assert after.done_at is not None
        assert half.done_at is not None
        assert half.me in after.sources()
        assert after.done_at < half.done_at + 0.7 * swarm.copy_s
        assert not stranger.transfers

    run_swarm(test, 12)


def test_who_has_only_begun_to_fetch_is_no_lost_source() -> None:
    """docs/protocol.md §14.4: it is told of before it has its first chunk. That others ask it too is no reason to say
    that it has nothing."""

    async def test(swarm: Swarm) -> None:
        await swarm.enter(4)
        origin, slow, *after = swarm.peers
        room, receive = trio.Event(), slow.disk.receive_blob

        async def receive_later(*arguments: Any) -> BlobWriter:
            await room.wait()
            writer: BlobWriter = await receive(*arguments)
            return writer

        slow.disk.receive_blob = receive_later
        async with trio.open_nursery() as nursery:
            nursery.start_soon(swarm.fetch, slow)
            await trio.sleep(swarm.copy_s / 20)  # virtual time: the origin has told its chunk list
            for each in after:
                nursery.start_soon(swarm.fetch, each)
            await trio.sleep(swarm.copy_s / 5)  # virtual time: what is under way goes on
            for each in after:
                assert slow.me in each.bulk._sources
                assert each.bulk._fetches[swarm.blob]._failures == []
            room.set()
        for each in after:
            assert {slow.me, origin.me} <= each.sources()
        assert slow.sources() & {each.me for each in after}

    run_swarm(test, 12)


def test_who_is_after_a_blob_too_is_told_of_those_who_may_read_it_alone() -> None:
    """docs/protocol.md §14.5"""

    async def test(swarm: Swarm) -> None:
        barred: set[NodeId] = set()
        await swarm.enter(6, may_read=lambda peer, blob: peer not in barred)
        once = swarm.peers[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_in_vain, swarm, once)
            await trio.sleep(swarm.copy_s / 3)  # virtual time: what is under way goes on
            barred.add(once.me)
            for peer in swarm.peers[2:]:
                peer.bulk._means = replace(peer.bulk._means, may_read=lambda peer, blob: True)  # asks whoever is named
                nursery.start_soon(swarm.fetch, peer)
            await trio.sleep(swarm.copy_s)  # virtual time: what is under way goes on
            nursery.cancel_scope.cancel()
        for peer in swarm.peers[2:]:
            assert once.me not in peer.bulk._sources
            assert any(other.me in peer.bulk._sources for other in swarm.peers[2:] if other is not peer)

    run_swarm(test, 8)


async def _in_vain(swarm: Swarm, peer: Peer) -> None:
    with pytest.raises(FednodeError, match="may not give it to us"):
        await swarm.fetch(peer)


def test_the_first_to_come_get_different_chunks() -> None:
    """docs/protocol.md §14.8"""

    async def test(swarm: Swarm) -> None:
        await swarm.enter(17)
        origin, given = swarm.peers[0], []

        def on_transfer(transfer: object) -> None:
            given.append(list(origin.bulk._serving._slots._given[swarm.blob]))

        origin.bulk._on_transfer = on_transfer
        await swarm.spread()
        after_one_copy = given[11]  # those that have a turn, and are not sent yet, count already
        assert max(after_one_copy) == 1 or min(after_one_copy) == 1

    run_swarm(test, 12)


def test_one_that_stalls_in_the_middle_is_left_for_others() -> None:
    """docs/protocol.md §14.9"""

    async def test(swarm: Swarm) -> None:
        await swarm.enter(5)
        frozen = swarm.peers[1]
        async with trio.open_nursery() as nursery:
            for peer in swarm.peers[1:]:
                nursery.start_soon(_until_done_or_frozen, swarm, peer, frozen)
            await trio.sleep(swarm.copy_s / 2)  # virtual time: what is under way goes on
            swarm.world.freeze(frozen.me)
        for peer in swarm.peers[2:]:
            assert await peer.disk.has_blob(swarm.blob)

    run_swarm(test, 8)


async def _until_done_or_frozen(swarm: Swarm, peer: Peer, frozen: Peer) -> None:
    with trio.move_on_after(swarm.copy_s / 2 + 1 if peer is frozen else math.inf):
        await swarm.fetch(peer)


def test_how_far_a_transfer_is_can_be_seen_at_both_ends() -> None:
    async def test(swarm: Swarm) -> None:
        await swarm.enter(2)
        origin, peer = swarm.peers
        async with trio.open_nursery() as nursery:
            nursery.start_soon(swarm.fetch, peer)
            await trio.sleep(0.9)  # virtual time: what is under way goes on
            assert not peer.bulk.transfers()
            assert not origin.bulk.transfers()
            await trio.sleep(swarm.copy_s / 2)  # virtual time: what is under way goes on
            (coming,), (going,) = peer.bulk.transfers(), origin.bulk.transfers()
        assert (coming.direction, coming.peer, coming.blob) == ("in", origin.me, swarm.blob)
        assert (going.direction, going.peer, going.blob) == ("out", peer.me, swarm.blob)
        assert coming.total_bytes == going.total_bytes == len(swarm.data)
        assert 0 < coming.done_bytes < len(swarm.data)
        assert coming.rate_bytes_per_s == pytest.approx(LINE_BITS_PER_S / 8, rel=0.4)
        assert coming.left_s == pytest.approx(swarm.copy_s / 2, rel=0.6)
        assert not peer.bulk.transfers()

    run_swarm(test, 16)


LARGE = """
up_bits_per_s = 1e7
down_bits_per_s = 1e7
[run.task]
name = "digits"
[run.task.parameters]
hidden = [1024, 1024]
"""


# A list that stands in a scenario's run, rather than in a file of its own, is one where the manifest has a tuple.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_the_nodes_of_a_run_give_each_other_its_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/protocol.md §14.3: who has not stored a checkpoint yet gives what it has of it, in a run too."""
    givers: dict[BlobId, set[NodeId]] = {}
    went = Bulk._went

    def note(bulk: Bulk, transfer: Transfer, total: int) -> None:
        if total > CHUNK_BYTES:
            givers.setdefault(transfer.blob, set()).add(bulk._network.node_id)
        went(bulk, transfer, total)

    monkeypatch.setattr(Bulk, "_went", note)
    outcome = played(COHORT + LARGE, rounds=2, cohorts=False)
    assert outcome.outcome == "FINISHED"
    assert max(len(each) for each in givers.values()) >= 3


# --- who gets what, piece by piece -----------------------------------------------------------------------------
def _in_time(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=MockClock(autojump_threshold=0))


async def _board(chunks: int) -> tuple[Board, bytes]:
    data = Random(1).randbytes(chunks * CHUNK_BYTES)
    hashes = chunk_hashes_of(data)
    blob = blob_id_of(hashes, len(data))
    writer = await SimulatedDisk().receive_blob(blob, hashes, len(data))
    return Board(blob, len(data), hashes, writer, Random(1)), data


def _use(board: Board, *chunks: int, is_whole: bool = False) -> Use:
    use = Use(None)  # type: ignore[arg-type]
    board.heard(use, is_whole, chunks)
    return use


def test_the_rarest_chunk_is_asked_for_first_and_one_of_equals_by_lot() -> None:
    """docs/protocol.md §14.6"""

    async def test() -> None:
        board, _ = await _board(6)
        whole, many = _use(board, is_whole=True), _use(board, 0, 1, 2, 3)
        _use(board, 0, 1)
        assert {board.pick(whole) for _ in range(50)} == {4, 5}
        assert {board.pick(many) for _ in range(50)} == {2, 3}
        assert board.pick(many, [5, 1]) == 1  # what the source would rather give, if it is wanted
        assert board.pick(whole, in_order=True) == 0
        for index in (2, 3):
            board.claim(index, whole)
        assert {board.pick(many) for _ in range(50)} == {0, 1}
        board.release(2, whole, came=False)
        assert board.pick(many) == 2

    _in_time(test)


def test_only_the_last_chunks_are_asked_for_twice_and_only_where_they_take_long() -> None:
    """docs/protocol.md §14.6"""

    async def test() -> None:
        board, data = await _board(END_CHUNKS_MAX + 2)
        slow, quick = _use(board, is_whole=True), _use(board, is_whole=True)
        pieces = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        for index in range(len(pieces)):
            board.claim(index, slow)
        await trio.sleep(1.0)  # virtual time: what is under way goes on
        for index in range(2):
            assert board.pick_again(quick) is None
            await board.write(index, pieces[index])
            board.release(index, slow, came=True)
        assert board.pick_again(quick) is None
        await trio.sleep(END_PATIENCE)  # virtual time: what is under way goes on
        asked = []
        while (again := board.pick_again(quick)) is not None:
            board.claim(again, quick)
            asked.append(again)
        assert sorted(asked) == list(range(2, len(pieces)))
        assert all(len(claims) == ASKED_MAX for claims in board.claims.values())
        board.release(asked[0], quick, came=True)
        await board.write(asked[0], pieces[asked[0]])
        assert board.pick_again(quick) is None  # it is here, whatever the slow one owes

    _in_time(test)


def test_turns_go_round_and_who_is_slow_holds_up_nobody() -> None:
    """docs/protocol.md §14.7, §14.8"""

    async def test() -> None:
        slots = Slots(Random(1))
        greedy = [NodeId("greedy"), *(NodeId(f"peer-{number}") for number in range(4))]
        places = {peer: Place(peer, peer, BLOB, range(32), 32) for peer in greedy}
        first = places[greedy[0]]
        assert all(slots.take(first, index, can_choose=False) for index in range(LONE_CHUNKS_MAX))
        for index in range(LONE_CHUNKS_MAX):
            slots.gave(first, index)
        assert not slots.take(first, 9, can_choose=False)
        for peer in greedy:
            slots.enter(places[peer])
        assert not any(place.called.is_set() for place in places.values())
        slots.came(greedy[0], BLOB, range(LONE_CHUNKS_MAX))
        called = [peer for peer in greedy if places[peer].called.is_set()]
        assert called == greedy[1 : 1 + BRISK_CHUNKS_MAX]  # who was served already comes last
        advised = [places[peer].advice[0] for peer in called]
        assert len(set(advised)) == len(advised)
        assert not set(advised) & set(range(LONE_CHUNKS_MAX))
        for peer, index in zip(called, advised, strict=True):
            assert slots.take(places[peer], index, can_choose=False)
        await trio.sleep(30.0)  # virtual time: what is under way goes on
        slots.look()
        assert all(places[peer].called.is_set() for peer in greedy)

    _in_time(test)


def test_a_peer_has_so_many_places_in_line() -> None:
    """docs/protocol.md §14.7"""

    async def test() -> None:
        slots = Slots(Random(1))
        peer, other = NodeId("peer"), NodeId("other")
        first = Place(0, peer, BLOB, range(32), 32)
        assert all(slots.take(first, index, can_choose=False) for index in range(LONE_CHUNKS_MAX))
        for stream in range(PEER_LINE_MAX):
            assert not slots.is_in_line(stream, peer, BLOB)
            slots.enter(Place(stream, peer, BLOB, range(32), 32))
        assert slots.is_in_line(PEER_LINE_MAX, peer, BLOB)
        assert not slots.is_in_line(PEER_LINE_MAX, other, BLOB)

    _in_time(test)


def test_a_turn_that_is_not_used_lapses() -> None:
    """docs/protocol.md §14.7"""

    async def test() -> None:
        slots = Slots(Random(1))
        peers = [NodeId(f"peer-{number}") for number in range(BRISK_CHUNKS_MAX + 1)]
        places = [Place(peer, peer, BLOB, range(8), 8) for peer in peers]
        for place in places:
            slots.enter(place)
        assert [place.called.is_set() for place in places] == [True] * BRISK_CHUNKS_MAX + [False]
        await trio.sleep(10.0)  # virtual time: what is under way goes on
        slots.look()
        assert places[-1].called.is_set()
        slots.leave(peers[-1])
        assert slots.take(places[1], 0, can_choose=False)

    _in_time(test)


def test_sources_are_bounded_however_many_are_named() -> None:
    """docs/protocol.md §14.5"""

    async def test(swarm: Swarm) -> None:
        await swarm.enter(2 * SOURCES_AT_ONCE)
        most = 0

        def look(transfer: object) -> None:
            nonlocal most
            for fetch in last.bulk._fetches.values():
                if fetch._swarm is not None:
                    most = max(most, len(fetch._swarm._uses))

        last = swarm.peers[-1]
        last.bulk._on_transfer = look
        last.bulk._means.source_of(swarm.peers[0].me)
        await swarm.spread()
        assert 1 < most <= SOURCES_AT_ONCE
        assert all(isinstance(source, BlobSource) for source in last.bulk._sources.values())

    run_swarm(test, 6)
