"""A TLS connection under trio: a non-blocking `ssl.SSLSocket`, waited for with trio's own means, and counted.

trio's SSLStream goes through buffers in memory and costs four times as much. Whatever ends the connection comes out as
one error, `Ended`.
"""

import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import trio

from node.network.addresses import keep_alive
from protocol.limits import SEND_DEADLINE_S

RECORD_BYTES = 16 * 1024  # the most that TLS encrypts in one piece
RECORD_OVERHEAD_BYTES = 22  # around each: a header, the kind, and the proof that it is whole
TURN_BYTES = 1024 * 1024  # after so many that were there at once, the other tasks have their turn
DRAIN_BYTES = 64 * 1024
# What a socket raises when the other end, the line or we ourselves have ended it: errors of TLS are OSErrors.
_ENDINGS = (OSError, ValueError, trio.ClosedResourceError, trio.BusyResourceError, trio.TooSlowError)


class Ended(Exception):
    """The connection is over, or the other end takes nothing for SEND_DEADLINE_S."""


class Gate(Protocol):
    """What a test puts between a connection and its line."""

    async def before_sending(self) -> None:
        """Raises Ended."""

    async def before_receiving(self) -> None: ...

    def on_close(self) -> None: ...


class TlsSocket:
    """One end of a TLS connection, over a connected socket that it takes from `stream`. Raises Ended at once where
    that is over already. `count` is told of the bytes on the wire: sent, received."""

    def __init__(
        self,
        stream: trio.SocketStream,
        context: ssl.SSLContext,
        *,
        is_server: bool,
        count: Callable[[int, int], None] = lambda sent, received: None,
    ) -> None:
        self.count = count
        self.gate: Gate | None = None
        self._said_all = False  # the socket then is a plain one, and must not be read or written as if it were not
        try:
            keep_alive(stream)
            plain = socket.socket(fileno=stream.socket.detach())
        except _ENDINGS as error:
            stream.socket.close()
            raise Ended from error
        try:
            plain.setblocking(False)
            self._socket = context.wrap_socket(plain, server_side=is_server, do_handshake_on_connect=False)
        except _ENDINGS as error:
            plain.close()
            raise Ended from error

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    async def shake_hands(self) -> None:
        """Set a deadline around it. Raises Ended."""
        while True:
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._readable()
            except ssl.SSLWantWriteError:
                await self._writable()
            except _ENDINGS as error:
                raise Ended from error

    def duplicate(self) -> int:
        """A second descriptor, for the caller to close: the other end hears of no end before."""
        return os.dup(self._socket.fileno())

    def certificate(self) -> bytes | None:
        """What the other end showed, as DER."""
        return self._socket.getpeercert(binary_form=True)

    async def send(self, data: bytes | memoryview) -> None:
        """Hand over all of `data`. When it is cancelled, a part of it may be out. Raises Ended."""
        view = memoryview(data)
        if self.gate is not None:
            await self.gate.before_sending()
        while view:
            went, wait = self._put(view)
            self.count(went + -(-went // RECORD_BYTES) * RECORD_OVERHEAD_BYTES, 0)
            view = view[went:]
            if view:
                await wait()

    def _put(self, view: memoryview) -> tuple[int, Callable[[], Awaitable[None]]]:
        """Write what there is room for. Gives how many bytes, and what to wait for before there is more."""
        went = 0
        try:
            while went < len(view):
                if self._said_all:
                    raise Ended
                went += self._socket.send(view[went:])
        except ssl.SSLWantWriteError:
            return went, self._writable
        except ssl.SSLWantReadError:
            return went, self._readable
        except _ENDINGS as error:
            raise Ended from error
        return went, trio.lowlevel.checkpoint

    async def receive_into(self, view: memoryview, took: Callable[[int], None]) -> None:
        """Fill `view`. `took` is told of what has come, so that nothing is lost when this is cancelled.

        Raises Ended, also when the other end has said that nothing more comes."""
        while view:
            if self.gate is not None:
                await self.gate.before_receiving()
            came, wait = self._take(view[:TURN_BYTES])
            took(came)
            self.count(0, came + -(-came // RECORD_BYTES) * RECORD_OVERHEAD_BYTES)
            view = view[came:]
            if view:
                await wait()

    def _take(self, view: memoryview) -> tuple[int, Callable[[], Awaitable[None]]]:
        """Read what there is. Gives how many bytes, and what to wait for before there is more."""
        came = 0
        try:
            while came < len(view):
                if self._said_all:
                    raise Ended
                size = self._socket.recv_into(view[came:], len(view) - came)
                if not size:
                    raise Ended
                came += size
        except ssl.SSLWantReadError:
            return came, self._readable
        except ssl.SSLWantWriteError:
            return came, self._writable
        except _ENDINGS as error:
            raise Ended from error
        return came, trio.lowlevel.checkpoint

    async def _readable(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._socket.fileno())
        except _ENDINGS as error:
            raise Ended from error

    async def _writable(self) -> None:
        try:
            with trio.fail_after(SEND_DEADLINE_S):
                await trio.lowlevel.wait_writable(self._socket.fileno())
        except _ENDINGS as error:
            raise Ended from error

    def say_no_more(self) -> None:
        """End our side after what was sent; whoever reads or writes here is woken. TLS has a message for this too, from
        which a reader whose frames have lengths learns nothing."""
        self._said_all = True
        try:
            trio.lowlevel.notify_closing(self._socket.fileno())
            self._socket.shutdown(socket.SHUT_WR)
        except _ENDINGS:
            self.cut()

    async def drain(self) -> None:
        """After `say_no_more`: let come what the other end still says, until it ends its side too. Set a deadline."""
        while self.is_open:
            try:
                came = self._socket.recv(DRAIN_BYTES)  # what is encrypted stays so: nobody reads it
            except (BlockingIOError, ssl.SSLWantReadError):
                try:
                    await self._readable()
                except Ended:
                    return
            except _ENDINGS:
                return
            else:
                if not came:
                    return
                self.count(0, len(came))
                await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """Close it now, both ways: what is on its way is dropped. Whoever reads or writes here is woken."""
        if self.is_open:
            with suppress(OSError):  # the other end was quicker
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def close(self) -> None:
        """Close it, in order."""
        if self.is_open:
            trio.lowlevel.notify_closing(self._socket.fileno())
            self._socket.close()
            if self.gate is not None:
                self.gate.on_close()
