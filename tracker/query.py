"""One named query: fixed text with places for filters. What there are is in tracker.queries and the files beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Query:
    """`sql` has {where} (and {rows}) where the conditions of given `filters` (and `row_filters`) go."""

    sql: str
    required: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    row_filters: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    json_columns: tuple[str, ...] = ()
