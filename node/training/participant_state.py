"""What a participant carries from round to round: reading the state that counts, writing the one that would follow.

A codec's losses (error feedback) and SCAFFOLD's own control belong to one update each, and move on only when that is
used (node.training.carried_files). A file is its BLAKE3 hash and flat float32 arrays. One that is not of the expected
length, or not of its hash, is taken for zeros: an error that is forgotten costs accuracy once, and a control begins
anew.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from blake3 import blake3

from aggregation.codecs.registry import codec_named
from aggregation.server_optimizers import STATE_VALUE_END
from aggregation.tensors.flat import F32
from aggregation.tensors.schema import Schema
from node.training.carried_files import CARRIED_FILE, NEXT_FILE
from tracker.durable import sync

_HASH_BYTES = 32


def state_arrays(schema: Schema, codec: str, method: str) -> dict[str, int]:
    """What a participant of such a run carries: names and lengths of arrays. Empty for most."""
    elements = schema.averaged_elements
    coded = 2 * elements if method == "scaffold" else elements
    residual = {"residual": coded} if codec_named(codec).needs_feedback else {}
    return residual | ({"control": elements} if method == "scaffold" else {})


def carries_state(codec: str, method: str) -> bool:
    return method == "scaffold" or codec_named(codec).needs_feedback


def read_state(directory: Path, arrays: Mapping[str, int], warn: Callable[[str], None]) -> dict[str, F32]:
    """The state that counts, in memory of its own; zeros where there is none. `warn` is told when it is damaged."""
    try:
        with (directory / CARRIED_FILE).open("rb") as file:
            octets = file.read(_HASH_BYTES + 4 * sum(arrays.values()) + 1)
    except FileNotFoundError:
        return _zeros(arrays)
    except OSError as error:
        warn(f"what this node carries from round to round cannot be read ({error}); it begins with zeros")
        return _zeros(arrays)
    values = _values(octets, sum(arrays.values()))
    if values is None:
        warn("what this node carries from round to round is damaged; it begins with zeros")
        return _zeros(arrays)
    parts = np.split(values, np.cumsum(list(arrays.values()))[:-1])
    return dict(zip(arrays, parts, strict=True))


def write_next(directory: Path, state: Mapping[str, F32]) -> None:
    """Leave what follows from a training, durably. The node names it, or it is overwritten by the next one."""
    parts = [values.astype("<f4", copy=False).tobytes() for values in state.values()]
    digest = blake3()
    for part in parts:
        digest.update(part)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=f"{NEXT_FILE}-", delete=False) as file:
        file.writelines((digest.digest(), *parts))
        file.flush()
        sync(file.fileno())
    os.replace(file.name, directory / NEXT_FILE)


def _values(octets: bytes, length: int) -> F32 | None:
    """The numbers in a state file; None where it holds anything but the values that a training leaves."""
    if len(octets) != _HASH_BYTES + 4 * length or blake3(octets[_HASH_BYTES:]).digest() != octets[:_HASH_BYTES]:
        return None
    values = np.frombuffer(octets, "<f4", length, _HASH_BYTES).astype(np.float32)
    return values if (np.abs(values) < STATE_VALUE_END).all() else None  # false for NaN too


def _zeros(arrays: Mapping[str, int]) -> dict[str, F32]:
    return {name: np.zeros(length, np.float32) for name, length in arrays.items()}
