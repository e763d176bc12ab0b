"""Address records: where a node can be dialled, said and signed by that node, and the newest of them by sequence.

Only a node itself says where it is, so no member can lead the others astray about a third one. Records pass through
anybody's hands: with announcements, with an admission, or when a node asks for somebody that it cannot reach.
Rules: docs/protocol.md §12.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any, Literal, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from protocol.errors import RemoteProtocolError
from protocol.fields import Addresses, GroupIdText, NodeAddresses, NodeIdText
from protocol.group.state import GroupState
from protocol.keys import NodeId
from protocol.limits import ADDRESS_RECORD_BYTES_MAX, KNOWN_ADDRESSES_MAX
from protocol.signing import ENVELOPE_OVERHEAD_BYTES, open_signed, sign
from protocol.wire import Wire, unpack

ADDRESS_TAG = "addresses"
# The nodes of a simulation hear the very same; some 1 KB each. As many as the largest simulated group has nodes.
_REMEMBERED_RECORDS = 2048

SEQUENCE_MAX = 2**63 - 1  # what msgpack and every database have room for; milliseconds reach it in 292 million years
Sequence = Annotated[int, Field(ge=0, le=SEQUENCE_MAX)]
RawAddressRecord = Annotated[bytes, Field(max_length=ADDRESS_RECORD_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES)]
RawAddressRecords = Annotated[tuple[RawAddressRecord, ...], Field(max_length=KNOWN_ADDRESSES_MAX)]


class AddressRecord(Wire):
    """Where members dial `node_id`, and where strangers knock. `sequence` never goes back, not even over a restart."""

    node_id: NodeIdText
    addresses: Addresses
    entrance_addresses: Addresses
    sequence: Sequence

    def where(self) -> NodeAddresses:
        return NodeAddresses(node_id=self.node_id, addresses=self.addresses, entrance_addresses=self.entrance_addresses)


class Held(Wire):
    """Of a node that is looked for: the sequence of the record that is here already, -1 without one."""

    node_id: NodeIdText
    sequence: Annotated[int, Field(ge=-1, le=SEQUENCE_MAX)]


class AddressesAsked(Wire):
    """Where are these nodes of the group?"""

    type: Literal["asked"] = "asked"
    group: GroupIdText
    nodes: Annotated[tuple[Held, ...], Field(max_length=KNOWN_ADDRESSES_MAX)]


class AddressesTold(Wire):
    """The records that are newer than what the asker holds."""

    type: Literal["told"] = "told"
    group: GroupIdText
    records: RawAddressRecords


AddressMessage = AddressesAsked | AddressesTold
_ADDRESS_MESSAGE = cast(type[AddressMessage], cast(Any, Annotated[AddressMessage, Field(discriminator="type")]))
_MESSAGE_BYTES_MAX = KNOWN_ADDRESSES_MAX * (ADDRESS_RECORD_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES) + 1024


def make_address_record(key: Ed25519PrivateKey, record: AddressRecord) -> bytes:
    """The raw record. `record.node_id` must be the node whose key is `key`."""
    return sign(key, ADDRESS_TAG, record)


@lru_cache(maxsize=_REMEMBERED_RECORDS)
def open_address_record(raw: bytes) -> AddressRecord:
    """The record in `raw`, with its signature checked. Raises RemoteProtocolError when another than its node made it.

    (`address_must_be_signed_by_its_node`)
    """
    signed = open_signed(AddressRecord, raw, ADDRESS_TAG, ADDRESS_RECORD_BYTES_MAX)
    if signed.node_id != signed.body.node_id:
        raise RemoteProtocolError(f"Node {signed.node_id} said where node {signed.body.node_id} is")
    return signed.body


def is_newer(record: AddressRecord, before: AddressRecord | None) -> bool:
    """Whether `record` replaces `before`, of the same node. (`only_a_higher_sequence_replaces`)"""
    return before is None or record.sequence > before.sequence


def records_of_nodes(records: Iterable[bytes], state: GroupState) -> tuple[bytes, ...]:
    """Those of `records` that are good, and about nodes of the group; the others count for nothing.

    (`only_nodes_of_the_group_are_found`)
    """
    good = []
    for raw in records:
        try:
            record = open_address_record(raw)
        except RemoteProtocolError:
            continue
        if state.admits(NodeId(record.node_id)):
            good.append(raw)
    return tuple(good)


def open_address_message(payload: bytes) -> AddressMessage:
    """Raises RemoteProtocolError when it is neither a question nor an answer."""
    return unpack(_ADDRESS_MESSAGE, payload, _MESSAGE_BYTES_MAX)
