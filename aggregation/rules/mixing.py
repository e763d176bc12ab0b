"""Nearest-neighbour mixing, before another rule: every update becomes the mean of those nearest to it.

NNM (arXiv:2302.01772) makes what honest nodes sent alike, whatever their data, so that a rule after it tells liars from
them more easily. Decides that an update is mixed with its n − f nearest, itself among them, by the Gram matrix; of two
that are as near, the first by name.

For a rule that sums, mixing changes the weights alone. For one that looks at coordinates the means themselves are
needed: multiples of a power of two, 39 bits or more of the largest value that enters, added without rounding in one
product of matrices, then divided.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from aggregation.rules.gram import Gram
from aggregation.rules.rule import Candidate, Rows, Slab
from aggregation.rules.sums import Shares
from aggregation.tensors.exact_sum import ZERO_EXPONENT
from aggregation.tensors.flat import F32, FlatLayout
from protocol.manifest.defences import byzantine_count

_SUM_BITS = 53  # what float64 counts without gaps
_COLUMNS = 2048  # mixed at a time: of fifty rows as much as a core's cache holds
_GROUP_ROWS = 64  # of one product
_PRODUCT_STEPS = 64**3  # its multiplications: fewer than a BLAS would spread over threads


def nearest(gram: Gram, share: float) -> list[tuple[int, ...]]:
    """For each update those it is mixed with, in order: all but the assumed liars, nearest first."""
    taken = len(gram) - byzantine_count(share, len(gram))
    mixes = []
    for own, row in enumerate(gram.squared_distances()):
        order = sorted(range(len(row)), key=lambda index: (row[index], index != own, index))
        mixes.append(tuple(sorted(order[:taken])))
    return mixes


def unmixed(wanted: Shares, mixes: Sequence[Sequence[int]]) -> Shares:
    """Shares of the updates that make what was wanted of their mixes."""
    shares: list[int | Fraction] = [0] * len(mixes)
    for share, mix in zip(wanted.shares, mixes, strict=True):
        if share:
            for index in mix:
                shares[index] += share
    total = None if wanted.total is None else wanted.total * len(mixes[0])
    aside = tuple("nothing of it is in the mixes that the rule took" for _ in mixes)
    return Shares(tuple(shares), total, aside, wanted.stats, wanted.rounded_down)


class Mixer:
    """Mixes the rows of slabs. One per thread, as it reuses its memory."""

    def __init__(self, layout: FlatLayout, candidates: Sequence[Candidate], mixes: Sequence[Sequence[int]]) -> None:
        self._layout = layout
        self._mixes = mixes
        self._exponents = [candidate.checked.value_exponents for candidate in candidates]
        self._whole = np.zeros((len(candidates), _COLUMNS))

    def mixed(self, slab: Slab, rows: Rows) -> Rows:
        count, length = len(rows), slab.stop - slab.start
        values = np.empty((count, length), np.float32)
        for row, index in zip(values, range(count), strict=True):
            np.copyto(row, rows.read(index, row))
        means = np.empty_like(values)
        for tensor, start, stop in self._layout.pieces(*slab):
            for bound, mixers in self._by_bound(tensor).items():
                self._mix(values[:, start:stop], mixers, bound, means[:, start:stop])
        return MemoryRows(means)

    def _by_bound(self, tensor: int) -> dict[int, list[int]]:
        """The mixes by the least e such that all that enters is below 2^e: a liar's huge values blur its own alone."""
        bounds: dict[int, list[int]] = {}
        for mixer, mix in enumerate(self._mixes):
            bounds.setdefault(max(self._exponents[index][tensor] for index in mix), []).append(mixer)
        return bounds

    def _mix(self, values: npt.NDArray[np.float32], mixers: Sequence[int], bound: int, out: F32) -> None:
        """The mixes `mixers` of rows of one tensor, all that enters being below 2^`bound`."""
        taken = len(self._mixes[0])
        if bound == ZERO_EXPONENT:
            out[mixers] = 0.0
            return
        members = sorted({index for mixer in mixers for index in self._mixes[mixer]})
        chosen = np.zeros((len(mixers), len(members)))
        for row, mixer in zip(chosen, mixers, strict=True):
            row[np.searchsorted(members, self._mixes[mixer])] = 1.0
        exponent = _SUM_BITS - 1 - taken.bit_length() - bound
        for start in range(0, values.shape[1], _COLUMNS):
            part = values[members, start : start + _COLUMNS]
            whole = self._whole[: len(members), : part.shape[1]]
            np.copyto(whole, part)
            np.multiply(whole, 2.0**exponent, out=whole)
            np.rint(whole, out=whole)
            sums = self._sums(chosen, part.shape[1])
            out[mixers, start : start + _COLUMNS] = np.divide(sums, taken * 2.0**exponent, out=sums)

    def _sums(self, chosen: npt.NDArray[np.float64], columns: int) -> npt.NDArray[np.float64]:
        """`chosen` @ the first `columns` of the room, whole numbers whose sums stay below 2^53, so that no order of
        adding makes a difference."""
        mixers, members = chosen.shape
        strip = _strip(min(mixers, _GROUP_ROWS) * members)
        strips = -(-columns // strip)
        by_strip = self._whole[:members, : strips * strip].reshape(members, strips, strip).transpose(1, 0, 2)
        product = np.empty((mixers, strips * strip))
        into = product.reshape(mixers, strips, strip).transpose(1, 0, 2)
        for start in range(0, mixers, _GROUP_ROWS):
            rows = slice(start, start + _GROUP_ROWS)
            np.matmul(chosen[None, rows], by_strip, out=into[:, rows])
        return product[:, :columns]


def _strip(rows: int) -> int:
    """How many columns of a product of `rows` multiplications each no BLAS spreads over threads."""
    return max(1, min(_COLUMNS, 1 << (_PRODUCT_STEPS // rows).bit_length() - 1))


class MemoryRows:
    """Rows that lie in memory."""

    def __init__(self, rows: npt.NDArray[np.float32]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int, out: F32) -> F32:
        row: F32 = self._rows[index]
        row.flags.writeable = False
        return row
