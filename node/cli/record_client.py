"""Answers about runs out of a store's file, in the words of the local API: for stopped nodes and simulations.

Loaded only when a command is given --store; it opens DuckDB.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fednode_client import ClientError
from node.api.http.json import json_bytes
from node.api.service.service import NotFound
from node.api.views import run_view
from node.names import PREFIX_CHARACTERS_MIN
from node.record.model_names import model_named, models_of
from tracker.queries.asking import Asking, answered_now
from tracker.queries.lineage import lineage_of
from tracker.queries.reader import Reader
from tracker.queries.run_list import with_participants
from tracker.store import open_stopped

T = TypeVar("T")

RUNS_MAX = 10_000  # among which a name is looked for


class RecordClient:
    """The part of fednode_client.Client that a record alone can answer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def runs(self, limit: int = 30) -> dict[str, Any]:
        with self._reader() as reader:
            return _plain({"runs": _views(reader, reader.query("runs", {"limit": limit}))})

    def run(self, name: str) -> dict[str, Any]:
        with self._reader() as reader:
            return _plain(_views(reader, reader.query("run", {"run_id": _run_id(reader, name)}))[0])

    def metrics(self, name: str, **filters: Any) -> dict[str, Any]:
        with self._reader() as reader:
            wanted = {**_given(reader, filters), "run_id": _run_id(reader, name)}
            return _plain({"metrics": reader.query("metrics", wanted)})

    def rounds(self, name: str) -> dict[str, Any]:
        with self._reader() as reader:
            return _plain({"rounds": reader.query("rounds", {"run_id": _run_id(reader, name)})})

    def updates(self, name: str, **filters: Any) -> dict[str, Any]:
        return self._of_run("updates", "updates", name, filters)

    def spans(self, name: str, **filters: Any) -> dict[str, Any]:
        return self._of_run("spans", "spans", name, filters)

    def system(self, name: str, **filters: Any) -> dict[str, Any]:
        return self._of_run("system", "system_metrics", name, filters)

    def system_summary(self, name: str, **filters: Any) -> dict[str, Any]:
        return self._of_run("summary", "system_summary", name, filters)

    def _of_run(self, told_as: str, query: str, name: str, filters: Mapping[str, Any]) -> dict[str, Any]:
        with self._reader() as reader:
            wanted = {**_given(reader, filters), "run_id": _run_id(reader, name)}
            return _plain({told_as: reader.query(query, wanted)})

    def artifacts(self, name: str) -> dict[str, Any]:
        return self._of_run("artifacts", "artifacts", name, {})

    def models(self, of: str | None = None) -> dict[str, Any]:
        with self._reader() as reader:
            return _plain({"models": [{**model, "here": None} for model in _answered(reader, models_of(of))]})

    def model_info(self, name: str) -> dict[str, Any]:
        """`here` is None: a record does not know which blobs are on the disk."""
        with self._reader() as reader:
            model = _answered(reader, model_named(name))
            return _plain({**model, "here": None, **_answered(reader, lineage_of(model))})

    def sql(self, statement: str, rows_max: int = 10_000) -> dict[str, Any]:
        with self._reader() as reader:
            columns, rows, truncated = reader.sql(statement, rows_max)
            return _plain({"columns": columns, "rows": rows, "truncated": truncated})

    def logs(self, name: str | None, **filters: Any) -> dict[str, Any]:
        with self._reader() as reader:
            wanted = {**_given(reader, filters), "run_id": _run_id(reader, name) if name else None}
            rows = reader.query("logs" if "after" in filters else "logs_tail", wanted)
            return _plain({"logs": rows, "next": rows[-1]["seq"] if rows else filters.get("after", 0)})

    @contextmanager
    def _reader(self) -> Iterator[Reader]:
        with closing(open_stopped(self._path)) as store, closing(store.reader()) as reader:
            yield reader


def _answered(reader: Reader, asking: Asking[T]) -> T:
    try:
        return answered_now(asking, reader.query)
    except NotFound as error:  # as over the API: what is not there is no matter of rules
        raise ClientError(error.what, remedy=error.remedy) from None


def _run_id(reader: Reader, name: str) -> str:
    """The id that is `name`, or of the newest run of that name, or the only one that begins with it."""
    rows = reader.query("runs", {"limit": RUNS_MAX})
    for found in ([r for r in rows if r["run_id"] == name], [r for r in rows if r["name"] == name]):
        if found:
            return str(found[0]["run_id"])
    by_prefix = [row for row in rows if len(name) >= PREFIX_CHARACTERS_MIN and row["run_id"].startswith(name)]
    if len(by_prefix) != 1:
        raise ClientError(f"No run is called {name!r} in this store", remedy="see fednode run list --store FILE")
    return str(by_prefix[0]["run_id"])


def _given(reader: Reader, filters: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in filters.items() if value is not None}
    if "node" in given:
        nodes = reader.query("nodes", {})
        by_name = [node["node_id"] for node in nodes if given["node"] in (node["name"], node["node_id"])]
        given["node"] = by_name[0] if by_name else given["node"]
    return given


def _views(reader: Reader, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run_view(row, None) for row in answered_now(with_participants(rows), reader.query)]


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes over the local API: JSON's types alone."""
    told: dict[str, Any] = json.loads(json_bytes(value))
    return told
