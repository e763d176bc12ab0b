"""Which rulings are final: a majority of those who are asked has built on them, so nobody undoes them by seniority.

Who is asked is read from what both of two rulings that void each other rest on, so that neither side's appointments or
removals since then have a say; how they answered, from what they wrote. Both are facts of the set of operations alone.
Rules: docs/protocol.md §3.
"""

from collections.abc import Callable, Collection, Iterable

from protocol.fields import Role
from protocol.group.rulings import bits_of
from protocol.group.state import GroupState, Member, Ruling
from protocol.keys import Hash, MemberId, NodeId

Electorate = tuple[frozenset[NodeId], ...]  # of each member who is asked, its nodes
Electorates = Callable[[Ruling, Ruling], Electorate]  # for a ruling, against another


def electorate_of(ruling: Ruling, other: Ruling, common: GroupState, common_past: Collection[Hash]) -> Electorate:
    """Whether a ruling is final is asked of the admins of before the two parted, and of those whom since then the other
    ruling's author alone made what they are, but not of whom it puts out.

    Where nobody of these but the ruling's author is left, the members who are no observers are asked in the same way;
    and where nobody but the author is one of them either, nobody is. `common`: the state of what both rest on,
    `common_past`, the set of operations.
    """
    for roles in (("admin",), ("admin", "member")):
        asked = _asked(ruling, other, common, common_past, roles)
        if asked.keys() - {ruling.author}:
            return tuple(asked.values())
    return ()


def _asked(
    ruling: Ruling, other: Ruling, common: GroupState, common_past: Collection[Hash], roles: tuple[Role, ...]
) -> dict[MemberId, frozenset[NodeId]]:
    asked = {member_id: set(each.nodes) for member_id, each in common.members.items() if each.role in roles}
    for member_id, member in ruling.council.items():
        if member_id in asked or (member.role in roles and _is_no_puppet(member, ruling, other, common_past)):
            asked.setdefault(member_id, set()).update(member.nodes)
    return {member_id: frozenset(nodes) for member_id, nodes in asked.items() if member_id != ruling.member}


def _is_no_puppet(member: Member, ruling: Ruling, other: Ruling, common_past: Collection[Hash]) -> bool:
    """Whether nobody on the ruling's side made `member` what it is."""
    opponents = {other.author} - {ruling.author}
    return all(ground.operation in common_past or ground.by in opponents for ground in member.grounds)


def asked_nodes(ruling: Ruling, member: MemberId, node: NodeId) -> Collection[NodeId]:
    """The nodes of `member`, where it would be asked about `ruling` with `node`, if somebody was to contest it now."""
    council = ruling.council
    if member in (ruling.author, ruling.member) or member not in council or node not in council[member].nodes:
        return ()
    others = {each.role for member_id, each in council.items() if member_id not in (ruling.author, ruling.member)}
    return council[member].nodes if council[member].role == ("admin" if "admin" in others else "member") else ()


class Support:
    """Who has built on which rulings. Rulings have numbers, and sets of them are integers with a bit for each."""

    def __init__(self) -> None:
        self._built: dict[NodeId, set[int]] = {}  # by author: on which rulings its operations rest, or which they are
        self._common: dict[int, int] = {}  # by ruling: on which all rest that others than its author built on it
        self._moves: dict[int, int] = {}  # by ruling: how often that has changed
        self._by: dict[NodeId, int] = {}  # each author's own rulings

    def is_by(self, author: NodeId, number: int) -> None:
        """The ruling `number` is `author`'s."""
        self._by[author] = self._by.get(author, 0) | 1 << number

    def built(self, author: NodeId, on: int, watched: int) -> bool:
        """An operation of `author` rests on the rulings `on`. True when that may matter to those that are `watched`."""
        known = self._built.setdefault(author, set())
        if on in known:
            return False
        known.add(on)
        by_others = on & watched & ~self._by.get(author, 0)
        for number in bits_of(by_others):
            self._common[number] = self._common.get(number, on) & on
            self._moves[number] = self._moves.get(number, 0) + 1
        return by_others != 0

    def against(self, number: int) -> int:
        """The rulings on which somebody has not built who has built on `number`, and is not its author's node."""
        return ~self._common[number] if number in self._common else 0

    def moves(self, *numbers: int) -> tuple[int, ...]:
        """Changes whenever somebody else has built on one of these rulings."""
        return tuple(self._moves.get(number, 0) for number in numbers)

    def is_final(self, number: int, other: int, electorate: Electorate) -> bool:
        """Who is asked and has built on the one ruling and not on the other is for it; who did both is for neither.
        A ruling is final against another when more than half of who is asked is for it."""
        votes = sum(
            self._is_for(number, other, nodes) and not self._is_for(other, number, nodes) for nodes in electorate
        )
        return 2 * votes > len(electorate)

    def _is_for(self, number: int, other: int, nodes: Iterable[NodeId]) -> bool:
        return any(on >> number & 1 and not on >> other & 1 for node in nodes for on in self._built.get(node, ()))

    def has_built(self, nodes: Iterable[NodeId], number: int) -> bool:
        """Whether one of `nodes` has written something that rests on the ruling."""
        return any(on >> number & 1 for node in nodes for on in self._built.get(node, ()))

    def copy(self) -> "Support":
        other = Support()
        other._built = {author: set(built) for author, built in self._built.items()}
        other._common, other._moves, other._by = dict(self._common), dict(self._moves), dict(self._by)
        return other
