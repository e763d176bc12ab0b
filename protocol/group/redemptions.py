"""Which admissions count where an invitation was redeemed more often than it allows.

The earliest in canonical order do. But one that most admins have built on is not displaced by one that they have not
heard of, which may be dated back. Both are facts of the set of operations alone. Rules: docs/protocol.md §3.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from copy import copy

from protocol.group.finality import Electorate, Support
from protocol.group.operation_kinds import InvitePost, MemberAdmit
from protocol.group.operations import OpenOperation
from protocol.group.state import GroupState
from protocol.keys import Hash

USED_UP = "used-up"  # the code of the rule that voids what came too late


def electorate_at(past: GroupState) -> Electorate:
    """Who is asked about an invitation's admissions: the admins of when it was posted, each with its nodes of then.
    `past`: the state of what the invitation rests on."""
    return tuple(frozenset(member.nodes) for member in past.members.values() if member.role == "admin")


class Redemptions:
    """The admissions of one log, and which of them are set aside as of now."""

    def __init__(self, place_of: Callable[[Hash], tuple[int, Hash]]) -> None:
        self.set_aside: frozenset[Hash] = frozenset()
        self._place_of = place_of
        self._of: dict[Hash, list[OpenOperation]] = {}  # by invitation
        self._posted: set[Hash] = set()
        self._several: dict[Hash, list[OpenOperation]] = {}  # of these: which have more than one
        # Of admissions that displace others, or are displaced, alone; they have numbers as rulings have.
        self._numbers: dict[Hash, int] = {}
        self._on: dict[Hash, int] = {}  # on which of them an operation rests, or which it is
        self._support = Support()
        self._answers: dict[tuple[Hash, Hash], tuple[Electorate, bool]] = {}  # whether one is final against the other
        self._is_counted = True  # whether the support has not changed since the answers
        self._quiet: object = None  # what was refused when nothing was to be set aside

    def accepted(self, operation: OpenOperation) -> None:
        """The log has a new operation."""
        if isinstance(operation.payload, InvitePost):
            self._posted.add(operation.hash)
        if isinstance(operation.payload, MemberAdmit):
            invitation = operation.payload.invite_id
            admissions = self._of[invitation] = [*self._of.get(invitation, ()), operation]
            if len(admissions) > 1:
                self._several[invitation] = admissions
        if self._numbers:
            self._note(operation)

    def _note(self, operation: OpenOperation) -> None:
        number = self._numbers.get(operation.hash)
        on = 0 if number is None else 1 << number
        for dependency in operation.dependencies:
            on |= self._on.get(dependency, 0)
        if on:
            self._on[operation.hash] = on
            if self._support.built(operation.author, on, -1):
                self._is_counted = False

    def reconsider(self) -> bool:
        """Forget what was set aside, for the log has grown by something on which it may depend. True when that was
        anything, and all must be folded again."""
        was_any, self.set_aside = bool(self.set_aside), frozenset()
        self._answers, self._quiet, self._is_counted = {}, None, True
        return was_any

    def have_moved(self) -> bool:
        """Whether somebody has built on an admission, so that another one may be set aside, or this one no more."""
        if self._is_counted:
            return False
        self._is_counted = True
        return any(
            answer != self._support.is_final(self._numbers[one], self._numbers[other], electorate)
            for (one, other), (electorate, answer) in self._answers.items()
        )

    def displacing(
        self,
        state: GroupState,
        operations: Iterable[OpenOperation],
        electorate: Callable[[Hash], Electorate],
    ) -> frozenset[Hash]:
        """The admissions that displace another one, by the `state`, which is final against them.

        `operations`: all, in canonical order. `electorate`: tells who is asked about an invitation's admissions."""
        if not self._several or state.refused is self._quiet:
            return frozenset()
        displaced = {each: late for each in self._several if (late := self._displaced(each, state))}
        if not displaced:
            self._quiet = state.refused
            return frozenset()
        self._watch([each for invitation in displaced for each in self._several[invitation]], operations)
        # In this order, and also of those that were redeemed too often only in some past: so the state of one's past
        # never has to ask for an earlier one's.
        asked = {each: electorate(each) for each in sorted(self._several.keys() & self._posted, key=self._place_of)}
        sets = [self._displacing(each, late, state, asked[each]) for each, late in displaced.items()]
        return frozenset().union(*sets)

    def _displaced(self, invitation: Hash, state: GroupState) -> list[Hash]:
        """The admissions that came too late; of one node's no more than the invitation allows, however many it wrote,
        for it must not make everybody's work."""
        by: Counter[str] = Counter()
        found = []
        late = [each for each in self._several[invitation] if state.refused.get(each.hash) == USED_UP]
        for each in sorted(late, key=lambda late: self._place_of(late.hash)):
            by[each.author] += 1
            if each.hash not in self.set_aside and by[each.author] <= state.invitations[invitation].uses:
                found.append(each.hash)
        return found

    def _displacing(self, invitation: Hash, late: list[Hash], state: GroupState, asked: Electorate) -> set[Hash]:
        all_ = [each.hash for each in self._several[invitation] if each.hash not in self.set_aside]
        counted = [each for each in all_ if each not in state.refused]
        kept = [each for each in late if any(self._prevails(each, other, asked) for other in counted)]
        kept = kept[: state.invitations[invitation].uses]
        return {other for other in all_ if other not in kept and any(self._prevails(one, other, asked) for one in kept)}

    def _prevails(self, one: Hash, other: Hash, asked: Electorate) -> bool:
        if self._place_of(one) <= self._place_of(other):
            return False
        answer = self._support.is_final(self._numbers[one], self._numbers[other], asked)
        self._answers[one, other] = asked, answer
        return answer

    def _watch(self, admissions: Iterable[OpenOperation], operations: Iterable[OpenOperation]) -> None:
        new = [each.hash for each in admissions if each.hash not in self._numbers]
        if new:
            self._numbers |= {each: len(self._numbers) + index for index, each in enumerate(new)}
            self._on, self._support = {}, Support()
            for operation in operations:
                self._note(operation)
            self._is_counted = True

    def within(self, operations: Iterable[OpenOperation]) -> "Redemptions":
        """As they are in a part of the log, `operations` with all that they rest on. Nothing may be added to it."""
        part = Redemptions(self._place_of)
        if self._several:  # else it is the same in every part
            for operation in operations:
                part.accepted(operation)
        return part

    def copy(self, place_of: Callable[[Hash], tuple[int, Hash]]) -> "Redemptions":
        other = copy(self)
        other._place_of = place_of
        other._of, other._several, other._posted = dict(self._of), dict(self._several), set(self._posted)
        other._numbers, other._on, other._answers = dict(self._numbers), dict(self._on), dict(self._answers)
        other._support = self._support.copy()
        return other
