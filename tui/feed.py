"""Where events come from. A feed tells what is so now and then what changes, and outlives the node's absence.

The screens know `Feed` alone. `LiveFeed` stands on a running node's local API, `tui.store_feed` on a stopped one's
store.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol, cast

from fednode import ClientError
from tui.fields import Json, items, number, safe

RETRY_FIRST_S = 0.25  # a node that was only restarted is back within a second or so
RETRY_MOST_S = 5.0
METRICS_PAGE = 20_000  # rows asked for at once: some 4 MB of JSON, well under a second
LOG_LINES_ASKED = 2_000  # the newest; what one scrolls back to at the start
PAGES_MAX = 50  # a million metrics; beyond that a picture of all would be no picture

# What a client raises when nobody answers, when the answer is no, and when the answer is not JSON (cut off, say).
GONE = (ClientError, OSError, TimeoutError, ValueError)


class NodeClient(Protocol):
    """What the dashboard asks of fednode.AsyncClient, which has deadlines on all of it."""

    def events(self) -> AsyncIterator[dict[str, Any]]: ...

    def metrics(self, run: str, **filters: object) -> Coroutine[Any, Any, dict[str, Any]]: ...

    def rounds(self, run: str) -> Coroutine[Any, Any, dict[str, Any]]: ...

    def logs(self, run: str | None = None, **filters: object) -> Coroutine[Any, Any, dict[str, Any]]: ...

    def accept(self, run: str) -> Coroutine[Any, Any, dict[str, Any]]: ...

    def decline(self, run: str) -> Coroutine[Any, Any, dict[str, Any]]: ...

    def stop_run(self, run: str) -> Coroutine[Any, Any, dict[str, Any]]: ...
    def resume_run(self, run: str) -> Coroutine[Any, Any, dict[str, Any]]: ...


class FeedError(Exception):
    """A question or a wish came to nothing; the text is for people and says what to do where that is known."""


class Feed(Protocol):
    """Events as `tui.state` folds them, and answers to questions, as events too. Raises FeedError where it cannot."""

    @property
    def title(self) -> str:
        """What we look at, when it is not a running node; else empty."""

    def events(self) -> AsyncIterator[Json]:
        """A snapshot, then what changes, without end; `absent` while nobody is there."""

    def metrics(self, run_id: str) -> AsyncIterator[Json]:
        """All metrics of a run so far, as a few `metrics` events."""

    def logs(self) -> AsyncIterator[Json]:
        """The newest lines of the log so far, as a few `logs` events."""

    async def rounds(self, run_id: str) -> Json: ...

    async def accept(self, run_id: str) -> None: ...

    async def decline(self, run_id: str) -> None: ...

    async def stop(self, run_id: str) -> None: ...

    async def resume(self, run_id: str) -> None: ...


class LiveFeed:
    """A running node's events. When it goes away this goes on trying, and begins anew with a snapshot.

    Args:
        connect: makes a client; called for every try, since a node that was started again may listen elsewhere.
    """

    def __init__(
        self, connect: Callable[[], AbstractAsyncContextManager[NodeClient]], *, retry_first_s: float = RETRY_FIRST_S
    ) -> None:
        self._connect = connect
        self._client: NodeClient | None = None
        self._retry_first_s = retry_first_s

    @property
    def title(self) -> str:
        return ""

    async def events(self) -> AsyncIterator[Json]:
        attempt = 0
        while True:
            why = "it closed the stream of events"
            try:
                async with self._connect() as self._client, aclosing(_closable(self._client.events())) as stream:
                    async for event in stream:
                        attempt = 0
                        yield event
                        if event.get("type") == "bye":
                            why = "it was stopped"
                        if event.get("type") == "dropped":  # we were too slow: all is asked anew
                            why = ""
                            break
            except GONE as error:
                why = told(error)
            self._client = None
            if why:
                attempt += 1
                yield {"type": "absent", "why": why, "attempt": attempt}
            await asyncio.sleep(min(self._retry_first_s * 2 ** min(max(attempt - 1, 0), 10), RETRY_MOST_S))

    async def metrics(self, run_id: str) -> AsyncIterator[Json]:
        after: int | None = None
        for _ in range(PAGES_MAX):
            page = await _answer(self._node.metrics(run_id, after_round=after, limit=METRICS_PAGE))
            rows = items(page, "metrics")
            yield {"type": "metrics", "metrics": rows}
            if len(rows) < METRICS_PAGE:
                return
            after = max(number(row, "round") for row in rows)

    async def logs(self) -> AsyncIterator[Json]:
        newest = await _answer(self._node.logs(limit=LOG_LINES_ASKED))
        yield {"type": "logs", "logs": items(newest, "logs")}

    async def rounds(self, run_id: str) -> Json:
        return {**await _answer(self._node.rounds(run_id)), "type": "rounds", "run_id": run_id}

    async def accept(self, run_id: str) -> None:
        await _answer(self._node.accept(run_id))

    async def decline(self, run_id: str) -> None:
        await _answer(self._node.decline(run_id))

    async def stop(self, run_id: str) -> None:
        await _answer(self._node.stop_run(run_id))

    async def resume(self, run_id: str) -> None:
        await _answer(self._node.resume_run(run_id))

    @property
    def _node(self) -> NodeClient:
        if self._client is None:
            raise FeedError("the node is not answering – wait for it, or start it with fednode start")
        return self._client


def told(error: BaseException) -> str:
    """An error in words: what happened, and the remedy where it names one."""
    what, remedy = getattr(error, "what", ""), getattr(error, "remedy", "")
    return safe(f"{what} – {remedy}" if what and remedy else str(what or error) or type(error).__name__)


def _closable(events: AsyncIterator[dict[str, Any]]) -> AsyncGenerator[dict[str, Any], None]:
    """What a client's events() gives is a generator, and must be closed when we leave it early."""
    return cast(AsyncGenerator[dict[str, Any], None], events)


async def _answer(question: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await question
    except GONE as error:
        raise FeedError(told(error)) from error
