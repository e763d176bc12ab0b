"""Bulk transfer: whole blobs from good sources, nothing from bad ones, nothing twice."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from network_ground import Ground, introduce, run_on_simulated

from node.home.disk import FileDisk
from node.network.bulk.bulk import Bulk, Fetched, Transfer
from node.network.bulk.source import LINE_S_MAX
from node.network.bulk.wire import (
    CHUNK,
    DAMAGED,
    GOT,
    IN_LINE,
    LIST,
    NEWS,
    NOT_HERE,
    OK,
    REFUSED,
    REQUEST_BYTES_MAX,
    UNKNOWN,
    WAIT,
    pack_answer,
    pack_list,
    pack_news,
    pack_request,
    read_request,
)
from node.network.libp2p.network import Libp2pNetwork
from node.seams import BLOB_PROTOCOL, Disk, Network, Stream, StreamClosed
from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_STALL_S, CHUNK_BYTES
from simulations.world.disk import SimulatedDisk
from simulations.world.network_node import SimulatedNetwork
from simulations.world.network_wires import WireProfile
from tracker.blobs.chunks import blob_id_of, chunk_hashes_of

TEN_MB = Random(3).randbytes(10_000_000)
NOBODY = BlobId("ab" * 32)
ONE_BYTE = blob_id_of(chunk_hashes_of(b"x"), 1)


class Place:
    """A node's bulk transfer, its disk, and what went over it."""

    def __init__(
        self, network: Network, disk: Disk, may_read: Callable[[NodeId, BlobId], bool] = lambda peer, blob: True
    ) -> None:
        self.network = network
        self.disk = disk
        self.transfers: list[Transfer] = []
        self.bulk = Bulk(network, disk, may_read, self.transfers.append)

    @property
    def me(self) -> NodeId:
        return self.network.node_id

    def came(self) -> int:
        return sum(transfer.size for transfer in self.transfers if transfer.incoming)


async def _place(ground: Ground, network: SimulatedNetwork, **options: Callable[[NodeId, BlobId], bool]) -> Place:
    place = Place(network, SimulatedDisk(), **options)
    await ground.nursery.start(place.bulk.run)
    return place


async def _places(ground: Ground, count: int) -> list[Place]:
    return [await _place(ground, network) for network in await ground.nodes(count)]


async def _time_passes(seconds: float) -> None:
    with trio.move_on_after(seconds):
        await trio.Event().wait()


async def _ten_megabytes(here: Place, there: Place) -> None:
    blob = await there.disk.put_blob(TEN_MB)
    assert await here.bulk.fetch(blob, [there.me], 10_000_000) == Fetched(there.me, 10_000_000)
    assert await here.disk.read_blob(blob) == TEN_MB
    assert here.came() == 10_000_000
    assert {(each.peer, each.blob, each.incoming) for each in there.transfers} == {(here.me, blob, False)}


def test_ten_megabytes_arrive_over_the_simulated_network() -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        await _ten_megabytes(here, there)
        here.transfers.clear()
        blob = await there.disk.put_blob(TEN_MB)
        assert await here.bulk.fetch(blob, [], 10_000_000) == Fetched(here.me, 10_000_000)
        assert here.transfers == []

    run_on_simulated(test)


@pytest.mark.real
def test_ten_megabytes_arrive_over_the_real_network(tmp_path: Path) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            places: list[Place] = []
            for name in ("here", "there"):
                network = Libp2pNetwork(Ed25519PrivateKey.generate(), ["/ip4/127.0.0.1/tcp/0"])
                await nursery.start(network.run)
                (tmp_path / name).mkdir()
                places.append(Place(network, FileDisk(tmp_path / name)))
                await nursery.start(places[-1].bulk.run)
            introduce(*(place.network for place in places))  # type: ignore[arg-type]
            for place in places:
                place.network.set_door(lambda peer: True)
            with trio.fail_after(30):
                await _ten_megabytes(*places)
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_blobs_of_every_shape_arrive(size: int) -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        data = TEN_MB[:size]
        blob = await there.disk.put_blob(data)
        assert await here.bulk.fetch(blob, [there.me], size) == Fetched(there.me, size)
        assert await here.disk.read_blob(blob) == data
        assert here.came() == size

    run_on_simulated(test)


def test_who_may_not_read_gets_nothing_and_is_not_told_whether_it_is_there() -> None:
    async def test(ground: Ground) -> None:
        one, other, owner = await ground.nodes(3)
        secret = await _place(ground, owner, may_read=lambda peer, blob: peer == other.node_id)
        refused, reader = await _place(ground, one), await _place(ground, other)
        blob = await secret.disk.put_blob(b"for one only")
        for wanted in (blob, NOBODY):
            with pytest.raises(FednodeError, match="may not give it to us"):
                await refused.bulk.fetch(wanted, [owner.node_id], 100)
        await reader.bulk.fetch(blob, [owner.node_id], 100)
        with pytest.raises(FednodeError, match="does not have it"):
            await reader.bulk.fetch(NOBODY, [owner.node_id], 100)
        # The first reader has it now, and lets everybody read.
        assert (await refused.bulk.fetch(blob, [owner.node_id, other.node_id], 100)).source == other.node_id

    run_on_simulated(test)


def test_when_nobody_gives_it_the_error_says_why() -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        with pytest.raises(FednodeError, match="nobody was named"):
            await here.bulk.fetch(NOBODY, [here.me], 100)
        ground.world.crash(there.me)
        with pytest.raises(FednodeError, match="cannot be reached"):
            await here.bulk.fetch(NOBODY, [there.me], 100)

    run_on_simulated(test)


def test_a_blob_that_is_too_large_is_refused_before_anything_is_stored() -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        blob = await there.disk.put_blob(TEN_MB)
        with pytest.raises(Refused) as refusal:
            await here.bulk.fetch(blob, [there.me], 9_999_999)
        assert refusal.value.code == "blob-too-large"
        assert here.came() == 0
        assert isinstance(here.disk, SimulatedDisk)
        assert len(here.disk.missing_chunks(blob, 10)) == 10
        await here.bulk.fetch(blob, [there.me], 10_000_000)
        with pytest.raises(Refused):
            await here.bulk.fetch(blob, [there.me], 100)

    run_on_simulated(test)


Answers = Callable[[bool], list[bytes | int]]


def _serve(network: Network, answers: Answers) -> None:
    """Have `network` answer requests for blobs with whatever `answers` gives for a chunk list, or else for a chunk; of
    that, a number is a status."""

    async def serve(stream: Stream) -> None:
        try:
            while True:
                request = read_request(await stream.receive_frame(REQUEST_BYTES_MAX))
                if request.kind in (LIST, CHUNK):
                    for frame in answers(request.kind == LIST):
                        await stream.send_frame(
                            frame if isinstance(frame, bytes) else pack_answer(frame, request.number)
                        )
        except StreamClosed:
            return

    network.handle(BLOB_PROTOCOL, serve)


def _list_frame(data: bytes) -> bytes:
    return pack_list(len(data), chunk_hashes_of(data))


TWO_CHUNKS = TEN_MB[: 2 * CHUNK_BYTES]
ALL_OF_IT = pack_news(2, range(2), 0, [])
LISTED = [_list_frame(TWO_CHUNKS), ALL_OF_IT]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(lambda of_list: [OK, _list_frame(TEN_MB), ALL_OF_IT], id="another blob's list"),
        pytest.param(lambda of_list: [OK, b"short"], id="no list at all"),
        pytest.param(lambda of_list: [OK, (1 << 40).to_bytes(8, "little")], id="a size that is a lie"),
        pytest.param(lambda of_list: [OK, *(LISTED if of_list else [bytes(CHUNK_BYTES)])], id="a chunk that is a lie"),
        pytest.param(lambda of_list: [OK, *(LISTED if of_list else [bytes(CHUNK_BYTES + 1)])], id="too long a chunk"),
        pytest.param(lambda of_list: [OK, LISTED[0], b"news"], id="news that are none"),
        pytest.param(lambda of_list: [NOT_HERE], id="does not have it"),
        pytest.param(lambda of_list: [99], id="a status that nobody knows"),
        pytest.param(lambda of_list: [b"status too long"], id="a frame that is too long"),
        pytest.param(lambda of_list: [pack_answer(OK, 7)], id="an answer to nothing"),
        pytest.param(lambda of_list: [], id="says nothing"),
        pytest.param(lambda of_list: [OK, *LISTED] if of_list else [], id="stalls after the list"),
    ],
)
def test_a_bad_source_is_dropped_for_a_good_one(answers: Answers) -> None:
    """docs/protocol.md §14.2"""

    async def test(ground: Ground) -> None:
        one, bad, good = await ground.nodes(3)
        here, there = await _place(ground, one), await _place(ground, good)
        _serve(bad, answers)
        blob = await there.disk.put_blob(TWO_CHUNKS)
        with trio.fail_after(3 * BLOB_STALL_S):
            fetched = await here.bulk.fetch(blob, [bad.node_id, good.node_id], len(TWO_CHUNKS))
        assert fetched == Fetched(good.node_id, len(TWO_CHUNKS))
        assert await here.disk.read_blob(blob) == TWO_CHUNKS
        assert good.node_id not in one.conduct._standings

    run_on_simulated(test)


@pytest.mark.parametrize("status", [NOT_HERE, REFUSED, DAMAGED])
def test_who_says_that_it_has_what_it_has_not_is_dropped_and_not_charged(status: int) -> None:
    """docs/protocol.md §14.4"""

    async def test(ground: Ground) -> None:
        one, boaster, good = await ground.nodes(3)
        here, there = await _place(ground, one), await _place(ground, good)
        _serve(boaster, lambda of_list: [OK, *LISTED] if of_list else [status])
        blob = await there.disk.put_blob(TWO_CHUNKS)
        assert (await here.bulk.fetch(blob, [boaster.node_id, good.node_id], len(TWO_CHUNKS))).source == good.node_id
        assert not one.conduct._standings

    run_on_simulated(test)


def test_nobody_is_asked_for_what_it_did_not_say_that_it_has() -> None:
    """docs/protocol.md §14.4"""

    async def test(ground: Ground) -> None:
        one, half, good = await ground.nodes(3)
        here, there = await _place(ground, one), await _place(ground, good)
        asked: list[bytes] = []

        async def serve(stream: Stream) -> None:
            while True:
                request = read_request(await stream.receive_frame(REQUEST_BYTES_MAX))
                if request.kind == LIST:
                    for frame in (pack_answer(OK, request.number), LISTED[0], pack_news(2, [1], 0, [good.node_id])):
                        await stream.send_frame(frame)
                elif request.kind == CHUNK:
                    asked.append(request.body[:4])
                    await stream.send_frame(pack_answer(OK, request.number))
                    await stream.send_frame(TWO_CHUNKS[CHUNK_BYTES:])

        half.handle(BLOB_PROTOCOL, serve)
        blob = await there.disk.put_blob(TWO_CHUNKS)
        await here.bulk.fetch(blob, [half.node_id], len(TWO_CHUNKS))
        assert asked == [b"\0\0\0\1"]
        assert {(each.peer, each.incoming) for each in here.transfers} == {(half.node_id, True), (good.node_id, True)}

    run_on_simulated(test)


@pytest.mark.parametrize(("answer_s", "seconds"), [(BLOB_STALL_S - 1, 1000.0), (BLOB_STALL_S + 5, 3 * BLOB_STALL_S)])
def test_who_trickles_is_dropped(answer_s: float, seconds: float) -> None:
    """docs/protocol.md §14.9: a chunk in every window is enough, and less is not, whatever else is said meanwhile."""

    async def test(ground: Ground) -> None:
        one, slow = await ground.nodes(2)
        here = await _place(ground, one)
        data = TEN_MB[: 3 * CHUNK_BYTES]

        async def serve(stream: Stream) -> None:
            while True:
                request = read_request(await stream.receive_frame(REQUEST_BYTES_MAX))
                head = pack_answer(OK, request.number)
                if request.kind == LIST:
                    frames = [head, _list_frame(data), pack_news(3, range(3), 0, [])]
                elif request.kind == NEWS:
                    frames = [head, pack_news(3, range(3), 0, [])]
                elif request.kind != CHUNK:
                    continue
                else:
                    await _time_passes(answer_s)
                    at = int.from_bytes(request.body[:4], "big") * CHUNK_BYTES
                    frames = [head, data[at : at + CHUNK_BYTES]]
                for frame in frames:
                    await stream.send_frame(frame)

        slow.handle(BLOB_PROTOCOL, serve)
        blob = blob_id_of(chunk_hashes_of(data), len(data))
        with trio.fail_after(seconds):
            if answer_s < BLOB_STALL_S:
                assert (await here.bulk.fetch(blob, [slow.node_id], len(data))).source == slow.node_id
            else:
                with pytest.raises(FednodeError, match="gave nothing for"):
                    await here.bulk.fetch(blob, [slow.node_id], len(data))

    run_on_simulated(test)


def test_who_says_for_ever_that_others_are_before_us_is_dropped() -> None:
    """docs/protocol.md §14.9"""

    async def test(ground: Ground) -> None:
        one, busy = await ground.nodes(2)
        here = await _place(ground, one)

        async def serve(stream: Stream) -> None:
            first = 0
            try:
                while True:
                    with trio.move_on_after(5.0):
                        request = read_request(await stream.receive_frame(REQUEST_BYTES_MAX))
                        if request.kind == LIST:
                            for frame in (pack_answer(OK, request.number), *LISTED):
                                await stream.send_frame(frame)
                        elif request.kind == CHUNK and first:
                            await stream.send_frame(pack_answer(IN_LINE, request.number))
                        elif request.kind == CHUNK:
                            first = request.number
                        elif request.kind == NEWS:
                            for frame in (pack_answer(OK, request.number), ALL_OF_IT):
                                await stream.send_frame(frame)
                    if first:
                        await stream.send_frame(pack_answer(WAIT, first))
            except StreamClosed:
                return

        busy.handle(BLOB_PROTOCOL, serve)
        blob = blob_id_of(chunk_hashes_of(TWO_CHUNKS), len(TWO_CHUNKS))
        began = trio.current_time()
        with pytest.raises(FednodeError, match="Nobody gave"):
            await here.bulk.fetch(blob, [busy.node_id], len(TWO_CHUNKS))
        assert 2 * BLOB_STALL_S < trio.current_time() - began <= LINE_S_MAX + BLOB_STALL_S

    run_on_simulated(test)


def test_a_lie_about_an_only_chunk_is_found() -> None:
    async def test(ground: Ground) -> None:
        one, bad, good = await ground.nodes(3)
        here, there = await _place(ground, one), await _place(ground, good)
        _serve(bad, lambda of_list: [OK, _list_frame(b"truth"), b"a lie"])
        blob = await there.disk.put_blob(b"truth")
        assert blob == blob_id_of(chunk_hashes_of(b"truth"), 5)
        assert (await here.bulk.fetch(blob, [bad.node_id, good.node_id], 5)).source == good.node_id

    run_on_simulated(test)


def test_who_gives_false_bytes_again_and_again_is_refused() -> None:
    """docs/protocol.md §4.18: and who does not have a blob, or may not give it, never is."""

    async def test(ground: Ground) -> None:
        one, liar, honest = await ground.nodes(3)
        here = await _place(ground, one)
        await _place(ground, honest, may_read=lambda peer, blob: False)
        _serve(liar, lambda of_list: [OK, _list_frame(b"truth"), b"a lie"])
        blob = blob_id_of(chunk_hashes_of(b"truth"), 5)
        for _ in range(20):
            with pytest.raises(FednodeError):
                await here.bulk.fetch(blob, [liar.node_id, honest.node_id], 5)
        assert "false-data" in one.trouble(liar.node_id)
        assert one.trouble(honest.node_id) == ""

    run_on_simulated(test)


def test_an_interrupted_fetch_is_taken_up_where_it_was() -> None:
    async def test(ground: Ground) -> None:
        here, there, another = await _places(ground, 3)
        blob = await there.disk.put_blob(TEN_MB)
        await another.disk.put_blob(TEN_MB)

        def crash_half_way(transfer: Transfer) -> None:
            here.transfers.append(transfer)
            if len(here.transfers) == 5:
                ground.world.crash(there.me)

        here.bulk._on_transfer = crash_half_way
        with pytest.raises(FednodeError, match="Nobody gave"):
            await here.bulk.fetch(blob, [there.me], 10_000_000)
        before = here.came()
        assert 4 * CHUNK_BYTES < before < 10_000_000
        assert (await here.bulk.fetch(blob, [there.me, another.me], 10_000_000)).source == another.me
        assert here.came() == 10_000_000
        assert await here.disk.read_blob(blob) == TEN_MB

    run_on_simulated(test)


@pytest.mark.parametrize("size", [10_000_000, 100_000])
def test_who_waits_for_a_blob_while_bulk_transfer_ends_is_told_so(size: int) -> None:
    """The node stops, and a command still waits for its answer: the API ends after bulk transfer."""

    async def test(ground: Ground) -> None:
        network, other = await ground.nodes(2)
        there = await _place(ground, other)
        here = Place(network, SimulatedDisk())
        blob = await there.disk.put_blob(TEN_MB[:size])
        living = trio.CancelScope()

        async def live(task_status: trio.TaskStatus[None]) -> None:
            with living:
                await here.bulk.run(task_status=task_status)

        await ground.nursery.start(live)
        there.bulk._on_transfer = lambda transfer: living.cancel()
        for _ in range(2):
            with trio.fail_after(60), pytest.raises(FednodeError, match="the node stops"):
                await here.bulk.fetch(blob, [there.me], size)

    run_on_simulated(test)


def test_fetches_of_one_blob_are_one() -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        blob = await there.disk.put_blob(TEN_MB)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(here.bulk.fetch, blob, [there.me], 10_000_000)
        assert here.came() == 10_000_000

    run_on_simulated(test)


def test_fetches_of_one_blob_ask_the_sources_of_all() -> None:
    async def test(ground: Ground) -> None:
        here, there, without = await _places(ground, 3)
        blob = await there.disk.put_blob(TEN_MB)

        async def first() -> None:
            assert await here.bulk.fetch(blob, [without.me], 10_000_000) == Fetched(there.me, 10_000_000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            assert await here.bulk.fetch(blob, [there.me], 10_000_000) == Fetched(there.me, 10_000_000)

    run_on_simulated(test)


@pytest.mark.parametrize("knew_both", [False, True])
@pytest.mark.parametrize("size", [10, len(TEN_MB)])
def test_a_fetch_that_hangs_on_a_frozen_source_goes_on_with_another(size: int, knew_both: bool) -> None:
    async def test(ground: Ground) -> None:
        frozen, other, mine = await ground.nodes(3)
        asked = trio.Event()

        async def says_nothing(stream: Stream) -> None:
            await stream.receive_frame(REQUEST_BYTES_MAX)
            asked.set()
            await trio.Event().wait()

        frozen.handle(BLOB_PROTOCOL, says_nothing)
        there, here = await _place(ground, other), await _place(ground, mine)
        blob = await there.disk.put_blob(TEN_MB[:size])
        found: list[Fetched] = []

        async def fetch(source: NodeId, then: NodeId) -> None:
            found.append(await here.bulk.fetch(blob, [source, then] if knew_both else [source], size))

        with trio.fail_after(BLOB_STALL_S / 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch, frozen.node_id, other.node_id)
                await asked.wait()
                nursery.start_soon(fetch, other.node_id, frozen.node_id)
        assert found == 2 * [Fetched(other.node_id, size)]
        assert here.came() == size

    run_on_simulated(test)


def test_a_caller_who_leaves_leaves_it_to_the_others_and_the_last_one_ends_it() -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        blob = await there.disk.put_blob(TEN_MB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.bulk.fetch, blob, [there.me], 10_000_000)
            with trio.move_on_after(0.15) as patience:
                await here.bulk.fetch(blob, [there.me], 10_000_000)
            assert patience.cancelled_caught
        assert await here.disk.has_blob(blob)
        await here.disk.delete_blob(blob)
        here.transfers.clear()
        with trio.move_on_after(0.15):
            await here.bulk.fetch(blob, [there.me], 10_000_000)
        await _time_passes(60)
        assert here.came() < 10_000_000
        assert not here.bulk._fetches

    run_on_simulated(test)


def test_several_sources_share_the_work() -> None:
    async def test(ground: Ground) -> None:
        here, *others = await _places(ground, 4)
        blob = BlobId("")
        for other in others:
            blob = await other.disk.put_blob(TEN_MB)
        await here.bulk.fetch(blob, [other.me for other in others], 10_000_000)
        assert all(other.transfers for other in others)
        assert here.came() == 10_000_000

    run_on_simulated(test, profile=WireProfile(bytes_per_s=10e6))


def test_a_source_that_restarted_meanwhile_is_asked_again() -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        first, second = await there.disk.put_blob(b"first"), await there.disk.put_blob(b"second")
        await here.bulk.fetch(first, [there.me], 10)
        ground.world.crash(there.me)
        network = await ground.again(there.me)
        back = Place(network, there.disk)
        await ground.nursery.start(back.bulk.run)
        assert (await here.bulk.fetch(second, [there.me], 10)).size == 6

    run_on_simulated(test)


def test_an_idle_stream_is_let_go_and_opened_again() -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        first, second = await there.disk.put_blob(b"first"), await there.disk.put_blob(b"second")
        await here.bulk.fetch(first, [there.me], 10)
        await _time_passes(200)
        assert here.bulk._sources[there.me]._current is None
        assert (await here.bulk.fetch(second, [there.me], 10)).size == 6

    run_on_simulated(test)


def test_streams_that_break_by_themselves_do_not_end_a_fetch_that_is_tried_again() -> None:
    async def test(ground: Ground) -> None:
        here, *others = await _places(ground, 4)
        blob = BlobId("")
        for other in others:
            blob = await other.disk.put_blob(TEN_MB)
        for _ in range(20):
            try:
                await here.bulk.fetch(blob, [other.me for other in others], 10_000_000)
                break
            except FednodeError:
                continue
        assert await here.disk.read_blob(blob) == TEN_MB

    run_on_simulated(test, profile=WireProfile(stream_break_probability=0.05))


def test_a_damaged_chunk_is_not_served() -> None:
    async def test(ground: Ground) -> None:
        here, there, good = await _places(ground, 3)
        blob = await there.disk.put_blob(TWO_CHUNKS)
        await good.disk.put_blob(TWO_CHUNKS)
        assert isinstance(there.disk, SimulatedDisk)
        there.disk.damage_blob(blob, 1)
        with pytest.raises(FednodeError, match="has it damaged"):
            await here.bulk.fetch(blob, [there.me], len(TWO_CHUNKS))
        await here.bulk.fetch(blob, [there.me, good.me], len(TWO_CHUNKS))
        assert await here.disk.read_blob(blob) == TWO_CHUNKS

    run_on_simulated(test)


@pytest.mark.parametrize(
    "frame",
    [
        b"short",
        pack_request(CHUNK, 1, ONE_BYTE, b"\0\0\0\x63\0"),
        pack_request(CHUNK, 1, ONE_BYTE, b""),
        pack_request(CHUNK, 1, ONE_BYTE, bytes(8)),
        pack_request(NEWS, 1, ONE_BYTE, b"?"),
        pack_request(GOT, 1, ONE_BYTE, b"?"),
        pack_request(LIST, 1, ONE_BYTE, bytes(REQUEST_BYTES_MAX)),
    ],
)
def test_a_malformed_request_resets_the_stream(frame: bytes) -> None:
    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        assert await there.disk.put_blob(b"x") == ONE_BYTE
        stream = await here.network.open(there.me, BLOB_PROTOCOL)
        await stream.send_frame(frame)
        with pytest.raises(StreamClosed):
            await stream.receive_frame(10)
        assert there.network.conduct._standings

    run_on_simulated(test)


def test_a_request_of_an_unknown_kind_is_refused_and_the_next_one_answered() -> None:
    """docs/protocol.md §14.1"""

    async def test(ground: Ground) -> None:
        here, there = await _places(ground, 2)
        await there.disk.put_blob(b"x")
        stream = await here.network.open(there.me, BLOB_PROTOCOL)
        await stream.send_frame(pack_request(99, 5, ONE_BYTE, b"whatever"))
        assert await stream.receive_frame(10) == pack_answer(UNKNOWN, 5)
        await stream.send_frame(pack_request(LIST, 6, ONE_BYTE))
        assert await stream.receive_frame(10) == pack_answer(OK, 6)
        assert not there.network.conduct._standings

    run_on_simulated(test)
