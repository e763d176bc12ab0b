"""Judging a model on data of this node's, by its owner's wish: evaluation, predictions, or both.

A worker process does it, as in training: loaded with the run's own task, below the node in priority, in a slot of its
own, so that no round waits for it. The run need not be over, nor known to anybody else. Nothing leaves the node; what
was measured goes into the record.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import trio
from pydantic import ValidationError

from node.api.http.json import json_bytes
from node.api.service.service import Judged, Wanted
from node.data.datasets import DataSet
from node.data.files import Found, inspect
from node.run.plan import task_spec
from node.seams import Predictions, TaskOutput, TaskSession, TaskSpec, TrainerFailed
from node.training.staged_files import open_left
from node.training.worker_frames import PREDICTIONS_FILE_BYTES_MAX
from protocol.errors import FednodeError, Refused
from protocol.keys import BlobId, RunId
from protocol.manifest.manifest import Manifest
from tracker.tables.rows import EvaluationRow

if TYPE_CHECKING:
    from node.node import Node

Json = dict[str, Any]

PREDICTION_SLOTS = 1  # at once: each takes a core and a model's memory beside the runs' own workers
HELD_OUT, ALL = "held-out", "all"


class Predictor:
    """Evaluates and predicts on this node."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._slots = trio.CapacityLimiter(PREDICTION_SLOTS)

    async def prepare(self, text: str, wanted: Wanted) -> "Prediction":
        """See that the model, its task and the data are here. Raises NotFound and Refused."""
        model = await self._node.service.registry.held(text)
        manifest = await self._manifest(model)
        if wanted.task is not None:
            await self._node.task_files.take(manifest, Path(wanted.task))
        task_path = await self._node.task_files.find(manifest)
        if manifest.task.hash is not None and task_path is None:
            raise Refused(
                "no-such-task",
                f"This node does not have the run's task file {manifest.task.file} "
                f"(BLAKE3 {manifest.task.hash[:12]}…), and no other code is run in its place",
                remedy="get the file from the run's proposer, read it, and name it with --task FILE",
            )
        if wanted.data is None and wanted.path is None:
            raise Refused("bad-data", "No data is named", remedy="give the name of a data set, or a path")
        registered = self._node.data_sets.get(wanted.data) if wanted.data is not None else None
        return Prediction(self._node, self._slots, model, manifest, task_path, registered, wanted)

    async def _manifest(self, model: Json) -> Manifest:
        """The configuration of a model's run, as the record has it."""
        rows = await self._node.record.query("run", run_id=model["run_id"])
        try:
            return Manifest.model_validate_json(json.dumps(rows[0]["manifest"] if rows else None))
        except ValidationError:
            raise Refused(
                "no-such-run",
                f"The record does not have the configuration of the run {model['run_id'][:12]}…, so its task is not "
                "known here",
                remedy="use a model of a run that fednode run show shows with its configuration",
            ) from None


class Prediction:
    """One model to be judged on one data set: the `registered` one, or what lies at the path that is wanted."""

    def __init__(
        self,
        node: "Node",
        slots: trio.CapacityLimiter,
        model: Json,
        manifest: Manifest,
        task_path: str | None,
        registered: DataSet | None,
        wanted: Wanted,
    ) -> None:
        self._node = node
        self._slots = slots
        self._model = model
        self._manifest = manifest
        self._task_path = task_path
        self._registered = registered
        self._wanted = wanted

    async def run(self, say: Callable[[TaskOutput], None]) -> Judged:
        """Do it, and record what was measured. `say` hears what the task's code says; cancelling ends the worker.

        Raises TrainerFailed for whatever goes wrong in the task, and Refused where nothing can be measured, or the data
        cannot be read."""
        if not self._slots.available_tokens:
            say(TaskOutput("log", "waiting for another prediction of this node to end"))
        async with self._slots:
            spec, data = await self._on_data()
            schema = await self._node.disk.read_blob(BlobId(self._model["schema"]))
            model = await self._node.disk.blob_data(BlobId(self._model["model"]))
            session = await self._node.trainer.open(spec, say)
            try:
                return await self._judged(session, schema, model, data)
            finally:
                with trio.CancelScope(shield=True):
                    await session.close()

    async def _on_data(self) -> tuple[TaskSpec, Json]:
        """What the worker needs to know, and what is told of the data: as it lies there now, not as it was added."""
        registered, wanted = self._registered, self._wanted
        path = registered.path if registered is not None else wanted.path or ""
        found: Found = await self._node.trainer.offload(partial(inspect, path))
        rows = wanted.rows or (ALL if registered is None else HELD_OUT)
        options = {} if registered is None else registered.options
        us, run = self._node.identity.node_id, RunId(self._model["run_id"])
        spec = task_spec(run, self._manifest, us, found.path, options, self._task_path, found.fingerprint)
        spec = replace(
            spec,
            data_options={**spec.data_options, **wanted.options},
            holds_out_all=rows == ALL,
            is_unlabelled=not wanted.evaluate,
        )
        name = found.path if registered is None else registered.name
        return spec, {"data": name, "data_fingerprint": found.fingerprint, "rows": rows}

    async def _judged(self, session: TaskSession, schema: bytes, model: bytes | Path, data: Json) -> Judged:
        told: Json = {"model": self._model, **data}
        round_number = self._model["round"]
        if self._wanted.evaluate:
            result = await session.evaluate(round_number, schema, model)
            if result is None:
                raise Refused(
                    "nothing-held-out",
                    "The task holds no rows of this data out, so there is nothing to evaluate on",
                    remedy="evaluate on every row with --rows all, or give the task's data() an evaluation part",
                )
            told |= {"samples": result.samples, "metrics": dict(result.metrics)}
            self._record(result.samples, told["metrics"], data)
        if not self._wanted.predict:
            return Judged(told)
        predictions = await session.predict(round_number, schema, model)
        file = await self._node.trainer.offload(partial(_opened, predictions))
        return Judged({**told, "predicted": predictions.rows}, file)

    def _record(self, samples: int, metrics: Mapping[str, float], data: Json) -> None:
        model = self._model
        self._node.record.add(
            EvaluationRow(
                model["model"],
                model["run_id"],
                model["round"],
                data["data"],
                data["data_fingerprint"],
                samples,
                json_bytes(metrics).decode(),
                self._node.now(),
                self._node.identity.node_id,
                self._node.runs.numbers(),
                data["rows"],
            )
        )
        self._node.hub.publish({"type": "changed", "what": "models"})


def _opened(predictions: Predictions) -> IO[bytes]:
    """The predictions' file; it can be read to its end after its folder has gone. Raises TrainerFailed when the worker
    left something else there."""
    file = predictions.file
    try:
        return os.fdopen(open_left(file.parent, file.name, PREDICTIONS_FILE_BYTES_MAX), "rb")
    except FednodeError as error:
        raise TrainerFailed(
            f"The worker's predictions cannot be read ({error.what})",
            remedy="keep task code off the files that fednode writes",
        ) from error
