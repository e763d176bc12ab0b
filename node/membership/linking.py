"""Making a machine a node of the same member: the token on one node, its use on the other, at a first start or later.

A linked node holds a certificate and never the member's key, so whoever steals the machine can neither make further
nodes nor revoke others. Rules: docs/protocol.md §10.
"""

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from node.home.identity import CERTIFICATE, Keys
from node.home.key_files import MEMBER_KEY
from node.membership.address_book import ADDRESSES, pack_records
from node.membership.entrance import converse
from node.membership.groups import INDEX
from node.membership.siblings import name_of, read_siblings, write_siblings
from node.seams import Disk, Network, StreamClosed, Unreachable
from protocol.entrance.device_link import DeviceToken, link_id_of, make_device_token, open_device_token
from protocol.entrance.link_host import revoked
from protocol.entrance.linking import Linking, LinkMade, ShutOut, SiblingKnock
from protocol.entrance.outputs import TurnedAway
from protocol.entrance.siblings import Siblings
from protocol.errors import Refused, RemoteProtocolError
from protocol.group.key import seal_key_of
from protocol.identity import make_revocation, open_certificate
from protocol.keys import Hash, MemberId, NodeId, member_id_of, public_key_of

if TYPE_CHECKING:
    from node.node import Node

log = logging.getLogger("fednode.siblings")

LINK_S_MAX = 7 * 86_400  # a device token is a key to everything that the member is in: it is made, used, and over


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A device token that is out. `expires_at`: seconds."""

    link_id: str
    token: str
    expires_at: int


class Linker:
    """What the owner of a node does about further nodes."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def make(self, expires_s: int) -> MadeLink:
        """A new device token. Raises Refused where this node does not hold the member's key."""
        if not 0 < expires_s <= LINK_S_MAX:
            raise Refused("bad-expiry", f"A device token cannot last {expires_s} s", remedy="give up to 7 days")
        key = self._node.identity.keys.member
        if key is None:
            raise self._elsewhere("make a device token")
        seed, now = self._node.random.randbytes(32), int(self._node.now())
        known, expires_at = self._node.siblings.known, now + expires_s
        known.open_link(link_id_of(seed), expires_at=expires_at, now=now)
        await self._node.siblings.keep()
        host = self._node.groups.announcer.where()
        name = self._node.profile.name
        token = make_device_token(key, member_name=name, seed=seed, expires_at=expires_at, host=host)
        return MadeLink(link_id_of(seed), token, expires_at)

    async def revoke_link(self, link_id: Hash) -> None:
        """Take back a device token that is among ours: from now on, and durably, it links nobody. Raises Refused."""
        siblings = self._node.siblings
        user = siblings.known.links[link_id].used_by
        siblings.known.revoke_link(link_id, name_of(siblings.known, user) if user else "")
        await write_siblings(self._node.disk, siblings.known, siblings.key_holders)

    async def revoke(self, node: NodeId) -> list[str]:
        """Shut one of the member's nodes out, everywhere and for good. The names of the groups that were told so.

        Raises Refused where this node does not hold the member's key, or it is this node itself.
        """
        siblings, identity = self._node.siblings, self._node.identity
        if identity.keys.member is None:
            raise self._elsewhere("revoke a node")
        if node == identity.node_id:
            raise Refused(
                "revoking-itself",
                "A node does not revoke itself",
                remedy="revoke it from another node that holds the member's key, or leave the groups",
            )
        if siblings.known.revocation(node) is not None:
            raise Refused("no-change", f"{name_of(siblings.known, node)} is revoked already", remedy="nothing to do")
        raw = make_revocation(identity.keys.member, node, issued_at=int(self._node.now()))
        siblings.known.add_revocation(raw)
        await write_siblings(self._node.disk, siblings.known, siblings.key_holders)
        groups = await siblings.groups.revoke_everywhere(node, partial(siblings.part_from, node))
        await siblings.keep()
        return groups

    async def use(self, text: str) -> str:
        """Make this running node, which is in no group, a node of the token's member. That member's name.

        Raises Refused, also with the answer of the node that made the token, or Unreachable.
        """
        token = open_device_token(text, now=int(self._node.now()))
        identity, groups = self._node.identity, self._node.groups
        _refuse_own(token, identity.node_id)
        if token.member_id != identity.member_id and groups.places:
            raise _in_groups_already(token)
        groups.neighbours.addresses.told(token.host)
        made = await knock(self._node.network, token, identity.keys, identity.name)
        keys = await keep_link(self._node.disk, made, identity.keys)
        identity.become(made.certificate, keys)
        self._node.policy.owner = identity.member_id
        await self._node.siblings.load()
        self._node.siblings.learn(made.known)
        await groups.neighbours.addresses.save()
        self._node.note_identity()
        groups.open_door()
        log.info("this node is %s's now", token.member_name)
        return token.member_name

    def _elsewhere(self, doing: str) -> Refused:
        """Why this node cannot do what needs the member's key, and who can."""
        siblings = self._node.siblings
        holders = [node for node in siblings.key_holders if siblings.known.admits(node)]
        names = " or ".join(sorted(name_of(siblings.known, node) for node in holders))
        there = f"do it on {names}, which holds it" if names else "do it on the node that linked this one"
        return Refused(
            "no-member-key",
            f"To {doing} needs your member's key, and this node was linked without it",
            remedy=f"{there}, or bring the key here: fednode key import",
        )


async def link_first(disk: Disk, network: Network, keys: Keys, name: str, text: str, now: int) -> Keys:
    """At a node's start, before anything of it runs: make it a node of the token's member, unless it is one already.
    The keys that it goes on with.

    Raises:
        Refused: the token will not do, its maker said no, or the home is another member's and in groups.
        Unreachable: the maker did not answer.
    """
    token = open_device_token(text, now=None)
    certificate = await disk.read(CERTIFICATE)
    if certificate is not None and open_certificate(certificate).member_id == token.member_id:
        if now <= token.expires_at:  # else it is the one that this home was linked by, long ago
            await _refuse_revoked(disk, token.member_id, network.node_id)
            await _ask_maker(disk, network, token, certificate)
            log.info("this home is a node of %s's already: it needs no device token", token.member_name)
        return await _without_others_key(disk, keys, token.member_id)  # the same command again, as at every start
    token = open_device_token(text, now=now)
    _refuse_own(token, network.node_id)
    if await disk.read(INDEX) not in (None, b"\x90"):
        raise _in_groups_already(token)
    network.learn(token.host_id, token.host.addresses, token.host.entrance_addresses)
    made = await knock(network, token, keys, name)
    await disk.write(ADDRESSES, pack_records(made.known))
    return await keep_link(disk, made, keys)


async def knock(network: Network, token: DeviceToken, keys: Keys, name: str) -> LinkMade:
    """One conversation with the token's maker. Raises Refused with its answer, or Unreachable."""
    peer = token.host_id
    linking = Linking(token, keys.node, node_name=name, seal_key=seal_key_of(keys.seal_secret), peer=peer)
    try:
        outcome = await converse(network, peer, linking)
    except (Unreachable, StreamClosed, RemoteProtocolError) as error:
        where = ", ".join(token.host.entrance_addresses) or peer
        raise Unreachable(
            f"The node that made the device token did not answer ({where}: {error.what})",
            remedy="check that it is running and can be reached from here, then use the same token again",
        ) from error
    if isinstance(outcome, TurnedAway):
        raise outcome.reason
    assert isinstance(outcome, LinkMade)
    return outcome


async def keep_link(disk: Disk, made: LinkMade, keys: Keys) -> Keys:
    """Make durable that this node is the token's member's. Its keys from now on: another member's key is moved away.

    The certificate comes last but one: a crash before it leaves everything as it was, and the token can be used again.
    """
    await write_siblings(disk, made.siblings)
    await disk.write(CERTIFICATE, made.certificate)
    return await _without_others_key(disk, keys, made.siblings.member_id)


async def _without_others_key(disk: Disk, keys: Keys, member_id: MemberId) -> Keys:
    """The keys of a node of `member_id`: another member's, which the home still has, is moved away."""
    if keys.member is None or member_id_of(public_key_of(keys.member)) == member_id:
        return keys
    if (pem := await disk.read(MEMBER_KEY)) is not None:
        await disk.write(f"{MEMBER_KEY}.{member_id_of(public_key_of(keys.member))}", pem)
        await disk.delete(MEMBER_KEY)
    return replace(keys, member=None)


async def _refuse_revoked(disk: Disk, member_id: MemberId, me: NodeId) -> None:
    """Raises Refused for a home whose node is revoked: no token brings it back, and silence would look like success."""
    siblings = Siblings(member_id)
    await read_siblings(disk, siblings, set())
    if siblings.revocation(me) is not None:
        raise revoked(siblings, me)


async def _ask_maker(disk: Disk, network: Network, token: DeviceToken, certificate: bytes) -> None:
    """Show the token's maker that we are its member's already. Raises Refused when it answers that we are revoked,
    which is durable then; a maker that does not answer keeps no node from starting."""
    if token.host_id == network.node_id:
        return
    network.learn(token.host_id, token.host.addresses, token.host.entrance_addresses)
    try:
        outcome = await converse(network, token.host_id, SiblingKnock(certificate))
    except (Unreachable, StreamClosed, RemoteProtocolError) as error:
        log.info("whether this node is revoked its member's other node could not be asked: %s", error.what)
        return
    if isinstance(outcome, ShutOut):
        siblings, key_holders = Siblings(token.member_id), set[NodeId]()
        await read_siblings(disk, siblings, key_holders)
        siblings.add_revocation(outcome.revocation)
        await write_siblings(disk, siblings, key_holders)
        raise revoked(siblings, network.node_id)


def _refuse_own(token: DeviceToken, me: NodeId) -> None:
    if token.host_id == me:
        raise Refused(
            "own-token",
            "This node has made this device token itself: it is a node of yours already",
            remedy="use the token on the other machine: fednode start --link TOKEN",
        )


def _in_groups_already(token: DeviceToken) -> Refused:
    return Refused(
        "in-groups",
        f"This node is in groups as a node of another member than {token.member_name}",
        remedy="use the token for a new node: fednode start --home FOLDER --link TOKEN",
    )
