"""Frames over a libp2p stream: a length of four bytes, then so many bytes. Every foreign error ends here.

The library resets a writer whose peer reads nothing for 5 seconds, and loses bytes when a reader is cancelled. Here a
writer waits for credit itself, as long as the seam promises, and one task per stream reads into a bounded buffer.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.network.stream.net_stream import NetStream

from node.seams import StreamClosed
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX, SEND_DEADLINE_S

log = logging.getLogger("fednode.network")

LENGTH_BYTES = 4
PIECE_BYTES = 65_507  # with Yamux's header one Noise message; one byte more would make two of it
READ_BYTES = 256 * 1024  # at once: Yamux's first window
READ_AHEAD_BYTES = 256 * 1024  # beyond the frame that is being waited for; the rest stays in Yamux's window
CREDIT_POLL_S = 0.005  # the library has no event for credit; a stalled writer looks 200 times a second
LINGER_S = 10.0  # for the peer to close its side too, after we closed ours

Spawn = Callable[[Callable[[], Awaitable[None]]], bool]


class FrameStream:
    """A stream of frames to one peer, as `node.seams.Stream` has it.

    Args:
        spawn: runs an async function beyond the life of the caller, as long as the host lives; false if it does not.
        handed_over: told of every frame's size when it is handed to whoever reads.
        bytes_max: after so many bytes received the stream is reset; None for no bound.
        on_end: runs once when both directions are done with.
    """

    def __init__(
        self,
        stream: NetStream,
        peer: NodeId,
        spawn: Spawn,
        handed_over: Callable[[int], None],
        *,
        bytes_max: int | None = None,
        on_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._stream = stream
        self._yamux: Any = stream.muxed_stream  # a YamuxStream of a SteadyYamux; the interface hides what we need
        self._peer = peer
        self._spawn = spawn
        self._handed_over = handed_over
        self._bytes_left = bytes_max
        self._on_end = on_end
        self._received = bytearray()
        self._wanted = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._sending = trio.Lock()
        self._ended = False  # by us
        self._no_more = trio.Event()  # from the peer
        if not spawn(self._read_all):
            self._no_more.set()

    @property
    def peer(self) -> NodeId:
        return self._peer

    @property
    def source(self) -> str:
        """Where the peer dials from, as node.network.door.source_of has it."""
        return str(self._yamux.conn.connection.source)

    async def send_frame(self, frame: bytes) -> None:
        if len(frame) > FRAME_BYTES_MAX:
            raise LocalProtocolError(f"A frame of {len(frame)} bytes is over the limit", remedy="send it in parts")
        async with self._sending:
            if self._ended:
                raise self._closed()
            try:
                await self._send(len(frame).to_bytes(LENGTH_BYTES, "big"), frame)
            except trio.Cancelled:
                self._break()  # half a frame may be out
                raise
            except Exception as error:  # the library raises a dozen types of its own and others' here
                self._break()
                raise self._closed() from error

    async def _send(self, header: bytes, frame: bytes) -> None:
        await self._send_piece(header + frame[: PIECE_BYTES - LENGTH_BYTES])
        for start in range(PIECE_BYTES - LENGTH_BYTES, len(frame), PIECE_BYTES):
            await self._send_piece(frame[start : start + PIECE_BYTES])

    async def _send_piece(self, piece: bytes) -> None:
        while piece:
            if self._yamux.send_window <= 0:
                with trio.fail_after(SEND_DEADLINE_S):
                    while self._yamux.send_window <= 0 and not self._yamux.closed:
                        await trio.sleep(CREDIT_POLL_S)
            part = piece[: max(self._yamux.send_window, 1)]
            await self._stream.write(part)
            piece = piece[len(part) :]

    async def receive_frame(self, max_bytes: int) -> bytes:
        await self._fill(LENGTH_BYTES)
        length = int.from_bytes(self._received[:LENGTH_BYTES], "big")
        if length > max_bytes:
            await self.reset()
            raise RemoteProtocolError(f"{self._peer} sent a frame of {length} bytes where {max_bytes} are allowed")
        await self._fill(LENGTH_BYTES + length)
        frame = bytes(memoryview(self._received)[LENGTH_BYTES : LENGTH_BYTES + length])
        del self._received[: LENGTH_BYTES + length]
        self._changed.unpark_all()
        self._handed_over(length)
        return frame

    async def _fill(self, size: int) -> None:
        """Until `size` bytes are here."""
        await trio.lowlevel.checkpoint()
        self._wanted = size
        while len(self._received) < size and not self._is_over():
            self._changed.unpark_all()
            await self._changed.park()
        if len(self._received) < size or self._ended or self._yamux.conn.cut:
            raise self._closed()

    def _is_over(self) -> bool:
        return self._ended or self._no_more.is_set()

    async def _read_all(self) -> None:
        try:
            while True:
                data = await self._stream.read(READ_BYTES)
                if not data:
                    break
                await self._keep(data)
        except Exception as error:  # noqa: BLE001 - as in send_frame; any end is the end
            log.debug("the stream from %s ended: %r", self._peer, error)
        finally:
            self._no_more.set()
            self._changed.unpark_all()

    async def _keep(self, data: bytes) -> None:
        """Buffer what came, then wait for room. After our close nobody reads it, and it goes."""
        if self._bytes_left is not None:
            self._bytes_left -= len(data)
            if self._bytes_left < 0:
                log.info("%s sent more than a stream may carry", self._peer)
                self._break()
        if self._ended:
            return
        self._received += data
        self._changed.unpark_all()
        while len(self._received) >= self._wanted + READ_AHEAD_BYTES and not self._ended:
            await self._changed.park()

    async def close(self) -> None:
        if self._ended:
            return
        self._end()
        try:
            with trio.move_on_after(SEND_DEADLINE_S):
                await self._stream.close()
        except Exception as error:  # noqa: BLE001 - as in send_frame; it is closed either way
            log.debug("closing a stream to %s: %r", self._peer, error)
        finally:
            self._spawn(self._linger)

    async def _linger(self) -> None:
        """Let the peer say what it was saying, so that nothing of ours is lost to a reset, then let go."""
        with trio.move_on_after(LINGER_S):
            await self._no_more.wait()
        await self._drop()

    async def reset(self) -> None:
        if not self._ended:
            self._end()
            await self._drop()

    def _break(self) -> None:
        """Reset from where nothing can be awaited."""
        if not self._ended:
            self._end()
            self._spawn(self._drop)

    def _end(self) -> None:
        self._ended = True
        self._received.clear()
        self._changed.unpark_all()

    async def _drop(self) -> None:
        with trio.move_on_after(SEND_DEADLINE_S):
            await self._stream.reset()  # swallows what goes wrong; does nothing where both sides have closed
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            await on_end()

    def _closed(self) -> StreamClosed:
        return StreamClosed(f"The stream to {self._peer} is closed", remedy="open another when the peer is back")
