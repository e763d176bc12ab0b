"""Two nodes' networks over real sockets, and somebody at a door who has no business there."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.network.libp2p.network import Libp2pNetwork, open_network
from node.network.reach import host_and_port
from node.network.tls.certificate import calling_context
from node.network.tls.server import TlsServer
from node.network.tls.socket import Ended, TlsSocket
from node.network.tls.stream import TlsStream
from node.seams import BLOB_PROTOCOL, Stream, StreamClosed
from protocol.bulk_ways import TAKEN
from protocol.limits import FRAME_BYTES_MAX

DEADLINE_S = 20.0  # for anything that is waited for
ANY_PORT = "/ip4/127.0.0.1/tcp/0"
HERE = "127.0.0.1"


async def echo(stream: Stream) -> None:
    try:
        while True:
            await stream.send_frame(await stream.receive_frame(FRAME_BYTES_MAX))
    except StreamClosed:
        return


async def says(stream: Stream, frame: bytes) -> bytes:
    """What comes back for `frame`."""
    await stream.send_frame(frame)
    return await stream.receive_frame(FRAME_BYTES_MAX)


class Kept:
    """A handler that keeps its streams open and gives them to the test."""

    def __init__(self) -> None:
        self._give, self._take = trio.open_memory_channel[Stream](100)

    async def __call__(self, stream: Stream) -> None:
        await self._give.send(stream)
        await trio.sleep_forever()

    async def next(self) -> Stream:
        return await self._take.receive()


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Libp2pNetwork, Libp2pNetwork]]:
    """Two networks that know and admit each other; the other one echoes blobs."""
    async with (
        open_network(Ed25519PrivateKey.generate(), [ANY_PORT]) as one,
        open_network(Ed25519PrivateKey.generate(), [ANY_PORT]) as other,
    ):
        for here, there in ((one, other), (other, one)):
            here.set_door(lambda peer: True)
            here.learn(there.node_id, there.addresses())
        other.handle(BLOB_PROTOCOL, echo)
        with trio.fail_after(DEADLINE_S):
            yield one, other


def run(scenario: Callable[[Libp2pNetwork, Libp2pNetwork], Awaitable[None]]) -> None:
    async def main() -> None:
        async with two() as (one, other):
            await scenario(one, other)

    trio.run(main)


def door_of(network: Libp2pNetwork) -> int:
    """The port of its door."""
    return host_and_port(network.addresses()[0])[1]


def server_of(network: Libp2pNetwork) -> TlsServer:
    return network._tls._server


async def over_tls(one: Libp2pNetwork, other: Libp2pNetwork) -> TlsStream:
    stream = await one.open(other.node_id, BLOB_PROTOCOL)
    assert isinstance(stream, TlsStream)
    return stream


async def knock(port: int, context: ssl.SSLContext | None = None, *, source: str = HERE) -> TlsSocket:
    """A connection over TLS to a door, the handshake done. Raises Ended."""
    plain = trio.socket.socket()
    await plain.bind((source, 0))
    await plain.connect((HERE, port))
    tls = TlsSocket(trio.SocketStream(plain), context or calling_context(), is_server=False)
    try:
        await tls.shake_hands()
    except BaseException:
        tls.cut()
        raise
    return tls


async def is_taken(tls: TlsSocket, token: bytes) -> bool:
    """Whether who is connected takes `token`."""
    answer = bytearray(len(TAKEN))
    try:
        await tls.send(token)
        await tls.receive_into(memoryview(answer), lambda size: None)
    except Ended:
        return False
    finally:
        tls.cut()
    return answer == TAKEN


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        with trio.move_on_after(0.01):
            await trio.sleep_forever()
