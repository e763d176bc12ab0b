"""Reading a table's columns: from .csv with the standard library, .npz with numpy, .parquet with DuckDB.

Errors name the column at fault and the columns that there are, for the files come from people who did not write the
task.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fednode import TaskError

Column = np.ndarray[Any, Any]


def read_columns(path: Path, names: Sequence[str]) -> dict[str, Column]:
    """The columns of `names`, text or numbers as the file has them. Raises TaskError for what cannot be read."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TaskError(f"{path} is no table that can be read", remedy=f"use one of {', '.join(_READERS)}")
    try:
        return reader(path, names)
    except (OSError, ValueError, TypeError, BadZipFile, csv.Error) as error:  # TypeError: a lone .npy array
        raise TaskError(f"{path} cannot be read ({error})", remedy="check the file") from error


def numbers(path: Path, name: str, column: Column) -> Column:
    """`column` as float64, with NaN for empty cells. Raises TaskError naming the first cell that is no number."""
    try:
        return column.astype(np.float64)
    except (ValueError, TypeError):
        pass
    values = np.empty(len(column))
    for row, cell in enumerate(column):
        text = "" if cell is None else str(cell).strip()
        try:
            values[row] = float(text) if text else np.nan
        except ValueError:
            raise TaskError(
                f"Column {name!r} of {path} has {text[:40]!r} in row {row + 1}, which is no number",
                remedy="choose numeric columns, or write the column as numbers",
            ) from None
    return values


def require(path: Path, names: Sequence[str], present: Sequence[str]) -> None:
    """Raises TaskError when a column of `names` is not among `present`."""
    missing = [name for name in names if name not in present]
    if missing:
        raise TaskError(
            f"{path} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(present) or 'none'}",
            remedy="correct the task's parameters label and columns, or the file's header",
        )


def _read_csv(path: Path, names: Sequence[str]) -> dict[str, Column]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = [cell.strip() for cell in next(rows, [])]
        require(path, names, header)
        places = [header.index(name) for name in names]
        cells: list[list[str]] = []
        for row in rows:
            if not row:  # a blank line, often the last
                continue
            if len(row) != len(header):
                raise TaskError(
                    f"Line {rows.line_num} of {path} has {len(row)} cells, the header {len(header)}",
                    remedy="write as many cells in every line as there are columns",
                )
            cells.append([row[place] for place in places])
    return {name: np.array([row[at] for row in cells], dtype=object) for at, name in enumerate(names)}


def _read_npz(path: Path, names: Sequence[str]) -> dict[str, Column]:
    """Every one-dimensional array is a column; a table `x` of several columns gives x0, x1 …"""
    columns: dict[str, Column] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            array = arrays[key]
            if array.ndim == 1:
                columns[key] = array
            elif array.ndim == 2:
                columns |= {f"{key}{at}": array[:, at] for at in range(array.shape[1])}
    require(path, names, list(columns))
    lengths = {len(columns[name]) for name in names}
    if len(lengths) > 1:
        raise TaskError(f"The columns of {path} differ in length: {sorted(lengths)}", remedy="make them equally long")
    return {name: columns[name] for name in names}


def _read_parquet(path: Path, names: Sequence[str]) -> dict[str, Column]:
    import duckdb  # here, for it takes its time and most tables are not parquet

    with duckdb.connect(config={"threads": 1}) as database:
        try:
            relation = database.read_parquet(str(path))
            require(path, names, relation.columns)
            quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
            columns: Mapping[str, Any] = relation.project(quoted).fetchnumpy()
        except duckdb.Error as error:
            raise TaskError(f"{path} cannot be read as parquet ({error})", remedy="check the file") from error
    return {name: _unmasked(columns[name]) for name in names}


def _unmasked(column: Any) -> Column:
    """DuckDB's NULLs as None or NaN."""
    if not isinstance(column, np.ma.MaskedArray):
        return np.asarray(column)
    kind, empty = (object, None) if column.dtype.kind in "OSU" else (np.float64, np.nan)
    values = np.array(column.data, dtype=kind)
    values[np.ma.getmaskarray(column)] = empty
    return values


_READERS: dict[str, Callable[[Path, Sequence[str]], dict[str, Column]]] = {
    ".csv": _read_csv,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
