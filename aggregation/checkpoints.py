"""A checkpoint is its base plus a coded difference: the one function that adds them, for whoever makes or receives it.

Decides that everybody computes a checkpoint from the same coded bytes in the same way, its aggregator included, so all
nodes hold the same bits, however coarse the codec.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np

from aggregation.codecs.registry import codec_named, counters_position, difference_bytes
from aggregation.tensors.flat import (
    F32,
    SLAB_ELEMENTS,
    FlatLayout,
    add_difference,
    is_finite,
    read_stored,
    write_stored,
)
from aggregation.tensors.schema import Buffer, Schema
from aggregation.tensors.sources import MemorySink, Sink, Source, as_source, copy, kept_open
from protocol.errors import FednodeError, RemoteProtocolError


class ModelWriter:
    """Writes the next model's averaged tensors slab by slab. One per thread: it holds memory of its own.

    Raises FednodeError when the base model's length does not fit the schema."""

    def __init__(self, layout: FlatLayout, base: Source, sink: Sink) -> None:
        self._layout = layout
        self._base = base
        self._sink = sink
        self._scratch = memoryview(bytearray(8 * SLAB_ELEMENTS))

    def write(self, start: int, stop: int, difference: F32) -> None:
        """Add the decoded `difference` of elements `start` to `stop`. Raises FednodeError for a base with a NaN."""
        for dtype, offset, part in self._layout.stored(start, stop):
            base = read_stored(self._base, dtype, offset, part.stop - part.start, self._scratch)
            if not is_finite(base, dtype):
                raise FednodeError(
                    "The base checkpoint holds a NaN or an infinity among its averaged tensors",
                    remedy="make such a tensor frozen or local, or start from a model of finite values",
                )
            write_stored(self._sink, offset, add_difference(dtype, base, difference[part]))


def apply_difference(
    base: Buffer | Path | Source,
    schema: Schema,
    difference: Buffer | Path | Source,
    codec: str = "fp32",
    into: Sink | None = None,
) -> bytes:
    """The raw model that a raw model and a checkpoint's coded difference make: returned, or written `into` a sink.

    Raises RemoteProtocolError when the difference is none for this schema and codec, or is not finite."""
    base, difference, coding = as_source(base), as_source(difference), codec_named(codec)
    schema.check_length(base.size)
    expected = difference_bytes(schema, coding)
    if difference.size != expected:
        raise RemoteProtocolError(f"A checkpoint's difference has {difference.size} bytes instead of {expected}")
    memory = MemorySink(0 if into else schema.model_bytes)
    sink = into or memory
    layout = FlatLayout.of(schema)
    writer = ModelWriter(layout, base, sink)
    scratch = memoryview(bytearray(8 * SLAB_ELEMENTS))
    room = np.empty(SLAB_ELEMENTS, np.float32)
    with kept_open((base, difference)):
        for start, stop in layout.slabs():
            position = coding.coded_bytes(start)
            coded = difference.view(position, coding.coded_bytes(stop) - position, scratch)
            values = coding.decode(coded, room[: stop - start])
            if not is_finite(values, "float32"):
                raise RemoteProtocolError("A checkpoint's difference holds a NaN or an infinity")
            writer.write(start, stop, values)
        copy(difference, counters_position(schema, coding), schema.counters_bytes, sink, schema.counters_offset)
        copy_frozen(schema, base, sink)
    return memory.take()


def copy_frozen(schema: Schema, base: Source, sink: Sink) -> None:
    """Frozen tensors, which end a raw model, pass from checkpoint to checkpoint as they are."""
    offset = schema.counters_offset + schema.counters_bytes
    copy(base, offset, schema.model_bytes - offset, sink, offset)


def check_model(schema: Schema, model: Buffer | Path | Source) -> None:
    """Raises FednodeError unless `model` is a raw model of this schema whose averaged tensors are finite."""
    model = as_source(model)
    schema.check_length(model.size)
    layout = FlatLayout.of(schema)
    scratch = memoryview(bytearray(8 * SLAB_ELEMENTS))
    for tensor, (start, stop) in enumerate(pairwise(layout.starts)):
        for low in range(start, stop, SLAB_ELEMENTS):
            for dtype, offset, part in layout.stored(low, min(low + SLAB_ELEMENTS, stop)):
                if not is_finite(read_stored(model, dtype, offset, part.stop - part.start, scratch), dtype):
                    raise FednodeError(
                        f"The model's tensor {schema.averaged[tensor].name!r} holds a NaN or an infinity",
                        remedy="make it frozen or local, or start from finite values",
                    )
