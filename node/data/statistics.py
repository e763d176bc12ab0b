"""What a data set is like: rows, columns, what is missing, how values are spread, which classes there are.

It blocks; run it where that holds nobody up. Of a huge set the first rows stand for all, and the note says so: the
time and the memory that this takes are bounded, whatever lies there. Nothing here leaves the node.
"""

import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Json = dict[str, Any]

ROWS_MAX = 200_000  # looked at of a table; seconds, and more says nothing new about how values are spread
CELLS_MAX = 5_000_000  # looked at of a table: at 20 bytes each, what MEMORY_MB_MAX holds
COLUMNS_MAX = 200  # told of; a table of more is rather an array
ARRAY_BYTES_MAX = 64 * 1024 * 1024  # looked at of each array
ARRAY_VALUES_MAX = 4_000_000  # looked at of each array: as 64-bit numbers, twice over, they take as much again
CLASSES_MAX = 100  # a whole number with more values is no class
TOP = 20  # the most frequent values told of a column
TEXT_CHARACTERS_MAX = 60  # of a value
SECONDS_MAX = 30.0  # for tables; what is not known by then is not told
MEMORY_MB_MAX = 256  # while it lasts; there is nowhere to spill to
INTERRUPT_EVERY_S = 0.02
FILES_MAX = 100_000
HEADER_BYTES_MAX = 64 * 1024  # of an array in an .npz


def statistics_of(path: str, kind: str) -> Json:
    """The statistics of what lies at `path`, of a kind of node.data.files. Never raises for what lies there: then they
    say only why there are none."""
    try:
        if kind == "folder":
            return _of_folder(Path(path))
        if kind == "npz":
            return _of_npz(Path(path))
        return _of_table(Path(path), kind)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        return {"note": f"no statistics: {str(error)[:200] or type(error).__name__}"}


# --- tables ----------------------------------------------------------------------------------------------------------
def _of_table(path: Path, kind: str) -> Json:
    """Of a .csv or .parquet file, by an engine that can read nothing else."""
    import duckdb  # here: with a node that has no such data it costs nothing

    from tracker.tables.connect import first_line

    quoted = str(path).replace("'", "''")
    source = f"read_csv('{quoted}', header = true)" if kind == "csv" else f"read_parquet('{quoted}')"
    connection = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": f"{MEMORY_MB_MAX}MB"})
    try:
        connection.execute("SET allowed_paths = [?]", [str(path)])
        connection.execute("SET enable_external_access = false")
        with _bounded(connection):
            return _of_source(connection, source, is_counted=kind == "parquet")
    except duckdb.InterruptException:
        return {"note": f"no statistics: reading took longer than {SECONDS_MAX:.0f} s"}
    except duckdb.Error as error:
        return {"note": f"no statistics: {first_line(str(error))[:200]}"}
    finally:
        connection.close()


def _of_source(connection: Any, source: str, *, is_counted: bool) -> Json:
    """`is_counted`: the file says itself how many rows it has."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    columns = [(name, kind) for name, kind, *_ in described[:COLUMNS_MAX]]
    wanted = ", ".join(_quoted(name) for name, _ in columns)
    most = min(ROWS_MAX, CELLS_MAX // max(1, len(columns)))
    connection.execute(f"CREATE TEMP TABLE seen AS SELECT {wanted} FROM {source} LIMIT {most}")
    (rows,) = connection.execute("SELECT count(*) FROM seen").fetchone()
    found: Json = {"rows": rows, "rows_read": rows}
    if rows == most:
        # Of text nobody knows before its end.
        found["rows"] = connection.execute(f"SELECT count(*) FROM {source}").fetchone()[0] if is_counted else None
        found["note"] = f"of the first {rows:,} rows"
    if len(described) > COLUMNS_MAX:
        found["columns_left_out"] = len(described) - COLUMNS_MAX
    found["columns"] = [_of_column(connection, name, kind) for name, kind in columns]
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _of_column(connection: Any, name: str, kind: str) -> Json:
    column = _quoted(name)
    rows, present, unique = connection.execute(
        f"SELECT count(*), count({column}), approx_count_distinct({column}) FROM seen"
    ).fetchone()
    told: Json = {"name": name[:TEXT_CHARACTERS_MAX], "type": kind.lower(), "missing": rows - present, "unique": unique}
    base = kind.split("(")[0]
    if base in _NUMBERS:
        value = f"{column}::DOUBLE"
        finite, low, high, mean, spread, *quartiles = connection.execute(
            "SELECT count(*), min(v), max(v), avg(v), stddev_pop(v), quantile_cont(v, 0.25), median(v),"
            f" quantile_cont(v, 0.75) FROM (SELECT {value} AS v FROM seen) WHERE isfinite(v)"
        ).fetchone()
        told["missing"] = rows - finite
        told |= {"min": low, "max": high, "mean": mean, "std": spread, "quartiles": quartiles}
    if (base in _NUMBERS - _REAL and unique <= CLASSES_MAX) or base in ("VARCHAR", "BOOLEAN", "ENUM"):
        top = connection.execute(
            f"SELECT left({column}::VARCHAR, {TEXT_CHARACTERS_MAX}) AS v, count(*) AS n FROM seen"
            f" WHERE {column} IS NOT NULL GROUP BY v ORDER BY n DESC, v LIMIT {TOP}"
        ).fetchall()
        told["top"] = [[value, count] for value, count in top]
    return told


_REAL = {"FLOAT", "DOUBLE", "DECIMAL"}
_NUMBERS = _REAL | {
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
}


@contextmanager
def _bounded(connection: Any) -> Iterator[None]:
    """End what the connection is at after SECONDS_MAX."""
    done = threading.Event()

    def end() -> None:
        if not done.wait(SECONDS_MAX):
            # Again and again: an interruption that comes before a statement has begun is lost.
            while not done.wait(INTERRUPT_EVERY_S):
                connection.interrupt()

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# --- arrays ----------------------------------------------------------------------------------------------------------
def _of_npz(path: Path) -> Json:
    """Each array is a column here; `rows` is the length that all of them share."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        columns = []
        for name in names[:COLUMNS_MAX]:
            with archive.open(name) as file:
                columns.append({"name": name.removesuffix(".npy")[:TEXT_CHARACTERS_MAX], **_of_array(file)})
    lengths = {column["shape"][0] for column in columns if column.get("shape")}
    found: Json = {"rows": lengths.pop() if len(lengths) == 1 else None, "columns": columns}
    found["rows_read"] = min((column.pop("rows_read", 0) for column in columns), default=0)
    if found["rows"] is not None and 0 < found["rows_read"] < found["rows"]:
        found["note"] = f"of the first {found['rows_read']:,} rows"
    if len(names) > COLUMNS_MAX:
        found["columns_left_out"] = len(names) - COLUMNS_MAX
    return found


def _of_array(file: IO[bytes]) -> Json:
    import numpy as np

    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = header(file, max_header_size=HEADER_BYTES_MAX)
    told: Json = {"type": dtype.name, "shape": list(shape)}
    row_bytes = dtype.itemsize
    for length in shape[1:]:
        row_bytes *= length
    if dtype.hasobject or row_bytes == 0 or (is_fortran and len(shape) > 1):
        return told  # objects are code, and columns that lie apart have no first rows
    most = min(ARRAY_BYTES_MAX // row_bytes, ARRAY_VALUES_MAX * dtype.itemsize // row_bytes)
    rows = min(shape[0] if shape else 1, most)
    if not rows:
        return told  # one row alone is too large
    values = np.frombuffer(_read(file, rows * row_bytes), dtype=dtype)
    told["rows_read"] = rows
    return {**told, **_of_values(values, is_plain=len(shape) == 1)}


def _read(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("an array is shorter than its header says")
    return data


def _of_values(values: "np.ndarray[Any, Any]", *, is_plain: bool) -> Json:
    """`is_plain`: of one dimension, so that it may be of classes."""
    import numpy as np

    told: Json = {"missing": 0}
    if values.dtype.kind in "biuf":
        as_numbers = values.astype(np.float64)
        finite = as_numbers[np.isfinite(as_numbers)]
        told["missing"] = int(values.size - finite.size)
        if finite.size:
            quartiles = [float(value) for value in np.quantile(finite, (0.25, 0.5, 0.75))]
            told |= {"min": float(finite.min()), "max": float(finite.max()), "mean": float(finite.mean())}
            told |= {"std": float(finite.std()), "quartiles": quartiles}
    if is_plain and values.dtype.kind in "biuUS":
        unique, counts = np.unique(values, return_counts=True)
        told["unique"] = len(unique)
        if len(unique) <= CLASSES_MAX or values.dtype.kind in "US":
            order = np.argsort(-counts, kind="stable")[:TOP]
            told["top"] = [[_text(unique[place]), int(counts[place])] for place in order]
    return told


def _text(value: Any) -> str:
    plain = value.decode(errors="replace") if isinstance(value, bytes) else value
    return str(plain)[:TEXT_CHARACTERS_MAX]


# --- folders ---------------------------------------------------------------------------------------------------------
def _of_folder(folder: Path) -> Json:
    """How many files of which kind; folders in it are taken for classes, as is the custom with pictures."""
    suffixes: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    count = 0
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        count += 1
        if count > FILES_MAX:
            return {"files": None, "note": f"there are more than {FILES_MAX:,} files"}
        suffixes[path.suffix.lower()[:TEXT_CHARACTERS_MAX]] += 1
        inner = path.relative_to(folder).parts
        if len(inner) > 1:
            classes[inner[0][:TEXT_CHARACTERS_MAX]] += 1
    return {
        "files": count,
        "suffixes": [list(entry) for entry in suffixes.most_common(TOP)],
        "folders": [list(entry) for entry in classes.most_common(CLASSES_MAX)],
    }
