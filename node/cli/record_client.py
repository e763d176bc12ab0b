"""Answers about runs out of a store's file, in the words of the local API: for stopped nodes and simulations.

Loaded only when a command is given --store; it opens DuckDB.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fednode_client import ClientError
from node.api_json import json_bytes
from node.views import run_view
from tracker.reader import Reader
from tracker.store import open_stopped

RUNS_MAX = 10_000  # among which a name is looked for
NAME_PREFIX_CHARACTERS_MIN = 4  # as in the node: fewer begin too many ids


class RecordClient:
    """The part of fednode_client.Client that a record alone can answer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def runs(self, limit: int = 30) -> dict[str, Any]:
        with self._reader() as reader:
            rows = reader.query("runs", {"limit": limit})
            return _plain({"runs": [_view(reader, row) for row in rows]})

    def run(self, name: str) -> dict[str, Any]:
        with self._reader() as reader:
            row = reader.query("run", {"run_id": _run_id(reader, name)})[0]
            return _plain(_view(reader, row))

    def metrics(self, name: str, **filters: Any) -> dict[str, Any]:
        with self._reader() as reader:
            wanted = {**_given(reader, filters), "run_id": _run_id(reader, name)}
            return _plain({"metrics": reader.query("metrics", wanted)})

    def rounds(self, name: str) -> dict[str, Any]:
        with self._reader() as reader:
            return _plain({"rounds": reader.query("rounds", {"run_id": _run_id(reader, name)})})

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
        store = open_stopped(self._path)
        try:
            reader = store.reader()
            try:
                yield reader
            finally:
                reader.close()
        finally:
            store.close()


def _run_id(reader: Reader, name: str) -> str:
    """The id that is `name`, or of the newest run of that name, or the only one that begins with it."""
    rows = reader.query("runs", {"limit": RUNS_MAX})
    for found in ([r for r in rows if r["run_id"] == name], [r for r in rows if r["name"] == name]):
        if found:
            return str(found[0]["run_id"])
    by_prefix = [row for row in rows if len(name) >= NAME_PREFIX_CHARACTERS_MIN and row["run_id"].startswith(name)]
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


def _view(reader: Reader, row: dict[str, Any]) -> dict[str, Any]:
    participants = reader.query("participants", {"run_id": row["run_id"]})
    return run_view(row, [{key: value for key, value in one.items() if key != "run_id"} for one in participants], None)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes over the local API: JSON's types alone."""
    told: dict[str, Any] = json.loads(json_bytes(value))
    return told
