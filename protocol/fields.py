"""Field types that many messages share: hashes, names, ids, times, addresses.

What fits must be the same on every node for ever, or logs would part ways; so nothing here asks Python's Unicode
tables, which grow from version to version.
"""

import re
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from protocol.errors import Refused
from protocol.keys import GroupId, Hash, MemberId, NodeId, RunId, member_public_key, node_public_key
from protocol.limits import ADDRESS_CHARACTERS_MAX, ADDRESSES_MAX, NAME_CHARACTERS_MAX
from protocol.wire import Wire

_HASH = r"^[0-9a-f]{64}$"
_HASH_OR_EMPTY = r"^([0-9a-f]{64})?$"
# Control characters move a terminal's cursor; the others here are invisible or turn the direction of writing, and so
# make one name look like another.
_UNFIT_FOR_A_LINE = re.compile("[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_YEAR_9999_S = 253_402_300_799  # the last second that datetime can write
_REMEMBERED_IDS = 16_384  # four of each node and member of the largest group; some 3 MB

TEXT_CHARACTERS_MAX = 500  # of a reason or a remedy: a paragraph


def _check_line(text: str) -> str:
    if _UNFIT_FOR_A_LINE.search(text):
        raise ValueError("control characters and invisible characters are not allowed")
    return text


def as_text(text: str) -> str:
    """`text` made to fit the field type Text: cut, and rid of what may not stand in it."""
    return _UNFIT_FOR_A_LINE.sub(" ", text)[:TEXT_CHARACTERS_MAX]


def _check_name(text: str) -> str:
    if text != text.strip(" "):
        raise ValueError("a name neither begins nor ends with a space")
    return _check_line(text)


def require_name(text: str, of: str) -> str:
    """`text`, as the name `of` something ("a group"). Raises Refused, for whoever chose it, when it will not do."""
    try:
        if not 1 <= len(text) <= NAME_CHARACTERS_MAX:
            raise ValueError(f"a name has 1 to {NAME_CHARACTERS_MAX} characters")
        text.encode()  # a lone surrogate, from a command line that is no UTF-8, could not be sent
        return _check_name(text)
    except ValueError as error:
        raise Refused(
            "bad-name", f"{text[:NAME_CHARACTERS_MAX]!r} cannot be the name of {of}: {error}", remedy="choose another"
        ) from None


def _check_address(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("an address is a multiaddress, such as /ip4/192.0.2.7/tcp/4001")
    return _check_line(text)


@lru_cache(maxsize=_REMEMBERED_IDS)
def _check_node_id(node_id: NodeId) -> NodeId:
    node_public_key(node_id)
    return node_id


@lru_cache(maxsize=_REMEMBERED_IDS)
def _check_member_id(member_id: MemberId) -> MemberId:
    member_public_key(member_id)
    return member_id


HashText = Annotated[Hash, Field(pattern=_HASH)]
HashOrEmpty = Annotated[Hash, Field(pattern=_HASH_OR_EMPTY)]
GroupIdText = Annotated[GroupId, Field(pattern=_HASH)]
RunIdText = Annotated[RunId, Field(pattern=_HASH)]
NodeIdText = Annotated[NodeId, AfterValidator(_check_node_id)]
MemberIdText = Annotated[MemberId, AfterValidator(_check_member_id)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX), AfterValidator(_check_name)]
Text = Annotated[str, Field(max_length=TEXT_CHARACTERS_MAX), AfterValidator(_check_line)]
Seconds = Annotated[int, Field(ge=0, le=_YEAR_9999_S)]  # since 1970, UTC
Bytes16 = Annotated[bytes, Field(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Field(min_length=32, max_length=32)]
SignatureBytes = Annotated[bytes, Field(min_length=64, max_length=64)]
Address = Annotated[str, Field(max_length=ADDRESS_CHARACTERS_MAX), AfterValidator(_check_address)]
Addresses = Annotated[tuple[Address, ...], Field(max_length=ADDRESSES_MAX)]
Role = Literal["admin", "member", "observer"]


class NodeAddresses(Wire):
    """Where to dial a node: members at `addresses`, strangers at `entrance_addresses`. Hints, for anyone may err."""

    node_id: NodeIdText
    addresses: Addresses = ()
    entrance_addresses: Addresses = ()
