"""Where signs stand: on a ring, or in the rows of a field, and which one is next to another. Pure geometry.

A spot is a cell, its column and its row. A cell is twice as high as wide.
"""

import math
from collections.abc import Mapping, Sequence

Spot = tuple[int, int]

STEP = 2  # columns from one sign of a field to the next
ASIDE = 2.0  # how much more a cell aside counts than a cell ahead, when the next one in a direction is looked for


def ring(count: int, width: int, height: int, label: int) -> list[Spot]:
    """Spots on an ellipse, the first at the top, clockwise, with room for `label` cells beside it. Empty where two of
    them would touch."""
    if count == 1:
        return [(width // 2, height // 2)]
    across = max(width / 2 - min(label + 2, width / 3), 1.0)
    down = max((height - 1) / 2, 1.0)
    spots = []
    for index in range(count):
        angle = 2 * math.pi * index / count - math.pi / 2
        x = (width - 1) / 2 + across * math.cos(angle)
        y = (height - 1) / 2 + down * math.sin(angle)
        spots.append((round(x), round(y)))
    beside = {(x + 1, y) for x, y in spots}
    return spots if count == 2 or (len(set(spots)) == count and not beside & set(spots)) else []


def rows_apart(sizes: Sequence[int], left: int, width: int, height: int) -> list[Spot]:
    """Spots in rows from column `left` on, for groups of the given sizes, each of which begins a row of its own. Empty
    where there are too few rows for that."""
    columns, spots, first = max((width - left) // STEP, 1), [], 0
    for size in sizes:
        spots += [(left + STEP * (index % columns), first + index // columns) for index in range(size)]
        first += -(-size // columns)
    return spots if first <= height else []


def rows_filled(count: int, width: int, height: int) -> list[Spot]:
    """Spots in rows without a gap, as many of `count` as there is room for."""
    columns = max((width - 1) // STEP, 1)
    return [(1 + STEP * (index % columns), index // columns) for index in range(min(count, columns * height))]


def nearest_towards(spots: Mapping[str, Spot], start: str, dx: int, dy: int) -> str:
    """The nearest spot's name in a direction (dx or dy is 1 or -1, the other 0); `start` where there is none."""
    if start not in spots:
        return start
    x0, y0 = spots[start]

    def away(name: str) -> float:
        x, y = spots[name][0] - x0, 2 * (spots[name][1] - y0)
        ahead, aside = (x * dx + y * dy), abs(x * dy) + abs(y * dx)
        return ahead + ASIDE * aside if ahead > 0 else math.inf

    best = min(spots, key=away)
    return best if away(best) < math.inf else start
