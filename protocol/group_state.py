"""What a group's log amounts to: members, nodes, invitations and runs, as frozen values.

A `GroupState` is a pure function of the set of operations in the log, the same on every node whatever the order of
arrival. `group_reducer` makes it; nothing here or there knows this node, its clock or its secrets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.fields import Role
from protocol.keys import GroupId, Hash, MemberId, NodeId, RunId


@dataclass(frozen=True, slots=True)
class Member:
    """`admitted_at`: seconds, as signed by the admitter (by the creator for itself). `nodes`: in order of binding."""

    name: str
    role: Role
    admitted_at: int
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """`seal_key`: X25519 public key. `issued_at`: of the certificate that counts now, seconds."""

    member_id: MemberId
    name: str
    seal_key: bytes
    issued_at: int


@dataclass(frozen=True, slots=True)
class InvitationEntry:
    """`by`: the node that posted it. `used`: admissions that counted. `expires_at`: seconds."""

    by: NodeId
    role: Role
    seed_public_key: bytes
    uses: int
    expires_at: int
    used: int = 0
    revoked: bool = False


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

    `refused`: the operations that a rule voided, with the rule's code.
    `unknown_critical`: the kinds that this version does not know and must not ignore.
    """

    group_id: GroupId
    name: str = ""
    members: Mapping[MemberId, Member] = field(default_factory=dict)
    nodes: Mapping[NodeId, NodeEntry] = field(default_factory=dict)
    invitations: Mapping[Hash, InvitationEntry] = field(default_factory=dict)
    runs: Mapping[RunId, RunEntry] = field(default_factory=dict)
    refused: Mapping[Hash, str] = field(default_factory=dict)
    unknown_critical: frozenset[str] = frozenset()

    def member_of(self, node_id: NodeId) -> Member | None:
        """The member that `node_id` is bound to, or None for a stranger."""
        node = self.nodes.get(node_id)
        return self.members[node.member_id] if node else None

    def admits(self, node_id: NodeId) -> bool:
        """Whether the door is open to `node_id`."""
        return node_id in self.nodes
