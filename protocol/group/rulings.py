"""Which rulings stand where their authors did not know of each other, and what else a ruling voids.

A ruling is a removal, a departure, a change of role or a node's revocation. Two operations are concurrent when neither
rests on the other.
What is here decides by who is who and what rests on what alone, so everybody finds the same: docs/protocol.md §3.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import Role
from protocol.group.operation_kinds import (
    InvitePost,
    InviteRevoke,
    KeyRotate,
    MemberAdmit,
    MemberLeave,
    MemberRemove,
    MemberRole,
    NodeBind,
    NodeRevoke,
    RunPropose,
    RunStart,
)
from protocol.group.operations import OpenOperation
from protocol.group.state import Ground, GroupState, NodeEntry, Ruling
from protocol.identity import NodeCertificate
from protocol.keys import Hash, MemberId, NodeId, RunId
from protocol.limits import OPERATION_BYTES_MAX
from protocol.run.checkpoint import RunStart as StartedRun
from protocol.run.checkpoint import open_ready
from protocol.wire import unpack

RULINGS = (MemberRemove, MemberLeave, MemberRole, NodeRevoke)
RANKS: Mapping[Role | None, int] = {None: 0, "observer": 1, "member": 2, "admin": 3}
_OF_ADMINS = (InvitePost, InviteRevoke, MemberRemove, MemberRole, KeyRotate)
Place = tuple[tuple[tuple[int, Hash], tuple[int, Hash]], tuple[int, Hash]]  # of an author's seniority, of its ruling
Whom = MemberId | NodeId  # a ruling is about: a member, or one node of one
BEATEN, SENIOR_STAYS = "beaten", "senior-stays"
# Of what rulings void, which may be good again; and of a second admission of who is in anyway.
_NOT_BY_ITSELF = (BEATEN, SENIOR_STAYS, "already-bound")


def check_against(state: GroupState, operation: OpenOperation, against: Sequence[Ruling]) -> None:
    """Raises Refused where one of the standing rulings `against` which `operation` was written voids it."""
    author = member_of_node(state, operation.author)
    needs = needed_role(operation, author)
    for ruling in against:
        if ruling.node:
            a_revocation_voids_a_binding(ruling, operation.certificate)
            a_revocation_voids_what_its_node_did(ruling, operation.author, needs)
        else:
            a_removal_voids_readmission(ruling, operation.certificate)
            a_ruling_voids_what_it_takes_away(ruling, author, needs)
        payload = operation.payload
        if isinstance(payload, RunStart) and author is not None and _puts_out(ruling, author, operation.author):
            a_start_beside_a_removal_needs_others(state, author, payload.run, payload.start)


def concerned_by(state: GroupState, operation: OpenOperation) -> list[tuple[Whom, int]]:
    """On whom a concurrent ruling matters to `operation`, if it leaves to them no more than that rank."""
    author, payload = member_of_node(state, operation.author), operation.payload
    concerned: list[tuple[Whom, int]] = [(operation.author, RANKS[None])]
    if author is not None:
        concerned.append((author, RANKS["admin"]))
    if operation.certificate is not None:
        concerned += [(operation.certificate.member_id, RANKS[None]), (operation.certificate.node_id, RANKS[None])]
    if isinstance(payload, MemberRemove | MemberRole):
        concerned.append((payload.member, RANKS[None]))
    if operation.revocation is not None:
        concerned.append((operation.revocation.node_id, RANKS[None]))
    return concerned


def whom(ruling: Ruling) -> Whom:
    """Whom `ruling` is about."""
    return ruling.node or ruling.member


def takes_from_an_admin_or_a_node(past: GroupState, operation: OpenOperation) -> bool:
    """Whether this ruling may become final: it puts out an admin, or makes it less; or it revokes a node."""
    payload = operation.payload
    if isinstance(payload, MemberRemove | MemberRole):
        member = past.members.get(payload.member)
        gets = payload.role if isinstance(payload, MemberRole) else None
        return member is not None and member.role == "admin" and gets != "admin"
    return operation.revocation is not None


def _puts_out(ruling: Ruling, member: MemberId, node: NodeId) -> bool:
    return ruling.role is None and whom(ruling) in (member, node)


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


def a_revocation_voids_what_its_node_did(ruling: Ruling, author: NodeId, needs: Role | None) -> None:
    """A revocation beats whatever the revoked node did concurrently; except that proposals and starts of runs stand."""
    if ruling.node == author and needs is not None:
        raise Refused(BEATEN, "The node that said this was revoked meanwhile", remedy="say it from another node")


def a_revocation_voids_a_binding(ruling: Ruling, certificate: NodeCertificate | None) -> None:
    """A node that was revoked concurrently with another binding of it is not back by that."""
    if certificate is not None and ruling.node == certificate.node_id:
        raise Refused(BEATEN, "The node was revoked meanwhile", remedy="link a node with a key of its own")


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
    """Whose node it is, or was before it, or its member, was put out."""
    entry = _entry_of(state, node)
    return None if entry is None else entry.member_id


def _entry_of(state: GroupState, node: NodeId) -> NodeEntry | None:
    if node in state.nodes:
        return state.nodes[node]
    if node in state.revoked:
        return state.revoked[node].was
    return next((former.nodes[node] for former in state.former.values() if node in former.nodes), None)


def as_it_was(state: GroupState, operation: OpenOperation, against: Sequence[Ruling]) -> GroupState:
    """The state before the rulings `against` which a run was proposed or started took its author's right to do so."""
    author = member_of_node(state, operation.author)
    if author is None or not any(whom(ruling) in (author, operation.author) for ruling in against):
        return state
    former = state.former.get(author)
    if former is not None and any(ruling.operation == former.operation for ruling in against):
        members, nodes = {**state.members, author: former.was}, {**state.nodes, **former.nodes}
        state = replace(state, members=members, nodes=nodes)
    revoked = state.revoked.get(operation.author)
    if revoked is not None and author in state.members and any(each.operation == revoked.operation for each in against):
        state = replace(state, nodes={**state.nodes, operation.author: revoked.was})
    if author not in state.members or state.members[author].role != "observer":
        return state
    return replace(state, members={**state.members, author: replace(state.members[author], role="member")})


def grounds_of(state: GroupState, author: MemberId, node: NodeId) -> tuple[Ground, ...]:
    """All that `author`, and its `node`, being what they are rests on: their own grounds, those of who said these, and
    so on."""
    found: dict[Ground, None] = {}
    unvisited: list[Whom] = [author, node]
    visited = set(unvisited)
    while unvisited:
        for ground in _own_grounds(state, unvisited.pop()):
            found[ground] = None
            further: set[Whom] = {ground.by, ground.node}
            further -= visited
            visited |= further
            unvisited += sorted(further)
    return tuple(found)


def what_let_in(state: GroupState, member: MemberId, node: NodeId) -> tuple[Hash, ...]:
    """The admission of `member`, and what bound its `node`, which is "" where that does not matter."""
    grounds = (*_own_grounds(state, member)[:1], *_own_grounds(state, node))
    return tuple(ground.operation for ground in grounds)


def void_by_itself(ruling: Ruling, refused: Mapping[Hash, str]) -> bool:
    """Whether what `ruling` rests on, or what let in whom it is about, is void, and not for the sake of a ruling."""
    rests_on = (*(ground.operation for ground in ruling.grounds[1:]), *ruling.let_in)
    return any(refused.get(operation, BEATEN) not in _NOT_BY_ITSELF for operation in rests_on)


def _own_grounds(state: GroupState, of: Whom) -> tuple[Ground, ...]:
    former = state.former.get(MemberId(of))
    member = state.members.get(MemberId(of)) or (former.was if former else None)
    if member is not None:
        return member.grounds
    entry = _entry_of(state, NodeId(of))
    return (entry.ground,) if entry is not None and entry.ground is not None else ()


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
