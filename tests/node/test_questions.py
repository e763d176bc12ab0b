"""Questions between nodes: answers come whole, and neither a rude asker nor a rude answerer holds anybody up."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress

import pytest
import trio
from network_ground import Ground, run_on_simulated

from node.questions import (
    FRAME_DEADLINE_S,
    PEER_QUESTIONS_MAX,
    QUESTION_PROTOCOL,
    REQUEST_DEADLINE_S,
    Answerer,
    Questions,
)
from node.seams import Network, StreamClosed
from protocol.errors import Refused, RemoteProtocolError
from protocol.keys import NodeId


async def count(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    for number in range(int(request)):
        yield b"%d" % number


async def no(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    yield b"one"
    raise Refused("private", "That is mine", remedy="ask the owner")


async def silent(peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
    yield b"one"
    await trio.sleep_forever()


ANSWERERS: Mapping[str, Answerer] = {"count": count, "no": no, "silent": silent}


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
