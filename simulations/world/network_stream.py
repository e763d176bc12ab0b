"""Simulated connections and their streams: reliable and ordered, until they break.

A stream has two ends; what one sends goes through the world's agenda to the other. A black hole holds what is on its
way, as TCP's retransmission would, until the wire heals or the connection is given up.
"""

from collections import Counter, deque
from typing import TYPE_CHECKING

import trio

from node.seams import StreamClosed
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX, SEND_DEADLINE_S

if TYPE_CHECKING:
    from simulations.world.network_node import SimulatedNetwork

FRAME_OVERHEAD_BYTES = 34  # length, Yamux header and Noise tag of a small frame on the real wire
WINDOW_BYTES = 1024 * 1024  # sent and not yet read; then the sender waits
SILENCE_MAX_S = 60.0  # then TCP's keep-alive gives the connection up

Item = bytes | None  # None: nothing more comes


class SimulatedConnection:
    """Between two nodes. It may have ended on one side while the other has not noticed."""

    def __init__(self, dialler: "SimulatedNetwork", listener: "SimulatedNetwork", entrance: bool) -> None:
        self.entrance = entrance
        self._streams: dict[SimulatedNetwork, dict[SimulatedStream, None]] = {dialler: {}, listener: {}}
        self._other = {dialler: listener, listener: dialler}
        self.bytes: Counter[tuple[str, SimulatedNetwork]] = Counter()  # "sent" and "received" by each side
        dialler.connection_up(self, listener)
        listener.connection_up(self, dialler)

    def is_up(self, side: "SimulatedNetwork") -> bool:
        return side in self._streams

    def add(self, side: "SimulatedNetwork", stream: "SimulatedStream") -> None:
        self._streams[side][stream] = None

    def forget(self, side: "SimulatedNetwork", stream: "SimulatedStream") -> None:
        streams = self._streams.get(side, {})
        streams.pop(stream, None)
        if self.entrance and not streams:
            self.end(side, self._other[side])  # it carries one conversation

    def end(self, side: "SimulatedNetwork", other: "SimulatedNetwork", *, discard: bool = False) -> None:
        """This side has it no more, and its streams are over. With `discard`, what they hold unread is not read."""
        streams = self._streams.pop(side, None)
        if streams is not None:
            side.connection_down(self, other)
            for stream in list(streams):
                stream.break_off() if discard else stream.end_of_stream()


class SimulatedStream:
    """One end of a stream, as `node.seams.Stream` has it."""

    def __init__(
        self, mine: "SimulatedNetwork", its: "SimulatedNetwork", connection: SimulatedConnection, protocol: str
    ) -> None:
        self.network = mine
        self.connection = connection
        self.protocol = protocol
        self.other: SimulatedStream = self
        self.held: deque[Item] = deque()  # on its way to us, in a black hole
        self.last_arrival = 0.0
        self._its = its
        self._came_in = mine.door.admits(its.node_id)
        self._inbox: deque[bytes] = deque()
        self._bytes_left: int | None = None
        self._unread_bytes = 0  # of ours, by the other end
        self._news = trio.lowlevel.ParkingLot()  # who waits for a frame
        self._room = trio.lowlevel.ParkingLot()  # who waits for the other end to read
        self._ended = False  # by us
        self._over = False  # for us
        self._sending = trio.Lock()
        connection.add(mine, self)

    @property
    def peer(self) -> NodeId:
        return self._its.node_id

    @property
    def source(self) -> str:
        """Where the peer dials from, as node.network.door.source_of has it."""
        return self._its.source

    def bound(self, bytes_max: int) -> None:
        """Reset this stream when more than `bytes_max` come in."""
        self._bytes_left = bytes_max

    async def send_frame(self, frame: bytes) -> None:
        if len(frame) > FRAME_BYTES_MAX:
            raise LocalProtocolError(f"A frame of {len(frame)} bytes is over the limit", remedy="send it in parts")
        if self._must_wait(frame) or self._sending.locked():
            async with self._sending:
                while self._must_wait(frame) and not self._is_done():
                    await self._wait_for_the_reader()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_done():
            raise self._closed()
        self._unread_bytes += len(frame)
        self.network.world.carry(self, frame, len(frame) + FRAME_OVERHEAD_BYTES)

    def _must_wait(self, frame: bytes) -> bool:
        return bool(self._unread_bytes) and self._unread_bytes + len(frame) > WINDOW_BYTES

    async def _wait_for_the_reader(self) -> None:
        with trio.move_on_after(SEND_DEADLINE_S) as deadline:
            await self._room.park()
        if deadline.cancelled_caught and not self.network.world.lines.is_moving(self):
            await self.reset()

    async def receive_frame(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._inbox and not self._is_done():
            await self._news.park()
        if not self._inbox or self._ended:
            raise self._closed()
        frame = self._inbox.popleft()
        self.other.was_read(len(frame))
        if len(frame) > max_bytes:
            await self.reset()
            raise RemoteProtocolError(f"{self.peer} sent a frame of {len(frame)} bytes where {max_bytes} are allowed")
        self.network.door.handed_over(self.peer, self.protocol, len(frame), came_in=self._came_in)
        return frame

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._ended:
            self._end()
            if not self._over:
                self.network.world.carry(self, None, FRAME_OVERHEAD_BYTES)

    async def reset(self) -> None:
        self.break_off()
        await trio.lowlevel.checkpoint()

    def break_off(self) -> None:
        """Reset, from where nothing can be awaited."""
        if not self._ended:
            self._end()
            self.network.world.lines.drop(self)
            self.network.world.tell_of_reset(self)

    def _end(self) -> None:
        self._ended = True
        self.other.was_read(sum(len(frame) for frame in self._inbox))
        self._inbox.clear()
        self.connection.forget(self.network, self)
        self._wake_all()

    def arrived(self, item: Item) -> None:
        """Something came in. After our close nobody reads it, and it goes."""
        if item is None:
            self.end_of_stream()
        elif self._ended or self._over:
            self.other.was_read(len(item))
        elif self._is_too_much(len(item)):
            self.break_off()
        else:
            self._inbox.append(item)
            self._news.unpark_all()

    def _is_too_much(self, size: int) -> bool:
        if self._bytes_left is not None:
            self._bytes_left -= size
        return self._bytes_left is not None and self._bytes_left < 0

    def end_of_stream(self) -> None:
        self._over = True
        self.network.world.lines.drop(self)
        self.connection.forget(self.network, self)
        self._wake_all()

    def _wake_all(self) -> None:
        self._news.unpark_all()
        self._room.unpark_all()

    def was_read(self, size: int) -> None:
        """The other end took `size` bytes of what we sent."""
        self._unread_bytes -= size
        self._room.unpark_all()

    def _is_done(self) -> bool:
        return self._ended or self._over

    def _closed(self) -> StreamClosed:
        return StreamClosed(f"The stream to {self.peer} is closed", remedy="open another when the peer is back")
