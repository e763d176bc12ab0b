"""Reading fields of the local API's JSON, which may come from an older or newer node, or through a hostile peer.

Nothing raises: a missing or strange field becomes its default. Texts come out safe to put on a terminal: peers choose
their names and messages, so control characters and invisible marks, which could forge what is shown, do not pass.
"""

import math
from collections.abc import Mapping
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any

Json = Mapping[str, Any]

TEXT_CHARS_MAX = 2_000  # more than any terminal line shows; keeps one absurd message from costing memory
WHOLE_CHARS_MAX = 20_000  # of a text that is shown with all of its lines: five times the longest that a node records
LIST_ITEMS_MAX = 200_000  # ten times a page of metrics; keeps a broken answer from freezing the screen
LONG_AGO = datetime.min.replace(tzinfo=UTC)  # in the order of times, the place of what has none


def safe(value: str) -> str:
    """`value` with line ends shown as a sign and other unprintable characters as a dot."""
    value = value[:TEXT_CHARS_MAX]
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else " ⏎ " if c == "\n" else " " if c.isspace() else "·" for c in value).strip()


def text(source: Json, key: str) -> str:
    """The field as safe text; absent and null are empty."""
    value = source.get(key)
    return "" if value is None else safe(value if isinstance(value, str) else _written(value))


def _written(value: object) -> str:
    try:
        return str(value)
    except (ValueError, RecursionError):  # a number or a list of absurd length or depth
        return ""


def lines_of(source: Json, key: str) -> str:
    """The field as safe text with its line ends, where `text` would lose something of it; else empty."""
    value = source.get(key)
    if not isinstance(value, str) or ("\n" not in value and len(value) <= TEXT_CHARS_MAX):
        return ""
    lines = value[:WHOLE_CHARS_MAX].expandtabs().split("\n")
    return "\n".join("".join(c if c.isprintable() else "·" for c in line.rstrip("\r")) for line in lines).rstrip()


def number(source: Json, key: str) -> int:
    """The field as a whole number, or 0."""
    value = measure(source, key)
    return 0 if value is None else int(source[key])


def measure(source: Json, key: str) -> float | None:
    """The field as a finite float, or None."""
    value = source.get(key)
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:  # a whole number beyond what a float holds
        return None


def moment(source: Json, key: str) -> datetime | None:
    """The field, an ISO 8601 time, as an aware datetime in UTC, or None."""
    try:
        when = datetime.fromisoformat(text(source, key))
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        return when if MINYEAR < when.year < MAXYEAR else None  # shown in any zone, it stays within the calendar
    except (ValueError, OverflowError):
        return None


def items(source: Json, key: str) -> list[Json]:
    """The field as a list of objects; whatever else is in it is left out."""
    value = source.get(key)
    return [item for item in value[:LIST_ITEMS_MAX] if isinstance(item, Mapping)] if isinstance(value, list) else []


def object_of(source: Json, key: str) -> Json:
    """The field as an object, or an empty one."""
    value = source.get(key)
    return value if isinstance(value, Mapping) else {}


def texts(source: Json, key: str) -> tuple[str, ...]:
    """The field as a tuple of safe texts, or an empty one."""
    value = source.get(key)
    return tuple(safe(_written(item)) for item in value[:LIST_ITEMS_MAX]) if isinstance(value, list) else ()


def name_of(source: Json, name_key: str, id_key: str) -> str:
    """A name to show: the given one, or the end of the id (peer ids differ at their ends, not at their beginnings)."""
    return text(source, name_key) or text(source, id_key)[-8:]
