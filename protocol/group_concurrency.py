"""The rulings of a group's log: which of its operations are concurrent with each, and which rulings stand.

Owned by a `GroupLog`, which says what it accepts. What a ruling rests on is in the log before it, so whatever comes
later and does not rest on it is concurrent with it.
"""

from collections.abc import Iterable, Mapping

from protocol.group_rulings import verdicts
from protocol.group_state import Ruling
from protocol.keys import Hash


class Rulings:
    """The rulings of one log, and the verdicts on them as of now."""

    def __init__(self) -> None:
        self._rulings: dict[Hash, Ruling] = {}
        self._concurrent: dict[Hash, set[Hash]] = {}  # by ruling
        self._below: dict[
            Hash, frozenset[Hash]
        ] = {}  # the rulings that an operation rests on; none where it is missing
        self._verdicts: dict[Hash, str] = {}
        self._standing: tuple[Ruling, ...] = ()
        self._dropped: dict[Hash, str] = {}

    def get(self, operation: Hash) -> Ruling | None:
        return self._rulings.get(operation)

    def accepted(self, operation: Hash, dependencies: Iterable[Hash]) -> None:
        """The log has a new operation."""
        if not self._rulings:
            return
        below: frozenset[Hash] = frozenset()
        for dependency in dependencies:
            known = self._below.get(dependency, frozenset())
            below = known if below <= known else below | known
            if dependency in self._rulings:
                below |= {dependency}
        if below:
            self._below[operation] = below
        for ruling, concurrent in self._concurrent.items():
            if ruling not in below and ruling != operation:
                concurrent.add(operation)

    def add(self, ruling: Ruling, concurrent: set[Hash]) -> bool:
        """A new ruling, after `accepted` was told of it, with what in the log does not lie in its past.

        True when what was folded before must be folded again."""
        before = self._verdicts
        self._rulings[ruling.operation] = ruling
        self._concurrent[ruling.operation] = concurrent
        self._judge()
        changed = any(self._verdicts[operation] != code for operation, code in before.items())
        return changed or bool(concurrent)

    def against(self, operation: Hash) -> tuple[Ruling, ...]:
        """The rulings that stand and are concurrent with `operation`."""
        if not self._standing:
            return ()
        return tuple(ruling for ruling in self._standing if operation in self._concurrent[ruling.operation])

    def verdict(self, operation: Hash) -> str:
        """What voids the ruling, or "" where it stands, and for all that is no ruling."""
        return self._verdicts.get(operation, "")

    def drop(self, refused: Mapping[Hash, str]) -> bool:
        """Whether one of the standing rulings is `refused` after all, at its place in canonical order. The first such
        one is void from now on, as if it had been from the beginning, and all must be folded again."""
        void = [ruling for ruling in self._standing if ruling.operation in refused]
        if not void:
            return False
        first = min(void, key=lambda ruling: ruling.place)
        self._dropped[first.operation] = refused[first.operation]
        self._judge()
        return True

    def reconsider(self) -> bool:
        """Forget what was dropped, for the log has grown. Whether anything was, and all must be folded again."""
        if not self._dropped:
            return False
        self._dropped = {}
        self._judge()
        return True

    def copy(self) -> "Rulings":
        other = Rulings()
        other._rulings, other._below = dict(self._rulings), dict(self._below)
        other._concurrent = {ruling: set(those) for ruling, those in self._concurrent.items()}
        other._verdicts, other._standing = dict(self._verdicts), self._standing
        other._dropped = dict(self._dropped)
        return other

    def _judge(self) -> None:
        self._verdicts = verdicts(self._rulings.values(), self._are_concurrent, self._dropped)
        self._standing = tuple(ruling for ruling in self._rulings.values() if not self._verdicts[ruling.operation])

    def _are_concurrent(self, ruling: Hash, operation: Hash) -> bool:
        return operation in self._concurrent[ruling]
