"""The real door against those who do not play by the rules: stock hosts, raw sockets, killed and stopped peers."""

import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.ping import ID as PING
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from node.network.door import Door
from node.network.libp2p import entrance as libp2p_entrance
from node.network.libp2p import network as libp2p_network
from node.network.libp2p import pubsub as libp2p_pubsub
from node.network.libp2p import secure as libp2p_secure
from node.network.libp2p import stream as libp2p_stream
from node.network.libp2p.network import Libp2pNetwork, open_network
from node.seams import (
    BLOB_PROTOCOL,
    CONTROL_PROTOCOL,
    ENTRANCE_PROTOCOL,
    PeerChange,
    Stream,
    StreamClosed,
    Unreachable,
)
from protocol.errors import FednodeError
from protocol.keys import NodeId
from protocol.limits import ENTRANCE_BYTES_MAX, ENTRANCE_SOURCE_STREAMS_MAX, FRAME_BYTES_MAX

pytestmark = pytest.mark.real

ANY_PORT = "/ip4/127.0.0.1/tcp/0"
DEADLINE_S = 20.0


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_deadline() -> None:
        with trio.fail_after(DEADLINE_S):
            await test()

    trio.run(within_deadline)


async def _echo(stream: Stream) -> None:
    try:
        while True:
            await stream.send_frame(await stream.receive_frame(FRAME_BYTES_MAX))
    except StreamClosed:
        return


@asynccontextmanager
async def _house(**options: list[str]) -> AsyncIterator[Libp2pNetwork]:
    """A network that serves everything and admits nobody."""
    async with open_network(Ed25519PrivateKey.generate(), [ANY_PORT], **options) as network:
        for protocol in (CONTROL_PROTOCOL, BLOB_PROTOCOL, ENTRANCE_PROTOCOL):
            network.handle(protocol, _echo)
        yield network


def _who(network: Libp2pNetwork, address: str) -> PeerInfo:
    return PeerInfo(ID.from_base58(network.node_id), [Multiaddr(address)])


def test_a_stock_host_is_refused_inside_the_handshake() -> None:
    async def test() -> None:
        stranger = new_host(create_new_key_pair())
        async with _house() as house, stranger.run(listen_addrs=[]):
            feed = house.subscribe("secrets")
            changes = house.peer_changes()
            with pytest.raises(SwarmException):
                await stranger.connect(_who(house, house.addresses()[0]))
            for protocol in (CONTROL_PROTOCOL, BLOB_PROTOCOL, IDENTIFY, PING, PROTOCOL_ID_V12):
                with pytest.raises(SwarmException):
                    await stranger.new_stream(ID.from_base58(house.node_id), [protocol])
            assert house.counters.refused_at_door >= 1
            assert house.counters.stranger_bytes == 0
            with trio.move_on_after(0.2) as nothing:
                await anext(changes)
            assert nothing.cancelled_caught
            await feed.aclose()

    _run(test)


def test_a_stock_host_at_the_entrance_finds_one_protocol() -> None:
    async def test() -> None:
        stranger = new_host(create_new_key_pair())
        async with _house() as house, stranger.run(listen_addrs=[]):
            await stranger.connect(_who(house, house.entrance_addresses()[0]))
            there = ID.from_base58(house.node_id)
            for protocol in (CONTROL_PROTOCOL, BLOB_PROTOCOL, IDENTIFY, PING, PROTOCOL_ID_V11, PROTOCOL_ID_V12):
                with pytest.raises(Exception, match="failed to open a stream"):
                    await stranger.new_stream(there, [protocol])
            stream = await stranger.new_stream(there, [ENTRANCE_PROTOCOL])
            await stream.write(b"\0\0\0\5hello")
            answer = b""
            while len(answer) < 9:
                answer += await stream.read(9 - len(answer))
            assert answer == b"\0\0\0\5hello"
            assert house.counters.stranger_bytes == 0

    _run(test)


def test_a_node_of_ours_that_is_not_admitted_is_refused_too() -> None:
    async def test() -> None:
        async with _house() as house, _house() as removed:
            removed.set_door(lambda peer: True)
            removed.learn(house.node_id, house.addresses(), house.entrance_addresses())
            for protocol in (CONTROL_PROTOCOL, BLOB_PROTOCOL):
                with pytest.raises(Unreachable) as refusal:
                    await removed.open(house.node_id, protocol)
                assert refusal.value.refused
            assert house.counters.refused_at_door == 2
            assert house.counters.stranger_bytes == 0
            stream = await removed.open(house.node_id, ENTRANCE_PROTOCOL)
            await stream.send_frame(b"hear me")
            assert await stream.receive_frame(10) == b"hear me"

    _run(test)


def test_bytes_that_pass_a_broken_gate_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter is no tautology: with the gate taken out, it sees the stranger's bytes where handlers get them."""
    monkeypatch.setattr(Door, "knock", lambda self, peer: True)
    monkeypatch.setattr(Libp2pNetwork, "_came_up", lambda self, peer: None)

    async def test() -> None:
        async with _house() as house, _house() as stranger:
            stranger.set_door(lambda peer: True)
            stranger.learn(house.node_id, house.addresses())
            stream = await stranger.open(house.node_id, CONTROL_PROTOCOL)
            await stream.send_frame(b"burglar")
            await stream.receive_frame(10)
            assert house.counters.stranger_bytes >= len(b"burglar")

    _run(test)


def test_garbage_on_both_ports_harms_nobody() -> None:
    async def test() -> None:
        async with _house() as house, _house() as member:
            for address in (*house.addresses(), *house.entrance_addresses()):
                host, port = address.split("/")[2], int(address.split("/")[4])
                for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n\xff\xff\xff", bytes(70_000)):
                    raw = await trio.open_tcp_stream(host, port)
                    await raw.send_all(garbage)
                    await raw.aclose()
            house.set_door(lambda peer: peer == member.node_id)
            member.set_door(lambda peer: True)
            member.learn(house.node_id, house.addresses())
            stream = await member.open(house.node_id, CONTROL_PROTOCOL)
            await stream.send_frame(b"alive")
            assert await stream.receive_frame(10) == b"alive"

    _run(test)


def test_a_flood_before_the_handshake_is_cut_off() -> None:
    async def pour(raw: trio.SocketStream) -> None:
        while True:
            await raw.send_all(bytes(10_000))

    async def test() -> None:
        async with _house() as house:
            host, port = house.addresses()[0].split("/")[2::2]
            raw = await trio.open_tcp_stream(host, int(port))
            # A length that never ends, where the name of a protocol belongs.
            await raw.send_all(b"\xff\xff\xff\x7f")
            with pytest.raises(trio.BrokenResourceError):
                await pour(raw)
            assert house.counters.bytes_received < libp2p_network.HANDSHAKE_BYTES_MAX + 100_000

    _run(test)


def test_a_protocols_name_that_is_no_text_harms_nobody() -> None:
    """In a stock host it ends the listener."""

    async def test() -> None:
        stranger = new_host(create_new_key_pair())
        async with _house() as house, stranger.run(listen_addrs=[]):
            await stranger.connect(_who(house, house.entrance_addresses()[0]))
            there = ID.from_base58(house.node_id)
            raw = await stranger.get_network().new_stream(there)
            await raw.write(b"\x04\xff\xfe\xfd\n")
            with pytest.raises(StreamError):
                await _read_to_the_end(raw)
            stream = await stranger.new_stream(there, [ENTRANCE_PROTOCOL])
            await stream.write(b"\0\0\0\5hello")
            assert await stream.read(9)

    _run(test)


async def _read_to_the_end(stream: INetStream) -> None:
    while True:
        await stream.read(100)


def test_a_gossip_message_that_cannot_be_read_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is none raises in a task of the library's, and that ends a stock host."""
    pushed = trio.Event()
    push = libp2p_pubsub.GuardedPubsub.push_msg

    async def observed(self: libp2p_pubsub.GuardedPubsub, forwarder: ID, message: rpc_pb2.Message) -> None:
        pushed.set()
        await push(self, forwarder, message)

    async def test() -> None:
        monkeypatch.setattr(libp2p_pubsub.GuardedPubsub, "push_msg", observed)
        stranger = new_host(create_new_key_pair())
        async with _house() as house, stranger.run(listen_addrs=[]):
            feed = house.subscribe("news")
            while "news" not in house._gossip._pubsub.topic_ids:
                await trio.lowlevel.checkpoint()
            house.set_door(lambda peer: True)
            await stranger.connect(_who(house, house.addresses()[0]))
            message = rpc_pb2.Message(data=b"x", topicIDs=["news"], from_id=b"?", seqno=b"1", key=b"?", signature=b"1")
            gossip = await stranger.new_stream(ID.from_base58(house.node_id), [PROTOCOL_ID_V12])
            await gossip.write(encode_varint_prefixed(rpc_pb2.RPC(publish=[message]).SerializeToString()))
            await gossip.write(b"\xff" * 11)
            await pushed.wait()
            await feed.aclose()
            stream = await stranger.new_stream(ID.from_base58(house.node_id), [CONTROL_PROTOCOL])
            await stream.write(b"\0\0\0\5hello")
            assert await stream.read(9)

    _run(test)


def test_the_entrance_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_entrance, "ENTRANCE_BYTES_MAX", 100_000)

    async def swallow(stream: Stream) -> None:
        while True:
            await stream.receive_frame(FRAME_BYTES_MAX)

    async def pour(stream: Stream) -> None:
        while True:
            await stream.send_frame(bytes(10_000))

    async def test() -> None:
        async with _house() as house, _house() as stranger:
            house.handle(ENTRANCE_PROTOCOL, swallow)
            stranger.learn(house.node_id, (), house.entrance_addresses())
            with pytest.raises(StreamClosed):
                await pour(await stranger.open(house.node_id, ENTRANCE_PROTOCOL))
            assert house.counters.bytes_received < 100_000 + libp2p_entrance.OVERHEAD_BYTES + 100_000

    assert ENTRANCE_BYTES_MAX > 100_000
    _run(test)


def test_a_conversation_at_the_entrance_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_entrance, "ENTRANCE_DEADLINE_S", 0.3)

    async def test() -> None:
        async with _house() as house, _house() as stranger:
            stranger.learn(house.node_id, (), house.entrance_addresses())
            stream = await stranger.open(house.node_id, ENTRANCE_PROTOCOL)
            with pytest.raises(StreamClosed):
                await stream.receive_frame(10)

    _run(test)


async def _ask(stranger: Libp2pNetwork, house: Libp2pNetwork) -> bytes:
    stream = await stranger.open(house.node_id, ENTRANCE_PROTOCOL)
    return await stream.receive_frame(10)


def test_the_entrance_has_so_many_places() -> None:
    async def test() -> None:
        async with _house() as house, _house() as stranger:
            stranger.learn(house.node_id, (), house.entrance_addresses())
            streams = []
            for _ in range(ENTRANCE_SOURCE_STREAMS_MAX):
                stream = await stranger.open(house.node_id, ENTRANCE_PROTOCOL)
                await stream.send_frame(b"in")
                await stream.receive_frame(10)
                streams.append(stream)
            with pytest.raises((StreamClosed, Unreachable)):
                await _ask(stranger, house)
            assert house.counters.refused_at_door == 1

    _run(test)


@asynccontextmanager
async def _peer_process(network: Libp2pNetwork) -> AsyncIterator[tuple[subprocess.Popen[str], NodeId]]:
    command = [sys.executable, str(Path(__file__).with_name("network_peer.py"))]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={"PYTHONPATH": str(root)}
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(await trio.to_thread.run_sync(process.stdout.readline))
            network.learn(told["node_id"], told["addresses"])
            yield process, NodeId(told["node_id"])
        finally:
            process.kill()


def test_a_killed_peer_closes_its_streams_and_is_gone() -> None:
    async def test() -> None:
        async with _house() as house, _peer_process(house) as (process, peer):
            house.set_door(lambda peer: True)
            stream = await house.open(peer, CONTROL_PROTOCOL)
            await stream.send_frame(b"there?")
            assert await stream.receive_frame(10) == b"there?"
            changes = house.peer_changes()
            assert await anext(changes) == PeerChange(peer, True)
            process.send_signal(signal.SIGKILL)
            with pytest.raises(StreamClosed):
                await stream.receive_frame(10)
            assert await anext(changes) == PeerChange(peer, False)
            with pytest.raises(StreamClosed):
                await stream.send_frame(b"there?")
            with pytest.raises(Unreachable):
                await house.open(peer, CONTROL_PROTOCOL)

    _run(test)


def test_a_stopped_peer_is_given_up_by_its_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (libp2p_secure, libp2p_stream):
        monkeypatch.setattr(module, "SEND_DEADLINE_S", 0.5)
    monkeypatch.setattr(libp2p_network, "DIAL_DEADLINE_S", 1.0)

    async def pour(stream: Stream) -> None:
        while True:
            await stream.send_frame(bytes(FRAME_BYTES_MAX))

    async def test() -> None:
        async with _house() as house, _peer_process(house) as (process, peer):
            house.set_door(lambda peer: True)
            stream = await house.open(peer, CONTROL_PROTOCOL)
            changes = house.peer_changes()
            assert await anext(changes) == PeerChange(peer, True)
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(Unreachable):
                await house.open(peer, CONTROL_PROTOCOL)
            with pytest.raises(StreamClosed):
                await pour(stream)
            assert await anext(changes) == PeerChange(peer, False)

    _run(test)


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as foreign:
            port = foreign.getsockname()[1]
            with pytest.raises(FednodeError, match=f"{port} is in use"):
                async with open_network(Ed25519PrivateKey.generate(), [f"/ip4/127.0.0.1/tcp/{port}"]):
                    pytest.fail("it must not start")
            with pytest.raises(FednodeError, match=f"{port} is in use"):
                async with open_network(Ed25519PrivateKey.generate(), [ANY_PORT], [f"/ip4/127.0.0.1/tcp/{port}"]):
                    pytest.fail("it must not start")

    _run(test)


def test_a_port_that_a_stock_host_shares_is_in_use_too() -> None:
    """py-libp2p sets SO_REUSEPORT: two of its hosts would share the port without a word."""

    async def test() -> None:
        other = new_host(create_new_key_pair())
        async with other.run(listen_addrs=[Multiaddr(ANY_PORT)]):
            port = other.get_transport_addrs()[0].value_for_protocol("tcp")
            for listen in (f"/ip4/127.0.0.1/tcp/{port}", f"/ip4/0.0.0.0/tcp/{port}"):
                with pytest.raises(FednodeError, match=f"{port} is in use"):
                    async with open_network(Ed25519PrivateKey.generate(), [listen]):
                        pytest.fail("it must not start")

    _run(test)


def test_all_interfaces_are_announced_one_by_one() -> None:
    async def test() -> None:
        async with open_network(Ed25519PrivateKey.generate(), ["/ip4/0.0.0.0/tcp/0"]) as network:
            assert network.addresses()
            assert not [address for address in network.addresses() if "0.0.0.0" in address]
            async with _house() as other:
                for here, there in ((network, other), (other, network)):
                    here.set_door(lambda peer: True)
                    here.learn(there.node_id, there.addresses())
                network.handle(CONTROL_PROTOCOL, _echo)
                stream = await other.open(network.node_id, CONTROL_PROTOCOL)
                await stream.send_frame(b"found")
                assert await stream.receive_frame(10) == b"found"

    _run(test)


def test_a_restarted_node_gets_its_port_back_and_is_found() -> None:
    async def test() -> None:
        key = Ed25519PrivateKey.generate()
        async with _house() as house:
            house.set_door(lambda peer: True)
            listen = [ANY_PORT]
            for _ in range(3):
                async with open_network(key, listen) as network:
                    listen = network.addresses()
                    network.set_door(lambda peer: True)
                    network.handle(CONTROL_PROTOCOL, _echo)
                    house.learn(network.node_id, listen)
                    stream = await house.open(network.node_id, CONTROL_PROTOCOL)
                    await stream.send_frame(b"back")
                    assert await stream.receive_frame(10) == b"back"
                with pytest.raises(StreamClosed):
                    await stream.receive_frame(10)
                with pytest.raises(Unreachable):
                    await house.open(network.node_id, CONTROL_PROTOCOL)

    _run(test)


def test_a_network_stops_within_two_seconds_whatever_is_open() -> None:
    async def test() -> None:
        async with _house() as other:
            other.set_door(lambda peer: True)
            async with _house() as house:
                house.set_door(lambda peer: True)
                house.learn(other.node_id, other.addresses())
                for _ in range(5):
                    stream = await house.open(other.node_id, CONTROL_PROTOCOL)
                    await stream.send_frame(bytes(100_000))
                begun = time.monotonic()
            assert time.monotonic() - begun < 2.0

    _run(test)


def test_a_break_of_the_library_is_an_error_and_not_a_silent_death() -> None:
    async def break_down() -> None:
        raise RuntimeError("a task of the library's raised")

    async def wait_for_the_end(network: Libp2pNetwork) -> None:
        network._inner.swarm.manager.run_task(break_down)
        await trio.Event().wait()

    async def test() -> None:
        with pytest.raises(FednodeError, match="The network broke"):
            async with _house() as network:
                await wait_for_the_end(network)

    _run(test)


def test_the_library_says_nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    assert not logging.getLogger("libp2p").propagate

    async def test() -> None:
        async with _house() as house, _house() as other:
            other.set_door(lambda peer: True)
            other.learn(house.node_id, house.addresses())
            with pytest.raises(Unreachable):
                await other.open(house.node_id, CONTROL_PROTOCOL)

    _run(test)
    assert capfd.readouterr().err == ""
