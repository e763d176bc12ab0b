"""Taking rows that were staged by tracker.import_read into the store: all of them or none.

What this node saw itself stands: a fact that is here is not replaced, an event that is here is not added. Of the states
of a run that this node has seen itself none is taken, since the newest added is the current one; of one that was
imported before, only those that are newer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import Refused
from tracker.import_read import tables
from tracker.retention import ROW_KINDS, Rules, age_limit
from tracker.rows import utc
from tracker.schema import TABLES, Table
from tracker.store import Store

_STAGED = "staged"


@dataclass(frozen=True, slots=True)
class Merged:
    """`rows` that came in, by table; `runs` that this node did not know; `too_old`: rows that would be pruned again."""

    rows: dict[str, int]
    runs: list[str]
    too_old: int


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
    rows, too_old = {}, 0
    # States first: which runs this node has seen itself must be asked before the runs come in.
    for name in sorted(tables(), key=lambda name: name != "status_events"):
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
    connection.execute("INSERT OR IGNORE INTO imported_runs SELECT unnest(?::VARCHAR[]), ?", [runs, utc(now)])
    return Merged({name: count for name, count in rows.items() if count}, runs, too_old)


def _merge_facts(connection: Any, table: Table) -> int:
    (count,) = connection.execute(
        f"INSERT OR IGNORE INTO {table.name} BY NAME SELECT * FROM {_STAGED}.{table.name}"
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
    # Behind all that is here, in the order in which the other node took them in.
    (start,) = connection.execute(f"SELECT coalesce(max(position) + 1, 0) FROM {table.name}").fetchone()
    (count,) = connection.execute(
        f"INSERT INTO {table.name} BY NAME SELECT * REPLACE (position + {start} AS position)"
        f" FROM {_STAGED}.{table.name} i ANTI JOIN {table.name} USING ({key}) WHERE {wanted}",
        bound,
    ).fetchone()
    return int(count)
