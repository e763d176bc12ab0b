"""The real door and entrance against those who take as much as they can get (docs/protocol.md §4.14 to §4.24)."""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V12
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import get_peer_and_seqno_msg_id
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils import decode_uvarint_from_stream, encode_varint_prefixed
from multiaddr import Multiaddr

from node.network import door
from node.network.libp2p import entrance as libp2p_entrance
from node.network.libp2p import host as libp2p_host
from node.network.libp2p import network as libp2p_network
from node.network.libp2p import pubsub as libp2p_pubsub
from node.network.libp2p import secure as libp2p_secure
from node.network.libp2p.host import muxer_of
from node.network.libp2p.network import Libp2pNetwork, open_network
from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL, ENTRANCE_PROTOCOL, VERSION_PROTOCOL, Stream, StreamClosed
from protocol.errors import FednodeError
from protocol.limits import ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE, FRAME_BYTES_MAX
from protocol.version import VERSIONS_BYTES_MAX

pytestmark = pytest.mark.real

ANY_PORT = "/ip4/127.0.0.1/tcp/0"
DEADLINE_S = 20.0
ELSEWHERE = "127.0.0.2"  # another address of this machine
HELLO = b"\x13/multistream/1.0.0\n"


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_deadline() -> None:
        with trio.fail_after(DEADLINE_S):
            await test()

    trio.run(within_deadline)


async def _time_passes(seconds: float) -> None:
    with trio.move_on_after(seconds):
        await trio.Event().wait()


async def _until(condition: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not condition():
            await _time_passes(0.01)


async def _echo(stream: Stream) -> None:
    try:
        while True:
            await stream.send_frame(await stream.receive_frame(FRAME_BYTES_MAX))
    except StreamClosed:
        return


async def _never_read(stream: Stream) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def _house() -> AsyncIterator[Libp2pNetwork]:
    async with open_network(Ed25519PrivateKey.generate(), [ANY_PORT]) as network:
        network.handle(CONTROL_PROTOCOL, _echo)
        network.handle(BLOB_PROTOCOL, _never_read)
        network.handle(ENTRANCE_PROTOCOL, _echo)
        yield network


@asynccontextmanager
async def _house_and_member() -> AsyncIterator[tuple[Libp2pNetwork, Libp2pNetwork]]:
    async with _house() as house, _house() as member:
        for here, there in ((house, member), (member, house)):
            here.set_door(lambda peer: True)
            here.learn(there.node_id, there.addresses(), there.entrance_addresses())
        yield house, member


async def _connected(member: Libp2pNetwork, house: Libp2pNetwork) -> SwarmConn:
    await member.open(house.node_id, CONTROL_PROTOCOL)
    (connection,) = member._inner.connections(ID.from_base58(house.node_id))
    return connection


async def _is_cut(connection: SwarmConn, step: Callable[[], Awaitable[object]], steps_max: int = 200) -> None:
    """Do it again and again, until the other end hangs up."""
    try:
        for _ in range(steps_max):
            await step()
            await trio.lowlevel.checkpoint()
            if muxer_of(connection).is_closed:
                return
    except Exception:  # noqa: BLE001 - the library's dozen ways to say that it is over
        return
    pytest.fail("it may go on for ever")


async def _is_put_out(house: Libp2pNetwork, member: Libp2pNetwork) -> None:
    """The connection is gone, and what the peer did is held against it."""
    await _until(lambda: not house._inner.connections(ID.from_base58(member.node_id)))
    assert house.conduct._standings[member.node_id].score or house.trouble(member.node_id)


# --- members -----------------------------------------------------------------------------------------------------
def test_a_member_has_so_many_connections_and_who_dials_on_and_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.15"""
    monkeypatch.setattr(door, "PEER_CONNECTIONS_MAX", 3)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            refused = 0
            while not house.trouble(member.node_id):
                try:
                    await member._inner.connect(house.node_id, house.addresses())
                except Exception:  # noqa: BLE001 - whatever it is, the house did not take it
                    refused += 1
                assert len(house._inner.connections(ID.from_base58(member.node_id))) <= 3
            assert refused >= 20
            await _until(lambda: not house._inner.connections(ID.from_base58(member.node_id)))
            await _until(lambda: not house._door._inside)

    _run(test)


def test_a_member_that_opens_hundreds_of_streams_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.15"""
    monkeypatch.setattr(libp2p_network, "PEER_STREAMS_MAX", 20)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            connection = await _connected(member, house)
            await _is_cut(connection, connection.new_stream)
            await _is_put_out(house, member)

    _run(test)


def test_a_member_that_opens_stream_after_stream_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.15: though few are open at once."""
    monkeypatch.setattr(libp2p_secure, "PEER_STREAMS_BURST", 15)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            connection = await _connected(member, house)

            async def open_and_reset() -> None:
                await (await connection.new_stream()).reset()

            await _is_cut(connection, open_and_reset)
            await _is_put_out(house, member)

    _run(test)


def _data(stream_id: int, size: int) -> bytes:
    return struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, stream_id, size) + bytes(size)


async def _pour(connection: SwarmConn, stream_id: int) -> None:
    """Data without end, whatever the window is."""
    frame = _data(stream_id, 60_000)
    await _is_cut(connection, lambda: muxer_of(connection)._write_frame(frame), 100_000)


def test_bytes_that_nobody_reads_are_bounded_whatever_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.15: the library takes in what comes, and only logs that it is more than the window."""
    monkeypatch.setattr(libp2p_secure, "PEER_UNREAD_BYTES_MAX", 2_000_000)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            connection = await _connected(member, house)
            stream = await member._inner.open_stream(connection, BLOB_PROTOCOL)
            await _pour(connection, stream.muxed_stream.stream_id)  # type: ignore[attr-defined]
            assert house.counters.bytes_received < 4_000_000
            await _is_put_out(house, member)

    _run(test)


def test_bytes_for_streams_that_are_not_there_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.15"""
    monkeypatch.setattr(libp2p_secure, "PEER_UNCLAIMED_BYTES_MAX", 2_000_000)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            await _pour(await _connected(member, house), 4711)
            assert house.counters.bytes_received < 5_000_000
            await _is_put_out(house, member)

    _run(test)


def test_a_large_transfer_is_neither_throttled_nor_held_against_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.15, §4.16: also where much of it is thrown away by a reader that closes."""
    monkeypatch.setattr(libp2p_secure, "PEER_UNREAD_BYTES_MAX", 8 * FRAME_BYTES_MAX)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            for _ in range(3):
                stream = await member.open(house.node_id, CONTROL_PROTOCOL)
                for _ in range(4):
                    await stream.send_frame(bytes(FRAME_BYTES_MAX))
                    assert len(await stream.receive_frame(FRAME_BYTES_MAX)) == FRAME_BYTES_MAX
                await stream.reset()
            assert not house.conduct._standings
            assert not member.conduct._standings

    _run(test)


def test_who_is_put_out_while_its_connection_comes_up_does_not_come_in() -> None:
    """§4.22: the door is asked again once the connection stands."""

    async def test() -> None:
        async with _house_and_member() as (house, member):
            asked: list[str] = []

            def admits_once(peer: str) -> bool:
                asked.append(peer)
                return len(asked) == 1

            house.set_door(admits_once)

            async def come_in() -> None:
                stream = await member.open(house.node_id, CONTROL_PROTOCOL)
                await stream.send_frame(b"late")
                await stream.receive_frame(10)

            with pytest.raises(FednodeError, match=r"closed|let us in|cannot be reached"):
                await come_in()
            assert len(asked) >= 2
            await _until(lambda: not house._inner.connections(ID.from_base58(member.node_id)))
            assert house.counters.stranger_bytes == 0

    _run(test)


# --- strangers ---------------------------------------------------------------------------------------------------
async def _dial(address: str, source: str = "127.0.0.1") -> trio.SocketStream:
    socket = trio.socket.socket()
    await socket.bind((source, 0))
    await socket.connect((address.split("/")[2], int(address.split("/")[4])))
    return trio.SocketStream(socket)


async def _is_answered(stream: trio.SocketStream) -> bool:
    """Whether the handshake goes on."""
    try:
        await stream.send_all(HELLO)
        return bool(await stream.receive_some(100))
    except trio.BrokenResourceError:
        return False


def test_half_open_handshakes_of_one_address_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.17"""
    monkeypatch.setattr(libp2p_host, "SOURCE_HANDSHAKES_MAX", 3)

    async def test() -> None:
        async with _house() as house:
            address = house.addresses()[0]
            silent = [await _dial(address) for _ in range(3)]
            await _until(lambda: house._inner._handshakes._taken["127.0.0.1"] == 3)
            assert not await _is_answered(await _dial(address))
            assert await _is_answered(await _dial(address, ELSEWHERE))
            for each in silent:
                await each.aclose()
            await _until(lambda: not house._inner._handshakes._taken["127.0.0.1"])
            assert await _is_answered(await _dial(address))

    _run(test)


def test_strangers_who_come_again_and_again_are_made_to_wait_and_members_come_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """§4.17: each handshake has a new name and costs its signatures. A member at the same address waits like them."""
    monkeypatch.setattr(libp2p_host, "SOURCE_FAILURES_PAUSE_S", 0.5)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            house.set_door(lambda peer: peer == member.node_id)
            house._inner._failures = door.PerMinute(3)
            for _ in range(3):
                await (await _dial(house.addresses()[0])).aclose()
            await _until(lambda: not house._inner._failures.may("127.0.0.1", trio.current_time()))
            began = trio.current_time()
            assert await _is_answered(await _dial(house.addresses()[0]))
            assert 0.4 < trio.current_time() - began < 5
            began = trio.current_time()
            assert await _is_answered(await _dial(house.addresses()[0], ELSEWHERE))
            assert trio.current_time() - began < 0.4
            await member.open(house.node_id, CONTROL_PROTOCOL)

    _run(test)


def test_a_handshake_of_one_byte_at_a_time_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.17: each byte comes in time, and the whole does not."""
    monkeypatch.setattr(libp2p_host, "HANDSHAKE_DEADLINE_S", 0.5)

    async def dribble(stream: trio.SocketStream) -> None:
        for byte in HELLO + b"\x07/noise\n" + (1000).to_bytes(2, "big") + bytes(1000):
            await stream.send_all(bytes([byte]))
            await _time_passes(0.05)  # slowly, on purpose

    async def test() -> None:
        async with _house() as house:
            for address in (*house.addresses(), *house.entrance_addresses()):
                began = trio.current_time()
                with pytest.raises(trio.BrokenResourceError):
                    await dribble(await _dial(address))
                assert trio.current_time() - began < 5

    _run(test)


def test_a_flood_at_the_entrance_leaves_room_for_a_joiner_from_elsewhere() -> None:
    """§4.17"""

    async def test() -> None:
        async with _house() as house:
            address = house.entrance_addresses()[0]
            for _ in range(2 * ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE):
                await (await _dial(address)).aclose()
            await _until(lambda: house.counters.refused_at_door >= ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE)
            assert not await _is_answered(await _dial(address))
            assert await _is_answered(await _dial(address, ELSEWHERE))

    _run(test)


def test_connections_held_open_at_the_entrance_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.17"""
    monkeypatch.setattr(libp2p_entrance, "SOURCE_CONNECTIONS_MAX", 3)

    async def test() -> None:
        async with _house() as house:
            address = house.entrance_addresses()[0]
            held = [await _dial(address) for _ in range(3)]
            await _until(lambda: house._entrance._places._taken["127.0.0.1"] == 3)
            assert not await _is_answered(await _dial(address))
            assert await _is_answered(await _dial(address, ELSEWHERE))
            for each in held:
                await each.aclose()

    _run(test)


# --- gossip ------------------------------------------------------------------------------------------------------
class Spy:
    """A stock host that the house admits, and all that the house's GossipSub says to it."""

    def __init__(self) -> None:
        self.host = new_host(create_new_key_pair())
        self.heard: list[rpc_pb2.RPC] = []
        self._mine: INetStream
        self.host.set_stream_handler(PROTOCOL_ID_V12, self._listen)

    async def _listen(self, stream: INetStream) -> None:
        try:
            while True:
                size = await decode_uvarint_from_stream(stream)
                body = b""
                while len(body) < size:
                    body += await stream.read(size - len(body))
                self.heard.append(rpc_pb2.RPC.FromString(body))
        except Exception:  # noqa: BLE001 - the end, in one of the library's ways
            return

    async def meet(self, house: Libp2pNetwork) -> None:
        await self.host.connect(PeerInfo(ID.from_base58(house.node_id), [Multiaddr(house.addresses()[0])]))
        self._mine = await self.host.new_stream(ID.from_base58(house.node_id), [PROTOCOL_ID_V12])

    async def say(self, rpc: rpc_pb2.RPC) -> None:
        await self._mine.write(encode_varint_prefixed(rpc.SerializeToString()))

    def messages(self) -> list[rpc_pb2.Message]:
        return [message for rpc in self.heard for message in rpc.publish]


async def _subscribed(house: Libp2pNetwork, topic: str) -> None:
    await _until(lambda: topic in house._gossip._pubsub.topic_ids)


def test_who_is_no_reader_learns_nothing_of_a_topic_from_the_wire() -> None:
    """§4.23: neither that we read it, nor what is said on it, nor by asking, nor as one of its mesh."""

    async def test() -> None:
        spy = Spy()
        async with _house() as house, spy.host.run(listen_addrs=[]):
            house.set_door(lambda peer: True)
            feed = house.subscribe("secrets", lambda peer: False)
            open_to_all = house.subscribe("open to all")
            await _subscribed(house, "secrets")
            await spy.meet(house)
            wanted = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="secrets")])
            wanted.control.graft.add(topicID="secrets")
            await spy.say(wanted)
            await _until(lambda: any(rpc.subscriptions for rpc in spy.heard))
            await house.publish("secrets", b"among us")
            own = get_peer_and_seqno_msg_id(
                rpc_pb2.Message(
                    from_id=ID.from_base58(house.node_id).to_bytes(),
                    seqno=house._gossip._pubsub.counter.to_bytes(8, "big"),
                )
            )
            assert house._gossip._router.mcache.get(own) is not None
            await spy.say(rpc_pb2.RPC(control=rpc_pb2.ControlMessage(iwant=[rpc_pb2.ControlIWant(messageIDs=[own])])))
            await _time_passes(2.5)  # two heartbeats, in which the mesh is tended and messages are offered
            assert [opt.topicid for rpc in spy.heard for opt in rpc.subscriptions] == ["open to all"]
            assert b"secrets" not in b"".join(rpc.SerializeToString() for rpc in spy.heard)
            assert not spy.messages()
            await feed.aclose()
            await open_to_all.aclose()
            await _time_passes(0.3)  # for what would be said of the end
            assert b"secrets" not in b"".join(rpc.SerializeToString() for rpc in spy.heard)

    _run(test)


def test_a_message_is_sent_once_however_often_it_is_asked_for() -> None:
    """§4.16: the library sends it as often as its id stands in the request, all in one piece of memory."""

    async def test() -> None:
        spy = Spy()
        async with _house() as house, spy.host.run(listen_addrs=[]):
            house.set_door(lambda peer: True)
            house.subscribe("news")
            await _subscribed(house, "news")
            await spy.meet(house)
            await spy.say(rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="news")]))
            await house.publish("news", bytes(30_000))
            await _until(spy.messages)
            before = len(spy.messages())
            wanted = rpc_pb2.ControlIWant(messageIDs=[get_peer_and_seqno_msg_id(spy.messages()[0])] * 5000)
            await spy.say(rpc_pb2.RPC(control=rpc_pb2.ControlMessage(iwant=[wanted])))
            await _until(lambda: len(spy.messages()) > before)
            await _time_passes(0.5)  # for more to come
            assert len(spy.messages()) == before + 1

    _run(test)


def test_who_gossips_without_end_is_dropped_and_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.16: what is too much is lost, and held against nobody: it may be others' that it passes on."""
    monkeypatch.setattr(libp2p_pubsub, "PEER_GOSSIP_BURST", 20)
    monkeypatch.setattr(libp2p_pubsub, "PEER_GOSSIP_PER_S", 1)

    async def test() -> None:
        async with _house_and_member() as (house, member):
            feed = house.subscribe("news")
            await _connected(member, house)
            await _subscribed(house, "news")
            await _until(lambda: "news" in member._gossip._pubsub.peer_topics)
            for number in range(200):
                await member.publish("news", number.to_bytes(2, "big"))
            await _time_passes(1)  # for all of them to arrive
            assert 10 <= len(feed._waiting) <= 25
            assert house.trouble(member.node_id) == ""

    _run(test)


def test_what_a_peer_may_not_bring_another_one_may() -> None:
    """§4.23: the library remembers that a message was bad, and then refuses it from everybody."""

    async def test() -> None:
        outsider, reader = Spy(), Spy()
        async with _house() as house, outsider.host.run(listen_addrs=[]), reader.host.run(listen_addrs=[]):
            house.set_door(lambda peer: True)
            readers = {reader.host.get_id().to_base58()}
            feed = house.subscribe("news", lambda peer: peer in readers)
            await _subscribed(house, "news")
            async with _house() as author:
                author.set_door(lambda peer: True)
                author.subscribe("news")
                await _subscribed(author, "news")
                await reader.meet(author)
                await reader.say(rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="news")]))
                await author.publish("news", b"for you")
                await _until(reader.messages)
            message = reader.messages()[0]
            for spy in (outsider, reader):
                await spy.meet(house)
                await spy.say(rpc_pb2.RPC(publish=[message]))
                await _time_passes(0.3)  # for the message to be looked at
            heard = await anext(feed)
            assert (heard.peer, heard.data) == (reader.host.get_id().to_base58(), b"for you")
            assert not feed._waiting

    _run(test)


# --- versions ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [b"", b"one", b"1,", b"2,1", b"1" * VERSIONS_BYTES_MAX, b"9" * 200])
def test_nonsense_about_versions_is_refused_and_harms_nobody(text: bytes) -> None:
    """§11.2: at the entrance, where anybody may say it."""

    async def test() -> None:
        async with _house() as house, _house() as stranger:
            stranger.learn(house.node_id, (), house.entrance_addresses())
            connection = await stranger._entrance.host.connect(house.node_id, house.entrance_addresses())
            asked = stranger._entrance._asker(await stranger._entrance.host.open_stream(connection, VERSION_PROTOCOL))
            await asked.send_frame(text)
            with pytest.raises(StreamClosed):
                await asked.receive_frame(VERSIONS_BYTES_MAX)
            assert house.trouble(stranger.node_id) == ""
            stream = await stranger.open(house.node_id, ENTRANCE_PROTOCOL)
            await stream.send_frame(b"still there")
            assert await stream.receive_frame(100) == b"still there"

    _run(test)
