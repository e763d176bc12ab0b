"""How a flat float32 vector is coded in an update or a checkpoint, and the layout of such a blob.

Decides that every codec works block by block: a vector's code is the blocks' codes one after another, each of a length
known beforehand. So a slab of any update can be decoded alone, a blob's length is checked before anything is read, and
no byte of it says where anything lies. Coding may lose precision; decoding is exact and the same on every CPU.

A difference blob is the coded averaged tensors, followed by the counters as they are stored in the model.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from aggregation.flat import F32, round_to_bfloat16, widen_bfloat16
from aggregation.schema import Buffer, Schema
from protocol.errors import FednodeError


class Codec(ABC):
    """One way to write float32 values. New ones need a name, a block and the three methods, and a place in CODECS."""

    name: ClassVar[str]
    block: ClassVar[int] = 1  # elements coded together, a power of two of at most 4,096; slabs begin at multiples of it

    @abstractmethod
    def coded_bytes(self, elements: int) -> int:
        """The exact length of the code of `elements` values; for a multiple of `block`, also where the rest begins."""

    @abstractmethod
    def encode(self, values: F32) -> bytes:
        """The code of `values`, which begin at a multiple of `block`. Never raises for NaN: the checks look for it."""

    @abstractmethod
    def decode(self, coded: Buffer, out: F32) -> F32:
        """The `len(out)` values in `coded`: `out` itself, or a read-only view of `coded`."""


class Float32(Codec):
    """The values as they are, little-endian."""

    name = "fp32"

    def coded_bytes(self, elements: int) -> int:
        return 4 * elements

    def encode(self, values: F32) -> bytes:
        return values.astype("<f4", copy=False).tobytes()

    def decode(self, coded: Buffer, out: F32) -> F32:
        return np.frombuffer(coded, "<f4", len(out))


class BFloat16(Codec):
    """The upper half of a float32, rounded to nearest, ties to even: 8 bits of precision, float32's range."""

    name = "bf16"

    def coded_bytes(self, elements: int) -> int:
        return 2 * elements

    def encode(self, values: F32) -> bytes:
        return round_to_bfloat16(values).astype("<u2", copy=False).tobytes()

    def decode(self, coded: Buffer, out: F32) -> F32:
        return widen_bfloat16(np.frombuffer(coded, "<u2", len(out)), out)


CODECS: dict[str, Codec] = {codec.name: codec for codec in (Float32(), BFloat16())}


def codec_named(name: str) -> Codec:
    """Raises FednodeError, naming the known ones, when there is no such codec."""
    codec = CODECS.get(name)
    if codec is None:
        raise FednodeError(f"There is no codec {name!r}", remedy=f"choose one of {', '.join(CODECS)}")
    return codec


def difference_bytes(schema: Schema, codec: Codec) -> int:
    """The exact length of an update's or a checkpoint's difference blob."""
    return counters_position(schema, codec) + schema.counters_bytes


def counters_position(schema: Schema, codec: Codec) -> int:
    """Where in a difference blob the counters begin."""
    return codec.coded_bytes(schema.averaged_elements)
