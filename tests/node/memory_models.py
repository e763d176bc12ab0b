"""Models and predictions of tests.node.memory_service: in memory, in the shapes of docs/api.md."""

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from node.api.service.service import Judged, ModelFile, NotFound, Wanted
from node.seams import TaskOutput, TrainerFailed
from protocol.errors import Refused

Json = dict[str, Any]
RUN, BLOB = "cd" * 32, "ef" * 32


def model_json(**changes: Any) -> Json:
    model = {"run_id": RUN, "run": "study", "round": 7, "checkpoint": "aa" * 32, "model": BLOB, "schema": "ab" * 32}
    model |= {"bytes": 203_304, "time": "2026-01-01T00:00:00Z", "accuracy": 0.9, "loss": float("nan")}
    model |= {"name": "", "version": 0, "aliases": [], "tagged_at": None, "names": [], "here": True}
    return {**model, **changes}


LINEAGE: Json = {
    "project": "default",
    "experiment": "default",
    "group_id": "ab" * 32,
    "task": "digits",
    "task_hash": "",
    "task_parameters": {},
    "parent": "",
    "seed": 1,
    "term": 1,
    "aggregator": "n1",
    "updates_used": 2,
    "proposer": "n1",
    "created_at": "2026-01-01T00:00:00Z",
    "data": [{"node_id": "n1", "name": "alpha", "role": "trainer", "samples": 100, "data_fingerprint": "f9" * 32}],
}
EVALUATION: Json = {
    "model": BLOB,
    "run_id": RUN,
    "round": 7,
    "data": "other",
    "data_fingerprint": "f8" * 32,
    "rows": "all",
    "samples": 50,
    "metrics": {"accuracy": 0.75},
    "time": "2026-01-02T00:00:00Z",
}


class MemoryModels:
    """`files` gives what a model's file holds, by what it is called."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls
        self.files: dict[str, bytes] = {}
        self.entries: list[Json] = []

    def _known(self, model: str) -> Json:
        if model.startswith("gone"):
            raise NotFound("no-such-blob", "The model is not here any more", remedy="choose another")
        if model.startswith("nothing"):
            raise NotFound("no-such-model", f"No model is called {model!r}", remedy="see fednode model list")
        return model_json()

    async def listed(self, of: str | None) -> list[Json]:
        self.calls.append(("listed", of))
        return self.entries if of is None else [model_json(), model_json(round=6, here=False)]

    async def show(self, model: str) -> Json:
        return {**self._known(model), "lineage": LINEAGE, "evaluations": [EVALUATION]}

    async def schema(self, model: str) -> Json:
        self._known(model)
        return {"schema_id": "99" * 32, "bytes": 8, "tensors": [{"name": "w", "dtype": "float32", "shape": [2]}]}

    async def file(self, model: str) -> ModelFile:
        self._known(model)
        data = self.files.get(model, b"abc")

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 1 << 20):
                yield data[start : start + (1 << 20)]
                await trio.lowlevel.checkpoint()

        return ModelFile(7, BLOB, len(data), chunks())

    async def tag(self, model: str, name: str, alias: str = "") -> Json:
        self._known(model)
        self.calls.append(("tag", model, name, alias))
        made = model_json(name=name, version=1, aliases=[alias] if alias else [])
        self.entries.append(made)
        return made

    async def untag(self, name: str, alias: str) -> None:
        self.calls.append(("untag", name, alias))

    async def remove(self, name: str) -> int:
        self.calls.append(("remove", name))
        return 2


@dataclass
class MemoryPredictor:
    """Judges everything alike. `cancelled` is set when somebody left before the end."""

    calls: list[tuple[Any, ...]]
    predictions: bytes = b""
    waits: bool = False
    fails: bool = False
    lines: int = 1
    cancelled: list[str] = field(default_factory=list)

    async def prepare(self, model: str, wanted: Wanted) -> "MemoryPredictor":
        self.calls.append(("predict", model, wanted))
        if wanted.task is not None:
            raise Refused("wrong-task", "That is not the run's task file", remedy="name the very file")
        return self

    async def run(self, say: Callable[[TaskOutput], None]) -> Judged:
        for number in range(self.lines):
            say(TaskOutput("stdout", text=f"looking at the data, {number}"))
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise TrainerFailed("Predicting failed at task.py, line 3", remedy="mend the task", traceback="Traceback …")
        if self.waits:
            try:
                await trio.sleep_forever()
            finally:
                self.cancelled.append("judging")
        told = {"model": model_json(), "data": "digits", "data_fingerprint": "f9" * 32, "rows": "all", "samples": 9}
        told |= {"metrics": {"accuracy": 0.5, "loss": float("nan")}}
        if not self.predictions:
            return Judged(told)
        return Judged({**told, "predicted": 9}, io.BytesIO(self.predictions))
