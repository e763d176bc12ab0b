"""Questions between nodes: answers come whole, and neither a rude asker nor a rude answerer holds anybody up."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress

import pytest
import trio
from network_ground import Ground, run_on_simulated

from node.network.questions import (
    BYTES_PER_S_MIN,
    FRAME_DEADLINE_S,
    MEMBER_QUESTIONS_MAX,
    PEER_QUESTIONS_MAX,
    QUESTION_PROTOCOL,
    QUESTIONS_MAX,
    REQUEST_DEADLINE_S,
    Answerer,
    Questions,
)
from node.seams import Network, StreamClosed
from protocol.errors import Refused, RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX
from protocol.wire import pack_plain
from simulations.world.network_stream import SimulatedStream


async def count(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    for number in range(int(request)):
        yield b"%d" % number


async def no(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    yield b"one"
    raise Refused("private", "That is mine", remedy="ask the owner")


async def silent(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    yield b"one"
    await trio.sleep_forever()


async def empty(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    for _ in range(100):  # one is too many
        yield b""


async def drip(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    while True:
        await trio.sleep(FRAME_DEADLINE_S - 1)  # virtual time passes
        yield b"drop"


async def large(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    while True:
        yield bytes(FRAME_BYTES_MAX)


ANSWERERS: Mapping[str, Answerer] = {
    "count": count,
    "no": no,
    "silent": silent,
    "empty": empty,
    "drip": drip,
    "large": large,
}


async def frames_of(
    questions: Questions, peer: Network, kind: str, request: bytes = b"", bytes_max: int = 1000
) -> list[bytes]:
    async with aclosing(questions.ask(peer.node_id, kind, request, bytes_max=bytes_max)) as answer:
        return [frame async for frame in answer]


async def pair(ground: Ground) -> tuple[Questions, Network, Network]:
    one, other = await ground.nodes(2)
    Questions(other, ANSWERERS).listen()
    return Questions(one, {}), one, other


def test_an_answer_comes_whole_and_in_order() -> None:
    async def test(ground: Ground) -> None:
        asker, _, other = await pair(ground)
        assert await frames_of(asker, other, "count", b"3") == [b"0", b"1", b"2"]
        assert await frames_of(asker, other, "count", b"0") == []

    run_on_simulated(test)


def test_a_refusal_says_why_and_what_to_do() -> None:
    """docs/protocol.md §11.6: also of a kind that this node does not know."""

    async def test(ground: Ground) -> None:
        asker, _, other = await pair(ground)
        with pytest.raises(Refused, match=r"says: That is mine\. To fix: ask the owner") as refusal:
            await frames_of(asker, other, "no")
        assert refusal.value.code == "private"
        with pytest.raises(Refused, match="Nobody here answers 'colour'"):
            await frames_of(asker, other, "colour")

    run_on_simulated(test)


def test_who_falls_silent_or_says_too_much_is_given_up() -> None:
    async def test(ground: Ground) -> None:
        asker, _, other = await pair(ground)
        began = trio.current_time()
        with pytest.raises(StreamClosed, match="said nothing for 20 s"):
            await frames_of(asker, other, "silent")
        assert trio.current_time() - began < FRAME_DEADLINE_S + 1  # virtual time
        with pytest.raises(RemoteProtocolError, match="over 5 bytes"):
            await frames_of(asker, other, "count", b"9", bytes_max=5)

    run_on_simulated(test)


def test_an_asker_is_answered_a_few_questions_at_once() -> None:
    async def test(ground: Ground) -> None:
        asker, _, other = await pair(ground)
        held = [asker.ask(other.node_id, "silent", b"", bytes_max=100) for _ in range(PEER_QUESTIONS_MAX)]
        for answer in held:
            assert await anext(answer) == b"one"
        with pytest.raises(Refused, match="Too many questions"):
            await frames_of(asker, other, "count", b"1")
        for answer in held:
            await answer.aclose()
        with trio.fail_after(60):  # virtual time: the other end notices when it next says something
            while True:
                with suppress(Refused):
                    assert await frames_of(asker, other, "count", b"1") == [b"0"]
                    break

    run_on_simulated(test)


def test_who_asks_nothing_or_nonsense_is_hung_up_on() -> None:
    async def test(ground: Ground) -> None:
        asker, one, other = await pair(ground)
        mute = [await one.open(other.node_id, QUESTION_PROTOCOL) for _ in range(PEER_QUESTIONS_MAX)]
        with trio.move_on_after(REQUEST_DEADLINE_S + 1):  # virtual time
            await trio.sleep_forever()
        assert await frames_of(asker, other, "count", b"1") == [b"0"]
        for stream in mute:
            with pytest.raises(StreamClosed):
                await stream.receive_frame(10)
        rude = await one.open(other.node_id, QUESTION_PROTOCOL)
        await rude.send_frame(b"\xff nonsense")
        assert await rude.receive_frame(1) == b"\2"
        assert await frames_of(asker, other, "count", b"2") == [b"0", b"1"]

    run_on_simulated(test)


def test_an_answer_of_nothing_or_of_drops_is_given_up() -> None:
    async def test(ground: Ground) -> None:
        asker, _, other = await pair(ground)
        with pytest.raises(RemoteProtocolError, match="empty frame"):
            await frames_of(asker, other, "empty")
        began = trio.current_time()
        async with aclosing(asker.ask(other.node_id, "drip", b"", bytes_max=1000, is_at_hand=True)) as answer:
            assert await anext(answer) == b"drop"
            with pytest.raises(StreamClosed, match="too slowly"):
                await anext(answer)
        assert trio.current_time() - began < 3 * FRAME_DEADLINE_S  # virtual time
        async with aclosing(asker.ask(other.node_id, "drip", b"", bytes_max=1000)) as answer:
            for _ in range(5):  # where news is waited for, drops are all that there is
                assert await anext(answer) == b"drop"

    run_on_simulated(test)


def test_a_members_nodes_share_its_places_and_a_few_members_do_not_take_all() -> None:
    async def test(ground: Ground) -> None:
        asked, *askers = await ground.nodes(2 * QUESTIONS_MAX)
        crowd, others = askers[:MEMBER_QUESTIONS_MAX], askers[MEMBER_QUESTIONS_MAX:]
        member = {node.node_id: "one" for node in crowd}
        Questions(asked, ANSWERERS, lambda peer: member.get(peer, str(peer))).listen()
        held = [Questions(node, {}).ask(asked.node_id, "silent", b"", bytes_max=100) for node in crowd]
        for answer in held:
            assert await anext(answer) == b"one"
        member[others[0].node_id] = "one"
        with pytest.raises(Refused, match="Too many questions"):
            await frames_of(Questions(others[0], {}), asked, "count", b"1")
        for node in others[1 : 1 + QUESTIONS_MAX - MEMBER_QUESTIONS_MAX]:  # now all the ordinary places are taken
            held.append(Questions(node, {}).ask(asked.node_id, "silent", b"", bytes_max=100))
            assert await anext(held[-1]) == b"one"
        with pytest.raises(Refused, match="Too many questions"):
            await frames_of(Questions(others[1], {}), asked, "count", b"1")
        assert await frames_of(Questions(others[-1], {}), asked, "count", b"1") == [b"0"], "one who had none"
        for answer in held:
            await answer.aclose()

    run_on_simulated(test)


def test_who_takes_an_answer_in_too_slowly_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """§9.8: a byte now and then is no silence, and would hold a place for good."""
    send_frame = SimulatedStream.send_frame

    async def dripping(self: SimulatedStream, frame: bytes) -> None:
        await trio.sleep(9.0 * (len(frame) // 1000))  # virtual time passes
        await send_frame(self, frame)

    monkeypatch.setattr(SimulatedStream, "send_frame", dripping)

    async def test(ground: Ground) -> None:
        _, one, other = await pair(ground)
        stream = await one.open(other.node_id, QUESTION_PROTOCOL)
        await stream.send_frame(pack_plain({"kind": "large", "request": b""}))
        began = trio.current_time()
        assert await stream.receive_frame(1) == b"\0"
        with pytest.raises(StreamClosed):
            await stream.receive_frame(FRAME_BYTES_MAX)
        assert trio.current_time() - began < 2 * FRAME_DEADLINE_S + FRAME_BYTES_MAX / BYTES_PER_S_MIN

    run_on_simulated(test)
