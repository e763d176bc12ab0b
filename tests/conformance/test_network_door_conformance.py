"""The door, on the real network and on the simulated one: who is refused, whom a topic is for, other versions
(docs/protocol.md §4.14 to §4.24, §11)."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from test_network_conformance import Ground, Kept, NewNetwork, _echo, _ends, _on_real, _on_simulated, _time_passes, _two
from trio.testing import MockClock

from node.network.conduct import WEIGHTS
from node.network.versions import OtherVersion, Versions
from node.seams import (
    BLOB_PROTOCOL,
    CONTROL_PROTOCOL,
    ENTRANCE_PROTOCOL,
    Gossip,
    Network,
    Stream,
    StreamClosed,
    Unreachable,
)
from protocol.errors import RemoteProtocolError
from protocol.limits import FAULT_SCORE_MAX, FRAME_BYTES_MAX

SILENCE_S = 2.5  # of real time: two of gossip's heartbeats
TO_REFUSAL = int(FAULT_SCORE_MAX / WEIGHTS["malformed"])


@pytest.fixture(params=[pytest.param("real", marks=pytest.mark.real), "simulated"])
def ground(request: pytest.FixtureRequest) -> Ground:
    if request.param == "real":
        return lambda scenario: trio.run(_on_real, scenario)
    return lambda scenario: trio.run(_on_simulated, scenario, clock=MockClock(autojump_threshold=0))


async def _until(condition: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not condition():
            await _time_passes(0.01)


async def _refuse(stream: Stream) -> None:
    await stream.receive_frame(100)
    raise RemoteProtocolError("it speaks in another's name")


async def _misbehave(bad: Network, host: Network, frame: bytes) -> None:
    """Until that has consequences: the clock goes on meanwhile, and a little is forgiven."""
    for made in range(TO_REFUSAL + 2):
        if host.trouble(bad.node_id):
            assert made >= TO_REFUSAL
            return
        stream = await bad.open(host.node_id, CONTROL_PROTOCOL)
        await stream.send_frame(frame)
        await _ends(stream)
    pytest.fail("nothing came of it")


# --- faults ------------------------------------------------------------------------------------------------------
def test_who_breaks_the_protocol_is_hung_up_on_and_refused_for_a_while(ground: Ground) -> None:
    """§4.18, §4.19: at the door, and when we dial ourselves."""

    async def scenario(new: NewNetwork) -> None:
        bad, host = await _two(new)
        host.handle(CONTROL_PROTOCOL, _refuse)
        kept = Kept()
        host.handle(BLOB_PROTOCOL, kept)
        under_way = await bad.open(host.node_id, BLOB_PROTOCOL)
        reader = await kept.next()
        await _misbehave(bad, host, b"x")
        assert "in another's name" in host.trouble(bad.node_id)
        for end in (reader, under_way):
            with pytest.raises(StreamClosed):
                await end.receive_frame(10)
        with pytest.raises(Unreachable) as refusal:
            await bad.open(host.node_id, CONTROL_PROTOCOL)
        assert refusal.value.refused
        with pytest.raises(Unreachable, match="broke the protocol"):
            await host.open(bad.node_id, CONTROL_PROTOCOL)
        assert host.counters.stranger_bytes == 0

    ground(scenario)


def test_a_frame_over_the_limit_is_a_fault_of_its_sender(ground: Ground) -> None:
    """§4.18"""

    async def read_little(stream: Stream) -> None:
        await stream.receive_frame(4)

    async def scenario(new: NewNetwork) -> None:
        bad, host = await _two(new)
        host.handle(CONTROL_PROTOCOL, read_little)
        await _misbehave(bad, host, b"too long")
        assert "malformed" in host.trouble(bad.node_id)
        assert bad.trouble(host.node_id) == ""

    ground(scenario)


def test_a_strangers_nonsense_at_the_entrance_is_held_against_no_name(ground: Ground) -> None:
    """§4.20: a name costs nothing, and one who is a member may introduce itself there."""

    async def scenario(new: NewNetwork) -> None:
        stranger, host = await _two(new)
        host.handle(ENTRANCE_PROTOCOL, _refuse)
        for _ in range(TO_REFUSAL + 1):
            stream = await stranger.open(host.node_id, ENTRANCE_PROTOCOL)
            await stream.send_frame(b"x")
            await _ends(stream)
        assert host.trouble(stranger.node_id) == ""

    ground(scenario)


def test_who_is_refused_is_refused_at_the_entrance_too(ground: Ground) -> None:
    """§4.19"""

    async def scenario(new: NewNetwork) -> None:
        bad, host = await _two(new)
        host.handle(ENTRANCE_PROTOCOL, _echo)
        for _ in range(TO_REFUSAL + 1):  # the clock goes on, and a little is forgiven
            host.conduct.fault(bad.node_id, "malformed", "x")

        async def knock() -> None:
            stream = await bad.open(host.node_id, ENTRANCE_PROTOCOL)
            await stream.send_frame(b"x")
            await stream.receive_frame(10)

        with pytest.raises((StreamClosed, Unreachable)):
            await knock()

    ground(scenario)


# --- closing -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("by_whom", ["the reader's end", "the sender's end"])
def test_closing_the_door_ends_transfers_under_way_in_either_direction(ground: Ground, by_whom: str) -> None:
    """§4.22: what was received and not read yet is not read any more."""

    async def pour(stream: Stream) -> None:
        while True:
            await stream.send_frame(bytes(100_000))

    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        kept = Kept()
        for protocol in (BLOB_PROTOCOL, CONTROL_PROTOCOL):
            other.handle(protocol, kept)
        sender = await one.open(other.node_id, BLOB_PROTOCOL)
        reader = await kept.next()
        idle = await one.open(other.node_id, CONTROL_PROTOCOL)
        idle_there = await kept.next()
        shut, stays = (other, one) if by_whom == "the reader's end" else (one, other)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(StreamClosed):
                    await pour(sender)

            nursery.start_soon(send)
            assert await reader.receive_frame(FRAME_BYTES_MAX)
            shut.set_door(lambda peer: False)
        if shut is other:
            with pytest.raises(StreamClosed):
                await reader.receive_frame(FRAME_BYTES_MAX)
        else:
            await _ends(reader)
        for end in (idle, idle_there):
            await _ends(end)
        with pytest.raises(Unreachable):
            await shut.open(stays.node_id, CONTROL_PROTOCOL)
        assert one.counters.stranger_bytes == other.counters.stranger_bytes == 0

    ground(scenario)


# --- topics ------------------------------------------------------------------------------------------------------
async def _say_until_heard(author: Network, topic: str, data: bytes, feed: AsyncIterator[Gossip]) -> Gossip:
    async with trio.open_nursery() as nursery:

        async def repeat() -> None:
            while True:
                await author.publish(topic, data)
                await _time_passes(0.2)  # until the mesh stands, gossip is lost

        nursery.start_soon(repeat)
        heard = await anext(feed)
        nursery.cancel_scope.cancel()
    return heard


async def _hears_nothing(*feeds: AsyncIterator[Gossip]) -> None:
    async def listen(feed: AsyncIterator[Gossip]) -> None:
        pytest.fail(f"it heard {await anext(feed)}")

    with trio.move_on_after(SILENCE_S):
        async with trio.open_nursery() as nursery:
            for feed in feeds:
                nursery.start_soon(listen, feed)


async def _three(new: NewNetwork) -> list[Network]:
    """Three that are all connected, over one group or another."""
    networks = [await new() for _ in range(3)]
    for here in networks:
        here.set_door(lambda peer: True)
        here.handle(CONTROL_PROTOCOL, Kept())
        for there in networks:
            if here is not there:
                here.learn(there.node_id, there.addresses(), there.entrance_addresses())
    for here, there in [(0, 1), (0, 2), (1, 2)]:
        await networks[here].open(networks[there].node_id, CONTROL_PROTOCOL)
    return networks


def test_a_topic_is_for_its_readers_alone(ground: Ground) -> None:
    """§4.23: who shares only another group with us reads nothing of it, though it knows the topic and reads it too."""

    async def scenario(new: NewNetwork) -> None:
        one, two, outside = await _three(new)
        group = {one.node_id, two.node_id}
        spied = outside.subscribe("secrets")
        feeds = [network.subscribe("secrets", lambda peer: peer in group) for network in (one, two)]
        heard = await _say_until_heard(one, "secrets", b"among us", feeds[1])
        assert heard == Gossip(one.node_id, b"among us")
        for author in (one, two):
            await author.publish("secrets", b"still among us")
        await outside.publish("secrets", b"from outside")
        while (heard := await anext(feeds[1])).data == b"among us":
            pass
        assert heard.data == b"still among us"
        await _hears_nothing(spied)

    ground(scenario)


def test_one_who_is_taken_in_is_told_of_the_topic_and_one_who_is_put_out_hears_no_more(ground: Ground) -> None:
    """§4.23: over the connections that there are already, whichever end knows first."""

    async def scenario(new: NewNetwork) -> None:
        one, two, third = await _three(new)
        group = {one.node_id, two.node_id}
        feeds = {
            network.node_id: network.subscribe("news", lambda peer: peer in group | {third.node_id})
            if network is third
            else network.subscribe("news", lambda peer: peer in group)
            for network in (third, one, two)
        }
        await _say_until_heard(one, "news", b"before", feeds[two.node_id])
        group.add(third.node_id)
        for network in (one, two):
            network.set_door(lambda peer: True)
        while (await _say_until_heard(one, "news", b"after", feeds[third.node_id])).data != b"after":
            pass
        group.remove(third.node_id)
        for network in (one, two):
            network.set_door(lambda peer: True)
        quiet = third.subscribe("news")
        await _time_passes(0.5)  # for what is on its way already
        while quiet._waiting:  # type: ignore[attr-defined]
            await anext(quiet)
        for author in (one, two):
            await author.publish("news", b"without the third")
        await third.publish("news", b"I am still here")
        await _hears_nothing(quiet)
        waiting = [gossip.data for gossip in feeds[two.node_id]._waiting]  # type: ignore[attr-defined]
        assert b"I am still here" not in waiting
        assert b"without the third" in waiting

    ground(scenario)


# --- versions ----------------------------------------------------------------------------------------------------
def _next_protocol(protocol: str) -> str:
    return protocol.rpartition("/")[0] + "/2"


async def _of_version_2(network: Any) -> None:
    network.versions.ours = (2,)
    for protocol in (CONTROL_PROTOCOL, BLOB_PROTOCOL, ENTRANCE_PROTOCOL):
        network.handle(_next_protocol(protocol), _echo)


@pytest.mark.parametrize("protocol", [CONTROL_PROTOCOL, BLOB_PROTOCOL, ENTRANCE_PROTOCOL])
@pytest.mark.parametrize("dialler", ["the older", "the newer"])
def test_another_version_is_refused_with_a_sentence_at_both_ends(
    ground: Ground, dialler: str, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """§11.1, §11.2: which node, its version, ours, and who should upgrade; said once."""

    async def scenario(new: NewNetwork) -> None:
        old, newer = await _two(new)
        for each in (CONTROL_PROTOCOL, BLOB_PROTOCOL, ENTRANCE_PROTOCOL):
            old.handle(each, _echo)
        await _of_version_2(newer)
        here, there, spoken = (
            (old, newer, protocol) if dialler == "the older" else (newer, old, _next_protocol(protocol))
        )
        for _ in range(2):
            with pytest.raises(OtherVersion) as refusal:
                await here.open(there.node_id, spoken)
        await _until(lambda: there.trouble(here.node_id))
        told = {old: "upgrade fednode on this node", newer: f"upgrade fednode on node {old.node_id}"}
        for network, other in ((old, newer), (newer, old)):
            ours, theirs = (1, 2) if network is old else (2, 1)
            what = f"Node {other.node_id} speaks version {theirs} of fednode's protocol, and this node version {ours}"
            assert network.trouble(other.node_id) == f"{what}; {told[network]}"
            assert len([line for line in caplog.messages if line.startswith(what)]) == 1
        assert f"{refusal.value.what}; {refusal.value.remedy}" == here.trouble(there.node_id)

    ground(scenario)


def test_one_that_has_upgraded_is_spoken_with_again(ground: Ground) -> None:
    """§11.2"""

    async def scenario(new: NewNetwork) -> None:
        old, newer = await _two(new)
        await _of_version_2(newer)
        with pytest.raises(OtherVersion):
            await old.open(newer.node_id, CONTROL_PROTOCOL)
        newer.versions = Versions((1, 2))  # type: ignore[attr-defined]
        newer.handle(CONTROL_PROTOCOL, _echo)
        stream = await old.open(newer.node_id, CONTROL_PROTOCOL)
        await stream.send_frame(b"again")
        assert await stream.receive_frame(10) == b"again"
        assert old.trouble(newer.node_id) == ""

    ground(scenario)


def test_a_protocol_that_a_node_of_the_same_version_does_not_know_is_no_matter_of_versions(ground: Ground) -> None:
    """§11.3"""

    async def scenario(new: NewNetwork) -> None:
        one, other = await _two(new)
        with pytest.raises(Unreachable, match="does not speak") as refusal:
            await one.open(other.node_id, "/fednode/something-new/1")
        assert not isinstance(refusal.value, OtherVersion)
        assert one.trouble(other.node_id) == other.trouble(one.node_id) == ""

    ground(scenario)
