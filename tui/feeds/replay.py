"""Plays a tape as a feed: a finished run's record, or a file that `fednode tui --record` wrote."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from fednode import Client
from tui.facts.asks import Ask, asking
from tui.facts.fields import Json
from tui.feeds.client import ApiClient
from tui.feeds.feed import FeedError, answer_of
from tui.feeds.run_tape import tape_of_run
from tui.feeds.tape import Head, Tape

EVENTS_AT_ONCE = 500
TICK_S = 0.25  # how often the place on the tape is told while it moves: the dashboard paints at 2 Hz


class Past(Protocol):
    """Answers as they would have been at some moment."""

    async def ask(self, ask: Ask, until_s: float) -> Json:
        """The answer `until_s` seconds after the tape's beginning. Raises FeedError."""


class Answering(Protocol):
    """A feed over a record that stands still."""

    def snapshot(self) -> Json: ...

    async def ask(self, ask: Ask) -> Json: ...


class ReplayFeed:
    """A feed over a tape, whose head can be moved. What it is asked it answers up to the moment that is played."""

    def __init__(
        self, tape: Tape, past: Past, *, speed: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.head = Head(tape, speed)
        self._past = past
        self._clock = clock
        self._sought: list[Json] = []
        self._moved = asyncio.Event()
        self._since = clock()  # when the head was last moved on

    @property
    def title(self) -> str:
        return self.head.tape.title

    async def events(self) -> AsyncIterator[Json]:
        self._since = self._clock()
        while True:
            since, self._since = self._since, self._clock()
            sought, self._sought = self._sought, []
            events = (*sought, *self.head.advance(self._since - since), self.head.told())
            for count, event in enumerate(events, 1):
                yield event
                if count % EVENTS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # of a tape where all happens at one moment, keys are heard all the same
            await self._wait()

    async def _wait(self) -> None:
        """Until something happens on the tape, its place is to be told again, or somebody moves the head."""
        if not self._sought:
            wait = self.head.until_next_s
            try:
                async with asyncio.timeout(None if wait is None else min(max(wait, 0.02), TICK_S)):
                    await self._moved.wait()
            except TimeoutError:
                pass
        self._moved.clear()

    async def ask(self, ask: Ask) -> Json:
        return await self._past.ask(ask, self.head.position)

    async def all_logs(self, run_id: str, **filters: Any) -> AsyncIterator[Json]:
        """The run's lines up to the moment that is played: a replay has no others to ask."""
        told = await self.ask(asking("runs", run_id, "logs", **filters))
        yield {"type": "logs", "logs": told.get("logs", [])}
        yield {"type": "bye"}

    async def tell(self, method: str, *parts: str, **body: Any) -> Json:
        raise FeedError("this is a replay, not a running node – open the node itself with fednode tui")

    def hold(self) -> None:
        """Hold the tape still, or let it go on; from its end it begins anew."""
        if self.head.is_ended:
            self.head.is_held = False
            self._sought = self.head.seek(0.0)
        else:
            self.head.is_held = not self.head.is_held
            self._since = self._clock()  # what passed while it was held is not played
        self._moved.set()

    def step(self, parts: int) -> None:
        """Go on or back by twentieths of the whole."""
        self._sought = self.head.step(parts)
        self._moved.set()

    def change_speed(self, step: int) -> None:
        """Play faster (1) or slower (-1)."""
        self.head.change_speed(step)
        self._moved.set()


def replay_of_store(feed: Answering, wanted: str, speed: float) -> ReplayFeed:
    """A replay of a run in an open store. Raises NoSuchRun. Blocks."""
    tape, past = asyncio.run(tape_of_run(wanted, feed.snapshot(), feed.ask))
    return ReplayFeed(tape, past, speed=speed)


def replay_of_node(home: str | None, wanted: str, speed: float) -> ReplayFeed:
    """A replay of a run that a running node's record has. Raises what fednode.Client raises, and NoSuchRun. Blocks."""

    async def ask(question: Ask) -> Json:
        async with ApiClient(home) as client:
            return await answer_of(client.ask(*question.parts, **dict(question.filters)))

    run = Client(home).run(wanted)
    peers = Client(home).peers()["peers"]
    tape, past = asyncio.run(tape_of_run(str(run["run_id"]), {"runs": [run], "peers": peers}, ask))
    return ReplayFeed(tape, past, speed=speed)
