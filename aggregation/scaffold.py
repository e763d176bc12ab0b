"""SCAFFOLD: averaging where nodes' data differ (Karimireddy et al., 2020, arXiv:1910.06378), with option II's controls.

Each node corrects every gradient by c − cᵢ: cᵢ is the mean gradient of its own last training, and c that of all. So an
update says two things, how the model moved and how cᵢ did. Decides that it says them as one difference: the schema of a
run's updates has, behind the averaged tensors, a control of the same size for each. Codecs, checks, norms and sums see
a model with twice the parameters and know nothing of controls.

c is carried with the server state, behind the server optimizer's arrays. It moves by the updates' mean change, weighed
as the model's, times the share of the roster whose updates were used; nodes that do not train count as ones whose
control is zero. It cannot leave ±CONTROL_MAX, whatever is sent.
"""

from functools import lru_cache

import numpy as np

from aggregation.tensors.flat import F32
from aggregation.tensors.schema import NAME_BYTES_MAX, Schema, TensorSpec

CONTROL_MAX = 2.0**99  # within a server state's bounds; a gradient of that size has ended every training before
_PREFIX = "control of "
_REMEMBERED_SCHEMAS = 4  # of runs that go on at once


def update_schema(schema: Schema, method: str) -> Schema:
    """The schema of the updates of a model of `schema`."""
    return with_controls(schema) if method == "scaffold" else schema


@lru_cache(maxsize=_REMEMBERED_SCHEMAS)
def with_controls(schema: Schema) -> Schema:
    """The schema of updates that move controls too. Raises FednodeError for models of more than half of all tensors."""
    controls = [
        TensorSpec(_control_name(index, spec.name), "float32", spec.shape, "averaged")
        for index, spec in enumerate(schema.averaged)
    ]
    return Schema.of((*schema.averaged, *controls, *schema.counters))


def move_control(control: F32, change: F32, used: int, roster_nodes: int) -> None:
    """c ← c + change · used ÷ roster_nodes, in place, in separate steps. `change` is overwritten."""
    np.multiply(change, np.float32(used), out=change)
    np.divide(change, np.float32(max(used, roster_nodes)), out=change)
    np.add(control, change, out=control)
    np.clip(control, np.float32(-CONTROL_MAX), np.float32(CONTROL_MAX), out=control)


def own_change(difference: F32, control: F32, steps: int, learning_rate: float) -> F32:
    """How a node's own control moves: −c − Δ ÷ (K η), after K steps of rate η that made the difference Δ."""
    change = difference / np.float32(-max(steps, 1) * learning_rate)
    change -= control
    return change


def _control_name(index: int, name: str) -> str:
    """For people, who read it when a value is refused."""
    whole = _PREFIX + name
    return whole if len(whole.encode()) <= NAME_BYTES_MAX else f"{_PREFIX}tensor {index}"
