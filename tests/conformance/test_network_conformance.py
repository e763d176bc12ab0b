"""What every Network must do, run on the real one (sockets, real time) and on the simulated one (virtual time)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio.testing import MockClock

from node.network.libp2p import stream as libp2p_stream
from node.network.libp2p.network import Libp2pNetwork
from node.network.tls import socket as tls_socket
from node.seams import (
    BLOB_PROTOCOL,
    CONTROL_PROTOCOL,
    ENTRANCE_PROTOCOL,
    Gossip,
    Network,
    PeerChange,
    PeerTraffic,
    Stream,
    StreamClosed,
    Unreachable,
)
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.keys import NodeId, node_id_of, public_key_of
from protocol.limits import FRAME_BYTES_MAX, GOSSIP_BYTES_MAX
from simulations.world import network_stream
from simulations.world.network import SimulatedWorld

DEADLINE_S = 20.0  # for anything that is waited for
ANY_PORT = "/ip4/127.0.0.1/tcp/0"
DEAD_ADDRESS = "/ip4/127.0.0.1/tcp/9"  # the discard port; in the simulated world nobody lives there either

# Those of blobs go over TLS in the real network.
BOTH_WAYS = pytest.mark.parametrize("protocol", [CONTROL_PROTOCOL, BLOB_PROTOCOL])

NewNetwork = Callable[[], Awaitable[Network]]
Scenario = Callable[[NewNetwork], Awaitable[None]]
Ground = Callable[[Scenario], None]


async def _on_real(scenario: Scenario) -> None:
    async with trio.open_nursery() as nursery:

        async def new() -> Network:
            return await nursery.start(Libp2pNetwork(Ed25519PrivateKey.generate(), [ANY_PORT]).run)

        with trio.fail_after(DEADLINE_S):
            await scenario(new)
        nursery.cancel_scope.cancel()


async def _on_simulated(scenario: Scenario) -> None:
    world = SimulatedWorld(Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)

        async def new() -> Network:
            network = world.network(node_id_of(public_key_of(Ed25519PrivateKey.generate())))
            return await nursery.start(network.run)

        with trio.fail_after(10 * DEADLINE_S):
            await scenario(new)
        nursery.cancel_scope.cancel()


@pytest.fixture(params=[pytest.param("real", marks=pytest.mark.real), "simulated"])
def ground(request: pytest.FixtureRequest) -> Ground:
    if request.param == "real":
        return lambda scenario: trio.run(_on_real, scenario)
    return lambda scenario: trio.run(_on_simulated, scenario, clock=MockClock(autojump_threshold=0))


async def _two(new: NewNetwork) -> tuple[Network, Network]:
    """Two networks that know and admit each other."""
    one, other = await new(), await new()
    for here, there in ((one, other), (other, one)):
        here.set_door(lambda peer: True)
        here.learn(there.node_id, there.addresses(), there.entrance_addresses())
    return one, other


async def _echo(stream: Stream) -> None:
    try:
        while True:
            await stream.send_frame(await stream.receive_frame(FRAME_BYTES_MAX))
    except StreamClosed:
        return


class Kept:
    """A handler that keeps its streams open and gives them to the test."""

    def __init__(self) -> None:
        self._give, self._take = trio.open_memory_channel[Stream](10)

    async def __call__(self, stream: Stream) -> None:
        await self._give.send(stream)
        await trio.Event().wait()

    async def next(self) -> Stream:
        return await self._take.receive()


async def _time_passes(seconds: float) -> None:
    with trio.move_on_after(seconds):
        await trio.Event().wait()


async def _for_ever(step: Callable[[], Awaitable[object]]) -> None:
    while True:
        await step()


async def _ends(stream: Stream) -> None:
    with pytest.raises(StreamClosed):
        await _for_ever(lambda: stream.receive_frame(FRAME_BYTES_MAX))


async def _next_change(changes: AsyncIterator[PeerChange]) -> PeerChange:
    return await anext(changes)


@BOTH_WAYS
def test_frames_go_both_ways_in_order_and_whole(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(protocol, _echo)
        stream = await one.open(other.node_id, protocol)
        assert stream.peer == other.node_id
        frames = [b"", b"x", bytes(70_000), b"last"]
        for frame in frames:
            await stream.send_frame(frame)
        assert [await stream.receive_frame(FRAME_BYTES_MAX) for _ in frames] == frames
        assert one.counters.bytes_sent > 70_000
        assert other.counters.bytes_received > 70_000
        assert one.counters.stranger_bytes == other.counters.stranger_bytes == 0

    ground(scenario)


@BOTH_WAYS
def test_what_goes_to_and_from_each_peer_is_counted(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        third = await new()
        assert one.traffic(other.node_id) == PeerTraffic()
        other.handle(protocol, _echo)
        stream = await one.open(other.node_id, protocol)
        await stream.send_frame(bytes(70_000))
        await stream.receive_frame(FRAME_BYTES_MAX)
        there, back = one.traffic(other.node_id), other.traffic(one.node_id)
        for traffic in (there, back):
            assert traffic.path == "direct"
            assert 70_000 < traffic.bytes_sent < 80_000
            assert 70_000 < traffic.bytes_received < 80_000
        assert one.traffic(third.node_id) == PeerTraffic()
        await one.disconnect(other.node_id)
        assert one.traffic(other.node_id) == PeerTraffic()

    ground(scenario)


def test_the_largest_frame_goes_and_a_larger_one_is_our_own_mistake(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(BLOB_PROTOCOL, _echo)
        stream = await one.open(other.node_id, BLOB_PROTOCOL)
        largest = Random(2).randbytes(FRAME_BYTES_MAX)
        await stream.send_frame(largest)
        assert await stream.receive_frame(FRAME_BYTES_MAX) == largest
        with pytest.raises(LocalProtocolError):
            await stream.send_frame(largest + b"!")

    ground(scenario)


@BOTH_WAYS
def test_the_door_starts_closed(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await new(), await new()
        other.handle(protocol, _echo)
        one.learn(other.node_id, other.addresses())
        with pytest.raises(Unreachable) as closed_here:
            await one.open(other.node_id, protocol)
        assert not closed_here.value.refused
        one.set_door(lambda peer: True)
        with pytest.raises(Unreachable) as closed_there:
            await one.open(other.node_id, protocol)
        assert closed_there.value.refused
        assert other.counters.refused_at_door >= 1
        assert other.counters.stranger_bytes == 0

    ground(scenario)


@BOTH_WAYS
def test_only_whom_the_predicate_admits_reaches_a_handler(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        member, stranger, host = await new(), await new(), await new()
        reached: list[NodeId] = []

        async def note(stream: Stream) -> None:
            reached.append(stream.peer)
            await _echo(stream)

        host.handle(protocol, note)
        host.set_door(lambda peer: peer == member.node_id)
        for guest in (stranger, member):
            guest.set_door(lambda peer: True)
            guest.learn(host.node_id, host.addresses(), host.entrance_addresses())
        with pytest.raises(Unreachable):
            await stranger.open(host.node_id, protocol)
        stream = await member.open(host.node_id, protocol)
        await stream.send_frame(b"hello")
        assert await stream.receive_frame(10) == b"hello"
        assert reached == [member.node_id]
        assert host.counters.stranger_bytes == 0

    ground(scenario)


def test_strangers_speak_the_entrance_protocol_and_nothing_else(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        stranger, host = await new(), await new()
        for protocol in (ENTRANCE_PROTOCOL, CONTROL_PROTOCOL):
            host.handle(protocol, _echo)
        stranger.learn(host.node_id, host.addresses(), host.entrance_addresses())
        stream = await stranger.open(host.node_id, ENTRANCE_PROTOCOL)
        await stream.send_frame(b"let me in")
        assert await stream.receive_frame(100) == b"let me in"
        await stream.close()
        assert host.counters.stranger_bytes == 0
        stranger.set_door(lambda peer: True)
        # The entrance's port serves nothing of the house, even to one who takes it for the door.
        stranger.learn(host.node_id, host.entrance_addresses())
        with pytest.raises(Unreachable):
            await stranger.open(host.node_id, CONTROL_PROTOCOL)

    ground(scenario)


def test_an_entrance_conversation_is_no_connection_of_members(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(ENTRANCE_PROTOCOL, _echo)
        other.handle(CONTROL_PROTOCOL, _echo)
        changes = one.peer_changes()
        await one.open(other.node_id, ENTRANCE_PROTOCOL)
        with trio.move_on_after(0.3) as patience:
            await _next_change(changes)
        assert patience.cancelled_caught
        await one.open(other.node_id, CONTROL_PROTOCOL)
        assert await _next_change(changes) == PeerChange(other.node_id, True)

    ground(scenario)


def test_a_handlers_exception_resets_that_stream_only(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)

        async def fail(stream: Stream) -> None:
            await stream.receive_frame(10)
            raise ValueError("a bug")

        other.handle(BLOB_PROTOCOL, fail)
        other.handle(CONTROL_PROTOCOL, _echo)
        good = await one.open(other.node_id, CONTROL_PROTOCOL)
        bad = await one.open(other.node_id, BLOB_PROTOCOL)
        await bad.send_frame(b"go")
        await _ends(bad)
        await good.send_frame(b"still here")
        assert await good.receive_frame(100) == b"still here"

    ground(scenario)


@BOTH_WAYS
def test_a_frame_over_the_readers_limit_resets_the_stream(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        kept = Kept()
        other.handle(protocol, kept)
        stream = await one.open(other.node_id, protocol)
        await stream.send_frame(b"four")
        await stream.send_frame(b"a frame that is too long")
        reader = await kept.next()
        assert await reader.receive_frame(4) == b"four"
        with pytest.raises(RemoteProtocolError):
            await reader.receive_frame(4)
        with pytest.raises(StreamClosed):
            await reader.receive_frame(4)
        await _ends(stream)

    ground(scenario)


@BOTH_WAYS
def test_what_was_sent_before_a_close_arrives(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        kept = Kept()
        other.handle(protocol, kept)
        stream = await one.open(other.node_id, protocol)
        for number in range(50):
            await stream.send_frame(bytes([number]) * 1000)
        await stream.close()
        await stream.close()
        reader = await kept.next()
        for number in range(50):
            assert await reader.receive_frame(1000) == bytes([number]) * 1000
        with pytest.raises(StreamClosed):
            await reader.receive_frame(1000)
        for end in (stream, reader):
            await end.reset()
            await end.close()
        with pytest.raises(StreamClosed):
            await stream.send_frame(b"late")
        with pytest.raises(StreamClosed):
            await stream.receive_frame(10)

    ground(scenario)


@BOTH_WAYS
def test_a_reset_ends_both_sides(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        kept = Kept()
        other.handle(protocol, kept)
        stream = await one.open(other.node_id, protocol)
        reader = await kept.next()
        await stream.reset()
        await _ends(reader)
        await _ends(stream)

    ground(scenario)


@BOTH_WAYS
def test_closing_wakes_ones_own_reader(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(protocol, Kept())
        stream = await one.open(other.node_id, protocol)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ends, stream)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(2):
                await stream.close()

    ground(scenario)


@BOTH_WAYS
def test_an_impatient_reader_loses_nothing(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        kept = Kept()
        other.handle(protocol, kept)
        stream = await one.open(other.node_id, protocol)
        reader = await kept.next()
        frames = [Random(number).randbytes(200_000) for number in range(20)]

        async def send() -> None:
            for frame in frames:
                await stream.send_frame(frame)

        received: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(received) < len(frames):
                with trio.move_on_after(0.0005):
                    received.append(await reader.receive_frame(FRAME_BYTES_MAX))
        assert received == frames

    ground(scenario)


def test_a_cancelled_sender_harms_no_other_stream(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(CONTROL_PROTOCOL, _echo)
        other.handle(BLOB_PROTOCOL, Kept())
        good = await one.open(other.node_id, CONTROL_PROTOCOL)
        for _ in range(5):
            stuck = await one.open(other.node_id, BLOB_PROTOCOL)
            with trio.move_on_after(0.02):
                while True:
                    await stuck.send_frame(bytes(FRAME_BYTES_MAX))
            await good.send_frame(b"unharmed")
            assert await good.receive_frame(100) == b"unharmed"

    ground(scenario)


@pytest.mark.parametrize("seconds", [6.0])
def test_a_slow_reader_is_waited_for(ground: Ground, seconds: float) -> None:
    """py-libp2p itself resets the writer after 5 seconds."""

    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        kept = Kept()
        other.handle(BLOB_PROTOCOL, kept)
        stream = await one.open(other.node_id, BLOB_PROTOCOL)
        reader = await kept.next()

        async def send() -> None:
            for _ in range(8):
                await stream.send_frame(bytes(1024 * 1024))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await _time_passes(seconds)
            for _ in range(8):
                assert len(await reader.receive_frame(FRAME_BYTES_MAX)) == 1024 * 1024

    ground(scenario)


def test_a_peer_that_takes_nothing_is_given_up(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (libp2p_stream, tls_socket):
        monkeypatch.setattr(module, "SEND_DEADLINE_S", 0.5)
    monkeypatch.setattr(network_stream, "SEND_DEADLINE_S", 0.5)

    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(BLOB_PROTOCOL, Kept())
        stream = await one.open(other.node_id, BLOB_PROTOCOL)
        with pytest.raises(StreamClosed):
            await _for_ever(lambda: stream.send_frame(bytes(1024 * 1024)))

    ground(scenario)


def test_who_cannot_be_reached_is_named(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        with pytest.raises(Unreachable, match="does not speak"):
            await one.open(other.node_id, "/fednode/unheard-of/1")
        with pytest.raises(LocalProtocolError):
            await one.open(one.node_id, CONTROL_PROTOCOL)
        nobody = node_id_of(bytes(32))
        with pytest.raises(Unreachable):
            await one.open(nobody, CONTROL_PROTOCOL)
        one.learn(nobody, [DEAD_ADDRESS])
        with pytest.raises(Unreachable):
            await one.open(nobody, CONTROL_PROTOCOL)
        # Somebody else lives at that address.
        one.learn(nobody, other.addresses())
        with pytest.raises(Unreachable):
            await one.open(nobody, CONTROL_PROTOCOL)

    ground(scenario)


def test_a_peer_is_found_at_the_second_address_and_after_failures(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(CONTROL_PROTOCOL, _echo)
        one.learn(other.node_id, [DEAD_ADDRESS])
        with pytest.raises(Unreachable):
            await one.open(other.node_id, CONTROL_PROTOCOL)
        one.learn(other.node_id, [DEAD_ADDRESS, *other.addresses()])
        stream = await one.open(other.node_id, CONTROL_PROTOCOL)
        await stream.send_frame(b"there")
        assert await stream.receive_frame(10) == b"there"

    ground(scenario)


@BOTH_WAYS
def test_many_open_at_once(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        one.handle(protocol, _echo)
        other.handle(protocol, _echo)

        async def talk(here: Network, there: Network) -> None:
            stream = await here.open(there.node_id, protocol)
            await stream.send_frame(b"hello")
            assert await stream.receive_frame(10) == b"hello"
            await stream.close()

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(talk, one, other)
                nursery.start_soon(talk, other, one)

    ground(scenario)


@BOTH_WAYS
def test_closing_the_door_cuts_a_connected_peer(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        kept = Kept()
        other.handle(protocol, kept)
        stream = await one.open(other.node_id, protocol)
        reader = await kept.next()
        changes = other.peer_changes()
        assert await _next_change(changes) == PeerChange(one.node_id, True)
        await stream.send_frame(b"unread")
        other.set_door(lambda peer: False)
        with pytest.raises(StreamClosed):
            await reader.receive_frame(100)
        await _ends(stream)
        assert await _next_change(changes) == PeerChange(one.node_id, False)
        with pytest.raises(Unreachable) as refusal:
            await one.open(other.node_id, protocol)
        assert refusal.value.refused
        assert other.counters.stranger_bytes == 0

    ground(scenario)


@BOTH_WAYS
def test_disconnect_ends_streams_and_the_peer_may_come_back(ground: Ground, protocol: str) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(protocol, _echo)
        changes = one.peer_changes()
        stream = await one.open(other.node_id, protocol)
        await one.open(other.node_id, protocol)
        assert await _next_change(changes) == PeerChange(other.node_id, True)
        await one.disconnect(other.node_id)
        await _ends(stream)
        assert await _next_change(changes) == PeerChange(other.node_id, False)
        stream = await one.open(other.node_id, protocol)
        await stream.send_frame(b"back")
        assert await stream.receive_frame(10) == b"back"
        assert await _next_change(changes) == PeerChange(other.node_id, True)

    ground(scenario)


async def _publish_until_heard(author: Network, topic: str, data: bytes, feed: AsyncIterator[Gossip]) -> Gossip:
    """Gossip is best effort until the mesh stands; say it until it is heard."""
    async with trio.open_nursery() as nursery:

        async def repeat() -> None:
            while True:
                await author.publish(topic, data)
                await _time_passes(0.2)

        nursery.start_soon(repeat)
        heard = await anext(feed)
        nursery.cancel_scope.cancel()
    return heard


def test_gossip_reaches_the_subscribers_and_not_its_author(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(CONTROL_PROTOCOL, Kept())
        await one.publish("news", b"before anybody is there")
        feed, own = other.subscribe("news"), one.subscribe("news")
        await one.open(other.node_id, CONTROL_PROTOCOL)
        heard = await _publish_until_heard(one, "news", b"hello", feed)
        assert heard.peer == one.node_id
        assert heard.data in (b"hello", b"before anybody is there")
        with trio.move_on_after(0.5) as silence:
            await anext(own)
        assert silence.cancelled_caught
        await one.publish("other news", b"nobody reads this")
        with pytest.raises(LocalProtocolError):
            await one.publish("news", bytes(GOSSIP_BYTES_MAX + 1))

    ground(scenario)


def test_a_burst_of_large_gossip_arrives(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        other.handle(CONTROL_PROTOCOL, Kept())
        feed = other.subscribe("news")
        await one.open(other.node_id, CONTROL_PROTOCOL)
        await _publish_until_heard(one, "news", b"hello", feed)
        burst = {bytes([number]) * 20_000 for number in range(100)} | {bytes(GOSSIP_BYTES_MAX)}
        for message in sorted(burst):
            await one.publish("news", message)
        while burst:
            burst.discard((await anext(feed)).data)

    ground(scenario)


def test_a_closed_subscription_ends(ground: Ground) -> None:
    async def scenario(new: NewNetwork) -> None:
        network = await new()
        feed = network.subscribe("news")
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                assert [gossip async for gossip in feed] == []

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await feed.aclose()

    ground(scenario)
