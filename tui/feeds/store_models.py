"""What a record tells of data sets, models and artifacts, in the shapes of the local API. Blocks."""

from collections.abc import Callable, Mapping
from typing import Any

from tracker.queries.asking import answered_now
from tracker.queries.lineage import lineage_of

Rows = list[dict[str, Any]]
Query = Callable[[str, Mapping[str, Any]], Rows]


def data_set(query: Query, name: str) -> dict[str, Any] | None:
    """DATA with its statistics, or None where there is no such set."""
    sets = query("data_sets", {"data_set": name})
    told = query("data_statistics", {"data_set": name})
    return {**sets[0], "statistics": told[0]["statistics"] if told else {}} if sets else None


def models(query: Query, run_id: str | None) -> Rows:
    """MODEL of every registered version, or of every committed checkpoint of one run."""
    entries = query("registered_models", {"run_id": run_id} if run_id else {})
    if run_id is None:
        return [_told(row, entries) for row in entries if not row["removed"]]
    return [_told(row, entries) for row in query("committed_models", {"run_id": run_id})]


def model(query: Query, key: str) -> dict[str, Any] | None:
    """MODEL with its lineage and evaluations, by NAME@VERSION or RUN_ID:ROUND; None where there is none."""
    name, _, version = key.rpartition("@")
    run_id, _, at = key.rpartition(":")
    if name and version.isdigit():
        entries = query("registered_models", {"registered": name})
        found = [row for row in entries if row["version"] == int(version) and not row["removed"]]
    else:
        found = query("committed_models", {"run_id": run_id, "round": int(at)}) if at.isdigit() else []
    if not found:
        return None
    lineage = answered_now(lineage_of(found[0]), query)
    return {**_told(found[0], query("registered_models", {"run_id": found[0]["run_id"]})), **lineage}


def _told(row: dict[str, Any], entries: Rows) -> dict[str, Any]:
    """A row as MODEL; whether its blobs are here is not in the record."""
    names = [
        {key: entry[key] for key in ("name", "version", "aliases")}
        for entry in entries
        if not entry["removed"] and all(entry[key] == row[key] for key in ("run_id", "round", "model"))
    ]
    return {"name": "", "version": 0, "aliases": [], **row, "names": names, "here": None}
