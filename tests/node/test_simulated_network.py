"""The simulated world's own promises: time, faults, and what a real network would do under them."""

from collections.abc import AsyncIterator

import pytest
import trio
from network_ground import Ground, introduce, run_on_simulated

from node.seams import CONTROL_PROTOCOL, Gossip, PeerChange, Stream, StreamClosed, Unreachable
from protocol.errors import LocalProtocolError
from protocol.keys import NodeId
from protocol.limits import DIAL_DEADLINE_S
from simulations.world.network import SimulatedEvent
from simulations.world.network_node import SimulatedNetwork
from simulations.world.network_stream import SILENCE_MAX_S
from simulations.world.network_wires import WireProfile

STEADY = WireProfile(latency_s=0.1, jitter_s=0.0, bytes_per_s=1e6, gossip_delay_s=0.0)


async def _time_passes(seconds: float) -> None:
    with trio.move_on_after(seconds):
        await trio.Event().wait()


async def _pair(ground: Ground) -> tuple[SimulatedNetwork, SimulatedNetwork, Stream, Stream]:
    """Two nodes and both ends of a stream between them."""
    one, other = await ground.nodes(2)
    give, take = trio.open_memory_channel[Stream](1)

    async def keep(stream: Stream) -> None:
        await give.send(stream)
        await trio.Event().wait()

    other.handle(CONTROL_PROTOCOL, keep)
    return one, other, await one.open(other.node_id, CONTROL_PROTOCOL), await take.receive()


async def _heard(feed: AsyncIterator[Gossip], seconds: float = 5.0) -> list[bytes]:
    """What comes within `seconds`."""
    heard: list[bytes] = []
    with trio.move_on_after(seconds):
        async for gossip in feed:
            heard.append(gossip.data)
    return heard


async def _connect(*networks: SimulatedNetwork) -> None:
    for network in networks:
        network.handle(CONTROL_PROTOCOL, lambda stream: _time_passes(1e9))
    for here in networks:
        for there in networks:
            if here is not there:
                await here.open(there.node_id, CONTROL_PROTOCOL)


def test_a_frame_takes_the_latency_and_its_bytes_the_line() -> None:
    async def test(ground: Ground) -> None:
        _, _, sender, reader = await _pair(ground)
        begun = trio.current_time()
        await sender.send_frame(bytes(1_000_000))
        await sender.send_frame(b"behind it")
        assert trio.current_time() == begun
        await reader.receive_frame(1_000_000)
        assert trio.current_time() - begun == pytest.approx(1.1, abs=0.01)
        await reader.receive_frame(100)
        assert trio.current_time() - begun == pytest.approx(1.1, abs=0.01)

    run_on_simulated(test, profile=STEADY)


def test_a_wire_can_have_a_profile_of_its_own() -> None:
    async def test(ground: Ground) -> None:
        one, other, sender, reader = await _pair(ground)
        ground.world.wires.set_profile(one.node_id, other.node_id, WireProfile(latency_s=3.0, jitter_s=0.0))
        begun = trio.current_time()
        await sender.send_frame(b"far away")
        await reader.receive_frame(100)
        assert trio.current_time() - begun == pytest.approx(3.0, abs=0.01)

    run_on_simulated(test, profile=STEADY)


def test_a_cut_ends_streams_and_forbids_dialling_until_it_heals() -> None:
    async def test(ground: Ground) -> None:
        one, other, sender, reader = await _pair(ground)
        changes = other.peer_changes()
        assert await anext(changes) == PeerChange(one.node_id, True)
        ground.world.cut(one.node_id, other.node_id)
        for end in (sender, reader):
            with pytest.raises(StreamClosed):
                await end.receive_frame(10)
            with pytest.raises(StreamClosed):
                await end.send_frame(b"x")
        assert await anext(changes) == PeerChange(one.node_id, False)
        with trio.fail_after(1), pytest.raises(Unreachable):
            await one.open(other.node_id, CONTROL_PROTOCOL)
        ground.world.heal(one.node_id, other.node_id)
        await one.open(other.node_id, CONTROL_PROTOCOL)

    run_on_simulated(test)


def test_a_black_hole_says_nothing_and_gives_back_in_order_what_it_held() -> None:
    async def test(ground: Ground) -> None:
        one, other, sender, reader = await _pair(ground)
        ground.world.silence(one.node_id, other.node_id)
        for number in range(5):
            await sender.send_frame(bytes([number]))
        with trio.move_on_after(30) as silence:
            await reader.receive_frame(1)
        assert silence.cancelled_caught
        await reader.send_frame(b"this direction works")
        assert await sender.receive_frame(100) == b"this direction works"
        begun = trio.current_time()
        with pytest.raises(Unreachable, match="did not answer"):
            await one.open(other.node_id, CONTROL_PROTOCOL)
        assert trio.current_time() - begun == pytest.approx(DIAL_DEADLINE_S)
        ground.world.heal()
        await sender.send_frame(b"\5")
        assert [await reader.receive_frame(1) for _ in range(6)] == [bytes([number]) for number in range(6)]

    run_on_simulated(test)


def test_a_black_hole_that_stays_ends_the_connection_after_a_minute() -> None:
    async def test(ground: Ground) -> None:
        _, other, sender, reader = await _pair(ground)
        ground.world.freeze(other.node_id)
        await sender.send_frame(b"lost")
        begun = trio.current_time()
        with pytest.raises(StreamClosed):
            await sender.receive_frame(1)
        assert trio.current_time() - begun == pytest.approx(SILENCE_MAX_S, abs=1)
        with pytest.raises(StreamClosed):
            await reader.receive_frame(10)

    run_on_simulated(test)


def test_a_reset_in_a_black_hole_is_learned_of_when_it_heals() -> None:
    async def test(ground: Ground) -> None:
        _, other, sender, reader = await _pair(ground)
        ground.world.freeze(other.node_id)
        await sender.reset()
        with trio.move_on_after(10) as silence:
            await reader.receive_frame(1)
        assert silence.cancelled_caught
        ground.world.heal(other.node_id)
        with pytest.raises(StreamClosed):
            await reader.receive_frame(1)

    run_on_simulated(test)


def test_only_one_of_two_can_dial_over_a_one_way_wire() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        ground.world.one_way(one.node_id, other.node_id)
        for network in (one, other):
            network.handle(CONTROL_PROTOCOL, lambda stream: _time_passes(1e9))
        with pytest.raises(Unreachable):
            await other.open(one.node_id, CONTROL_PROTOCOL)
        await one.open(other.node_id, CONTROL_PROTOCOL)
        await other.open(one.node_id, CONTROL_PROTOCOL)

    run_on_simulated(test)


@pytest.mark.parametrize("silent", [False, True])
def test_a_partition_parts_the_groups_and_leaves_each_whole(silent: bool) -> None:
    async def test(ground: Ground) -> None:
        a, b, c, d = networks = await ground.nodes(4)
        feeds = {network: network.subscribe("news") for network in networks}
        await _connect(*networks)
        ground.world.partition([[a.node_id, b.node_id], [c.node_id, d.node_id]], silent=silent)
        await a.publish("news", b"to my side")
        assert await _heard(feeds[b]) == [b"to my side"]
        assert await _heard(feeds[c]) == []
        await a.open(b.node_id, CONTROL_PROTOCOL)
        with pytest.raises(Unreachable):
            await a.open(c.node_id, CONTROL_PROTOCOL)
        ground.world.heal()
        await a.open(c.node_id, CONTROL_PROTOCOL)
        await d.publish("news", b"to all")
        assert await _heard(feeds[a]) == [b"to all"]

    run_on_simulated(test)


def test_gossip_goes_round_a_broken_wire() -> None:
    async def test(ground: Ground) -> None:
        a, b, c = await ground.nodes(3)
        feed, _ = b.subscribe("news"), c.subscribe("news")
        await _connect(a, b, c)
        ground.world.cut(a.node_id, b.node_id)
        await a.publish("news", b"by way of c")
        assert await _heard(feed) == [b"by way of c"]
        ground.world.cut(c.node_id, b.node_id)
        await a.publish("news", b"no way")
        assert await _heard(feed) == []

    run_on_simulated(test)


def _hundred_messages(profile: WireProfile) -> list[bytes]:
    """What is heard of a hundred messages over such wires."""
    heard: list[bytes] = []

    async def test(ground: Ground) -> None:
        a, b = await ground.nodes(2)
        feed = b.subscribe("news")
        await _connect(a, b)
        for number in range(100):
            await a.publish("news", bytes([number]))
        heard.extend(await _heard(feed))

    run_on_simulated(test, profile=profile)
    return heard


def test_gossip_can_be_lost_doubled_and_overtaken() -> None:
    sent = [bytes([number]) for number in range(100)]
    assert _hundred_messages(WireProfile(gossip_delay_s=0.0)) == sent
    assert 20 < len(_hundred_messages(WireProfile(gossip_loss_probability=0.5))) < 80
    assert 120 < len(_hundred_messages(WireProfile(gossip_duplicate_probability=0.5))) < 180
    overtaken = _hundred_messages(WireProfile(gossip_delay_s=1.0))
    assert overtaken != sent
    assert sorted(overtaken) == sent


def test_gossip_is_not_for_strangers() -> None:
    async def test(ground: Ground) -> None:
        a, b, stranger = await ground.nodes(3)
        feed = stranger.subscribe("news")
        await _connect(a, b)
        stranger.set_door(lambda peer: False)
        await a.publish("news", b"not for you")
        assert await _heard(feed) == []
        assert stranger.counters.stranger_bytes == 0

    run_on_simulated(test)


def test_a_crashed_node_is_gone_and_its_next_life_has_its_address() -> None:
    async def test(ground: Ground) -> None:
        one, other, sender, reader = await _pair(ground)
        with pytest.raises(LocalProtocolError):
            ground.world.network(other.node_id)
        await sender.send_frame(b"before")
        await _time_passes(1)
        ground.world.crash(other.node_id)
        with pytest.raises(StreamClosed):
            await reader.receive_frame(10)
        with pytest.raises(StreamClosed):
            await sender.receive_frame(10)
        with pytest.raises(Unreachable):
            await one.open(other.node_id, CONTROL_PROTOCOL)
        with pytest.raises(Unreachable):
            await other.open(one.node_id, CONTROL_PROTOCOL)
        again = await ground.again(other.node_id)
        introduce(one, again)
        again.handle(CONTROL_PROTOCOL, lambda stream: _time_passes(1e9))
        assert again.addresses() == other.addresses()
        await one.open(other.node_id, CONTROL_PROTOCOL)

    run_on_simulated(test)


def test_streams_break_by_themselves_at_the_given_rate() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        other.handle(CONTROL_PROTOCOL, lambda stream: _time_passes(1e9))
        broken = 0
        for _ in range(100):
            stream = await one.open(other.node_id, CONTROL_PROTOCOL)
            await stream.send_frame(b"x")
            with trio.move_on_after(1):
                try:
                    await stream.receive_frame(1)
                except StreamClosed:
                    broken += 1
        assert 10 < broken < 50

    run_on_simulated(test, profile=WireProfile(stream_break_probability=0.3))


def test_everything_that_happens_can_be_watched() -> None:
    events: list[SimulatedEvent] = []

    async def test(ground: Ground) -> None:
        ground.world.on_event(events.append)
        one, other, sender, _ = await _pair(ground)
        await sender.send_frame(b"hello")
        await sender.close()
        ground.world.crash(other.node_id)
        assert [event.kind for event in events[:4]] == ["dialled", "frame", "closed", "crashed"]
        assert events[1][2:] == (one.node_id, other.node_id, 5, 0x3610A686)

    run_on_simulated(test)


def test_streams_share_a_line_evenly_and_short_frames_slip_between() -> None:
    async def test(ground: Ground) -> None:
        one, *others = await ground.nodes(4)
        arrived: dict[NodeId, float] = {}
        streams = []
        for other in others:

            async def note(stream: Stream, me: NodeId = other.node_id) -> None:
                await stream.receive_frame(1_000_000)
                arrived[me] = trio.current_time()

            other.handle(CONTROL_PROTOCOL, note)
            streams.append(await one.open(other.node_id, CONTROL_PROTOCOL))
        ground.world.lines.limit(one.node_id, 8e6, 0)
        ground.world.lines.limit(others[1].node_id, 0, 2e6)
        began = trio.current_time()
        for stream, size in zip(streams, (500_000, 500_000, 1000), strict=True):
            await stream.send_frame(bytes(size))
        await _time_passes(30)
        took = [arrived[other.node_id] - began for other in others]
        # The second takes 250 kB a second, and so leaves three quarters of the sender's megabyte to the first.
        assert took[0] == pytest.approx(0.667, abs=0.05)
        assert took[1] == pytest.approx(2.0, abs=0.05)
        assert took[2] < 0.05

    run_on_simulated(test, profile=WireProfile(latency_s=0.001, jitter_s=0.0, bytes_per_s=1e9))
