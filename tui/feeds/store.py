"""A stopped node's, or a simulation's, store in the same screens: what was recorded, with nothing going on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from tracker.reader import Reader
from tracker.store import open_stopped
from tui.facts.asks import Ask
from tui.facts.fields import Json
from tui.feeds.feed import FeedError, told

Result = TypeVar("Result")
RUNS_MAX = 1_000  # more than a person pages through


class StoreFeed:
    """Events made of the record. Opening raises what tracker.store raises; `close` lets go of the file."""

    def __init__(self, path: Path) -> None:
        self._store = open_stopped(path)
        self._reader: Reader = self._store.reader()
        self._one_at_a_time = asyncio.Lock()
        self._title = f"store {path.name}"

    @property
    def title(self) -> str:
        return self._title

    def close(self) -> None:
        self._reader.close()
        self._store.close()

    async def events(self) -> AsyncIterator[Json]:
        yield await self._read(self.snapshot)
        await asyncio.Event().wait()  # a stopped node has no more to tell

    def snapshot(self) -> Json:
        """Everything that the first line of /v1/events has, as far as the record knows it. Blocks."""
        parts: dict[str, list[Json]] = {}
        for part in self._reader.query("participants", {}):
            parts.setdefault(part["run_id"], []).append(part)
        runs = self._reader.query("runs", {"limit": RUNS_MAX})
        peers = [{**node, "connected": False} for node in self._reader.query("nodes", {})]
        told_runs = [{**run, "participants": parts.get(run["run_id"], [])} for run in runs]
        status = {"name": self._title, "is_record": True}
        return {"type": "snapshot", "status": status, "groups": [], "peers": peers, "runs": told_runs}

    async def ask(self, ask: Ask) -> Json:
        return await self._read(lambda: self._answer(ask.parts, dict(ask.filters)))

    def _answer(self, parts: tuple[str, ...], filters: dict[str, Any]) -> Json:
        """What the local API would answer, from the record's named queries. Blocks."""
        match parts:
            case ("runs", run, "metrics"):
                return {"metrics": self._reader.query("metrics", {"run_id": run, **filters})}
            case ("runs", run, "rounds"):
                return {"rounds": self._reader.query("rounds", {"run_id": run, **filters})}
            case ("runs", run, "spans"):
                return {"spans": self._reader.query("spans", {"run_id": run, **filters})}
            case ("logs",):
                return {"logs": self._reader.query("logs_tail", filters)}
        raise FeedError(f"the record does not tell about {' '.join(parts)}")

    async def tell(self, method: str, *parts: str, **body: Any) -> Json:
        raise FeedError("this is a record, not a running node – start the node with fednode start")

    async def _read(self, read: Callable[[], Result]) -> Result:
        """Read in a thread, one at a time. Raises FeedError with the record's own words."""
        async with self._one_at_a_time:
            try:
                return await asyncio.to_thread(read)
            except Exception as error:
                if not hasattr(error, "remedy"):  # by this the record's errors are known: they are the protocol's,
                    raise  # which this room may not name
                raise FeedError(told(error)) from error
