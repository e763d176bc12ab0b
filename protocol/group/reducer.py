"""From operations to a group's state: one small pure function for every kind, under the rules of `group_rules`.

`apply`, over all operations in canonical order, gives the state. It must give the same on every node and for ever.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from protocol.errors import FednodeError, Refused
from protocol.fields import Role
from protocol.group import rules, rulings
from protocol.group.admission import AdmissionStatement
from protocol.group.departures import is_out_already, with_spoilt_key, without_joiner, without_member, without_node
from protocol.group.key import recipients_of
from protocol.group.operation_kinds import (
    GroupCreate,
    InvitePost,
    InviteRevoke,
    KeyRotate,
    MemberAdmit,
    MemberLeave,
    MemberProfile,
    MemberRemove,
    MemberRole,
    NodeBind,
    NodeRevoke,
    Payload,
    RulingWitness,
    RunPropose,
    RunStart,
)
from protocol.group.operations import OpenOperation
from protocol.group.run_effects import RUN_EFFECTS
from protocol.group.state import (
    Ground,
    GroupState,
    InvitationEntry,
    Member,
    NodeEntry,
    Rotation,
    Ruling,
)
from protocol.identity import NodeCertificate, NodeRevocation
from protocol.keys import Hash, MemberId, NodeId


class NodeTooOld(FednodeError):
    """The group's log says something critical that this version does not understand: it must not go on guessing."""


def apply(state: GroupState, operation: OpenOperation, against: Sequence[Ruling] = (), verdict: str = "") -> GroupState:
    """The state after `operation`, which stands next in canonical order. A voided one is noted in `refused`.

    `against`: the rulings that stand and are concurrent with it. `verdict`: for a ruling, what voids it, or "".
    """
    try:
        return _refuse(state, operation, verdict) if verdict else judge(state, operation, against)
    except Refused as refusal:
        return _refuse(state, operation, refusal.code)


def _refuse(state: GroupState, operation: OpenOperation, code: str) -> GroupState:
    refused = replace(state, refused={**state.refused, operation.hash: code})
    return without_joiner(refused, operation, code) if isinstance(operation.payload, MemberAdmit) else refused


def judge(state: GroupState, operation: OpenOperation, against: Sequence[Ruling] = ()) -> GroupState:
    """As `apply`, but raises Refused where a rule voids the operation."""
    payload = operation.payload
    if against:
        rulings.check_against(state, operation, against)
        if is_out_already(state, operation, against):
            return state  # two had the same thought
        if isinstance(payload, RunPropose | RunStart):
            before = rulings.as_it_was(state, operation, against)
            return replace(state, runs=_EFFECTS[type(payload)](before, operation, payload).runs)
    if payload is None:
        return _note_unknown(state, operation)
    after = _EFFECTS[type(payload)](state, operation, payload)
    if isinstance(payload, KeyRotate) and any(ruling.role is None for ruling in against):
        return with_spoilt_key(after, payload.epoch)
    return after


def as_ruling(past: GroupState, operation: OpenOperation, place: tuple[int, Hash]) -> Ruling:
    """`operation`, one of RULINGS, as it looks from its own past. Its seniority is not yet in it: that is for whoever
    knows the order."""
    payload = operation.payload
    author = rulings.member_of_node(past, operation.author) or MemberId("")
    try:
        judge(past, operation)
        fault = ""
    except Refused as refusal:
        fault = refusal.code
    of_its_own = isinstance(payload, MemberLeave | NodeRevoke)
    own = Ground(operation.hash, author, operation.author, "observer" if of_its_own else "admin")
    member = payload.member if isinstance(payload, MemberRemove | MemberRole) else author
    node = NodeId(operation.revocation.node_id if operation.revocation else "")
    return Ruling(
        operation.hash,
        place,
        author,
        member,
        payload.role if isinstance(payload, MemberRole) else None,
        fault,
        grounds=(own, *rulings.grounds_of(past, author, operation.author)),
        node=node,
        let_in=rulings.what_let_in(past, member, node),
        council=past.members if not fault and rulings.takes_from_an_admin_or_a_node(past, operation) else {},
    )


def check_not_too_old(state: GroupState) -> GroupState:
    """`state`, for acting on. Raises NodeTooOld when this version does not understand all that matters in it."""
    if state.unknown_critical:
        kinds = ", ".join(sorted(state.unknown_critical))
        raise NodeTooOld(
            f"This node is too old for the group {state.name}, whose log holds {kinds}",
            remedy="upgrade fednode on this machine",
        )
    return state


def _note_unknown(state: GroupState, operation: OpenOperation) -> GroupState:
    member = rules.author_must_be_a_bound_node(state, operation.author)
    # An observer has no say in the group, so it cannot stop everybody's nodes either.
    if not operation.body.critical or member.role == "observer":
        return state
    return replace(state, unknown_critical=state.unknown_critical | {operation.body.kind})


def _create_group(state: GroupState, operation: OpenOperation, payload: GroupCreate) -> GroupState:
    certificate = _certificate(operation)
    founded = replace(state, name=payload.name)
    # As any other's admission and invitation: what the founder becomes later takes neither its seniority nor its say.
    ground = Ground(operation.hash, certificate.member_id, operation.author, "admin")
    grounds = (ground,) * _GROUNDS_OF_ADMISSION
    founder = Member(certificate.member_name, "admin", operation.body.claimed_at, (), operation.author, grounds)
    return _with_member(founded, certificate, founder, ground)


def _post_invitation(state: GroupState, operation: OpenOperation, payload: InvitePost) -> GroupState:
    rules.only_admins_manage_invitations(state, operation.author)
    rules.invitations_must_not_pile_up(state, operation.body.claimed_at)
    entry = InvitationEntry(
        operation.author,
        payload.role,
        payload.seed_public_key,
        payload.uses,
        payload.expires_at,
        posted_by=state.nodes[operation.author].member_id,
    )
    return replace(state, invitations={**state.invitations, operation.hash: entry})


def _revoke_invitation(state: GroupState, operation: OpenOperation, payload: InviteRevoke) -> GroupState:
    rules.only_admins_manage_invitations(state, operation.author)
    entry = rules.invitation_must_exist(state, payload.invite_id)
    return replace(state, invitations={**state.invitations, payload.invite_id: replace(entry, revoked=True)})


def _admit_member(state: GroupState, operation: OpenOperation, payload: MemberAdmit) -> GroupState:
    rules.only_admins_and_members_admit(state, operation.author)
    certificate = _certificate(operation)
    if certificate.member_id in state.members:
        # Two admitters at once, or a second node with the same token: nobody new, so nothing is used up.
        return _with_node(state, certificate, _ground(state, operation, "member"))
    statement = AdmissionStatement(
        group=state.group_id,
        invite_id=payload.invite_id,
        member_id=certificate.member_id,
        node_id=certificate.node_id,
        admitter=operation.author,
        nonce=payload.nonce,
    )
    entry = rules.invitation_must_exist(state, payload.invite_id)
    rules.joiner_must_hold_the_seed(entry, statement, payload.proof)
    check_invitation_is_open(entry, payload.admitted_at)
    check_has_room_for(state, certificate)
    rules.the_removed_need_a_newer_invitation(state, payload.invite_id, certificate.member_id)
    ground = _ground(state, operation, "member")
    grounds = (ground, Ground(payload.invite_id, entry.posted_by, entry.by, "admin"))
    joiner = Member(certificate.member_name, entry.role, payload.admitted_at, (), operation.author, grounds)
    former = {member: former for member, former in state.former.items() if member != certificate.member_id}
    admitted = _with_member(replace(state, former=former), certificate, joiner, ground)
    used = replace(entry, used=entry.used + 1)
    return replace(admitted, invitations={**state.invitations, payload.invite_id: used})


def check_invitation_is_open(entry: InvitationEntry, admitted_at: int) -> None:
    """Raises Refused when `entry` admits nobody at `admitted_at`."""
    rules.invitation_must_not_be_revoked(entry)
    rules.invitation_must_not_have_expired(entry, admitted_at)
    rules.invitation_must_have_uses_left(entry)


def check_has_room_for(state: GroupState, certificate: NodeCertificate) -> None:
    """Raises Refused when the certificate's owner cannot become a member."""
    rules.group_must_have_room(state)
    rules.node_belongs_to_one_member_for_ever(state, certificate)
    rules.a_revoked_node_is_never_bound_again(state, certificate)


def _remove_member(state: GroupState, operation: OpenOperation, payload: MemberRemove) -> GroupState:
    rules.only_admins_remove(state, operation.author)
    rules.whoever_goes_of_its_own_will_leaves(state, operation.author, payload.member)
    rules.only_members_are_ruled_on(state, payload.member)
    return without_member(state, operation, payload.member, payload.reason, removed=True)


def _leave(state: GroupState, operation: OpenOperation, payload: MemberLeave) -> GroupState:
    rules.author_must_be_a_bound_node(state, operation.author)
    member_id = state.nodes[operation.author].member_id
    rules.the_last_admin_stays(state, member_id, None)
    return without_member(state, operation, member_id, "", removed=False)


def _change_role(state: GroupState, operation: OpenOperation, payload: MemberRole) -> GroupState:
    rules.only_admins_change_roles(state, operation.author)
    member = rules.only_members_are_ruled_on(state, payload.member)
    rules.the_last_admin_stays(state, payload.member, payload.role)
    if member.role == payload.role:
        return state  # else its holder's say would rest on whoever repeats it
    ground = _ground(state, operation, "admin")
    changed = replace(member, role=payload.role, grounds=(*member.grounds[:_GROUNDS_OF_ADMISSION], ground))
    return replace(state, members={**state.members, payload.member: changed})


def _rotate_key(state: GroupState, operation: OpenOperation, payload: KeyRotate) -> GroupState:
    rules.only_admins_rotate_the_key(state, operation.author)
    recipients = recipients_of(payload.sealed)
    rules.recipients_are_of_the_group(state, recipients)
    rules.epochs_follow_each_other(state, payload.epoch)
    rotation = Rotation(operation.author, operation.hash, payload.commitment, frozenset(recipients))
    return replace(state, rotations={**state.rotations, payload.epoch: rotation})


def _bind_node(state: GroupState, operation: OpenOperation, payload: NodeBind) -> GroupState:
    certificate = _certificate(operation)
    rules.nodes_are_bound_by_their_member_or_an_admitter(state, operation.author, certificate.member_id)
    of_its_own = state.nodes[operation.author].member_id == certificate.member_id
    return _with_node(state, certificate, _ground(state, operation, "observer" if of_its_own else "member"))


def _revoke_node(state: GroupState, operation: OpenOperation, payload: NodeRevoke) -> GroupState:
    revocation = _revocation(operation)
    member = rules.a_node_is_revoked_by_another_of_its_member(state, operation.author, revocation)
    was = rules.only_bound_nodes_are_revoked(state, revocation)
    return without_node(state, operation, revocation.node_id, member, was)


def _describe_member(state: GroupState, operation: OpenOperation, payload: MemberProfile) -> GroupState:
    member = rules.author_must_be_a_bound_node(state, operation.author)
    described = replace(member, name=payload.name, organisation=payload.organisation, contact=payload.contact)
    return replace(state, members={**state.members, state.nodes[operation.author].member_id: described})


def _witness(state: GroupState, operation: OpenOperation, payload: RulingWitness) -> GroupState:
    rules.author_must_be_a_bound_node(state, operation.author)
    return state


def _ground(state: GroupState, operation: OpenOperation, needs: Role) -> Ground:
    return Ground(operation.hash, state.nodes[operation.author].member_id, operation.author, needs)


def _with_member(state: GroupState, certificate: NodeCertificate, member: Member, ground: Ground) -> GroupState:
    with_member = replace(state, members={**state.members, certificate.member_id: member})
    return _with_node(with_member, certificate, ground)


def _with_node(state: GroupState, certificate: NodeCertificate, ground: Ground) -> GroupState:
    member = rules.owner_must_be_a_member(state, certificate.member_id)
    rules.node_belongs_to_one_member_for_ever(state, certificate)
    rules.a_revoked_node_is_never_bound_again(state, certificate)
    rules.only_newer_certificates_replace(state, certificate)
    bound = state.nodes.get(certificate.node_id)
    if bound is None:
        rules.member_must_have_room(member)
        member = replace(member, nodes=(*member.nodes, certificate.node_id))
        state = replace(state, members={**state.members, certificate.member_id: member})
    first = ground if bound is None else bound.ground
    node = NodeEntry(certificate.member_id, certificate.node_name, certificate.seal_key, certificate.issued_at, first)
    return replace(state, nodes={**state.nodes, certificate.node_id: node})


def _certificate(operation: OpenOperation) -> NodeCertificate:
    assert operation.certificate is not None  # open_operation opens it for every kind that carries one
    return operation.certificate


def _revocation(operation: OpenOperation) -> NodeRevocation:
    assert operation.revocation is not None  # as above
    return operation.revocation


_GROUNDS_OF_ADMISSION = 2  # of a member's grounds: the admission and its invitation; the last change of role follows
_EFFECTS: dict[type[Payload], Callable[[GroupState, OpenOperation, Any], GroupState]] = {
    GroupCreate: _create_group,
    InvitePost: _post_invitation,
    InviteRevoke: _revoke_invitation,
    MemberAdmit: _admit_member,
    MemberRemove: _remove_member,
    MemberLeave: _leave,
    MemberRole: _change_role,
    KeyRotate: _rotate_key,
    NodeBind: _bind_node,
    NodeRevoke: _revoke_node,
    MemberProfile: _describe_member,
    RulingWitness: _witness,
    **RUN_EFFECTS,
}
