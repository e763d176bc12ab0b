"""How the local API's answers become JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime


def json_bytes(value: object) -> bytes:
    """`value` as JSON. A number that is not finite becomes null, for JSON has no word for it."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode(errors="replace")


def _plain(value: object) -> object:
    """What a person's SQL may give beyond JSON's types."""
    if isinstance(value, datetime):
        utc = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return f"{utc.isoformat()}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_finite(entry) for entry in value]
    return value
