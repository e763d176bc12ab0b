"""One long-lived control stream to each peer that we work with, and messages on it by channel.

`send` never waits: each peer has a bounded outbox, from which the oldest message goes when it is full. While a link is
down only the newest message of a kind waits, so that a peer that is back hears how things stand and not how they stood.
A link is opened when there is something to send, or held open for those whom `keep` names, and is dialled again with
growing pauses. A message may arrive twice, after a stream broke under it, or not at all; what must arrive is for the
protocol above.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import msgpack
import trio

from node.seams import CONTROL_PROTOCOL, Network, Stream, StreamClosed, Unreachable
from protocol.errors import LocalProtocolError, RemoteProtocolError, UnknownKind
from protocol.keys import NodeId
from protocol.limits import (
    FRAME_BYTES_MAX,
    NAME_CHARACTERS_MAX,
    OUTBOX_FRAMES_MAX,
    REDIAL_FIRST_S,
    REDIAL_LAST_S,
)
from protocol.remembered import remembered

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger("fednode.links")

RUN_CHANNEL = "run"  # on which a run's nodes speak; its messages may be long
FRAME_PATIENCE_S = 60.0  # what could not be sent for so long says what is no longer so; state is sent again by then
# Of one outbox: a peer that asks again and again for what is long, and reads nothing, costs no more memory than this.
OUTBOX_BYTES_MAX = 4 * FRAME_BYTES_MAX
# A simulation gives one frame to many nodes: what is in it then is in memory once.
_REMEMBERED_FRAMES = 16
_REMEMBERED_LONG_FRAMES = 2  # of up to FRAME_BYTES_MAX, with what is in them
_SHORT_FRAME_BYTES = 64 * 1024
IDLE_S = 60.0  # nothing to send for so long, and nobody keeps the link: it is let go
# Pauses differ by so much: nodes that lost one and the same peer must not all dial it in one breath when it is back.
_JITTER_SHARES = (0.75, 1.25)
# Between two pauses that are cut short for new addresses; it doubles until the peer is reached. Who says new ones all
# the time, such as a third machine's, does not have everybody knock there all the time.
HURRY_S, HURRY_LAST_S = 5.0, 300.0
READ_S = 0.3  # for a peer to read what has just gone out: a connection that ends takes along what lies unread

OnMessage = Callable[[NodeId, str, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How things stand with one peer. Times are of trio's clock, in seconds."""

    peer: NodeId
    connected: bool  # our link to it is open
    last_heard: float | None  # when its last message came
    waiting: int  # messages in the outbox
    dropped: int  # messages that were given up


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A frame in an outbox. Of one `kind` the newest says all; "" for what has no such kind."""

    since: float
    kind: str
    frame: bytes


class _Link:
    """Our side of a link: what waits for the peer, and whether somebody tends it."""

    def __init__(self, peer: NodeId) -> None:
        self.peer = peer
        self.outbox: deque[_Waiting] = deque()
        self.outbox_bytes = 0
        self.connected = False
        self.kept = False
        self.tended = False
        self.dropped = 0
        self.failure: Unreachable | None = None  # why it could not be opened the last time that was tried
        self.hurried_at = float("-inf")
        self.hurry_gap_s = HURRY_S
        self._changed = trio.Event()
        self._back = trio.Event()
        self._empty = trio.Event()

    @property
    def is_wanted(self) -> bool:
        return self.kept or bool(self.outbox)

    def put(self, frame: bytes, kind: str) -> None:
        if kind and not self.connected:
            self._drop_all([waiting for waiting in self.outbox if waiting.kind == kind])
        while len(self.outbox) == OUTBOX_FRAMES_MAX or self.outbox_bytes + len(frame) > OUTBOX_BYTES_MAX:
            self.take()
            self.dropped += 1
        self.outbox.append(_Waiting(trio.current_time(), kind, frame))
        self.outbox_bytes += len(frame)
        self.ring()

    def take(self) -> None:
        """Take out the oldest frame."""
        self.outbox_bytes -= len(self.outbox.popleft().frame)
        if not self.outbox:
            self._empty.set()
            self._empty = trio.Event()

    async def wait_until_empty(self) -> None:
        """Until all that waits has gone out. Give it a deadline."""
        while self.outbox:
            await self._empty.wait()

    def give_up_old_frames(self) -> None:
        """The link is down: what has waited for long goes, and so does what has a newer one of its kind behind it."""
        oldest = trio.current_time() - FRAME_PATIENCE_S
        newest = {waiting.kind: waiting for waiting in self.outbox}
        self._drop_all(
            [
                waiting
                for waiting in self.outbox
                if waiting.since <= oldest or (waiting.kind and newest[waiting.kind] is not waiting)
            ]
        )

    def _drop_all(self, those: list[_Waiting]) -> None:
        for waiting in those:
            self.outbox.remove(waiting)
            self.outbox_bytes -= len(waiting.frame)
            self.dropped += 1

    def ring(self) -> None:
        """Have whoever tends this link look at what it holds."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for_change(self) -> None:
        with trio.move_on_after(IDLE_S):
            await self._changed.wait()

    def peer_is_back(self) -> None:
        self._back.set()
        self._back = trio.Event()

    async def wait_for_peer(self, seconds: float) -> bool:
        """Whether the peer came back within `seconds`."""
        with trio.move_on_after(seconds) as patience:
            await self._back.wait()
        return not patience.cancelled_caught


class Links:
    """Messages to and from peers. Start `run` in a nursery; what is sent before that waits.

    Args:
        on_message: called with peer, channel and payload, one call at a time for each peer and in the order of sending.
            A RemoteProtocolError from it resets the stream that the message came on; an UnknownKind does not.
    """

    def __init__(self, network: Network, on_message: OnMessage) -> None:
        self._network = network
        self._on_message = on_message
        self._links: dict[NodeId, _Link] = {}
        self._heard: dict[NodeId, float] = {}
        self._turns: dict[NodeId, trio.Lock] = {}
        self._jitter = Random(network.node_id)  # other pauses on every node, and in a simulation always the same
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        changes = self._network.peer_changes()
        self._network.handle(CONTROL_PROTOCOL, self._receive)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for link in self._links.values():
                    self._tend(link)
                task_status.started()
                async for change in changes:
                    if change.connected and change.peer in self._links:
                        self._links[change.peer].peer_is_back()
            finally:
                self._nursery = None  # what is still to be sent while the node ends stays here

    def send(self, peer: NodeId, channel: str, payload: bytes, kind: str = "") -> None:
        """Have `payload` sent to `peer`. Never waits and never fails for the state of the network.

        Of messages of one `kind` (and channel) only the newest is sent to a peer that could not be reached meanwhile.
        """
        if peer == self._network.node_id:
            raise LocalProtocolError("A node sends itself no messages", remedy="call the function instead")
        frame = _pack(channel, payload)
        link = self._link(peer)
        link.put(frame, kind and f"{channel}/{kind}")
        self._tend(link)

    async def flush(self, peers: Iterable[NodeId], seconds: float) -> None:
        """Wait until what was sent to `peers` over open links has gone out, and a moment for them to read it, but no
        longer than `seconds`."""
        told = [self._links[peer] for peer in peers if peer in self._links and self._links[peer].connected]
        with trio.move_on_after(seconds):
            for link in told:
                await link.wait_until_empty()
            if told:
                await trio.sleep(READ_S)

    def keep(self, peers: Iterable[NodeId]) -> None:
        """Hold a link open with each of `peers`, and from now on with nobody else."""
        wanted = dict.fromkeys(sorted(peers))  # sorted: a set's order would make simulations differ
        wanted.pop(self._network.node_id, None)
        for peer in wanted:
            link = self._link(peer)
            link.kept = True
            self._tend(link)
        for link in self._links.values():
            if link.kept and link.peer not in wanted:
                link.kept = False
                link.ring()

    def hurry(self, peer: NodeId) -> None:
        """`peer` may be found elsewhere now: dial it at once, if it is being dialled at all, and pause less again."""
        link = self._links.get(peer)
        if link is not None and not link.connected and trio.current_time() - link.hurried_at >= link.hurry_gap_s:
            if link.hurried_at > float("-inf"):
                link.hurry_gap_s = min(2 * link.hurry_gap_s, HURRY_LAST_S)
            link.hurried_at = trio.current_time()
            link.peer_is_back()

    def status(self) -> list[LinkStatus]:
        peers = dict.fromkeys([*self._links, *self._heard])
        return [self._status(self._links.get(peer) or _Link(peer)) for peer in peers]

    def _status(self, link: _Link) -> LinkStatus:
        return LinkStatus(link.peer, link.connected, self._heard.get(link.peer), len(link.outbox), link.dropped)

    def failure(self, peer: NodeId) -> Unreachable | None:
        """Why no link to `peer` could be opened the last time that was tried, if it could not."""
        link = self._links.get(peer)
        return link.failure if link is not None else None

    def last_heard(self, peer: NodeId) -> float | None:
        """When `peer`'s last message came, by trio's clock."""
        return self._heard.get(peer)

    # --- sending -------------------------------------------------------------------------------------------------

    def _link(self, peer: NodeId) -> _Link:
        if peer not in self._links:
            self._links[peer] = _Link(peer)
        return self._links[peer]

    def _tend(self, link: _Link) -> None:
        if self._nursery is not None and link.is_wanted and not link.tended:
            link.tended = True
            self._nursery.start_soon(self._hold, link)

    async def _hold(self, link: _Link) -> None:
        """Open the link, and again, as long as it is wanted."""
        pause = 0.0
        try:
            while link.is_wanted:
                lasted = await self._use(link)
                link.give_up_old_frames()
                # A link that held for a while is opened again at once; one that cannot be opened, ever less often.
                well = lasted > max(pause, REDIAL_FIRST_S)
                pause = 0.0 if well else min(max(2 * pause, REDIAL_FIRST_S), REDIAL_LAST_S)
                jittered = pause * self._jitter.uniform(*_JITTER_SHARES)
                if pause and link.is_wanted and await link.wait_for_peer(jittered):
                    pause = 0.0
        finally:
            link.tended = False

    async def _use(self, link: _Link) -> float:
        """Open the link and send what there is until it breaks or nobody wants it. Gives the seconds that it held."""
        try:
            stream = await self._network.open(link.peer, CONTROL_PROTOCOL)
        except Unreachable as error:
            log.debug("no link to %s: %s", link.peer, error.what)
            link.failure = error
            return 0.0
        link.failure = None
        link.hurried_at, link.hurry_gap_s = float("-inf"), HURRY_S
        begun = trio.current_time()
        link.connected = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, stream, nursery.cancel_scope)
                await self._send_all(link, stream)
                nursery.cancel_scope.cancel()
        finally:
            link.connected = False
        await stream.close()
        return trio.current_time() - begun

    async def _watch(self, stream: Stream, link_scope: trio.CancelScope) -> None:
        """End the link when the peer ends it; nothing is ever said in this direction."""
        try:
            await stream.receive_frame(0)
        except (StreamClosed, RemoteProtocolError) as error:
            log.debug("the link to %s ended: %s", stream.peer, error.what)
        link_scope.cancel()

    async def _send_all(self, link: _Link, stream: Stream) -> None:
        try:
            while True:
                while link.outbox:
                    entry = link.outbox[0]
                    await stream.send_frame(entry.frame)
                    if link.outbox and link.outbox[0] is entry:  # a full outbox may have pushed it out meanwhile
                        link.take()
                await link.wait_for_change()
                if not link.is_wanted:
                    return
        except StreamClosed as error:
            log.debug("the link to %s broke: %s", link.peer, error.what)

    # --- receiving -----------------------------------------------------------------------------------------------

    async def _receive(self, stream: Stream) -> None:
        while True:
            try:
                frame = await stream.receive_frame(FRAME_BYTES_MAX)
            except StreamClosed:
                return
            channel, payload = _unpack(frame)
            if pause := self._network.conduct.heard(stream.peer, len(frame), is_of_run=channel == RUN_CHANNEL):
                await trio.sleep(pause)
            self._heard[stream.peer] = trio.current_time()
            try:
                await self._dispatch(stream.peer, channel, payload)
            except UnknownKind as unknown:
                log.debug("overlooked a message of %s: %s", stream.peer, unknown.what)

    async def _dispatch(self, peer: NodeId, channel: str, payload: bytes) -> None:
        """One call at a time for each peer, also while its old stream is not yet read to the end."""
        turn = self._turns.setdefault(peer, trio.Lock())
        try:
            turn.acquire_nowait()  # which is nearly always so, and lets no other task go first
        except trio.WouldBlock:
            await turn.acquire()
        try:
            await self._on_message(peer, channel, payload)
        finally:
            turn.release()
            if not turn.locked():
                self._turns.pop(peer, None)


@remembered(1)
def _pack(channel: str, payload: bytes) -> bytes:
    """The frame of a message. What goes to a thousand peers one after another is packed, and in memory, once."""
    frame: bytes = msgpack.packb([channel, payload], use_bin_type=True)
    if len(frame) > FRAME_BYTES_MAX or len(channel) > NAME_CHARACTERS_MAX:
        raise LocalProtocolError(f"A message of {len(frame)} bytes is over the limit", remedy="send it as a blob")
    return frame


def _unpack(frame: bytes) -> tuple[str, bytes]:
    return _unpack_short(frame) if len(frame) <= _SHORT_FRAME_BYTES else _unpack_long(frame)


def _unpack_frame(frame: bytes) -> tuple[str, bytes]:
    try:
        message = msgpack.unpackb(frame, use_list=False)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise RemoteProtocolError(f"A control frame is not msgpack ({type(error).__name__})") from None
    match message:
        case (str(channel), bytes(payload)) if len(channel) <= NAME_CHARACTERS_MAX:
            return channel, payload
    raise RemoteProtocolError("A control frame is not a channel and a payload")


_unpack_short = remembered(_REMEMBERED_FRAMES)(_unpack_frame)
_unpack_long = remembered(_REMEMBERED_LONG_FRAMES)(_unpack_frame)
