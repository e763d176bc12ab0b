"""A run in MLflow: one run for the whole with the means over nodes, and a child run for each node.

MLflow's run is found again by the tag `fed.run_id`, a child by `fed.node_id` besides, so exporting twice adds only what
is new. MLflow takes no point back. Hence a mean is sent when its round lies `MEAN_SETTLES_AFTER_ROUNDS` behind, or the
run has ended; and where a figure changed after it was sent, the new one is added at the same step, with its later time.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from node.exports.mlflow_api import MlflowServer
from node.exports.mlflow_files import put_artifacts, put_model
from node.exports.mlflow_tags import (
    CHILD_STATES,
    ENDED,
    STATES,
    Json,
    child_tags,
    experiment_name,
    node_tags,
    run_tags,
)
from node.exports.mlflow_target import TAGS_MAX, Target
from node.exports.source import Source, metric_pages, node_names
from node.exports.system import system_points
from tracker.exports.points import Point, clean_name, points_of, seconds_of

PARAM_CHARACTERS_MAX, TAG_CHARACTERS_MAX = 6000, 5000  # MLflow's limits
MEAN_SETTLES_AFTER_ROUNDS = 2  # nodes measure a checkpoint while the next round begins; a mean of some would be wrong
FOLLOW_INTERVAL_S = 2.0
FOLLOW_ROUNDS = 10  # so many newest rounds are looked at each time for figures that came late
SETTLE_S = 3.0  # after a run has ended, for the last measurements to arrive
_PARAMETERS_MAX = 10_000
_LOCAL_LOSS = "local_train/loss"  # which Synergos calls PARTICIPANT_local_loss


class MlflowExport:
    """One run's way into one server.

    Args:
        experiment: its name; None for group, project and experiment of the run.
        is_whole: the source will say no more, whatever the run's state: a file.
        is_flat: all in one run, each node's figures under its name, and no child runs.
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
        is_flat: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._server = server
        self._source = source
        self._is_whole = is_whole
        self._is_flat = is_flat
        self._tell = tell
        self._names = node_names(source)
        self._labels: dict[str, str] = {}
        view = source.run(run_name)
        self._run_id: str = view["run_id"]
        self._experiment = server.experiment(experiment or experiment_name(source, view))
        self._targets: dict[str, Target] = {}
        for run in server.runs_with_tag(self._experiment, "fed.run_id", self._run_id):
            found = Target(server, run, is_new=False)
            self._targets.setdefault(found.tags.get("fed.node_id", ""), found)
        self._params = self._parameters()
        self._system_position = -1  # of the record's rows, up to which all are sent

    def once(self) -> Json:
        """Bring MLflow up to what the record holds now."""
        view = self._source.run(self._run_id)
        self._describe(view)
        self._add_points(view, after_round=-1)
        parent = self._targets[""]
        nodes = {each["node_id"]: self._of(each["node_id"]) for each in view["participants"]}
        model = put_model(self._server, self._source, self._run_id, parent, self._tell)
        artifacts = put_artifacts(self._server, self._source, self._run_id, nodes, self._tell)
        return self._answer(view, model, artifacts)

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

    # --- runs, tags, parameters ------------------------------------------------------------------------------------
    def _describe(self, view: Json) -> None:
        """MLflow's runs with their tags, parameters and states."""
        start = round(seconds_of(view["started_at"] or view["created_at"]) * 1000)
        end = round(seconds_of(view["ended_at"]) * 1000) if view["ended_at"] else None
        tags = _fitting(run_tags(self._source, view), TAG_CHARACTERS_MAX)
        parent = self._target("", view["name"], start, tags)
        settings = self._settings()
        self._names |= {each["node_id"]: each["name"] for each in view["participants"] if each["name"]}
        self._labels = _labels(self._names)
        told = {key: value for node in settings for key, value in self._flat_settings(node, settings[node]).items()}
        params = self._params | (told if self._is_flat else {})
        parent.describe(tags, params, STATES.get(view["state"], "RUNNING"), end)
        of_nodes = node_tags(self._source, self._run_id)
        for place, participant in enumerate(view["participants"] if not self._is_flat else ()):
            node = participant["node_id"]
            name = self._names.get(node) or node
            tags = _fitting(child_tags(view, participant, name, parent.id) | of_nodes.get(node, {}), TAG_CHARACTERS_MAX)
            status = CHILD_STATES.get(participant["state"], "RUNNING")
            if view["state"] in ENDED and status in ("SCHEDULED", "RUNNING"):  # what it was when the run ended
                status = STATES[view["state"]]
            ended = end if status in ("FINISHED", "FAILED", "KILLED") else None
            self._target(node, name, start, tags).describe(tags, settings.get(node, {}), status, ended)
            self._tell(f"{place + 1} of {len(view['participants'])} nodes")

    def _target(self, node: str, name: str, start_ms: int, tags: dict[str, str]) -> Target:
        if node not in self._targets:
            first = dict(islice(tags.items(), TAGS_MAX))
            made = self._server.create_run(self._experiment, name, start_ms, first)
            self._targets[node] = Target(self._server, made, is_new=True)
        return self._targets[node]

    def _of(self, node: str) -> Target:
        return self._targets["" if self._is_flat else node]

    def _parameters(self) -> dict[str, str]:
        statement = f"SELECT key, value FROM parameters WHERE run_id = '{self._run_id}' ORDER BY key"
        rows = self._source.sql(statement, _PARAMETERS_MAX)["rows"]
        return _fitting({clean_name(key): value for key, value in rows}, PARAM_CHARACTERS_MAX)

    def _settings(self) -> dict[str, dict[str, str]]:
        """Of each node the parameters that its task told."""
        statement = f"SELECT node_id, key, value FROM node_parameters WHERE run_id = '{self._run_id}' ORDER BY ALL"
        found: dict[str, dict[str, str]] = {}
        for node, key, value in self._source.sql(statement, _PARAMETERS_MAX)["rows"]:
            found.setdefault(node, {})[clean_name(key)] = value[:PARAM_CHARACTERS_MAX]
        return found

    def _flat_settings(self, node: str, settings: dict[str, str]) -> dict[str, str]:
        return {clean_name(f"{self._labels.get(node, node)}/{key}"): value for key, value in settings.items()}

    # --- points ----------------------------------------------------------------------------------------------------
    def _add_points(self, view: Json, after_round: int) -> None:
        is_over = self._is_whole or view["state"] in ENDED
        settled = math.inf if is_over else view["round"] - MEAN_SETTLES_AFTER_ROUNDS
        for page in metric_pages(self._source, self._run_id, after_round):
            for point in points_of(page):
                if point.node_id or point.round <= settled:
                    self._add(point)
            self._tell(f"round {page[-1]['round']}, {self._sent():,} points")
        newest = self._system_position
        for position, point in system_points(self._source, view, newest):
            self._add(point)
            newest = max(newest, position)
        for target in self._targets.values():
            target.flush()
        self._system_position = newest  # only now: what broke off is looked at again

    def _add(self, point: Point) -> None:
        if self._is_flat and point.node_id:
            for flat in self._flat(point):
                self._targets[""].add(flat)
        elif point.node_id in self._targets:
            self._targets[point.node_id].add(point)

    def _flat(self, point: Point) -> Iterator[Point]:
        called = self._labels.get(point.node_id, point.node_id)
        yield replace(point, name=clean_name(f"{called}/{point.name}"))
        if point.name == _LOCAL_LOSS:
            yield replace(point, name=clean_name(f"{called}_local_loss"))

    def _sent(self) -> int:
        return sum(target.sent for target in self._targets.values())

    def _answer(self, view: Json, model: str, artifacts: str) -> Json:
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
            "artifacts": artifacts,
        }


def _fitting(entries: dict[str, str], characters_max: int) -> dict[str, str]:
    return {key: value[:characters_max] for key, value in entries.items()}


def _labels(names: Mapping[str, str]) -> dict[str, str]:
    """Of each node its name; with the end of its id where others are called so too."""
    count = Counter(names.values())
    return {node: name if count[name] == 1 else f"{name}-{node[-8:]}" for node, name in names.items()}
