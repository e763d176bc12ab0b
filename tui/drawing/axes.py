"""The axes of a drawing: where ticks stand and what is written at them, and which part of it is looked at. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui.drawing.words import duration_text

SPAN_LEAST = {"round": 2.0, "step": 4.0, "time": 2.0}  # what one can look at is at least so wide
CLOCK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`; two at least."""
    raw = (high - low) / max(count, 2)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    for step in (10 * magnitude, 5 * magnitude, 2 * magnitude, magnitude, magnitude / 2):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if step < raw * 1.6 and last > first:
            break
    return [index * step for index in range(first, last + 1)]


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """A tick's label with as many decimals as tell it from its neighbours."""
    step = ticks[1] - ticks[0]
    if max(abs(ticks[0]), abs(ticks[-1])) >= 1e5 or step < 1e-5:
        return f"{tick:.1e}"
    return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def place_ticks(axis: str, low: float, high: float, count: int) -> list[float]:
    """Marks along rounds or steps, whole numbers, or along time, at whole minutes or hours where these are passed."""
    if axis != "time":
        return [tick for tick in nice_ticks(low, high, count) if tick == int(tick) and low <= tick <= high]
    raw = (high - low) / max(count, 2)
    step = next((each for each in CLOCK_STEPS_S if each >= raw), None)
    if step is None:
        step = CLOCK_STEPS_S[-1] * math.ceil(raw / CLOCK_STEPS_S[-1])
    return [float(index * step) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def place_text(axis: str, place: float) -> str:
    """A place along an axis in words: a number of rounds or steps, or minutes and seconds since the run began."""
    if axis != "time":
        return f"{place:.0f}" if place == int(place) else f"{place:.1f}"
    return duration_text(round(place))


@dataclass(frozen=True, slots=True)
class Frame:
    """What of the curves is looked at: over which axis, from where to where (None: all there is), and the cursor."""

    axis: str = "round"
    low: float | None = None
    high: float | None = None
    cursor: float | None = None

    @property
    def whole(self) -> bool:
        return self.low is None or self.high is None

    def window(self, low: float, high: float) -> tuple[float, float]:
        """From where to where, of curves that go from `low` to `high`."""
        return (low, high) if self.low is None or self.high is None else (self.low, self.high)

    def zoomed(self, factor: float, low: float, high: float) -> "Frame":
        """`factor` times as much, about the cursor or the middle; everything when that is not less than all."""
        now_low, now_high = self.window(low, high)
        span = max((now_high - now_low) * factor, SPAN_LEAST[self.axis])
        if span >= high - low:
            return replace(self, low=None, high=None)
        centre = self.cursor if self.cursor is not None else (now_low + now_high) / 2
        share = (centre - now_low) / (now_high - now_low) if now_high > now_low else 0.5
        return self._at(centre - span * min(max(share, 0.0), 1.0), span, low, high)

    def panned(self, share: float, low: float, high: float) -> "Frame":
        """Moved by so much of what is looked at, not beyond the ends."""
        if self.low is None or self.high is None:
            return self
        span = self.high - self.low
        return self._at(self.low + span * share, span, low, high)

    def moved(self, step: int, places: Sequence[float]) -> "Frame":
        """The cursor on the next of `places`, which ascend, to the left or the right; at first on the last in sight.
        What is looked at follows it."""
        if not places:
            return self
        low, high = self.window(places[0], places[-1])
        seen = [place for place in places if low <= place <= high]
        if self.cursor is None:
            return replace(self, cursor=seen[-1] if seen else places[-1])
        least = (high - low) / 400 if step in (-1, 1) else (high - low) / 10  # what a key press visibly moves
        cursor = self.cursor
        if step > 0:
            cursor = next((place for place in places if place > cursor and place >= cursor + least), places[-1])
        elif step < 0:
            cursor = next(
                (place for place in reversed(places) if place < cursor and place <= cursor - least), places[0]
            )
        moved = replace(self, cursor=cursor)
        if self.low is not None and self.high is not None and not self.low <= cursor <= self.high:
            span = self.high - self.low
            moved = moved._at(cursor - span / 2, span, places[0], places[-1])
        return moved

    def _at(self, start: float, span: float, low: float, high: float) -> "Frame":
        start = min(max(start, low), max(high - span, low))
        return replace(self, low=start, high=start + span)


def nearest(place: float, places: Sequence[float]) -> float | None:
    """Which of `places` is nearest to `place`; None of none."""
    return min(places, key=lambda each: abs(each - place), default=None)
