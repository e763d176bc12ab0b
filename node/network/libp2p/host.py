"""One libp2p host, tamed: our sockets, our limits, one address at a time, and no handler that can bring it down.

Of the library this uses the handshake, the muxer, protocol negotiation and GossipSub. Its listeners, its dialler with
caches and retries, its auto-connector, identify and ping stay unused: each has cost somebody a node (DESIGN §13).
"""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import trio
from libp2p.abc import INetStream, INotifee
from libp2p.crypto.keys import KeyPair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import ProtocolNotSupportedError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from node.network.addresses import LOOKUPS_MAX, connect_tcp
from node.network.dialling import Race
from node.network.door import PerMinute, Places
from node.network.libp2p.faults import Faults
from node.network.libp2p.secure import CountedConnection, DoorShut, SteadyYamux, Upgrader
from node.network.libp2p.stream import FrameStream
from node.network.reach import few_names, host_and_port
from node.network.serving import Charge, answer
from node.seams import StreamHandler, TrafficCounters, Unreachable
from protocol.bulk_ways import TLS_BEGINS
from protocol.keys import NodeId
from protocol.limits import (
    DIAL_DEADLINE_S,
    GROUP_MEMBERS_MAX,
    HANDSHAKE_DEADLINE_S,
    HANDSHAKES_MAX,
    SOURCE_FAILURES_PAUSE_S,
    SOURCE_FAILURES_PER_MINUTE,
    SOURCE_HANDSHAKES_MAX,
)

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # type checkers see trio through stubs that the library brings; they lack it

log = logging.getLogger("fednode.network")

_FAREWELL_S = 1.0  # for all goodbyes together, when the host stops
_TELLING_S = 0.5  # of a dial's deadline, kept for saying what came of each address
# A peer that hung up at two addresses does so at all. At one, it may be somebody who passes bytes on to the peer.
_REFUSALS_MAX = 2
_SOMEWHERE = Multiaddr("/ip4/0.0.0.0/tcp/0")  # the library wants the listener's address for its log lines

# A window update for every read doubles the frames; the library looks at this variable at every read.
os.environ["PY_YAMUX_RELEASE_ON_READ"] = "0"


class _ToDebug(logging.Handler):
    """The library's warnings are about its peers' manners. They become debug lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log.debug("%s: %s", record.name, record.getMessage())


def _quieten() -> None:
    library = logging.getLogger("libp2p")
    if not any(isinstance(handler, _ToDebug) for handler in library.handlers):
        library.handlers[:] = [_ToDebug()]
        library.propagate = False
    # This module logs through the root logger's functions, and those install a handler that prints to stderr.
    swarm_connection.logging = logging.getLogger("libp2p.connection")  # type: ignore[attr-defined, assignment]


class _NoAutoConnector(AutoConnector):
    """The library would dial whoever it heard of; whom to dial is the node's affair."""

    async def maybe_connect(self) -> None:
        return


class NotSpoken(Unreachable):
    """The peer is there, and does not know the protocol."""


class Libp2pHost:
    """A host under one identity. Start `run` in a nursery before anything else is asked of it.

    Args:
        streams_max: on one connection at once; a peer that opens more is hung up on.
        charge: told who did that, or anything else that no honest peer does, and what.
        faults: links that a test has broken, if that is switched on.
    """

    def __init__(
        self,
        key_pair: KeyPair,
        noise: NoiseTransport,
        counters: TrafficCounters,
        *,
        streams_max: int,
        charge: Charge,
        faults: Faults | None = None,
    ) -> None:
        _quieten()
        self._counters = counters
        self._charge = charge
        self._faults = faults
        self._new_connection = CountedConnection if faults is None else faults.connection
        peer_id = ID.from_pubkey(key_pair.public_key)
        peerstore = PeerStore()
        peerstore.add_key_pair(peer_id, key_pair)
        limits = ConnectionConfig(
            max_connections=2 * GROUP_MEMBERS_MAX,
            high_watermark=2 * GROUP_MEMBERS_MAX,
            low_watermark=0,
            min_connections=0,
            outbound_stream_protocol_negotiation_timeout=DIAL_DEADLINE_S,
            inbound_stream_protocol_negotiation_timeout=DIAL_DEADLINE_S,
        )
        upgrader = Upgrader(noise, streams_max, charge)
        self.swarm = Swarm(peer_id, peerstore, upgrader, [], RetryConfig(max_retries=0), limits)
        self.swarm.auto_connector = _NoAutoConnector(self.swarm)
        self.host = BasicHost(self.swarm, disable_identify_address_discovery=True)
        self._drop_what_the_library_serves()
        self._handshakes = Places(HANDSHAKES_MAX, SOURCE_HANDSHAKES_MAX)
        self._failures = PerMinute(SOURCE_FAILURES_PER_MINUTE)
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)
        self._reached: dict[NodeId, str] = {}  # the address at which each peer answered last
        self._nursery: trio.Nursery | None = None

    def _drop_what_the_library_serves(self) -> None:
        for protocol in self.host.multiselect.get_protocols():
            if protocol is not None:
                self.host.remove_stream_handler(protocol)
        # Identify runs in system tasks, where an error ends the process; nothing here needs it.
        self.swarm.notifees[:] = [each for each in self.swarm.notifees if "Identify" not in type(each).__name__]
        negotiate = self.host._swarm_stream_handler
        self.swarm.set_stream_handler(self.guarded(negotiate))

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, then say goodbye to all peers. Raises whatever broke the library's tasks."""
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_library, stop)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                stop.set()

    async def _run_library(self, stop: trio.Event, task_status: "TaskStatus[None]") -> None:
        # Shielded, so that the tasks which carry the goodbyes still run when we are cancelled.
        with trio.CancelScope(shield=True) as library:
            async with background_trio_service(self.swarm), trio.open_nursery() as self._nursery:
                task_status.started()
                await stop.wait()
                await self._hang_up_on_all()
                library.shield = False
                self._nursery.cancel_scope.cancel()

    async def _hang_up_on_all(self) -> None:
        """Say goodbye to all at once; the library would do it one after another, a quarter of a second each."""
        connections = [connection for connection in self.swarm.get_connections() if isinstance(connection, SwarmConn)]
        with trio.move_on_after(_FAREWELL_S):
            async with trio.open_nursery() as nursery:
                for connection in connections:
                    nursery.start_soon(connection.close)
        for connection in connections:
            muxer_of(connection).cut_off()
        self.swarm.connections.clear()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run `work` as long as the host lives. False, and nothing done, when it lives no more."""
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            return False
        self._nursery.start_soon(self._supervised, work)
        return True

    async def _supervised(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - what a stream leaves behind must not end the host
            log.debug("a leftover of a stream failed: %r", error)

    def on_connections(self, notifee: INotifee) -> None:
        self.swarm.register_notifee(notifee)

    async def welcome(
        self,
        stream: trio.SocketStream,
        bytes_max: int | None = None,
        watch: Callable[[CountedConnection], None] = lambda connection: None,
        divert: Callable[[trio.SocketStream], Awaitable[None]] | None = None,
    ) -> SwarmConn | None:
        """Take in an accepted socket: handshake, door, muxer. None, and the socket closed, when that fails, takes
        longer than HANDSHAKE_DEADLINE_S, or too many are at it. `watch` gets the connection before anything else, and
        `divert` the socket if it begins with TLS; then it is closed when that returns."""
        connection = self._new_connection(stream, False, self._counters, bytes_max)
        watch(connection)
        with self._handshakes.place(connection.source) as held:
            if not held:
                connection.hang_up()
                return None
            try:
                if not self._failures.may(connection.source, trio.current_time()):
                    await trio.sleep(SOURCE_FAILURES_PAUSE_S)
                with trio.fail_after(HANDSHAKE_DEADLINE_S):
                    is_tls = divert is not None and await stream.socket.recv(1, socket.MSG_PEEK) == TLS_BEGINS
                    muxer = None if is_tls else await self.swarm.upgrade_inbound_raw_conn(connection, _SOMEWHERE)
            except Exception as error:  # noqa: BLE001 - a stranger's garbage raises anything in the library
                log.debug("an inbound connection came to nothing: %r", error)
                self._failures.note(connection.source, trio.current_time())
                connection.hang_up()
                return None
            except BaseException:
                connection.hang_up()
                raise
        if muxer is not None:
            return next((each for each in self.connections(muxer.peer_id) if each.muxed_conn is muxer), None)
        try:
            if divert is not None:
                await divert(stream)
        finally:
            connection.hang_up()
        return None

    def connections(self, peer: ID) -> list[SwarmConn]:
        """The live connections to `peer`."""
        found = [each for each in self.swarm.get_connections(peer) if isinstance(each, SwarmConn)]
        return [each for each in found if not each.is_closed and not muxer_of(each).cut]

    async def connect(self, peer: NodeId, addresses: Sequence[str], bytes_max: int | None = None) -> SwarmConn:
        """A new connection, through the first of `addresses` that leads to `peer`, beginning with the one that did so
        last. Set a deadline around it.

        Raises Unreachable; its `refused` is set when the peer answered and hung up.
        """
        refusals: list[Exception] = []

        def is_final(error: Exception) -> bool:
            if isinstance(error.__cause__, DoorShut):
                refusals.append(error)
            return len(refusals) >= _REFUSALS_MAX

        race: Race[str, SwarmConn] = Race(
            lambda address: self._dial(peer, address, bytes_max),
            self._discard,
            is_final,
        )
        last = self._reached.get(peer)
        addresses = sorted(few_names(addresses), key=lambda address: address != last)  # stable: the others keep order
        with trio.move_on_at(trio.current_effective_deadline() - _TELLING_S):
            await race.run(addresses)
        if race.found is not None:
            self._remember(peer, race.found[0])
            return race.found[1]
        if refusals:
            raise _refused(peer) from refusals[0]
        failures = [f"{address}: {_failure(race.failures.get(address))}" for address in addresses]
        raise Unreachable(
            f"Node {peer} cannot be reached ({'; '.join(failures) or 'no address of it is known'})",
            remedy="check that it runs, and that a firewall lets its port through",
            tried=failures,
        )

    def _discard(self, connection: SwarmConn) -> None:
        self.spawn(connection.close)

    def _remember(self, peer: NodeId, address: str) -> None:
        self._reached.pop(peer, None)
        self._reached[peer] = address
        if len(self._reached) > GROUP_MEMBERS_MAX:
            del self._reached[next(iter(self._reached))]

    async def _dial(self, peer: NodeId, address: str, bytes_max: int | None) -> SwarmConn:
        host, port = host_and_port(address)
        if self._faults is not None:
            await self._faults.before_dial(peer)
        stream = await connect_tcp(host, port, self._lookups)
        connection = self._new_connection(stream, True, self._counters, bytes_max)
        try:
            return await self.swarm.upgrade_outbound_raw_conn(connection, ID.from_base58(peer))
        except BaseException:
            connection.hang_up()
            raise

    async def open_stream(self, connection: SwarmConn, protocol: str) -> NetStream:
        """A stream on which the peer has agreed to speak `protocol`. Raises Unreachable; set a deadline around it."""
        peer = connection.muxed_conn.peer_id
        stream = None
        try:
            stream = await connection.new_stream()
            communicator = MultiselectCommunicator(stream)
            await self.host.multiselect_client.handshake(communicator)
            await self.host.multiselect_client.try_select(communicator, TProtocol(protocol))
            stream.set_protocol(TProtocol(protocol))
            return stream
        except BaseException as error:
            if stream is not None:
                self.spawn(stream.reset)
            if isinstance(error, ProtocolNotSupportedError):
                raise NotSpoken(
                    f"Node {peer} does not speak {protocol}", remedy="run the same version of fednode on both"
                ) from error
            if isinstance(error, Exception):
                raise Unreachable(
                    f"Node {peer} closed the connection", remedy="try again; it may be restarting"
                ) from error
            raise

    def serve(self, protocol: str, handler: StreamHandler, frames_of: Callable[[NetStream], FrameStream]) -> None:
        """Have `handler` answer `protocol`. Its exceptions reset its stream and go no further."""

        async def answered(stream: INetStream) -> None:
            assert isinstance(stream, NetStream)
            await answer(protocol, handler, frames_of(stream), self._charge)

        self.host.set_stream_handler(TProtocol(protocol), self.guarded(answered))

    def guarded(self, handler: Callable[[INetStream], Awaitable[None]]) -> Callable[[INetStream], Awaitable[None]]:
        """`handler`, made unable to bring the host down: the library lets a handler's exception do that."""

        async def guard(stream: INetStream) -> None:
            try:
                await handler(stream)
            except Exception as error:  # noqa: BLE001 - see the docstring
                log.debug("a stream from %s failed: %r", stream.muxed_conn.peer_id, error)
                self.spawn(stream.reset)

        return guard


def muxer_of(connection: SwarmConn) -> SteadyYamux:
    assert isinstance(connection.muxed_conn, SteadyYamux)  # our upgrader makes no other
    return connection.muxed_conn


def _refused(peer: NodeId) -> Unreachable:
    return Unreachable(
        f"Node {peer} does not let us in", remedy="be admitted to a group that it is in, and try again", refused=True
    )


def _failure(error: BaseException | None) -> str:
    return "no answer" if error is None else _short(error)


def _short(error: BaseException) -> str:
    """The innermost cause in a few words."""
    while isinstance(error, BaseExceptionGroup) or error.__cause__ is not None:
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error
    return (str(error) or type(error).__name__)[:120]
