"""Operations: the signed, hash-linked entries of a group's log, each opened and checked by itself here.

What an operation needs from others (its parents, its author's right) is for `group_log` and `group_rules`.
Rules: docs/protocol.md §2.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AfterValidator, Field

from protocol.errors import Refused, RemoteProtocolError
from protocol.fields import HashOrEmpty, HashText, Seconds
from protocol.group.operation_kinds import PAYLOADS, GroupCreate, MemberAdmit, NodeBind, NodeRevoke, Payload
from protocol.identity import NodeCertificate, NodeRevocation, open_certificate, open_revocation
from protocol.keys import GroupId, Hash, NodeId
from protocol.limits import OPERATION_BYTES_MAX, OPERATION_PARENTS_MAX
from protocol.remembered import remembered_bytes
from protocol.signing import ENVELOPE_OVERHEAD_BYTES, open_signed, sign
from protocol.wire import Wire, pack, unpack

OPERATION_TAG = "operation"
OPERATION_BODY_BYTES_MAX = OPERATION_BYTES_MAX - ENVELOPE_OVERHEAD_BYTES
# Many simulated nodes, and every second delivery of gossip, open the same bytes again. Of small ones so many bytes are
# remembered, which are some 4,000 ordinary ones, and with what they say four times as much. Of large ones, such as the
# start of a run of a thousand nodes, the last few.
_REMEMBERED_OPERATIONS_BYTES = 4 * 1024 * 1024
_REMEMBERED_LARGE_OPERATIONS = 4
_SMALL_BYTES_MAX = 4096


def _check_parents(parents: tuple[Hash, ...]) -> tuple[Hash, ...]:
    if any(first >= second for first, second in pairwise(parents)):
        raise ValueError("parents must be sorted, each once")
    return parents


class Operation(Wire):
    """The signed body. `group` is "" in the operation that makes a group, `previous` in its author's first one.

    `claimed_at` is the author's clock, in seconds since 1970: for people to read, and never a reason for anything.
    """

    group: Annotated[GroupId, Field(pattern=r"^([0-9a-f]{64})?$")]
    parents: Annotated[tuple[HashText, ...], Field(max_length=OPERATION_PARENTS_MAX), AfterValidator(_check_parents)]
    previous: HashOrEmpty
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]{0,39}$")]
    critical: bool
    payload: bytes
    claimed_at: Seconds


@dataclass(frozen=True, slots=True)
class OpenOperation:
    """An operation that is well formed and well signed. `payload` is None for a kind that this version does not know.

    `certificate` and `revocation` are the opened ones of the payload, where it carries one.
    """

    raw: bytes
    hash: Hash
    author: NodeId
    body: Operation
    payload: Payload | None
    certificate: NodeCertificate | None
    revocation: NodeRevocation | None = None

    @property
    def group(self) -> GroupId:
        return self.body.group or GroupId(self.hash)

    @property
    def dependencies(self) -> tuple[Hash, ...]:
        """What must be in the log before this: the parents, and the author's previous operation."""
        previous = self.body.previous
        return self.body.parents if not previous or previous in self.body.parents else (*self.body.parents, previous)


def sign_operation(
    key: Ed25519PrivateKey,
    payload: Payload,
    *,
    group: GroupId,
    parents: tuple[Hash, ...],
    previous: Hash,
    claimed_at: int,
) -> bytes:
    """The raw operation by the node whose key is `key`. Whether a rule allows it is for the caller to have asked.

    Raises Refused, code too-large, when it would have more than OPERATION_BYTES_MAX."""
    body = Operation(
        group=group,
        parents=parents,
        previous=previous,
        kind=payload.KIND,
        critical=payload.CRITICAL,
        payload=pack(payload),
        claimed_at=claimed_at,
    )
    raw = sign(key, OPERATION_TAG, body)
    if len(raw) > OPERATION_BYTES_MAX:
        raise Refused(
            "too-large",
            f"A {payload.KIND} has {len(raw)} bytes, more than an operation may have ({OPERATION_BYTES_MAX})",
            remedy="say less in it: big things belong in blobs",
        )
    return raw


def open_operation(raw: bytes) -> OpenOperation:
    """Check size, signature and form of `raw`, its payload's and a carried certificate's too.

    Raises:
        RemoteProtocolError: any check failed; no later state of any log can make this operation good.
    """
    return _open_small(raw) if len(raw) <= _SMALL_BYTES_MAX else _open_large(raw)


def _open(raw: bytes) -> OpenOperation:
    signed = open_signed(Operation, raw, OPERATION_TAG, OPERATION_BODY_BYTES_MAX)
    body = signed.body
    creates = body.kind == GroupCreate.KIND
    if creates != (not body.group) or creates != (not body.parents) or (creates and body.previous):
        raise RemoteProtocolError(f"A {body.kind} operation does not stand where it belongs in a group's log")
    kind = PAYLOADS.get(body.kind)
    payload = unpack(kind, body.payload, OPERATION_BYTES_MAX) if kind else None
    certificate = None
    if isinstance(payload, GroupCreate | MemberAdmit | NodeBind):
        certificate = open_certificate(payload.certificate)
    revocation = open_revocation(payload.revocation) if isinstance(payload, NodeRevoke) else None
    operation = OpenOperation(raw, signed.hash, signed.node_id, body, payload, certificate, revocation)
    if creates and certificate is not None and certificate.node_id != operation.author:
        raise RemoteProtocolError("A group was created by a node other than its certificate names")
    return operation


_open_small = remembered_bytes(_REMEMBERED_OPERATIONS_BYTES)(_open)
_open_large = lru_cache(maxsize=_REMEMBERED_LARGE_OPERATIONS)(_open)
