"""Models as safetensors files, for other programs: https://github.com/huggingface/safetensors#format.

Decides that files are written in the format's own canonical order (wide elements first, then by name), as the reference
library writes them, with the schema's id among their metadata; and that a file is read by a schema alone: its header
is bounded before it is parsed, and must name exactly the schema's tensors. Frozen ones are in the file, local ones not.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aggregation.tensors.schema import ELEMENT_TYPES, Buffer, Schema, TensorSpec
from aggregation.tensors.sources import COPY_BYTES, MemorySink, Source, as_source, copy, kept_open
from protocol.errors import FednodeError

HEADER_BYTES_MAX = 16 * 1024 * 1024  # TENSORS_MAX entries of 250 bytes; parsing them takes a second at most
_LENGTH_BYTES = 8
_METADATA_KEY = "fednode_schema_id"

_FORMAT_NAMES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
# The reference library's order among elements of one width.
_FORMAT_ORDER = ("U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "I8", "U8", "BOOL")


def safetensors_size(schema: Schema, metadata: Mapping[str, str]) -> int:
    """The bytes that `safetensors_pieces` will give."""
    return len(_header(schema, metadata)) + schema.model_bytes


def safetensors_pieces(schema: Schema, model: Buffer | Path | Source, metadata: Mapping[str, str]) -> Iterator[Buffer]:
    """The file of a raw model in pieces of up to 1 MiB, each good until the next is asked for.

    `metadata` is put beside the schema's id; the format knows texts alone."""
    source = as_source(model)
    schema.check_length(source.size)
    starts = _starts(schema)
    scratch = memoryview(bytearray(COPY_BYTES))
    yield _header(schema, metadata)
    with kept_open([source]):
        for spec in _in_file_order(schema):
            for done in range(0, spec.stored_bytes, COPY_BYTES):
                yield source.view(starts[spec.name] + done, min(COPY_BYTES, spec.stored_bytes - done), scratch)


def from_safetensors(schema: Schema, file: Buffer | Path | Source) -> bytes:
    """The raw model of this schema in a safetensors file. Local tensors need not be in it, and are skipped if they are.

    Raises FednodeError that names the first tensor that is missing, unknown or of another dtype or shape."""
    source = as_source(file)
    entries, data_start = _read_header(source)
    known = {spec.name for spec in schema.tensors} | {"__metadata__"}
    unknown = entries.keys() - known
    if unknown:
        raise _unfit(f"it holds tensor {min(unknown)[:80]!r}, which the model has not")
    memory = MemorySink(schema.model_bytes)
    position = 0
    for spec in schema.tensors:
        if spec.kind != "local":
            offset = _checked_offset(spec, entries.get(spec.name), source.size - data_start)
            copy(source, data_start + offset, spec.stored_bytes, memory, position)
            position += spec.stored_bytes
    return memory.take()


def _in_file_order(schema: Schema) -> list[TensorSpec]:
    stored = [spec for spec in schema.tensors if spec.kind != "local"]
    return sorted(stored, key=lambda spec: (_FORMAT_ORDER.index(_FORMAT_NAMES[spec.dtype]), spec.name))


def _header(schema: Schema, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {**metadata, _METADATA_KEY: schema.schema_id}}
    offset = 0
    for spec in _in_file_order(schema):
        end = offset + spec.stored_bytes
        entries[spec.name] = {
            "dtype": _FORMAT_NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # so that the data begins aligned
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _starts(schema: Schema) -> dict[str, int]:
    """Where each tensor begins in a raw model."""
    starts: dict[str, int] = {}
    position = 0
    for spec in schema.tensors:
        starts[spec.name] = position
        position += spec.stored_bytes
    return starts


def _read_header(source: Source) -> tuple[dict[str, Any], int]:
    """The header's entries and where the data begins. Raises FednodeError unless it is a bounded, sensible one."""
    if source.size < _LENGTH_BYTES:
        raise _unfit("it is too short to be one")
    scratch = memoryview(bytearray(min(source.size, HEADER_BYTES_MAX)))
    length = int.from_bytes(source.view(0, _LENGTH_BYTES, scratch), "little")
    if length > min(HEADER_BYTES_MAX, source.size - _LENGTH_BYTES):
        raise _unfit(f"its header claims {length} bytes")
    text = bytes(source.view(_LENGTH_BYTES, length, scratch))
    try:
        entries = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _unfit(f"its header is not sound ({type(error).__name__})") from None
    if not isinstance(entries, dict):
        raise _unfit("its header is not a table")
    return entries, _LENGTH_BYTES + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _checked_offset(spec: TensorSpec, entry: Any, data_bytes: int) -> int:
    if not isinstance(entry, dict):
        raise _unfit(f"tensor {spec.name!r} is missing")
    if entry.get("dtype") != _FORMAT_NAMES[spec.dtype] or entry.get("shape") != list(spec.shape):
        raise _unfit(
            f"tensor {spec.name!r} is {str(entry.get('dtype'))[:8]} {str(entry.get('shape'))[:80]}; "
            f"the model has {_FORMAT_NAMES[spec.dtype]} {list(spec.shape)}"
        )
    match entry.get("data_offsets"):
        case [int(start), int(end)] if start >= 0 and end == start + spec.stored_bytes and end <= data_bytes:
            return start
    raise _unfit(f"tensor {spec.name!r} lies outside of the file, or has another length than its shape")


def _unfit(what: str) -> FednodeError:
    return FednodeError(
        f"This is no safetensors file of this model: {what}", remedy="use a file that holds this very model's tensors"
    )


assert _FORMAT_NAMES.keys() == ELEMENT_TYPES.keys()
