"""Frames over a TLS connection: a length of four bytes, then so many bytes, as over a libp2p stream.

One buffer is read into again and again; only the frame that is handed over is copied out of it. A reader may be
cancelled and come back: what has come of a frame is kept.
"""

from collections.abc import Awaitable, Callable

import trio

from node.network.tls.socket import RECORD_BYTES, Ended, TlsSocket
from node.seams import StreamClosed
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX

LENGTH_BYTES = 4
LINGER_S = 10.0  # for the peer to close its side too, after we closed ours

Spawn = Callable[[Callable[[], Awaitable[None]]], bool]


class TlsStream:
    """A stream of frames to one peer, as `node.seams.Stream` has it.

    Args:
        spawn: runs an async function beyond the life of the caller; false if it does not.
        handed_over: told of every frame's size when it is handed to whoever reads.
        on_end: called when the connection is closed, and told whether it was not us who ended it.
    """

    def __init__(
        self,
        tls: TlsSocket,
        peer: NodeId,
        spawn: Spawn,
        handed_over: Callable[[int], None],
        on_end: Callable[["TlsStream", bool], None],
    ) -> None:
        self._tls = tls
        self._peer = peer
        self._spawn = spawn
        self._handed_over = handed_over
        self._on_end = on_end
        self._sending = trio.Lock()
        self._ended = False  # by us
        self._gone = trio.Event()
        self._buffer = bytearray(LENGTH_BYTES)
        self._came = 0  # bytes of the frame under way that are in the buffer, its length's included

    @property
    def peer(self) -> NodeId:
        return self._peer

    async def send_frame(self, frame: bytes) -> None:
        if len(frame) > FRAME_BYTES_MAX:
            raise LocalProtocolError(f"A frame of {len(frame)} bytes is over the limit", remedy="send it in parts")
        async with self._sending:
            if self._ended:
                raise self._closed()
            first = RECORD_BYTES - LENGTH_BYTES  # together with the length it is one record
            try:
                await self._tls.send(len(frame).to_bytes(LENGTH_BYTES, "big") + frame[:first])
                await self._tls.send(memoryview(frame)[first:])
            except trio.Cancelled:
                self.cut()  # half a frame may be out
                raise
            except Ended as error:
                if not self._ended:  # after our own `close` the other end still gets what was sent before
                    self._break()
                raise self._closed() from error

    async def receive_frame(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        await self._fill(LENGTH_BYTES)
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if length > max_bytes:
            await self.reset()
            raise RemoteProtocolError(f"{self._peer} sent a frame of {length} bytes where {max_bytes} are allowed")
        await self._fill(LENGTH_BYTES + length)
        frame = bytes(memoryview(self._buffer)[LENGTH_BYTES : LENGTH_BYTES + length])
        self._came = 0
        self._handed_over(length)
        return frame

    async def _fill(self, size: int) -> None:
        """Until `size` bytes of the frame are in the buffer."""
        if self._ended:
            raise self._closed()
        if len(self._buffer) < size:
            self._buffer = self._buffer[: self._came] + bytes(size - self._came)
        try:
            await self._tls.receive_into(memoryview(self._buffer)[self._came : size], self._took)
        except Ended as error:
            if not self._ended:
                self._break()
            raise self._closed() from error
        if self._ended:
            raise self._closed()

    def _took(self, size: int) -> None:
        self._came += size

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._ended:
            self._ended = True
            self._tls.say_no_more()
            if not self._spawn(self._linger):
                self.cut()

    async def _linger(self) -> None:
        """Let the peer say what it was saying, so that nothing of ours is lost to a reset, then let go."""
        try:
            with trio.move_on_after(LINGER_S):
                await self._tls.drain()
            self._tls.close()
        finally:
            self.cut()

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._ended:
            self.cut()

    def cut(self) -> None:
        """Drop it now, both ways. Never blocks, never fails."""
        self._end(is_broken=False)

    def _break(self) -> None:
        """The other end has ended it, or the line between."""
        self._end(is_broken=True)

    def _end(self, *, is_broken: bool) -> None:
        self._ended = True
        self._tls.cut()
        self._gone.set()
        self._on_end(self, is_broken)

    async def wait_until_gone(self) -> None:
        """Until the connection is closed; a little after our `close`."""
        await self._gone.wait()

    def _closed(self) -> StreamClosed:
        return StreamClosed(f"The stream to {self._peer} is closed", remedy="open another when the peer is back")
