"""What a group's log amounts to: members, nodes, invitations and runs, as frozen values.

A `GroupState` is a pure function of the set of operations in the log, the same on every node whatever the order of
arrival. `group_reducer` makes it; nothing here or there knows this node, its clock or its secrets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.fields import Role
from protocol.keys import GroupId, Hash, MemberId, NodeId, RunId

_NOBODY, _NO_MEMBER, _FIRST = NodeId(""), MemberId(""), (0, Hash(""))


@dataclass(frozen=True, slots=True)
class Ground:
    """An operation on which what somebody is in the group rests, its author's member and node, and the role it took."""

    operation: Hash
    by: MemberId
    node: NodeId
    needs: Role


@dataclass(frozen=True, slots=True)
class Member:
    """`admitted_at`: seconds, as signed by the admitter (by the creator for itself). `nodes`: in order of binding.

    `grounds`: the admission, its invitation, and the last change of the role; for the group's creator its creation is
    both of the first. `by`: the node that admitted it. `organisation`, `contact`: what it says of itself.
    """

    name: str
    role: Role
    admitted_at: int
    nodes: tuple[NodeId, ...]
    by: NodeId = _NOBODY
    grounds: tuple[Ground, ...] = field(default=(), repr=False)
    organisation: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """`seal_key`: X25519 public key. `issued_at`: of the certificate that counts now, seconds. `ground`: what bound it
    first."""

    member_id: MemberId
    name: str
    seal_key: bytes
    issued_at: int
    ground: Ground | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RevokedNode:
    """A node that is out for good, while its member goes on. `operation`: the revocation, by another node of that
    member, `at` the time it claims, in seconds. `was`: the node as it was before."""

    was: NodeEntry
    operation: Hash
    by: NodeId
    at: int


@dataclass(frozen=True, slots=True)
class FormerMember:
    """A member that is out. `operation`: the removal or departure, by a node, `at` the time it claims, in seconds.
    `void`: of a joiner who was never in, the code of the rule that voids its admission, which is the `operation` then.

    `was`, `nodes`: the member, and its nodes, as they were before. `invitations`: those that were out already."""

    was: Member
    nodes: Mapping[NodeId, NodeEntry]
    operation: Hash
    by: NodeId
    at: int
    removed: bool
    reason: str = ""
    invitations: frozenset[Hash] = frozenset()
    void: str = ""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A removal, a departure, a change of role or a revocation, as it looks from its own past. Rules: docs/protocol.md
    §3.

    `member`: whom it is about, with `role` from then on, None for out. `node`: the one of its nodes that it is about,
    "" for all that the member is. `author`: whose node says it. `fault`: the code of the rule that voids it already by
    its own past, or "". `place`, `seniority`: in canonical order, its own and those of its author's admission and of
    its author's node. `grounds`: itself, and what made its author what it is. `let_in`: what let in whom it is about.
    `council`: the members before it, where it may become final; else nobody. `wants_witnesses`: until it is.
    """

    operation: Hash
    place: tuple[int, Hash]
    author: MemberId
    member: MemberId
    role: Role | None
    fault: str = ""
    seniority: tuple[tuple[int, Hash], tuple[int, Hash]] = (_FIRST, _FIRST)
    grounds: tuple[Ground, ...] = ()
    node: NodeId = _NOBODY
    let_in: tuple[Hash, ...] = ()
    council: Mapping[MemberId, Member] = field(default_factory=dict, repr=False)
    wants_witnesses: bool = False


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key of the group that was made anew. `commitment`: the BLAKE3 of the key. `is_good`: nobody is out who may have
    it: nobody was put out, or left, after it was made."""

    by: NodeId
    operation: Hash
    commitment: Hash
    recipients: frozenset[NodeId]
    is_good: bool = True


@dataclass(frozen=True, slots=True)
class InvitationEntry:
    """`by`: the node that posted it, of member `posted_by`. `used`: admissions that counted. `expires_at`: seconds.

    A removal of that member has revoked it, too."""

    by: NodeId
    role: Role
    seed_public_key: bytes
    uses: int
    expires_at: int
    used: int = 0
    revoked: bool = False
    posted_by: MemberId = _NO_MEMBER


@dataclass(frozen=True, slots=True)
class RunStopped:
    """`operation`: the hash of the stop, by which a resumption lifts it."""

    by: NodeId
    reason: str
    operation: Hash


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A proposed run. `manifest` and `start` are opaque here. `proposed_at`: as its proposer claims, seconds.

    `stop`: the one that stands; `was_stopped`: whether there ever was one. `resumed`: the checkpoints from which the
    run is to go on. `rounds`: the furthest last round that an extension has asked for, 0 without any.
    """

    proposer: NodeId
    proposer_member: MemberId
    manifest: bytes
    proposed_at: int
    start: bytes | None = None
    starter: NodeId | None = None
    stop: RunStopped | None = None
    was_stopped: bool = False
    resumed: frozenset[str] = frozenset()
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class GroupState:
    """The group now. Mappings are in canonical order and must not be changed.

    `former`: who is out, and was not let in again. `revoked`: the nodes that are out for good. `rotations`: by epoch.
    `refused`: the operations that a rule voided, with the rule's code.
    `unknown_critical`: the kinds that this version does not know and must not ignore. `first_key_is_good`: that of
    epoch 0; nobody was ever out.
    """

    group_id: GroupId
    name: str = ""
    members: Mapping[MemberId, Member] = field(default_factory=dict)
    nodes: Mapping[NodeId, NodeEntry] = field(default_factory=dict)
    invitations: Mapping[Hash, InvitationEntry] = field(default_factory=dict)
    runs: Mapping[RunId, RunEntry] = field(default_factory=dict)
    former: Mapping[MemberId, FormerMember] = field(default_factory=dict)
    revoked: Mapping[NodeId, RevokedNode] = field(default_factory=dict)
    rotations: Mapping[int, Rotation] = field(default_factory=dict)
    refused: Mapping[Hash, str] = field(default_factory=dict)
    unknown_critical: frozenset[str] = frozenset()
    first_key_is_good: bool = True

    def member_of(self, node_id: NodeId) -> Member | None:
        """The member that `node_id` is bound to, or None for a stranger."""
        node = self.nodes.get(node_id)
        return self.members[node.member_id] if node else None

    def admits(self, node_id: NodeId) -> bool:
        """Whether the door is open to `node_id`."""
        return node_id in self.nodes

    def former_of(self, node_id: NodeId) -> FormerMember | None:
        """The member that `node_id` was bound to, where that member is out now."""
        return next((former for former in self.former.values() if node_id in former.nodes), None)

    def good_epochs(self) -> tuple[int, ...]:
        """The epochs whose keys nobody has who is not in the group, newest first.

        The key with which the group began, epoch 0, is everybody's: it is good until somebody is put out or
        leaves, and never again, whoever comes back."""
        good = [epoch for epoch, rotation in self.rotations.items() if rotation.is_good]
        return (*sorted(good, reverse=True), *((0,) if self.first_key_is_good else ()))
