"""What happens on this node, for whoever watches: bounded feeds of events, one a watcher.

A watcher that is too slow loses events and is told how many; it never holds up the node. Lines of the log, of which a
task may say thousands a second, have a queue of their own: those that are left out are in the record.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio

WAITING_EVENTS_MAX = 2000  # some 2 MB a watcher; a dashboard takes them twice a second
WAITING_LINES_MAX = 5000  # of the log, some 1 MB a watcher; they wait apart, so that a burst pushes no other event out
WAITING_CHARACTERS_MAX = 4_000_000  # of these lines' messages: some are tracebacks
BATCH_EVENTS_MAX = 200  # lines at a time: as fast as larger batches, and the first comes sooner
BATCH_LINES_MAX = 1000  # of the log in one event: 10,000 a second, each batch encoded in 5 ms
COALESCE_S = 0.1  # events that come together are sent together

Event = dict[str, Any]


class Hub:
    """`publish` from anywhere in trio's thread; `watch` once for every watcher."""

    def __init__(self) -> None:
        self._watchers: dict[int, _Watcher] = {}
        self._count = 0
        self._somebody_watches = trio.Event()

    @property
    def is_watched(self) -> bool:
        return bool(self._watchers)

    async def watched(self) -> None:
        """Wait until somebody watches."""
        while not self._watchers:
            if self._somebody_watches.is_set():  # else others wait for it already
                self._somebody_watches = trio.Event()
            await self._somebody_watches.wait()

    def publish(self, event: Event) -> None:
        for watcher in self._watchers.values():
            watcher.take(event)

    def publish_line(self, line: Event) -> None:
        """A line of the log. Lines travel together, in events of type `logs`."""
        for watcher in self._watchers.values():
            watcher.take_line(line)

    async def watch(self, snapshot: Callable[[], Any]) -> AsyncIterator[list[Event]]:
        """Batches of events, `await snapshot()` first. Nothing that happens after the snapshot began is left out."""
        self._count += 1
        number = self._count
        self._watchers[number] = watcher = _Watcher()
        self._somebody_watches.set()
        try:
            yield [await snapshot()]
            while True:
                yield await watcher.batch()
        finally:
            del self._watchers[number]


class _Watcher:
    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._lines: deque[Event] = deque()
        self._characters = 0
        self._left_out = 0
        self._news = trio.Event()

    def take(self, event: Event) -> None:
        if len(self._waiting) >= WAITING_EVENTS_MAX:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(event)
        self._news.set()

    def take_line(self, line: Event) -> None:
        self._lines.append(line)
        self._characters += len(line["message"])
        while len(self._lines) > WAITING_LINES_MAX or self._characters > WAITING_CHARACTERS_MAX:
            self._characters -= len(self._lines.popleft()["message"])
            self._left_out += 1
        self._news.set()

    async def batch(self) -> list[Event]:
        await self._news.wait()
        await trio.sleep(COALESCE_S)
        batch: list[Event] = []
        if self._dropped:
            batch.append({"type": "dropped", "count": self._dropped})
            self._dropped = 0
        if self._lines or self._left_out:
            batch.append(self._line_event())
        while self._waiting and len(batch) < BATCH_EVENTS_MAX:
            batch.append(self._waiting.popleft())
        if not self._waiting and not self._lines:
            self._news = trio.Event()
        return batch

    def _line_event(self) -> Event:
        lines = [self._lines.popleft() for _ in range(min(len(self._lines), BATCH_LINES_MAX))]
        self._characters -= sum(len(line["message"]) for line in lines)
        left_out, self._left_out = self._left_out, 0
        return {"type": "logs", "logs": lines, "left_out": left_out}
