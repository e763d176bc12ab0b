"""Events with their times, and the head that plays them: at a speed, held still, forwards, from any place. Pure.

Times go in as seconds that have passed and come out as events; nobody waits here.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tui.facts.fields import Json, text

SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0)
SEEK_PART = 0.05  # of the whole, for one key: twenty keys go from end to end
REWOUND: Json = {"type": "rewound"}


class Moment(NamedTuple):
    """An event, and when it is played, in seconds from the tape's beginning."""

    at: float
    event: Json


@dataclass(frozen=True, slots=True)
class Tape:
    """What is played: moments in the order of their times, the first a snapshot at 0."""

    title: str
    moments: Sequence[Moment]
    length_s: float


class Head:
    """Where a tape is being played, and how fast. Begins at the beginning, and stays at the end."""

    def __init__(self, tape: Tape, speed: float = 1.0) -> None:
        self.tape = tape
        self.speed = speed
        self.is_held = False
        self.position = 0.0
        self._times = [moment.at for moment in tape.moments]
        self._told = 0  # how many moments have been played

    @property
    def is_ended(self) -> bool:
        return self.position >= self.tape.length_s

    def advance(self, seconds: float) -> list[Json]:
        """So many seconds have passed for those who watch: what happens in them."""
        if not self.is_held:
            self.position = min(self.position + seconds * self.speed, self.tape.length_s)
        begin, self._told = self._told, bisect_right(self._times, self.position)
        return [moment.event for moment in self.tape.moments[begin : self._told]]

    def seek(self, position: float) -> list[Json]:
        """Go to this place. Gives what makes everything as it was then, whatever was told before."""
        self.position = min(max(position, 0.0), self.tape.length_s)
        self._told = bisect_right(self._times, self.position)
        return [REWOUND, *still_true(self.tape.moments[: self._told])]

    def step(self, parts: int) -> list[Json]:
        """Go so many twentieths of the whole on, or back."""
        return self.seek(self.position + parts * SEEK_PART * self.tape.length_s)

    def change_speed(self, step: int) -> None:
        """To the next speed above (`step` 1) or below (-1), as far as there are such."""
        speeds = [speed for speed in SPEEDS if (speed > self.speed if step > 0 else speed < self.speed)]
        self.speed = (min(speeds) if step > 0 else max(speeds)) if speeds else self.speed

    @property
    def until_next_s(self) -> float | None:
        """In how many seconds of those who watch something happens; None while it is held, or at its end."""
        if self.is_held or self.is_ended:
            return None
        next_at = self._times[self._told] if self._told < len(self._times) else self.tape.length_s
        return max(next_at - self.position, 0.0) / self.speed

    def told(self) -> Json:
        """How it stands, as an event."""
        return {
            "type": "played",
            "at_s": self.position,
            "length_s": self.tape.length_s,
            "speed": self.speed,
            "is_held": self.is_held,
        }


def still_true(moments: Sequence[Moment]) -> list[Json]:
    """Of events that happened one after another, those that a later one has not made void."""
    facts: dict[object, Json] = {}
    for number, (_, event) in enumerate(moments):
        kind = text(event, "type")
        match kind:
            case "transfer" | "note" | "alive" | "dropped":
                continue  # over in a moment
            case "snapshot":
                facts = {key: fact for key, fact in facts.items() if isinstance(key, int)}
                facts["snapshot"] = event
            case "metrics" | "log" | "logs":
                facts[number] = event
            case _:
                key = (kind, _id_of(event, kind))
                facts.pop(key, None)  # what was said last is also folded last
                facts[key] = event
    return list(facts.values())


def _id_of(event: Json, kind: str) -> str:
    told = event.get(kind)
    return text(told, f"{'node' if kind == 'peer' else kind}_id") if isinstance(told, dict) else ""
