"""A group's operations in words: who did what, and why one does not count. For people; nothing is decided by it."""

from collections.abc import Mapping
from typing import NamedTuple

from node.membership.members_meant import short_member
from protocol.errors import RemoteProtocolError
from protocol.group.log import GroupLog
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
    RulingWitness,
    RunExtend,
    RunPropose,
    RunResume,
    RunStart,
    RunStop,
)
from protocol.group.operations import OpenOperation
from protocol.group.state import GroupState
from protocol.keys import Hash, NodeId, RunId
from protocol.manifest.manifest import unpack_manifest
from protocol.times import date_text

_ID_SHOWN = 8  # of a hash or an id: enough to tell the few of a group apart
_WHY = {
    "not-a-member": "its author was not in the group",
    "not-an-admin": "its author was no admin",
    "not-admitting": "observers admit nobody",
    "not-proposing": "observers propose no runs",
    "too-many-invitations": "too many invitations were out",
    "unknown-invitation": "there was no such invitation",
    "revoked": "the invitation, or the node, had been revoked",
    "used-up": "the invitation had been used up by others",
    "expired": "the invitation had expired",
    "bad-proof": "the joiner did not prove that it held the invitation's secret",
    "group-full": "the group was full",
    "bound-to-another": "the node belongs to another member",
    "already-bound": "the node was in already",
    "too-many-nodes": "the member had too many nodes",
    "no-such-run": "no such run was proposed",
    "not-the-proposer": "only the proposing node starts a run",
    "already-started": "the run had started already",
    "not-directing": "only the proposer and admins direct a run",
    "already-stopped": "the run was stopped already",
    "no-such-member": "there was no such member",
    "removing-itself": "nobody removes itself",
    "last-admin": "a group keeps its last admin",
    "removed": "the member had been removed, and the invitation was older",
    "beaten": "an admin had taken away the right to do so, without its author knowing",
    "senior-stays": "of admins who remove each other the one who came first stays",
    "not-of-the-group": "the key was made for somebody who is not in the group",
    "bad-epoch": "another key came first",
    "bad-keys": "the list of recipients is cut",
    "not-its-member": "only its own member revokes a node",
    "revoking-itself": "no node revokes itself",
    "no-such-node": "the member had no such node",
}


class Names(NamedTuple):
    """Names of nodes and members as certificates in the log have them, also of those who are out."""

    nodes: Mapping[str, str]
    members: Mapping[str, str]
    owners: Mapping[str, str]

    def node(self, node: str) -> str:
        return self.nodes.get(node) or node[-_ID_SHOWN:]

    def member(self, member: str) -> str:
        """The member's name, with its id where others are called the same, or were: names are anybody's to choose."""
        name = self.members.get(member)
        if name is None:
            return short_member(member)
        called = name.casefold()
        if sum(each.casefold() == called for each in self.members.values()) == 1:
            return name
        return f"{name} ({short_member(member)})"

    def of(self, node: str) -> str:
        """Whose node it is."""
        return self.member(self.owners[node]) if node in self.owners else self.node(node)


def names_of(log: GroupLog) -> Names:
    certificates = [operation.certificate for operation in log if operation.certificate is not None]
    return Names(
        {each.node_id: each.node_name for each in certificates},
        {each.member_id: each.member_name for each in certificates},
        {each.node_id: each.member_id for each in certificates},
    )


def why_void(state: GroupState, operation: OpenOperation) -> str:
    """Why the operation does not count, or "" where it does."""
    code = state.refused.get(operation.hash)
    return "" if code is None else _WHY.get(code, code)


def in_words(log: GroupLog, names: Names, operation: OpenOperation) -> str:
    """What the operation says, as a sentence without its subject's end: `removed bo: left the hospital`."""
    certificate = operation.certificate
    match operation.payload:
        case GroupCreate(name=name):
            return f"founded the group {name}"
        case InvitePost(role=role, uses=uses, expires_at=expires_at):
            times = "once" if uses == 1 else f"{uses} times"
            return f"invited {_a(role)}, {times}, until {date_text(expires_at)} ({operation.hash[:_ID_SHOWN]})"
        case InviteRevoke(invite_id=invite_id):
            return f"revoked the invitation {invite_id[:_ID_SHOWN]}{_posted_by(log, names, invite_id)}"
        case MemberAdmit(invite_id=invite_id) if certificate is not None:
            by = _posted_by(log, names, invite_id)
            return (
                f"admitted {names.member(certificate.member_id)} with node {certificate.node_name},"
                f" by the invitation {invite_id[:_ID_SHOWN]}{by}"
            )
        case NodeBind() if certificate is not None:
            return f"added node {certificate.node_name} of {names.member(certificate.member_id)}"
        case NodeRevoke() if operation.revocation is not None:
            return f"revoked node {names.node(operation.revocation.node_id)}, for good"
        case MemberProfile(name=name, organisation=organisation, contact=contact):
            return f"gave as its name {', '.join(filter(None, (name, organisation, contact)))}"
        case RulingWitness():
            return "confirmed what was decided before about admins and nodes"
        case MemberRemove(member=member, reason=reason):
            return f"removed {names.member(member)}{_because(reason)}"
        case MemberLeave():
            return "left the group"
        case MemberRole(member=member, role=role):
            return f"made {names.member(member)} {_a(role)}"
        case KeyRotate():
            return "made a new key for the group's messages"
    return _run_words(log, operation)


def _run_words(log: GroupLog, operation: OpenOperation) -> str:
    match operation.payload:
        case RunPropose():
            return f"proposed the run {_run_name(log, operation.hash)}"
        case RunStart(run=run):
            return f"started the run {_run_name(log, run)}"
        case RunStop(run=run, reason=reason):
            return f"stopped the run {_run_name(log, run)}{_because(reason)}"
        case RunResume(run=run):
            return f"let the run {_run_name(log, run)} go on"
        case RunExtend(run=run, rounds=rounds):
            return f"extended the run {_run_name(log, run)} to {rounds} rounds"
    return f"said {operation.body.kind}, which this version of fednode does not know"


def _run_name(log: GroupLog, run: Hash | RunId) -> str:
    payload = log[Hash(run)].payload if run in log else None
    if isinstance(payload, RunPropose):
        try:
            return f"{unpack_manifest(payload.manifest).name} ({run[:_ID_SHOWN]})"
        except RemoteProtocolError:
            pass
    return run[:_ID_SHOWN]


def _posted_by(log: GroupLog, names: Names, invite_id: Hash) -> str:
    return f" of {names.of(log[invite_id].author)}" if invite_id in log else ""


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _a(role: str) -> str:
    return f"an {role}" if role[0] in "ao" else f"a {role}"


def author_names(names: Names, author: NodeId) -> tuple[str, str]:
    """The name of the author's node, and its member's."""
    return names.node(author), names.of(author)
