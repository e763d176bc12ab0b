"""The shortest way to a violation that can be found: fewer faults by delta debugging, then fewer rounds.

Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input" (2002): halves of the list are left out, then
quarters, and so on, as long as the same rule still breaks. A simulation replays exactly, so each try is an answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from simulations.plan.faults import Fault, plan_faults
from simulations.plan.read import Read, with_overrides
from simulations.play import Played, play

TRIES_MAX = 60  # simulations of some seconds each: minutes of a person's time

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shrunk:
    """`numbers` are the places of the faults that are left, in the list that scenario and seed give."""

    read: Read
    numbers: tuple[int, ...]
    faults: tuple[Fault, ...]
    played: Played
    tries: int


def shrink(
    read: Read,
    nodes: int,
    seed: int,
    found: Played,
    numbers: Sequence[int] | None = None,
    *,
    exact: bool = True,
    on_try: Callable[[int, int], None] = lambda tries, left: None,
) -> Shrunk:
    """Shorten what led to the violation in `found`.

    Args:
        numbers: the places of the faults that `found` was played with; all of them when left out.
        on_try: told, before every simulation, how many there were and how many faults are left.
    """
    assert found.violation is not None
    planned = plan_faults(read.scenario, nodes, read.rounds, seed)
    rule, best, tries = found.violation.rule, found, 0

    def still_fails(left: Sequence[int], trial: Read = read) -> Played | None:
        nonlocal tries
        tries += 1
        on_try(tries, len(left))
        played = play(trial, nodes, seed, faults=[planned[number] for number in left], exact=exact)
        return played if played.violation is not None and played.violation.rule == rule else None

    struck = [planned.index(fault) for fault in found.faults]  # what had not struck yet is not to blame
    candidates = [number for number in (numbers if numbers is not None else range(len(planned))) if number in struck]
    shortest = Minimum(candidates if still_fails(candidates) else list(numbers or range(len(planned))), TRIES_MAX)
    while (trial_list := shortest.next()) is not None:
        played = still_fails(trial_list)
        best = played or best
        shortest.answer(played is not None)
    left = tuple(shortest.best)
    rounds = max((number for _, number in best.commits), default=0) + 1
    if rounds < read.rounds:
        shorter = with_overrides(read, {"training.rounds": rounds})
        played = still_fails(left, shorter)
        if played is not None:
            read, best = shorter, played
    return Shrunk(read, left, tuple(planned[number] for number in left), best, tries)


class Minimum(Generic[T]):
    """Delta debugging of a list, one question at a time: `next` gives a list to try, `answer` says whether it fails."""

    def __init__(self, items: Sequence[T], tries_max: int) -> None:
        self.best = list(items)
        self._tries_left = tries_max
        self._parts = 2
        self._part = 0
        self._trial: list[T] = []

    def next(self) -> list[T] | None:
        """None when no single item can be left out any more, or after the last try."""
        if not self.best or self._tries_left == 0 or self._parts > 2 * len(self.best):
            return None
        size = max(1, -(-len(self.best) // self._parts))
        start = self._part * size
        if start >= len(self.best):
            if size == 1:
                return None
            self._parts, self._part = self._parts * 2, 0
            return self.next()
        self._trial = self.best[:start] + self.best[start + size :]
        self._tries_left -= 1
        return self._trial

    def answer(self, fails: bool) -> None:
        if fails:
            self.best = self._trial
            self._part = 0
        else:
            self._part += 1
