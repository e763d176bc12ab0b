"""Looking a store through: whether all of it can be read, and whether what it says fits together.

Every table is read to its last value, so a page that is damaged is found; what is looked for besides is what no fednode
writes: keys twice, rounds of runs that nobody knows, views that do not answer.
"""

from dataclasses import dataclass
from typing import Any

import duckdb

from protocol.errors import FednodeError
from tracker.tables.connect import DAMAGED_REMEDY, first_line
from tracker.tables.schema import TABLES, Table, version_of

EXAMPLES_MAX = 3  # named of things that are wrong in one way


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is wrong, and what to do. One that is no `error` costs nothing but is worth knowing."""

    what: str
    remedy: str
    is_error: bool = True


@dataclass(frozen=True, slots=True)
class Checked:
    version: int
    rows: dict[str, int]
    findings: list[Finding]


_OF_RUNS = (
    *("parameters", "participants", "rounds", "models", "elections", "artifacts", "node_parameters", "decisions"),
    *("status_events", "metrics", "spans"),
)
_ORPHANS_REMEDY = (
    "nothing is lost: the run's own row went when the store was damaged or changed by hand; restart the node, which"
    " writes it again for every run of its groups, or import a copy that has it"
)


def check_tables(connection: Any) -> Checked:
    """What is wrong with an open store. `connection` is in a transaction, or reads what does not change."""
    findings: list[Finding] = []
    rows: dict[str, int] = {}
    for table in TABLES.values():
        try:
            rows[table.name] = _read_through(connection, table)
            findings += keys_twice(connection, table)
        except (duckdb.Error, FednodeError) as error:
            findings.append(Finding(f"The table {table.name} cannot be read: {_why(error)}", DAMAGED_REMEDY))
    for name in _OF_RUNS:
        if name in rows:
            findings += _orphans(connection, name)
    for view in ("current_states", "lineage"):
        try:
            connection.execute(f"SELECT count(*) FROM {view}").fetchone()
        except duckdb.Error as error:
            findings.append(Finding(f"The view {view} does not answer: {_why(error)}", DAMAGED_REMEDY))
    return Checked(version_of(connection), rows, findings)


def models_named(connection: Any) -> list[dict[str, Any]]:
    """Every blob that the record names: of which run, round and kind, and whether a registered name needs it."""
    found = connection.execute(
        """SELECT DISTINCT blob, run_id, round, kind, needed FROM (
            SELECT model AS blob, run_id, round, 'model' AS kind, EXISTS (SELECT 1 FROM registered_models r
                WHERE r.model = models.model AND NOT r.removed) AS needed FROM models
            UNION ALL SELECT blob, run_id, round, 'artifact', false FROM artifacts)
        ORDER BY run_id, round, kind, blob"""
    )
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def schemas_named(connection: Any) -> set[str]:
    """The blobs of the tensor schemas that models need to be read."""
    return {blob for (blob,) in connection.execute("SELECT DISTINCT schema FROM models").fetchall()}


def _read_through(connection: Any, table: Table) -> int:
    """Every value once. Gives the rows."""
    columns = [row[0] for row in connection.execute(f"DESCRIBE {table.name}").fetchall()]
    expected = {name.rstrip("_") for name in table.fields} | ({"position"} if table.is_event else set())
    if set(columns) != expected:
        wrong = ", ".join(sorted(set(columns) ^ expected))
        raise FednodeError(f"it has other columns than it should ({wrong})", remedy=DAMAGED_REMEDY)
    sums = ", ".join(f'bit_xor(hash("{column}"))' for column in columns)
    count: int = connection.execute(f"SELECT count(*), {sums} FROM {table.name}").fetchone()[0]
    return count


def keys_twice(connection: Any, table: Table) -> list[Finding]:
    """Whether an event is there more than once."""
    if not table.is_event:
        return []  # the engine holds the keys of facts itself
    key = ", ".join(table.key)
    # A source's numbers are looked at only where it has more rows than numbers, which takes a fraction of the memory.
    source = ", ".join(table.key[:-1])
    doubtful = f"SELECT {source} FROM {table.name} GROUP BY {source} HAVING count(DISTINCT sequence) < count(*)"
    found = connection.execute(
        f"SELECT {key} FROM {table.name} SEMI JOIN ({doubtful}) USING ({source}) GROUP BY {key} HAVING count(*) > 1"
        f" LIMIT {EXAMPLES_MAX}"
    ).fetchall()
    if not found:
        return []
    examples = "; ".join(", ".join(map(str, row)) for row in found)
    return [
        Finding(
            f"Rows of {table.name} are there twice ({key}: {examples})",
            "figures are counted once all the same; to be rid of them export the run and import it into a new store",
        )
    ]


def _orphans(connection: Any, name: str) -> list[Finding]:
    found = connection.execute(
        f"SELECT run_id, count(*) FROM {name} ANTI JOIN runs USING (run_id) WHERE run_id <> '' GROUP BY run_id"
        f" ORDER BY run_id LIMIT {EXAMPLES_MAX}"
    ).fetchall()
    if not found:
        return []
    examples = ", ".join(f"{run[:12]} ({count} rows)" for run, count in found)
    return [Finding(f"{name} has rows of runs that the store does not know: {examples}", _ORPHANS_REMEDY, False)]


def _why(error: Exception) -> str:
    return error.what if isinstance(error, FednodeError) else first_line(str(error))
