"""Links: order, bounds, redialling, and the same run from the same seed."""

import pytest
import trio
from network_ground import Ground, introduce, run_on_simulated

from node.network.links import FRAME_PATIENCE_S, IDLE_S, Links
from node.seams import CONTROL_PROTOCOL, Network, StreamClosed
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX, OUTBOX_FRAMES_MAX, REDIAL_LAST_S
from simulations.world.network import SimulatedEvent
from simulations.world.network_wires import WireProfile


class Inbox:
    """Takes messages for a test to wait for."""

    def __init__(self) -> None:
        self.messages: list[tuple[NodeId, str, bytes]] = []
        self._changed = trio.Event()

    async def __call__(self, peer: NodeId, channel: str, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.messages.append((peer, channel, payload))
        self._changed.set()
        self._changed = trio.Event()

    async def holds(self, count: int) -> None:
        while len(self.messages) < count:
            await self._changed.wait()

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, _, payload in self.messages]


async def _links(ground: Ground, network: Network) -> tuple[Links, Inbox]:
    inbox = Inbox()
    links = Links(network, inbox)
    await ground.nursery.start(links.run)
    return links, inbox


async def _time_passes(seconds: float) -> None:
    with trio.move_on_after(seconds):
        await trio.Event().wait()


def _connected(links: Links) -> list[NodeId]:
    return [status.peer for status in links.status() if status.connected]


def test_messages_arrive_in_order_on_one_stream() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        events: list[SimulatedEvent] = []
        ground.world.on_event(events.append)
        links, _ = await _links(ground, one)
        _, inbox = await _links(ground, other)
        assert links.last_heard(other.node_id) is None
        for number in range(100):
            links.send(other.node_id, "news", bytes([number]))
        await inbox.holds(100)
        assert inbox.messages == [(one.node_id, "news", bytes([number])) for number in range(100)]
        assert [event.kind for event in events].count("dialled") == 1
        assert _connected(links) == [other.node_id]

    run_on_simulated(test)


def test_both_directions_and_when_a_peer_was_last_heard() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        (links, inbox), (other_links, other_inbox) = await _links(ground, one), await _links(ground, other)
        links.send(other.node_id, "a", b"ping")
        await other_inbox.holds(1)
        heard_at = trio.current_time()
        other_links.send(one.node_id, "a", b"pong")
        await inbox.holds(1)
        assert other_links.last_heard(one.node_id) == heard_at
        assert links.last_heard(other.node_id) == trio.current_time()

    run_on_simulated(test)


def test_sending_never_waits_and_the_oldest_goes_when_the_outbox_is_full() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links, _ = await _links(ground, one)
        for number in range(OUTBOX_FRAMES_MAX + 10):
            links.send(other.node_id, "news", number.to_bytes(2, "big"))
        (status,) = links.status()
        assert (status.waiting, status.dropped) == (OUTBOX_FRAMES_MAX, 10)
        _, inbox = await _links(ground, other)
        await inbox.holds(OUTBOX_FRAMES_MAX)
        assert inbox.payloads == [number.to_bytes(2, "big") for number in range(10, OUTBOX_FRAMES_MAX + 10)]

    run_on_simulated(test)


def test_what_is_sent_before_the_start_waits() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links = Links(one, Inbox())
        links.send(other.node_id, "news", b"early")
        _, inbox = await _links(ground, other)
        await ground.nursery.start(links.run)
        await inbox.holds(1)

    run_on_simulated(test)


def test_our_own_mistakes_are_named() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links, _ = await _links(ground, one)
        with pytest.raises(LocalProtocolError):
            links.send(one.node_id, "news", b"to myself")
        with pytest.raises(LocalProtocolError):
            links.send(other.node_id, "news", bytes(FRAME_BYTES_MAX))
        links.keep([one.node_id])
        assert links.status() == []

    run_on_simulated(test)


def test_a_broken_link_is_opened_again_and_loses_nothing_that_it_still_held() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links, _ = await _links(ground, one)
        _, inbox = await _links(ground, other)
        links.send(other.node_id, "news", b"first")
        await inbox.holds(1)
        ground.world.cut(one.node_id, other.node_id)
        links.send(other.node_id, "news", b"second")
        await _time_passes(10)
        assert inbox.payloads == [b"first"]
        assert _connected(links) == []
        ground.world.heal()
        with trio.fail_after(REDIAL_LAST_S):
            await inbox.holds(2)
        assert inbox.payloads == [b"first", b"second"]

    run_on_simulated(test)


def test_who_was_away_gets_only_the_newest_of_a_kind() -> None:
    """While the link holds everything is sent."""

    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links, _ = await _links(ground, one)
        _, inbox = await _links(ground, other)
        links.send(other.node_id, "news", b"hello")
        await inbox.holds(1)
        for number in range(3):
            links.send(other.node_id, "news", b"heard %d" % number, kind="beat")
        await inbox.holds(4)
        ground.world.cut(one.node_id, other.node_id)
        for number in range(200):  # the first of them while the break is not yet seen
            for kind in ("beat", "commit"):
                links.send(other.node_id, "news", b"%s %d" % (kind.encode(), number), kind=kind)
            links.send(other.node_id, "elsewhere", b"beat %d" % number, kind=f"beat {number}")
            await _time_passes(0.01)
        (status,) = links.status()
        assert status.waiting == 1 + 1 + 200
        ground.world.heal()
        with trio.fail_after(REDIAL_LAST_S):
            await inbox.holds(4 + status.waiting)
        assert inbox.payloads[:4] == [b"hello", b"heard 0", b"heard 1", b"heard 2"]
        missed = [payload for _, channel, payload in inbox.messages[4:] if channel == "news"]
        assert missed == [b"beat 199", b"commit 199"]

    run_on_simulated(test)


def test_frames_that_wait_too_long_are_given_up() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links, _ = await _links(ground, one)
        _, inbox = await _links(ground, other)
        ground.world.cut(one.node_id, other.node_id)
        links.send(other.node_id, "news", b"stale")
        await _time_passes(FRAME_PATIENCE_S + 2 * REDIAL_LAST_S)
        (status,) = links.status()
        assert (status.waiting, status.dropped) == (0, 1)
        ground.world.heal()
        links.send(other.node_id, "news", b"fresh")
        await inbox.holds(1)
        assert inbox.payloads == [b"fresh"]

    run_on_simulated(test)


def test_a_kept_link_is_open_without_messages_and_comes_back_by_itself() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links, _ = await _links(ground, one)
        await _links(ground, other)
        links.keep({other.node_id})
        await _time_passes(1)
        assert _connected(links) == [other.node_id]
        await _time_passes(3 * IDLE_S)
        assert _connected(links) == [other.node_id]
        ground.world.crash(other.node_id)
        await _time_passes(120)
        assert _connected(links) == []
        again = await ground.again(other.node_id)
        introduce(one, again)
        await _links(ground, again)
        await _time_passes(2 * REDIAL_LAST_S)
        assert _connected(links) == [other.node_id]

    run_on_simulated(test)


def test_a_peer_that_comes_back_by_itself_is_dialled_at_once() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links, _ = await _links(ground, one)
        links.keep([other.node_id])
        ground.world.cut(one.node_id, other.node_id)
        other_links, _ = await _links(ground, other)
        await _time_passes(200)
        ground.world.heal()
        other_links.send(one.node_id, "news", b"I am back")
        with trio.fail_after(1):
            while not _connected(links):
                await _time_passes(0.01)

    run_on_simulated(test)


def test_a_link_that_nobody_keeps_or_uses_is_let_go() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        links, _ = await _links(ground, one)
        _, inbox = await _links(ground, other)
        links.send(other.node_id, "news", b"once")
        await inbox.holds(1)
        await _time_passes(2 * IDLE_S)
        assert _connected(links) == []
        links.keep([other.node_id])
        await _time_passes(1)
        assert _connected(links) == [other.node_id]
        links.keep([])
        await _time_passes(1)
        assert _connected(links) == []
        links.send(other.node_id, "news", b"twice")
        await inbox.holds(2)

    run_on_simulated(test)


def test_a_peers_nonsense_resets_its_stream_only() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        _, inbox = await _links(ground, one)
        for nonsense in (b"", b"\xc1", b"\x92\x01\x02", b"\x93\xa1a\xc4\x01b\x01", b"\x92\xa1a\xa1b"):
            stream = await other.open(one.node_id, CONTROL_PROTOCOL)
            await stream.send_frame(nonsense)
            with pytest.raises(StreamClosed):
                await stream.receive_frame(10)
        links, _ = await _links(ground, other)
        links.send(one.node_id, "news", b"sense")
        await inbox.holds(1)

    run_on_simulated(test)


def test_a_handler_that_refuses_a_message_resets_the_stream_and_the_next_one_is_heard() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        heard: list[bytes] = []
        done = trio.Event()

        async def on_message(peer: NodeId, channel: str, payload: bytes) -> None:
            heard.append(payload)
            if payload == b"bad":
                raise RemoteProtocolError("That makes no sense")
            if payload == b"good":
                done.set()

        await ground.nursery.start(Links(one, on_message).run)
        links, _ = await _links(ground, other)
        links.send(one.node_id, "news", b"bad")
        await _time_passes(5)
        links.send(one.node_id, "news", b"good")
        await done.wait()
        assert heard == [b"bad", b"good"]

    run_on_simulated(test)


def test_one_message_at_a_time_is_handled_for_each_peer_over_all_its_streams() -> None:
    async def test(ground: Ground) -> None:
        one, other = await ground.nodes(2)
        inside = 0
        handled = 0

        async def on_message(peer: NodeId, channel: str, payload: bytes) -> None:
            nonlocal inside, handled
            inside += 1
            assert inside == 1
            await _time_passes(1)
            inside -= 1
            handled += 1

        await ground.nursery.start(Links(one, on_message).run)
        for _ in range(3):
            stream = await other.open(one.node_id, CONTROL_PROTOCOL)
            await stream.send_frame(b"\x92\xa1a\xc4\x01b")
        await _time_passes(10)
        assert handled == 3

    run_on_simulated(test)


def _trace(seed: int) -> list[SimulatedEvent]:
    """Ten nodes that chatter over bad wires, through a partition and a crash."""
    events: list[SimulatedEvent] = []

    async def test(ground: Ground) -> None:
        networks = await ground.nodes(10)
        ground.world.on_event(events.append)
        feeds = [network.subscribe("topic") for network in networks]
        all_links = [(await _links(ground, network))[0] for network in networks]
        for round_number in range(20):
            for number, links in enumerate(all_links):
                links.keep({networks[(number + step) % 10].node_id for step in (1, 3)} - {networks[number].node_id})
                links.send(networks[(number + 3) % 10].node_id, "news", bytes([round_number, number]))
                await networks[number].publish("topic", bytes([round_number, number]))
            await _time_passes(1)
            if round_number == 5:
                ground.world.partition(
                    [[each.node_id for each in networks[:4]], [each.node_id for each in networks[4:]]]
                )
            if round_number == 10:
                ground.world.heal()
        assert [await anext(feed) for feed in feeds]

    profile = WireProfile(stream_break_probability=0.05, gossip_loss_probability=0.1, gossip_duplicate_probability=0.1)
    run_on_simulated(test, seed=seed, profile=profile)
    return events


def test_the_same_seed_gives_the_same_run_to_the_last_frame() -> None:
    first = _trace(7)
    assert len(first) > 500
    assert _trace(7) == first
    assert _trace(8) != first
