"""The named queries about what nodes were busy with in a run, and how busy their machines were.

A machine, and a node's own process, belong to no run: what was measured of them counts for a run from its start to its
end, with the round that was under way then, which is the one after the newest that had been committed. A worker's
measurements say the round themselves. Pages are cut where the round, or the time, changes.
"""

from tracker.queries.query import Query

_RUN = {"run_id": "run_id = $run_id"}
_ENDED = "('FINISHED', 'STOPPED', 'FAILED')"

# What `found` has of a run: its workers', and what else was measured between its start and its end.
_FOUND = f"""bounds AS (
    SELECT min(time) FILTER (state = 'RUNNING') AS began,
        CASE WHEN arg_max(state, position) IN {_ENDED} THEN max(time) FILTER (state IN {_ENDED}) END AS ended
    FROM status_events WHERE run_id = $run_id AND node_id = ''),
commits AS (SELECT round, committed_at FROM rounds WHERE run_id = $run_id),
measured AS (
    SELECT system_metrics.* FROM system_metrics, bounds
    WHERE ($run_id::VARCHAR IS NULL OR run_id = $run_id
        OR (run_id = '' AND time BETWEEN began AND coalesce(ended, TIMESTAMP 'infinity'))) AND {{where}}),
found AS (
    SELECT measured.* REPLACE (CASE WHEN run_id <> '' OR $run_id::VARCHAR IS NULL THEN measured.round
        ELSE least(coalesce(commits.round, 0) + 1, (SELECT rounds FROM runs WHERE run_id = $run_id)) END AS round)
    FROM measured ASOF LEFT JOIN commits ON measured.time >= commits.committed_at)"""
_FILTERS = {
    "node": "node_id = $node",
    "scope": "scope = $scope",
    "key": "key = $key",
    "after": "time > CAST($after AS TIMESTAMP)",
}

SYSTEM_QUERIES: dict[str, Query] = {
    "spans": Query(
        """WITH found AS (SELECT * FROM spans WHERE {where})
        SELECT run_id, node_id, round, name, peer, started_at, seconds, bytes, source_node FROM found
        WHERE round <= coalesce(
            (SELECT round FROM found ORDER BY round LIMIT 1 OFFSET greatest($limit, 1) - 1), 2147483647)
        ORDER BY round, started_at, node_id, name, peer, sequence""",
        required=("run_id",),
        filters={
            **_RUN,
            "node": "node_id = $node",
            "after_round": "round > $after_round",
            "before_round": "round < $before_round",
        },
        defaults={"limit": 2**62},
    ),
    "system_metrics": Query(
        f"""WITH {_FOUND}
        SELECT node_id, run_id, scope, key, device, value, unit, round, time FROM found
        WHERE time <= coalesce(
            (SELECT time FROM found ORDER BY time LIMIT 1 OFFSET greatest($limit, 1) - 1), TIMESTAMP 'infinity')
        ORDER BY time, node_id, run_id, scope, key, device, sequence""",
        filters=_FILTERS,
        defaults={"run_id": None, "limit": 2**62},
    ),
    "system_summary": Query(
        f"""WITH {_FOUND}
        SELECT node_id, scope, key, device, unit, arg_max(value, time) AS latest, avg(value) AS mean,
            min(value) AS min, max(value) AS max, count(*) AS samples, max(time) AS time
        FROM found WHERE isfinite(value) GROUP BY ALL ORDER BY node_id, scope, key, device""",
        filters=_FILTERS,
        defaults={"run_id": None},
    ),
}
