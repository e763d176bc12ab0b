"""A task's model between its two forms: the object that the task trains, and the raw bytes that the run agrees on.

Torch modules go through aggregation.tensors.torch_arrays, which knows tied weights and bfloat16; a task that overrides
`arrays` and `load` speaks for itself. Tensors of kind local never leave this node: they are kept in this participant's
directory and put back every round.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregation.tensors.schema import Buffer, Schema
from aggregation.tensors.sources import BytesSource, PartsSource, Source
from fednode import Task, TaskError
from protocol.errors import FednodeError
from tracker.durable import sync

log = logging.getLogger("fednode.worker")

LOCAL_FILE = "local-tensors"

Arrays = dict[str, npt.NDArray[Any]]


class TaskModel:
    """The one model object of a loaded task, made when first needed and filled anew for every use."""

    def __init__(self, task: Task, directory: Path, warn: Callable[[str], None] = log.warning) -> None:
        self._task = task
        self._warn = warn
        self.own_arrays = type(task).arrays is not Task.arrays or type(task).load is not Task.load
        self._local_file = directory / LOCAL_FILE
        self._local: Arrays = {}
        self._model: Any = None
        self._agreed: tuple[bytes, Schema] | None = None

    def initial(self) -> tuple[Schema, bytes]:
        """A model fresh from the task."""
        model = self._made()
        kinds = {"frozen": self._task.frozen, "local": self._task.local}
        if self.own_arrays:
            schema = Schema.of_arrays(self._arrays(model), **kinds)
        else:
            from aggregation.tensors.torch_arrays import module_schema

            schema = module_schema(model, **kinds)
        return schema, self._dumped(schema, model)

    def agree(self, schema: bytes) -> Schema:
        """The run's schema. Raises RemoteProtocolError for bytes that are none."""
        if self._agreed is None or self._agreed[0] != schema:
            self._agreed = schema, Schema.from_bytes(schema)
        return self._agreed[1]

    def filled(self, schema: Schema, raw: Buffer) -> Any:
        """The model with the numbers of `raw`, and this node's own of kind local: at first as the task made them."""
        whole, local = _whole(schema), _local_part(schema)
        if self._model is None:
            self._model = self._made()
            if local.tensors:
                made = whole.views(self._dumped(whole, self._model))
                self._local = self._read_local(local) or {spec.name: made[spec.name] for spec in local.tensors}
        if local.tensors:
            raw = whole.raw_of({**schema.views(raw), **self._local})
        self._model = self._loaded(self._model, whole, raw)
        return self._model

    def raw_of(self, schema: Schema, model: Any) -> Source:
        """The trained model's bytes, valid until it is changed. What is local is kept here instead."""
        local = _local_part(schema)
        if not local.tensors:
            return PartsSource(self._parts(schema, model))
        views = _whole(schema).views(self._dumped(_whole(schema), model))
        self._local = {spec.name: views[spec.name] for spec in local.tensors}
        self._write_local(local.raw_of(self._local))
        return BytesSource(schema.raw_of(views))

    def _made(self) -> Any:
        model = self._task.model()
        if not self.own_arrays:
            import torch

            if not isinstance(model, torch.nn.Module):
                raise TaskError(
                    f"The task's model() gave a {type(model).__name__}",
                    remedy="return a torch.nn.Module, or override arrays(model) and load(model, arrays)",
                )
        return model

    def _loaded(self, model: Any, schema: Schema, raw: Buffer) -> Any:
        """The model filled from a raw one: the same object or, from a task's own `load`, perhaps another."""
        if not self.own_arrays:
            from aggregation.tensors.torch_arrays import load_raw

            load_raw(model, schema, raw)
            return model
        filled = self._task.load(model, schema.views(raw))
        if filled is None:
            raise TaskError("The task's load() gave nothing", remedy="return the model")
        return filled

    def _dumped(self, schema: Schema, model: Any) -> bytes:
        return b"".join(self._parts(schema, model))

    def _parts(self, schema: Schema, model: Any) -> list[memoryview]:
        if self.own_arrays:
            return schema.parts_of(self._arrays(model))
        from aggregation.tensors.torch_arrays import module_parts

        return module_parts(model, schema)

    def _arrays(self, model: Any) -> Arrays:
        return {name: np.asarray(array) for name, array in self._task.arrays(model).items()}

    def _read_local(self, local: Schema) -> Arrays | None:
        """What this participant kept before its worker was started anew; None in its first round, and when it is
        damaged."""
        try:
            return local.views(self._local_file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, FednodeError) as error:
            self._warn(f"the tensors that this node keeps to itself cannot be read ({error}); they begin anew")
            return None

    def _write_local(self, raw: bytes) -> None:
        """Replace the file at once, so that a killed worker leaves the old one or the new one."""
        fresh = self._local_file.with_suffix(".fresh")
        with fresh.open("wb") as file:
            file.write(raw)
            file.flush()
            sync(file.fileno())
        os.replace(fresh, self._local_file)


def _whole(schema: Schema) -> Schema:
    """The schema in which nothing is local, so that raw models of it hold everything."""
    return Schema.of(replace(spec, kind="frozen") if spec.kind == "local" else spec for spec in schema.tensors)


def _local_part(schema: Schema) -> Schema:
    return Schema.of(replace(spec, kind="frozen") for spec in schema.tensors if spec.kind == "local")
