"""What a watcher of the node is told: everything in its order, and lines of the log apart from it."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import trio
import trio.testing

from node.api.hub import BATCH_LINES_MAX, WAITING_CHARACTERS_MAX, WAITING_EVENTS_MAX, WAITING_LINES_MAX, Event, Hub


def line(number: int, message: str = "m") -> Event:
    return {"seq": number, "message": message}


def watching(scene: Callable[[Hub, Callable[[], Awaitable[list[Event]]]], Awaitable[None]]) -> None:
    """Run `scene(hub, next batch)` in virtual time."""

    async def main() -> None:
        async def snapshot() -> Any:
            return {"type": "snapshot"}

        hub = Hub()
        async with aclosing(hub.watch(snapshot)) as batches:  # type: ignore[type-var]
            assert await anext(batches) == [{"type": "snapshot"}]
            with trio.fail_after(60):
                await scene(hub, lambda: anext(batches))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_lines_travel_together_and_the_goodbye_stays_last() -> None:
    async def scene(hub: Hub, batch: Callable[[], Awaitable[list[Event]]]) -> None:
        for number in range(3):
            hub.publish_line(line(number))
        hub.publish({"type": "bye"})
        logs, bye = await batch()
        assert logs == {"type": "logs", "logs": [line(0), line(1), line(2)], "left_out": 0}
        assert bye == {"type": "bye"}

    watching(scene)


def test_a_burst_of_lines_pushes_no_other_event_out_and_what_is_left_out_is_counted() -> None:
    async def scene(hub: Hub, batch: Callable[[], Awaitable[list[Event]]]) -> None:
        hub.publish({"type": "run"})
        for number in range(WAITING_LINES_MAX + 700):
            hub.publish_line(line(number))
        seen: list[int] = []
        others: list[Event] = []
        left_out = 0
        while len(seen) < WAITING_LINES_MAX:
            for event in await batch():
                if event["type"] == "logs":
                    assert len(event["logs"]) <= BATCH_LINES_MAX
                    seen += [each["seq"] for each in event["logs"]]
                    left_out += event["left_out"]
                else:
                    others.append(event)
        assert (left_out, others) == (700, [{"type": "run"}])
        assert seen == list(range(700, WAITING_LINES_MAX + 700))

    watching(scene)


def test_many_events_push_no_line_out() -> None:
    async def scene(hub: Hub, batch: Callable[[], Awaitable[list[Event]]]) -> None:
        hub.publish_line(line(1))
        for _ in range(WAITING_EVENTS_MAX + 5):
            hub.publish({"type": "peer"})
        dropped, logs, *_ = await batch()
        assert dropped == {"type": "dropped", "count": 5}
        assert logs["logs"] == [line(1)]

    watching(scene)


def test_long_lines_are_bounded_by_their_characters() -> None:
    async def scene(hub: Hub, batch: Callable[[], Awaitable[list[Event]]]) -> None:
        for number in range(5):
            hub.publish_line(line(number, "x" * (WAITING_CHARACTERS_MAX // 4)))
        (logs,) = await batch()
        assert ([each["seq"] for each in logs["logs"]], logs["left_out"]) == ([1, 2, 3, 4], 1)
        hub.publish_line(line(9))
        (logs,) = await batch()
        assert (logs["logs"], logs["left_out"]) == ([line(9)], 0)

    watching(scene)
