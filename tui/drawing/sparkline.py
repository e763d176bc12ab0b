"""Small curves out of block characters: one row of eight levels, or several rows. Where nothing is known it is blank.

A line's points are (time, value), times in any unit that grows, in their order.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

BLOCKS = "▁▂▃▄▅▆▇█"
LEVELS = len(BLOCKS)
# A value stands until the next one, but no longer than so many of the line's usual intervals: then nobody knows.
STANDS_FOR = 2.5
STRETCH_LEAST = 1e-9  # of time in a column: no clock tells less, and by far less one cannot divide

Points = Sequence[tuple[float, float]]
Values = Sequence[float | None]


def columns(points: Points, start: float, end: float, width: int) -> list[float | None]:
    """`width` stretches of the time from `start` to `end`: in each the mean of its points, or what still stands."""
    if width <= 0 or (size := (end - start) / width) < STRETCH_LEAST:
        return [None] * max(width, 0)
    sums = [[0.0, 0] for _ in range(width)]
    for time, value in points:
        at = math.ceil((time - start) / size) - 1  # a stretch ends with its last moment, so the newest has its place
        if 0 <= at < width and math.isfinite(value):
            sums[at][0] += value
            sums[at][1] += 1
    known: list[float | None] = [total / count if count else None for total, count in sums]
    return _held(known, points, start, size)


def _held(known: list[float | None], points: Points, start: float, size: float) -> list[float | None]:
    """Fill what lies between two points that follow each other as closely as this line's points do."""
    times = [time for time, _ in points]
    gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    stands = STANDS_FOR * median(gaps) if gaps else 0.0
    newest, last = 0, None
    for at, value in enumerate(known):
        while newest < len(times) and times[newest] <= start + (at + 1) * size:
            newest, last = newest + 1, points[newest][1]
        known_at = times[newest - 1] if newest else -math.inf
        if value is None and last is not None and start + (at + 1) * size - known_at <= stands:
            known[at] = last
    return known


def sparkline(values: Values, low: float, high: float) -> str:
    """One row: `low` is the lowest block, `high` the full one; what lies beyond is drawn at the edge."""
    return "".join(" " if value is None else BLOCKS[_level(value, low, high, LEVELS) - 1] for value in values)


def tall_sparkline(values: Values, low: float, high: float, height: int) -> list[str]:
    """The same in `height` rows, the uppermost first."""
    levels = [0 if value is None else _level(value, low, high, LEVELS * height) for value in values]
    rows = []
    for row in range(height - 1, -1, -1):
        filled = [min(max(level - LEVELS * row, 0), LEVELS) for level in levels]
        rows.append("".join(BLOCKS[part - 1] if part else " " for part in filled))
    return rows


def _level(value: float, low: float, high: float, levels: int) -> int:
    """From 1 to `levels`: a value that is known is always seen."""
    share = (value - low) / (high - low) if high > low else 0.0
    return 1 + round(min(max(share, 0.0), 1.0) * (levels - 1))
