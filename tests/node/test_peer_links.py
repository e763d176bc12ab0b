"""Links measured: the round trip by a ping that nobody answers in advance (docs/protocol.md §5.14), and the rates."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import trio
from network_ground import Ground, run_on_simulated

from node.api.hub import Hub
from node.network.links import Links
from node.system.peer_links import (
    ANSWER_DEADLINE_S,
    LOOK_EVERY_S,
    PING_CHANNEL,
    PONG_CHANNEL,
    STALE_S,
    PeerLinks,
)
from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import PING_BYTES
from simulations.world.network_node import SimulatedNetwork
from simulations.world.network_wires import WireProfile

LATENCY_S = 0.040
EVEN = WireProfile(latency_s=LATENCY_S, jitter_s=0.0)


class End:
    """One node's end of its links, and everything that came in on it."""

    def __init__(self, network: SimulatedNetwork, seed: int) -> None:
        self.network = network
        self.heard: list[tuple[str, bytes]] = []
        self.links = Links(network, self._on_message)
        self.measured = PeerLinks(network, self.links, Random(seed).randbytes)

    async def _on_message(self, peer: NodeId, channel: str, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.heard.append((channel, payload))
        if channel == PING_CHANNEL:
            self.measured.on_ping(peer, payload)
        elif channel == PONG_CHANNEL:
            self.measured.on_pong(peer, payload)


async def two(ground: Ground) -> tuple[End, End]:
    """Two nodes with an open link each way."""
    ends = [End(network, seed) for seed, network in enumerate(await ground.nodes(2))]
    for end, other in (ends, ends[::-1]):
        await ground.nursery.start(end.links.run)
        end.links.keep([other.network.node_id])
    await until(lambda: all(status.connected for end in ends for status in end.links.status()))
    return ends[0], ends[1]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await passes(LATENCY_S)


async def passes(seconds: float) -> None:
    with trio.move_on_after(seconds):
        await trio.Event().wait()


def test_a_round_trip_is_there_and_back_and_bytes_become_rates() -> None:
    async def test(ground: Ground) -> None:
        one, other = await two(ground)
        peer = other.network.node_id
        assert one.measured.view(peer) == {
            "rtt_s": None,
            "sent_per_s": None,
            "received_per_s": None,
            "path": "direct",
            "blobs_by": "",
            "bytes_sent": 0,
            "bytes_received": 0,
        }
        assert one.measured.look([peer]) == [peer]
        await passes(LOOK_EVERY_S)
        one.links.send(peer, "x", bytes(50_000))
        await passes(LOOK_EVERY_S)
        one.measured.look([peer])
        view = one.measured.view(peer)
        assert view["rtt_s"] == pytest.approx(2 * LATENCY_S, rel=0.05)
        assert view["sent_per_s"] == pytest.approx(50_000 / (2 * LOOK_EVERY_S), rel=0.02)
        assert 50_000 < view["bytes_sent"] < 50_300
        assert 0 < view["received_per_s"] < 20, "the answer to our ping"
        assert other.network.traffic(one.network.node_id).bytes_received == view["bytes_sent"]

    run_on_simulated(test, profile=EVEN)


def test_nothing_is_sent_while_nobody_watches_and_old_figures_are_not_shown() -> None:
    async def test(ground: Ground) -> None:
        one, other = await two(ground)
        peer, hub, changed = other.network.node_id, Hub(), list[NodeId]()
        ground.nursery.start_soon(one.measured.run, hub, lambda: [peer], changed.append)
        await passes(10 * LOOK_EVERY_S)
        assert other.heard == []

        async def nothing() -> None:
            await trio.lowlevel.checkpoint()

        watching: Any = hub.watch(nothing)
        await anext(watching)
        await passes(2.5 * LOOK_EVERY_S)
        assert one.measured.view(peer)["rtt_s"] == pytest.approx(2 * LATENCY_S, rel=0.05)
        pings = len(other.heard)
        assert pings == 3
        assert set(changed) == {peer}
        await watching.aclose()
        await passes(STALE_S + LOOK_EVERY_S)
        assert len(other.heard) <= pings + 1
        assert one.measured.view(peer)["rtt_s"] is None
        assert one.measured.view(peer)["sent_per_s"] is None

    run_on_simulated(test, profile=EVEN)


def test_an_answer_that_was_not_asked_for_or_is_guessed_or_late_counts_for_nothing() -> None:
    """docs/protocol.md §5.14: only the newest ping's own bytes count, once."""

    async def test(ground: Ground) -> None:
        one, other = await two(ground)
        peer = other.network.node_id
        one.measured.on_pong(peer, bytes(PING_BYTES))
        one.measured.look([peer])
        one.measured.on_pong(peer, bytes(PING_BYTES))
        one.measured.on_pong(NodeId("somebody-else"), bytes(PING_BYTES))
        assert one.measured.view(peer)["rtt_s"] is None
        await until(lambda: one.measured.view(peer)["rtt_s"])
        took = one.measured.view(peer)["rtt_s"]
        await passes(1.0)
        answer = next(payload for channel, payload in one.heard if channel == PONG_CHANNEL)
        one.measured.on_pong(peer, answer)
        assert one.measured.view(peer)["rtt_s"] == took, "the same answer a second time"
        ground.world.silence(peer, one.network.node_id)
        one.measured.look([peer])
        await passes(ANSWER_DEADLINE_S + 1)
        ground.world.heal()
        await until(lambda: len([1 for channel, _ in one.heard if channel == PONG_CHANNEL]) == 2)
        one.measured.look([peer])
        assert one.measured.view(peer)["rtt_s"] in (took, None), "late"

    run_on_simulated(test, profile=EVEN)


@pytest.mark.parametrize("payload", [b"", bytes(PING_BYTES - 1), bytes(PING_BYTES + 1)])
def test_a_ping_of_another_length_ends_the_stream(payload: bytes) -> None:
    async def test(ground: Ground) -> None:
        one, other = await two(ground)
        for take in (one.measured.on_ping, one.measured.on_pong):
            with pytest.raises(RemoteProtocolError, match=f"instead of {PING_BYTES}"):
                take(other.network.node_id, payload)

    run_on_simulated(test)


def test_of_peers_that_have_gone_nothing_is_kept() -> None:
    async def test(ground: Ground) -> None:
        one, other = await two(ground)
        peer = other.network.node_id
        one.measured.look([peer])
        await until(lambda: one.measured.view(peer)["rtt_s"])
        one.measured.look([])
        assert one.measured._known == {}
        await one.network.disconnect(peer)
        assert one.measured.view(peer)["path"] == ""

    run_on_simulated(test, profile=EVEN)
