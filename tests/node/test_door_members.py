"""What a member can do to a node by what it says, and what it can still do when it is out (docs/protocol.md §4, §11).

Real nodes in a simulated network, in virtual time.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
import trio
from hostile_ground import HostileGround, Life, alive, on_hostile_ground
from network_ground import Ground, run_on_simulated

from node.network import conduct
from node.network.links import Links
from node.run.histories import HISTORY_QUESTION
from node.seams import CONTROL_PROTOCOL, Stream, StreamClosed
from protocol.errors import FednodeError, Refused, RemoteProtocolError, UnknownKind
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX
from protocol.run.history import HistoryRequest
from protocol.run.messages import RunMessage
from protocol.wire import pack, pack_plain, unpack


def node_id(life: Life) -> NodeId:
    return life.node.identity.node_id


def frame(channel: str, payload: bytes) -> bytes:
    packed: bytes = msgpack.packb([channel, payload], use_bin_type=True)
    return packed


# --- what is new to an older program -----------------------------------------------------------------------------
def test_a_message_of_an_unknown_kind_is_told_from_a_bad_one() -> None:
    """§11.4, §11.5"""
    run = "ab" * 32
    with pytest.raises(UnknownKind):
        unpack(RunMessage, pack_plain({"kind": "telepathy", "run": run, "thought": 1}), 1000)  # type: ignore[arg-type]
    for bad in ({"kind": "heartbeat", "run": run, "thought": 1}, {"run": run}, {"kind": 7, "run": run}):
        with pytest.raises(RemoteProtocolError) as refusal:
            unpack(RunMessage, pack_plain(bad), 1000)  # type: ignore[arg-type]
        assert not isinstance(refusal.value, UnknownKind) or bad.get("kind") == 7


def test_what_is_of_an_unknown_kind_is_overlooked_and_the_stream_goes_on(tmp_path: Path) -> None:
    """§11.5: unknown channels, kinds of run messages and of gossip; no fault, and the link stays.

    §4.20: nor is bad gossip held against who hands it on."""

    async def main(ground: HostileGround) -> None:
        first, second = await ground.group(2)
        heard: list[bytes] = []
        second.node.groups.on_presence = lambda peer, payload: heard.append(payload)  # type: ignore[method-assign]
        stream = await first.node.network.open(node_id(second), CONTROL_PROTOCOL)
        await stream.send_frame(frame("telepathy", b"thought"))
        await stream.send_frame(frame("run", pack_plain({"kind": "telepathy", "run": "ab" * 32})))
        await stream.send_frame(frame("presence", b"the same stream"))
        place = first.place
        await first.node.network.publish(place.topic, place.seal(b"?unknown", lambda size: bytes(size)))
        await first.node.network.publish(place.topic, b"what only its author can have made so")
        await first.node.network.publish(place.topic, place.seal(b"o" + b"forged", lambda size: bytes(size)))
        await ground.settled(lambda: b"the same stream" in heard, "the message after the unknown ones", 60)
        alive(first, second)
        assert not second.node.network.conduct._standings

    on_hostile_ground(tmp_path, main)


def test_a_message_that_is_not_what_its_kind_says_resets_the_stream_and_is_a_fault(tmp_path: Path) -> None:
    """§4.18, §11.4: a field more than its class has."""

    async def main(ground: HostileGround) -> None:
        first, second = await ground.group(2)
        stream = await first.node.network.open(node_id(second), CONTROL_PROTOCOL)
        await stream.send_frame(frame("ping", b"not eight bytes"))
        with pytest.raises(StreamClosed):
            await stream.receive_frame(10)
        assert second.node.network.conduct._standings[node_id(first)].score == conduct.WEIGHTS["malformed"]
        view = next(peer for peer in await second.node.service.peers() if peer["node_id"] == node_id(first))
        assert view["trouble"] == ""
        for _ in range(12):
            second.node.network.conduct.fault(node_id(first), "malformed", "again")
        view = next(peer for peer in await second.node.service.peers() if peer["node_id"] == node_id(first))
        assert "broke the protocol and is refused" in view["trouble"]
        (told,) = (await second.node.service.status())["peers_in_trouble"]
        assert told == {"node_id": node_id(first), "name": "node-0", "trouble": view["trouble"]}
        await ground.settled(lambda: node_id(first) not in second.node.groups.connected, "it is hung up on", 60)
        await ground.settled(lambda: node_id(first) in second.node.groups.connected, "it is back in time", 300)
        assert (await second.node.service.status())["peers_in_trouble"] == []

    on_hostile_ground(tmp_path, main)


# --- floods ------------------------------------------------------------------------------------------------------
def test_a_flood_of_control_messages_is_read_slowly_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """§4.16, §4.18"""
    monkeypatch.setattr(conduct, "PEER_FRAMES_BURST", 100)
    monkeypatch.setattr(conduct, "PEER_FRAMES_PER_S", 10)

    async def test(ground: Ground) -> None:
        flooder, host = await ground.nodes(2)
        heard: list[float] = []

        async def hear(*_: object) -> None:
            heard.append(trio.current_time())
            await trio.lowlevel.checkpoint()

        await ground.nursery.start(Links(host, hear).run)

        async def flood(stream: Stream) -> None:
            with suppress(StreamClosed):
                while True:
                    await stream.send_frame(frame("news", bytes(1000)))

        began = trio.current_time()
        while not host.trouble(flooder.node_id):
            await flood(await flooder.open(host.node_id, CONTROL_PROTOCOL))
        assert "flood" in host.trouble(flooder.node_id)
        assert sum(at - began < 5.0 for at in heard) <= 100 + 5.0 * 10 + 1
        assert len(heard) >= 400

    run_on_simulated(test)


# --- who is out --------------------------------------------------------------------------------------------------
async def in_another_group_too(lives: list[Life]) -> None:
    await lives[0].node.service.create_group("other")
    invitation = await lives[0].node.service.invite("other", "member", 2, 86_400)
    for life in lives[1:]:
        await life.node.service.join(invitation["token"])
        await trio.sleep(3)  # virtual time passes


async def remove(by: Life, whom: Life, group: str) -> None:
    await by.node.service.memberships.remove(group, whom.node.identity.member_id, "")


def test_who_is_out_of_one_group_and_in_another_gets_nothing_of_the_first(tmp_path: Path) -> None:
    """§4.22, §4.23: gossip, comparisons, keys, histories; the connection stays, for the other group."""

    async def main(ground: HostileGround) -> None:
        first, second, third = lives = await ground.group(3)
        run = await ground.propose(first, nodes=3)
        await ground.ended(run, lives)
        await in_another_group_too(lives)
        newest = first.node.runs.known[run].ledger.committed.name  # type: ignore[union-attr]
        request = pack(HistoryRequest(run=run, newest=newest))

        async def asked() -> int:
            answer = third.node.questions.ask(node_id(first), HISTORY_QUESTION, request, bytes_max=FRAME_BYTES_MAX)
            return len([part async for part in answer])

        assert await asked()
        place = next(each for each in third.node.groups.places.values() if each.state().name == "hostile")
        spied: list[bytes] = []
        feed = third.node.network.subscribe(place.topic)

        async def spy() -> None:
            async for gossip in feed:
                spied.append(gossip.data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(spy)
            await remove(first, third, "hostile")
            await trio.sleep(1)  # virtual time passes: it is told so itself
            spied.clear()
            await trio.sleep(300)  # virtual time passes: announcements, a new key, comparisons
            assert node_id(third) in first.node.groups.connected
            assert spied == []
            with pytest.raises(Refused, match="No such run"):
                await asked()
            before = {life.number: len(life.node.groups.places[place.group].log) for life in (first, second)}
            await third.node.network.publish(place.topic, place.seal(b"o" + b"x", lambda size: bytes(size)))
            await trio.sleep(10)  # virtual time passes
            after = {life.number: len(life.node.groups.places[place.group].log) for life in (first, second)}
            assert before == after
            nursery.cancel_scope.cancel()
        alive(first, second, third)

    on_hostile_ground(tmp_path, main)


def test_an_answer_that_is_being_told_ends_when_the_asker_is_put_out(tmp_path: Path) -> None:
    """§4.22: the question came before the removal, and its answer has parts."""

    async def main(ground: HostileGround) -> None:
        first, _, third = lives = await ground.group(3)
        run = await ground.propose(first, nodes=3, rounds=3)
        await ground.ended(run, lives)
        await in_another_group_too(lives)
        known = first.node.runs.known[run]
        request = pack(HistoryRequest(run=run, newest=known.ledger.committed.name))  # type: ignore[union-attr]
        histories = first.node.runs.histories
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("node.run.histories.HISTORY_ENTRIES_MAX", 1)
            answer = histories.answer(node_id(third), request)
            assert await anext(answer)
            await remove(first, third, "hostile")
            with pytest.raises(Refused, match="No such run"):
                await anext(answer)

    on_hostile_ground(tmp_path, main)


@pytest.mark.parametrize("how", ["removed", "left"])
def test_who_is_out_of_the_last_shared_group_is_hung_up_on_by_all_at_once(tmp_path: Path, how: str) -> None:
    """§4.22: whatever it has open."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        streams = [await third.node.network.open(node_id(life), CONTROL_PROTOCOL) for life in (first, second)]
        if how == "removed":
            await remove(first, third, "hostile")
        else:
            await third.node.service.memberships.leave("hostile")
        for stream in streams:
            with trio.fail_after(5):
                await _ends(stream.receive_frame)
        for life in (first, second):
            assert node_id(third) not in life.node.groups.connected
            assert life.node.network.counters.stranger_bytes == 0
            with pytest.raises(FednodeError):
                await third.node.network.open(node_id(life), CONTROL_PROTOCOL)

    on_hostile_ground(tmp_path, main)


async def _ends(receive: Callable[[int], Awaitable[bytes]]) -> None:
    with suppress(StreamClosed):
        while True:
            await receive(FRAME_BYTES_MAX)


def test_a_topic_says_nothing_of_its_group(tmp_path: Path) -> None:
    """§4.24: all members have the same, and no two groups."""

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(3)
        await in_another_group_too(lives)
        topics = [{place.state().name: place.topic for place in life.node.groups.places.values()} for life in lives]
        assert topics[0] == topics[1] == topics[2]
        assert len(set(topics[0].values())) == 2
        for name, topic in topics[0].items():
            group = next(each.group for each in lives[0].node.groups.places.values() if each.state().name == name)
            assert group not in topic
            assert name not in topic

    on_hostile_ground(tmp_path, main)
