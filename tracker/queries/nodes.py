"""The named queries about nodes over time: how busy their machines were, and when they came and went.

Samples are thinned here, so that a day's worth is a hundred points: each stretch of time gives one, the mean of a
level's, the last of what counts up. Of several GPUs it is their mean.
"""

from tracker.queries.query import Query

# What counts up is told as it stood last, for a rate is the difference between two; of a level the mean.
_COUNTS_UP = "key IN ('network_sent_bytes', 'network_received_bytes')"

NODE_QUERIES: dict[str, Query] = {
    "node_samples": Query(
        f"""WITH bounds AS (
            SELECT coalesce(CAST($after AS TIMESTAMP), max(time) - INTERVAL 1 HOUR) AS since, max(time) AS until
            FROM system_metrics WHERE scope = 'host'),
        found AS (
            SELECT node_id, key, time, value,
                floor($points * (epoch(time) - epoch(since)) / greatest(epoch(until) - epoch(since), 0.001)) AS part
            FROM system_metrics, bounds WHERE scope = 'host' AND time > since AND isfinite(value) AND {{where}})
        SELECT node_id, key, max(time) AS time,
            CASE WHEN {_COUNTS_UP} THEN arg_max(value, time) ELSE avg(value) END AS value
        FROM found WHERE key IN ('cpu_percent', 'memory_percent', 'memory_used_bytes', 'disk_percent',
            'disk_used_bytes', 'disk_free_bytes', 'network_sent_bytes', 'network_received_bytes', 'gpu_percent',
            'gpu_memory_used_bytes')
        GROUP BY node_id, key, least(part, $points - 1) ORDER BY node_id, key, time""",
        filters={"node": "node_id = $node"},
        defaults={"after": None, "points": 120},
    ),
    "node_states": Query(
        """SELECT node_id, time, epoch(time) AS at, state, reason FROM status_events
        WHERE run_id = '' AND node_id <> '' AND {where}
        QUALIFY row_number() OVER (PARTITION BY node_id ORDER BY position DESC) <= $newest
        ORDER BY position""",
        filters={"after": "time > CAST($after AS TIMESTAMP)", "node": "node_id = $node"},
        defaults={"newest": 50},
    ),
}
