"""A stopped node's, or a simulation's, store in the same screens: what was recorded, with nothing going on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from tracker.queries.asking import answered_now
from tracker.queries.device_samples import recorded_devices
from tracker.queries.inbox import record_items
from tracker.queries.log_pages import previous_place
from tracker.queries.proposal import recorded_proposal
from tracker.queries.reader import Reader
from tracker.queries.run_list import runs_page, runs_told_first, with_participants
from tracker.store import open_stopped
from tui.facts.asks import Ask
from tui.facts.fields import Json, safe
from tui.feeds.feed import FeedError, told
from tui.feeds.store_models import data_set, model, models

Result = TypeVar("Result")
LOG_LINES = 1_000  # of a page that nobody gave a limit, as the local API has it


class StoreFeed:
    """Events made of the record. Opening raises what tracker.store raises; `close` lets go of the file."""

    def __init__(self, path: Path) -> None:
        self._store = open_stopped(path)
        self._reader: Reader = self._store.reader()
        self._one_at_a_time = asyncio.Lock()
        self._title = safe(f"store {path.name}")

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
        runs, total = answered_now(runs_told_first(), self._reader.query)
        peers = [{**node, "connected": False} for node in self._reader.query("nodes", {})]
        status = {"name": self._title, "is_record": True}
        told = {"status": status, "groups": [], "peers": peers, "inbox": record_items(self._reader.query)}
        return {"type": "snapshot", **told, "runs": runs, "runs_total": total}

    async def ask(self, ask: Ask) -> Json:
        return await self._read(lambda: self._answer(ask.parts, dict(ask.filters)))

    def _answer(self, parts: tuple[str, ...], filters: dict[str, Any]) -> Json:
        """What the local API would answer, from the record's named queries. Blocks."""
        match parts:
            case ("runs",):
                return answered_now(runs_page(filters), self._reader.query)
            case ("projects",):
                return {"projects": self._reader.query("run_projects", filters)}
            case ("runs", run):
                rows = self._reader.query("run", {"run_id": run})
                found = answered_now(with_participants(rows), self._reader.query)
                if not found:
                    raise FeedError("the record has no such run")
                return found[0]
            case ("runs", run, "metrics"):
                name = "metric_points" if filters.get("points") else "metrics"
                return {"metrics": self._reader.query(name, {"run_id": run, **filters})}
            case ("runs", run, "series"):
                return {"series": self._reader.query("series", {"run_id": run})}
            case ("runs", run, "timeline"):
                return {"events": self._reader.query("timeline", {"run_id": run, **filters})}
            case ("runs", run, "updates"):
                return {"updates": self._reader.query("updates", {"run_id": run, **filters})}
            case ("runs", run, "rounds"):
                return {"rounds": self._reader.query("rounds", {"run_id": run, **filters})}
            case ("runs", run, "states"):
                return {"states": self._reader.query("statuses", {"run_id": run, **filters})}
            case ("runs", run, "spans"):
                return {"spans": self._reader.query("spans", {"run_id": run, **filters})}
            case ("runs", run, "proposal"):
                return recorded_proposal(self._reader.query, run)
            case ("devices",):
                return {"devices": recorded_devices(self._reader, filters)}
            case ("data",):
                return {"data": self._reader.query("data_sets", {})}
            case ("data", name):
                return _there(data_set(self._reader.query, name))
            case ("models",):
                return {"models": models(self._reader.query, filters.get("of"))}
            case ("models", name):
                return _there(model(self._reader.query, name))
            case ("artifacts",):
                return {"artifacts": self._reader.query("artifacts", {})}
            case ("runs", run, "artifacts"):
                return {"artifacts": self._reader.query("artifacts", {"run_id": run})}
            case ("logs",):
                return self._log_page(filters)
            case ("runs", run, "logs"):
                return self._log_page({"run_id": run, **filters})
        raise FeedError(f"the record does not tell about {' '.join(parts)}")

    def _log_page(self, filters: dict[str, Any]) -> Json:
        if "after" in filters:
            return {"logs": self._reader.query("logs", filters)}
        lines = self._reader.query("logs_tail", filters)
        return {"logs": lines, "previous": previous_place(lines, filters.get("limit", LOG_LINES))}

    async def all_logs(self, run_id: str, **filters: Any) -> AsyncIterator[Json]:
        """The lines that the record has of the run's nodes; of those that it has none of, it says so."""
        limit, level = filters.get("limit"), filters.get("level")
        lines = await self._read(
            lambda: self._reader.query("logs_tail", {"run_id": run_id, "limit": limit, "level": level})
        )
        nodes = await self._read(lambda: self._reader.query("participants", {"run_ids": [run_id]}))
        yield {"type": "logs", "logs": lines}
        for node in nodes:
            if node["node_id"] not in {line["node_id"] for line in lines}:
                why = "this record has no lines of it"
                yield {"type": "node", "node_id": node["node_id"], "node_name": node["name"], "reason": why}
        yield {"type": "bye"}

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


def _there(found: Json | None) -> Json:
    if found is None:
        raise FeedError("the record does not have it")
    return found
