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


class BlobSource:
    """One peer, as somebody to ask for blobs.

    Args:
        spawn: runs an async function as long as bulk transfer runs.
    """

    def __init__(
        self, network: Network, peer: NodeId, spawn: Callable[[Callable[[Stream], Awaitable[None]], Stream], None]
    ) -> None:
        self.peer = peer
        self._network = network
        self._spawn = spawn
        self._stream: Stream | None = None
        self._waiting: deque[_Request] = deque()
        self._asking = trio.Lock()
        self._places = trio.Semaphore(PIPELINE_REQUESTS)
        self._asked = trio.Event()

    async def chunk_list(self, blob: BlobId) -> "ChunkList":
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

    async def _ask(self, blob: BlobId, index: int) -> _Request:
        request = _Request(index)
        async with self._places:
            async with self._asking:
                await self._send(bytes.fromhex(blob) + index.to_bytes(4, "big"))
                self._waiting.append(request)
                self._asked.set()
            await request.answered.wait()
        if request.failure is not None:
            raise request.failure
        return request

    async def _send(self, frame: bytes) -> None:
        """Over the stream that there is, or a new one where that has ended meanwhile."""
        if self._stream is not None:
            try:
                await self._stream.send_frame(frame)
                return
            except StreamClosed:
                self._stream = None
        stream = await self._network.open(self.peer, BLOB_PROTOCOL)
        await stream.send_frame(frame)
        self._stream = stream
        self._spawn(self._read, stream)

    async def _read(self, stream: Stream) -> None:
        """Read the answers until the stream ends, stalls or idles."""
        failure: FednodeError = StreamClosed(f"{self.peer} was not asked anything", remedy="nothing to do")
        try:
            while await self._is_asked():
                with trio.fail_after(BLOB_STALL_S):
                    await self._read_answer(stream, self._waiting[0])
                self._waiting.popleft().answered.set()
        except trio.TooSlowError:
            failure = SourceFailed(
                f"{self.peer} sent nothing for {BLOB_STALL_S:.0f} s", remedy="another source will do"
            )
        except FednodeError as error:
            failure = error
        finally:
            self._end(stream, failure)
        await stream.reset()

    async def _is_asked(self) -> bool:
        """Wait for a request; no when none comes for long."""
        while not self._waiting:
            self._asked = trio.Event()
            with trio.move_on_after(IDLE_S) as patience:
                await self._asked.wait()
            if patience.cancelled_caught and not self._asking.locked():
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

    def _end(self, stream: Stream, failure: FednodeError) -> None:
        if self._stream is stream:
            self._stream = None
        while self._waiting:
            request = self._waiting.popleft()
            request.failure = failure
            request.answered.set()
