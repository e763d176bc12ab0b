"""People, their nodes and their groups for the tests of membership. Everything comes from seeds, so bytes repeat."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.fields import Role
from protocol.group.address_record import AddressRecord, make_address_record
from protocol.group.admission import AdmissionStatement, prove, seed_public_key
from protocol.group.author import append, create_group
from protocol.group.key import GroupKey, seal_key_of
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import InvitePost, MemberAdmit, NodeBind, Payload
from protocol.group.operations import OPERATION_TAG, OpenOperation, Operation, sign_operation
from protocol.group.sync import SyncMessage, SyncSession
from protocol.identity import make_certificate
from protocol.keys import Hash, MemberId, NodeId, member_id_of, node_id_of, public_key_of
from protocol.signing import sign
from protocol.wire import pack, unpack

NOW = 1_800_000_000
WEEK = 7 * 86_400
GROUP_KEY = GroupKey(1, bytes(range(32)))


def secret(*words: object) -> bytes:
    """32 bytes that look random and depend on `words` alone."""
    return sha256(repr(words).encode()).digest()


@dataclass(frozen=True)
class Person:
    """A member, to be or not, with one of its nodes. `member` names the owner where it has several."""

    name: str
    member: str = ""
    issued_at: int = NOW

    @cached_property
    def key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(secret("node", self.name))

    @cached_property
    def member_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(secret("member", self.member or self.name))

    @cached_property
    def node_id(self) -> NodeId:
        return node_id_of(public_key_of(self.key))

    @cached_property
    def member_id(self) -> MemberId:
        return member_id_of(public_key_of(self.member_key))

    @cached_property
    def seal_secret(self) -> bytes:
        return secret("seal", self.name)

    @cached_property
    def certificate(self) -> bytes:
        return make_certificate(
            self.member_key,
            self.key,
            member_name=self.member or self.name,
            node_name=f"{self.name}-node",
            seal_key=seal_key_of(self.seal_secret),
            issued_at=self.issued_at,
        )


def address_record(
    who: Person,
    addresses: tuple[str, ...] = ("/ip4/192.0.2.7/tcp/4001",),
    entrance_addresses: tuple[str, ...] = (),
    *,
    sequence: int = 1,
    key: Ed25519PrivateKey | None = None,
) -> bytes:
    """Where the person's node is, by its own word, or by that of whoever has `key`."""
    record = AddressRecord(
        node_id=who.node_id, addresses=addresses, entrance_addresses=entrance_addresses, sequence=sequence
    )
    return make_address_record(key or who.key, record)


ANN, BOB, CAT, DAN, EVE = (Person(name) for name in ("ann", "bob", "cat", "dan", "eve"))


def new_group(founder: Person = ANN, name: str = "study") -> GroupLog:
    log, _ = create_group(founder.key, founder.certificate, name=name, nonce=bytes(16), claimed_at=NOW)
    return log


def say(log: GroupLog, author: Person, payload: Payload, claimed_at: int = NOW) -> OpenOperation:
    return append(log, author.key, payload, claimed_at=claimed_at)


def force(log: GroupLog, author: Person, payload: Payload) -> OpenOperation:
    """Put an operation into the log whatever the rules say, as a node that does not keep them would."""
    raw = sign_operation(
        author.key,
        payload,
        group=log.group,
        parents=tuple(sorted(log.heads())),
        previous=log.tip_of(author.node_id),
        claimed_at=NOW,
    )
    return log.add(raw).added[0]


def unknown_operation(log: GroupLog, author: Person, *, critical: bool) -> bytes:
    """An operation of a kind that only some later version knows."""
    body = Operation(
        group=log.group,
        parents=tuple(sorted(log.heads())),
        previous=log.tip_of(author.node_id),
        kind="moon.howl",
        critical=critical,
        payload=b"",
        claimed_at=NOW,
    )
    return sign(author.key, OPERATION_TAG, body)


def post(
    log: GroupLog, by: Person = ANN, *, seed: bytes = b"", role: Role = "member", uses: int = 1, expires_at: int = 0
) -> tuple[Hash, bytes]:
    """An invitation in the log: its id and its seed."""
    seed = seed or secret("seed", len(log))
    payload = InvitePost(
        seed_public_key=seed_public_key(seed), role=role, uses=uses, expires_at=expires_at or NOW + WEEK
    )
    return say(log, by, payload).hash, seed


def admission(
    log: GroupLog,
    joiner: Person,
    invite_id: Hash,
    seed: bytes,
    *,
    by: Person = ANN,
    admitted_at: int = NOW,
    about: dict[str, object] | None = None,
) -> MemberAdmit:
    """The payload of an admission. `about` alters what the proof is about, to make a wrong one."""
    nonce = secret("nonce", joiner.name, by.name)
    statement = AdmissionStatement(
        group=log.group,
        invite_id=invite_id,
        member_id=joiner.member_id,
        node_id=joiner.node_id,
        admitter=by.node_id,
        nonce=nonce,
    ).model_copy(update=about)
    return MemberAdmit(
        invite_id=invite_id,
        certificate=joiner.certificate,
        nonce=nonce,
        proof=prove(seed, statement),
        admitted_at=admitted_at,
    )


def admit(log: GroupLog, joiner: Person, *, by: Person = ANN, role: Role = "member") -> OpenOperation:
    """Ann invites the joiner, and `by` admits it."""
    invite_id, seed = post(log, role=role)
    return say(log, by, admission(log, joiner, invite_id, seed, by=by))


def bind(log: GroupLog, node: Person, *, by: Person) -> OpenOperation:
    return say(log, by, NodeBind(certificate=node.certificate))


def add_all(log: GroupLog, other: GroupLog) -> None:
    """What `other` holds is heard by `log`."""
    for operation in other:
        log.add(operation.raw)


def converse(left: GroupLog, right: GroupLog) -> int:
    """A conversation over an ordered stream, with every message really packed. The number of messages."""
    ends = SyncSession(left), SyncSession(right)
    message: SyncMessage | None = ends[0].open()
    count = 0
    while message is not None:
        count += 1
        heard = unpack(SyncMessage, pack(message), 10_000_000)
        result = ends[count % 2].receive(heard)
        assert result.fault is None
        message = result.answer
    return count
