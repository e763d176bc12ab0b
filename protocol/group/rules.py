"""The rules of a group, each a function under its sentence. docs/protocol.md §3 cites them by name.

Every rule is a pure function of the state before the operation, in canonical order, and of signed values. It returns
nothing, or what the next rule needs, and raises Refused where it says no. Reducer, authors and admitters share them,
so nobody is promised what the log would void.
"""

from collections.abc import Sequence

from protocol.errors import Refused
from protocol.fields import Role
from protocol.group.admission import AdmissionStatement, proof_is_valid
from protocol.group.state import GroupState, InvitationEntry, Member, NodeEntry, RunEntry, RunStopped
from protocol.group.why_out import why_revoked
from protocol.identity import NodeCertificate, NodeRevocation
from protocol.keys import Hash, MemberId, NodeId, RunId
from protocol.limits import EPOCH_MAX, EPOCH_STEP, GROUP_MEMBERS_MAX, NODES_PER_MEMBER_MAX, OUTSTANDING_INVITATIONS_MAX
from protocol.times import ago_text


def author_must_be_a_bound_node(state: GroupState, author: NodeId) -> Member:
    """Only nodes that are bound to a member have a say in the group."""
    member = state.member_of(author)
    if member is None:
        raise Refused(
            "not-a-member", f"Node {author} belongs to no member of the group", remedy="join with an invitation first"
        )
    return member


def only_admins_manage_invitations(state: GroupState, author: NodeId) -> None:
    """Only nodes of admins post and revoke invitations."""
    _only_admins(state, author, "manage invitations")


def only_admins_remove(state: GroupState, author: NodeId) -> None:
    """Only nodes of admins remove members."""
    _only_admins(state, author, "remove members")


def only_admins_change_roles(state: GroupState, author: NodeId) -> None:
    """Only nodes of admins change roles."""
    _only_admins(state, author, "change roles")


def only_admins_rotate_the_key(state: GroupState, author: NodeId) -> None:
    """Only nodes of admins make a new key for the group."""
    _only_admins(state, author, "make a new key")


def whoever_goes_of_its_own_will_leaves(state: GroupState, author: NodeId, member_id: MemberId) -> None:
    """A member that goes of its own will leaves; nobody removes itself."""
    if state.nodes[author].member_id == member_id:
        raise Refused("removing-itself", "A member does not remove itself", remedy="leave the group instead")


def only_members_are_ruled_on(state: GroupState, member_id: MemberId) -> Member:
    """Only who is a member is removed, or gets another role."""
    member = state.members.get(member_id)
    if member is None:
        raise Refused(
            "no-such-member",
            f"{state.name} has no member {member_id}",
            remedy="see fednode group show for those that it has",
        )
    return member


def the_last_admin_stays(state: GroupState, member_id: MemberId, role: Role | None) -> None:
    """The last admin neither leaves nor is removed or made less: first somebody else becomes an admin. Who is alone in
    a group may leave it, and ends it."""
    if role == "admin" or state.members[member_id].role != "admin" or (role is None and len(state.members) == 1):
        return
    if not any(member.role == "admin" for other, member in state.members.items() if other != member_id):
        raise Refused(
            "last-admin",
            f"{state.members[member_id].name} is the only admin of {state.name}",
            remedy="make somebody else an admin first: fednode group role MEMBER admin",
        )


def the_removed_need_a_newer_invitation(state: GroupState, invite_id: Hash, member_id: MemberId) -> None:
    """Who was removed comes back only by an invitation that was posted after the removal, in canonical order."""
    former = state.former.get(member_id)
    if former is not None and former.removed and invite_id in former.invitations:
        raise Refused(
            "removed",
            f"{former.was.name} was removed from {state.name}, and this invitation is older than that",
            remedy="ask an admin for a new invitation",
        )


def recipients_are_of_the_group(state: GroupState, recipients: Sequence[NodeId]) -> None:
    """A new key is sealed to nodes of the group alone, and to each once."""
    if len(set(recipients)) != len(recipients) or not state.nodes.keys() >= set(recipients):
        raise Refused(
            "not-of-the-group",
            f"The new key is sealed to somebody who is not in {state.name}",
            remedy="make another key, for those who are",
        )


def epochs_follow_each_other(state: GroupState, epoch: int) -> None:
    """A new key's epoch is no other key's, and at most one step of EPOCH_STEP beyond the newest."""
    newest = max(state.rotations, default=0)
    if epoch in state.rotations or epoch // EPOCH_STEP > newest // EPOCH_STEP + 1 or epoch > EPOCH_MAX:
        raise Refused("bad-epoch", f"The new key's epoch, {epoch}, is not the next", remedy="make another key")


def only_admins_and_members_admit(state: GroupState, author: NodeId) -> None:
    """Only nodes of admins and members admit joiners."""
    member = author_must_be_a_bound_node(state, author)
    if member.role == "observer":
        raise Refused(
            "not-admitting",
            f"{member.name} is an observer of {state.name}, and observers admit nobody",
            remedy="knock at a node of a member or an admin",
        )


def nodes_are_bound_by_their_member_or_an_admitter(state: GroupState, author: NodeId, owner: MemberId) -> None:
    """A node is bound by another node of the same member, or by one that may admit joiners."""
    author_must_be_a_bound_node(state, author)
    if state.nodes[author].member_id != owner:
        only_admins_and_members_admit(state, author)


def observers_do_not_propose(state: GroupState, author: NodeId) -> None:
    """Observers propose no runs."""
    member = author_must_be_a_bound_node(state, author)
    if member.role == "observer":
        raise Refused(
            "not-proposing",
            f"{member.name} is an observer of {state.name}, and observers propose no runs",
            remedy="ask a member of the group to propose it",
        )


def invitations_must_not_pile_up(state: GroupState, claimed_at: int) -> None:
    """A group has at most OUTSTANDING_INVITATIONS_MAX invitations that could still be used when a new one is posted."""
    outstanding = sum(
        not entry.revoked and entry.used < entry.uses and entry.expires_at > claimed_at
        for entry in state.invitations.values()
    )
    if outstanding >= OUTSTANDING_INVITATIONS_MAX:
        raise Refused(
            "too-many-invitations",
            f"{state.name} has {outstanding} invitations that nobody has used yet",
            remedy="revoke some, or wait until they expire",
        )


def invitation_must_exist(state: GroupState, invite_id: Hash) -> InvitationEntry:
    """An invitation counts only when an admin has posted it before."""
    entry = state.invitations.get(invite_id)
    if entry is None:
        raise Refused(
            "unknown-invitation",
            f"No invitation {invite_id[:12]} is known in {state.name}",
            remedy="knock at another node of the group, or ask for a new invitation",
        )
    return entry


def invitation_must_not_be_revoked(entry: InvitationEntry) -> None:
    """A revoked invitation admits nobody from then on, in canonical order."""
    if entry.revoked:
        raise Refused("revoked", "The invitation was revoked by an admin", remedy="ask for a new invitation")


def invitation_must_have_uses_left(entry: InvitationEntry) -> None:
    """Of more admissions than an invitation allows, the earliest in canonical order count."""
    if entry.used >= entry.uses:
        times = "once" if entry.uses == 1 else f"{entry.uses} times"
        raise Refused("used-up", f"The invitation was good {times} and is used up", remedy="ask for a new invitation")


def invitation_must_not_have_expired(entry: InvitationEntry, admitted_at: int) -> None:
    """The admitter's signed reading of its clock is not after the invitation's signed expiry; no other clock counts."""
    if admitted_at > entry.expires_at:
        raise Refused(
            "expired",
            f"The invitation expired {ago_text(entry.expires_at, admitted_at)}, by the clock of who was asked",
            remedy="ask for a new invitation",
        )


def joiner_must_hold_the_seed(entry: InvitationEntry, statement: AdmissionStatement, proof: bytes) -> None:
    """The joiner has signed, with the invitation's seed, for this group, this joiner, this admitter and its nonce."""
    if not proof_is_valid(entry.seed_public_key, statement, proof):
        raise Refused(
            "bad-proof",
            "The joiner did not prove that it holds the invitation's secret",
            remedy="use the token exactly as it was given, on the node that joins",
        )


def group_must_have_room(state: GroupState) -> None:
    """A group has at most GROUP_MEMBERS_MAX members."""
    if len(state.members) >= GROUP_MEMBERS_MAX:
        raise Refused(
            "group-full",
            f"{state.name} has {len(state.members)} members, the most it can",
            remedy="found another group",
        )


def owner_must_be_a_member(state: GroupState, member_id: MemberId) -> Member:
    """A node is bound to a member that the group has."""
    member = state.members.get(member_id)
    if member is None:
        raise Refused(
            "not-a-member", f"{member_id} is no member of {state.name}", remedy="join with an invitation first"
        )
    return member


def node_belongs_to_one_member_for_ever(state: GroupState, certificate: NodeCertificate) -> None:
    """A node that is bound to one member is never bound to another."""
    bound = state.nodes.get(certificate.node_id)
    former = None if bound else state.former_of(certificate.node_id)
    revoked = state.revoked.get(certificate.node_id)
    before = bound or (former.nodes[certificate.node_id] if former else revoked.was if revoked else None)
    if before is not None and before.member_id != certificate.member_id:
        owner = former.was if former else state.members.get(before.member_id)
        raise Refused(
            "bound-to-another",
            f"Node {certificate.node_id} belongs to {owner.name if owner else before.member_id} already",
            remedy="join with a node that has a key of its own",
        )


def only_newer_certificates_replace(state: GroupState, certificate: NodeCertificate) -> None:
    """A bound node's certificate is replaced by one that was issued later, and by no other."""
    bound = state.nodes.get(certificate.node_id)
    if bound is not None and certificate.issued_at <= bound.issued_at:
        raise Refused("already-bound", f"Node {certificate.node_id} is bound already", remedy="nothing is left to do")


def member_must_have_room(member: Member) -> None:
    """A member has at most NODES_PER_MEMBER_MAX nodes in a group."""
    if len(member.nodes) >= NODES_PER_MEMBER_MAX:
        raise Refused(
            "too-many-nodes",
            f"{member.name} has {len(member.nodes)} nodes in the group, the most that one member can",
            remedy="use one of them, or another group",
        )


def a_node_is_revoked_by_another_of_its_member(state: GroupState, author: NodeId, revocation: NodeRevocation) -> Member:
    """A node is revoked by another node of the same member, with the word of the member's own key; so a member's last
    node is not revoked: the member leaves, or is removed."""
    member = author_must_be_a_bound_node(state, author)
    if state.nodes[author].member_id != revocation.member_id:
        raise Refused(
            "not-its-member",
            f"{member.name} cannot revoke a node of another member",
            remedy="ask its member to revoke it, or remove the member: fednode group remove MEMBER",
        )
    if author == revocation.node_id:
        raise Refused(
            "revoking-itself",
            "A node does not revoke itself",
            remedy="revoke it from another node of yours, or leave the group: fednode group leave",
        )
    return member


def only_bound_nodes_are_revoked(state: GroupState, revocation: NodeRevocation) -> NodeEntry:
    """Only a node that is bound to the member is revoked."""
    node = state.nodes.get(revocation.node_id)
    if node is None or node.member_id != revocation.member_id:
        raise Refused(
            "no-such-node",
            f"{revocation.node_id} is no node of {state.members[revocation.member_id].name} in {state.name}",
            remedy="see fednode nodes for those that there are",
        )
    return node


def a_revoked_node_is_never_bound_again(state: GroupState, certificate: NodeCertificate) -> None:
    """A node that was revoked is never bound again in the group."""
    if certificate.node_id in state.revoked:
        raise why_revoked(state, certificate.node_id)


def run_must_exist(state: GroupState, run: RunId) -> RunEntry:
    """A run is started, stopped, resumed and extended only once it is proposed."""
    entry = state.runs.get(run)
    if entry is None:
        raise Refused("no-such-run", f"No run {run[:12]} was proposed in {state.name}", remedy="see fednode run list")
    return entry


def only_the_proposer_starts(entry: RunEntry, author: NodeId) -> None:
    """A run is started by the node that proposed it."""
    if author != entry.proposer:
        raise Refused(
            "not-the-proposer",
            f"Node {author} wants to start a run that {entry.proposer} proposed",
            remedy="start it on the node that proposed it",
        )


def only_the_first_start_counts(entry: RunEntry) -> None:
    """A run starts once: the first start in canonical order counts."""
    if entry.start is not None:
        raise Refused("already-started", "The run has started already", remedy="nothing is left to do")


def only_proposers_and_admins_direct(state: GroupState, entry: RunEntry, author: NodeId) -> None:
    """A run is stopped, resumed and extended by a node of the member that proposed it, or of an admin."""
    member = author_must_be_a_bound_node(state, author)
    if state.nodes[author].member_id != entry.proposer_member and member.role != "admin":
        raise Refused(
            "not-directing",
            f"{member.name} neither proposed the run nor is an admin of {state.name}",
            remedy="ask the run's proposer or an admin; on your own nodes you can decline it",
        )


def only_the_first_stop_counts(entry: RunEntry) -> None:
    """A run is stopped once, until it is resumed: the first stop in canonical order counts."""
    if entry.stop is not None:
        raise Refused("already-stopped", "The run is stopped already", remedy="nothing is left to do")


def a_resumption_lifts_the_stop_that_it_names(entry: RunEntry, stop: str) -> RunStopped | None:
    """A resumption lifts the stop that it names, and no other."""
    return None if entry.stop is not None and entry.stop.operation == stop else entry.stop


def the_furthest_extension_counts(entry: RunEntry, rounds: int) -> int:
    """Of several extensions the furthest counts, whatever their order."""
    return max(entry.rounds, rounds)


def _a(role: str) -> str:
    return f"an {role}" if role[0] in "ao" else f"a {role}"


def _only_admins(state: GroupState, author: NodeId, doing: str) -> None:
    member = author_must_be_a_bound_node(state, author)
    if member.role != "admin":
        raise Refused(
            "not-an-admin",
            f"{member.name} is {_a(member.role)} of {state.name}, and only admins {doing}",
            remedy="ask an admin of the group to do it",
        )
