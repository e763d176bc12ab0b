"""The nodes of one member as they know each other: a set of what the member's key has signed, which only grows.

A certificate says that a node is the member's, a revocation that it is not any more; a revocation wins, for ever and
wherever it comes from. What another key has signed never enters. With them stand the device tokens that this node has
given out. Pure: the owner makes it durable. Rules: docs/protocol.md §10.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import GroupIdText, HashText, Name, Seconds
from protocol.group.address_record import RawAddressRecords
from protocol.group.operation_kinds import RawCertificate, RawRevocation
from protocol.identity import NodeRevocation, open_certificate, open_revocation
from protocol.keys import Hash, MemberId, NodeId
from protocol.limits import NODES_PER_MEMBER_MAX
from protocol.times import ago_text
from protocol.wire import Wire, hash_of

NODES_EVER_MAX = 2 * NODES_PER_MEMBER_MAX  # of one member, the revoked ones with them: all fit into one message
GROUPS_TOLD_MAX = 256  # of one node; who is in more groups than people can name tells of the newest
SIBLING_NEWS_BYTES_MAX = 2 * 1024 * 1024  # 512 of each kind, with names of the longest, have about 1.6 MiB
OPEN_LINKS_MAX = 32  # device tokens that nobody has used yet: one for every machine that is being set up today
LINK_KEPT_S = 30 * 86_400  # so long after its end a token's second user is told that it is used, or was too late

RawCertificates = Annotated[tuple[RawCertificate, ...], Field(max_length=NODES_EVER_MAX)]
RawRevocations = Annotated[tuple[RawRevocation, ...], Field(max_length=NODES_EVER_MAX)]


class GroupTold(Wire):
    """A group in which the teller is. `admission`: the operation by which its member is in."""

    group: GroupIdText
    name: Name
    admission: HashText


GroupsTold = Annotated[tuple[GroupTold, ...], Field(max_length=GROUPS_TOLD_MAX)]


class ProfileTold(Wire):
    """What the member says of itself. Of two the one that was set later counts, by its setter's clock."""

    name: Name
    organisation: Name | Literal[""]
    contact: Name | Literal[""]
    set_at: Seconds


class SiblingNews(Wire):
    """What one of the member's nodes tells another. `digest`: over all certificates and revocations that it holds.

    `opens`: answer with yours where the digests differ. A short one, which only compares, carries neither of them.
    `known`: address records, the teller's own first, then its siblings'.
    """

    opens: bool
    digest: HashText
    certificates: RawCertificates = ()
    revocations: RawRevocations = ()
    groups: GroupsTold = ()
    holds_member_key: bool
    known: RawAddressRecords
    profile: ProfileTold | None = None


@dataclass(frozen=True, slots=True)
class OpenLink:
    """A device token that is out. `link_id`: the public half of its seed, in hex. `expires_at`: seconds.

    `revoked`: its maker took it back before anybody used it."""

    link_id: Hash
    expires_at: int
    used_by: NodeId | None = None
    revoked: bool = False

    def is_open(self, now: int) -> bool:
        """Whether somebody can still be linked by it who has not been."""
        return self.used_by is None and not self.revoked and now <= self.expires_at


class Siblings:
    """Of the member `member_id`. Nothing but what its key has signed gets in."""

    def __init__(self, member_id: MemberId) -> None:
        self.member_id = member_id
        self.certificates: dict[NodeId, bytes] = {}
        self.revocations: dict[NodeId, bytes] = {}
        self.links: dict[Hash, OpenLink] = {}

    def admits(self, node: NodeId) -> bool:
        """Whether `node` is one of the member's, as far as is known here."""
        return node in self.certificates and node not in self.revocations

    def revocation(self, node: NodeId) -> NodeRevocation | None:
        raw = self.revocations.get(node)
        return None if raw is None else open_revocation(raw)

    def digest(self) -> Hash:
        """One hash for all certificates and revocations."""
        return hash_of("".join(sorted(map(hash_of, self._all()))).encode())

    def add_certificate(self, raw: bytes) -> bool:
        """Whether it is news: of a new node, or newer than the one that is here. Where there is no room, it is not.

        Raises RemoteProtocolError when it is malformed, or not this member's.
        """
        certificate = open_certificate(raw)
        self._check_ours(certificate.member_id)
        node = NodeId(certificate.node_id)
        before = self.certificates.get(node)
        if before is None and not self._has_room_for(node):
            return False
        if before is not None and (open_certificate(before).issued_at, before) >= (certificate.issued_at, raw):
            return False
        self.certificates[node] = raw
        return True

    def add_revocation(self, raw: bytes) -> bool:
        """Whether it is news. Raises RemoteProtocolError when it is malformed, or not this member's."""
        revocation = open_revocation(raw)
        self._check_ours(revocation.member_id)
        node = NodeId(revocation.node_id)
        is_known = node in self.certificates
        if node in self.revocations or (not is_known and len(self._nodes_ever()) >= NODES_EVER_MAX):
            return False
        self.revocations[node] = raw
        return True

    def add_all(self, certificates: Iterable[bytes], revocations: Iterable[bytes]) -> bool:
        """Whether any is news. Revocations go first, so that what they end never counts. Raises as `add_certificate`,
        and then nothing of it has entered."""
        certificates, revocations = list(certificates), list(revocations)
        for raw in certificates:
            self._check_ours(open_certificate(raw).member_id)
        for raw in revocations:
            self._check_ours(open_revocation(raw).member_id)
        news = [self.add_revocation(raw) for raw in revocations] + [self.add_certificate(raw) for raw in certificates]
        return any(news)

    def lacks(self, news: SiblingNews) -> bool:
        """Whether whoever holds what `news` brings holds less than we."""
        return bool(set(self._all()) - {*news.certificates, *news.revocations})

    def check_has_room(self, node: NodeId) -> None:
        """Raises Refused when the member cannot have `node` as one more."""
        if node not in self.certificates and not self._has_room_for(node):
            raise Refused(
                "too-many-nodes",
                f"The member has {NODES_PER_MEMBER_MAX} nodes, or has had {NODES_EVER_MAX}: it cannot have more",
                remedy="revoke nodes that are not used any more: fednode nodes revoke NODE",
            )

    # --- device tokens that are out ------------------------------------------------------------------------------
    def open_link(self, link_id: Hash, *, expires_at: int, now: int) -> None:
        """Note a new device token. Raises Refused when too many are out."""
        for link in list(self.links.values()):
            if now > link.expires_at + LINK_KEPT_S:
                del self.links[link.link_id]
        if sum(link.is_open(now) for link in self.links.values()) >= OPEN_LINKS_MAX:
            raise Refused(
                "too-many-links",
                f"{OPEN_LINKS_MAX} device tokens are out that nobody has used yet",
                remedy="use one of them, or take one back: fednode nodes revoke-link LINK",
            )
        self.links[link_id] = OpenLink(link_id, expires_at)

    def check_link(self, link_id: Hash, node: NodeId, now: int) -> OpenLink:
        """The token of that id, if `node` may be linked by it at `now`. Whoever has used it may come again.

        Raises Refused: unknown-link, revoked-link, used or expired."""
        link = self.links.get(link_id)
        if link is None:
            raise Refused(
                "unknown-link",
                "This node knows no such device token, or it is long over",
                remedy="make a new one there: fednode link",
            )
        if link.revoked:
            raise Refused(
                "revoked-link",
                "This device token was taken back by whoever made it",
                remedy="make a new one there: fednode link",
            )
        if link.used_by is not None and link.used_by != node:
            raise Refused(
                "used",
                "This device token has been used, by another machine",
                remedy="make a new one with fednode link; if that machine is not yours, revoke it: fednode nodes",
            )
        if link.used_by is None and now > link.expires_at:
            raise Refused(
                "expired",
                f"This device token expired {ago_text(link.expires_at, now)}",
                remedy="make a new one: fednode link",
            )
        return link

    def use_link(self, link: OpenLink, node: NodeId) -> None:
        self.links[link.link_id] = replace(link, used_by=node)

    def revoke_link(self, link_id: Hash, user: str) -> None:
        """Take a device token back that is here. `user`: the name of the node that has used it, if one has.

        Raises Refused where there is nothing to take back: used, or no-change."""
        link = self.links[link_id]
        if link.used_by is not None:
            raise Refused(
                "used",
                f"The machine {user} has used this device token: taking it back changes nothing",
                remedy=f"if that machine is not yours: fednode nodes revoke {user}",
            )
        if link.revoked:
            raise Refused("no-change", "This device token was taken back already", remedy="nothing to do")
        self.links[link_id] = replace(link, revoked=True)

    # --- inside --------------------------------------------------------------------------------------------------
    def _check_ours(self, member_id: str) -> None:
        if member_id != self.member_id:
            raise RemoteProtocolError(f"What {member_id} has signed was told among the nodes of {self.member_id}")

    def _all(self) -> list[bytes]:
        return [*self.certificates.values(), *self.revocations.values()]

    def _nodes_ever(self) -> set[NodeId]:
        return {*self.certificates, *self.revocations}

    def _has_room_for(self, node: NodeId) -> bool:
        if node in self.revocations:
            return True
        live = sum(known not in self.revocations for known in self.certificates)
        return live < NODES_PER_MEMBER_MAX and len(self._nodes_ever()) < NODES_EVER_MAX
