"""Rows of the record as files: CSV (RFC 4180), JSON, and Parquet, which DuckDB writes in the command's own process.

The node's own connection can write no file; this one sees nothing but the rows that came.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednode_client import ClientError
from node.cli import show
from node.cli.common import clean
from protocol.errors import FednodeError, Refused

if TYPE_CHECKING:
    from node.cli.look import Asked

Json = dict[str, Any]


def written(told: Json, form: str) -> str:
    """Columns and rows as text: csv, json, or a table. What is missing, or not finite, is empty or null."""
    columns = told["columns"]
    if form == "json":
        names = distinct(columns)
        objects = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in told["rows"]]
        return "[" + ",\n ".join(objects) + "]\n"
    if form == "csv":
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_plain(value) for value in row] for row in told["rows"])
        return file.getvalue()
    cells = [["" if value is None else clean(str(value)).replace("\n", " ") for value in row] for row in told["rows"]]
    return show.plain_table([clean(column) for column in columns], cells) + "\n"


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else value


def write_text(output: Path, text: str) -> None:
    from node.cli.plot import write_file

    write_file(output, text.encode())


def distinct(columns: Sequence[str]) -> list[str]:
    """Names that differ, whatever their case: a second `a` becomes `a_1`."""
    taken: list[str] = []
    for column in columns:
        name, count = column, 0
        while name.lower() in (each.lower() for each in taken):
            count += 1
            name = f"{column}_{count}"
        taken.append(name)
    return taken


def types_of(asked: "Asked", statement: str, columns: Sequence[str]) -> list[str]:
    """DuckDB's type of each column of a statement; text for those of one that cannot be described, such as SHOW."""
    try:
        described = asked.sql(f"DESCRIBE {statement}", len(columns))["rows"]
    except (ClientError, FednodeError):
        return ["VARCHAR"] * len(columns)
    return [str(row[1]) for row in described] if len(described) == len(columns) else ["VARCHAR"] * len(columns)


def write_parquet(output: Path, told: Json, types: Sequence[str]) -> None:
    """Write the rows with the types that they have in the record; times and the like came as text and are read again.

    Raises:
        Refused: a column's type has no counterpart, or the file cannot be written.
    """
    import duckdb

    names = [_quoted(name, '"') for name in distinct(told["columns"])]
    connection = duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": "false"})
    try:
        connection.execute(f"CREATE TABLE told ({', '.join(f'{name} VARCHAR' for name in names)})")
        if told["rows"]:
            appender = connection.appender("told")
            appender.append_rows([tuple(map(_text, row)) for row in told["rows"]])
            appender.flush()
        chosen = ", ".join(f"{_read(name, kind)} AS {name}" for name, kind in zip(names, types, strict=True))
        file = _quoted(str(output.absolute()), "'")
        connection.execute(f"COPY (SELECT {chosen} FROM told) TO {file} (FORMAT parquet)")
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise Refused(
            "not-written", f"{output} cannot be written: {reason}", remedy="cast that column, or write .csv or .json"
        ) from None
    finally:
        connection.close()


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _read(name: str, kind: str) -> str:
    """The expression that makes a column's values out of their text."""
    if kind == "BLOB":
        return f"unhex({name})"
    if "[" in kind or kind.startswith(("STRUCT", "MAP")):
        return f"CAST({name}::JSON AS {kind})"
    return f"CAST({name} AS {kind})" if kind not in ("VARCHAR", '"NULL"', "NULL") else name


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark
