"""Where events come from. A feed tells what is so now and then what changes, and outlives the node's absence.

The screens know `Feed` alone. `LiveFeed` stands on a running node's local API, `tui.feeds.store` on a stopped one's
store.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol, cast

from fednode import ClientError
from tui.facts.asks import Ask
from tui.facts.fields import Json, safe
from tui.feeds.client import NodeClient

RETRY_FIRST_S = 0.25  # a node that was only restarted is back within a second or so
RETRY_MOST_S = 5.0

# What a client raises when nobody answers, when the answer is no, and when the answer is not JSON (cut off, say).
GONE = (ClientError, OSError, TimeoutError, ValueError)


class FeedError(Exception):
    """A question or a wish came to nothing; the text is for people and says what to do where that is known."""


class Feed(Protocol):
    """Events as `tui.facts.state` folds them, and answers to questions. Raises FeedError where it cannot."""

    @property
    def title(self) -> str:
        """What we look at, when it is not a running node; else empty."""

    def events(self) -> AsyncIterator[Json]:
        """A snapshot, then what changes, without end; `absent` while nobody is there."""

    async def ask(self, ask: Ask) -> Json:
        """The answer, in the shape that docs/api.md gives."""

    def all_logs(self, run_id: str, **filters: Any) -> AsyncIterator[Json]:
        """What all nodes of a run say, as GET /v1/runs/{run}/logs/all tells it, until there is no more to come."""

    async def tell(self, method: str, *parts: str, **body: Any) -> Json:
        """Have something done: POST, PUT or DELETE /v1/parts… with `body`, of which None is left out."""


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

    async def ask(self, ask: Ask) -> Json:
        return await answer_of(self._node.ask(*ask.parts, **dict(ask.filters)))

    async def all_logs(self, run_id: str, **filters: Any) -> AsyncIterator[Json]:
        try:
            async with aclosing(_closable(self._node.all_logs(run_id, **filters))) as stream:
                async for event in stream:
                    yield event
        except GONE as error:
            raise FeedError(told(error)) from error

    async def tell(self, method: str, *parts: str, **body: Any) -> Json:
        given = {key: value for key, value in body.items() if value is not None}
        return await answer_of(self._node.tell(method, *parts, body=given))

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


async def answer_of(question: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The answer. Raises FeedError where there is none."""
    try:
        return await question
    except GONE as error:
        raise FeedError(told(error)) from error
