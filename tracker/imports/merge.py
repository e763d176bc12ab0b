"""Taking rows that were staged by tracker.imports.read into the store: all of them or none.

What this node saw itself stands: a fact that is here is not replaced, an event that is here is not added. Who exports
may write what they like, so of a run that this node takes part in, or has recorded rounds or figures of by itself, only
what lies beside the figures that are shown comes in: log lines, system metrics, and spans and figures within rounds, of
nodes that have none here in that round, and of no round beyond the newest that is here. Its rounds, models, states and
whole rounds' figures are this node's alone. Of a run that was imported before, only newer states are taken.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import Refused
from tracker.imports.read import tables
from tracker.retention import ROW_KINDS, Rules, age_limit
from tracker.store import Store
from tracker.tables.rows import utc
from tracker.tables.schema import TABLES, Table

_STAGED = "staged"
_SEEN = "seen_runs"  # those this node saw itself, and the newest round that it knows of each
_NAMED = "SELECT unnest([model, schema]) FROM {0}models UNION SELECT blob FROM {0}artifacts"
_BESIDE = ("logs", "system_metrics", "spans", "metrics")  # what still comes in of them


@dataclass(frozen=True, slots=True)
class Merged:
    """`rows` that came in, by table; `runs` that this node did not know; `too_old`: rows that would be pruned again;
    `blobs` that are named by what was imported and is in the record now."""

    rows: dict[str, int]
    runs: list[str]
    too_old: int
    blobs: frozenset[str]


def merge(store: Store, staged: Path, rules: Rules, now: float) -> Merged:
    """Take in what lies at `staged`, in the store's work folder. Rows that the rules would not keep stay out.

    Raises:
        Refused: the file is gone.
        FednodeError: the disk says no. Nothing was taken in.
    """
    if not staged.is_file():
        raise Refused("import-gone", "What was to be imported is gone", remedy="import it once more")
    text = str(staged).replace("'", "''")
    store.beside(lambda connection: connection.execute(f"ATTACH '{text}' AS {_STAGED} (READ_ONLY)"))
    try:
        return store.change(lambda connection: _merge(connection, rules, now))
    finally:
        store.beside(lambda connection: connection.execute(f"DETACH DATABASE IF EXISTS {_STAGED}"))


def _merge(connection: Any, rules: Rules, now: float) -> Merged:
    by_name = {table.name: table for table in TABLES.values()}
    new = connection.execute(
        f"SELECT run_id FROM {_STAGED}.runs ANTI JOIN runs USING (run_id) ORDER BY created_at, run_id"
    ).fetchall()
    connection.execute(_FIND_SEEN)  # before anything comes in
    rows, too_old = {}, 0
    for name in tables():
        table = by_name[name]
        if not table.is_event:
            rows[name] = _merge_facts(connection, table)
            continue
        limit = age_limit(name, getattr(rules, name), now) if name in ROW_KINDS else None
        rows[name] = _merge_events(connection, table, limit)
        if limit is not None:
            too_old += connection.execute(
                f"SELECT count(*) FROM {_STAGED}.{name} WHERE {limit[0]}", [limit[1]]
            ).fetchone()[0]
    runs = [run for (run,) in new]
    connection.execute(
        f"INSERT OR IGNORE INTO imported_runs SELECT run_id, ? FROM {_STAGED}.runs ANTI JOIN {_SEEN} USING (run_id)",
        [utc(now)],
    )
    connection.execute(f"DROP TABLE {_SEEN}")
    named = connection.execute(f"({_NAMED.format('')}) INTERSECT ({_NAMED.format(f'{_STAGED}.')})").fetchall()
    blobs = frozenset(blob for (blob,) in named)
    return Merged({name: count for name, count in rows.items() if count}, runs, too_old, blobs)


# A run that was declined, or not yet decided about, and that nothing is known of, is seen by nobody here.
_FIND_SEEN = f"""CREATE OR REPLACE TEMP TABLE {_SEEN} AS
    WITH told AS (SELECT run_id, max(round) AS newest FROM
        (SELECT run_id, round FROM rounds UNION ALL SELECT run_id, round FROM models) GROUP BY run_id),
    own AS (SELECT run_id FROM decisions WHERE decision = 'accepted' UNION
        SELECT run_id FROM (SELECT run_id FROM told UNION SELECT run_id FROM metrics)
        ANTI JOIN imported_runs USING (run_id))
    SELECT run_id, coalesce(newest, 0) AS newest FROM own LEFT JOIN told USING (run_id)"""


def _merge_facts(connection: Any, table: Table) -> int:
    of_runs = "run_id" in table.fields and table.name != "runs"  # its manifest may be lacking
    wanted = f"run_id NOT IN (SELECT run_id FROM {_SEEN})" if of_runs else "true"
    (count,) = connection.execute(
        f"INSERT OR IGNORE INTO {table.name} BY NAME SELECT * FROM {_STAGED}.{table.name} WHERE {wanted}"
    ).fetchone()
    return int(count)


def _merge_events(connection: Any, table: Table, limit: tuple[str, Any] | None) -> int:
    key = ", ".join(table.key)
    wanted, bound = ("true", []) if limit is None else (f"NOT ({limit[0]})", [limit[1]])
    if table.name == "status_events":
        wanted = """run_id NOT IN (SELECT run_id FROM decisions)
            AND time > coalesce((SELECT max(time) FROM status_events s WHERE s.run_id = i.run_id),
                TIMESTAMP '1900-01-01')"""
    if table.name == "spans":  # of a round that is here what another node was told would count twice
        wanted += " AND (run_id, node_id, round) NOT IN (SELECT (run_id, node_id, round) FROM spans)"
    wanted += f" AND {_of_seen_runs(table.name)}"
    # Behind all that is here, in the order in which the other node took them in.
    (start,) = connection.execute(f"SELECT coalesce(max(position) + 1, 0) FROM {table.name}").fetchone()
    (count,) = connection.execute(
        f"INSERT INTO {table.name} BY NAME SELECT * REPLACE (position + {start} AS position)"
        f" FROM {_STAGED}.{table.name} i ANTI JOIN {table.name} USING ({key}) WHERE {wanted}",
        bound,
    ).fetchone()
    return int(count)


def _of_seen_runs(name: str) -> str:
    """What must hold of an event of a run that this node saw itself."""
    if name not in _BESIDE:
        return f"run_id NOT IN (SELECT run_id FROM {_SEEN})"
    if name in ("logs", "system_metrics"):
        return "true"
    may = f"round <= (SELECT newest FROM {_SEEN} n WHERE n.run_id = i.run_id)"
    if name == "metrics":
        within = "scope = 'local' AND (step > 0 OR epoch > 0)"
        may += f""" AND {within} AND (run_id, node_id, round) NOT IN
            (SELECT (run_id, node_id, round) FROM metrics WHERE {within})"""
    return f"(run_id NOT IN (SELECT run_id FROM {_SEEN}) OR ({may}))"
