"""How the local API's answers become JSON: small ones at once, long lists some rows at a time."""

import json
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from tracker.queries.reader import plain

ROWS_AT_ONCE_MAX = 2000  # encoded in about 5 ms, and in 20 where some numbers are not finite
PIECE_CHARACTERS = 512 * 1024  # that many rows are aimed at: some have long texts
_ROWS_FIRST = 32  # before anything is known of how long they are


def json_bytes(value: object) -> bytes:
    """`value` as JSON. A number that is not finite becomes null, for JSON has no word for it."""
    return _text(value).encode(errors="replace")


def is_long(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether `value` is an answer with a list in it that is better encoded in pieces."""
    return isinstance(value, Mapping) and any(
        isinstance(entry, list) and len(entry) > _ROWS_FIRST for entry in value.values()
    )


def json_pieces(value: Mapping[str, object]) -> Iterator[bytes]:
    """What `json_bytes` gives, in pieces: of the lists in `value` some rows at a time, so that something else can be
    done in between."""
    before = "{"
    for key, entry in value.items():
        before += f"{_text(key)}:"
        if isinstance(entry, list):
            yield before.encode(errors="replace") + b"["
            yield from _rows(entry)
            before = "],"
        else:
            before += f"{_text(entry)},"
    yield (before.removesuffix(",") + "}").encode(errors="replace")


def _rows(rows: list[object]) -> Iterator[bytes]:
    start, count = 0, _ROWS_FIRST
    while start < len(rows):
        piece = _text(rows[start : start + count])[1:-1]
        yield ("," if start else "").encode() + piece.encode(errors="replace")
        start += count
        count = max(1, min(2 * count, count * PIECE_CHARACTERS // len(piece), ROWS_AT_ONCE_MAX))


def _text(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)
    except ValueError:
        return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))
