"""The state along the canonical order, remembered at a few points so that one more operation costs little.

States are values that share what did not change. The points stand close together near the end and ever further apart
towards the beginning: an operation that belongs k places before the end costs about 2k steps, however long the log.
"""

from collections.abc import Callable, Sequence

from protocol.group.state import GroupState
from protocol.keys import GroupId

_POINTS_MAX = 48  # thinned to about 2 for every doubling of the distance from the end; a state may take 1 MB


class GroupHistory:
    """Caches the fold over an order that grows by insertion. The owner says where it changed."""

    def __init__(self, group: GroupId) -> None:
        self._points: list[tuple[int, GroupState]] = [(0, GroupState(group))]  # (operations folded, state then)

    def inserted_at(self, position: int) -> None:
        """The order has a new operation at index `position`: what was folded beyond is void."""
        while self._points[-1][0] > position:
            self._points.pop()

    def state(self, length: int, step: Callable[[GroupState, int], GroupState]) -> GroupState:
        """The state after all `length` operations of the order. `step` gives the state after one more, by its index."""
        folded, state = self._points[-1]
        for index in range(folded, length):
            state = step(state, index)
            self._points.append((index + 1, state))
            if len(self._points) > _POINTS_MAX:
                self._points = _thinned(self._points, index + 1)
        return state

    def copy(self) -> "GroupHistory":
        other = GroupHistory(self._points[0][1].group_id)
        other._points = list(self._points)
        return other


def _thinned(points: Sequence[tuple[int, GroupState]], end: int) -> list[tuple[int, GroupState]]:
    """The first and the last point of every span of distances [2^k, 2^(k+1)) from the end; the ends of all, too."""
    spans: dict[int, list[tuple[int, GroupState]]] = {}
    for point in points:
        spans.setdefault((end - point[0]).bit_length(), []).append(point)
    kept = {point[0]: point for span in spans.values() for point in (span[0], span[-1])}
    kept[points[0][0]] = points[0]
    return sorted(kept.values(), key=lambda point: point[0])
