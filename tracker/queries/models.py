"""The named queries about models: committed ones, those with a name in the registry, and what was measured of them.

A model's accuracy and loss are the means of its round over the nodes' held-out data, weighted by samples: as with runs.
"""

from tracker.queries.query import IN_MEANS, MEAN, Query

# `chosen` has a model in each row. Of a figure that a node told twice the one added last counts.
_TOLD = """WITH chosen AS ({chosen}),
latest AS (
    SELECT run_id, round, node_id, key, arg_max(value, position) AS value, arg_max(samples, position) AS samples
    FROM metrics SEMI JOIN chosen USING (run_id, round)
    WHERE scope = 'global' AND split = 'eval' AND key IN ('accuracy', 'loss') AND class IS NULL GROUP BY ALL),
means AS (
    SELECT run_id, round, key, {mean}, count(DISTINCT node_id) AS nodes
    FROM latest WHERE {in_means} GROUP BY ALL),
figures AS (
    SELECT run_id, round, max(value) FILTER (key = 'accuracy') AS accuracy, max(value) FILTER (key = 'loss') AS loss,
        max(nodes) AS measured_by
    FROM means GROUP BY ALL)
SELECT chosen.*, coalesce(runs.name, '') AS run, coalesce(rounds.checkpoint, '') AS checkpoint, accuracy, loss,
    coalesce(measured_by, 0) AS measured_by
FROM chosen LEFT JOIN runs USING (run_id) LEFT JOIN rounds USING (run_id, round)
    LEFT JOIN figures USING (run_id, round)
ORDER BY """.replace("{mean}", MEAN).replace("{in_means}", IN_MEANS)

_COMMITTED = """SELECT run_id, round, model, schema, bytes, time FROM models WHERE {where}
    ORDER BY run_id, round DESC LIMIT $limit"""
_REGISTERED = """SELECT r.run_id, r.round, r.model, r.schema, coalesce(m.bytes, 0) AS bytes, m.time, r.name, r.version,
        r.time AS tagged_at, r.removed, coalesce((SELECT list(a.alias ORDER BY a.alias) FROM model_aliases a
            WHERE a.name = r.name AND a.version = r.version AND NOT a.removed), []) AS aliases
    FROM registered_models r LEFT JOIN models m USING (run_id, round) WHERE {where}"""

MODEL_QUERIES: dict[str, Query] = {
    "run_names": Query(
        "SELECT run_id, name FROM runs WHERE {where} ORDER BY created_at DESC, run_id",
        filters={"text": "(run_id = $text OR name = $text OR starts_with(run_id, $text))"},
    ),
    "committed_models": Query(
        _TOLD.replace("{chosen}", _COMMITTED) + "chosen.run_id, chosen.round DESC",
        filters={
            "run_id": "run_id = $run_id",
            "round": "round = $round",
            "prefix": "starts_with(model, $prefix)",
        },
        defaults={"limit": 10_000},
    ),
    # Entries that were removed come too, for their numbers are taken.
    "registered_models": Query(
        _TOLD.replace("{chosen}", _REGISTERED) + "chosen.name, version DESC",
        filters={
            "registered": "r.name = $registered",
            "run_id": "r.run_id = $run_id",
        },
    ),
    # What retention must leave alone: the blobs of every entry that stands.
    "kept_models": Query(
        "SELECT DISTINCT unnest([model, schema]) AS blob FROM registered_models WHERE NOT removed ORDER BY blob"
    ),
    "model_data": Query(
        """SELECT node_id, coalesce(nodes.name, '') AS name, role, samples, data_fingerprint
        FROM participants LEFT JOIN nodes USING (node_id) WHERE {where} ORDER BY node_id""",
        required=("run_id",),
        filters={"run_id": "run_id = $run_id"},
    ),
    "evaluations": Query(
        """SELECT model, run_id, round, data, data_fingerprint, rows, samples, metrics, time FROM evaluations
        WHERE {where} ORDER BY position DESC LIMIT $limit""",
        filters={"model": "model = $model", "run_id": "run_id = $run_id", "round": "round = $round"},
        defaults={"limit": 1000},
        json_columns=("metrics",),
    ),
}
