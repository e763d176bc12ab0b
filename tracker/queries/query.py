"""One named query: fixed text with places for filters. What there are is in `queries` and the files beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What a mean is taken of: beyond it is no measurement, and it would hide all the others. Times the most samples that a
# row can have, 2**63, and any number of nodes it stays finite. NaN is greater than every number, for DuckDB.
IN_MEANS = "abs(value) <= 1e100"
MEAN = "CASE WHEN sum(samples) > 0 THEN sum(value * samples) / sum(samples) ELSE avg(value) END AS value"

# A round that was done twice has its figures twice: of the same figure the one added last counts.
LATEST_METRICS = """latest AS NOT MATERIALIZED (
    SELECT run_id, node_id, scope, split, key, class, round, epoch, step, arg_max(value, position) AS value,
        arg_max(time, position) AS time, arg_max(samples, position) AS samples
    FROM metrics WHERE {where} GROUP BY run_id, node_id, scope, split, key, class, round, epoch, step)"""
# Over the nodes, weighted by samples; of a round as a whole, for of its steps each node knows its own alone. A figure
# that is not finite, or beyond all measure, is shown of its node alone.
MEANS = f"""SELECT run_id, '' AS node_id, scope, split, key, class, round, epoch, step, {MEAN},
        max(time) AS time, least(sum(samples), {2**63 - 1})::BIGINT AS samples
    FROM latest WHERE {IN_MEANS} AND epoch = 0 AND step = 0
    GROUP BY run_id, scope, split, key, class, round, epoch, step"""


@dataclass(frozen=True, slots=True)
class Query:
    """`sql` has {where} (and {rows}) where the conditions of given `filters` (and `row_filters`) go."""

    sql: str
    required: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    row_filters: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    json_columns: tuple[str, ...] = ()
