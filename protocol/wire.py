"""Messages as frozen models, and their one encoding: msgpack maps, checked strictly when they come in.

Every message class of the protocol derives from `Wire`. Fields are tuples, never lists; unknown fields, wrong types and
numbers written as strings are refused. `pack` of equal messages gives equal bytes.

What a bad message costs is bounded before it is looked at: no list in it may be longer than any of its kind, and the
first bad entry of a list ends the reading. Else a frame of four million wrong entries has an error made of each.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgpack
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, ErrorDetails

from protocol.errors import RemoteProtocolError, UnknownKind
from protocol.keys import Hash
from protocol.remembered import remembered


def _lists_of(schema: object) -> Iterator[dict[str, Any]]:
    """Every tuple of any length in a pydantic schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "tuple" and "variadic_item_index" in schema:
            yield schema
        for part in schema.values():
            yield from _lists_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _lists_of(part)


class Wire(BaseModel):
    """A message or a part of one: frozen, strict, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Has every list of a message end at its first bad entry (pydantic's FailFast), so that none can forget it."""
        schema = handler(source)
        for part in _lists_of(schema):
            part["fail_fast"] = True
        return schema


T = TypeVar("T")
# A long message comes again within another (a proposal's checkpoint in its commit), and in a simulation to every node.
# Short ones are as quickly read again as found. So few are kept that a node of a large run has them anyway.
_LONG_BYTES = 1024
_REMEMBERED_MESSAGES = 4
# Of every kind: a manifest's tables and lists, which check themselves, and names of fields that a newer fednode has.
_ENTRIES_MIN = 256
# Of what is wrong with a message, which goes into logs and records: keys and tags in it are its sender's own words.
_COMPLAINT_CHARACTERS_MAX = 300
_PLACE_CHARACTERS_MAX = 80
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
_adapters: dict[object, tuple[TypeAdapter[object], int]] = {}  # each with how many entries its longest list may have


def hash_of(raw: bytes) -> Hash:
    return Hash(blake3(raw).hexdigest())


@remembered(1)
def pack(message: Wire) -> bytes:
    """The message as bytes. What goes to a thousand nodes one after another is packed once."""
    packed: bytes = msgpack.packb(message.model_dump(), use_bin_type=True)
    return packed


def pack_plain(value: Mapping[str, object]) -> bytes:
    """msgpack of plain values, for what has no message class of its own."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(kind: type[T], raw: bytes, bytes_max: int) -> T:
    """The message in `raw`, checked against `kind`: a `Wire` class or a union of them told apart by a literal field.

    Raises RemoteProtocolError when `raw` is longer than `bytes_max`, is not msgpack or does not fit.
    """
    if len(raw) >= _LONG_BYTES:
        return _unpack_long(kind, raw, bytes_max)  # type: ignore[arg-type, no-any-return]
    return _unpack(kind, raw, bytes_max)


def _unpack(kind: type[T], raw: bytes, bytes_max: int) -> T:
    name = kind.__name__ if isinstance(kind, type) else "message"  # unions have no name of ours
    if len(raw) > bytes_max:
        raise RemoteProtocolError(f"A {name} of {len(raw)} bytes is over the limit of {bytes_max}")
    adapter, entries_max = _adapters.get(kind) or _adapter_of(kind)
    try:
        value = msgpack.unpackb(
            raw,
            use_list=False,
            raw=False,
            strict_map_key=True,
            max_array_len=entries_max,
            max_map_len=_ENTRIES_MIN,
        )
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        what = f"A {name} is not msgpack, or has a list of more than {entries_max} entries ({type(error).__name__})"
        raise RemoteProtocolError(what) from None
    try:
        return adapter.validate_python(value)  # type: ignore[return-value]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        what = f"A {name} does not fit {_complaint(first)}"
        raise (UnknownKind if _is_of_unknown_kind(first) else RemoteProtocolError)(what) from None


def _adapter_of(kind: object) -> tuple[TypeAdapter[object], int]:
    adapter = TypeAdapter[object](kind)  # type: ignore[arg-type]
    longest = max((part.get("max_length", 0) for part in _lists_of(adapter.core_schema)), default=0)
    _adapters[kind] = found = adapter, max(_ENTRIES_MIN, longest)
    return found


def _is_of_unknown_kind(error: ErrorDetails) -> bool:
    """Whether the message's own kind, and not that of something in it, is none that we know."""
    return error["type"] == "union_tag_invalid" and not error["loc"]


def _complaint(first: ErrorDetails) -> str:
    """What is wrong, and where, in one bounded line."""
    place = ".".join(str(part)[:_PLACE_CHARACTERS_MAX] for part in first["loc"]) or "the whole"
    return _UNFIT.sub("\ufffd", f"at {place[:_PLACE_CHARACTERS_MAX]}: {first['msg']}"[:_COMPLAINT_CHARACTERS_MAX])


_unpack_long = lru_cache(maxsize=_REMEMBERED_MESSAGES)(_unpack)
