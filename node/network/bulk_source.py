"""Asking one peer for blobs: a few requests at a time over one long-lived stream, answered in order.

A request names a blob and a chunk of it, or its chunk list. The answer is a frame of one byte, how it went, and when it
went well a second frame with the bytes alone, so that a chunk is never copied to be wrapped. The list of a blob of one
chunk is followed by that chunk: most blobs are small, and this saves them a round trip.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from node.seams import BLOB_PROTOCOL, Network, Stream, StreamClosed
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from protocol.limits import BLOB_STALL_S, CHUNK_BYTES, FRAME_BYTES_MAX
from tracker.chunks import HASH_BYTES

log = logging.getLogger("fednode.bulk")

REQUEST_BYTES = 36  # the blob's id and the chunk's index
SIZE_BYTES = 8
LIST = 0xFFFF_FFFF  # the index that asks for the chunk list
OK, REFUSED, NOT_HERE, DAMAGED = b"\0", b"\1", b"\2", b"\3"
PIPELINE_REQUESTS = 4  # 4 MiB under way cover 0.2 s of round trip at 20 MB/s
IDLE_S = 60.0  # nothing asked for so long: the stream is let go


class ChunkList(NamedTuple):
    """A blob's size in bytes and its chunks' hashes, and where there is but one chunk, that. All as a peer said it."""

    size: int
    hashes: list[bytes]
    only_chunk: bytes | None


class SourceFailed(FednodeError):
    """This source does not give what was asked of it; another may."""


@dataclass(slots=True)
class _Request:
    index: int
    answered: trio.Event = field(default_factory=trio.Event)
    body: bytes = b""
    only_chunk: bytes | None = None  # of a blob of one chunk, with its list
    failure: FednodeError | None = None


class _Conversation:
    """One stream, and the requests sent on it that are not yet answered, in order."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.waiting: deque[_Request] = deque()
        self.ended = False
        self.asked = trio.Event()

    def add(self, request: _Request) -> None:
        self.waiting.append(request)
        self.asked.set()

    def end(self, failure: FednodeError) -> None:
        self.ended = True
        for request in self.waiting:
            request.failure = failure
            request.answered.set()


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
        self._places = trio.Semaphore(PIPELINE_REQUESTS)

    async def chunk_list(self, blob: BlobId) -> ChunkList:
        """What this peer says that the blob consists of. Raises FednodeError."""
        request = await self._ask(blob, LIST)
        body = request.body
        if len(body) % HASH_BYTES != SIZE_BYTES:
            raise RemoteProtocolError(f"{self.peer} sent a chunk list that is none")
        hashes = [body[start : start + HASH_BYTES] for start in range(SIZE_BYTES, len(body), HASH_BYTES)]
        return ChunkList(int.from_bytes(body[:SIZE_BYTES], "little"), hashes, request.only_chunk)

    async def chunk(self, blob: BlobId, index: int) -> bytes:
        """What this peer says is chunk `index`. Raises FednodeError."""
        return (await self._ask(blob, index)).body

    def lied(self, what: str) -> None:
        """What this peer gave was not what it was asked for."""
        self._network.conduct.fault(self.peer, "false-data", what)

    async def _ask(self, blob: BlobId, index: int) -> _Request:
        request = _Request(index)
        async with self._places:
            async with self._asking:
                await self._send(bytes.fromhex(blob) + index.to_bytes(4, "big"), request)
            await request.answered.wait()
        if request.failure is not None:
            raise request.failure
        return request

    async def _send(self, frame: bytes, request: _Request) -> None:
        """Over the stream that there is, or a new one where that has ended meanwhile."""
        current = self._current
        if current is not None:
            try:
                await current.stream.send_frame(frame)
                if not current.ended:
                    current.add(request)
                    return
            except StreamClosed as error:
                log.debug("asking %s again: %s", self.peer, error.what)
        current = self._current = _Conversation(await self._network.open(self.peer, BLOB_PROTOCOL))
        self._spawn(self._read, current)
        await current.stream.send_frame(frame)
        current.add(request)

    async def _read(self, conversation: _Conversation) -> None:
        """Read the answers until the stream ends, stalls or idles."""
        failure: FednodeError = StreamClosed(f"{self.peer} was not asked anything", remedy="nothing to do")
        try:
            while await self._is_asked(conversation):
                with trio.fail_after(BLOB_STALL_S):
                    await self._read_answer(conversation.stream, conversation.waiting[0])
                conversation.waiting.popleft().answered.set()
        except trio.TooSlowError:
            failure = SourceFailed(
                f"{self.peer} sent nothing for {BLOB_STALL_S:.0f} s", remedy="another source will do"
            )
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

    async def _read_answer(self, stream: Stream, request: _Request) -> None:
        status = await stream.receive_frame(1)
        if status == OK:
            request.body = await stream.receive_frame(FRAME_BYTES_MAX if request.index == LIST else CHUNK_BYTES)
            if request.index == LIST and len(request.body) == SIZE_BYTES + HASH_BYTES:
                request.only_chunk = await stream.receive_frame(CHUNK_BYTES)
        else:
            why = {REFUSED: "may not give it to us", NOT_HERE: "does not have it", DAMAGED: "has it damaged"}
            request.failure = SourceFailed(
                f"{self.peer} {why.get(status, 'gives no reason that we know')}", remedy="another source will do"
            )
