"""The named queries about curves: which there are in a run, and their points, thinned out where there are too many.

A thinned curve has real rows alone: its first and last, and of each stretch in between the lowest and the highest, so
that what sticks out stays. Stretches are equally long in rounds and steps. Of a figure that was told twice the one
added last counts, and means are thinned as curves of their own: a mean of thinned curves would be another.
"""

from tracker.queries.query import LATEST_METRICS, MEANS, Query

# Of all curves in one answer together: some 5 MB of JSON. With more curves each has fewer points, but never fewer than
# its first, its last, and the extremes of one stretch.
POINTS_ROWS_MAX = 20_000
POINTS_OF_SERIES_MIN = 4
SERIES_MAX = 5_000  # a task that gives each figure a name of its own is to be seen as such, and costs no more

_FILTERS = {
    "run_id": "run_id = $run_id",
    "scope": "scope = $scope",
    "split": "split = $split",
    "key": "key = $key",
    "class": "class IS NOT DISTINCT FROM nullif($class, '')",  # "" asks for figures that are of no class
    "after_round": "round > $after_round",
    "before_round": "round < $before_round",
}
_SERIES = "node_id, scope, split, key, class"
_PLACE = "round, epoch, step"
_COLUMNS = (*_PLACE.split(", "), "value", "time", "samples")
_ROW = f"struct_pack({', '.join(f'{name} := {name}' for name in _COLUMNS)})"

_POINTS = f"""WITH {LATEST_METRICS},
shown AS MATERIALIZED (SELECT * FROM (SELECT * FROM latest UNION ALL {MEANS}) WHERE {{rows}}),
series AS MATERIALIZED (
    SELECT {_SERIES}, row_number() OVER () AS number, count(*) AS rows, min(round) AS began,
        max(step) + 1.0 AS steps, max(round) + 1 - min(round) AS rounds,
        arg_min({_ROW}, row({_PLACE})) AS first, arg_max({_ROW}, row({_PLACE})) AS last
    FROM shown GROUP BY {_SERIES} ORDER BY rows DESC LIMIT {SERIES_MAX}),
room AS (
    SELECT greatest(least($points, {POINTS_ROWS_MAX} // greatest(count(*), 1)), {POINTS_OF_SERIES_MIN}) AS points
    FROM series),
placed AS (
    SELECT number, {_ROW} AS point, value, CASE WHEN rows > points THEN
        floor((round - began + step / steps) / rounds * ((points - 2) // 2))::INTEGER END AS stretch
    FROM shown JOIN series ON shown.node_id = series.node_id AND shown.scope = series.scope
        AND shown.split = series.split AND shown.key = series.key AND shown.class IS NOT DISTINCT FROM series.class,
        room),
extremes AS (
    SELECT number, arg_min(point, value) AS lowest, arg_max(point, value) AS highest
    FROM placed WHERE stretch IS NOT NULL AND isfinite(value) GROUP BY number, stretch),
chosen AS (
    SELECT number, point FROM placed WHERE stretch IS NULL
    UNION SELECT number, first FROM series UNION SELECT number, last FROM series
    UNION SELECT number, lowest FROM extremes UNION SELECT number, highest FROM extremes)
SELECT $run_id AS run_id, {_SERIES}, {", ".join(f"point.{name} AS {name}" for name in _COLUMNS)}
FROM chosen JOIN series USING (number)
ORDER BY point.round, point.epoch, point.step, key, scope, split, class NULLS FIRST, node_id"""

SERIES_QUERIES: dict[str, Query] = {
    "series": Query(
        f"""SELECT scope, split, key, class, count(*) AS nodes, sum(rows)::BIGINT AS rows, max(last_round) AS last_round
        FROM (SELECT {_SERIES}, count(*) AS rows, max(round) AS last_round FROM metrics WHERE {{where}} GROUP BY ALL)
        GROUP BY scope, split, key, class ORDER BY scope, split, key, class NULLS FIRST LIMIT {SERIES_MAX}""",
        required=("run_id",),
        filters={"run_id": _FILTERS["run_id"]},
    ),
    "metric_points": Query(
        _POINTS,
        required=("run_id",),
        filters=_FILTERS,
        row_filters={"node": "node_id = $node"},  # "" asks for the means, so it must come after them
        defaults={"points": POINTS_ROWS_MAX},
    ),
}
