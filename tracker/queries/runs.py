"""The named queries about runs: the list, in any order and page by page, one run, and who takes part.

What a page costs does not grow with the record: which runs are on it is found first, out of what the order and the
filters need alone, and only those are put together. Order by accuracy or loss is the exception, for it needs every
run's newest figure.
"""

from tracker.queries.query import IN_MEANS, LATEST_METRICS, MEANS, Query

_ENDED = "('FINISHED', 'STOPPED', 'FAILED')"
_PACE_ROUNDS = 5  # the newest rounds by whose median time the rest is reckoned: one slow election does not count

# What a run has come to. The newest rounds that have the figures are found first, and only their rows put together:
# DuckDB then passes over nearly all others, which makes the list of runs three times as fast at ten million rows.
_MEASURED = "scope = 'global' AND split = 'eval' AND key IN ('accuracy', 'loss') AND class IS NULL"
_LATEST_OF_ENDS = LATEST_METRICS.replace(
    "FROM metrics WHERE {where}", f"FROM metrics SEMI JOIN ends USING (run_id, key, round) WHERE {_MEASURED}"
)
_NEWEST_FIGURES = f"""ends AS MATERIALIZED (
    SELECT run_id, key, max(round) AS round FROM metrics
    WHERE {_MEASURED} AND {IN_MEANS} AND run_id IN (SELECT run_id FROM {{of}}) GROUP BY run_id, key),
{_LATEST_OF_ENDS},
means AS ({MEANS.replace("SELECT ", "SELECT count(*) AS nodes, ", 1)}),
newest AS (
    SELECT run_id, arg_max(value, round) FILTER (key = 'accuracy') AS accuracy,
        arg_max(value, round) FILTER (key = 'loss') AS loss,
        coalesce(arg_max(nodes, round) FILTER (key = 'accuracy'), arg_max(nodes, round)) AS measured_by
    FROM means GROUP BY run_id)"""

# `chosen` has a run in each row, and its `place` in the answer. What is told of the runs is put together by one
# grouping: a join keeps 8 MB until the query is over, however few its rows, and a dozen are all of a store's memory.
_TOLD_ONCE = ", ".join(
    f"any_value({what}) AS {what}"
    for what in (
        *("state", "reason", "started_at", "ended_at", "pace", "moved", "elections", "accuracy", "loss"),
        *("measured_by", "decision", "is_imported"),
    )
)
_RUN_ROWS = f"""
WITH chosen AS ({{chosen}}),
states AS (
    SELECT run_id, arg_max(state, position) AS state, arg_max(reason, position) AS reason,
        min(time) FILTER (state = 'RUNNING') AS started_at,
        max(time) FILTER (state IN {_ENDED}) AS ended_at
    FROM status_events SEMI JOIN chosen USING (run_id) WHERE node_id = '' GROUP BY run_id),
of_elections AS (
    SELECT run_id, max(term) AS term, arg_max(aggregator, term) AS aggregator, count(*) AS elections
    FROM elections GROUP BY run_id),
of_rounds AS (
    SELECT run_id, max(round) AS round, max(term) AS term, arg_max(aggregator, term) AS aggregator,
        list_median(arg_max(seconds, round, {_PACE_ROUNDS}) FILTER (seconds > 0)) AS pace, sum(bytes)::BIGINT AS moved
    FROM rounds SEMI JOIN chosen USING (run_id) GROUP BY run_id),
of_models AS (SELECT run_id, max(round) AS round FROM models GROUP BY run_id),
{_NEWEST_FIGURES.replace("{of}", "chosen")},
told AS (
    SELECT run_id, max(round) AS round, max(term) AS term, arg_max(aggregator, term) AS aggregator, {_TOLD_ONCE} FROM (
        SELECT * FROM states UNION ALL BY NAME SELECT * FROM of_elections UNION ALL BY NAME SELECT * FROM of_rounds
        UNION ALL BY NAME SELECT * FROM of_models UNION ALL BY NAME SELECT * FROM newest
        UNION ALL BY NAME SELECT run_id, decision FROM decisions
        UNION ALL BY NAME SELECT run_id, true AS is_imported FROM imported_runs)
    GROUP BY run_id)
SELECT run_id, chosen.name, project, experiment, group_id, task, data, proposer, coalesce(p.name, '') AS proposer_name,
    coalesce(state, 'PROPOSED') AS state, coalesce(told.reason, '') AS reason,
    coalesce(told.round, 0) AS round, rounds, coalesce(told.term, 0) AS term,
    coalesce(told.aggregator, '') AS aggregator, coalesce(a.name, '') AS aggregator_name,
    coalesce(elections, 0) AS elections, created_at, started_at,
    CASE WHEN state IN {_ENDED} THEN ended_at END AS ended_at,
    CASE WHEN state = 'RUNNING' THEN pace * greatest(rounds - coalesce(told.round, 0), 0) END AS seconds_left,
    accuracy, loss, coalesce(measured_by, 0) AS measured_by, coalesce(told.moved, 0) AS bytes_moved,
    coalesce(decision, CASE WHEN is_imported THEN 'imported' ELSE 'none' END) AS decision {{manifest}}
FROM chosen LEFT JOIN told USING (run_id)
    LEFT JOIN nodes p ON p.node_id = proposer LEFT JOIN nodes a ON a.node_id = told.aggregator
ORDER BY place"""

_STATE = """coalesce((SELECT arg_max(state, position) FROM status_events
    WHERE status_events.run_id = runs.run_id AND node_id = ''), 'PROPOSED')"""
_ROUND = """coalesce(greatest((SELECT max(round) FROM rounds WHERE rounds.run_id = runs.run_id),
    (SELECT max(round) FROM models WHERE models.run_id = runs.run_id)), 0)"""
# A run is told by these texts: every word that is looked for is in one of them, or begins the run's id.
_TOLD = f"""SELECT run_id, lower(concat_ws(chr(10), name, project, experiment, task, {_STATE}, manifest ->> '$.tags'))
    AS told FROM runs"""
_HAS_WORDS = r"""list_bool_and(list_transform(string_split_regex(lower(trim($text)), '\s+'),
    lambda word: contains(told, word) OR starts_with(run_id, word)))"""

RUN_FILTERS = {
    "before": "created_at < CAST($before AS TIMESTAMP)",
    "project": "project = $project",
    "state": f"{_STATE} = $state",
    "open": f"({_STATE} NOT IN {_ENDED}) = $open",  # whether they go on, or are still to begin
    "text": f"run_id IN (SELECT run_id FROM ({_TOLD}) WHERE {_HAS_WORDS})",
}
# What each order goes by. States in the order in which one cares about them.
RUN_SORTS = {
    "created": "created_at",
    "name": "lower(name)",
    "project": "lower(project)",
    "state": f"list_position(['RUNNING', 'GATHERING', 'PROPOSED', 'FAILED', 'STOPPED', 'FINISHED'], {_STATE})",
    "round": _ROUND,
    "accuracy": "accuracy",
    "loss": "loss",
}
_BY_FIGURES = frozenset({"accuracy", "loss"})


def _chosen(sort: str) -> str:
    """The page. What has no value stands last whichever the direction; of equals the newest comes first."""
    figures = f"WITH {_NEWEST_FIGURES.replace('{of}', 'runs')}" if sort in _BY_FIGURES else ""
    source = "runs LEFT JOIN newest USING (run_id)" if sort in _BY_FIGURES else "runs"
    return f"""{figures} SELECT runs.*, row_number() OVER (ORDER BY
            CASE WHEN $by_project THEN lower(project) END, CASE WHEN $by_project THEN project END,
            CASE WHEN $descending THEN {RUN_SORTS[sort]} END DESC NULLS LAST,
            CASE WHEN NOT $descending THEN {RUN_SORTS[sort]} END ASC NULLS LAST, created_at DESC, runs.run_id) AS place
        FROM {source} WHERE {{where}} ORDER BY place LIMIT $limit OFFSET $offset"""


def _list(sort: str, *, descending: bool) -> Query:
    return Query(
        _RUN_ROWS.replace("{chosen}", _chosen(sort)).replace("{manifest}", ""),
        filters=RUN_FILTERS,
        defaults={"limit": 100, "offset": 0, "descending": descending, "by_project": False},
    )


RUN_QUERIES: dict[str, Query] = {
    "runs": _list("created", descending=True),
    **{f"runs_by_{sort}": _list(sort, descending=sort in ("created", "round", "accuracy")) for sort in RUN_SORTS},
    "runs_total": Query("SELECT count(*) AS total FROM runs WHERE {where} HAVING total > 0", filters=RUN_FILTERS),
    # In the order in which runs by project come.
    "run_projects": Query(
        """SELECT project, count(*) AS runs FROM runs WHERE {where} GROUP BY project
        ORDER BY lower(project), project""",
        filters=RUN_FILTERS,
    ),
    "run": Query(
        _RUN_ROWS.replace("{chosen}", "SELECT *, 1 AS place FROM runs WHERE {where}").replace(
            "{manifest}", ", manifest"
        ),
        required=("run_id",),
        filters={"run_id": "run_id = $run_id"},
        json_columns=("manifest",),
    ),
    "participants": Query(
        """SELECT run_id, node_id, coalesce(nodes.name, '') AS name, coalesce(state, 'INVITED') AS state,
            coalesce(reason, '') AS reason, coalesce(round, 0) AS round, coalesce(samples, 0) AS samples,
            coalesce(voter, false) AS voter, coalesce(role, '') AS role
        FROM (SELECT * FROM participants WHERE {where})
            FULL JOIN (SELECT * FROM current_states WHERE node_id <> '' AND {where}) USING (run_id, node_id)
            LEFT JOIN nodes USING (node_id)
        ORDER BY run_id, node_id""",
        filters={"run_id": "run_id = $run_id", "run_ids": "run_id IN (SELECT unnest($run_ids))"},
    ),
}
