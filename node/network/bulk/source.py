"""Asking one peer for blobs: a few requests at a time over one long-lived stream, answered in any order.

Who is asked for something owes a sign of life: a chunk at least in every BLOB_STALL_S, or the word that others are
before us. Who gives less stalls or trickles, and is no source.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import NamedTuple

import trio

from node.network.bulk import wire as bulk_wire
from node.network.bulk.wire import CHUNK, GOT, LIST, NEWS, OK, TURN, WAIT
from node.seams import BLOB_PROTOCOL, Network, Stream, StreamClosed
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_STALL_S, CHUNK_BYTES, FRAME_BYTES_MAX

log = logging.getLogger("fednode.bulk")

PIPELINE_REQUESTS = 4  # 4 MiB under way cover 0.2 s of round trip at 20 MB/s
IDLE_S = 60.0  # nothing asked for so long: the stream is let go
# The least that a source may give while it is asked: a chunk in each window, 52 kB/s. A line at 0.5 Mbit/s does it.
SOURCE_WINDOW_S = BLOB_STALL_S
NEWS_PARK_S = 30.0  # after which somebody who has no news says so
LINE_S_MAX = 300.0  # for so long others may be before us: at 100 Mbit/s, 900 of them with a turn of four chunks
_REASONS = {
    bulk_wire.REFUSED: "may not give it to us",
    bulk_wire.NOT_HERE: "does not have it",
    bulk_wire.DAMAGED: "has it damaged",
    bulk_wire.UNKNOWN: "does not know what we ask",
}


class Listed(NamedTuple):
    """A blob's size in bytes and its chunks' hashes; of a small blob its one chunk, else what the peer has of them, as
    news. All as a peer said it."""

    size: int
    hashes: list[bytes]
    only_chunk: bytes | None
    news: bytes


class SourceFailed(FednodeError):
    """This source does not give what was asked of it; another may."""


class Asked:
    """One request, until it is answered. `in_line`: others are before us; `turned` is set when it is our turn."""

    __slots__ = (
        "answered",
        "asked_at",
        "conversation",
        "failure",
        "frames",
        "in_line",
        "is_refused",
        "kind",
        "sign_at",
        "turned",
    )

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.conversation: _Conversation | None = None
        self.asked_at = self.sign_at = trio.current_time()
        self.answered = trio.Event()
        self.turned = self.answered  # another one where we are in line
        self.in_line = False
        self.is_refused = False  # for we are in line with another request already
        self.frames: list[bytes] = []
        self.failure: FednodeError | None = None


class _Conversation:
    """One stream, and the requests sent on it that are not yet answered."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.waiting: dict[int, Asked] = {}
        self.ended = False
        self.asked = trio.Event()
        self.reading = trio.CancelScope()
        self.gave_at = 0.0  # when a chunk or a list came last
        self._numbers = 0

    def add(self, asked: Asked) -> int:
        self._numbers += 1
        self.waiting[self._numbers] = asked
        asked.conversation = self
        self.asked.set()
        return self._numbers

    def end(self, failure: FednodeError) -> None:
        self.ended = True
        for asked in self.waiting.values():
            asked.failure = asked.failure or failure  # that it stalls is said first, then that its stream is closed
            asked.answered.set()
            asked.turned.set()
        self.reading.cancel()


class BlobSource:
    """One peer, as somebody to ask for blobs.

    Args:
        spawn: runs an async function as long as bulk transfer runs.
    """

    def __init__(
        self,
        network: Network,
        peer: NodeId,
        spawn: Callable[[Callable[[_Conversation], Awaitable[None]], _Conversation], None],
    ) -> None:
        self.peer = peer
        self._network = network
        self._spawn = spawn
        self._current: _Conversation | None = None
        self._asking = trio.Lock()
        self._untold: deque[tuple[int, BlobId, int | None]] = deque()
        self._places = trio.Semaphore(PIPELINE_REQUESTS)

    async def chunk_list(self, blob: BlobId) -> Listed:
        """What this peer says that the blob consists of. Raises FednodeError."""
        async with self._places:
            body, *more = (await self._ask(LIST, blob)).frames
        size, hashes = bulk_wire.read_list(body)
        if size > bulk_wire.INLINE_BYTES_MAX:
            return Listed(size, hashes, None, more[0])
        return Listed(size, hashes, more[0] if more else None, b"")

    async def chunk(self, blob: BlobId, index: int, *, has_choice: bool) -> bytes | Asked:
        """What this peer says is chunk `index`; or our place in its line, for `turn`. `has_choice`: whether another
        chunk of it would do as well. Raises FednodeError."""
        async with self._places:
            asked = await self._ask(CHUNK, blob, bulk_wire.pack_asked_chunk(index, has_choice))
        return asked if asked.in_line else asked.frames[0]

    async def early_chunk(self, name: BlobId, index: int) -> bytes | Asked:
        """As `chunk`, of an update that is still coded. What waits for a codec takes none of the places of blobs."""
        asked = await self._ask(CHUNK, name, bulk_wire.pack_asked_chunk(index, False))
        return asked if asked.in_line else asked.frames[0]

    async def turn(self, asked: Asked, count: int) -> list[int]:
        """Wait until it is our turn to ask for a chunk, of `count`: best for one of those that this gives, in order.
        Raises FednodeError."""
        with trio.move_on_after(LINE_S_MAX) as patience:
            await self._wait(asked, asked.turned)
        if patience.cancelled_caught:
            raise SourceFailed(f"{self.peer} never came to us", remedy="another source will do")
        return bulk_wire.read_indices(asked.frames[0], count)

    async def news(self, blob: BlobId, count: int, cursor: int, peers_wanted: int) -> bulk_wire.News:
        """What it has of the blob, of `count` chunks, once that is more than `cursor` tells; raises FednodeError."""
        asked = await self._ask(NEWS, blob, bulk_wire.pack_asked_news(cursor, peers_wanted))
        return bulk_wire.read_news(asked.frames[0], count)

    def tell(self, kind: int, blob: BlobId, index: int | None = None) -> None:
        """Say what needs no answer, soon, if there is anybody to hear it: GOT, PASS or LEAVE."""
        if self._current is not None:
            self._untold.append((kind, blob, index))
            if len(self._untold) == 1:
                self._spawn(self._tell_all, self._current)

    def lied(self, what: str) -> None:
        """What this peer gave was not what it was asked for."""
        self._network.conduct.fault(self.peer, "false-data", what)

    # --- asking --------------------------------------------------------------------------------------------------
    async def _ask(self, kind: int, blob: BlobId, body: bytes = b"") -> Asked:
        """Ask, and wait for the answer. Raises FednodeError."""
        asked = Asked(kind)
        async with self._asking:
            await self._send(kind, blob, body, asked)
        asked.sign_at = trio.current_time()
        await self._wait(asked, asked.answered)
        return asked

    async def _tell_all(self, conversation: _Conversation) -> None:
        """Say what there is to say; chunks that came one after another in one request."""
        while self._untold:
            kind, blob, _ = self._untold[0]
            count = 1
            while count < min(len(self._untold), bulk_wire.GOT_CHUNKS_MAX) and self._untold[count][:2] == (GOT, blob):
                count += 1
            if kind != GOT:
                count = 1
            indices = [index for _, _, index in islice(self._untold, count) if index is not None]
            try:
                async with self._asking:
                    frame = bulk_wire.pack_request(kind, 0, blob, bulk_wire.pack_indices(indices))
                    await conversation.stream.send_frame(frame)
            except StreamClosed as error:
                log.debug("%s was not told: %s", self.peer, error.what)
                self._untold.clear()
                return
            for _ in range(count):
                self._untold.popleft()

    async def _send(self, kind: int, blob: BlobId, body: bytes, asked: Asked) -> None:
        """Over the stream that there is, or a new one where that has ended meanwhile."""
        current = self._current
        if current is not None and not current.ended:
            number = current.add(asked)
            try:
                await current.stream.send_frame(bulk_wire.pack_request(kind, number, blob, body))
                return  # should the stream have ended meanwhile, the request was told
            except StreamClosed as error:
                current.waiting.pop(number, None)
                asked.failure, asked.answered = None, trio.Event()
                asked.turned = asked.answered
                log.debug("asking %s again: %s", self.peer, error.what)
        current = self._current = _Conversation(await self._network.open(self.peer, BLOB_PROTOCOL))
        self._spawn(self._read, current)
        await current.stream.send_frame(bulk_wire.pack_request(kind, current.add(asked), blob, body))

    async def _wait(self, asked: Asked, event: trio.Event) -> None:
        """Wait for `event` as long as there are signs of life. Raises FednodeError."""
        conversation = asked.conversation
        assert conversation is not None
        patience = NEWS_PARK_S + BLOB_STALL_S if asked.kind == NEWS else SOURCE_WINDOW_S
        while not event.is_set():
            gave_at = conversation.gave_at if asked.kind != NEWS else 0.0
            deadline = max(asked.sign_at, gave_at) + patience
            if trio.current_time() >= deadline:
                what = f"{self.peer} gave nothing for {patience:.0f} s"
                conversation.end(SourceFailed(what, remedy="another source will do"))
            with trio.move_on_at(deadline):
                await event.wait()
        if asked.failure is not None:
            raise asked.failure

    # --- what comes ----------------------------------------------------------------------------------------------
    async def _read(self, conversation: _Conversation) -> None:
        """Read the answers until the stream ends, stalls or idles."""
        failure: FednodeError = StreamClosed(f"{self.peer} was not asked anything", remedy="nothing to do")
        try:
            with conversation.reading:
                while await self._is_asked(conversation):
                    await self._take(conversation, await conversation.stream.receive_frame(bulk_wire.ANSWER_HEAD_BYTES))
        except FednodeError as error:
            failure = error
        finally:
            if self._current is conversation:
                self._current = None
            conversation.end(failure)
        await conversation.stream.reset()

    async def _is_asked(self, conversation: _Conversation) -> bool:
        """Wait for a request; no when none comes for long."""
        while not conversation.waiting:
            conversation.asked = trio.Event()
            with trio.move_on_after(IDLE_S) as patience:
                await conversation.asked.wait()
            if patience.cancelled_caught:
                return False
        return True

    async def _take(self, conversation: _Conversation, head: bytes) -> None:
        """One answer. Raises FednodeError when the stream or the peer is no good any more."""
        status, number = bulk_wire.read_answer(head)
        asked = conversation.waiting.get(number)
        if asked is None:
            raise RemoteProtocolError(f"{self.peer} answers what nobody asked")
        if status == bulk_wire.COMING:
            if trio.current_time() < max(asked.asked_at, conversation.gave_at) + LINE_S_MAX:  # a word is no chunk
                asked.sign_at = trio.current_time()
            return
        asked.sign_at = trio.current_time()
        if status == WAIT and asked.kind == CHUNK:
            if not asked.in_line:
                asked.in_line, asked.turned = True, trio.Event()
                asked.answered.set()
            return
        if status == bulk_wire.IN_LINE and asked.kind == CHUNK and not asked.in_line:
            asked.in_line = asked.is_refused = True
            del conversation.waiting[number]
            asked.answered.set()
            return
        if status == OK and not asked.in_line:
            asked.frames = await self._frames(conversation.stream, asked.kind)
        elif status == TURN and asked.in_line:
            asked.frames = [await conversation.stream.receive_frame(4 * bulk_wire.ADVICE_CHUNKS_MAX)]
        else:
            why = _REASONS.get(status, "gives no reason that we know")
            asked.failure = SourceFailed(f"{self.peer} {why}", remedy="another source will do")
        if asked.kind in (LIST, CHUNK):
            conversation.gave_at = trio.current_time()
        del conversation.waiting[number]
        asked.answered.set()
        asked.turned.set()

    async def _frames(self, stream: Stream, kind: int) -> list[bytes]:
        """What follows a good answer's head."""
        if kind == CHUNK:
            return [await stream.receive_frame(CHUNK_BYTES)]
        if kind == NEWS:
            return [await stream.receive_frame(bulk_wire.NEWS_BYTES_MAX)]
        chunk_list = await stream.receive_frame(FRAME_BYTES_MAX)
        size = bulk_wire.read_list(chunk_list).size
        if size == 0:
            return [chunk_list]
        more_bytes_max = bulk_wire.NEWS_BYTES_MAX if size > bulk_wire.INLINE_BYTES_MAX else size
        return [chunk_list, await stream.receive_frame(more_bytes_max)]
