"""Which rulings stand where their authors did not know of each other, and what else a ruling voids.

A ruling is a removal, a departure or a change of role. Two operations are concurrent when neither rests on the other.
What is here decides by who is who and what rests on what alone, so everybody finds the same: docs/protocol.md §3.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
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
_RANKS: Mapping[Role | None, int] = {None: 0, "observer": 1, "member": 2, "admin": 3}
_OF_ADMINS = (InvitePost, InviteRevoke, MemberRemove, MemberRole, KeyRotate)
BEATEN, SENIOR_STAYS = "beaten", "senior-stays"

Concurrent = Callable[[Hash, Hash], bool]  # (a ruling, any operation)


def check_against(state: GroupState, operation: OpenOperation, against: Sequence[Ruling]) -> None:
    """Raises Refused where one of the standing rulings `against` which `operation` was written voids it."""
    author = member_of_node(state, operation.author)
    for ruling in against:
        a_removal_voids_readmission(ruling, operation.certificate)
        a_ruling_voids_what_it_takes_away(ruling, author, needed_role(operation, author))
        payload = operation.payload
        if isinstance(payload, RunStart) and author is not None and (ruling.member, ruling.role) == (author, None):
            a_start_beside_a_removal_needs_others(state, author, payload.run, payload.start)


def a_removal_voids_readmission(ruling: Ruling, certificate: NodeCertificate | None) -> None:
    """Who was removed concurrently with an admission or a node of theirs is not back by it."""
    if certificate is not None and ruling.role is None and ruling.member == certificate.member_id:
        raise Refused(
            BEATEN, "The member was put out of the group meanwhile", remedy="invite it anew, if it may return"
        )


def a_ruling_voids_what_it_takes_away(ruling: Ruling, author: MemberId | None, needs: Role | None) -> None:
    """A removal beats whatever the removed member did concurrently, and a lesser role what that role may not do; except
    that proposals and starts of runs stand."""
    if ruling.member == author and needs is not None and _RANKS[ruling.role] < _RANKS[needs]:
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


def verdicts(rulings: Collection[Ruling], concurrent: Concurrent, dropped: Mapping[Hash, str]) -> dict[Hash, str]:
    """For each ruling the code of what voids it, or "" where it stands.

    Those that are void in their own past, or `dropped`, void nothing. A ruling that no other beats stands, and what it
    beats is void. Where only circles are left, the senior stays.
    """
    codes = {ruling.operation: ruling.fault or dropped.get(ruling.operation, "") for ruling in rulings}
    left = sorted((ruling for ruling in rulings if not codes[ruling.operation]), key=lambda ruling: ruling.place)
    while left:
        free = [one for one in left if not any(_beats(other, one, concurrent) for other in left)]
        if not free:
            free = [the_senior_stays(left, concurrent)]
            left = _void([one for one in left if _beats(one, free[0], concurrent)], left, codes, SENIOR_STAYS)
        left = [one for one in left if one not in free]
        beaten = [one for one in left if any(_beats(other, one, concurrent) for other in free)]
        left = _void(beaten, left, codes, BEATEN)
    return codes


def the_senior_stays(left: Sequence[Ruling], concurrent: Concurrent) -> Ruling:
    """Of members who put each other out concurrently, the one that was admitted first in canonical order stays."""
    beaten_by = {one.operation: [other for other in left if _beats(other, one, concurrent)] for one in left}

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


def _beats(one: Ruling, other: Ruling, concurrent: Concurrent) -> bool:
    """Whether `one` takes away what `other`, or anything that it rests on by right, needs."""
    return one.operation != other.operation and any(
        ground.by == one.member
        and _RANKS[one.role] < _RANKS[ground.needs]
        and concurrent(one.operation, ground.operation)
        for ground in other.grounds
    )
