"""Writing to a group's log: the node's own operations, placed after all that it knows and allowed by every rule.

Each function adds to the log in memory. The caller makes the operation durable, and only then shows it to anybody:
else a crash in between would make the node write its chain's next operation twice.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.fields import require_name
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import GroupCreate, Payload
from protocol.group.operations import OpenOperation, open_operation, sign_operation
from protocol.group.reducer import judge
from protocol.keys import GroupId, Hash, node_id_of, public_key_of
from protocol.limits import OPERATION_PARENTS_MAX


def create_group(
    key: Ed25519PrivateKey, certificate: bytes, *, name: str, nonce: bytes, claimed_at: int
) -> tuple[GroupLog, OpenOperation]:
    """A new group whose first admin is the certificate's member. `nonce`: 16 random bytes. `claimed_at`: seconds.

    Raises:
        Refused: the name will not do.
        RemoteProtocolError: the certificate is bad or not this node's.
    """
    payload = GroupCreate(name=require_name(name, "a group"), certificate=certificate, nonce=nonce)
    raw = sign_operation(key, payload, group=GroupId(""), parents=(), previous=Hash(""), claimed_at=claimed_at)
    operation = open_operation(raw)
    log = GroupLog(operation.group)
    log.add(raw)
    return log, operation


def append(log: GroupLog, key: Ed25519PrivateKey, payload: Payload, *, claimed_at: int) -> OpenOperation:
    """Say `payload` in the group, as the node whose key is `key`, after all that `log` holds. Raises what `draft` does,
    and the log is then unchanged."""
    operation = draft(log, key, payload, claimed_at=claimed_at)
    log.add(operation.raw)
    return operation


def draft(log: GroupLog, key: Ed25519PrivateKey, payload: Payload, *, claimed_at: int) -> OpenOperation:
    """What `append` would add to the log. Nobody may see it: two operations of one place in a chain are a lie.

    Raises:
        Refused: a rule would void it.
        NodeTooOld: the log holds what this version does not understand.
    """
    author = node_id_of(public_key_of(key))
    previous = log.tip_of(author)
    # Where the heads are too many to name, the author's first operation must still rest on what bound the author.
    binding = () if previous else log.bindings_of(author)[:1]
    parents = {*log.heads()[: OPERATION_PARENTS_MAX - 1], *binding}
    raw = sign_operation(
        key, payload, group=log.group, parents=tuple(sorted(parents)), previous=previous, claimed_at=claimed_at
    )
    operation = open_operation(raw)
    judge(log.state(), operation)  # its parents hold the deepest head, so it stands last in canonical order
    return operation
