"""How far apart two models are, tensor by tensor, out of their safetensors files as they come in.

Decides that neither model is ever whole in memory: both files are read side by side, a mebibyte at a time. That works
because a schema has one order in a file (aggregation.tensors.safetensors_file).
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import FednodeError

PIECE_BYTES = 1024 * 1024  # compared at a time; a multiple of every element's width
HEADER_BYTES_MAX = 16 * 1024 * 1024  # as the file's writer has it

Json = dict[str, Any]
Array = npt.NDArray[Any]

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "BOOL": "|b1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
}


def differences(first: Iterable[bytes], second: Iterable[bytes]) -> list[Json] | None:
    """For each tensor its name, dtype, shape and `norm` of the difference (Euclidean), `relative` to the first model's
    tensor (None where that is zero), and the `largest` difference of one element. None when the schemas differ.

    Raises FednodeError for what is no safetensors file."""
    one, other = _Reader(first), _Reader(second)
    tensors = one.header()
    if tensors != other.header():
        return None
    return [_difference(name, entry, one, other) for name, entry in tensors]


def whole(tensors: Iterable[Json]) -> float:
    """The norm of the difference of all tensors together."""
    return math.sqrt(math.fsum(tensor["norm"] ** 2 for tensor in tensors))


def _difference(name: str, entry: Json, one: "_Reader", other: "_Reader") -> Json:
    start, end = entry["data_offsets"]
    squares, reference, largest = 0.0, 0.0, 0.0
    for done in range(start, end, PIECE_BYTES):
        length = min(PIECE_BYTES, end - done)
        ours = _values(one.take(length), entry["dtype"])
        apart = np.abs(_values(other.take(length), entry["dtype"]) - ours)
        squares += float(np.dot(apart, apart))
        reference += float(np.dot(ours, ours))
        largest = max(largest, float(apart.max())) if len(apart) else largest
    relative = math.sqrt(squares / reference) if reference else None
    facts = {"name": name, "dtype": entry["dtype"], "shape": entry["shape"]}
    return {**facts, "norm": math.sqrt(squares), "relative": relative, "largest": largest}


def _values(data: bytes, dtype: str) -> Array:
    stored = np.frombuffer(data, _DTYPES[dtype])
    if dtype == "BF16":  # the upper half of a float32
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float64)


class _Reader:
    """Takes exact numbers of bytes out of pieces of any length."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._rest = bytearray()

    def take(self, length: int) -> bytes:
        while len(self._rest) < length:
            piece = next(self._pieces, None)
            if piece is None:
                raise _no_model("it ends too early")
            self._rest += piece
        taken = bytes(self._rest[:length])
        del self._rest[:length]
        return taken

    def header(self) -> list[tuple[str, Json]]:
        """The tensors in the order of their bytes."""
        length = int.from_bytes(self.take(8), "little")
        if length > HEADER_BYTES_MAX:
            raise _no_model(f"its header claims {length} bytes")
        try:
            entries = json.loads(self.take(length))
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, dict):
            raise _no_model("its header is no table")
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            if not _is_sound(entry):
                raise _no_model(f"tensor {name[:80]!r} has no dtype, shape and place that go together")
        place: Callable[[tuple[str, Json]], int] = lambda named: named[1]["data_offsets"][0]  # noqa: E731 - typed
        return sorted(entries.items(), key=place)


def _is_sound(entry: object) -> bool:
    match entry:
        case {"dtype": str(dtype), "shape": list(), "data_offsets": [int(start), int(end)]}:
            return dtype in _DTYPES and 0 <= start <= end and (end - start) % np.dtype(_DTYPES[dtype]).itemsize == 0
    return False


def _no_model(why: str) -> FednodeError:
    return FednodeError(f"A model's file is not sound: {why}", remedy="see the node's log, and try again")
