"""Links broken on demand, for tests that break them between real nodes, on any machine and without its owner's rights.

Only where the environment variable FEDNODE_FAULTS names a file, a JSON list of {"peer": id, "mode": mode} that is read
again whenever it changes; a file that is missing, like an empty list, means that all is well. Whatever goes to or comes
from the peer is concerned: control streams, gossip, blobs, the entrance. Without the variable nothing of this is used.

cut          connections are closed, new ones are refused
black-hole   bytes vanish in both directions, and the connections stay open
mute         what we send vanishes, what the peer sends arrives
deaf         what the peer sends vanishes, what we send arrives
half-open    the connections that there are: we forget them, and the peer hears nothing of that

What vanished arrives once the fault is over, if the connection still lives: TCP says it again until then.
"""

import logging
import os
from pathlib import Path
from typing import Literal, Protocol

import trio
from pydantic import BaseModel, TypeAdapter, ValidationError

from node.network.libp2p.secure import CountedConnection
from node.seams import TrafficCounters
from protocol.errors import FednodeError
from protocol.keys import NodeId

log = logging.getLogger("fednode.network")

FAULTS_VARIABLE = "FEDNODE_FAULTS"
LOOK_EVERY_S = 0.05
HELD_BYTES_MAX = 256 * 1024  # about what a socket takes in before it makes its writer wait

Mode = Literal["cut", "black-hole", "mute", "deaf", "half-open"]


class Fault(BaseModel, extra="forbid"):
    """One line of the file."""

    peer: str
    mode: Mode


class Breakable(Protocol):
    """A connection that faults take effect on."""

    def obey(self) -> None:
        """The faults have changed."""

    async def deliver(self) -> None:
        """Send what was held back, where that is over."""


class Faults:
    """What is broken now, as the file says. Start `watch` in a nursery."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = b""
        self._modes: dict[str, set[Mode]] = {}
        self._before: dict[str, set[Mode]] = {}
        self._connections: set[Breakable] = set()
        self._changed = trio.Event()
        log.warning("links are broken on purpose wherever %s says so; this is for tests", path)
        self._look()

    @classmethod
    def from_environment(cls) -> "Faults | None":
        path = os.environ.get(FAULTS_VARIABLE)
        return cls(Path(path)) if path else None

    def has(self, peer: NodeId | None, *modes: Mode) -> bool:
        return peer is not None and not self._modes.get(peer, set()).isdisjoint(modes)

    def is_newly_half_open(self, peer: NodeId | None) -> bool:
        """Whether that began with the last change: the connections made since then are whole."""
        return self.has(peer, "half-open") and "half-open" not in self._before.get(str(peer), ())

    def connection(
        self, stream: trio.SocketStream, initiator: bool, counters: TrafficCounters, bytes_max: int | None
    ) -> "FaultyConnection":
        connection = FaultyConnection(stream, initiator, counters, bytes_max, self)
        self.add(connection)
        return connection

    def add(self, connection: Breakable) -> None:
        self._connections.add(connection)

    def forget(self, connection: Breakable) -> None:
        self._connections.discard(connection)
        self.ring()

    async def before_dial(self, peer: NodeId) -> None:
        """Dial into a broken link: refused at once, or no answer for as long as it is broken."""
        if self.has(peer, "cut"):
            raise ConnectionRefusedError("the link is cut on purpose")
        while self.has(peer, "black-hole", "mute", "deaf"):
            await self.change()

    async def change(self) -> None:
        await self._changed.wait()

    def ring(self) -> None:
        """Have everybody who waits for a change look."""
        self._changed.set()
        self._changed = trio.Event()

    async def watch(self) -> None:
        """Follow the file until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                if self._look():
                    for connection in list(self._connections):
                        connection.obey()
                        nursery.start_soon(connection.deliver)
                    self.ring()
                await trio.sleep(LOOK_EVERY_S)

    def _look(self) -> bool:
        """Read the file. Whether it says something else than before."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            content = b"[]"
        if content == self._seen:
            return False
        self._seen = content
        try:
            faults = TypeAdapter(list[Fault]).validate_json(content)
        except ValidationError as error:
            raise FednodeError(
                f"{self._path} is no list of faults ({error})", remedy=f"mend it, or unset {FAULTS_VARIABLE}"
            ) from None
        self._before, self._modes = self._modes, {}
        for fault in faults:
            self._modes.setdefault(fault.peer, set()).add(fault.mode)
        log.info("broken on purpose: %s", {peer: sorted(modes) for peer, modes in self._modes.items()})
        return True


class FaultyConnection(CountedConnection):
    """A connection on which the peer's faults take effect once its name is known."""

    def __init__(
        self,
        stream: trio.SocketStream,
        initiator: bool,
        counters: TrafficCounters,
        bytes_max: int | None,
        faults: Faults,
    ) -> None:
        super().__init__(stream, initiator, counters, bytes_max)
        self._faults = faults
        self._held = bytearray()  # written, and not yet on its way
        self._delivering = trio.Lock()
        self._gone = False
        self._kept: trio.socket.SocketType | None = None  # a second handle of a socket that the peer is to believe in

    def belongs_to(self, peer: NodeId) -> None:
        super().belongs_to(peer)
        if self._faults.has(peer, "cut"):
            self.hang_up()

    def obey(self) -> None:
        """The faults have changed."""
        if self._faults.has(self.peer, "cut"):
            self.hang_up()
        elif self._faults.is_newly_half_open(self.peer):
            if self._kept is None and self._socket.fileno() >= 0:  # it may have ended this moment
                self._kept = self._socket.dup()
            self.hang_up()
        elif self._kept is not None and not self._faults.has(self.peer, "half-open"):
            self._kept.close()
            self._kept = None
            self._faults.forget(self)

    async def read(self, n: int | None = None) -> bytes:
        heard_at = self.heard_at
        try:
            data = await super().read(n)
        except Exception:  # news of an end vanish like all else
            await self._while("black-hole", "deaf")
            raise
        if self._faults.has(self.peer, "black-hole", "deaf"):
            self.heard_at = heard_at
            await self._while("black-hole", "deaf")
            self.heard_at = trio.current_time()
        return data

    async def write(self, data: bytes) -> None:
        if not self._held and not self._faults.has(self.peer, "black-hole", "mute"):
            await super().write(data)
            return
        while len(self._held) >= HELD_BYTES_MAX and not self._gone:
            await self._faults.change()
        self._held += data
        await trio.lowlevel.checkpoint()

    async def deliver(self) -> None:
        """Send what was held back, where that is over."""
        async with self._delivering:
            while self._held and not self._gone and not self._faults.has(self.peer, "black-hole", "mute"):
                data = bytes(self._held)
                try:
                    await super().write(data)
                except Exception as error:  # noqa: BLE001 - whatever it is, the connection has not lived so long
                    log.debug("what was held back is lost: %r", error)
                    self.hang_up()
                del self._held[: len(data)]
        self._faults.ring()

    async def _while(self, *modes: Mode) -> None:
        while self._faults.has(self.peer, *modes) and not self._gone:
            await self._faults.change()

    def hang_up(self) -> None:
        self._gone = True
        super().hang_up()
        if self._kept is None:
            self._faults.forget(self)
