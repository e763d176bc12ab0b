"""The averaged tensors of a model as one flat float32 vector, slab by slab.

Decides how a difference from a base checkpoint is taken and added back, per dtype of the model:

    float32            trained − base and base + difference, in float32
    float64            both in float64; the difference itself is then rounded to float32
    float16, bfloat16  both in float32; the new model is then rounded to the dtype, to nearest, ties to even

What leaves the dtype's range becomes its greatest finite value, so a model of finite values stays one. Only separate
elementwise + and − of numpy: the same bits on every CPU.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregation.tensors.schema import Schema
from aggregation.tensors.sources import Sink, Source

F32 = npt.NDArray[np.float32]

SLAB_ELEMENTS = 65_536  # 256 KiB of float32: small enough for a core's cache, large enough for few calls of numpy
FLOAT32_MAX = float(np.finfo(np.float32).max)
_RANGE = {
    "float64": float(np.finfo(np.float64).max),
    "float32": FLOAT32_MAX,
    "float16": float(np.finfo(np.float16).max),
    "bfloat16": float.fromhex("0x1.fep127"),
}


class Piece(NamedTuple):
    """The part of one tensor that lies in a slab: elements `start` to `stop` of the slab."""

    tensor: int
    start: int
    stop: int


class _Run(NamedTuple):
    """Neighbouring tensors of one dtype: flat elements `start` to `stop`, at `offset` in the raw model."""

    start: int
    stop: int
    dtype: str
    offset: int


@dataclass(frozen=True)
class FlatLayout:
    """Where the flat vector's elements lie in the tensors and in the raw bytes."""

    starts: tuple[int, ...]  # of the averaged tensors, and the vector's end
    runs: tuple[_Run, ...]

    @classmethod
    def of(cls, schema: Schema) -> "FlatLayout":
        starts = (0, *accumulate(spec.elements for spec in schema.averaged))
        runs: list[_Run] = []
        offset = 0
        for spec, start in zip(schema.averaged, starts, strict=False):
            if runs and runs[-1].dtype == spec.dtype:
                runs[-1] = runs[-1]._replace(stop=start + spec.elements)
            else:
                runs.append(_Run(start, start + spec.elements, spec.dtype, offset))
            offset += spec.stored_bytes
        return cls(starts, tuple(runs))

    @property
    def elements(self) -> int:
        return self.starts[-1]

    def slabs(self, elements: int = SLAB_ELEMENTS) -> Iterator[tuple[int, int]]:
        """(start, stop) of consecutive slabs of `elements` each, the last one shorter."""
        for start in range(0, self.elements, elements):
            yield start, min(start + elements, self.elements)

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """The tensors that have elements in the slab from `start` to `stop`, in order."""
        tensor = bisect_right(self.starts, start) - 1
        begin = start
        while begin < stop:
            end = min(self.starts[tensor + 1], stop)
            if end > begin:  # a tensor without elements has no piece
                yield Piece(tensor, begin - start, end - start)
            begin = end
            tensor += 1

    def stored(self, start: int, stop: int) -> Iterator[tuple[str, int, slice]]:
        """The slab's parts of one dtype each: the dtype, the offset in the raw model, the elements within the slab."""
        for run in self.runs:
            low, high = max(start, run.start), min(stop, run.stop)
            if low < high:
                offset = run.offset + (low - run.start) * _item_bytes(run.dtype)
                yield run.dtype, offset, slice(low - start, high - start)


def read_stored(model: Source, dtype: str, offset: int, elements: int, scratch: memoryview) -> npt.NDArray[Any]:
    """Elements of a raw model as they are stored: the dtype itself, or for bfloat16 its 16 bits as integers."""
    view = model.view(offset, elements * _item_bytes(dtype), scratch)
    return np.frombuffer(view, _numpy_dtype(dtype), elements)


def is_finite(values: npt.NDArray[Any], dtype: str) -> bool:
    if dtype == "bfloat16":
        return bool(((values & 0x7FFF) < 0x7F80).all())
    return bool(np.isfinite(values).all())


def add_difference(dtype: str, base: npt.NDArray[Any], difference: F32) -> npt.NDArray[Any]:
    """`base` + `difference` in the stored form of `dtype`, in new memory."""
    limit = _RANGE[dtype]
    with np.errstate(over="ignore"):
        total = _widened(dtype, base) + difference
    np.clip(total, -limit, limit, out=total)
    if dtype == "bfloat16":
        return round_to_bfloat16(total)
    return total.astype(_numpy_dtype(dtype), copy=False)


def take_difference(dtype: str, base: npt.NDArray[Any], trained: npt.NDArray[Any], out: F32) -> None:
    """`trained` − `base`, of stored forms of `dtype`, into `out`. Not finite where `trained` is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(out, _widened(dtype, trained) - _widened(dtype, base), casting="same_kind")


def widen_bfloat16(bits: npt.NDArray[np.uint16], out: F32) -> F32:
    """The float32 values of bfloat16 bits, exactly."""
    np.left_shift(bits, 16, out=out.view(np.uint32), dtype=np.uint32)
    return out


def round_to_bfloat16(values: F32) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bfloat16 values, ties to even; every NaN becomes 0x7FC0."""
    bits = values.view(np.uint32)
    odd = bits >> 16
    odd &= 1
    odd += 0x7FFF
    odd += bits  # cannot wrap but for a NaN with its sign set, which is replaced below
    odd >>= 16
    rounded = odd.astype(np.uint16)
    rounded[np.isnan(values)] = 0x7FC0
    return rounded


def write_stored(sink: Sink, offset: int, values: npt.NDArray[Any]) -> None:
    sink.write(offset, values.view(np.uint8).data)


def _widened(dtype: str, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if dtype == "bfloat16":
        return widen_bfloat16(stored, np.empty(stored.shape, np.float32))
    return stored.astype(np.float32) if dtype == "float16" else stored


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    return _NUMPY[dtype]


def _item_bytes(dtype: str) -> int:
    return _NUMPY[dtype].itemsize


_NUMPY: dict[str, np.dtype[Any]] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
}
