"""Which SQL of a person's is run: one statement that only reads, and reads nothing but the store.

The engine holds the same line by itself: every read goes through a read-only transaction, on a connection without
access to files and with its configuration locked (tracker.tables.connect). This check comes before, so that a person is
told what is wrong, and so that what the engine would allow beside reading the store (its own housekeeping, the store's
file as bytes) is refused too.
"""

import json
import re
from typing import Any

import duckdb

from protocol.errors import Refused
from tracker.tables.connect import first_line

STATEMENT_CHARACTERS_MAX = 20_000  # longer is not written by a person

_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {
    *("range", "generate_series", "unnest", "json_each", "json_tree", "summary"),
    *("duckdb_columns", "duckdb_constraints", "duckdb_functions", "duckdb_tables", "duckdb_types", "duckdb_views"),
    *("pragma_table_info", "pragma_storage_info", "pragma_database_size", "pragma_version"),
}
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\b(\s*\([^)]*\))?", re.IGNORECASE)
_REMEDY = (
    "send one SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN; the tables are listed by SHOW TABLES"
)


def check_statement(connection: Any, statement: str) -> None:
    """Raise Refused, with a code and a remedy, unless `statement` is a single one that only reads the store."""
    if len(statement) > STATEMENT_CHARACTERS_MAX:
        raise Refused(
            "sql-too-long", f"The statement has {len(statement)} characters", remedy="send fewer than 20,000 characters"
        )
    body = _single(connection, statement, {"SELECT", "EXPLAIN"})
    explained = _EXPLAIN.match(body)
    if explained:
        body = _single(connection, body[explained.end() :], {"SELECT"})
    (text,) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [body]).fetchone()
    try:
        tree = json.loads(text)
    except RecursionError:
        raise Refused("sql-too-deep", "The statement is nested too deeply", remedy="send a simpler one") from None
    if tree.get("error"):
        raise Refused("sql-read-only", "The statement does more than read", remedy=_REMEDY)
    _check_tree(tree)


def _single(connection: Any, statement: str, allowed: set[str]) -> str:
    try:
        parsed = connection.extract_statements(statement)
    except (duckdb.Error, ValueError) as error:
        raise Refused("sql-syntax", first_line(str(error)), remedy="correct the statement") from None
    if len(parsed) != 1:
        raise Refused("sql-one-statement", f"There are {len(parsed)} statements, not one", remedy=_REMEDY)
    try:
        kind: str = parsed[0].type.name
    except ValueError:  # a kind that DuckDB's own Python package does not know yet
        kind = "unknown"
    if kind not in allowed:
        raise Refused("sql-read-only", f"A statement of the kind {kind} does more than read", remedy=_REMEDY)
    text: str = parsed[0].query
    return text


def _check_tree(tree: Any) -> None:
    """Walk the parsed statement. A list, not recursion: its depth is the person's choice."""
    unseen = [tree]
    while unseen:
        part = unseen.pop()
        if isinstance(part, list):
            unseen += part
        elif isinstance(part, dict):
            _check_part(part)
            unseen += part.values()


def _check_part(part: dict[str, Any]) -> None:
    kind = part.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise Refused("sql-read-only", "A part of the statement does more than read", remedy=_REMEDY)
    if kind == "TABLE_FUNCTION":
        name = part.get("function", {}).get("function_name", "")
        if name.lower() not in _TABLE_FUNCTIONS:
            raise Refused("sql-function", f"The table function {name!r} is not allowed here", remedy=_REMEDY)
