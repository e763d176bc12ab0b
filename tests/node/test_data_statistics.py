"""What is said of a data set: right for what is sound, short for what is huge, and a word for what cannot be read."""

import json
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from node.data import statistics as data_statistics
from node.data.statistics import statistics_of

Json = dict[str, Any]


def of(path: Path, kind: str) -> Json:
    """As it comes out of the record."""
    found: Json = json.loads(json.dumps(statistics_of(str(path), kind), allow_nan=False))
    return found


def column(found: Json, name: str) -> Json:
    told: Json = next(entry for entry in found["columns"] if entry["name"] == name)
    return told


def test_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("age,sex,score\n30,m,1.5\n40,f,\n50,f,2.5\n60,,nan\n")
    found = of(path, "csv")
    assert (found["rows"], found["rows_read"]) == (4, 4)
    age = column(found, "age")
    assert (age["missing"], age["min"], age["max"], age["mean"]) == (0, 30, 60, 45)
    assert age["quartiles"] == [37.5, 45, 52.5]
    assert age["std"] == pytest.approx(np.std([30, 40, 50, 60]))
    sex = column(found, "sex")
    assert (sex["missing"], sex["top"]) == (1, [["f", 2], ["m", 1]])
    score = column(found, "score")
    assert (score["missing"], score["mean"]) == (2, 2.0)


def test_a_parquet_file_says_how_many_rows_it_has_though_not_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_statistics, "ROWS_MAX", 1000)
    path = tmp_path / "it's.parquet"
    quoted = str(path).replace("'", "''")
    query = "SELECT i, ['a', 'b'][1 + i % 2] AS label, i % 3 = 0 AS third FROM range(5000) t(i)"
    duckdb.connect(":memory:").execute(f"COPY ({query}) TO '{quoted}'")
    found = of(path, "parquet")
    assert (found["rows"], found["rows_read"], found["note"]) == (5000, 1000, "of the first 1,000 rows")
    assert column(found, "label")["top"] == [["a", 500], ["b", 500]]
    assert column(found, "third")["top"] == [["false", 666], ["true", 334]]


def test_an_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    x[0, 0] = np.nan
    np.savez(path, x=x, y=np.array([7, 7, 2]), name=np.array(["a", "b", "b"]), one=np.float64(3))
    found = of(path, "npz")
    assert found["rows_read"] == 1  # the array without rows
    told = column(found, "x")
    assert (told["type"], told["shape"], told["missing"], told["min"], told["max"]) == ("float32", [3, 4], 1, 1, 11)
    assert column(found, "y")["top"] == [["7", 2], ["2", 1]]
    assert column(found, "name")["top"] == [["b", 2], ["a", 1]]


def test_of_a_huge_array_only_the_first_rows_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_statistics, "ARRAY_BYTES_MAX", 4000)
    np.savez(tmp_path / "big.npz", x=np.ones((1000, 10), dtype=np.float64))
    found = of(tmp_path / "big.npz", "npz")
    assert (found["rows"], found["rows_read"], found["note"]) == (1000, 50, "of the first 50 rows")


def test_what_would_run_code_or_lies_about_its_size_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([{}, 1], dtype=object))
    assert column(of(tmp_path / "objects.npz", "npz"), "x") == {"name": "x", "type": "object", "shape": [2]}
    whole = tmp_path / "short.npz"
    np.savez(whole, x=np.ones(10))
    with zipfile.ZipFile(whole) as archive:
        raw = archive.read("x.npy")
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("x.npy", raw[:-8])
    assert "shorter" in of(whole, "npz")["note"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("content", [b"", b"PAR1" * 10, b"\xff\xfe\x00" * 100, b"PK\x03\x04rest"])
def test_what_cannot_be_read_is_said_and_never_raised(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{kind}"
    path.write_bytes(content)
    found = of(path, kind)
    assert found.get("note") or found.get("rows") is not None
    assert of(tmp_path / "missing", kind)["note"]


def test_a_table_of_very_many_columns_is_told_of_in_part(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{n}" for n in range(300)) + "\n" + ",".join("1" * 300) + "\n")
    found = of(path, "csv")
    assert (len(found["columns"]), found["columns_left_out"]) == (200, 100)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.PNG", "labels.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "labels.csv")
    found = of(tmp_path, "folder")
    assert (found["files"], found["suffixes"]) == (4, [[".png", 3], [".csv", 1]])
    assert found["folders"] == [["cat", 2], ["dog", 1]]


def test_a_table_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that has passed at the start ends the first statement that lasts."""
    monkeypatch.setattr(data_statistics, "SECONDS_MAX", 0.0)
    monkeypatch.setattr(data_statistics, "ROWS_MAX", 4_000_000)
    path = tmp_path / "long.parquet"
    duckdb.connect(":memory:").execute(f"COPY (SELECT md5(i::VARCHAR) AS x FROM range(5000000) t(i)) TO '{path}'")
    assert "longer than" in of(path, "parquet")["note"]
