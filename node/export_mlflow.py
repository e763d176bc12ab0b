"""A run in MLflow: one run for the whole with the means over nodes, and a child run for each node.

MLflow's run is found again by the tag `fed.run_id`, a child by `fed.node_id` besides, so exporting twice adds only what
is new. MLflow takes no point back. Hence a mean is sent when its round lies `MEAN_SETTLES_AFTER_ROUNDS` behind, or the
run has ended; and where a figure changed after it was sent, the new one is added at the same step, with its later time.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from fednode_client import Client, RequestRefused
from node.export_mlflow_api import MlflowServer, pairs
from node.export_mlflow_tags import CHILD_STATES, ENDED, STATES, Json, child_tags, experiment_name, run_tags
from node.export_source import Source, metric_pages, node_names
from tracker.export_points import Point, clean_name, points_of, seconds_of

METRICS_MAX, PARAMS_MAX, TAGS_MAX = 1000, 100, 100  # of one batch: MLflow's limits
PARAM_CHARACTERS_MAX, TAG_CHARACTERS_MAX = 6000, 5000
MEAN_SETTLES_AFTER_ROUNDS = 2  # nodes measure a checkpoint while the next round begins; a mean of some would be wrong
FOLLOW_INTERVAL_S = 2.0
FOLLOW_ROUNDS = 10  # so many newest rounds are looked at each time for figures that came late
SETTLE_S = 3.0  # after a run has ended, for the last measurements to arrive
MODEL_FILE = "global_model.safetensors"
_PARAMETERS_MAX = 10_000
_SAME = 1e-9  # relative; another node's mean of the same figures may differ in its last bits

Entry = TypeVar("Entry")


class _Target:
    """One of MLflow's runs, and what is in it already."""

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
        self._known: dict[tuple[str, int], list[float]] = {}
        self._waiting: list[Json] = []

    def describe(self, tags: dict[str, str], params: dict[str, str], status: str, end_ms: int | None) -> None:
        """Write what has changed of these. A parameter stays as it was first written."""
        fresh_tags = {key: value for key, value in tags.items() if self.tags.get(key) != value}
        for some in _batches(pairs(fresh_tags), TAGS_MAX):
            self._server.log_batch(self.id, tags=some)
        fresh_params = {key: value for key, value in params.items() if key not in self.params}
        for some in _batches(pairs(fresh_params), PARAMS_MAX):
            self._server.log_batch(self.id, params=some)
        self.tags |= fresh_tags
        self.params |= fresh_params.keys()
        if status != self._state:
            self._server.update_run(self.id, status, end_ms)
            self._state = status

    def add(self, point: Point) -> None:
        """Send `point` with the next batch, unless it is there."""
        if point.name in self._unread:
            self._unread.discard(point.name)
            for old in self._server.history(self.id, point.name):
                self._known.setdefault((point.name, int(old.get("step", 0))), []).append(float(old["value"]))
        values = self._known.setdefault((point.name, point.step), [])
        if any(_is_same(value, point.value) for value in values):
            return
        values.append(point.value)
        value = "NaN" if math.isnan(point.value) else point.value
        at = {"timestamp": round(point.time * 1000), "step": point.step}
        self._waiting.append({"key": point.name, "value": value, **at})
        if len(self._waiting) >= METRICS_MAX:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._server.log_batch(self.id, metrics=self._waiting)
            self.sent += len(self._waiting)
            self._waiting = []


class MlflowExport:
    """One run's way into one server.

    Args:
        experiment: its name; None for group, project and experiment of the run.
        is_whole: the source will say no more, whatever the run's state: a file.
        tell: is told now and then how far it is.
    """

    def __init__(
        self,
        server: MlflowServer,
        source: Source,
        run_name: str,
        *,
        experiment: str | None = None,
        is_whole: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._server = server
        self._source = source
        self._is_whole = is_whole
        self._tell = tell
        self._names = node_names(source)
        view = source.run(run_name)
        self._run_id: str = view["run_id"]
        self._experiment = server.experiment(experiment or experiment_name(source, view))
        self._targets: dict[str, _Target] = {}
        for run in server.runs_with_tag(self._experiment, "fed.run_id", self._run_id):
            found = _Target(server, run, is_new=False)
            self._targets.setdefault(found.tags.get("fed.node_id", ""), found)
        self._params = self._parameters()

    def once(self) -> Json:
        """Bring MLflow up to what the record holds now."""
        view = self._source.run(self._run_id)
        self._describe(view)
        self._add_points(view, after_round=-1)
        return self._answer(view, self._model())

    def follow(self) -> Json:
        """The same, and go on until the run has ended."""
        view = self._source.run(self._run_id)
        after_round = -1
        while view["state"] not in ENDED:
            self._describe(view)
            self._add_points(view, after_round)
            after_round = max(-1, view["round"] - FOLLOW_ROUNDS)
            time.sleep(FOLLOW_INTERVAL_S)
            view = self._source.run(self._run_id)
            if view["state"] in ENDED:
                time.sleep(SETTLE_S)
        self._names = node_names(self._source)
        return self.once()

    def _describe(self, view: Json) -> None:
        """MLflow's runs with their tags, parameters and states."""
        start = round(seconds_of(view["started_at"] or view["created_at"]) * 1000)
        end = round(seconds_of(view["ended_at"]) * 1000) if view["ended_at"] else None
        tags = _fitting(run_tags(self._source, view), TAG_CHARACTERS_MAX)
        parent = self._target("", view["name"], start, tags)
        parent.describe(tags, self._params, STATES.get(view["state"], "RUNNING"), end)
        for place, participant in enumerate(view["participants"]):
            node = participant["node_id"]
            name = participant["name"] or self._names.get(node) or node
            tags = _fitting(child_tags(view, participant, name, parent.id), TAG_CHARACTERS_MAX)
            status = CHILD_STATES.get(participant["state"], "RUNNING")
            if view["state"] in ENDED and status in ("SCHEDULED", "RUNNING"):  # what it was when the run ended
                status = STATES[view["state"]]
            has_ended = status in ("FINISHED", "FAILED", "KILLED")
            self._target(node, name, start, tags).describe(tags, {}, status, end if has_ended else None)
            self._tell(f"{place + 1} of {len(view['participants'])} nodes")

    def _target(self, node: str, name: str, start_ms: int, tags: dict[str, str]) -> _Target:
        if node not in self._targets:
            first = dict(islice(tags.items(), TAGS_MAX))
            made = self._server.create_run(self._experiment, name, start_ms, first)
            self._targets[node] = _Target(self._server, made, is_new=True)
        return self._targets[node]

    def _add_points(self, view: Json, after_round: int) -> None:
        is_over = self._is_whole or view["state"] in ENDED
        settled = math.inf if is_over else view["round"] - MEAN_SETTLES_AFTER_ROUNDS
        for page in metric_pages(self._source, self._run_id, after_round):
            for point in points_of(page):
                target = self._targets.get(point.node_id)
                if target is not None and (point.node_id or point.round <= settled):
                    target.add(point)
            self._tell(f"round {page[-1]['round']}, {self._sent():,} points")
        for target in self._targets.values():
            target.flush()

    def _sent(self) -> int:
        return sum(target.sent for target in self._targets.values())

    def _parameters(self) -> dict[str, str]:
        statement = f"SELECT key, value FROM parameters WHERE run_id = '{self._run_id}' ORDER BY key"
        rows = self._source.sql(statement, _PARAMETERS_MAX)["rows"]
        return _fitting({clean_name(key): value for key, value in rows}, PARAM_CHARACTERS_MAX)

    def _model(self) -> str:
        """Put the newest model beside the run; gives what became of it."""
        if not isinstance(self._source, Client):
            return "left out: a store's file has no models; export from the running node"
        statement = f"SELECT round, model FROM models WHERE run_id = '{self._run_id}' ORDER BY round DESC"
        rows = self._source.sql(statement, 1)["rows"]
        if not rows:
            return "left out: no checkpoint is committed"
        (number, model), parent = rows[0], self._targets[""]
        if parent.tags.get("fed.model") == model:
            return "there already"
        self._tell(f"the model of round {number}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / MODEL_FILE
            try:
                with path.open("wb") as file:
                    file.writelines(self._source.model(self._run_id, number))
            except RequestRefused as error:
                return f"left out: {error.what}"
            if not self._server.upload(parent.artifact_uri, MODEL_FILE, path):
                return "left out: the server passes no artifacts on (mlflow server --serve-artifacts does)"
        tags = {**parent.tags, "fed.model": model, "fed.model_round": str(number)}
        self._describe_model(parent, tags)
        return f"round {number}"

    def _describe_model(self, parent: _Target, tags: dict[str, str]) -> None:
        """The tags come last: without them the next export sends the model again."""
        self._server.log_batch(parent.id, tags=pairs({key: tags[key] for key in ("fed.model", "fed.model_round")}))
        parent.tags = tags

    def _answer(self, view: Json, model: str) -> Json:
        parent = self._targets[""]
        return {
            "run_id": self._run_id,
            "state": view["state"],
            "experiment_id": self._experiment,
            "mlflow_run_id": parent.id,
            "url": f"{self._server.uri}/#/experiments/{self._experiment}/runs/{parent.id}",
            "children": len(self._targets) - 1,
            "points_added": self._sent(),
            "model": model,
        }


def _fitting(entries: dict[str, str], characters_max: int) -> dict[str, str]:
    return {key: value[:characters_max] for key, value in entries.items()}


def _is_same(first: float, second: float) -> bool:
    return (math.isnan(first) and math.isnan(second)) or math.isclose(first, second, rel_tol=_SAME)


def _batches(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    rest = iter(entries)
    while some := list(islice(rest, size)):
        yield some
