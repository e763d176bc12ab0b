"""The named queries about what befell a run: its elections, ends and faults in their order, and what became of every
update.

Elections, states and refusals have tables of their own. What else befalls a run (nobody aggregates, somebody lied, it
was given more rounds) the node writes into its log under a logger of that name, and is known here by it. What belongs
to no round counts for the one that was under way, which is the one after the newest that had been committed.
"""

from tracker.queries.query import Query

TOLD_LOGGERS = ("silent", "deposed", "extended")  # the ends of the loggers' names, after "fednode.run."
TIMELINE_MAX = 2_000  # the newest; a run in which more goes wrong is read in its log
UPDATES_MAX = 10_000

_RUN = {"run_id": "run_id = $run_id"}
_ENDED = "('FINISHED', 'STOPPED', 'FAILED')"
_LOGGERS = ", ".join(f"'fednode.run.{name}'" for name in TOLD_LOGGERS)

_TIMELINE = f"""WITH states AS (
    SELECT *, lag(state) OVER (PARTITION BY node_id ORDER BY position) AS before FROM status_events WHERE {{where}}),
found AS (
    SELECT time, NULL::INTEGER AS round, 'elected' AS kind, aggregator AS node_id, 'term ' || term AS text
    FROM elections WHERE {{where}}
    UNION ALL SELECT time, NULL, CASE WHEN state <> 'RUNNING' THEN lower(state)
        WHEN before IN {_ENDED} THEN 'resumed' ELSE 'started' END, '', reason
    FROM states WHERE node_id = '' AND state IN ('RUNNING', 'FINISHED', 'STOPPED', 'FAILED')
    UNION ALL SELECT time, NULL, CASE WHEN state IN ('LOST', 'FAILED') THEN lower(state) ELSE 'back' END, node_id,
        reason
    FROM states WHERE node_id <> '' AND (state IN ('LOST', 'FAILED')
        OR (before = 'LOST' AND state NOT IN ('LOST', 'FAILED', 'FINISHED')))
    UNION ALL SELECT committed_at, round, 'refused', refused ->> '$.node_id', refused ->> '$.reason'
    FROM (SELECT committed_at, round, unnest(from_json(updates_refused, '["JSON"]')) AS refused
        FROM rounds WHERE {{where}} AND updates_refused::VARCHAR <> '[]')
    UNION ALL SELECT min(time), NULL, logger[13:], '', message FROM logs
    WHERE {{where}} AND logger IN ({_LOGGERS}) GROUP BY logger, message, time_bucket(INTERVAL 5 SECONDS, time)),
commits AS (SELECT round AS committed, committed_at FROM rounds WHERE {{where}})
SELECT time, coalesce(round, least(coalesce(committed, 0) + 1, (SELECT rounds FROM runs WHERE {{where}}))) AS round,
    kind, node_id, coalesce(nodes.name, '') AS node_name, coalesce(text, '') AS text
FROM (SELECT * FROM found ORDER BY time DESC LIMIT $limit) newest
    ASOF LEFT JOIN commits ON newest.time >= commits.committed_at LEFT JOIN nodes USING (node_id)
ORDER BY time, kind, node_id"""

_UPDATE = '[{"node_id": "VARCHAR", "samples": "BIGINT", "bytes": "BIGINT", "weight": "INTEGER", "norm": "DOUBLE", ' + (
    '"refused": "VARCHAR", "late": "BOOLEAN"}]'
)
_UPDATES = f"""WITH told AS (
    SELECT run_id, round, committed_at, audited, updates_refused,
        unnest(from_json(updates, '{_UPDATE}')) AS it
    FROM (SELECT * FROM rounds WHERE {{where}} ORDER BY round DESC LIMIT $limit)),
found AS (
    SELECT run_id, round, committed_at AS time, it.node_id AS node_id, it.samples AS samples, it.bytes AS bytes,
        it.weight AS weight, it.norm AS norm, CASE WHEN it.refused IS NOT NULL THEN 'refused' WHEN it.late THEN 'late'
            ELSE 'used' END AS outcome,
        CASE WHEN it.refused IS NULL THEN '' ELSE coalesce(list_filter(from_json(updates_refused,
            '[{{"node_id": "VARCHAR", "reason": "VARCHAR"}}]'), lambda each: each.node_id = it.node_id)[1].reason,
            it.refused) END AS reason, audited
    FROM told),
shown AS (SELECT * FROM found WHERE {{rows}})
SELECT run_id, round, time, node_id, coalesce(nodes.name, '') AS node_name, samples, bytes, weight, norm, outcome,
    reason, audited
FROM shown LEFT JOIN nodes USING (node_id)
WHERE round >= coalesce((SELECT round FROM shown ORDER BY round DESC LIMIT 1 OFFSET greatest($limit, 1) - 1), 0)
ORDER BY round DESC, node_id"""

TIMELINE_QUERIES: dict[str, Query] = {
    "timeline": Query(_TIMELINE, required=("run_id",), filters=_RUN, defaults={"limit": TIMELINE_MAX}),
    "updates": Query(
        _UPDATES,
        required=("run_id",),
        filters={**_RUN, "after_round": "round > $after_round", "before_round": "round < $before_round"},
        row_filters={"node": "node_id = $node", "outcome": "outcome = $outcome"},
        defaults={"limit": UPDATES_MAX},
    ),
}
