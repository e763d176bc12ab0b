"""How the doctor asks others for the time: what it makes of answers good and bad, and that it waits for nobody long."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from node.home.doctor import CLOCK_DEADLINE_S, CLOCK_MEMBERS_MAX, Doctor
from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId

NOW = 1_800_000_000.0


class Others:
    """Connected nodes: each gives an answer some seconds after it was asked. Our clock goes by trio's."""

    def __init__(self, answers: dict[str, tuple[bytes, float]], members: dict[str, str] | None = None) -> None:
        self._answers = answers
        self.asked: list[str] = []
        self.groups = SimpleNamespace(
            connected=frozenset(answers), member_of=lambda peer: (members or {}).get(peer, f"M-{peer}"), places={}
        )
        self.questions = self

    def now(self) -> float:
        return NOW + trio.current_time()

    async def ask(self, peer: NodeId, kind: str, request: bytes, **limits: Any) -> AsyncGenerator[bytes, None]:
        self.asked.append(peer)
        answer, seconds = self._answers[peer]
        await trio.sleep(seconds)  # virtual time: the way there and back
        if answer:
            yield answer


def read(others: Others) -> tuple[dict[str, tuple[float, float]], float]:
    """Of each node how far ahead it is and how unsure that is; and how long asking took."""

    async def ask() -> tuple[dict[str, tuple[float, float]], float]:
        begun = trio.current_time()
        readings = await Doctor(others)._clocks()  # type: ignore[arg-type]
        return {entry.name: (entry.ahead_s, entry.unsure_s) for entry in readings}, trio.current_time() - begun

    return trio.run(ask, clock=trio.testing.MockClock(autojump_threshold=0))


def milliseconds(seconds: float) -> bytes:
    return str(int(seconds * 1000)).encode()


def test_the_middle_of_the_way_is_when_it_looked() -> None:
    """§9.9: it may be off by half the way, and not by more."""
    found, _ = read(Others({"right": (milliseconds(NOW + 1), 2.0), "fast": (milliseconds(NOW + 61), 2.0)}))
    assert found["right"] == (pytest.approx(0.0, abs=0.01), pytest.approx(1.0))
    assert found["fast"] == (pytest.approx(60.0, abs=0.01), pytest.approx(1.0))


@pytest.mark.parametrize("answer", [b"", b"soon", b"-5", b"1e9", b"9" * 33, "²".encode(), b"\xff"])
def test_what_is_no_time_is_dropped(answer: bytes) -> None:
    found, _ = read(Others({"odd": (answer, 0.1), "right": (milliseconds(NOW), 0.1)}))
    assert set(found) == {"right"}


def test_nobody_is_waited_for_long() -> None:
    found, seconds = read(Others({"silent": (milliseconds(NOW), 3600.0), "right": (milliseconds(NOW), 0.1)}))
    assert set(found) == {"right"}
    assert seconds == pytest.approx(CLOCK_DEADLINE_S)


def test_one_node_of_each_member_is_asked_and_not_of_many() -> None:
    answers = {f"node-{place:02}": (milliseconds(NOW), 0.1) for place in range(30)}
    others = Others(answers, dict.fromkeys(list(answers)[:10], "Mone"))
    found, _ = read(others)
    assert len(others.asked) == len(found) == CLOCK_MEMBERS_MAX
    assert sum(peer <= "node-09" for peer in others.asked) == 1


def test_it_answers_with_its_own_clock_and_nothing_else() -> None:
    async def ask(request: bytes) -> list[bytes]:
        return [frame async for frame in Doctor(Others({})).tell_time(NodeId("12D"), request)]  # type: ignore[arg-type]

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(ask, b"", clock=clock) == [milliseconds(NOW)]
    with pytest.raises(RemoteProtocolError):
        trio.run(ask, b"and the weather?")
