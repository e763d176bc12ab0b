"""From operations to a group's state: one small pure function for every kind, under the rules of `group_rules`.

`apply`, over all operations in canonical order, gives the state. It must give the same on every node and for ever.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from protocol import group_rules as rules
from protocol.admission import AdmissionStatement
from protocol.errors import FednodeError, Refused
from protocol.group_state import (
    GroupState,
    InvitationEntry,
    Member,
    NodeEntry,
    RunEntry,
    RunStopped,
)
from protocol.identity import NodeCertificate
from protocol.keys import RunId
from protocol.operation_kinds import (
    GroupCreate,
    InvitePost,
    InviteRevoke,
    MemberAdmit,
    NodeBind,
    Payload,
    RunExtend,
    RunPropose,
    RunResume,
    RunStart,
    RunStop,
)
from protocol.operations import OpenOperation


class NodeTooOld(FednodeError):
    """The group's log says something critical that this version does not understand: it must not go on guessing."""


def apply(state: GroupState, operation: OpenOperation) -> GroupState:
    """The state after `operation`, which stands next in canonical order. A voided one is noted in `refused`."""
    try:
        return judge(state, operation)
    except Refused as refusal:
        return replace(state, refused={**state.refused, operation.hash: refusal.code})


def judge(state: GroupState, operation: OpenOperation) -> GroupState:
    """As `apply`, but raises Refused where a rule voids the operation."""
    if operation.payload is None:
        return _note_unknown(state, operation)
    return _EFFECTS[type(operation.payload)](state, operation, operation.payload)


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
    return _with_member(founded, certificate, Member(certificate.member_name, "admin", operation.body.claimed_at, ()))


def _post_invitation(state: GroupState, operation: OpenOperation, payload: InvitePost) -> GroupState:
    rules.only_admins_manage_invitations(state, operation.author)
    rules.invitations_must_not_pile_up(state, operation.body.claimed_at)
    entry = InvitationEntry(operation.author, payload.role, payload.seed_public_key, payload.uses, payload.expires_at)
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
        return _with_node(state, certificate)
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
    admitted = _with_member(state, certificate, Member(certificate.member_name, entry.role, payload.admitted_at, ()))
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


def _bind_node(state: GroupState, operation: OpenOperation, payload: NodeBind) -> GroupState:
    certificate = _certificate(operation)
    rules.nodes_are_bound_by_their_member_or_an_admitter(state, operation.author, certificate.member_id)
    return _with_node(state, certificate)


def _propose_run(state: GroupState, operation: OpenOperation, payload: RunPropose) -> GroupState:
    rules.observers_do_not_propose(state, operation.author)
    proposer = operation.author
    entry = RunEntry(proposer, state.nodes[proposer].member_id, payload.manifest, operation.body.claimed_at)
    return _with_run(state, RunId(operation.hash), entry)


def _start_run(state: GroupState, operation: OpenOperation, payload: RunStart) -> GroupState:
    rules.author_must_be_a_bound_node(state, operation.author)
    entry = rules.run_must_exist(state, payload.run)
    rules.only_the_proposer_starts(entry, operation.author)
    rules.only_the_first_start_counts(entry)
    return _with_run(state, payload.run, replace(entry, start=payload.start, starter=operation.author))


def _stop_run(state: GroupState, operation: OpenOperation, payload: RunStop) -> GroupState:
    entry = rules.run_must_exist(state, payload.run)
    rules.only_proposers_and_admins_direct(state, entry, operation.author)
    rules.only_the_first_stop_counts(entry)
    stop = RunStopped(operation.author, payload.reason, operation.hash)
    return _with_run(state, payload.run, replace(entry, stop=stop, was_stopped=True))


def _resume_run(state: GroupState, operation: OpenOperation, payload: RunResume) -> GroupState:
    entry = rules.run_must_exist(state, payload.run)
    rules.only_proposers_and_admins_direct(state, entry, operation.author)
    stop = rules.a_resumption_lifts_the_stop_that_it_names(entry, payload.stop)
    return _with_run(state, payload.run, replace(entry, stop=stop, resumed=entry.resumed | {payload.checkpoint} - {""}))


def _extend_run(state: GroupState, operation: OpenOperation, payload: RunExtend) -> GroupState:
    entry = rules.run_must_exist(state, payload.run)
    rules.only_proposers_and_admins_direct(state, entry, operation.author)
    rounds = rules.the_furthest_extension_counts(entry, payload.rounds)
    return _with_run(state, payload.run, replace(entry, rounds=rounds))


def _with_run(state: GroupState, run: RunId, entry: RunEntry) -> GroupState:
    return replace(state, runs={**state.runs, run: entry})


def _with_member(state: GroupState, certificate: NodeCertificate, member: Member) -> GroupState:
    return _with_node(replace(state, members={**state.members, certificate.member_id: member}), certificate)


def _with_node(state: GroupState, certificate: NodeCertificate) -> GroupState:
    member = rules.owner_must_be_a_member(state, certificate.member_id)
    rules.node_belongs_to_one_member_for_ever(state, certificate)
    rules.only_newer_certificates_replace(state, certificate)
    if certificate.node_id not in state.nodes:
        rules.member_must_have_room(member)
        member = replace(member, nodes=(*member.nodes, certificate.node_id))
        state = replace(state, members={**state.members, certificate.member_id: member})
    node = NodeEntry(certificate.member_id, certificate.node_name, certificate.seal_key, certificate.issued_at)
    return replace(state, nodes={**state.nodes, certificate.node_id: node})


def _certificate(operation: OpenOperation) -> NodeCertificate:
    assert operation.certificate is not None  # open_operation opens it for every kind that carries one
    return operation.certificate


_EFFECTS: dict[type[Payload], Callable[[GroupState, OpenOperation, Any], GroupState]] = {
    GroupCreate: _create_group,
    InvitePost: _post_invitation,
    InviteRevoke: _revoke_invitation,
    MemberAdmit: _admit_member,
    NodeBind: _bind_node,
    RunPropose: _propose_run,
    RunStart: _start_run,
    RunStop: _stop_run,
    RunResume: _resume_run,
    RunExtend: _extend_run,
}
