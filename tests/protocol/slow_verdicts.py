"""Which rulings stand, straight from the sentences of docs/protocol.md §3: slow, with nothing remembered."""

from collections.abc import Callable, Collection, Mapping, Sequence

from protocol.group.rulings import BEATEN, RANKS, SENIOR_STAYS
from protocol.group.state import Ruling
from protocol.keys import Hash

Concurrent = Callable[[Hash, Hash], bool]  # (a ruling, any operation)
Finals = Collection[tuple[Hash, Hash]]  # a ruling that is final against another, and the other


def verdicts(
    rulings: Collection[Ruling], concurrent: Concurrent, dropped: Mapping[Hash, str], finals: Finals
) -> dict[Hash, str]:
    """For each ruling the code of what voids it, or "" where it stands.

    Those that are void in their own past, or `dropped`, void nothing, nor what a ruling is final against. A ruling that
    no other beats stands, and what it beats is void. Where only circles are left, the senior stays.
    """
    codes = {ruling.operation: ruling.fault or dropped.get(ruling.operation, "") for ruling in rulings}
    left = sorted((ruling for ruling in rulings if not codes[ruling.operation]), key=lambda ruling: ruling.place)
    while left:
        free = [one for one in left if not any(_beats(other, one, concurrent, finals) for other in left)]
        if not free:
            free = [the_senior_stays(left, concurrent, finals)]
            left = _void([one for one in left if _beats(one, free[0], concurrent, finals)], left, codes, SENIOR_STAYS)
        left = [one for one in left if one not in free]
        beaten = [one for one in left if any(_beats(other, one, concurrent, finals) for other in free)]
        left = _void(beaten, left, codes, BEATEN)
    return codes


def the_senior_stays(left: Sequence[Ruling], concurrent: Concurrent, finals: Finals) -> Ruling:
    """Of members who put each other out concurrently, the one that was admitted first in canonical order stays."""
    beaten_by = {one.operation: [other for other in left if _beats(other, one, concurrent, finals)] for one in left}

    def above(one: Ruling) -> set[Hash]:
        found: set[Hash] = set()
        unvisited = [one]
        while unvisited:
            for other in beaten_by[unvisited.pop().operation]:
                if other.operation not in found:
                    found.add(other.operation)
                    unvisited.append(other)
        return found

    reach = {one.operation: above(one) for one in left}
    circle = [one for one in left if all(one.operation in reach[other] for other in reach[one.operation])]
    return min(circle, key=lambda one: (one.seniority, one.place))


def _void(those: Sequence[Ruling], left: Sequence[Ruling], codes: dict[Hash, str], code: str) -> list[Ruling]:
    for ruling in those:
        codes[ruling.operation] = code
    return [ruling for ruling in left if ruling not in those]


def _beats(one: Ruling, other: Ruling, concurrent: Concurrent, finals: Finals) -> bool:
    return (other.operation, one.operation) not in finals and takes_away(one, other, concurrent)


def takes_away(one: Ruling, other: Ruling, concurrent: Concurrent) -> bool:
    """Whether `one` takes away what `other`, or anything that it rests on by right, needs."""
    return one.operation != other.operation and any(
        (ground.node == one.node if one.node else ground.by == one.member)
        and RANKS[one.role] < RANKS[ground.needs]
        and concurrent(one.operation, ground.operation)
        for ground in other.grounds
    )
