"""The named queries: everything that the local API gives out of the record.

Each is fixed text with places for filters, so that a filter which is not given costs nothing; values are always bound,
never written into the text. Results have the names of docs/api.md.

Pages of `metrics` and `logs` are cut where the round, or the number, changes: a page may be longer than `limit`, and
going on after its last round or number skips nothing. `logs_tail` goes the other way, by time: the newest lines, or
those before a line's place.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from protocol.errors import FednodeError
from tracker.queries.care import CARE_QUERIES
from tracker.queries.for_inbox import INBOX_QUERIES
from tracker.queries.models import MODEL_QUERIES
from tracker.queries.nodes import NODE_QUERIES
from tracker.queries.query import LATEST_METRICS, MEANS, Query
from tracker.queries.runs import RUN_QUERIES
from tracker.queries.series import SERIES_QUERIES
from tracker.queries.system import SYSTEM_QUERIES
from tracker.queries.timeline import TIMELINE_QUERIES

NO_LIMIT = 2**62
_RUN = {"run_id": "run_id = $run_id"}

_METRICS = f"""
WITH {LATEST_METRICS}, shown AS (
    SELECT * FROM (SELECT * FROM latest UNION ALL {MEANS}) WHERE {{rows}})
SELECT run_id, node_id, scope, split, key, class, round, epoch, step, value, time, samples FROM shown
WHERE round <= coalesce((SELECT round FROM shown ORDER BY round LIMIT 1 OFFSET greatest($limit, 1) - 1), 2147483647)
ORDER BY round, epoch, step, key, scope, split, class NULLS FIRST, node_id"""
_LEVELS = "list_position(['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'], {})"
_LOG_COLUMNS = "sequence AS seq, time, level, node_id, run_id, logger, message"
_LOG_FILTERS = {
    **_RUN,
    "node": "node_id = $node",
    "level": f"{_LEVELS.format('level')} >= {_LEVELS.format('$level')}",  # this level and what is worse
    "text": "(contains(lower(message), lower($text)) OR contains(lower(logger), lower($text)))",
}
# Lines of several nodes: by their clocks, and at one and the same time by node and number. Given as TIME,NUMBER,NODE.
_PLACE = """(CAST(split_part($before, ',', 1) AS TIMESTAMP), regexp_extract($before, '^[^,]*,[^,]*,(.*)$', 1),
    CAST(split_part($before, ',', 2) AS BIGINT))"""
_BEFORE = f"(time <= CAST(split_part($before, ',', 1) AS TIMESTAMP) AND (time, node_id, sequence) < {_PLACE})"

QUERIES: dict[str, Query] = {
    **RUN_QUERIES,
    "statuses": Query(
        """SELECT run_id, node_id, state, reason, round, time, sequence, source_node, position FROM status_events
        WHERE {where} ORDER BY position LIMIT $limit""",
        filters={**_RUN, "node": "node_id = $node", "after": "position > $after"},
        defaults={"limit": NO_LIMIT},
    ),
    "rounds": Query(
        """SELECT run_id, round, term, aggregator, checkpoint, model, committed_at, updates_used, updates_refused,
            bytes, seconds, audited FROM rounds WHERE {where} ORDER BY run_id, round LIMIT $limit""",
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
            "class": "class IS NOT DISTINCT FROM nullif($class, '')",  # "" asks for figures of no class
            "after_round": "round > $after_round",
            "before_round": "round < $before_round",
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
        f"""SELECT * FROM (SELECT {_LOG_COLUMNS} FROM logs WHERE {{where}}
            ORDER BY time DESC, node_id DESC, sequence DESC LIMIT $limit)
        ORDER BY time, node_id, seq""",
        filters={**_LOG_FILTERS, "before": _BEFORE},
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
        """SELECT name, path, kind, bytes, fingerprint, options, added_at,
            TRY_CAST(json_extract(statistics, '$.rows') AS BIGINT) AS rows FROM data_sets
        WHERE NOT removed AND {where} ORDER BY name""",
        filters={"data_set": "name = $data_set"},
        json_columns=("options",),
    ),
    **MODEL_QUERIES,
    **CARE_QUERIES,
    **INBOX_QUERIES,
    **SYSTEM_QUERIES,
    **NODE_QUERIES,
    **SERIES_QUERIES,
    **TIMELINE_QUERIES,
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
