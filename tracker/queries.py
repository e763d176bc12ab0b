"""The named queries: everything that the local API gives out of the record.

Each is fixed text with places for filters, so that a filter which is not given costs nothing; values are always bound,
never written into the text. Results have the names of docs/api.md.

Pages of `metrics` and `logs` are cut where the round, or the number, changes: a page may be longer than `limit`, and
going on after its last round or number skips nothing.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from protocol.errors import FednodeError
from tracker.queries_care import CARE_QUERIES
from tracker.queries_models import MODEL_QUERIES
from tracker.queries_system import SYSTEM_QUERIES
from tracker.query import IN_MEANS, MEAN, Query

NO_LIMIT = 2**62
_RUN = {"run_id": "run_id = $run_id"}

# A round that was done twice has its figures twice: of the same figure the one added last counts.
_LATEST_METRICS = """latest AS NOT MATERIALIZED (
    SELECT run_id, node_id, scope, split, key, class, round, epoch, step, arg_max(value, position) AS value,
        arg_max(time, position) AS time, arg_max(samples, position) AS samples
    FROM metrics WHERE {where} GROUP BY run_id, node_id, scope, split, key, class, round, epoch, step)"""
# Over the nodes, weighted by samples; of a round as a whole, for of its steps each node knows its own alone. A figure
# that is not finite, or beyond all measure, is shown of its node alone.
_MEANS = f"""SELECT run_id, '' AS node_id, scope, split, key, class, round, epoch, step, {MEAN},
        max(time) AS time, least(sum(samples), {2**63 - 1})::BIGINT AS samples
    FROM latest WHERE {IN_MEANS} AND epoch = 0 AND step = 0
    GROUP BY run_id, scope, split, key, class, round, epoch, step"""

# What a run has come to. The newest rounds that have the figures are found first, and only their rows put together:
# DuckDB then passes over nearly all others, which makes the list of runs three times as fast at ten million rows.
_MEASURED = "scope = 'global' AND split = 'eval' AND key IN ('accuracy', 'loss') AND class IS NULL"
_LATEST_OF_ENDS = _LATEST_METRICS.replace(
    "FROM metrics WHERE {where}", f"FROM metrics SEMI JOIN ends USING (run_id, key, round) WHERE {_MEASURED}"
)
_RUN_ROWS = f"""
WITH chosen AS (SELECT * FROM runs WHERE {{where}} ORDER BY created_at DESC, run_id LIMIT $limit),
states AS (
    SELECT run_id, arg_max(state, position) AS state, arg_max(reason, position) AS reason,
        min(time) FILTER (state = 'RUNNING') AS started_at,
        max(time) FILTER (state IN ('FINISHED', 'STOPPED', 'FAILED')) AS ended_at
    FROM status_events SEMI JOIN chosen USING (run_id) WHERE node_id = '' GROUP BY run_id),
reigns AS (
    SELECT run_id, max(term) AS term, arg_max(aggregator, term) AS aggregator
    FROM (SELECT run_id, term, aggregator FROM elections UNION ALL SELECT run_id, term, aggregator FROM rounds)
    SEMI JOIN chosen USING (run_id) GROUP BY run_id),
done AS (
    SELECT run_id, max(round) AS round
    FROM (SELECT run_id, round FROM rounds UNION ALL SELECT run_id, round FROM models) GROUP BY run_id),
elected AS (SELECT run_id, count(*) AS elections FROM elections GROUP BY run_id),
ends AS MATERIALIZED (
    SELECT run_id, key, max(round) AS round FROM metrics
    WHERE {_MEASURED} AND {IN_MEANS} AND run_id IN (SELECT run_id FROM chosen) GROUP BY run_id, key),
{_LATEST_OF_ENDS},
means AS ({_MEANS}),
newest AS (
    SELECT run_id, arg_max(value, round) FILTER (key = 'accuracy') AS accuracy,
        arg_max(value, round) FILTER (key = 'loss') AS loss
    FROM means GROUP BY run_id)
SELECT run_id, chosen.name, project, experiment, group_id, task, data, proposer, coalesce(p.name, '') AS proposer_name,
    coalesce(state, 'PROPOSED') AS state, coalesce(states.reason, '') AS reason,
    coalesce(done.round, 0) AS round, rounds, coalesce(reigns.term, 0) AS term,
    coalesce(reigns.aggregator, '') AS aggregator, coalesce(a.name, '') AS aggregator_name,
    coalesce(elections, 0) AS elections, created_at, started_at,
    CASE WHEN state IN ('FINISHED', 'STOPPED', 'FAILED') THEN ended_at END AS ended_at, accuracy, loss,
    coalesce(decision, CASE WHEN imported.run_id IS NULL THEN 'none' ELSE 'imported' END) AS decision {{manifest}}
FROM chosen LEFT JOIN states USING (run_id) LEFT JOIN reigns USING (run_id) LEFT JOIN done USING (run_id)
    LEFT JOIN elected USING (run_id) LEFT JOIN newest USING (run_id) LEFT JOIN decisions USING (run_id)
    LEFT JOIN imported_runs imported USING (run_id)
    LEFT JOIN nodes p ON p.node_id = proposer LEFT JOIN nodes a ON a.node_id = reigns.aggregator
ORDER BY created_at DESC, run_id"""

_METRICS = f"""
WITH {_LATEST_METRICS}, shown AS (
    SELECT * FROM (SELECT * FROM latest UNION ALL {_MEANS}) WHERE {{rows}})
SELECT run_id, node_id, scope, split, key, class, round, epoch, step, value, time, samples FROM shown
WHERE round <= coalesce((SELECT round FROM shown ORDER BY round LIMIT 1 OFFSET greatest($limit, 1) - 1), 2147483647)
ORDER BY round, epoch, step, key, scope, split, class NULLS FIRST, node_id"""
_LEVELS = "list_position(['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'], {})"
_LOG_COLUMNS = "sequence AS seq, time, level, node_id, run_id, logger, message"
_LOG_FILTERS = {
    **_RUN,
    "node": "node_id = $node",
    "level": f"{_LEVELS.format('level')} >= {_LEVELS.format('$level')}",  # this level and what is worse
}

QUERIES: dict[str, Query] = {
    "runs": Query(
        _RUN_ROWS.replace("{manifest}", ""),
        filters={"before": "created_at < CAST($before AS TIMESTAMP)"},
        defaults={"limit": 100},
    ),
    "run": Query(
        _RUN_ROWS.replace("{manifest}", ", manifest"),
        required=("run_id",),
        filters=_RUN,
        defaults={"limit": 1},
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
        filters=_RUN,
    ),
    "statuses": Query(
        """SELECT run_id, node_id, state, reason, round, time, sequence, source_node FROM status_events
        WHERE {where} ORDER BY position""",
        filters={**_RUN, "node": "node_id = $node"},
    ),
    "rounds": Query(
        """SELECT run_id, round, term, aggregator, checkpoint, model, committed_at, updates_used, updates_refused,
            bytes, seconds FROM rounds WHERE {where} ORDER BY run_id, round LIMIT $limit""",
        required=("run_id",),
        filters={**_RUN, "after_round": "round > $after_round", "before_round": "round < $before_round"},
        defaults={"limit": NO_LIMIT},
        json_columns=("updates_refused",),
    ),
    "metrics": Query(
        _METRICS,
        required=("run_id",),
        filters={
            **_RUN,
            "key": "key = $key",
            "scope": "scope = $scope",
            "split": "split = $split",
            "after_round": "round > $after_round",
        },
        row_filters={"node": "node_id = $node"},  # "" asks for the means, so it must come after them
        defaults={"limit": NO_LIMIT},
    ),
    "logs": Query(
        f"""WITH found AS (SELECT * FROM logs WHERE sequence > $after AND {{where}})
        SELECT {_LOG_COLUMNS} FROM found WHERE sequence <= coalesce(
            (SELECT sequence FROM found ORDER BY sequence LIMIT 1 OFFSET greatest($limit, 1) - 1), 9223372036854775807)
        ORDER BY sequence, node_id""",
        filters=_LOG_FILTERS,
        defaults={"after": -1, "limit": 1000},
    ),
    "logs_tail": Query(
        f"""SELECT * FROM (SELECT {_LOG_COLUMNS} FROM logs WHERE {{where}} ORDER BY sequence DESC, node_id LIMIT $limit)
        ORDER BY seq, node_id""",
        filters=_LOG_FILTERS,
        defaults={"limit": 1000},
    ),
    "models": Query(
        "SELECT run_id, round, model, schema, bytes, time FROM models WHERE {where} ORDER BY run_id, round DESC",
        filters={**_RUN, "round": "round = $round"},
    ),
    "elections": Query(
        "SELECT run_id, term, aggregator, time FROM elections WHERE {where} ORDER BY run_id, term",
        filters=_RUN,
    ),
    "parameters": Query(
        "SELECT run_id, key, value, type FROM parameters WHERE {where} ORDER BY run_id, key",
        filters=_RUN,
    ),
    "artifacts": Query(
        """SELECT run_id, node_id, coalesce(nodes.name, '') AS node_name, found.name, round, kind, bytes, blob, time,
            details
        FROM (SELECT * FROM artifacts WHERE {where}) found LEFT JOIN nodes USING (node_id)
        ORDER BY run_id, node_id, found.round, found.name""",
        filters={**_RUN, "node": "node_id = $node", "artifact": "name = $artifact"},
        json_columns=("details",),
    ),
    "nodes": Query(
        "SELECT node_id, name, member_id, version, capacity, last_seen FROM nodes WHERE {where} ORDER BY node_id",
        filters={"node": "node_id = $node"},
        json_columns=("capacity",),
    ),
    "data_sets": Query(
        """SELECT name, path, kind, bytes, fingerprint, options, added_at FROM data_sets
        WHERE NOT removed AND {where} ORDER BY name""",
        filters={"data_set": "name = $data_set"},
        json_columns=("options",),
    ),
    **MODEL_QUERIES,
    **CARE_QUERIES,
    **SYSTEM_QUERIES,
    "highest_sequences": Query(
        """SELECT 'metrics' AS kind, source_node AS source, max(sequence) AS sequence FROM metrics GROUP BY source_node
        UNION ALL SELECT 'statuses', source_node, max(sequence) FROM status_events GROUP BY source_node
        UNION ALL SELECT 'logs', node_id, max(sequence) FROM logs GROUP BY node_id ORDER BY kind, source"""
    ),
}

Decode = Callable[[str, Any], Any]


def compile_query(name: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any], Decode]:
    """The SQL of a named query, the values bound in it, and how each of its columns is decoded.

    A parameter that is None counts as not given.

    Raises:
        FednodeError: no such query or parameter, or a required one is missing.
    """
    query = QUERIES.get(name)
    if query is None:
        raise FednodeError(f"There is no query {name!r}", remedy=f"use one of {', '.join(sorted(QUERIES))}")
    given = {key: value for key, value in parameters.items() if value is not None}
    known = {*query.filters, *query.row_filters, *query.defaults}
    for wrong in [key for key in parameters if key not in known]:
        raise FednodeError(
            f"The query {name!r} has no parameter {wrong!r}", remedy=f"use {', '.join(sorted(known)) or 'none'}"
        )
    for missing in [key for key in query.required if key not in given]:
        raise FednodeError(f"The query {name!r} needs {missing!r}", remedy=f"give it {missing!r}")
    sql = query.sql.replace("{where}", _conditions(query.filters, given))
    sql = sql.replace("{rows}", _conditions(query.row_filters, given))

    def decode(column: str, value: Any) -> Any:
        return json.loads(value) if column in query.json_columns and value is not None else value

    return sql, {**query.defaults, **given}, decode


def _conditions(filters: Mapping[str, str], given: Mapping[str, Any]) -> str:
    return " AND ".join(condition for key, condition in filters.items() if key in given) or "true"
