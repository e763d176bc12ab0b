"""The rules that look at one coordinate at a time: the median and the trimmed mean.

Decides that both are one thing: of each coordinate's N values, in order, some of the least and as many of the greatest
are left out, and the others are added in float64, one after another from the least to the greatest, divided by how many
they are, and rounded to float32. The trimmed mean leaves out floor(byzantine_share · N) at either end; the median all
but the middle value, or the middle two. So the result is a function of the set of values: no order of updates, slab,
thread or CPU changes a bit. Zeros count as +0.0, as -0.0 and +0.0 have no order.

Every candidate has one voice: what it claims to have trained on weighs nothing.

How the order is found makes no difference to the bits. Up to NETWORK_ROWS_MAX updates, whole rows are compared by a
sorting network, a few elementwise operations for each comparator; for more, coordinates are sorted one by one.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from aggregation.rules.rule import Candidate, Plan, Rows, Rule, Slab, SlabCombiner, Spool, checked_share
from aggregation.rules.sorting_network import network
from aggregation.tensors.flat import F32, SLAB_ELEMENTS, FlatLayout
from protocol.errors import LocalProtocolError
from protocol.manifest.defences import byzantine_count

# Where the network's comparators, which grow as N·log²N, begin to cost more than sorting. Measured with AVX-512: at
# about 200 with a sort that uses it; at 60 on a CPU whose sort was relatively faster.
NETWORK_ROWS_MAX = 128
ROOM_ELEMENTS = 2**21  # of all rows of a slab together, a thread: 8 MiB, which a core's share of the caches about holds
SLAB_ELEMENTS_MIN = 4096  # the least that a plan may ask for; reached at 512 updates, so 4,096 updates take 64 MiB
SORTED_TOGETHER = 512  # coordinates that are turned into rows and sorted at a time

_F64 = npt.NDArray[np.float64]


class CoordinateMedian(Rule):
    """The median of each coordinate (arXiv:1803.01498); for an even number the mean of the middle two."""

    name = "median"

    def plan(self, layout: FlatLayout, candidates: Sequence[Candidate], spool: Spool) -> Plan:
        return RankMean(len(candidates), (len(candidates) - 1) // 2)


class TrimmedMean(Rule):
    """The mean of each coordinate without its `byzantine_share` least and greatest values (arXiv:1803.01498)."""

    name = "trimmed_mean"
    parameter_names = ("byzantine_share",)

    def __init__(self, weighting: str, parameters: Mapping[str, float]) -> None:
        super().__init__(weighting, parameters)
        self._share = checked_share(parameters)

    def plan(self, layout: FlatLayout, candidates: Sequence[Candidate], spool: Spool) -> Plan:
        return RankMean(len(candidates), byzantine_count(self._share, len(candidates)))


class RankMean(Plan):
    """The mean of each coordinate's values without the `trimmed` least and the `trimmed` greatest."""

    def __init__(self, count: int, trimmed: int) -> None:
        """`trimmed` is less than half of `count`."""
        self.weights = (1,) * count
        self.slab_elements = slab_elements(count)
        self._kept = range(trimmed, count - trimmed)

    def combiner(self) -> SlabCombiner:
        count, kept = len(self.weights), self._kept
        room = np.empty((count, self.slab_elements), np.float32)
        means = _by_network(count, kept) if count <= NETWORK_ROWS_MAX else _by_sorting(count, kept)

        def combine(slab: Slab, rows: Rows, out: F32) -> None:
            columns = room[:, : slab.stop - slab.start]
            for index, column in enumerate(columns):
                np.add(rows.read(index, column), np.float32(0.0), out=column)  # -0.0 + 0.0 is +0.0
            with np.errstate(invalid="ignore"):  # what is not finite is caught below
                means(columns, out)
            if not np.isfinite(out).all():
                raise LocalProtocolError(
                    "An update holds values that are not finite, which the checks let nobody do",
                    remedy="check every update, and read the same bytes again that were checked",
                )

        return combine


def slab_elements(count: int) -> int:
    """A power of two of elements, such that `count` rows of them fit the room."""
    fitting = ROOM_ELEMENTS // count
    return max(SLAB_ELEMENTS_MIN, min(SLAB_ELEMENTS, 1 << fitting.bit_length() - 1))


def _by_network(count: int, kept: range) -> Callable[[npt.NDArray[np.float32], F32], None]:
    comparators = network(count, tuple(kept))
    spare_room = np.empty(slab_elements(count), np.float32)
    total_room = np.empty(slab_elements(count), np.float64)

    def means(columns: npt.NDArray[np.float32], out: F32) -> None:
        places, spare = list(columns), spare_room[: len(out)]
        for low, high, lesser, greater in comparators:
            one, other = places[low], places[high]
            if lesser and greater:
                np.minimum(one, other, out=spare)
                np.maximum(one, other, out=other)
                places[low], spare = spare, one
            elif lesser:
                np.minimum(one, other, out=one)
            else:
                np.maximum(one, other, out=other)
        _mean([places[rank] for rank in kept], total_room[: len(out)], out)

    return means


def _by_sorting(count: int, kept: range) -> Callable[[npt.NDArray[np.float32], F32], None]:
    turned_room = np.empty((SORTED_TOGETHER, count), np.float32)
    total_room = np.empty(SORTED_TOGETHER, np.float64)

    def means(columns: npt.NDArray[np.float32], out: F32) -> None:
        for start in range(0, len(out), SORTED_TOGETHER):
            part = out[start : start + SORTED_TOGETHER]
            turned = turned_room[: len(part)]
            np.copyto(turned, columns[:, start : start + len(part)].T)
            turned.sort(axis=1)
            _mean([turned[:, rank] for rank in kept], total_room[: len(part)], part)
            part[np.isnan(turned[:, -1])] = np.nan  # NaN sorts last, from where it would be trimmed without a trace

    return means


def _mean(ranked: Sequence[F32], total: _F64, out: F32) -> None:
    """The mean of arrays, added in this order in float64, into `out`."""
    np.copyto(total, ranked[0])
    for values in ranked[1:]:
        np.add(total, values, out=total)
    np.divide(total, len(ranked), out=total)
    np.copyto(out, total, casting="same_kind")
