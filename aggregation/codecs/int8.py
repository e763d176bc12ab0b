"""A codec of a byte a value: multiples of a power of two, which each block of 256 values has of its own.

Scales that are powers of two make decoding exact, and so the exact sum exact over what was sent. They cost up to a bit
of precision against the best scale of a block (relative error 1.6e-2 instead of 1.1e-2 on a heavy-tailed difference).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from aggregation.codecs.codec import Codec
from aggregation.tensors.flat import F32
from aggregation.tensors.schema import Buffer

BLOCK = 256
MULTIPLE_MAX = 127
_NOT_FINITE = 255  # the scale byte of a block that holds a NaN or an infinity: all of it decodes to NaN
# A block with scale byte b has the unit −2^(b − 133): b is the exponent field of the least float32 that would be too
# large for 127 units, or the one below it. From 7 on both the unit and its inverse are normal numbers.
_SCALE_MIN, _SCALE_MAX, _BIAS = 7, 254, 133
_UNITS = np.ldexp(-1.0, np.arange(256) - _BIAS).astype(np.float32)
_UNITS[_NOT_FINITE] = np.nan
_INVERSES = np.ldexp(-1.0, _BIAS - np.arange(256).clip(_SCALE_MIN, _SCALE_MAX)).astype(np.float32)
# 127.5 units, from where on a value would round to 128, are 0x7F0000 in the mantissa: so much less than the next power.
_ROUNDS_UP = 0x010000
_INFINITY_BITS = 0x7F800000
_SIGN_MASK = 0x7FFFFFFF
# Adding it rounds to a whole number, ties to even, and leaves that in the lowest byte, as two's complement.
_MAGIC = np.float32(1.5 * 2**23)


class Int8(Codec):
    """Of each block of 256 values (the last one shorter) a byte for the unit, and a byte for each value's multiple of
    it, from −127 to 127, to nearest, ties to even. Every code of the right length means something.

    Units are negative: a multiple of zero is then −0.0, which leaves every bit of what it is added to."""

    name = "int8"
    block = BLOCK
    needs_feedback = True

    def coded_bytes(self, elements: int) -> int:
        return elements + -(-elements // BLOCK)

    def encode(self, values: F32) -> bytes:
        coded = np.empty(self.coded_bytes(len(values)), np.uint8)
        for rows, part in zip(_rows(values, BLOCK), _rows(coded, BLOCK + 1), strict=True):
            _encode_rows(rows, part)
        return coded.tobytes()

    def decode(self, coded: Buffer, out: F32) -> F32:
        octets = np.frombuffer(coded, np.uint8, self.coded_bytes(len(out)))
        for rows, part in zip(_rows(octets, BLOCK + 1), _rows(out, BLOCK), strict=True):
            part[...] = rows[:, 1:].view(np.int8)
            # The greatest unit times −128, which no encoder writes, is an infinity, and seen by the checks as such.
            with np.errstate(over="ignore"):
                np.multiply(part, _UNITS[rows[:, 0], None], out=part)
        return out


def _rows(array: npt.NDArray[Any], length: int) -> list[npt.NDArray[Any]]:
    """`array` as rows of `length`, and as one more of what is left; neither where there is nothing for it."""
    whole = len(array) // length * length
    return [rows for rows in (array[:whole].reshape(-1, length), array[None, whole:]) if rows.size]


def _encode_rows(values: F32, coded: npt.NDArray[np.uint8]) -> None:
    greatest = _greatest_bits(values)
    scales = ((greatest + _ROUNDS_UP) >> 23).clip(_SCALE_MIN, _SCALE_MAX)
    multiples = np.empty_like(values)
    with np.errstate(invalid="ignore", under="ignore"):
        np.multiply(values, _INVERSES[scales, None], out=multiples)
    if greatest.max() + _ROUNDS_UP >= _INFINITY_BITS:  # a value at the very end of the range, or beyond it
        np.clip(multiples, -MULTIPLE_MAX, MULTIPLE_MAX, out=multiples)
        broken = greatest >= _INFINITY_BITS
        multiples[broken] = 0
        scales[broken] = _NOT_FINITE
    multiples += _MAGIC
    coded[:, 0] = scales
    coded[:, 1:] = multiples.view(np.uint32).astype(np.uint8)


def _greatest_bits(values: F32) -> npt.NDArray[np.intp]:
    """Of each row the bits of the largest magnitude: floats of one sign order as their bits do."""
    positive = values.view(np.int32).max(axis=1).clip(0)
    negative = values.view(np.uint32).max(axis=1) & _SIGN_MASK  # of a row without negative ones, what `positive` is
    greatest: npt.NDArray[np.intp] = np.maximum(positive, negative).astype(np.intp)
    return greatest
