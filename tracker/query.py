"""One named query: fixed text with places for filters. What there are is in tracker.queries and the files beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What a mean is taken of: beyond it is no measurement, and it would hide all the others. Times the most samples that a
# row can have, 2**63, and any number of nodes it stays finite. NaN is greater than every number, for DuckDB.
IN_MEANS = "abs(value) <= 1e100"
MEAN = "CASE WHEN sum(samples) > 0 THEN sum(value * samples) / sum(samples) ELSE avg(value) END AS value"


@dataclass(frozen=True, slots=True)
class Query:
    """`sql` has {where} (and {rows}) where the conditions of given `filters` (and `row_filters`) go."""

    sql: str
    required: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    row_filters: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    json_columns: tuple[str, ...] = ()
