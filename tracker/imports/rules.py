"""What a row from elsewhere must be like before it comes in: the bounds of each column, as SQL.

A file that somebody hands over may say anything. What does not hold here is refused with the table, the column and an
example; texts are bounded and without what a terminal would obey, numbers are ones that fednode can have written, JSON
is small and not nested into an endless depth.
"""

import json
from typing import Any

from protocol.errors import Refused

TEXT_CHARACTERS_MAX = 4096  # of names, ids and reasons
LONG_CHARACTERS_MAX = 1_000_000  # of log lines and JSON: a traceback, a manifest
JSON_DEPTH_MAX = 50  # a manifest has five levels; Python's reader gives up at a thousand
ROWS_MAX = 200_000_000  # of one table; at 20 bytes a row what a large disk takes
COUNT_MAX = 2**53
# Of all tables together, as unpacked: some ten million figures or log lines. A few megabytes of Parquet can hold more.
UNPACKED_BYTES_MAX = 4 * 1024**3
VALUE_BYTES = 8  # of a number or a time, and beside every text
UNPACKED_COPIES = 2  # on the disk at once: on its way in, and in the clean file
ROOM_SHARE = 0.5  # of what is free: training needs the rest, and a full disk stops it

_LONG = {"message", "manifest", "updates_refused", "updates", "details", "capacity", "metrics"}
_LISTS = {"rounds.updates_refused", "rounds.updates"}
_JSON = {"runs.manifest", *_LISTS, "artifacts.details", "nodes.capacity", "evaluations.metrics"}
_ONE_OF = {
    "metrics.scope": ("local", "global"),
    "metrics.split": ("train", "eval"),
    "logs.level": ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    "system_metrics.scope": ("host", "node", "worker"),
    "participants.role": ("", "trainer", "validator", "observer"),
}
# Control characters, but for line breaks and tabs where text has lines.
_CONTROL, _CONTROL_IN_LINES = r"[\x00-\x1f\x7f-\x9f]", r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
_LINES = {"message", "reason", "updates_refused", "manifest", "value"}


def condition(table: str, column: str, kind: str, *, can_be_null: bool) -> str:
    """SQL that is true of a value which may come in; `kind` is the column's type in the store."""
    name = f'"{column}"'
    place = f"{table}.{column}"
    if place in _ONE_OF:
        allowed = f"{name} IN ({', '.join(repr(value) for value in _ONE_OF[place])})"
    elif kind in ("VARCHAR", "JSON"):
        longest = LONG_CHARACTERS_MAX if column in _LONG or place == "parameters.value" else TEXT_CHARACTERS_MAX
        forbidden = _CONTROL_IN_LINES if column in _LINES else _CONTROL
        allowed = f"length({name}) <= {longest} AND NOT regexp_matches({name}, '{forbidden}')"
        if kind == "JSON":
            allowed += f" AND json_valid({name})"
        if column in ("model", "schema", "blob") and table in ("models", "artifacts", "evaluations"):
            allowed += f" AND regexp_full_match({name}, '[0-9a-f]{{64}}')"
    elif kind == "TIMESTAMP":
        allowed = f"{name} BETWEEN TIMESTAMP '1970-01-01' AND TIMESTAMP '2200-01-01'"
    elif kind in ("INTEGER", "BIGINT"):
        most = 10_000_000 if column in ("round", "rounds") else 2**31 - 1 if kind == "INTEGER" else COUNT_MAX
        if column in ("sequence", "position"):
            most = 2**62
        allowed = f"{name} BETWEEN 0 AND {most}"
    elif kind == "DOUBLE" and column == "seconds":
        allowed = f"isfinite({name}) AND {name} BETWEEN 0 AND 1e12"
    else:
        allowed = "true"
    return f"({name} IS NULL OR ({allowed}))" if can_be_null else f"({name} IS NOT NULL AND {allowed})"


def check_rows(connection: Any, table: str, columns: dict[str, tuple[str, bool]], *, where: str) -> int:
    """How many rows there are for a table, in the table `where`. `columns`: type, and whether it may be null. Raises
    Refused."""
    (count,) = connection.execute(f"SELECT count(*) FROM {where}").fetchone()
    if count > ROWS_MAX:
        raise refused(table, f"it has {count:,} rows; {ROWS_MAX:,} are the most")
    for column, (kind, can_be_null) in columns.items():
        fits = condition(table, column, kind, can_be_null=can_be_null)
        bad = connection.execute(
            f'SELECT left("{column}"::VARCHAR, 60) FROM {where} WHERE ({fits}) IS NOT TRUE LIMIT 1'
        ).fetchone()
        if bad is not None:
            raise refused(table, f"the column {column} has a value that fednode writes nowhere: {bad[0]!r}")
        if f"{table}.{column}" in _JSON:
            _check_json(connection, table, column, where)
    return int(count)


def unpacked_bytes(connection: Any, table: str, columns: dict[str, str], *, origin: str, bytes_max: int) -> int:
    """How large a table is that has not been copied yet. `columns`: their types. Raises Refused above `bytes_max`, or
    ROWS_MAX."""
    (count,) = connection.execute(f"SELECT count(*) FROM {origin}").fetchone()  # from the file's own metadata
    if count > ROWS_MAX:
        raise refused(table, f"it has {count:,} rows; {ROWS_MAX:,} are the most")
    total = int(count) * VALUE_BYTES * len(columns)
    texts = [f'coalesce(sum(strlen("{column}")), 0)' for column, kind in columns.items() if kind in ("VARCHAR", "JSON")]
    if total <= bytes_max and texts:
        (of_texts,) = connection.execute(f"SELECT {' + '.join(texts)} FROM {origin}").fetchone()
        total += int(of_texts)
    if total > bytes_max:
        raise Refused(
            "import-too-large",
            f"The table {table} has {total:,} bytes when it is unpacked; {bytes_max:,} may still come in",
            remedy=f"make room on the disk of the node's home, or import less at once: {UNPACKED_BYTES_MAX:,} bytes at"
            " most; nothing was taken in",
        )
    return total


def refused(table: str, why: str) -> Refused:
    return Refused(
        "bad-import",
        f"The table {table} is not taken: {why}",
        remedy="import what fednode export parquet or fednode store backup wrote, unchanged; nothing was taken in",
    )


def _check_json(connection: Any, table: str, column: str, where: str) -> None:
    found = connection.execute(f'SELECT "{column}"::VARCHAR FROM {where}')
    while rows := found.fetchmany(100):
        for (text,) in rows:
            if _depth(text) > JSON_DEPTH_MAX:
                raise refused(table, f"the column {column} has JSON that is nested too deeply")
            if isinstance(json.loads(text), dict) != (f"{table}.{column}" not in _LISTS):
                raise refused(table, f"the column {column} has JSON of another form than fednode's: {text[:60]!r}")


def _depth(text: str) -> int:
    """How deep brackets are nested at most, those in texts counted too: an upper bound, without parsing."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
