"""Bytes of an update that is still coded: given as far as it is, proven by nobody, and gone on with. §8.29, §14.10."""

from collections.abc import Callable
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from network_ground import Ground, run_on_simulated

from node.network.bulk.bulk import Bulk, Transfer
from node.network.bulk.early import CODED_WAIT_S, Early, EarlyFetch
from node.network.bulk.pace import Pace
from node.network.bulk.wire import CHUNK, LIST, NEWS, NOT_HERE, OK, REFUSED, pack_answer, pack_request, read_request
from node.run.early import OthersEarly
from node.seams import BLOB_PROTOCOL, Stream
from protocol.keys import BlobId, Hash, NodeId
from protocol.limits import CHUNK_BYTES
from protocol.run.checkpoint import Checkpoint
from protocol.run.early import early_name
from protocol.run.events import FetchEarly
from simulations.world.disk import SimulatedDisk
from simulations.world.network_node import SimulatedNetwork
from simulations.world.network_wires import WireProfile
from tracker.blobs.chunks import blob_id_of_data, chunk_count

UPDATE = Random(5).randbytes(10 * CHUNK_BYTES + 77)
SIZE, COUNT = len(UPDATE), chunk_count(len(UPDATE))
NAME = early_name("ab" * 32, 1, Hash("cd" * 32), NodeId("node"))
SLOW = WireProfile(bytes_per_s=10 * CHUNK_BYTES)


class Coded:
    """What a codec has written of an update."""

    def __init__(self, content: bytes = UPDATE) -> None:
        self.content = content
        self.is_closed = False

    async def read(self, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        assert not self.is_closed
        return self.content[offset : offset + length]

    def close(self) -> None:
        self.is_closed = True


class Side:
    """A node's disk and bulk transfer."""

    def __init__(
        self, network: SimulatedNetwork, may_read: Callable[[NodeId, BlobId], bool] = lambda peer, blob: True
    ) -> None:
        self.network = network
        self.disk = SimulatedDisk()
        self.transfers: list[Transfer] = []
        self.pace = Pace()
        self.bulk = Bulk(network, self.disk, may_read, self.transfers.append, pace=self.pace)

    def bytes_of(self, blob: BlobId) -> int:
        return sum(each.size for each in self.transfers if each.blob == blob)


async def sides(ground: Ground, count: int = 2) -> list[Side]:
    made = [Side(network) for network in await ground.nodes(count)]
    for side in made:
        await ground.nursery.start(side.bulk.run)
    return made


async def fetching(
    ground: Ground, here: Side, there: NodeId, size: int = SIZE
) -> tuple[EarlyFetch, trio.Event, object]:
    writer = await here.disk.receive_early(size)
    fetch = await here.bulk.early_fetch(NAME, there, size, writer)
    done = trio.Event()

    async def run() -> None:
        await fetch.run()
        done.set()

    ground.nursery.start_soon(run)
    return fetch, done, writer


def test_what_is_coded_goes_at_once_and_the_rest_under_the_blobs_name() -> None:
    """§8.29, §14.10. A chunk goes as soon as it is coded, none before, and nothing goes twice."""

    async def test(ground: Ground) -> None:
        giver, taker = await sides(ground)
        early = Early(SIZE, coded := Coded())
        giver.bulk.give_early(NAME, early)
        fetch, done, writer = await fetching(ground, taker, giver.network.node_id)
        await trio.sleep(1)  # virtual time passes
        assert taker.bytes_of(NAME) == 0
        early.grew(3 * CHUNK_BYTES + 5)
        await trio.sleep(1)  # virtual time passes
        assert taker.bytes_of(NAME) == 3 * CHUNK_BYTES
        blob = await giver.disk.put_blob(UPDATE)
        early.grew(SIZE)
        await trio.sleep(0.25)  # virtual time passes
        fetch.stop()  # the offer has come
        await done.wait()
        came = taker.bytes_of(NAME)
        assert 3 * CHUNK_BYTES < came < SIZE
        giver.bulk.end_early(NAME)
        assert coded.is_closed
        assert not await taker.disk.stored_blobs(), "what came has no name"
        await writer.become(blob)  # type: ignore[attr-defined]
        await taker.bulk.fetch(blob, [giver.network.node_id], SIZE)
        assert await taker.disk.read_blob(blob) == UPDATE
        assert came + taker.bytes_of(blob) == SIZE

    run_on_simulated(test, profile=SLOW)


def test_bytes_that_are_not_the_blobs_are_fetched_again_and_are_no_fault() -> None:
    """§8.29. A training may have been begun anew; and who lies gains nothing."""

    async def test(ground: Ground) -> None:
        giver, taker = await sides(ground)
        early = Early(SIZE, Coded(UPDATE[:CHUNK_BYTES] + Random(6).randbytes(SIZE - CHUNK_BYTES)))
        giver.bulk.give_early(NAME, early)
        early.grew(SIZE)
        _, done, writer = await fetching(ground, taker, giver.network.node_id)
        await done.wait()
        assert taker.bytes_of(NAME) == SIZE
        blob = await giver.disk.put_blob(UPDATE)
        await writer.become(blob)  # type: ignore[attr-defined]
        await taker.bulk.fetch(blob, [giver.network.node_id], SIZE)
        assert await taker.disk.read_blob(blob) == UPDATE
        assert taker.bytes_of(blob) == SIZE - CHUNK_BYTES
        assert not taker.network.conduct._standings.get(giver.network.node_id)

    run_on_simulated(test)


def test_a_codec_that_stands_still_is_waited_for_a_bounded_time() -> None:
    """§14.10."""

    async def test(ground: Ground) -> None:
        giver, taker = await sides(ground)
        early = Early(SIZE, Coded())
        giver.bulk.give_early(NAME, early)
        early.grew(CHUNK_BYTES)
        _, done, _ = await fetching(ground, taker, giver.network.node_id)
        began = trio.current_time()
        await done.wait()
        assert trio.current_time() - began < CODED_WAIT_S + 1
        assert taker.bytes_of(NAME) == CHUNK_BYTES

    run_on_simulated(test)


def test_what_is_ended_is_given_to_nobody() -> None:
    """§8.29. Who waits for the codec is told at once."""

    async def test(ground: Ground) -> None:
        giver, taker = await sides(ground)
        giver.bulk.give_early(NAME, Early(SIZE, Coded()))
        _, done, _ = await fetching(ground, taker, giver.network.node_id)
        began = trio.current_time()
        await trio.sleep(1)  # virtual time passes
        giver.bulk.end_early(NAME)
        await done.wait()
        assert trio.current_time() - began < 2
        assert not giver.bulk._serving._slots._given, "nothing is remembered of it"

    run_on_simulated(test)


def test_only_chunks_are_to_be_had_and_only_by_who_may_read() -> None:
    """§8.29, §14.10. There is no list of it, and no news."""

    async def test(ground: Ground) -> None:
        here, there, stranger = await ground.nodes(3)
        giver = Side(here, lambda peer, blob: peer == there.node_id)
        await ground.nursery.start(giver.bulk.run)
        early = Early(SIZE, Coded())
        giver.bulk.give_early(NAME, early)
        early.grew(SIZE)
        first = (0).to_bytes(4, "big") + b"\0"
        asked = {LIST: b"", NEWS: (0).to_bytes(4, "big") + b"\0", CHUNK: first}
        for network, answers in ((there, [NOT_HERE, NOT_HERE, OK]), (stranger, [REFUSED] * 3)):
            stream = await network.open(here.node_id, BLOB_PROTOCOL)
            for number, ((kind, body), status) in enumerate(zip(asked.items(), answers, strict=True)):
                await stream.send_frame(pack_request(kind, number, NAME, body))
                assert await stream.receive_frame(5) == pack_answer(status, number)

    run_on_simulated(test)


@pytest.mark.parametrize("length", [0, CHUNK_BYTES - 1])
def test_chunks_that_are_too_short_are_a_fault_and_end_it(length: int) -> None:
    """§14.10."""

    async def test(ground: Ground) -> None:
        liar, network = await ground.nodes(2)

        async def serve(stream: Stream) -> None:
            while True:
                request = read_request(await stream.receive_frame(4096))
                if request.kind == CHUNK:
                    await stream.send_frame(pack_answer(OK, request.number))
                    await stream.send_frame(bytes(length))

        liar.handle(BLOB_PROTOCOL, serve)
        taker = Side(network)
        await ground.nursery.start(taker.bulk.run)
        _, done, writer = await fetching(ground, taker, liar.node_id)
        await done.wait()
        assert taker.bytes_of(NAME) == 0
        assert network.conduct._standings.get(liar.node_id)
        blob = blob_id_of_data(UPDATE)
        await writer.become(blob)  # type: ignore[attr-defined]
        assert not await taker.disk.has_blob(blob)

    run_on_simulated(test)


def test_early_bytes_are_paced_and_shown_as_others_are() -> None:
    """§8.29. Limits hold for them, and people see them come and go."""

    async def test(ground: Ground) -> None:
        giver, taker = await sides(ground)
        giver.pace.set_limits(CHUNK_BYTES, None)
        early = Early(SIZE, Coded())
        giver.bulk.give_early(NAME, early)
        early.grew(SIZE)
        fetch, done, _ = await fetching(ground, taker, giver.network.node_id)
        await trio.sleep(5.5)  # virtual time passes
        assert 4 * CHUNK_BYTES <= taker.bytes_of(NAME) <= 7 * CHUNK_BYTES
        (coming,), (going,) = taker.bulk.transfers(), giver.bulk.transfers()
        assert (coming.blob, coming.direction, coming.total_bytes) == (NAME, "in", SIZE)
        assert (going.blob, going.direction, going.total_bytes) == (NAME, "out", SIZE)
        assert going.rate_bytes_per_s == pytest.approx(CHUNK_BYTES, rel=0.2)
        fetch.stop()
        await done.wait()
        await trio.sleep(0.1)  # virtual time passes
        assert not taker.bulk.transfers()
        assert not giver.bulk.transfers()

    run_on_simulated(test)


def test_who_waits_in_line_stops_at_once() -> None:
    """§14.10. While others are before us there is nothing on its way to be waited for."""

    async def test(ground: Ground) -> None:
        giver, taker, other = await sides(ground, 3)
        giver.pace.set_limits(CHUNK_BYTES / 10, None)
        blob = await giver.disk.put_blob(Random(7).randbytes(SIZE))
        ground.nursery.start_soon(other.bulk.fetch, blob, [giver.network.node_id], SIZE)
        await trio.sleep(1)  # virtual time passes
        early = Early(SIZE, Coded())
        giver.bulk.give_early(NAME, early)
        early.grew(SIZE)
        fetch, done, _ = await fetching(ground, taker, giver.network.node_id)
        await trio.sleep(1)  # virtual time passes
        assert giver.bulk._serving._slots._line
        began = trio.current_time()
        fetch.stop()
        await done.wait()
        assert trio.current_time() - began < 0.1
        ground.nursery.cancel_scope.cancel()

    run_on_simulated(test, profile=SLOW)


class SlowWriter:
    """node.seams.EarlyWriter on a disk that is slow and does not hear of cancellations."""

    def __init__(self) -> None:
        self.is_gone = False

    async def write_chunk(self, index: int, data: bytes) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)  # virtual time passes

    async def become(self, blob: BlobId) -> None:
        await self.abandon()

    async def abandon(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self.is_gone = True


def test_no_file_stays_behind_whoever_is_cancelled_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.29. A run may be stopped while what came of an update is being dropped for another, or taken up."""
    monkeypatch.setattr("node.run.early.EARLY_BYTES_MIN", 1)

    async def test(ground: Ground) -> None:
        giver, taker = await sides(ground)
        early = Early(SIZE, Coded())
        giver.bulk.give_early(NAME, early)
        early.grew(SIZE)
        writers: list[SlowWriter] = []

        async def receive_early(size: int) -> SlowWriter:
            writers.append(SlowWriter())
            return writers[-1]

        taker.disk.receive_early = receive_early  # type: ignore[assignment]
        others = OthersEarly(taker.disk, taker.bulk, {})
        any_round: Any = SimpleNamespace(offers={}, early_bytes_are_of_use=lambda peer, base: True)
        await others.only_for(any_round)
        async with trio.open_nursery() as run:
            for base in ("aa" * 32, "bb" * 32, "cc" * 32):
                checkpoint = cast(Checkpoint, None)
                wanted = FetchEarly(giver.network.node_id, NAME, Hash(base), checkpoint)
                run.start_soon(others.fetch, wanted, SIZE)
                await trio.sleep(0.3)  # virtual time passes
            run.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await others.only_for(None)
        assert writers
        assert all(writer.is_gone for writer in writers)
        assert not taker.bulk._early

    run_on_simulated(test)


def test_what_the_round_has_no_use_for_does_not_begin_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """§8.29. It is asked for a moment after it was wanted; by then the round may be over, or the offer here."""
    monkeypatch.setattr("node.run.early.EARLY_BYTES_MIN", 1)

    async def test(ground: Ground) -> None:
        giver, taker = await sides(ground)
        peer, base = giver.network.node_id, Hash("aa" * 32)
        early = Early(SIZE, Coded())
        giver.bulk.give_early(NAME, early)
        early.grew(SIZE)
        others = OthersEarly(taker.disk, taker.bulk, {})
        wanted = FetchEarly(peer, NAME, base, cast(Checkpoint, None))
        rounds: list[Any] = [
            None,
            SimpleNamespace(offers={}, early_bytes_are_of_use=lambda peer, base: False),
            SimpleNamespace(offers={peer: b"signed"}, early_bytes_are_of_use=lambda peer, base: True),
        ]
        for gathering in rounds:
            await others.only_for(gathering)
            await others.fetch(wanted, SIZE)
            assert not others._coming
            assert taker.bytes_of(NAME) == 0

    run_on_simulated(test)


def test_codecs_that_are_waited_for_leave_the_line_to_other_blobs() -> None:
    """§8.29: nothing waits for any of this, however many runs code at once."""
    seconds: list[float] = []

    async def test(ground: Ground, runs: int) -> None:
        giver, taker = await sides(ground)
        peer, earlies = giver.network.node_id, [Early(SIZE, Coded()) for _ in range(runs)]
        for number, early in enumerate(earlies):
            name = early_name("ab" * 32, number, Hash("cd" * 32), peer)
            giver.bulk.give_early(name, early)
            fetch = await taker.bulk.early_fetch(name, peer, SIZE, await taker.disk.receive_early(SIZE))
            ground.nursery.start_soon(fetch.run)
        blob = await giver.disk.put_blob(UPDATE)
        await trio.sleep(1)  # virtual time passes
        began = trio.current_time()
        await taker.bulk.fetch(blob, [peer], SIZE)
        seconds.append(trio.current_time() - began)
        ground.nursery.cancel_scope.cancel()

    for runs in (0, 3):
        run_on_simulated(partial(test, runs=runs), profile=SLOW)
    assert seconds[1] < 1.1 * seconds[0]
