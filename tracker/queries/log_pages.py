"""Where a page of the log ends, for going on to what was said before it."""

from collections.abc import Mapping, Sequence
from typing import Any


def previous_place(lines: Sequence[Mapping[str, Any]], limit: int) -> str | None:
    """The place of the first line of a page of `limit` (query `logs_tail`), to be given as `before` for the page before
    it. None where there is nothing before."""
    if len(lines) < limit:
        return None
    first = lines[0]
    return f"{first['time'].removesuffix('Z')},{first['seq']},{first['node_id']}"
