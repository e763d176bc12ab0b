"""What machines and processes did while a run went on, as points under the names that MLflow and FedML use."""

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from node.exports.source import Json, Source
from node.system.names import MLFLOW_PREFIX, fedml_values, mlflow_values
from tracker.exports.points import Point, clean_name, seconds_of

PAGE_ROWS = 20_000  # of one answer: a few megabytes
BEFORE_S = 30.0  # a machine is measured now and then: what it did so shortly before the start still counts
_COLUMNS = ("position", "node_id", "run_id", "scope", "key", "device", "value", "time", "round")


def system_points(source: Source, view: Json, after_position: int = -1) -> Iterator[tuple[int, Point]]:
    """Points of the run's nodes, those of what was recorded after `after_position`; each with its row's position.

    Their step is the number of whole seconds since the run began, of the run's own processes the round, for others
    tell of these once a round, at a time of their own. What has no name elsewhere is called system/ and its scope and
    key, in its own unit.
    """
    if not view["started_at"]:
        return
    start = seconds_of(view["started_at"])
    rows = _rows(source, _condition(view, start), after_position)
    for (node, time, run), sample in groupby(rows, key=itemgetter("node_id", "time", "run_id")):
        some = list(sample)
        at, number = seconds_of(time), some[0]["round"]
        step = number if run else max(int(at - start), 0)
        for name, value in _named(some).items():
            yield some[-1]["position"], Point(node, clean_name(name), step, value, at, number, by_time=not run)


def _rows(source: Source, condition: str, after_position: int) -> Iterator[dict[str, Any]]:
    while True:
        statement = (
            f"SELECT {', '.join(_COLUMNS)} FROM system_metrics WHERE ({condition}) AND position > {after_position} "
            f"ORDER BY position LIMIT {PAGE_ROWS}"
        )
        rows = source.sql(statement, PAGE_ROWS)["rows"]
        yield from (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
        if len(rows) < PAGE_ROWS:
            return
        after_position = rows[-1][0]


def _condition(view: Json, start: float) -> str:
    """The run's own processes, and the machines and nodes of its participants while it went on."""
    nodes = ", ".join(_quoted(each["node_id"]) for each in view["participants"]) or "''"
    until = f" AND time <= CAST({_quoted(view['ended_at'])} AS TIMESTAMP)" if view["ended_at"] else ""
    machines = f"run_id = '' AND node_id IN ({nodes}) AND epoch(time) >= {start - BEFORE_S}{until}"
    return f"run_id = {_quoted(view['run_id'])} OR ({machines})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _named(sample: Iterable[dict[str, Any]]) -> dict[str, float]:
    """One node's measurements of one time, by name."""
    rows = [row for row in sample if row["value"] is not None and math.isfinite(row["value"])]
    named = mlflow_values(rows) | fedml_values(rows)
    for row in rows:
        if not (mlflow_values([row]) or fedml_values([row])):
            device = f"_{row['device']}" if row["device"] else ""
            named[f"{MLFLOW_PREFIX}{row['scope']}_{row['key']}{device}"] = row["value"]
    return named
