"""A participant's part in the methods that carry state: error feedback, FedNova's steps, SCAFFOLD's corrections.

Decides what a training is corrected by, and what its update says. Methods that correct gradients do so in fednode's own
training alone (`Round.learn`): a task with a `train` of its own must call that, or another method be chosen.
"""

from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from aggregation.codecs.codec import Codec
from aggregation.codecs.registry import codec_named, difference_bytes
from aggregation.scaffold import own_change, update_schema
from aggregation.tensors.flat import F32, FlatLayout
from aggregation.tensors.schema import Buffer, Schema
from aggregation.tensors.sources import Sink, Source
from aggregation.updates import difference_of, encode_update
from fednode import Result, TaskError
from node.seams import TaskSpec
from node.training.participant_state import read_state, state_arrays, write_next

Corrections = Mapping[str, F32]  # what is added to each gradient, by the tensor's name


class Carrying:
    """One training of one participant. Make it before, and call `encode` after."""

    def __init__(
        self, spec: TaskSpec, directory: Path, schema: Schema, server_state: Buffer, warn: Callable[[str], None]
    ) -> None:
        """`server_state`: the base checkpoint's, empty before the first round."""
        self._method = spec.method
        self._codec: Codec = codec_named(spec.codec)
        self._learning_rate = float(spec.hyperparameters.get("learning_rate", 0.1))
        self._directory = directory
        self._schema = schema
        self._corrected: Set[str] = frozenset()
        arrays = state_arrays(schema, spec.codec, spec.method)
        self._state = read_state(directory, arrays, warn) if arrays else {}
        self._control = _control_in(server_state, schema) if spec.method == "scaffold" else None

    @property
    def corrections(self) -> Corrections | None:
        """c − cᵢ for every averaged tensor; None for methods that correct nothing."""
        if self._control is None:
            return None
        whole = self._control - self._state["control"]
        starts = FlatLayout.of(self._schema).starts
        return {
            spec.name: whole[start : start + spec.elements].reshape(spec.shape)
            for spec, start in zip(self._schema.averaged, starts, strict=False)
        }

    def used(self, model: Any) -> None:
        """The gradients of this torch module were corrected."""
        averaged = {spec.name for spec in self._schema.averaged}
        trained = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
        self._corrected = averaged.intersection(trained)

    @property
    def update_bytes(self) -> int:
        """How long the update will be."""
        return difference_bytes(update_schema(self._schema, self._method), self._codec)

    def check(self, result: Result) -> None:
        """Raises TaskError where the method needs to know more of the training than the task told."""
        if self._method != "fedavg" and result.steps < 1:
            raise TaskError(
                f"The task's result counts {result.steps} steps, which {self._method} cannot work with",
                remedy="return fednode.Result(samples, metrics, steps) with the optimizer's steps",
            )
        if self._control is not None and not self._corrected:
            raise TaskError(
                "SCAFFOLD corrected nothing: the task trains in a way of its own",
                remedy="call this_round.learn in the task's train, or choose another aggregation.method",
            )

    def encode(
        self, base: Buffer | Source, trained: Buffer | Source, result: Result, into: Sink | None = None
    ) -> bytes:
        """The update, as `encode_update`. What follows from it for this participant is durable then."""
        residual, change = self._state.get("residual"), None
        if self._control is not None:
            difference = difference_of(self._schema, base, trained)
            change = own_change(difference, self._control, result.steps, self._learning_rate)
            self._forget_what_is_not_trained(change)
        update = encode_update(self._schema, base, trained, self._codec, into, residual=residual, control=change)
        if change is not None:
            # By what everybody decodes, so that the common control stays the mean of the participants' own.
            np.add(self._state["control"], change, out=self._state["control"])
        if self._state:
            write_next(self._directory, self._state)
        return update

    def _forget_what_is_not_trained(self, change: F32) -> None:
        """A running mean has no gradient, so no control."""
        for spec, start in zip(self._schema.averaged, FlatLayout.of(self._schema).starts, strict=False):
            if spec.name not in self._corrected:
                change[start : start + spec.elements] = 0


def _control_in(server_state: Buffer, schema: Schema) -> F32:
    """The common control, which is the last array of a server state; zeros before the first round."""
    elements = schema.averaged_elements
    if len(server_state) < 4 * elements:
        return np.zeros(elements, np.float32)
    return np.frombuffer(server_state, "<f4", elements, len(server_state) - 4 * elements).astype(np.float32)
