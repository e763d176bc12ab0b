"""Faults that a test puts on links (node.network.libp2p.faults), on those over TLS. What would vanish waits here."""

import os

import trio

from node.network.libp2p.faults import Faults, Mode
from node.network.tls.socket import Ended, TlsSocket
from protocol.keys import NodeId
from protocol.limits import SEND_DEADLINE_S


class FaultyTls:
    """The gate of one connection, through which the peer's faults let bytes or not."""

    def __init__(self, faults: Faults, tls: TlsSocket, peer: NodeId) -> None:
        self._faults = faults
        self._tls = tls
        self._peer = peer
        self._kept: int | None = None  # a second descriptor of a socket that the peer is to believe in
        tls.gate = self
        faults.add(self)
        self.obey()

    async def before_sending(self) -> None:
        with trio.move_on_after(SEND_DEADLINE_S):
            await self._while("black-hole", "mute")
            return
        raise Ended

    async def before_receiving(self) -> None:
        await self._while("black-hole", "deaf")

    async def _while(self, *modes: Mode) -> None:
        while self._faults.has(self._peer, *modes) and self._tls.is_open:
            await self._faults.change()

    def obey(self) -> None:
        """The faults have changed."""
        if self._faults.has(self._peer, "cut"):
            self._tls.cut()
        elif self._faults.is_newly_half_open(self._peer):
            if self._kept is None and self._tls.is_open:
                self._kept = self._tls.duplicate()
            self._tls.cut()
        elif self._kept is not None and not self._faults.has(self._peer, "half-open"):
            os.close(self._kept)
            self._kept = None
            self._faults.forget(self)

    async def deliver(self) -> None:
        """Nothing is held back here: who sends waits, and so does who receives."""

    def on_close(self) -> None:
        if self._kept is None:
            self._faults.forget(self)
