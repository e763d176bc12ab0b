"""Norms of differences, and the whole numbers that they are made of.

Decides what a norm is: each block of NORM_BLOCK elements is rounded to multiples of a power of two that leaves its
largest value 18 bits, and products of these, integers of at most 2^36, are added below 2^53, where float64 has no gaps.
So no two CPUs can differ over who is within a bound, or near to whom. Against the true norm it is off by less than one
part in a thousand, however the values are chosen, and by far less for any honest update.
"""

from math import ldexp

import numpy as np
import numpy.typing as npt

from aggregation.tensors.exact_sum import exponent_of
from aggregation.tensors.flat import F32

NORM_BLOCK = 65_536  # elements; part of what a norm is, so it stays as it is
NORM_UNIT_BITS = 118  # norms are in units of 2^-118, and blocks of values below 2^-101 have norm 0

_NORM_BITS = 18
_NORM_EXPONENT_MIN = _NORM_BITS - NORM_UNIT_BITS
_DOT_ELEMENTS = 4096
_SIGN_MASK = 0x7FFFFFFF


def max_bits(values: F32) -> int:
    """The bits of the largest magnitude; from 0x7F800000 on where there is an infinity or a NaN.

    Magnitudes of floats order as their bits do. As signed integers the greatest is the largest positive value, as
    unsigned ones the largest negative value if there is any: two fast passes and none for `isnan`."""
    if not len(values):
        return 0
    positive = int(values.view(np.int32).max())
    negative = int(values.view(np.uint32).max())
    return max(positive, negative & _SIGN_MASK)


def exponent_of_bits(bits: int) -> int:
    """The least e such that the float32 of these bits is below 2^e in magnitude."""
    return exponent_of(float(np.uint32(bits).view(np.float32)))


def block_shift(bits: int) -> int | None:
    """The s such that a block of this largest magnitude counts as multiples of 2^-s; None where it counts as zeros."""
    exponent = exponent_of_bits(bits)
    return None if exponent < _NORM_EXPONENT_MIN else _NORM_BITS - exponent


def block_multiples(values: F32, shift: int, out: F32) -> F32:
    """`values` in whole multiples of 2^-`shift`, to nearest, ties to even."""
    multiples = np.multiply(values, np.float32(ldexp(1.0, shift)), out=out[: len(values)])
    return np.rint(multiples, out=multiples)


def norm_rooms(elements: int) -> tuple[F32, npt.NDArray[np.float64]]:
    """Memory for `block_norm_squared` of blocks of up to so many elements."""
    return np.empty(elements, np.float32), np.empty(elements)


def block_norm_squared(values: F32, bits: int, room: F32, wide_room: npt.NDArray[np.float64]) -> int:
    """A block's squared norm, in units of 4^-NORM_UNIT_BITS; `bits` is its largest magnitude, of a finite value below
    VALUE_END."""
    shift = block_shift(bits)
    if shift is None:
        return 0
    wide = wide_room[: len(values)]
    np.copyto(wide, block_multiples(values, shift, room))
    # Rows this short are not spread over threads, which would cost more than they give.
    whole = len(wide) // _DOT_ELEMENTS * _DOT_ELEMENTS
    rows, rest = wide[:whole].reshape(-1, _DOT_ELEMENTS), wide[whole:]
    return int(np.vecdot(rows, rows).sum() + np.dot(rest, rest)) << 2 * (NORM_UNIT_BITS - shift)
