"""What a checkpoint carries besides its model: flat float32 arrays, each as long as the model's flat vector.

Decides their order: the server optimizer's by its `state_names`, then SCAFFOLD's control where the method has one. All
are zeros before the first round, where the state has no bytes at all.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aggregation.rules.rule import Slab
from aggregation.server_optimizers import STATE_VALUE_END
from aggregation.settings import CombineSettings
from aggregation.tensors.flat import F32, SLAB_ELEMENTS, FlatLayout
from aggregation.tensors.schema import Buffer, Schema
from aggregation.tensors.sources import MemorySink, Sink, Source, as_source
from protocol.errors import FednodeError


def state_bytes(schema: Schema, settings: CombineSettings) -> int:
    """The exact length of a state's byte form."""
    return 4 * schema.averaged_elements * len(state_names(settings))


def state_names(settings: CombineSettings) -> tuple[str, ...]:
    """The arrays of a run's state, in their order."""
    control = ("control",) if settings.method == "scaffold" else ()
    return *settings.make_server_optimizer().state_names, *control


def check_server_state(schema: Schema, settings: CombineSettings, state: Buffer | Path | Source) -> None:
    """Raises FednodeError unless a round with these settings can have left `state`."""
    source = as_source(state)
    check_state_length(schema, settings, source)
    layout = FlatLayout.of(schema)
    slabs = StateSlabs(layout.elements, source, MemorySink(0))
    for start, stop in layout.slabs():
        slabs.read(Slab(start, stop), range(len(state_names(settings))))


def check_state_length(schema: Schema, settings: CombineSettings, state: Source) -> None:
    expected = state_bytes(schema, settings)
    if state.size not in (0, expected):
        arrays = ", ".join(state_names(settings)) or "none"
        raise FednodeError(
            f"The server state has {state.size} bytes; for this model it has {expected} (arrays: {arrays})",
            remedy="use the server state of the base checkpoint",
        )


class StateSlabs:
    """A state's arrays, slab by slab; zeros before the first round."""

    def __init__(self, elements: int, source: Source, sink: Sink) -> None:
        self._elements = elements
        self._source = source
        self._sink = sink
        self._scratch = memoryview(bytearray(4 * SLAB_ELEMENTS))

    def read(self, slab: Slab, arrays: range) -> list[F32]:
        """Raises FednodeError when the state holds what no round can have made."""
        length = slab.stop - slab.start
        if self._source.size == 0:
            return [np.zeros(length, np.float32) for _ in arrays]
        slabs = []
        for index in arrays:
            view = self._source.view(self._offset(index, slab), 4 * length, self._scratch)
            values = np.frombuffer(view, "<f4").astype(np.float32)
            if not (np.abs(values) < STATE_VALUE_END).all():  # false for NaN too
                raise FednodeError("The server state is damaged", remedy="fetch the base checkpoint again")
            slabs.append(values)
        return slabs

    def write(self, slab: Slab, arrays: range, values: Sequence[F32]) -> None:
        for index, array in zip(arrays, values, strict=True):
            self._sink.write(self._offset(index, slab), array.astype("<f4", copy=False).view(np.uint8).data)

    def _offset(self, index: int, slab: Slab) -> int:
        return 4 * (index * self._elements + slab.start)
