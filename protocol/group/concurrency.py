"""The rulings of a group's log: which of its operations are concurrent with each, and which rulings stand.

Owned by a `GroupLog`, which says what it accepts. What a ruling rests on is in the log before it, so whatever comes
later and does not rest on it is concurrent with it. Sets of rulings are integers, a bit for each: thousands of them,
written to freeze everybody's nodes, then cost little.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy

from protocol.group.finality import Electorate, Electorates, Support
from protocol.group.rulings import RANKS, Place, Whom, bits_of, verdicts, void_by_itself, whom
from protocol.group.state import Ruling
from protocol.keys import Hash, NodeId


class Rulings:
    """The rulings of one log, and the verdicts on them as of now. Call `settle` before asking for those."""

    def __init__(self) -> None:
        self._faulty: dict[Hash, str] = {}  # those that are void by their own past, which touch nothing else
        self._numbers: dict[Hash, int] = {}  # of the others, in the order of their coming: their bits
        self._rulings: list[Ruling] = []
        self._among = 0  # those that count here
        self._below: dict[Hash, int] = {}  # the rulings that an operation rests on; none where it is missing
        self._beside: dict[Hash, int] = {}  # those that are concurrent with it, likewise
        self._about: dict[tuple[Whom, int], int] = {}  # by whom they are about, and the rank that is left to it
        self._resting: dict[Whom, dict[tuple[Hash, int], int]] = {}  # on what that member or node wrote, by what rank
        self._beaten_by: list[int] = []
        self._beats: list[int] = []
        self._codes: dict[int, str] = {}  # the verdicts on those that are void
        self._dropped: dict[int, str] = {}
        self._judged = 0  # rulings to which the verdicts apply
        self._entangled = 0  # those that beat some other, or are beaten by it: the others stand
        self._standing = 0
        self._in_company = 0  # those that came when there was something that is concurrent with them
        self._is_settled = True
        self._must_fold_again = False
        self._support = Support()
        self._may_be_final = 0
        self._contested = 0  # of these: which void one another with some other ruling
        self._watched = 0  # the rulings that may be final, and those
        self._is_counted = True  # whether the support has not changed since it was asked
        self._finals: dict[int, int] = {}  # against which others these are final
        self._answers: dict[tuple[int, int], tuple[tuple[int, ...], bool]] = {}  # whether one is, and as of which moves

    def accepted(self, operation: Hash, author: NodeId, dependencies: Iterable[Hash]) -> None:
        """The log has a new operation."""
        if not self._rulings:
            return
        below = 0
        for dependency in dependencies:
            number = self._numbers.get(dependency)
            below |= self._below.get(dependency, 0) | (0 if number is None else 1 << number)
        beside = self._among & ~below
        if below:
            self._below[operation] = below
            self._note_support(author, below)
        if beside:
            self._beside[operation] = beside

    def add(self, ruling: Ruling, concurrent: Collection[Hash]) -> None:
        """A new ruling, after `accepted` was told of it, with what in the log does not lie in its past."""
        if ruling.fault:
            self._faulty[ruling.operation] = ruling.fault
            return
        number = len(self._rulings)
        bit = 1 << number
        for operation in concurrent:
            self._beside[operation] = self._beside.get(operation, 0) | bit
        beaten_by, beats = self._beaters(ruling), self._beaten(ruling, number)
        for other in bits_of(beats):
            self._beaten_by[other] |= bit
        for other in bits_of(beaten_by):
            self._beats[other] |= bit
        self._numbers[ruling.operation] = number
        self._rulings.append(ruling)
        self._beaten_by.append(beaten_by)
        self._beats.append(beats)
        self._among |= bit
        self._entangled |= (bit | beats | beaten_by) if beats | beaten_by else 0
        self._in_company |= bit if concurrent else 0
        about = whom(ruling), RANKS[ruling.role]
        self._about[about] = self._about.get(about, 0) | bit
        for ground in ruling.grounds:
            key = ground.operation, RANKS[ground.needs]
            for author in (ground.by, ground.node):
                resting = self._resting.setdefault(author, {})
                resting[key] = resting.get(key, 0) | bit
        self._is_settled = False
        self._watch(ruling, number, beats & beaten_by)

    def _watch(self, ruling: Ruling, number: int, mutual: int) -> None:
        bit = 1 << number
        self._may_be_final |= bit if ruling.council else 0
        contested = mutual & self._may_be_final | (bit if mutual and ruling.council else 0)
        self._contested |= contested
        self._watched |= self._may_be_final | (bit | mutual if contested else 0)
        author = ruling.grounds[0].node
        self._support.is_by(author, number)
        self._note_support(author, self._below.get(ruling.operation, 0) | bit)

    def _note_support(self, author: NodeId, on: int) -> None:
        if self._support.built(author, on, self._watched) and self._contested:
            self._is_counted = False

    def _beaters(self, ruling: Ruling) -> int:
        """The rulings that take away what `ruling`, or anything that it rests on by right, needs."""
        found = 0
        for ground in ruling.grounds:
            beside = self._beside.get(ground.operation, 0)
            for rank in range(RANKS[ground.needs]) if beside else ():
                found |= self._about.get((ground.by, rank), 0) & beside
            if beside:
                found |= self._about.get((ground.node, RANKS[None]), 0) & beside
        return found

    def _beaten(self, ruling: Ruling, number: int) -> int:
        """The rulings from which `ruling`, whose bit is `number`, takes that away."""
        found = 0
        for (operation, needs), resting in self._resting.get(whom(ruling), {}).items():
            if RANKS[ruling.role] < needs and self._beside.get(operation, 0) >> number & 1:
                found |= resting
        return found

    def settle(self, electorates: Electorates) -> bool:
        """Reach the verdicts. True when what was folded before must be folded again. `electorates`: tells who is asked
        whether a ruling is final."""
        if self._is_settled and self._is_counted:
            return False
        finals = self._find_finals(electorates)
        self._is_counted = True
        if self._is_settled and finals == self._finals:
            return False
        if finals != self._finals:
            self._dropped = {}
        self._finals = finals
        self._is_settled = True
        before, judged = self._codes, self._judged
        among = self._among & self._entangled
        self._codes = verdicts(among, *self._without_the_overruled(), self._place_of, self._dropped)
        self._judged = len(self._rulings)
        changed = any(number < judged for number, _ in self._codes.items() ^ before.items())
        new = (number for number in range(judged, self._judged) if number not in self._codes)
        must_fold_again = self._must_fold_again or changed or any(self._in_company >> number & 1 for number in new)
        self._must_fold_again = False
        self._standing = self._among & ~sum(1 << number for number in self._codes)
        return must_fold_again

    def _find_finals(self, electorates: Electorates) -> dict[int, int]:
        """Of each ruling that a junior made, and that is final against a senior's but not the other way round, the
        latter."""
        finals: dict[int, int] = {}
        for number in bits_of(self._contested & self._among):
            others = self._beaten_by[number] & self._beats[number] & self._among & self._support.against(number)
            for other in bits_of(others):
                if self._place_of(other) < self._place_of(number) and self._prevails(number, other, electorates):
                    finals[number] = finals.get(number, 0) | 1 << other
        return finals

    def _prevails(self, number: int, other: int, electorates: Electorates) -> bool:
        moves = self._support.moves(number, other)
        known = self._answers.get((number, other))
        if known is None or known[0] != moves:
            for_one, for_other = self._rulings[number], self._rulings[other]
            prevails = self._is_final(number, other, electorates(for_one, for_other)) and not self._is_final(
                other, number, electorates(for_other, for_one)
            )
            self._answers[number, other] = known = moves, prevails
        return known[1]

    def _is_final(self, number: int, other: int, electorate: Electorate) -> bool:
        return self._support.is_final(number, other, electorate)

    def _without_the_overruled(self) -> tuple[Sequence[int], Sequence[int]]:
        """By what each ruling is beaten, and what it beats: a final one not by what it is final against."""
        if not self._finals:
            return self._beaten_by, self._beats
        beaten_by, beats = list(self._beaten_by), list(self._beats)
        for number, others in self._finals.items():
            beaten_by[number] &= ~others
            for other in bits_of(others):
                beats[other] &= ~(1 << number)
        return beaten_by, beats

    def unwitnessed(self, nodes: Callable[[Ruling], Collection[NodeId]]) -> bool:
        """Whether a ruling stands that wants witnesses, and on which none of `nodes`, who are asked about it, has
        built."""
        return any(
            self._rulings[number].wants_witnesses
            and bool(asked := nodes(self._rulings[number]))
            and not self._support.has_built(asked, number)
            for number in bits_of(self._may_be_final & self._standing)
        )

    @property
    def are_any(self) -> bool:
        """Whether any ruling stands."""
        return self._standing != 0

    def _place_of(self, number: int) -> Place:
        return self._rulings[number].seniority, self._rulings[number].place

    def against(self, operation: Hash, concerned: Iterable[tuple[Whom, int]]) -> tuple[Ruling, ...]:
        """The rulings that stand, are concurrent with `operation`, and leave to somebody `concerned` no more than that
        rank."""
        beside = self._beside.get(operation, 0) & self._standing
        about = 0
        for member, highest in concerned if beside else ():
            for rank in range(highest + 1):
                about |= self._about.get((member, rank), 0)
        return tuple(self._rulings[number] for number in bits_of(beside & about))

    def beside(self, operation: Hash) -> tuple[Ruling, ...]:
        """All rulings that stand and are concurrent with `operation`."""
        return tuple(self._rulings[number] for number in bits_of(self._beside.get(operation, 0) & self._standing))

    def verdict(self, operation: Hash) -> str:
        """What voids the ruling, or "" where it stands, and for all that is no ruling."""
        number = self._numbers.get(operation)
        return self._faulty.get(operation, "") if number is None else self._codes.get(number, "")

    def drop(self, refused: Mapping[Hash, str]) -> bool:
        """Whether one of the standing rulings is `refused` after all, at its place in canonical order. Then those fall
        whose grounds are void, at once, however many; or else the first such one: they are void as if they had been
        from the beginning, and all must be folded again."""
        if len(refused) < self._standing.bit_count():  # whichever is quicker
            candidates = [self._numbers[each] for each in refused if each in self._numbers]
        else:
            candidates = [number for number in bits_of(self._standing) if self._rulings[number].operation in refused]
        void = [number for number in candidates if self._standing >> number & 1]
        if not void:
            return False
        if any(void_by_itself(self._rulings[number], refused) for number in void):
            # Also those that do not stand as it is: of thousands of forks another one would stand every time.
            fallen = [number for number in bits_of(self._among) if self._is_groundless(number, refused)]
        else:
            fallen = [min(void, key=lambda number: self._rulings[number].place)]
        self._dropped = {**self._dropped, **{number: refused[self._rulings[number].operation] for number in fallen}}
        self._is_settled, self._must_fold_again = False, True
        return True

    def _is_groundless(self, number: int, refused: Mapping[Hash, str]) -> bool:
        ruling = self._rulings[number]
        return number not in self._dropped and ruling.operation in refused and void_by_itself(ruling, refused)

    def reconsider(self) -> None:
        """Forget what was dropped, for the log has grown."""
        if self._dropped:
            self._dropped = {}
            self._is_settled, self._must_fold_again = False, True

    def within(self, past: Collection[Hash], author_of: Callable[[Hash], NodeId]) -> "Rulings":
        """As they are in a part of the log, `past` with all that it rests on: a ruling's own past is the same in both.
        Nothing may be added to it."""
        part = copy(self)
        part._among = sum(1 << number for ruling, number in self._numbers.items() if ruling in past)
        part._codes, part._dropped, part._is_settled = {}, {}, False
        part._finals, part._answers = {}, {}
        if part._contested & part._among:
            part._support = self._support_within(past, author_of)
        return part

    def _support_within(self, past: Collection[Hash], author_of: Callable[[Hash], NodeId]) -> Support:
        support = Support()
        for ruling in self._rulings:
            support.is_by(ruling.grounds[0].node, self._numbers[ruling.operation])
        for operation in past:
            number = self._numbers.get(operation)
            on = self._below.get(operation, 0) | (0 if number is None else 1 << number)
            if on:
                support.built(author_of(operation), on, self._watched)
        return support

    def copy(self) -> "Rulings":
        other = copy(self)
        other._faulty, other._numbers, other._rulings = dict(self._faulty), dict(self._numbers), list(self._rulings)
        other._below, other._beside, other._about = dict(self._below), dict(self._beside), dict(self._about)
        other._resting = {member: dict(resting) for member, resting in self._resting.items()}
        other._beaten_by, other._beats = list(self._beaten_by), list(self._beats)
        other._support, other._answers = self._support.copy(), dict(self._answers)
        return other
