"""What remains of a group's state when somebody is out: a member, one node, or a joiner whose admission is void.

A part of `group_reducer`, pure, the same on every node and for ever. Rules: docs/protocol.md §3.
"""

from collections.abc import Sequence
from dataclasses import replace

from protocol.group.operation_kinds import MemberAdmit, MemberRemove, MemberRole
from protocol.group.operations import OpenOperation
from protocol.group.state import (
    FormerMember,
    GroupState,
    Member,
    NodeEntry,
    RevokedNode,
    Rotation,
    Ruling,
)
from protocol.keys import MemberId, NodeId

# The codes of what voids an admission that its admitter may well have written in good faith, not knowing all.
_LET_IN_IN_VAIN = ("used-up", "revoked", "beaten", "group-full")


def without_member(
    state: GroupState, operation: OpenOperation, member_id: MemberId, reason: str, *, removed: bool
) -> GroupState:
    member = state.members[member_id]
    former = FormerMember(
        member,
        {node: state.nodes[node] for node in member.nodes},
        operation.hash,
        operation.author,
        operation.body.claimed_at,
        removed,
        reason,
        frozenset(state.invitations),
    )
    invitations = {
        invite_id: replace(entry, revoked=True) if removed and entry.posted_by == member_id else entry
        for invite_id, entry in state.invitations.items()
    }
    return replace(
        state,
        invitations=invitations,
        members={other: entry for other, entry in state.members.items() if other != member_id},
        nodes={node: entry for node, entry in state.nodes.items() if entry.member_id != member_id},
        former={**state.former, member_id: former},
        rotations=none_good(state),
        first_key_is_good=False,
    )


def none_good(state: GroupState) -> dict[int, Rotation]:
    # Also those that were not sealed to who is out: it may have made them, or had them handed when it came.
    return {epoch: replace(rotation, is_good=False) for epoch, rotation in state.rotations.items()}


def with_spoilt_key(state: GroupState, epoch: int) -> GroupState:
    """A new key is good for nothing that was made by who did not know of every removal: it may have been handed to who
    is out, by somebody who did not know that either."""
    return replace(state, rotations={**state.rotations, epoch: replace(state.rotations[epoch], is_good=False)})


def is_out_already(state: GroupState, operation: OpenOperation, against: Sequence[Ruling]) -> bool:
    """Whether whom this ruling is about was put out by one of those `against` which it was written."""
    payload = operation.payload
    out: FormerMember | RevokedNode | None = None
    if isinstance(payload, MemberRemove | MemberRole):
        out = state.former.get(payload.member)
    elif operation.revocation is not None:
        out = state.revoked.get(operation.revocation.node_id)
    return out is not None and any(ruling.operation == out.operation for ruling in against)


def without_node(
    state: GroupState, operation: OpenOperation, node_id: NodeId, member: Member, was: NodeEntry
) -> GroupState:
    """The state after a revocation of the node of `member`, which goes on."""
    left = replace(member, nodes=tuple(node for node in member.nodes if node != node_id))
    revoked = RevokedNode(was, operation.hash, operation.author, operation.body.claimed_at)
    return replace(
        state,
        members={**state.members, was.member_id: left},
        nodes={node: entry for node, entry in state.nodes.items() if node != node_id},
        revoked={**state.revoked, node_id: revoked},
        rotations=none_good(state),
        first_key_is_good=False,
    )


def without_joiner(state: GroupState, operation: OpenOperation, code: str) -> GroupState:
    """Whoever was let in by an admission that is void after all, by one who was in the group, is out like a former
    member, who may have the key."""
    certificate, payload = operation.certificate, operation.payload
    assert certificate is not None
    assert isinstance(payload, MemberAdmit)
    # An invitation that is void itself: the right to post it had been taken away.
    in_vain = code in _LET_IN_IN_VAIN or (code == "unknown-invitation" and payload.invite_id in state.refused)
    known = {*state.members, *state.former}
    if not in_vain or operation.author not in state.nodes or certificate.member_id in known:
        return state
    if certificate.node_id in state.nodes or certificate.node_id in state.revoked:
        return state  # of somebody else: it was never let in with this
    invitation = state.invitations.get(payload.invite_id)
    role = invitation.role if invitation else "member"
    was = Member(certificate.member_name, role, payload.admitted_at, (certificate.node_id,), operation.author)
    node = NodeEntry(certificate.member_id, certificate.node_name, certificate.seal_key, certificate.issued_at)
    former = FormerMember(
        was,
        {certificate.node_id: node},
        operation.hash,
        operation.author,
        operation.body.claimed_at,
        removed=False,
        void=code,
    )
    return replace(
        state,
        former={**state.former, certificate.member_id: former},
        rotations=none_good(state),
        first_key_is_good=False,
    )
