"""What a node tells of itself, its peers and its groups, as frozen values. docs/api.md says what each field means."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tui.facts.fields import Json, items, measure, moment, name_of, number, text, texts

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")  # of log lines, the least first


@dataclass(frozen=True, slots=True)
class Status:
    """The node that we look at."""

    node_id: str = ""
    name: str = ""
    version: str = ""
    home: str = ""
    started_at: datetime | None = None
    groups: tuple[str, ...] = ()
    peers_connected: int = 0
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
            peers_connected=number(source, "peers_connected"),
            bytes_sent=number(source, "bytes_sent"),
            bytes_received=number(source, "bytes_received"),
            refused_at_door=number(source, "refused_at_door"),
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

    @property
    def here(self) -> bool:
        """It can be worked with now."""
        return self.connected or self.ourselves

    @classmethod
    def of(cls, source: Json) -> "Peer":
        capacity = source.get("capacity")
        capacity = capacity if isinstance(capacity, Mapping) else {}
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
    """One member of a group, with the names of its nodes."""

    member_id: str
    name: str
    role: str
    admitted_at: datetime | None
    nodes: tuple[str, ...]


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


@dataclass(frozen=True, slots=True)
class Group:
    """One group that our node is in."""

    group_id: str
    name: str
    role: str
    operations: int
    members: tuple[Member, ...]
    invitations: tuple[Invitation, ...]

    @classmethod
    def of(cls, source: Json) -> "Group":
        return cls(
            group_id=text(source, "group_id"),
            name=name_of(source, "name", "group_id"),
            role=text(source, "role"),
            operations=number(source, "operations"),
            members=tuple(map(_member, items(source, "members"))),
            invitations=tuple(map(_invitation, items(source, "invitations"))),
        )


def _member(source: Json) -> Member:
    return Member(
        member_id=text(source, "member_id"),
        name=name_of(source, "name", "member_id"),
        role=text(source, "role"),
        admitted_at=moment(source, "admitted_at"),
        nodes=tuple(name_of(node, "name", "node_id") for node in items(source, "nodes")),
    )


def _invitation(source: Json) -> Invitation:
    return Invitation(
        invite_id=text(source, "invite_id"),
        role=text(source, "role"),
        uses=number(source, "uses"),
        used=number(source, "used"),
        expires_at=moment(source, "expires_at"),
        revoked=source.get("revoked") is True,
        by=text(source, "by"),
    )
