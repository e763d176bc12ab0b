"""A group whose members are in it from the beginning: what joining would have left on every disk, made at once.

A thousand nodes that join one after another tell each other of it a thousand times. Here the founder's own protocol
code writes the log, with invitation, proofs and admissions as real joiners would have given them, and every disk gets
it: certificate, log, key, addresses. Nodes that start on these disks find themselves members, as after a restart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import msgpack

from node.home.identity import Identity, Keys, load_identity
from node.membership.address_book import ADDRESSES, pack_records, unpack_records
from node.membership.group_place import as_stored
from node.membership.groups import INDEX
from protocol.entrance.invitation import invite
from protocol.fields import Role
from protocol.group.address_record import AddressRecord, make_address_record
from protocol.group.admission import AdmissionStatement, prove
from protocol.group.author import append, create_group
from protocol.group.key import GROUP_KEY_BYTES, GroupKey
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import MemberAdmit, MemberRole, NodeBind, Payload
from protocol.keys import GroupId, Hash, MemberId
from simulations.world.disk import SimulatedDisk
from simulations.world.network import SimulatedWorld

_INVITATION_LASTS_S = 3600
NONCE_BYTES = 32  # of a challenge at the entrance


@dataclass(frozen=True, slots=True)
class Placed:
    """One node to be: keys and names as its Node will be given them, and the disk that it will start on."""

    keys: Keys
    name: str
    disk: SimulatedDisk
    member_name: str = ""  # as the node's, when empty
    role: Role = "member"  # but for the founder, who is admin


async def place_group(
    world: SimulatedWorld, nodes: Sequence[Placed], name: str, *, now_s: int, random: Random
) -> GroupId:
    """Make a group of all `nodes`, of which the first is founder and admin, on their disks. Nodes with one member key
    are nodes of one member.

    Call it in trio, in the world whose nodes they will be and before any of them starts; again, with other nodes or the
    same, for another group. Afterwards make each Node with the same keys, names and disk: it is in the group when
    it has started. `now_s` is the wall clock in seconds, as `Node(now=…)` gives it; `random` decides ids and keys. The
    same arguments give the same bytes. Raises Refused where a rule forbids it, such as too many members.
    """
    identities = [
        await load_identity(node.keys, node.name, node.member_name or node.name, node.disk, lambda: now_s)
        for node in nodes
    ]
    log = _found(identities[0], name, now_s, random)
    if len(identities) > 1:
        _admit(log, identities, now_s, random)
        _promote(log, identities, [node.role for node in nodes], now_s)
    files, journals = as_stored(log, {0: GroupKey(0, random.randbytes(GROUP_KEY_BYTES))})
    where = [_record(world, identity) for identity in identities]
    packed = pack_records(where)
    for node in nodes:
        index = msgpack.unpackb(await node.disk.read(INDEX) or b"\x90")
        files[INDEX] = msgpack.packb([*index, log.group])
        known = unpack_records(await node.disk.read(ADDRESSES) or b"\x90")
        files[ADDRESSES] = pack_records(dict.fromkeys((*known, *where))) if known else packed
        node.disk.place(files, journals)
    return log.group


def _found(founder: Identity, name: str, now_s: int, random: Random) -> GroupLog:
    log, _ = create_group(
        founder.keys.node, founder.certificate, name=name, nonce=random.randbytes(16), claimed_at=now_s
    )
    return log


def _admit(log: GroupLog, identities: Sequence[Identity], now_s: int, random: Random) -> None:
    """The founder invites all others, and admits one after another."""
    founder, *others = identities
    seed = random.randbytes(32)
    posted, _ = invite(
        log,
        founder.keys.node,
        seed=seed,
        role="member",
        uses=len({other.member_id for other in others} - {founder.member_id}) or 1,
        expires_at=now_s + _INVITATION_LASTS_S,
        entrances=(),
        now=now_s,
    )
    members: set[MemberId] = {founder.member_id}
    for joiner in others:
        payload: Payload = NodeBind(certificate=joiner.certificate)
        if joiner.member_id not in members:
            payload = _admission(log, founder, joiner, posted.hash, seed, now_s, random)
        append(log, founder.keys.node, payload, claimed_at=now_s)
        members.add(joiner.member_id)


def _promote(log: GroupLog, identities: Sequence[Identity], roles: Sequence[Role], now_s: int) -> None:
    """The founder gives each member what it is besides a member."""
    wanted = {identity.member_id: role for identity, role in zip(identities, roles, strict=True) if role != "member"}
    for member, role in wanted.items():
        if member != identities[0].member_id:
            payload = MemberRole(member=member, role=role)
            append(log, identities[0].keys.node, payload, claimed_at=now_s)


def _admission(
    log: GroupLog, founder: Identity, joiner: Identity, invite_id: Hash, seed: bytes, now_s: int, random: Random
) -> MemberAdmit:
    nonce = random.randbytes(NONCE_BYTES)
    statement = AdmissionStatement(
        group=log.group,
        invite_id=invite_id,
        member_id=joiner.member_id,
        node_id=joiner.node_id,
        admitter=founder.node_id,
        nonce=nonce,
    )
    return MemberAdmit(
        invite_id=invite_id,
        certificate=joiner.certificate,
        nonce=nonce,
        proof=prove(seed, statement),
        admitted_at=now_s,
    )


def _record(world: SimulatedWorld, identity: Identity) -> bytes:
    addresses, entrance_addresses = world.addresses_of(identity.node_id)
    record = AddressRecord(
        node_id=identity.node_id, addresses=addresses, entrance_addresses=entrance_addresses, sequence=0
    )
    return make_address_record(identity.keys.node, record)
