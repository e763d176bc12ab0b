"""The door inside libp2p: connections that count, a Noise handshake that asks for the name first, and the muxer.

A connection passes here before anything else of libp2p sees a byte: Noise proves who is at the other end, and whoever
is not admitted is hung up on before a muxer exists that could carry streams.
"""

import logging
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import trio
from libp2p.abc import IMuxedConn, IMuxedStream, IRawConnection, ISecureConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectError
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from libp2p.stream_muxer.yamux import yamux
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader

from node.network.addresses import keep_alive
from node.network.conduct import Allowance
from node.network.door import Door, source_of
from node.network.reach import multiaddress
from node.network.serving import Charge
from node.seams import TrafficCounters
from protocol.keys import NodeId
from protocol.limits import (
    DIAL_DEADLINE_S,
    PEER_STREAMS_BURST,
    PEER_STREAMS_PER_S,
    PEER_UNCLAIMED_BYTES_MAX,
    PEER_UNCLAIMED_BYTES_PER_S,
    PEER_UNREAD_BYTES_MAX,
    SEND_DEADLINE_S,
    STREAM_WINDOW_BYTES_MAX,
)

log = logging.getLogger("fednode.network")

GOODBYE_S = 0.3  # to get the last frames out and say that we leave; a peer that hangs need not be told
WRITE_QUEUE_FRAMES = 4  # of 64 KiB each, so that the next frame is made while one is sent
SIGN_OF_LIFE_S = 5.0  # a connection silent for so long is asked for a sign; often enough for an election's timing

# Windows grow with use, in the library up to 16 MiB: two streams that nobody reads for a moment would then be too much.
yamux.MAX_WINDOW_SIZE = STREAM_WINDOW_BYTES_MAX

SIGNS_MISSED_MAX = 2  # then it is cut, after 15 to 20 s; a node on a busy machine answers in one


class CountedConnection(RawConnection):
    """A TCP connection whose bytes are counted, and that can be cut at once.

    Args:
        bytes_max: after so many bytes read it ends; None for no bound.
    """

    def __init__(
        self, stream: trio.SocketStream, initiator: bool, counters: TrafficCounters, bytes_max: int | None
    ) -> None:
        super().__init__(TrioTCPStream(stream), initiator)
        keep_alive(stream)
        self._socket = stream.socket
        self.source = source_of_stream(stream)
        self._counters = counters
        self.peer: NodeId | None = None  # once it has proved its name
        self.bytes_left = bytes_max
        self.bytes_sent = self.bytes_received = 0
        self.heard_at = trio.current_time()
        self.on_end: Callable[[], None] | None = None  # called once, when it is hung up
        self.on_bytes: Callable[[], None] | None = None  # called whenever some have come

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    @property
    def dialled(self) -> str:
        """Where it goes to, as a multiaddress; "" where the other end has opened it, or it is over."""
        try:
            return multiaddress(*self._socket.getpeername()[:2]) if self.is_initiator else ""
        except OSError:
            return ""

    def belongs_to(self, peer: NodeId) -> None:
        """The peer has proved its name."""
        self.peer = peer

    async def read(self, n: int | None = None) -> bytes:
        data = await super().read(n)
        self._counters.bytes_received += len(data)
        self.bytes_received += len(data)
        self.heard_at = trio.current_time()
        if self.on_bytes is not None:
            self.on_bytes()
        if self.bytes_left is not None:
            self.bytes_left -= len(data)
            if self.bytes_left < 0:
                self.hang_up()
                raise ConnectionClosedError("more bytes than this connection may send", transport="tcp")
        return data

    async def write(self, data: bytes) -> None:
        await super().write(data)
        self._counters.bytes_sent += len(data)
        self.bytes_sent += len(data)

    def hang_up(self) -> None:
        """Close the socket now. Whoever waits for it is woken; never blocks, never fails."""
        self._socket.close()
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()


def source_of_stream(stream: trio.SocketStream) -> str:
    """Where a socket's other end is, as its attempts are counted; "" where the connection is over already."""
    try:
        return source_of(str(stream.socket.getpeername()[0]))
    except OSError:
        return ""


class GatedNoise(NoiseTransport):
    """Noise that hangs up on whom `door` does not let in, as soon as the handshake has proved the name."""

    def __init__(self, key_pair: KeyPair, door: Door) -> None:
        super().__init__(key_pair, new_x25519_key_pair().private_key)
        self._door = door

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        session = await super().secure_inbound(conn)
        peer = _proved(session)
        entered = self._door.enter(peer)
        if entered:
            assert isinstance(conn, CountedConnection)
            conn.on_end = partial(self._door.leave, peer)
        return await self._gate(conn, session, entered)

    async def secure_outbound(self, conn: IRawConnection, peer_id: ID) -> ISecureConn:
        session = await super().secure_outbound(conn, peer_id)
        return await self._gate(conn, session, self._door.knock(_proved(session)))

    async def _gate(self, conn: IRawConnection, session: ISecureConn, is_admitted: bool) -> ISecureConn:
        peer = _proved(session)
        if is_admitted:
            assert isinstance(conn, CountedConnection)
            conn.bytes_left = None  # a member may send what it likes: blobs are large
            return session
        await session.close()
        raise HandshakeFailure(f"{peer} is not admitted")


def _proved(session: ISecureConn) -> NodeId:
    return NodeId(session.get_remote_peer().to_base58())


class DoorShut(MuxerUpgradeFailure):
    """The peer proved its name and then hung up before the muxer: that is what a closed door looks like."""


class SteadyYamux(yamux.Yamux):
    """Yamux whose writes cannot be torn by a cancellation, and that gives up a peer which takes nothing.

    The library writes to the socket in the task that has something to say; when that task is cancelled half a frame is
    out, and with it the whole connection is lost. Here one task writes. A connection cut by `cut_off` says so in `cut`,
    and in `was_silent` whether nothing had come for so long that it was dead.
    """

    def __init__(
        self, session: ISecureConn, peer_id: ID, connection: CountedConnection, streams_max: int, charge: Charge
    ) -> None:
        super().__init__(session, peer_id, is_initiator=session.is_initiator)
        self.connection = connection
        self.cut = self.was_silent = False
        self._streams_max = streams_max
        self._charge = charge
        now = trio.current_time()
        self._openings = Allowance(PEER_STREAMS_BURST, PEER_STREAMS_PER_S, now)
        self._unclaimed = Allowance(PEER_UNCLAIMED_BYTES_MAX, PEER_UNCLAIMED_BYTES_PER_S, now)
        self.beside: WeakSet[SteadyYamux] = WeakSet()  # the muxers of all connections to this peer
        self._owed = 0  # bytes received, less those that were read or wait for it, less those counted as unclaimed
        self._to_write, self._written = trio.open_memory_channel[bytes](WRITE_QUEUE_FRAMES)
        self._all_written = trio.Event()

    async def start(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_frames)
            try:
                await super().start()
            except Exception as error:  # noqa: BLE001 - a peer's garbage must end its connection, not the host
                log.debug("connection to %s failed: %r", self.peer_id, error)
            self.cut_off()
            nursery.cancel_scope.cancel()

    async def _measure_rtt_loop(self) -> None:
        """The library's measures, and overlooks that no answer comes. This one cuts off who gives no sign of life: a
        frozen peer, one behind a link that swallows everything, one that has forgotten this connection.

        It counts what it has asked, not the time that has passed: a process that was itself frozen must not cut off
        peers whose answers wait to be read.
        """
        await self._ask_for_a_sign()
        looked_at, unanswered = trio.current_time(), 0
        while not await self._ends_within(SIGN_OF_LIFE_S):
            unanswered = 0 if self.connection.heard_at >= looked_at else unanswered + 1
            looked_at = trio.current_time()
            if unanswered > SIGNS_MISSED_MAX:
                log.info("%s gives no sign of life; hanging up", self.peer_id)
                self.cut_off()
                return
            if unanswered:
                await self._ask_for_a_sign()

    async def _ends_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds) as patience:
            await self.event_shutting_down.wait()
        return not patience.cancelled_caught

    async def _ask_for_a_sign(self) -> None:
        """A ping. Its answer also gives the round trip's time, which the library sizes windows by."""
        self._ping_id += 1
        header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id)
        with suppress(ConnectionClosedError):
            await self._write_frame(header)
        self._ping_sent_time = trio.current_time()

    async def _write_frames(self) -> None:
        try:
            async with self._written:
                async for frame in self._written:
                    with trio.fail_after(SEND_DEADLINE_S):
                        await self.secured_conn.write(frame)
        except Exception as error:  # noqa: BLE001 - whatever it is, this connection cannot be written to any more
            log.debug("cannot write to %s any more: %r", self.peer_id, error)
            self.cut_off()
        self._all_written.set()

    async def _write_frame(self, data: bytes) -> None:
        try:
            await self._to_write.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionClosedError("connection closed", transport="tcp") from None

    async def accept_stream(self) -> IMuxedStream:
        stream = await super().accept_stream()
        if len(self.streams) > self._streams_max:
            self._too_much(f"it opened more than {self._streams_max} streams at once")
            raise MuxedConnUnavailable("too many streams")
        if not self._openings.take(1, trio.current_time()):
            self._too_much(f"it opened more than {PEER_STREAMS_PER_S} streams a second")
            raise MuxedConnUnavailable("too many streams a second")
        return stream

    async def _read_data_body(self, length: int) -> bytes:
        """The body of a frame. The library takes it in, and keeps it, however much the window allows, and for streams
        that there are not, too; a peer that keeps to its windows comes nowhere near these bounds."""
        unread = self._unread()
        others = sum(other._unread() for other in self.beside if other is not self and not other.cut)
        if unread + others + length > PEER_UNREAD_BYTES_MAX:
            self._too_much(f"it sent {unread + length} bytes that nobody has read yet")
            raise ConnectionClosedError("too much that nobody reads", transport="tcp")
        if (lost := self._owed - unread) > 0:  # of the frames before: their streams were closed, or never there
            self._owed -= lost
            if not self._unclaimed.take(lost, trio.current_time()):
                self._too_much("it sent on and on to streams that nobody reads")
                raise ConnectionClosedError("too much to streams that nobody reads", transport="tcp")
        data = await super()._read_data_body(length)
        self._owed += len(data)
        return data

    def _unread(self) -> int:
        return sum(map(len, self.stream_buffers.values()))

    async def read_stream(self, stream_id: int, n: int = -1) -> bytes:
        data = await super().read_stream(stream_id, n)
        self._owed -= len(data)
        return data

    def _too_much(self, what: str) -> None:
        self.cut_off()
        self._charge(NodeId(self.peer_id.to_base58()), "overrun", what)

    def _finalize_stream_locked(self, stream: yamux.YamuxStream, *, fully_closed: bool) -> None:
        """The library's; it forgets to wake whoever waits for more of a stream that we reset, even when the connection
        ends."""
        awaited = self.stream_events.get(stream.stream_id)
        super()._finalize_stream_locked(stream, fully_closed=fully_closed)
        if fully_closed and awaited is not None:
            awaited.set()

    def _sweep_stale_streams(self, now: float | None = None) -> int:
        """The library's, twice a minute; it forgets that a reader's last wait leaves an event behind."""
        for stream_id in self.stream_events.keys() - self.streams.keys():
            del self.stream_events[stream_id]
        return super()._sweep_stale_streams(now)

    def cut_off(self) -> None:
        """Hang up now. What was received and not yet read is not handed over any more."""
        if not self.cut:  # as soon as it is, its end counts as heard
            self.was_silent = self.connection.heard_at <= trio.current_time() - SIGNS_MISSED_MAX * SIGN_OF_LIFE_S
        self.cut = True
        self._to_write.close()
        self.connection.hang_up()

    async def close(self, error_code: int = yamux.GO_AWAY_NORMAL) -> None:
        if not self.cut and not self.event_shutting_down.is_set():
            header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_GO_AWAY, 0, 0, error_code)
            with trio.move_on_after(GOODBYE_S):
                await self._say_goodbye(header)
        self.cut_off()
        await super().close(error_code)

    async def _say_goodbye(self, header: bytes) -> None:
        try:
            await self._write_frame(header)
        except ConnectionClosedError:
            return
        self._to_write.close()
        await self._all_written.wait()


class Upgrader(TransportUpgrader):
    """From a raw connection to a muxed one: Noise, then Yamux, and nothing else on offer.

    Ours because the library's builds its own Yamux whatever class it is given.
    """

    def __init__(self, noise: NoiseTransport, streams_max: int, charge: Charge) -> None:
        offered = {TProtocol(yamux.PROTOCOL_ID): yamux.Yamux}
        super().__init__({NOISE_ID: noise}, offered, negotiate_timeout=int(DIAL_DEADLINE_S))
        self._streams_max = streams_max
        self._charge = charge
        self._connections: WeakKeyDictionary[ISecureConn, CountedConnection] = WeakKeyDictionary()
        self._of_peers: WeakValueDictionary[ID, WeakSet[SteadyYamux]] = WeakValueDictionary()

    async def upgrade_security(
        self, raw_conn: IRawConnection, is_initiator: bool, peer_id: ID | None = None
    ) -> ISecureConn:
        assert isinstance(raw_conn, CountedConnection)  # our own sockets are the only ones that get here
        session = await super().upgrade_security(raw_conn, is_initiator, peer_id)
        raw_conn.belongs_to(NodeId(session.get_remote_peer().to_base58()))
        self._connections[session] = raw_conn
        return session

    async def upgrade_connection(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        try:
            await self.muxer_multistream.select_transport(conn)
        except (MultiselectError, MultiselectClientError) as error:
            raise DoorShut(f"{peer_id} hung up after the handshake") from error
        muxer = SteadyYamux(conn, peer_id, self._connections.pop(conn), self._streams_max, self._charge)
        muxer.beside = self._of_peers.setdefault(peer_id, muxer.beside)
        muxer.beside.add(muxer)
        return muxer
