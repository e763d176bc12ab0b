"""The store's tables, and how an older store becomes a newer one.

`MIGRATIONS[i]` takes a store from version i to i + 1; opening runs those that are missing, in one transaction. A step
that has been released is never edited. The columns of each table are the fields of its row class, in their order;
events have one more, `position`, which counts rows as they came in.
"""

from dataclasses import dataclass, fields
from typing import Any

from protocol.errors import FednodeError
from tracker.tables import rows

_V1 = """
CREATE TABLE runs (run_id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, project VARCHAR NOT NULL,
    experiment VARCHAR NOT NULL, group_id VARCHAR NOT NULL, task VARCHAR NOT NULL, data VARCHAR NOT NULL,
    proposer VARCHAR NOT NULL, rounds INTEGER NOT NULL, created_at TIMESTAMP NOT NULL, manifest JSON NOT NULL);
CREATE TABLE parameters (run_id VARCHAR, key VARCHAR, value VARCHAR NOT NULL, type VARCHAR NOT NULL,
    PRIMARY KEY (run_id, key));
CREATE TABLE decisions (run_id VARCHAR PRIMARY KEY, decision VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    time TIMESTAMP NOT NULL);
CREATE TABLE participants (run_id VARCHAR, node_id VARCHAR, voter BOOLEAN NOT NULL, samples BIGINT NOT NULL,
    PRIMARY KEY (run_id, node_id));
CREATE TABLE rounds (run_id VARCHAR, round INTEGER, term BIGINT NOT NULL, aggregator VARCHAR NOT NULL,
    checkpoint VARCHAR NOT NULL, model VARCHAR NOT NULL, committed_at TIMESTAMP NOT NULL,
    updates_used INTEGER NOT NULL, updates_refused JSON NOT NULL, bytes BIGINT NOT NULL, seconds DOUBLE NOT NULL,
    PRIMARY KEY (run_id, round));
CREATE TABLE models (run_id VARCHAR, round INTEGER, model VARCHAR NOT NULL, schema VARCHAR NOT NULL,
    bytes BIGINT NOT NULL, time TIMESTAMP NOT NULL, PRIMARY KEY (run_id, round));
CREATE TABLE elections (run_id VARCHAR, term BIGINT, aggregator VARCHAR NOT NULL, time TIMESTAMP NOT NULL,
    PRIMARY KEY (run_id, term));
CREATE TABLE artifacts (run_id VARCHAR, node_id VARCHAR, name VARCHAR, kind VARCHAR NOT NULL, blob VARCHAR NOT NULL,
    bytes BIGINT NOT NULL, time TIMESTAMP NOT NULL, PRIMARY KEY (run_id, node_id, name));
CREATE TABLE nodes (node_id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, member_id VARCHAR NOT NULL,
    version VARCHAR NOT NULL, capacity JSON NOT NULL, last_seen TIMESTAMP NOT NULL);
CREATE TABLE data_sets (name VARCHAR PRIMARY KEY, path VARCHAR NOT NULL, kind VARCHAR NOT NULL, bytes BIGINT NOT NULL,
    fingerprint VARCHAR NOT NULL, options JSON NOT NULL, added_at TIMESTAMP NOT NULL, removed BOOLEAN NOT NULL);
CREATE TABLE status_events (run_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL, state VARCHAR NOT NULL,
    reason VARCHAR NOT NULL, round INTEGER NOT NULL, time TIMESTAMP NOT NULL, sequence BIGINT NOT NULL,
    source_node VARCHAR NOT NULL, position BIGINT NOT NULL);
CREATE TABLE metrics (run_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL, scope VARCHAR NOT NULL,
    split VARCHAR NOT NULL, key VARCHAR NOT NULL, class VARCHAR, round INTEGER NOT NULL, epoch INTEGER NOT NULL,
    step BIGINT NOT NULL, value DOUBLE NOT NULL, samples BIGINT NOT NULL, time TIMESTAMP NOT NULL,
    source_node VARCHAR NOT NULL, sequence BIGINT NOT NULL, position BIGINT NOT NULL);
CREATE TABLE logs (node_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, level VARCHAR NOT NULL, logger VARCHAR NOT NULL,
    message VARCHAR NOT NULL, time TIMESTAMP NOT NULL, sequence BIGINT NOT NULL, position BIGINT NOT NULL);
CREATE VIEW current_states AS SELECT run_id, node_id, arg_max(state, position) AS state,
    arg_max(reason, position) AS reason, arg_max(round, position) AS round, arg_max(time, position) AS time
    FROM status_events GROUP BY run_id, node_id;
"""
_V2 = """
ALTER TABLE participants ADD COLUMN role VARCHAR DEFAULT '';
ALTER TABLE participants ADD COLUMN data_fingerprint VARCHAR DEFAULT '';
ALTER TABLE rounds ADD COLUMN updates JSON DEFAULT '[]';
ALTER TABLE rounds ADD COLUMN audited INTEGER DEFAULT 0;
ALTER TABLE artifacts ADD COLUMN round INTEGER DEFAULT 0;
ALTER TABLE artifacts ADD COLUMN details JSON DEFAULT '{}';
ALTER TABLE data_sets ADD COLUMN statistics JSON DEFAULT '{}';
CREATE TABLE node_parameters (run_id VARCHAR, node_id VARCHAR, key VARCHAR, value VARCHAR NOT NULL,
    type VARCHAR NOT NULL, time TIMESTAMP NOT NULL, PRIMARY KEY (run_id, node_id, key));
CREATE TABLE registered_models (name VARCHAR, version INTEGER, run_id VARCHAR NOT NULL, round INTEGER NOT NULL,
    model VARCHAR NOT NULL, schema VARCHAR NOT NULL, time TIMESTAMP NOT NULL, removed BOOLEAN NOT NULL,
    PRIMARY KEY (name, version));
CREATE TABLE model_aliases (name VARCHAR, alias VARCHAR, version INTEGER NOT NULL, time TIMESTAMP NOT NULL,
    removed BOOLEAN NOT NULL, PRIMARY KEY (name, alias));
CREATE TABLE spans (run_id VARCHAR NOT NULL, node_id VARCHAR NOT NULL, round INTEGER NOT NULL, name VARCHAR NOT NULL,
    peer VARCHAR NOT NULL, started_at TIMESTAMP NOT NULL, seconds DOUBLE NOT NULL, bytes BIGINT NOT NULL,
    source_node VARCHAR NOT NULL, sequence BIGINT NOT NULL, position BIGINT NOT NULL);
CREATE TABLE system_metrics (node_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, scope VARCHAR NOT NULL,
    key VARCHAR NOT NULL, device VARCHAR NOT NULL, value DOUBLE NOT NULL, unit VARCHAR NOT NULL, round INTEGER NOT NULL,
    time TIMESTAMP NOT NULL, source_node VARCHAR NOT NULL, sequence BIGINT NOT NULL, position BIGINT NOT NULL);
CREATE TABLE evaluations (model VARCHAR NOT NULL, run_id VARCHAR NOT NULL, round INTEGER NOT NULL,
    data VARCHAR NOT NULL, data_fingerprint VARCHAR NOT NULL, samples BIGINT NOT NULL, metrics JSON NOT NULL,
    time TIMESTAMP NOT NULL, source_node VARCHAR NOT NULL, sequence BIGINT NOT NULL, rows VARCHAR NOT NULL,
    position BIGINT NOT NULL);
CREATE TABLE store_marks (name VARCHAR PRIMARY KEY, time TIMESTAMP);
CREATE TABLE imported_runs (run_id VARCHAR PRIMARY KEY, time TIMESTAMP NOT NULL);
CREATE VIEW lineage AS
    SELECT DISTINCT 'data' AS kind, data_fingerprint AS source, run_id AS target, run_id, NULL::INTEGER AS round
        FROM participants WHERE data_fingerprint <> ''
    UNION ALL SELECT 'task', manifest ->> '$.task.hash', run_id, run_id, NULL FROM runs
        WHERE coalesce(manifest ->> '$.task.hash', '') <> ''
    UNION ALL SELECT 'configuration', sha256(manifest::VARCHAR), run_id, run_id, NULL FROM runs
    UNION ALL SELECT 'parent', manifest ->> '$.parent', run_id, run_id, NULL FROM runs
        WHERE coalesce(manifest ->> '$.parent', '') <> ''
    UNION ALL SELECT 'model', run_id, model, run_id, round FROM models
    UNION ALL SELECT 'artifact', run_id, blob, run_id, round FROM artifacts
    UNION ALL SELECT 'evaluation', model, data_fingerprint, run_id, round FROM evaluations;
"""
# `store_marks`: "whole_since", from when on nothing is missing from this store that its node recorded (no row: ever; no
# time: it is a copy that nobody has worked with yet), and "removed KIND", before when rows were removed on purpose.
# No index but the keys of the small tables: events come in order of time, so DuckDB's min-max of each row group does
# an index's work, and an index over ten million metrics would not fit the memory that a node may take.

MIGRATIONS: tuple[str, ...] = (_V1, _V2)
VERSION = len(MIGRATIONS)


@dataclass(frozen=True, slots=True)
class Table:
    """Where a row class is kept. `key` names one row: a fact's primary key, or an event's source and its sequence."""

    name: str
    fields: tuple[str, ...]
    times: tuple[int, ...]  # which of them are times
    key: tuple[str, ...]
    is_event: bool


_TIME_FIELDS = {"time", "created_at", "committed_at", "added_at", "last_seen", "started_at"}


def _table(row_class: type[Any], name: str, *key: str) -> tuple[type[Any], Table]:
    names = tuple(field.name for field in fields(row_class))
    times = tuple(i for i, field in enumerate(names) if field in _TIME_FIELDS)
    return row_class, Table(name, names, times, key, is_event="sequence" in key)


TABLES: dict[type[Any], Table] = dict(
    [
        _table(rows.RunRow, "runs", "run_id"),
        _table(rows.ParameterRow, "parameters", "run_id", "key"),
        _table(rows.DecisionRow, "decisions", "run_id"),
        _table(rows.ParticipantRow, "participants", "run_id", "node_id"),
        _table(rows.RoundRow, "rounds", "run_id", "round"),
        _table(rows.ModelRow, "models", "run_id", "round"),
        _table(rows.ElectionRow, "elections", "run_id", "term"),
        _table(rows.ArtifactRow, "artifacts", "run_id", "node_id", "name"),
        _table(rows.NodeRow, "nodes", "node_id"),
        _table(rows.DataSetRow, "data_sets", "name"),
        _table(rows.NodeParameterRow, "node_parameters", "run_id", "node_id", "key"),
        _table(rows.RegisteredModelRow, "registered_models", "name", "version"),
        _table(rows.ModelAliasRow, "model_aliases", "name", "alias"),
        _table(rows.StatusRow, "status_events", "source_node", "sequence"),
        _table(rows.MetricRow, "metrics", "source_node", "run_id", "sequence"),
        _table(rows.LogRow, "logs", "node_id", "sequence"),
        _table(rows.SpanRow, "spans", "source_node", "run_id", "sequence"),
        _table(rows.SystemMetricRow, "system_metrics", "source_node", "run_id", "sequence"),
        _table(rows.EvaluationRow, "evaluations", "source_node", "sequence"),
    ]
)


def version_of(connection: Any) -> int:
    """The version of an open store; 0 for an empty file."""
    known = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'store_version'").fetchall()
    if not known:
        return 0
    version: int = connection.execute("SELECT max(version) FROM store_version").fetchone()[0]
    return version


def check_version(version: int, place: str, *, read_only: bool) -> None:
    """Raise FednodeError when this fednode cannot work with a store of that version."""
    if version > VERSION:
        raise FednodeError(
            f"The store {place} has version {version}, this fednode knows {VERSION}",
            remedy="upgrade fednode to the version that last used this store, or start with another home",
        )
    if read_only and version < VERSION:
        raise FednodeError(
            f"The store {place} has version {version}, older than {VERSION}",
            remedy="start the node once, which brings its store up to date",
        )


def migrate(connection: Any, place: str) -> None:
    """Bring an open store to VERSION, all or nothing. Raises FednodeError for a store from the future."""
    version = version_of(connection)
    check_version(version, place, read_only=False)
    if version == VERSION:
        return
    connection.begin()
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS store_version (version INTEGER)")
        for step in range(version, VERSION):
            connection.execute(MIGRATIONS[step])
            connection.execute("INSERT INTO store_version VALUES (?)", [step + 1])
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
