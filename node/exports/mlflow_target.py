"""One of MLflow's runs: what is in it already, and what is still to be sent, in batches of the size that it takes."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from node.exports.mlflow_api import Json, MlflowServer, pairs
from tracker.exports.points import Point

METRICS_MAX, PARAMS_MAX, TAGS_MAX = 1000, 100, 100  # of one batch: MLflow's limits
_SAME = 1e-9  # relative; another node's mean of the same figures may differ in its last bits

Entry = TypeVar("Entry")


class Target:
    """A run of MLflow's, as its server told it, or as it was just made (`is_new`)."""

    def __init__(self, server: MlflowServer, run: Json, *, is_new: bool) -> None:
        data = run.get("data", {})
        self.id: str = run["info"]["run_id"]
        self.artifact_uri: str = run["info"].get("artifact_uri", "")
        self.tags: dict[str, str] = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
        self.params = {param["key"] for param in data.get("params", [])}
        self.sent = 0
        self._state = "" if is_new else run["info"].get("status", "")
        self._server = server
        self._unread = set() if is_new else {metric["key"] for metric in data.get("metrics", [])}
        self._known: dict[tuple[str, int], list[float]] = {}  # by name and step, or time
        self._waiting: list[Json] = []

    def describe(self, tags: dict[str, str], params: dict[str, str], status: str, end_ms: int | None) -> None:
        """Write what has changed of these. A parameter stays as it was first written."""
        self.tag(tags)
        fresh = {key: value for key, value in params.items() if key not in self.params}
        for some in _batches(pairs(fresh), PARAMS_MAX):
            self._server.log_batch(self.id, params=some)
        self.params |= fresh.keys()
        if status != self._state:
            self._server.update_run(self.id, status, end_ms)
            self._state = status

    def tag(self, tags: dict[str, str]) -> None:
        """Write those that are new, or have another value than before."""
        fresh = {key: value for key, value in tags.items() if self.tags.get(key) != value}
        for some in _batches(pairs(fresh), TAGS_MAX):
            self._server.log_batch(self.id, tags=some)
        self.tags |= fresh

    def add(self, point: Point) -> None:
        """Send `point` with the next batch, unless it is there."""
        if point.name in self._unread:
            self._unread.discard(point.name)
            for old in self._server.history(self.id, point.name):
                place = int(old["timestamp"] if point.by_time else old.get("step", 0))
                self._known.setdefault((point.name, place), []).append(float(old["value"]))
        time_ms = round(point.time * 1000)
        values = self._known.setdefault((point.name, time_ms if point.by_time else point.step), [])
        if any(_is_same(value, point.value) for value in values):
            return
        values.append(point.value)
        value = "NaN" if math.isnan(point.value) else point.value
        self._waiting.append({"key": point.name, "value": value, "timestamp": time_ms, "step": point.step})
        if len(self._waiting) >= METRICS_MAX:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._server.log_batch(self.id, metrics=self._waiting)
            self.sent += len(self._waiting)
            self._waiting = []


def _is_same(first: float, second: float) -> bool:
    return (math.isnan(first) and math.isnan(second)) or math.isclose(first, second, rel_tol=_SAME)


def _batches(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    rest = iter(entries)
    while some := list(islice(rest, size)):
        yield some
