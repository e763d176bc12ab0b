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
COLUMNS_MAX = 2000  # of one answer
_BENT = ("DOUBLE", "FLOAT", "DECIMAL", "INTERVAL", "TIMESTAMP WITH TIME ZONE")  # which JSON, or Python, does not keep
_NO_KIND = ("VARCHAR", '"NULL"', "NULL")
_IN_PARQUET = {"HUGEINT": "DECIMAL(38,0)", "UHUGEINT": "DECIMAL(38,0)"}  # sums, which would be written as floats


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


def exact(asked: "Asked", statement: str, form: str) -> tuple[str, list[str]]:
    """A statement whose answer keeps every bit in a file, and DuckDB's type of each of its columns.

    JSON, in which answers come, knows 64-bit floats alone, and nothing that is not finite: so what it would bend comes
    as DuckDB's own text, for Parquet everything. A statement that cannot stand within another (EXPLAIN) stays as it
    is, and has no types.
    """
    inner = statement.strip().rstrip(";")
    try:
        told = asked.sql(f"DESCRIBE SELECT * FROM (\n{inner}\n)", COLUMNS_MAX)
    except (ClientError, FednodeError):
        return statement, []
    types = [str(row[1]) for row in told["rows"]]
    names = [f"c{place}" for place in range(len(types))]
    taken = [
        f"{name}::VARCHAR" if form == "parquet" or kind.startswith(_BENT) else name
        for name, kind in zip(names, types, strict=True)
    ]
    titles = [f"{taken[place]} AS {_quoted(row[0], chr(34))}" for place, row in enumerate(told["rows"])]
    return f"SELECT {', '.join(titles)} FROM (\n{inner}\n) AS told({', '.join(names)})", types


def write_parquet(output: Path, told: Json, types: Sequence[str]) -> None:
    """Write the rows, which came as text, with the types that they have in the record; without `types` as text.

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
        kinds = [_IN_PARQUET.get(kind, kind) for kind in types or ["VARCHAR"] * len(names)]
        read = [
            name if kind in _NO_KIND else f"CAST({name} AS {kind})" for name, kind in zip(names, kinds, strict=True)
        ]
        chosen = ", ".join(f"{one} AS {name}" for one, name in zip(read, names, strict=True))
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
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark
