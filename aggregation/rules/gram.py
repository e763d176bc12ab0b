"""Inner products of a round's differences, exact: what rules that look at distances decide by.

Decides that two differences are multiplied as what their norms are made of (aggregation.norms): whole multiples of a
power of two, of 18 bits in each block of NORM_BLOCK elements. A block's products add up to less than 2^53, where
float64 counts without gaps, so that whatever order, fused operations or BLAS a machine uses, the result is the same;
blocks are added as Python's integers. A difference's product with itself is its squared norm, to the bit. From here on
everything happens among N×N integers: what follows never reads the updates again before it sums them.

The differences are read slab by slab and once (twice where so many rows leave no room for whole blocks). Rows are
multiplied a group at a time in narrow strips, which no BLAS spreads over threads: waiting for each other, those cost
several times what they give.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement
from math import lcm

import numpy as np
import numpy.typing as npt

from aggregation.rules.rule import Rows, Slab, Spool
from aggregation.tensors.norms import NORM_BLOCK, NORM_UNIT_BITS, block_multiples, block_shift, max_bits

ROOM_BYTES = 64 * 1024 * 1024  # for one slab of all rows, in float64: whole blocks of up to 128 updates
SLAB_ELEMENTS_MIN = 4096  # with TERMS_MAX rows 128 MiB

_GROUP_ROWS = 50  # multiplied at a time …
_PRODUCT_STEPS = 50 * 50 * 128  # … and in strips of so many multiplications: fewer than a BLAS spreads over threads
_STRIPS = 32  # whose products lie in memory before they are added
_LIMB_BITS = 28

_F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gram:
    """N differences' inner products: `products[i][j]` times `unit`, which is positive."""

    products: list[list[int]]
    unit: Fraction

    def __len__(self) -> int:
        return len(self.products)

    def squared_distances(self) -> list[list[int]]:
        """Between every two differences, in the same unit. Never negative, for they are those of vectors."""
        squares = [row[index] for index, row in enumerate(self.products)]
        return [
            [one + other - 2 * product for other, product in zip(squares, row, strict=True)]
            for one, row in zip(squares, self.products, strict=True)
        ]

    def scaled(self, factors: Sequence[Fraction]) -> "Gram":
        """Of the differences times a factor each."""
        common = lcm(*(factor.denominator for factor in factors))
        whole = [int(factor * common) for factor in factors]
        products = [
            [product * one * other for product, other in zip(row, whole, strict=True)]
            for row, one in zip(self.products, whole, strict=True)
        ]
        return Gram(products, self.unit / common**2)

    def mixed(self, mixes: Sequence[Sequence[int]]) -> "Gram":
        """Of the means of the differences that each of `mixes` names, equally many in each."""
        chosen = np.zeros((len(mixes), len(self)))
        for row, mix in zip(chosen, mixes, strict=True):
            row[list(mix)] = 1
        products = [[0] * len(mixes) for _ in mixes]
        for shift, limb in _limbs(self.products):
            # At most 2^12 rows, so these sums of 28-bit limbs stay within 2^52: exact, in any order. (numpy's own
            # products of integers take fifty times as long, which a round of thousands would wait for.)
            for totals, sums in zip(products, (chosen @ limb @ chosen.T).astype(np.int64).tolist(), strict=True):
                for index, value in enumerate(sums):
                    totals[index] += value << shift
        return Gram(products, self.unit / len(mixes[0]) ** 2)


def gram_of(count: int, spool: Spool) -> Gram:
    """The inner products of the `count` rows of `spool`, of finite values below VALUE_END."""
    room = _Room(count)
    totals = [[0] * count for _ in range(count)]
    for block in spool.slabs(NORM_BLOCK):
        room.restart(spool, block)
        for slab in room.slabs(block):
            room.fill(spool.rows(slab), slab)
        room.add_to(totals)
    for one, other in combinations_with_replacement(range(count), 2):
        totals[other][one] = totals[one][other]
    return Gram(totals, Fraction(1, 4**NORM_UNIT_BITS))


class _Room:
    """One block of all rows as whole numbers, or as much of it as there is room for."""

    def __init__(self, count: int) -> None:
        fitting = ROOM_BYTES // (8 * count)
        self._elements = max(SLAB_ELEMENTS_MIN, min(NORM_BLOCK, 1 << fitting.bit_length() - 1))
        self._rows = np.zeros((count, self._elements))
        self._values = np.empty(NORM_BLOCK, np.float32)
        group = min(count, _GROUP_ROWS)
        self._strip = min(SLAB_ELEMENTS_MIN, 1 << (_PRODUCT_STEPS // group**2).bit_length() - 1)
        self._groups = [slice(start, start + _GROUP_ROWS) for start in range(0, count, _GROUP_ROWS)]
        self._products = np.zeros((count, count))
        self._shifts: list[int | None] = []

    def slabs(self, block: Slab) -> list[Slab]:
        starts = range(block.start, block.stop, self._elements)
        return [Slab(start, min(start + self._elements, block.stop)) for start in starts]

    def restart(self, spool: Spool, block: Slab) -> None:
        """Begin with a block. Where its rows do not fit as a whole, look at their largest values first."""
        self._products.fill(0.0)
        self._shifts = []
        if block.stop - block.start > self._elements:
            rows = spool.rows(block)
            for index in range(len(rows)):
                values = rows.read(index, self._values[: block.stop - block.start])
                self._shifts.append(block_shift(max_bits(values)))

    def fill(self, spooled: Rows, slab: Slab) -> None:
        """Take in a slab of the block."""
        length = slab.stop - slab.start
        strips = -(-length // self._strip)
        self._rows[:, length : strips * self._strip] = 0.0
        for index, row in enumerate(self._rows):
            values = spooled.read(index, self._values[:length])
            if len(self._shifts) == index:
                self._shifts.append(block_shift(max_bits(values)))
            shift = self._shifts[index]
            if shift is None:
                row[:length] = 0.0
            else:
                np.copyto(row[:length], block_multiples(values, shift, self._values))
        rows = self._rows[:, : strips * self._strip]
        by_strip = rows.reshape(len(rows), strips, self._strip).transpose(1, 0, 2)
        for start in range(0, strips, _STRIPS):
            part = by_strip[start : start + _STRIPS]
            for one, other in combinations_with_replacement(self._groups, 2):
                products = np.matmul(part[:, one], part[:, other].transpose(0, 2, 1))
                self._products[one, other] += products.sum(axis=0)  # whole numbers below 2^53 all along

    def add_to(self, totals: list[list[int]]) -> None:
        """Add the block's products to `totals`, from the diagonal on, in units of 4^-NORM_UNIT_BITS."""
        for one, row in enumerate(self._products.astype(np.int64).tolist()):
            first = self._shifts[one]
            if first is None:
                continue
            total, left = totals[one], 2 * NORM_UNIT_BITS - first
            for other in range(one, len(row)):
                second = self._shifts[other]
                if second is not None:
                    total[other] += row[other] << left - second


def _limbs(numbers: Sequence[Sequence[int]]) -> list[tuple[int, _F64]]:
    """Arrays of integers from 0 to 2^28, the last one's signed, and the places in bits by which they add up."""
    bits = max(abs(number).bit_length() for row in numbers for number in row)
    shifts = range(0, bits + 1, _LIMB_BITS)
    mask = (1 << _LIMB_BITS) - 1
    limbs = []
    for shift in shifts:
        last = shift + _LIMB_BITS > bits
        limbs.append(
            (shift, np.array([[n >> shift if last else n >> shift & mask for n in row] for row in numbers], np.float64))
        )
    return limbs
