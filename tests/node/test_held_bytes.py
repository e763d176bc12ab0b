"""How much a peer can have a node keep in memory, over all its connections (docs/protocol.md §4.15, §4.17), and that
nothing is kept of a stream that is over.
"""

from contextlib import suppress

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libp2p.peer.id import ID
from test_door_floods import _connected, _data, _house, _house_and_member, _run, _until

from node.network.libp2p import entrance as libp2p_entrance
from node.network.libp2p import secure as libp2p_secure
from node.network.libp2p.host import muxer_of
from node.network.libp2p.network import Libp2pNetwork
from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL, ENTRANCE_PROTOCOL, Stream, StreamClosed
from protocol.limits import FRAME_BYTES_MAX

PIECE_BYTES = 60_000
pytestmark = pytest.mark.real


def test_unread_bytes_are_bounded_over_all_connections_of_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.15: on each connection there is less than the bound."""
    monkeypatch.setattr(libp2p_secure, "PEER_UNREAD_BYTES_MAX", 3_000_000)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            await _connected(member, house)
            for _ in range(2):
                await member._inner.connect(house.node_id, house.addresses())
            connections = member._inner.connections(ID.from_base58(house.node_id))
            streams = [await member._inner.open_stream(each, BLOB_PROTOCOL) for each in connections]
            assert len(streams) == 3
            for connection, stream in zip(connections, streams, strict=True):
                with suppress(Exception):  # the library's dozen ways to say that it is over
                    for _ in range(30):
                        await muxer_of(connection)._write_frame(_data(stream.muxed_stream.stream_id, PIECE_BYTES))
            await _until(lambda: house.conduct._standings)

    _run(test)


async def _stranger(nursery: trio.Nursery, house: Libp2pNetwork) -> Libp2pNetwork:
    stranger: Libp2pNetwork = await nursery.start(
        Libp2pNetwork(Ed25519PrivateKey.generate(), ["/ip4/127.0.0.1/tcp/0"]).run
    )
    stranger.learn(house.node_id, house.addresses(), house.entrance_addresses())
    return stranger


def test_strangers_together_hold_so_much_and_who_sent_the_most_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.17: each keeps to what one conversation may have."""
    monkeypatch.setattr(libp2p_entrance, "ENTRANCE_HELD_BYTES_MAX", 1_000_000)

    async def test() -> None:
        async with _house() as house, trio.open_nursery() as nursery:
            small, large, larger = [
                await (await _stranger(nursery, house)).open(house.node_id, ENTRANCE_PROTOCOL) for _ in range(3)
            ]
            await small.send_frame(b"let me in")
            await large.send_frame(bytes(400_000))
            assert await large.receive_frame(FRAME_BYTES_MAX) == bytes(400_000)
            with suppress(StreamClosed):
                await larger.send_frame(bytes(800_000))
            with pytest.raises(StreamClosed):
                await larger.receive_frame(FRAME_BYTES_MAX)
            assert await small.receive_frame(100) == b"let me in"
            await large.send_frame(b"still here")
            assert await large.receive_frame(100) == b"still here"
            assert house.counters.refused_at_door == 1
            nursery.cancel_scope.cancel()

    _run(test)


# --- streams that are over ---------------------------------------------------------------------------------------
async def _take_little(stream: Stream) -> None:
    await stream.receive_frame(10)


async def _say_much(stream: Stream) -> None:
    with suppress(StreamClosed):
        while True:
            await stream.send_frame(bytes(FRAME_BYTES_MAX))


def _tasks_of_streams(network: Libp2pNetwork) -> int:
    nurseries = network._inner._nursery, network._entrance.host._nursery
    return sum(len(nursery.child_tasks) for nursery in nurseries if nursery is not None)


def test_a_stream_that_we_reset_leaves_no_task_while_its_connection_lives() -> None:
    """The library wakes nobody who waits for more of a stream when it forgets the stream."""

    async def test() -> None:
        async with _house_and_member() as (house, member):
            house.handle(CONTROL_PROTOCOL, _take_little)
            for _ in range(5):
                stream = await member.open(house.node_id, CONTROL_PROTOCOL)
                await stream.send_frame(bytes(11))
                with pytest.raises(StreamClosed):
                    await stream.receive_frame(10)
            assert member._inner.connections(ID.from_base58(house.node_id))
            await _until(lambda: not _tasks_of_streams(house) + _tasks_of_streams(member))

    _run(test)


def test_a_stranger_whose_stream_we_reset_leaves_no_task() -> None:
    async def test() -> None:
        async with _house() as house, trio.open_nursery() as nursery:
            house.handle(ENTRANCE_PROTOCOL, _take_little)
            for _ in range(3):
                stream = await (await _stranger(nursery, house)).open(house.node_id, ENTRANCE_PROTOCOL)
                await stream.send_frame(bytes(11))
                with pytest.raises(StreamClosed):
                    await stream.receive_frame(10)
            await _until(lambda: not _tasks_of_streams(house))
            nursery.cancel_scope.cancel()

    _run(test)


def test_a_peer_that_dies_while_we_send_leaves_no_task() -> None:
    """Whether we notice it first by reading or by writing, which is a matter of luck."""

    async def test() -> None:
        async with _house_and_member() as (house, member):
            house.handle(CONTROL_PROTOCOL, _say_much)
            for _ in range(8):
                stream = await member.open(house.node_id, CONTROL_PROTOCOL)
                await stream.receive_frame(FRAME_BYTES_MAX)
                for connection in member._inner.connections(ID.from_base58(house.node_id)):
                    muxer_of(connection).cut_off()
            await _until(lambda: not _tasks_of_streams(house) + _tasks_of_streams(member))

    _run(test)
