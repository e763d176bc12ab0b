"""Serving blobs: to whom they are meant for, whole ones and what has come of others, each peer in its turn.

Who asks for a blob that is not small is told who else does, so that they get it from each other.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import trio

from node.network.bulk import wire as bulk_wire
from node.network.bulk.board import Board, Whole
from node.network.bulk.early import Early
from node.network.bulk.pace import Pace
from node.network.bulk.progress import Transfer
from node.network.bulk.slots import Place, Slots
from node.network.bulk.source import NEWS_PARK_S
from node.network.bulk.wire import Request
from node.seams import Disk, Stream, StreamClosed
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_STALL_S
from tracker.blobs.chunks import chunk_length

log = logging.getLogger("fednode.bulk")

# Of one stream, unanswered: news and a place in line for each of a hundred blobs at once. More is a flood.
REQUESTS_MAX = 256
LOOK_S = 1.0  # how often who is in line sees to it that nobody's turn has lapsed unnoticed
SIGN_S = BLOB_STALL_S / 4  # how often who waits is told that it is not forgotten


Holding = Whole | Board


class _After:
    """Those who are after one blob, or have come by it: who they are, and who of them waits for news."""

    def __init__(self) -> None:
        self.peers: dict[NodeId, int] = {}  # with the number of their streams
        self.waiting: dict[trio.Event, bool] = {}  # with whether it wants to know of more peers


@dataclass(eq=False, slots=True)
class Asker:
    """One stream that blobs are asked for on."""

    stream: Stream
    tasks: trio.Nursery
    sending: trio.Lock = field(default_factory=trio.Lock)
    unanswered: int = 0
    opened: tuple[BlobId, Whole] | None = None
    told: dict[BlobId, set[NodeId]] = field(default_factory=dict)  # of whom, for each blob that it is after
    news: dict[BlobId, trio.CancelScope] = field(default_factory=dict)
    left: set[BlobId] = field(default_factory=set)  # of those in `told`, which it wants nothing more of

    @property
    def peer(self) -> NodeId:
        return self.stream.peer

    async def answer(self, status: int, number: int, *frames: bytes) -> None:
        async with self.sending:
            await self.stream.send_frame(bulk_wire.pack_answer(status, number))
            for frame in frames:
                await self.stream.send_frame(frame)


class Serving:
    """Answers requests for blobs.

    Args:
        half: what has come of a blob that is on its way here.
        is_coming: whether a blob is fetched just now, though nothing of it may be here yet.
        met: told who asks for a blob that is not small.
        on_transfer: told of every chunk that went, and how many bytes its blob has.
        on_left: told who wants nothing more of a blob.
    """

    def __init__(
        self,
        disk: Disk,
        may_read: Callable[[NodeId, BlobId], bool],
        half: Callable[[BlobId], Board | None],
        is_coming: Callable[[BlobId], bool],
        met: Callable[[NodeId, BlobId], None],
        on_transfer: Callable[[Transfer, int], None],
        on_left: Callable[[NodeId, BlobId], None],
        pace: Pace,
        random: Random,
    ) -> None:
        self._disk = disk
        self._may_read = may_read
        self._half = half
        self._is_coming = is_coming
        self._met = met
        self._on_transfer = on_transfer
        self._on_left = on_left
        self._pace = pace
        self._random = random
        self._slots = Slots(random)
        self._after: dict[BlobId, _After] = {}
        self.early: dict[BlobId, Early] = {}  # what is still coded, by the names that it has until then

    async def serve(self, stream: Stream) -> None:
        """Answer what is asked on `stream` until it ends. Raises RemoteProtocolError for what no honest peer asks."""
        failure: FednodeError | None = None
        try:
            async with trio.open_nursery() as tasks:
                asker = Asker(stream, tasks)
                try:
                    while True:
                        await self._take(asker, await stream.receive_frame(bulk_wire.REQUEST_BYTES_MAX))
                except StreamClosed:
                    pass
                except FednodeError as error:
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            self._left(asker)  # not before: one that waits for the disk would say once more that it is after a blob
        if failure is not None:
            raise failure

    def forget(self, blob: BlobId) -> None:
        """The blob is given no more."""
        self._slots.forget(blob)

    def changed(self, blob: BlobId) -> None:
        """There is more of the blob here, or it is on its way here no more."""
        self._tell(blob, of_peers=False)

    async def _take(self, asker: Asker, frame: bytes) -> None:
        request = bulk_wire.read_request(frame)
        if request.kind == bulk_wire.LIST:
            await self._list(asker, request)
        elif request.kind == bulk_wire.CHUNK:
            await self._chunk(asker, request)
        elif request.kind == bulk_wire.NEWS:
            self._begin(asker, self._news, request, *bulk_wire.read_asked_news(request.body))
        elif request.kind == bulk_wire.GOT:
            indices = bulk_wire.read_indices(request.body, 2**32)
            self._slots.came(asker, request.blob, indices)
        elif request.kind == bulk_wire.PASS:
            self._slots.pass_on(asker, request.blob)
        elif request.kind == bulk_wire.LEAVE:
            self._slots.leave(asker, request.blob)
            if request.blob in asker.news:
                asker.news[request.blob].cancel()
            if request.blob in asker.told:
                asker.left.add(request.blob)
            self._on_left(asker.peer, request.blob)
        else:
            log.debug("%s asks of blobs what we do not know: %d", asker.peer, request.kind)
            await asker.answer(bulk_wire.UNKNOWN, request.number)

    def _begin(self, asker: Asker, work: Callable[..., object], *arguments: object) -> None:
        """Answer beside other requests of the same stream."""
        if asker.unanswered >= REQUESTS_MAX:
            raise RemoteProtocolError(f"{asker.peer} has {REQUESTS_MAX} unanswered requests for blobs")
        asker.unanswered += 1
        asker.tasks.start_soon(self._do, asker, partial(work, asker, *arguments))

    async def _do(self, asker: Asker, work: Callable[[], object]) -> None:
        try:
            await work()  # type: ignore[misc]
        except StreamClosed:
            pass  # whoever reads the stream notices
        finally:
            asker.unanswered -= 1

    # --- what is here --------------------------------------------------------------------------------------------
    async def _open(self, asker: Asker, blob: BlobId) -> Holding | int:
        """The blob, if the asker may read it and it is here; else why not. Who may not is not told whether it is."""
        if not self._may_read(asker.peer, blob):
            log.debug("%s asked for the blob %s, which is not for it", asker.peer, blob)
            return bulk_wire.REFUSED
        if asker.opened is not None and asker.opened[0] == blob:
            return asker.opened[1]
        if (half := self._half(blob)) is not None:
            return half
        if not await self._disk.has_blob(blob):
            return bulk_wire.NOT_HERE
        try:
            whole = Whole(await self._disk.open_blob(blob))
        except FednodeError as error:
            log.error("the blob %s cannot be served: %s", blob, error.what)
            return bulk_wire.DAMAGED
        asker.opened = (blob, whole)
        return whole

    async def _list(self, asker: Asker, request: Request) -> None:
        blob, number = request.blob, request.number
        holding = await self._open(asker, blob)
        if isinstance(holding, int):
            await asker.answer(holding, number)
            return
        chunk_list = bulk_wire.pack_list(holding.size, holding.chunk_hashes)
        if holding.size > bulk_wire.INLINE_BYTES_MAX:
            await asker.answer(bulk_wire.OK, number, chunk_list, self._news_of(asker, blob, holding, 0))
        elif not holding.chunk_hashes:
            await asker.answer(bulk_wire.OK, number, chunk_list)
        else:
            await self._give(asker, number, blob, holding, 0, chunk_list)

    # --- chunks --------------------------------------------------------------------------------------------------
    async def _chunk(self, asker: Asker, request: Request) -> None:
        blob, number = request.blob, request.number
        asker.left.discard(blob)
        if (early := self.early.get(blob)) is not None and self._may_read(asker.peer, blob):
            self._begin(
                asker, self._when_coded, request, early, bulk_wire.read_asked_chunk(request.body, early.count)[0]
            )
            return
        holding = await self._open(asker, blob)
        if isinstance(holding, int):
            await asker.answer(holding, number)
            return
        count = len(holding.chunk_hashes)
        index, can_choose = bulk_wire.read_asked_chunk(request.body, count)
        if isinstance(holding, Board) and index in holding.missing:
            await asker.answer(bulk_wire.NOT_HERE, number)
            return
        can_choose = can_choose and blob in self._after and len(self._after[blob].peers) > 1
        place = Place(asker, asker.peer, blob, holding.came, count)
        await self._in_turn(asker, number, place, holding, index, can_choose=can_choose)

    async def _when_coded(self, asker: Asker, request: Request, early: Early, index: int) -> None:
        if await early.reaches(index) and self._may_read(asker.peer, request.blob):
            place = Place(asker, asker.peer, request.blob, range(early.count), early.count)
            await self._in_turn(asker, request.number, place, early, index, can_choose=False)
        else:
            await asker.answer(bulk_wire.NOT_HERE, request.number)

    async def _in_turn(
        self, asker: Asker, number: int, place: Place, holding: Holding | Early, index: int, *, can_choose: bool
    ) -> None:
        if self._slots.take(place, index, can_choose=can_choose):
            self._begin(asker, self._send, number, place, holding, index)
        elif self._slots.is_in_line(asker, asker.peer, place.blob):
            await asker.answer(bulk_wire.IN_LINE, number)
        else:
            await asker.answer(bulk_wire.WAIT, number)
            self._slots.enter(place)
            self._begin(asker, self._call, number, place)

    async def _send(self, asker: Asker, number: int, place: Place, holding: Holding | Early, index: int) -> None:
        if await self._give(asker, number, place.blob, holding, index):
            self._slots.gave(place, index)
        else:
            self._slots.failed(place, index)

    async def _give(
        self, asker: Asker, number: int, blob: BlobId, holding: Holding | Early, index: int, *before: bytes
    ) -> bool:
        """Send a chunk, after other frames. False: it could not be read."""
        await self._paced(asker, number, chunk_length(holding.size, index))
        began = trio.current_time()
        try:
            chunk = await self._read(blob, holding, index)
        except FednodeError as error:
            level = logging.INFO if isinstance(holding, Early) else logging.ERROR  # the former is over, most likely
            log.log(level, "chunk %d of the blob %s cannot be served: %s", index, blob, error.what)
            await asker.answer(bulk_wire.DAMAGED, number)
            return False
        await asker.answer(bulk_wire.OK, number, *before, chunk)
        seconds = trio.current_time() - began
        self._on_transfer(Transfer(asker.peer, blob, len(chunk), incoming=False, seconds=seconds), holding.size)
        if blob in asker.left:  # asked for before it left, and gone after
            self._on_left(asker.peer, blob)
        return True

    async def _read(self, blob: BlobId, holding: Holding | Early, index: int) -> bytes:
        try:
            return await holding.chunk(index)
        except FednodeError:
            if isinstance(holding, Whole) or not await self._disk.has_blob(blob):
                raise
            return await (await self._disk.open_blob(blob)).chunk(index)  # it has become whole meanwhile

    async def _paced(self, asker: Asker, number: int, size: int) -> None:
        """Wait until our limit lets a chunk go, and let the asker know that it is not forgotten."""
        if self._pace.up.bytes_per_s is None:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sign, asker, number)
            await self._pace.up.take(asker.peer, size)
            nursery.cancel_scope.cancel()

    async def _sign(self, asker: Asker, number: int) -> None:
        try:
            while True:
                await trio.sleep(SIGN_S)
                with trio.CancelScope(shield=True):  # never half an answer
                    await asker.answer(bulk_wire.COMING, number)
        except StreamClosed:
            return

    async def _call(self, asker: Asker, number: int, place: Place) -> None:
        """Wait in line, and say when it is the asker's turn."""
        told_at = trio.current_time()
        try:
            while not place.called.is_set():
                with trio.move_on_after(LOOK_S):
                    await place.called.wait()
                self._slots.look()
                if not place.called.is_set() and trio.current_time() - told_at >= SIGN_S:
                    told_at = trio.current_time()
                    await asker.answer(bulk_wire.WAIT, number)
            if not place.has_left:
                await asker.answer(bulk_wire.TURN, number, bulk_wire.pack_indices(place.advice))
            else:
                await asker.answer(bulk_wire.IN_LINE, number)  # which says no more than that this one is over
        finally:
            if not place.called.is_set():
                self._slots.pass_on(asker, place.blob)

    # --- who has what --------------------------------------------------------------------------------------------
    async def _news(self, asker: Asker, request: Request, cursor: int, peers_wanted: int) -> None:
        """Say what is here of a blob, and who else is after it, once there is more than the asker knows."""
        blob, number = request.blob, request.number
        with trio.CancelScope() as parked:
            asker.news[blob] = parked
            with trio.move_on_after(NEWS_PARK_S):
                while True:
                    holding = await self._open(asker, blob)
                    is_awaited = holding == bulk_wire.NOT_HERE and self._is_coming(blob)
                    if not is_awaited and (isinstance(holding, int) or len(holding.came) != cursor):
                        break
                    changed = trio.Event()
                    after = self._joined(asker, blob)
                    if peers_wanted and not is_awaited and self._others(asker, blob):
                        break
                    after.waiting[changed] = bool(peers_wanted)
                    try:
                        await changed.wait()
                    finally:
                        after.waiting.pop(changed, None)
        if asker.news.get(blob) is parked:
            del asker.news[blob]
        holding = await self._open(asker, blob)
        if isinstance(holding, int):
            await asker.answer(holding, number)
        else:
            known = cursor if cursor <= len(holding.came) else 0
            news = self._news_of(asker, blob, holding, known, peers_wanted)
            await asker.answer(bulk_wire.OK, number, news)

    def _news_of(
        self, asker: Asker, blob: BlobId, holding: Holding, cursor: int, wanted: int = bulk_wire.PEERS_TOLD_MAX
    ) -> bytes:
        self._joined(asker, blob)
        others = self._others(asker, blob)
        told = self._random.sample(others, min(wanted, len(others)))
        asker.told[blob].update(told)
        return bulk_wire.pack_news(len(holding.chunk_hashes), holding.came, cursor, told)

    def _others(self, asker: Asker, blob: BlobId) -> list[NodeId]:
        """Who is after a blob, and the asker was not told so yet."""
        told = asker.told[blob]
        peers = self._after[blob].peers
        return [peer for peer in peers if peer not in told and peer != asker.peer and self._may_read(peer, blob)]

    def _joined(self, asker: Asker, blob: BlobId) -> _After:
        after = self._after.setdefault(blob, _After())
        if blob not in asker.told:
            asker.told[blob] = set()
            after.peers[asker.peer] = after.peers.get(asker.peer, 0) + 1
            if after.peers[asker.peer] == 1:
                self._tell(blob, of_peers=True)
                self._met(asker.peer, blob)
        return after

    def _tell(self, blob: BlobId, *, of_peers: bool) -> None:
        """Wake those who wait for news: of chunks all, of peers who wants more of them."""
        after = self._after.get(blob)
        if after is not None:
            for changed in [changed for changed, wants in after.waiting.items() if wants or not of_peers]:
                del after.waiting[changed]
                changed.set()

    def _left(self, asker: Asker) -> None:
        self._slots.leave(asker)
        for blob in asker.told:
            peers = self._after[blob].peers
            self._on_left(asker.peer, blob)
            peers[asker.peer] -= 1
            if not peers[asker.peer]:
                del peers[asker.peer]
            if not peers:
                del self._after[blob]
                self._slots.forget(blob)
