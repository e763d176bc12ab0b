"""Messages as frozen models, and their one encoding: msgpack maps, checked strictly when they come in.

Every message class of the protocol derives from `Wire`. Fields are tuples, never lists; unknown fields, wrong types and
numbers written as strings are refused. `pack` of equal messages gives equal bytes.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

import msgpack
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from protocol.errors import RemoteProtocolError
from protocol.keys import Hash
from protocol.remembered import remembered


class Wire(BaseModel):
    """A message or a part of one: frozen, strict, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


T = TypeVar("T")
# A long message comes again within another (a proposal's checkpoint in its commit), and in a simulation to every node.
# Short ones are as quickly read again as found. So few are kept that a node of a large run has them anyway.
_LONG_BYTES = 1024
_REMEMBERED_MESSAGES = 4
_adapters: dict[object, TypeAdapter[object]] = {}


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
    try:
        value = msgpack.unpackb(raw, use_list=False, raw=False, strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise RemoteProtocolError(f"A {name} is not msgpack ({type(error).__name__})") from None
    adapter = _adapters.get(kind)
    if adapter is None:
        adapter = _adapters[kind] = TypeAdapter(kind)
    try:
        return adapter.validate_python(value)  # type: ignore[return-value]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RemoteProtocolError(f"A {name} does not fit at {place}: {first['msg']}") from None


_unpack_long = lru_cache(maxsize=_REMEMBERED_MESSAGES)(_unpack)
