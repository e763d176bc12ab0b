"""The named queries behind the inbox: refused updates, failed runs, who lied, what was proposed before."""

from tracker.queries.query import Query

# Runs as people tell them apart; of one that is gone nothing is left but its id.
_RUN = "coalesce(runs.name, '') AS run, coalesce(runs.group_id, '') AS group_id"

# A state's reason, of which the reason of a round's row is made.
_TOLD = r"'^update refused: (.*) \(([a-z-]+)\)$'"

INBOX_QUERIES: dict[str, Query] = {
    # A row for each run and node: how often its updates were refused, and why the last time. What a rule sets aside is
    # nothing to look at: Krum does so with all but one, in every round. What a node was told of its own update counts
    # until something else is said of it, or the record has that round, or a later one; then the checkpoint's word does.
    "refused_updates": Query(
        f"""WITH reigning AS (SELECT run_id, arg_max(aggregator, term) AS aggregator FROM elections GROUP BY run_id),
        told AS (
            SELECT run_id, node_id, round + 1 AS round, max(time) AS committed_at,
                regexp_replace(arg_max(reason, position), {_TOLD}, '\\2: \\1') AS reason
            FROM status_events WHERE node_id = source_node
            GROUP BY run_id, node_id, round HAVING arg_max(reason, position) LIKE 'update refused: %'),
        refused AS (
            SELECT run_id, round, aggregator, committed_at, true AS is_committed, unnest(from_json(updates_refused,
                '[{{"node_id": "VARCHAR", "reason": "VARCHAR"}}]')) AS refusal
            FROM rounds WHERE updates_refused::VARCHAR <> '[]' AND {{where}}
            UNION ALL
            SELECT run_id, round, coalesce(aggregator, ''), committed_at, false,
                {{'node_id': node_id, 'reason': reason}}
            FROM told LEFT JOIN reigning USING (run_id)
            WHERE round > coalesce((SELECT max(round) FROM rounds WHERE rounds.run_id = told.run_id), 0) AND {{where}}),
        counted AS (
            SELECT run_id, refusal.node_id AS node_id, count(*) AS refusals, max(round) AS round,
                arg_max(refusal.reason, round) AS reason, arg_max(aggregator, round) AS aggregator,
                max(committed_at) AS time
            FROM refused WHERE refusal.reason NOT LIKE 'set-aside:%' AND {{rows}} GROUP BY ALL)
        SELECT counted.*, {_RUN}, coalesce(n.name, '') AS node_name, coalesce(a.name, '') AS aggregator_name
        FROM counted LEFT JOIN runs USING (run_id) LEFT JOIN nodes n ON n.node_id = counted.node_id
            LEFT JOIN nodes a ON a.node_id = counted.aggregator
        ORDER BY time DESC, run_id, node_id LIMIT $limit""",
        filters={"since": "committed_at > CAST($since AS TIMESTAMP)"},
        row_filters={"concerns": "(refusal.node_id = $concerns OR is_committed AND aggregator = $concerns)"},
        defaults={"limit": 100},
    ),
    # Runs that ended so (node_id is empty), or one node's part in them.
    "failed_runs": Query(
        f"""WITH failed AS (
            SELECT run_id, node_id, arg_max(reason, position) AS reason, arg_max(time, position) AS time
            FROM status_events WHERE {{where}} GROUP BY run_id, node_id HAVING arg_max(state, position) = 'FAILED')
        SELECT failed.*, {_RUN}, coalesce(proposer, '') AS proposer, coalesce(decision, 'none') AS decision
        FROM failed LEFT JOIN runs USING (run_id) LEFT JOIN decisions USING (run_id)
        WHERE {{rows}} ORDER BY failed.time DESC, run_id, node_id LIMIT $limit""",
        filters={
            "since": "time > CAST($since AS TIMESTAMP)",
            "node": "(node_id = '' OR node_id = $node)",
        },
        row_filters={"ours": "(decision = 'accepted' OR proposer = $ours)"},
        defaults={"limit": 100},
    ),
    # What the log says of aggregators that were proven to lie.
    "lies": Query(
        f"""SELECT run_id, message, time, {_RUN} FROM (
            SELECT run_id, message, time FROM logs
            WHERE level = 'ERROR' AND logger LIKE 'fednode.run%' AND message LIKE '% lied: %' AND {{where}}) found
            LEFT JOIN runs USING (run_id) ORDER BY time DESC LIMIT $limit""",
        filters={"run_id": "run_id = $run_id", "since": "time > CAST($since AS TIMESTAMP)"},
        defaults={"limit": 100},
    ),
    # The run before this one that is most like it: one that was accepted rather than another, then the newest.
    "proposed_before": Query(
        """WITH wanted AS (SELECT * FROM runs WHERE {where})
        SELECT runs.run_id, runs.name, runs.created_at, coalesce(decision, 'none') AS decision
        FROM runs LEFT JOIN decisions USING (run_id), wanted
        WHERE runs.run_id <> wanted.run_id AND runs.created_at < wanted.created_at AND runs.group_id = wanted.group_id
            AND (runs.name = wanted.name OR (runs.project = wanted.project AND runs.experiment = wanted.experiment
                AND runs.task = wanted.task))
        ORDER BY (decision = 'accepted') IS NOT DISTINCT FROM true DESC, runs.created_at DESC, runs.run_id LIMIT 1""",
        required=("run_id",),
        filters={"run_id": "run_id = $run_id"},
    ),
}
