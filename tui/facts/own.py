"""What a node tells of its own member: its nodes and device links, what it says of itself, and whether all is well.

Answers of /v1/nodes, /v1/profile and /v1/doctor as frozen values; docs/api.md says what each field means.
"""

from dataclasses import dataclass
from datetime import datetime

from tui.facts.fields import Json, items, moment, name_of, text, texts

CHECK_STATES = ("wrong", "warning", "ok")  # the worst first


@dataclass(frozen=True, slots=True)
class OwnNode:
    """One of the member's nodes. `issued_at`: of its certificate; `revoked_at`: since when it is out for good."""

    node_id: str
    name: str
    is_self: bool = False
    holds_member_key: bool = False
    issued_at: datetime | None = None
    connected: bool = False
    last_heard_at: datetime | None = None
    groups: tuple[str, ...] = ()
    revoked_at: datetime | None = None

    @classmethod
    def of(cls, source: Json) -> "OwnNode":
        return cls(
            node_id=text(source, "node_id"),
            name=name_of(source, "name", "node_id"),
            is_self=source.get("is_self") is True,
            holds_member_key=source.get("holds_member_key") is True,
            issued_at=moment(source, "issued_at"),
            connected=source.get("connected") is True,
            last_heard_at=moment(source, "last_heard_at"),
            groups=texts(source, "groups"),
            revoked_at=moment(source, "revoked_at"),
        )


@dataclass(frozen=True, slots=True)
class DeviceLink:
    """A device token that is out, or was used by one machine."""

    link_id: str
    expires_at: datetime | None
    used_by: str = ""
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class OwnNodes:
    """The member that our node belongs to. `holds_member_key`: of the node that we look at."""

    member_id: str = ""
    member: str = ""
    holds_member_key: bool = False
    nodes: tuple[OwnNode, ...] = ()
    links: tuple[DeviceLink, ...] = ()

    def find(self, node_id: str) -> OwnNode | None:
        return next((node for node in self.nodes if node.node_id == node_id), None)

    @property
    def holders(self) -> tuple[OwnNode, ...]:
        """The nodes, not revoked, that hold the member's key."""
        return tuple(node for node in self.nodes if node.holds_member_key and node.revoked_at is None)


@dataclass(frozen=True, slots=True)
class Profile:
    """What the member says of itself; nobody has checked it."""

    name: str = ""
    organisation: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the doctor looked at. `state` is one of CHECK_STATES, or what a newer node calls it."""

    name: str
    state: str
    text: str
    remedy: str = ""


def own_nodes_of(answer: Json) -> OwnNodes:
    """Reads an answer of /v1/nodes: our own node first, then those that are in by name, then the revoked."""
    nodes = map(OwnNode.of, items(answer, "nodes"))
    links = (
        DeviceLink(
            text(each, "link_id"), moment(each, "expires_at"), text(each, "used_by"), each.get("revoked") is True
        )
        for each in items(answer, "links")
    )
    return OwnNodes(
        member_id=text(answer, "member_id"),
        member=name_of(answer, "member", "member_id"),
        holds_member_key=answer.get("holds_member_key") is True,
        nodes=tuple(sorted(nodes, key=lambda node: (node.revoked_at is not None, not node.is_self, node.name))),
        links=tuple(links),
    )


def profile_of(answer: Json) -> Profile:
    return Profile(text(answer, "name"), text(answer, "organisation"), text(answer, "contact"))


def checks_of(answer: Json) -> tuple[Check, ...]:
    """Reads an answer of /v1/doctor: the worst first."""
    found = (
        Check(text(each, "name"), text(each, "state"), text(each, "text"), text(each, "remedy"))
        for each in items(answer, "checks")
    )
    return tuple(sorted(found, key=_badness))


def _badness(check: Check) -> int:
    return CHECK_STATES.index(check.state) if check.state in CHECK_STATES else 0
