"""What a node tells of itself, its peers and its groups, as frozen values. docs/api.md says what each field means."""

from dataclasses import dataclass
from datetime import datetime

from tui.facts.fields import Json, items, lines_of, measure, moment, name_of, number, object_of, text, texts

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")  # of log lines, the least first
ROLES = ("member", "observer", "admin")  # the one that most people get first
TOLD_OF_ROLES = (
    "member trains and proposes runs, observer only follows them, admin also invites, removes, changes roles"
)


@dataclass(frozen=True, slots=True)
class Status:
    """The node that we look at."""

    node_id: str = ""
    name: str = ""
    version: str = ""
    home: str = ""
    started_at: datetime | None = None
    groups: tuple[str, ...] = ()
    bytes_sent: int = 0
    bytes_received: int = 0
    refused_at_door: int = 0
    is_record: bool = False  # of a node that does not run: nobody is here, and nobody is away

    @classmethod
    def of(cls, source: Json) -> "Status":
        return cls(
            is_record=source.get("is_record") is True,
            node_id=text(source, "node_id"),
            name=text(source, "name"),
            version=text(source, "version"),
            home=text(source, "home"),
            started_at=moment(source, "started_at"),
            groups=tuple(text(group, "name") for group in items(source, "groups")),
            bytes_sent=number(source, "bytes_sent"),
            bytes_received=number(source, "bytes_received"),
            refused_at_door=number(source, "refused_at_door"),
        )


@dataclass(frozen=True, slots=True)
class Link:
    """The way between a node and ours. Rates in bytes a second; what nobody measured lately is None."""

    rtt_s: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    sent_per_s: float | None = None
    received_per_s: float | None = None
    path: str = ""  # "direct", "relayed", or empty without a connection
    blobs_by: str = ""  # "tls", "libp2p", which is slow, or empty where none came

    @property
    def rate(self) -> float:
        return (self.sent_per_s or 0.0) + (self.received_per_s or 0.0)

    @classmethod
    def of(cls, source: Json) -> "Link":
        return cls(
            rtt_s=measure(source, "rtt_s"),
            bytes_sent=number(source, "bytes_sent"),
            bytes_received=number(source, "bytes_received"),
            sent_per_s=measure(source, "sent_per_s"),
            received_per_s=measure(source, "received_per_s"),
            path=text(source, "path"),
            blobs_by=text(source, "blobs_by"),
        )


@dataclass(frozen=True, slots=True)
class Peer:
    """One node of our groups, ourselves among them."""

    node_id: str
    name: str = ""
    member_id: str = ""
    ourselves: bool = False
    connected: bool = False
    last_seen: datetime | None = None
    addresses: tuple[str, ...] = ()
    version: str = ""
    groups: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    cpu_cores: int = 0
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    disk_free_bytes: int = 0
    gpus: tuple[str, ...] = ()
    load_1m: float | None = None
    data_sets: int = 0
    link: Link = Link()
    heard: bool = False  # lately, of a node to which no connection is kept

    @property
    def here(self) -> bool:
        """It can be worked with now."""
        return self.connected or self.ourselves or self.heard

    @classmethod
    def of(cls, source: Json) -> "Peer":
        capacity = object_of(source, "capacity")
        return cls(
            node_id=text(source, "node_id"),
            name=name_of(source, "name", "node_id"),
            member_id=text(source, "member_id"),
            ourselves=source.get("self") is True,
            connected=source.get("connected") is True,
            last_seen=moment(source, "last_seen"),
            addresses=texts(source, "addresses"),
            version=text(source, "version"),
            groups=texts(source, "groups"),
            runs=texts(source, "runs"),
            cpu_cores=number(capacity, "cpu_cores"),
            memory_bytes=number(capacity, "memory_bytes"),
            memory_free_bytes=number(capacity, "memory_free_bytes"),
            disk_free_bytes=number(capacity, "disk_free_bytes"),
            gpus=texts(capacity, "gpus"),
            load_1m=measure(capacity, "load_1m"),
            data_sets=number(source, "data_sets"),
            link=Link.of(object_of(source, "link")),
            heard=source.get("here") is True,
        )


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the node's log."""

    time: datetime | None
    level: str
    node_id: str
    run_id: str
    logger: str
    message: str
    seq: int = 0
    whole: str = ""  # the message with all of its lines, where that is more than `message`

    @property
    def key(self) -> tuple[str, int]:
        """Tells lines apart: each node numbers its own."""
        return self.node_id, self.seq

    @classmethod
    def of(cls, source: Json) -> "LogLine":
        return cls(
            time=moment(source, "time"),
            level=text(source, "level").upper() or "INFO",
            node_id=text(source, "node_id"),
            run_id=text(source, "run_id"),
            logger=text(source, "logger"),
            message=text(source, "message"),
            seq=number(source, "seq"),
            whole=lines_of(source, "message"),
        )


@dataclass(frozen=True, slots=True)
class Transfer:
    """An update or a checkpoint that just went from one node to another. `at`: the dashboard's clock, seconds."""

    run_id: str
    sender: str
    receiver: str
    kind: str
    bytes: int
    round: int
    at: float

    @classmethod
    def of(cls, source: Json, at: float) -> "Transfer":
        return cls(
            run_id=text(source, "run_id"),
            sender=text(source, "from"),
            receiver=text(source, "to"),
            kind=text(source, "kind"),
            bytes=number(source, "bytes"),
            round=number(source, "round"),
            at=at,
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a group, with the names and ids of its nodes. `organisation`, `contact`: as it claims."""

    member_id: str
    name: str
    role: str
    admitted_at: datetime | None
    nodes: tuple[str, ...]
    admitted_by: str = ""
    node_ids: tuple[str, ...] = ()
    organisation: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class FormerMember:
    """Somebody who is out of a group. `how`: in words."""

    member_id: str
    name: str
    since: datetime | None
    how: str


@dataclass(frozen=True, slots=True)
class RevokedNode:
    """One node of a member that is out for good. `how`: in words."""

    node_id: str
    name: str
    member: str
    member_id: str
    since: datetime | None
    how: str


@dataclass(frozen=True, slots=True)
class Invitation:
    """One invitation into a group."""

    invite_id: str
    role: str
    uses: int
    used: int
    expires_at: datetime | None
    revoked: bool
    by: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One group that our node is in."""

    group_id: str
    name: str
    role: str
    operations: int
    members: tuple[Member, ...]
    invitations: tuple[Invitation, ...]
    former: tuple[FormerMember, ...] = ()
    revoked: tuple[RevokedNode, ...] = ()
    out: str = ""  # why our node is out of it, in words

    @classmethod
    def of(cls, source: Json) -> "Group":
        return cls(
            group_id=text(source, "group_id"),
            name=name_of(source, "name", "group_id"),
            role=text(source, "role"),
            operations=number(source, "operations"),
            members=tuple(map(_member, items(source, "members"))),
            invitations=tuple(map(_invitation, items(source, "invitations"))),
            former=tuple(map(_former, items(source, "former"))),
            revoked=tuple(map(_revoked, items(source, "revoked"))),
            out=text(object_of(source, "out"), "text") or text(source, "turned_away"),
        )


def _member(source: Json) -> Member:
    return Member(
        member_id=text(source, "member_id"),
        name=name_of(source, "name", "member_id"),
        role=text(source, "role"),
        admitted_at=moment(source, "admitted_at"),
        nodes=tuple(name_of(node, "name", "node_id") for node in items(source, "nodes")),
        admitted_by=text(source, "admitted_by"),
        node_ids=tuple(text(node, "node_id") for node in items(source, "nodes")),
        organisation=text(source, "organisation"),
        contact=text(source, "contact"),
    )


def _former(source: Json) -> FormerMember:
    how = f"removed by {text(source, 'by')}" if source.get("removed") is True else "left"
    reason = text(source, "reason")
    return FormerMember(
        member_id=text(source, "member_id"),
        name=name_of(source, "name", "member_id"),
        since=moment(source, "at"),
        how=f"{how}: {reason}" if reason else how,
    )


def _revoked(source: Json) -> RevokedNode:
    by = text(source, "by")
    return RevokedNode(
        node_id=text(source, "node_id"),
        name=name_of(source, "name", "node_id"),
        member=name_of(source, "member", "member_id"),
        member_id=text(source, "member_id"),
        since=moment(source, "at"),
        how=f"revoked by {by}" if by else "revoked",
    )


def _invitation(source: Json) -> Invitation:
    return Invitation(
        invite_id=text(source, "invite_id"),
        role=text(source, "role"),
        uses=number(source, "uses"),
        used=number(source, "used"),
        expires_at=moment(source, "expires_at"),
        revoked=source.get("revoked") is True,
        by=name_of(source, "by_name", "by"),
        state=text(source, "state"),
    )
