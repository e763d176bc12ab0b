"""The named queries that the care of the record itself asks."""

from tracker.queries.query import Query

CARE_QUERIES: dict[str, Query] = {
    # When each run that is over ended, as far as this record knows.
    "ended_runs": Query(
        """SELECT run_id, max(time) AS ended_at FROM status_events WHERE node_id = '' GROUP BY run_id
        HAVING arg_max(state, position) IN ('FINISHED', 'STOPPED', 'FAILED') ORDER BY run_id"""
    ),
    "data_statistics": Query(
        "SELECT fingerprint, statistics FROM data_sets WHERE NOT removed AND {where}",
        required=("data_set",),
        filters={"data_set": "name = $data_set"},
        json_columns=("statistics",),
    ),
    "newest_log": Query("SELECT max(time) AS time FROM logs HAVING count(*) > 0"),
    "store_marks": Query("SELECT name, time FROM store_marks ORDER BY name"),
}
