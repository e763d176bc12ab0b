"""Which rulings stand where their authors did not know of each other, and what else a ruling voids.

A ruling is a removal, a departure or a change of role. Two operations are concurrent when neither rests on the other.
What is here decides by who is who and what rests on what alone, so everybody finds the same: docs/protocol.md §3.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from protocol.checkpoint import RunStart as StartedRun
from protocol.checkpoint import open_ready
from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import Role
from protocol.group_state import Ground, GroupState, Ruling
from protocol.identity import NodeCertificate
from protocol.keys import Hash, MemberId, NodeId, RunId
from protocol.limits import OPERATION_BYTES_MAX
from protocol.operation_kinds import (
    InvitePost,
    InviteRevoke,
    KeyRotate,
    MemberAdmit,
    MemberLeave,
    MemberRemove,
    MemberRole,
    NodeBind,
    RunPropose,
    RunStart,
)
from protocol.operations import OpenOperation
from protocol.wire import unpack

RULINGS = (MemberRemove, MemberLeave, MemberRole)
RANKS: Mapping[Role | None, int] = {None: 0, "observer": 1, "member": 2, "admin": 3}
_OF_ADMINS = (InvitePost, InviteRevoke, MemberRemove, MemberRole, KeyRotate)
Place = tuple[tuple[int, Hash], tuple[int, Hash]]  # of an author's admission, and of its ruling
BEATEN, SENIOR_STAYS = "beaten", "senior-stays"


def check_against(state: GroupState, operation: OpenOperation, against: Sequence[Ruling]) -> None:
    """Raises Refused where one of the standing rulings `against` which `operation` was written voids it."""
    author = member_of_node(state, operation.author)
    for ruling in against:
        a_removal_voids_readmission(ruling, operation.certificate)
        a_ruling_voids_what_it_takes_away(ruling, author, needed_role(operation, author))
        payload = operation.payload
        if isinstance(payload, RunStart) and author is not None and (ruling.member, ruling.role) == (author, None):
            a_start_beside_a_removal_needs_others(state, author, payload.run, payload.start)


def concerned_by(state: GroupState, operation: OpenOperation) -> list[tuple[MemberId, int]]:
    """On whom a concurrent ruling matters to `operation`, if it leaves to them no more than that rank."""
    author, payload = member_of_node(state, operation.author), operation.payload
    concerned = [] if author is None else [(author, RANKS["admin"])]
    if operation.certificate is not None:
        concerned.append((operation.certificate.member_id, RANKS[None]))
    if isinstance(payload, MemberRemove | MemberRole):
        concerned.append((payload.member, RANKS[None]))
    return concerned


def a_removal_voids_readmission(ruling: Ruling, certificate: NodeCertificate | None) -> None:
    """Who was removed concurrently with an admission or a node of theirs is not back by it."""
    if certificate is not None and ruling.role is None and ruling.member == certificate.member_id:
        raise Refused(
            BEATEN, "The member was put out of the group meanwhile", remedy="invite it anew, if it may return"
        )


def a_ruling_voids_what_it_takes_away(ruling: Ruling, author: MemberId | None, needs: Role | None) -> None:
    """A removal beats whatever the removed member did concurrently, and a lesser role what that role may not do; except
    that proposals and starts of runs stand."""
    if ruling.member == author and needs is not None and RANKS[ruling.role] < RANKS[needs]:
        raise Refused(BEATEN, "An admin took away the right to do this meanwhile", remedy="ask an admin of the group")


def a_start_beside_a_removal_needs_others(state: GroupState, author: MemberId, run: RunId, raw_start: bytes) -> None:
    """A start by who was removed concurrently counts only where a node of another member is ready by its signature."""
    try:
        notes = [open_ready(raw).body for raw in unpack(StartedRun, raw_start, OPERATION_BYTES_MAX).roster]
    except RemoteProtocolError:
        notes = []
    owners = (member_of_node(state, NodeId(note.node)) for note in notes if note.run == run)
    if not any(owner not in (None, author) for owner in owners):
        raise Refused(BEATEN, "Nobody else was ready for this run", remedy="ask somebody in the group to propose it")


def needed_role(operation: OpenOperation, author: MemberId | None) -> Role | None:
    """The least role that may do this, or None for what stands although its author was put out meanwhile."""
    payload, certificate = operation.payload, operation.certificate
    if isinstance(payload, RunPropose | RunStart):
        return None
    if isinstance(payload, _OF_ADMINS):
        return "admin"
    of_another = certificate is not None and certificate.member_id != author
    return (
        "member" if isinstance(payload, MemberAdmit) or (isinstance(payload, NodeBind) and of_another) else "observer"
    )


def member_of_node(state: GroupState, node: NodeId) -> MemberId | None:
    """Whose node it is, or was before its member was put out."""
    if node in state.nodes:
        return state.nodes[node].member_id
    return next((member for member, former in state.former.items() if node in former.nodes), None)


def as_it_was(state: GroupState, operation: OpenOperation, against: Sequence[Ruling]) -> GroupState:
    """The state before the rulings `against` which a run was proposed or started took its author's right to do so."""
    author = member_of_node(state, operation.author)
    if author is None or not any(ruling.member == author for ruling in against):
        return state
    former = state.former.get(author)
    if former is not None and any(ruling.operation == former.operation for ruling in against):
        members, nodes = {**state.members, author: former.was}, {**state.nodes, **former.nodes}
        state = replace(state, members=members, nodes=nodes)
    if author not in state.members or state.members[author].role != "observer":
        return state
    return replace(state, members={**state.members, author: replace(state.members[author], role="member")})


def grounds_of(state: GroupState, author: MemberId) -> tuple[Ground, ...]:
    """All that `author` being what it is rests on: its own grounds, those of their authors, and so on."""
    found: dict[Ground, None] = {}
    unvisited, visited = [author], {author}
    while unvisited:
        member_id = unvisited.pop()
        former = state.former.get(member_id)
        member = state.members.get(member_id) or (former.was if former else None)
        for ground in member.grounds if member else ():
            found[ground] = None
            if ground.by not in visited:
                visited.add(ground.by)
                unvisited.append(ground.by)
    return tuple(found)


def verdicts(
    among: int,
    beaten_by: Sequence[int],
    beats: Sequence[int],
    place_of: Callable[[int], Place],
    dropped: Mapping[int, str],
) -> dict[int, str]:
    """What voids those rulings, of `among`, that do not stand. Each has a number, and sets of them are its bits.

    A ruling that no other beats stands, and what it beats is void. Where only circles are left, the senior stays.
    Those that are `dropped` void nothing. `place_of`: by seniority, then in canonical order.
    """
    codes = dict(dropped)
    left = among & ~sum(1 << number for number in dropped)
    while left:
        free = [number for number in bits_of(left) if not beaten_by[number] & left]
        for number in free or the_senior_stays(left, beaten_by, beats, place_of):
            left &= ~(1 << number)
            if not free:
                left = _void(left & beaten_by[number], left, codes, SENIOR_STAYS)
            left = _void(left & beats[number], left, codes, BEATEN)
    return codes


def the_senior_stays(
    left: int,
    beaten_by: Sequence[int],
    beats: Sequence[int],
    place_of: Callable[[int], Place],
) -> list[int]:
    """Of members who put each other out concurrently, the one that was admitted first in canonical order stays."""
    # Its ruling does, that is: one of each circle that nobody outside of it beats.
    seniors: list[int] = []
    open_ = left
    while open_:
        number = next(bits_of(open_))
        above = below = 0
        while True:  # upwards, until nobody is above who is not below, too
            above, below = _all_from(number, beaten_by, left), _all_from(number, beats, left)
            if not above & ~below:
                break
            number = next(bits_of(above & ~below))
        seniors.append(min(bits_of(above), key=place_of))
        open_ &= ~below
    return seniors


def _all_from(number: int, edges: Sequence[int], within: int) -> int:
    found, unvisited = 0, edges[number] & within
    while unvisited:
        found |= unvisited & -unvisited
        unvisited = (unvisited | edges[(unvisited & -unvisited).bit_length() - 1] & within) & ~found
    return found


def _void(those: int, left: int, codes: dict[int, str], code: str) -> int:
    for number in bits_of(those):
        codes[number] = code
    return left & ~those


def bits_of(number: int) -> Iterator[int]:
    """The numbers of the bits that are set, lowest first."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest
