"""Rounds in memory, for the tests of rules: rows, a spool of them, candidates."""

import numpy as np

from aggregation.codecs.registry import codec_named
from aggregation.measuring import Measuring
from aggregation.rules.rule import Candidate, Plan, Slab
from aggregation.tensors.flat import F32, FlatLayout
from aggregation.tensors.schema import Schema
from aggregation.updates import Bounds, Checked, Update, check_update, update_of


class ArraySpool:
    """The rows of an array, as a round's spool; every second one is read as a view that must not be written to."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.asarray(values, np.float32)
        self.values.setflags(write=False)

    def slabs(self, elements: int) -> list[Slab]:
        length = self.values.shape[1]
        return [Slab(start, min(start + elements, length)) for start in range(0, length, elements)]

    def rows(self, slab: Slab) -> "ArrayRows":
        return ArrayRows(self.values[:, slab.start : slab.stop])


class ArrayRows:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def read(self, index: int, out: F32) -> F32:
        assert len(out) == self.values.shape[1]
        if index % 2:
            return self.values[index]
        out[:] = self.values[index]
        return out


def schema_of(*sizes: int) -> Schema:
    return Schema.of_arrays({f"t{index:02}": np.zeros(size, np.float32) for index, size in enumerate(sizes)})


def norm_squared_of(values: np.ndarray) -> int:
    """Of a whole flat vector, as the checks measure it."""
    measuring = Measuring(schema_of(len(values)), codec_named("fp32"), with_norm=True)
    measuring.take(np.asarray(values, "<f4"))
    assert measuring.norm_squared is not None
    return measuring.norm_squared


def updates_of(values: np.ndarray, samples: list[int] | None = None) -> list[Update]:
    rows = np.asarray(values, "<f4")
    return [
        update_of(f"node-{index:03}", row.tobytes(), samples[index] if samples else 1) for index, row in enumerate(rows)
    ]


def candidates_of(schema: Schema, values: np.ndarray, samples: list[int] | None = None) -> list[Candidate]:
    found = []
    for update in updates_of(values, samples):
        checked = check_update(schema, codec_named("fp32"), Bounds({}, None, True), update)
        assert isinstance(checked, Checked)
        found.append(Candidate(update.name, update.samples, checked))
    return found


def combined(plan: Plan, layout: FlatLayout, values: np.ndarray) -> F32:
    """What a plan makes of the rows."""
    spool, out = ArraySpool(values), np.empty(layout.elements, np.float32)
    combine = plan.combiner()
    for slab in spool.slabs(plan.slab_elements):
        combine(slab, spool.rows(slab), out[slab.start : slab.stop])
    return out
