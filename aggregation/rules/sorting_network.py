"""Sorting networks: which pairs of values to compare, whatever the values are, to have some of them by rank.

Decides the construction: Batcher's merge exchange (Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2M),
which sorts any number of values, without the comparators that no wanted rank depends on. A comparator that matters by
one of its outputs alone is told so. Nothing here depends on data, so the same steps can be taken with whole arrays.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

_NETWORKS_KEPT = 16  # a run needs one; each is some kilobytes


class Comparator(NamedTuple):
    """Puts the lesser of the values at `low` and `high` at `low` and the greater at `high`, where they are wanted."""

    low: int
    high: int
    lesser: bool
    greater: bool


@lru_cache(_NETWORKS_KEPT)
def network(count: int, ranks: tuple[int, ...]) -> tuple[Comparator, ...]:
    """Comparators, in order, after which place r of `count` values holds the one of rank r, for every r in `ranks`.

    Ranks count from 0, the least. What the other places hold is undefined."""
    return tuple(_without_dead(list(_merge_exchange(count)), ranks))


def _merge_exchange(count: int) -> Iterator[tuple[int, int]]:
    """The pairs of places that algorithm M compares, in order."""
    top = 1 << max(count - 1, 1).bit_length() - 1  # the greatest power of two below `count`, at least 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            for place in range(count - d):
                if place & p == r:
                    yield place, place + d
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1


def _without_dead(pairs: Sequence[tuple[int, int]], ranks: Sequence[int]) -> list[Comparator]:
    """The pairs that the `ranks` depend on: found from the end, as what is wanted there wants what made it."""
    wanted = set(ranks)
    kept: list[Comparator] = []
    for low, high in reversed(pairs):
        if low in wanted or high in wanted:
            kept.append(Comparator(low, high, low in wanted, high in wanted))
            wanted |= {low, high}
    return kept[::-1]
