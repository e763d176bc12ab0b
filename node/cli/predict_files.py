"""Predictions as people's files: the node's .npz as it is, or as .csv, .json or .parquet.

In a table an array of single values is a column under its name, and one of k values a row becomes k columns: NAME_0,
NAME_1 … Arrays of more dimensions fit no table, and stay in .npz or .json. Rows are in the order of the data.
"""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fednode_client import ClientError

COLUMNS_MAX = 10_000  # in a table: the classes of a large model
ROWS_AT_ONCE = 10_000  # written at a time

Arrays = dict[str, npt.NDArray[Any]]


def write_as(npz: Path, target: Path) -> None:
    """Write the predictions of `npz` to `target`, in the format that its name says; the .npz may be gone then.

    Raises ClientError when they do not fit the format, OSError for the disk's sake."""
    if target.suffix == ".npz":
        npz.replace(target)
        return
    with np.load(npz, allow_pickle=False) as arrays:
        found: Arrays = {name: arrays[name] for name in arrays.files}
    {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}[target.suffix](found, target)


def _write_csv(arrays: Arrays, target: Path) -> None:
    columns = _columns(arrays)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for rows in _slices(columns):
            writer.writerows(zip(*(column[rows].tolist() for column in columns.values()), strict=True))


def _write_json(arrays: Arrays, target: Path) -> None:
    """A list of objects, one a row, on a line of its own. A number that is not finite is null, as in all our JSON."""
    with target.open("w", encoding="utf-8") as file:
        before = "[\n"
        for rows in _slices(arrays):
            for values in zip(*(array[rows].tolist() for array in arrays.values()), strict=True):
                row = dict(zip(arrays, map(_plain, values), strict=True))
                file.write(before + json.dumps(row, ensure_ascii=False))
                before = ",\n"
        file.write("\n]\n")


def _write_parquet(arrays: Arrays, target: Path) -> None:
    import duckdb  # here, for it takes its time and most tables are not parquet

    columns = _columns(arrays)
    with duckdb.connect(config={"threads": 1}) as database:
        try:
            database.register("predictions", columns)
            path = str(target).replace("'", "''")
            database.execute(f"COPY (SELECT * FROM predictions) TO '{path}' (FORMAT parquet)")
        except duckdb.Error as error:
            what = f"The predictions cannot be written as parquet ({str(error).splitlines()[0]})"
            raise ClientError(what, remedy="write them as .npz") from None


def _columns(arrays: Arrays) -> Arrays:
    """Arrays of one dimension by their columns' names."""
    columns: Arrays = {}
    for name, array in arrays.items():
        if array.dtype.kind == "S":
            array = array.astype(str)
        width = array.shape[1] if array.ndim == 2 else 1
        if array.ndim > 2 or len(columns) + width > COLUMNS_MAX or array.dtype.kind == "c":
            raise ClientError(
                f"The predictions {name!r} are {array.dtype} of shape {list(array.shape)}, which fits no table",
                remedy="write them as .npz",
            )
        parts = {name: array}
        if array.ndim == 2:
            parts = {f"{name}_{place}": np.ascontiguousarray(array[:, place]) for place in range(width)}
        if taken := columns.keys() & parts.keys():
            raise ClientError(f"Two columns would be called {min(taken)!r}", remedy="write them as .npz")
        columns |= parts
    return columns


def _slices(arrays: Arrays) -> Iterator[slice]:
    rows = len(next(iter(arrays.values())))
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, complex):
        return [_plain(value.real), _plain(value.imag)]
    return value.decode(errors="replace") if isinstance(value, bytes) else value
