"""Exact weighted sums of float32 vectors, in 64-bit fixed point.

Decides the arithmetic of averaging: every value is rounded, once, to a multiple of 2^-F, to nearest, ties to even; from
there on everything is integers. So the sum has the same bits in any order, any grouping, any tree of partial sums
and any number of threads, and what was added can be taken out again without a trace.

The exponent F is chosen per tensor, the least that any update's largest value and weight ask for (`choose_exponent`):
a value times its weight stays below 2^49, sixteen such below 2^53, where float64 counts without gaps, and all
TERMS_MAX of them below 2^61, where int64 does. Even with the heaviest weights the unit is then 2^-28 of the tensor's
maximum or finer; the rounding of float32 is 2^-24 of the value.

Up to sixteen vectors are multiplied by their weights and added in one matrix product: its partial sums are integers
below 2^53, so whatever order or fused operations a BLAS uses, the result is the same. The product is taken in narrow
strips, which no BLAS spreads over threads: waiting for each other, those cost several times what they give here.
"""

import numpy as np
import numpy.typing as npt

from aggregation.tensors.flat import F32, SLAB_ELEMENTS
from protocol.errors import LocalProtocolError

WEIGHT_MAX = 2**19  # one participant's say; beyond half a million samples more data weighs no more
TERMS_MAX = 2**12  # updates in one round
ZERO_EXPONENT = -149  # of a tensor that is all zeros: below the smallest float32

_TERM_BITS = 49
_BATCH = 16
_STRIP = 256  # columns of one matrix product
_FLOAT64_INTEGERS_END = 2.0**53
_EXPONENT_MAX = 120  # 2^F must itself be a float32; tensors of values below 2^-72 are summed in fewer bits


def exponent_of(max_abs: float) -> int:
    """The least e with `max_abs` < 2^e, or ZERO_EXPONENT for 0."""
    return int(np.frexp(np.float64(max_abs))[1]) if max_abs else ZERO_EXPONENT


def choose_exponent(value_exponent: int, weight_max: int) -> int:
    """The F for values below 2^`value_exponent` in magnitude with weights of at most `weight_max`."""
    if not 1 <= weight_max <= WEIGHT_MAX:
        raise LocalProtocolError(f"A weight of {weight_max} is not in 1 to {WEIGHT_MAX}", remedy="cap the weights")
    return min(_TERM_BITS - weight_max.bit_length() - value_exponent, _EXPONENT_MAX)


class ExactSum:
    """Σ weight · value for vectors of `length` elements, in units of 2^-`exponents` (one F, or one per element).

    Every value added must lie below the bound that its F was chosen for.
    """

    def __init__(self, length: int, exponents: int | npt.NDArray[np.int16]) -> None:
        self.totals: npt.NDArray[np.int64] = np.zeros(length, np.int64)  # complete after `settle`
        self.weight = 0
        self.terms = 0
        self._is_flushed = False  # whether anything is in `totals`
        self._exponents = exponents
        self._scale = np.ldexp(np.float32(1), exponents)
        self._per_element = np.ndim(exponents) == 1
        self._block = min(length, SLAB_ELEMENTS)
        # A longer vector is multiplied block by block at once, as its blocks do not wait for further vectors.
        columns = -(-self._block // _STRIP) * _STRIP
        self._rows = np.zeros((_BATCH if length == self._block else 1, columns))
        self._weights = np.empty(len(self._rows))
        self._pending = 0
        self._scaled = np.empty(self._block, np.float32)
        self._product = np.empty(columns)
        self._integers = np.empty(self._block, np.int64)

    def restart(self, length: int, exponents: int | npt.NDArray[np.int16]) -> None:
        """Begin a new sum in the same memory, of at most as many elements as this one was made for (and one block)."""
        if length > self._block:
            raise LocalProtocolError(f"{length} elements do not fit {self._block}", remedy="make a new ExactSum")
        self.totals = np.zeros(length, np.int64)
        self.weight = self.terms = self._pending = 0
        self._is_flushed = False
        self._exponents = exponents
        self._scale = np.ldexp(np.float32(1), exponents)
        self._per_element = np.ndim(exponents) == 1

    def add(self, values: F32, weight: int) -> None:
        """Add `values` · `weight`. Raises LocalProtocolError for a weight beyond WEIGHT_MAX or too many terms."""
        if not 1 <= weight <= WEIGHT_MAX:
            raise LocalProtocolError(f"A weight of {weight} is not in 1 to {WEIGHT_MAX}", remedy="cap the weights")
        if self.terms >= TERMS_MAX:
            raise LocalProtocolError(f"More than {TERMS_MAX} updates in one sum", remedy="refuse the others")
        self._accumulate(values, weight)
        self.weight += weight
        self.terms += 1

    def subtract(self, values: F32, weight: int) -> None:
        """Take out again what `add` was given: afterwards all is as if it had never been added."""
        self._accumulate(values, -weight)
        self.weight -= weight
        self.terms -= 1

    def merge(self, other: "ExactSum") -> None:
        """Add another sum of vectors of the same length and exponents."""
        if len(self.totals) != len(other.totals) or not np.array_equal(self._exponents, other._exponents):
            raise LocalProtocolError("Sums of different exponents cannot be merged", remedy="choose them once a round")
        if self.terms + other.terms > TERMS_MAX:
            raise LocalProtocolError(f"More than {TERMS_MAX} updates in one sum", remedy="refuse the others")
        other.settle()
        self.totals += other.totals
        self._is_flushed = True
        self.weight += other.weight
        self.terms += other.terms

    def mean(self, divisor: float, out: F32) -> F32:
        """The sum divided by `divisor` (positive), rounded to float32, into `out`."""
        if self._is_flushed or not self._pending:
            self.settle()
            quotients = self.totals.astype(np.float64)
        else:  # of few vectors: the product is the sum, and its integers need not be made int64 and back
            quotients = self._multiplied(len(self.totals))
            quotients += 0.0  # no integer is -0.0
        quotients /= divisor
        quotients *= np.ldexp(1.0, np.negative(self._exponents))
        np.copyto(out, quotients, casting="same_kind")
        return out

    def settle(self) -> None:
        """Bring `totals` up to date."""
        if self._pending:
            self._flush(0, len(self.totals))

    def _accumulate(self, values: F32, weight: int) -> None:
        if values.shape != self.totals.shape:
            raise LocalProtocolError(f"{values.shape} values for {self.totals.shape}", remedy="give whole vectors")
        for start in range(0, len(values), self._block or 1):
            stop = min(start + self._block, len(values))
            self._stage(values[start:stop], self._scale[start:stop] if self._per_element else self._scale, weight)
            if self._pending == len(self._rows):
                self._flush(start, stop)

    def _stage(self, values: F32, scale: F32, weight: int) -> None:
        """Put the values' integer multiples of 2^-F into the next row: exact scaling, then one rounding."""
        scaled = self._scaled[: len(values)]
        np.multiply(values, scale, out=scaled)
        np.rint(scaled, out=scaled)
        np.copyto(self._rows[self._pending, : len(values)], scaled)
        self._weights[self._pending] = weight
        self._pending += 1

    def _flush(self, start: int, stop: int) -> None:
        product, integers = self._multiplied(stop - start), self._integers[: stop - start]
        self._pending = 0
        self._is_flushed = True
        np.copyto(integers, product, casting="unsafe")
        np.add(self.totals[start:stop], integers, out=self.totals[start:stop])

    def _multiplied(self, length: int) -> npt.NDArray[np.float64]:
        """Σ weight · row over the pending rows: integers, in memory that the next call uses again."""
        count, product = self._pending, self._product[:length]
        strips = -(-length // _STRIP)  # the last one may reach into columns of earlier vectors, which nobody reads
        by_strip = self._rows[:count, : strips * _STRIP].reshape(count, strips, _STRIP).transpose(1, 0, 2)
        np.matmul(
            self._weights[None, None, :count], by_strip, out=self._product[: strips * _STRIP].reshape(strips, 1, _STRIP)
        )
        # NaN compares false, so this also stops a value that is not finite.
        if not (product.min() > -_FLOAT64_INTEGERS_END and product.max() < _FLOAT64_INTEGERS_END):
            raise LocalProtocolError(
                "An update holds values beyond the bound that its sum was made for",
                remedy="check every update, and read the same bytes again that were checked",
            )
        return product
