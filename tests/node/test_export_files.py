"""fednode export tensorboard and parquet: what lies in the files, and that they come whole or not at all."""

import math
import os
import struct
import subprocess
import sys
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_ground import as_json, run
from export_ground import DAY, NODES, OTHER_RUN, PARAMETERS, RUN, Ground

from node.exports.system import system_points
from tracker.exports import parquet as export_parquet
from tracker.exports.points import STEPS_OF_A_ROUND, Point, clean_name, folder_name, points_of
from tracker.exports.tensorboard import EventFiles, event, masked_crc32c
from tracker.tables.schema import TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    ground = Ground(tmp_path)
    ground.everything()
    return ground


# --- names -----------------------------------------------------------------------------------------------------
def test_names_stay_or_stay_apart() -> None:
    for name in ("global_eval/accuracy", "Test/Acc", "a b.c-d_e", "x" * 250):
        assert clean_name(name) == name
    odd = ["größe", "grösse", "a@b", "a#b", "x" * 251, "x" * 252, "", "/a", "a/", "../a", "a/../b", "a//b", "\ud800"]
    cleaned = [clean_name(name) for name in odd]
    assert len(set(cleaned)) == len(odd)
    assert all(0 < len(name) <= 250 and ".." not in name and name == clean_name(name) for name in cleaned)
    for name in ("../../etc", "..", "", ".hidden", "a/b", "a\x00b", "ü" * 300):
        assert "/" not in folder_name(name)
        assert folder_name(name).strip(".")
        assert len(folder_name(name)) <= 100


# --- TensorBoard -----------------------------------------------------------------------------------------------
def test_the_checksum_is_the_one_of_rfc_3720() -> None:
    for data, expected in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        turned = (masked_crc32c(data) - 0xA282EAD8) & 0xFFFFFFFF
        assert (turned << 15 | turned >> 17) & 0xFFFFFFFF == expected


def decoded(data: bytes) -> list[tuple[str, int, float, float]]:
    """Tag, step, value and wall time of every scalar of an event file, read by the description of its format."""
    found, place = [], 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        record = data[place + 12 : place + 12 + length]
        assert struct.unpack_from("<I", data, place + 8) == (masked_crc32c(data[place : place + 8]),)
        assert struct.unpack_from("<I", data, place + 12 + length) == (masked_crc32c(record),)
        place += 16 + length
        fields = dict(fields_of(record))
        if 3 in fields:
            assert (place, fields[3]) == (16 + length, b"brain.Event:2")
            continue
        value = dict(fields_of(dict(fields_of(fields[5]))[1]))
        (number,), (time,) = struct.unpack("<f", value[2]), struct.unpack("<d", fields[1])
        found.append((value[1].decode(), fields[2], number, time))
    return found


def fields_of(data: bytes) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    rest = list(data)

    def varint() -> int:
        number = shift = 0
        while True:
            byte = rest.pop(0)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while rest:
        key = varint()
        size = {0: 0, 1: 8, 5: 4}.get(key & 7)
        if size == 0:
            found.append((key >> 3, varint()))
            continue
        size = varint() if size is None else size
        found.append((key >> 3, bytes(rest[:size])))
        del rest[:size]
    return found


def points_of_run(ground: Ground) -> list[Point]:
    record = ground.record()
    machines = [point for _, point in system_points(record, record.run(RUN))]
    assert len(machines) == 2 * 2 * 9 + 2  # nodes, samples, names of what is measured; a worker
    return [*points_of(record.metrics(RUN)["metrics"]), *machines]


def test_every_scalar_is_in_its_nodes_file(ground: Ground, tmp_path: Path) -> None:
    told = as_json("export", "tensorboard", "study", str(tmp_path / "logs"), "--store", str(ground.path))
    folder = tmp_path / "logs" / "study-abababab"
    assert told["folder"] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["Anna-aaaaAnna", "Ben-bbbbbBen", "mean"]
    expected = points_of_run(ground)
    for node, name in (*zip(NODES, ("Anna-aaaaAnna", "Ben-bbbbbBen"), strict=True), ("", "mean")):
        (file,) = (folder / name).iterdir()
        assert file.name == f"events.out.tfevents.{int(DAY)}.fednode"
        wanted = [(p.name, p.step, as_float32(p.value), p.time) for p in expected if p.node_id == node]
        assert repr(decoded(file.read_bytes())) == repr(wanted)  # by text, for NaN is not NaN
    assert told["scalars"] == len(expected)
    before = {path: path.read_bytes() for path in folder.rglob("events*")}
    as_json("export", "tensorboard", "study", str(tmp_path / "logs"), "--store", str(ground.path))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def as_float32(value: float) -> float:
    try:
        (number,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return math.copysign(math.inf, value)
    return number


@pytest.mark.parametrize("step", [0, 127, 128, 3 * STEPS_OF_A_ROUND + 7, 2**62])
@pytest.mark.parametrize("value", [0.0, -1.5, 1e39, -1e39, math.inf])
def test_steps_and_values_at_their_limits(step: int, value: float) -> None:
    (found,) = decoded(event(Point("n", "t" * 200, step, value, 1.25, 0)))
    assert found == ("t" * 200, step, as_float32(value), 1.25)


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    files = EventFiles(tmp_path, DAY)
    files.add("one", [Point("n", "t", 1, 1.0, DAY, 1)])
    files.abandon()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    for kind in ("tensorboard", "parquet"):
        result = run("export", kind, "study", str(tmp_path / "shut" / "x"), "--store", str(ground.path))
        assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)


def test_a_folder_that_is_none(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for kind in ("tensorboard", "parquet"):
        result = run("export", kind, "study", str(tmp_path / "file" / "x"), "--store", str(ground.path))
        assert (result.exit_code, "cannot be written (Not a directory)" in result.stderr) == (1, True)


# --- Parquet ---------------------------------------------------------------------------------------------------
def read(folder: Path, table: str) -> list[dict[str, Any]]:
    found = duckdb.execute(f"SELECT * FROM read_parquet('{folder / table}.parquet')")
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def recorded(ground: Ground, table: str, condition: str = "true") -> list[dict[str, Any]]:
    with duckdb.connect(str(ground.path), read_only=True) as store:
        found = store.execute(f"SELECT * FROM {table} WHERE {condition} ORDER BY ALL")
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(row) for row in rows)  # by text, for NaN is not NaN


def test_all_tables_are_the_records(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_parquet, "PAGE_ROWS", 100)  # so that pages are turned
    told = as_json("export", "parquet", "--all", str(tmp_path / "all"), "--store", str(ground.path))
    names = {table.name for table in TABLES.values()} - {"data_sets"}
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        *(f"{name}.parquet" for name in names),
        "export.json",
    }
    for name in names:
        expected = recorded(ground, name)
        for row in expected if name == "evaluations" else ():
            row["data"] = "" if "/" in row["data"] else row["data"]  # a path of this machine
        assert in_order(read(tmp_path / "all", name)) == in_order(expected), name
        assert told["rows"][name] == len(recorded(ground, name))
    assert told["rows"]["parameters"] == 2 * PARAMETERS
    assert not [name for name in names if "secret" in repr(read(tmp_path / "all", name))]
    assert {row["data"] for row in read(tmp_path / "all", "evaluations")} == {"digits", ""}
    values = [row["value"] for row in read(tmp_path / "all", "metrics") if row["key"] == "norm"]
    assert (math.isnan(values[0]), values[1]) == (True, math.inf)


def test_one_run_and_nothing_of_another(ground: Ground, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    told = as_json("export", "parquet", "study", str(folder), "--store", str(ground.path))
    assert told["run_id"] == RUN
    for table in TABLES.values():
        if table.name not in ("data_sets", "nodes", "model_aliases", "system_metrics", "evaluations"):
            expected = recorded(ground, table.name, f"run_id = '{RUN}'")
            assert in_order(read(folder, table.name)) == in_order(expected), table.name
            assert OTHER_RUN not in repr(read(folder, table.name))
    assert [row["node_id"] for row in read(folder, "nodes")] == sorted(NODES)
    assert {row["alias"] for row in read(folder, "model_aliases")} == {"champion", "once"}
    seconds = {
        (row["run_id"], row["time"].replace(tzinfo=UTC).timestamp() - DAY) for row in read(folder, "system_metrics")
    }
    assert seconds == {("", 1.0), ("", 4.0), (RUN, 3.0), (RUN, 3.5)}


def test_files_that_are_there_stay_unless_forced(ground: Ground, tmp_path: Path) -> None:
    arguments = ("export", "parquet", "study", str(tmp_path / "one"), "--store", str(ground.path))
    as_json(*arguments)
    result = run(*arguments)
    assert (result.exit_code, "is there already" in result.stderr) == (1, True)
    as_json(*arguments, "--force")
    assert run("export", "parquet", str(tmp_path)).exit_code == 2
    assert run("export", "parquet", "--all", "study", str(tmp_path)).exit_code == 2


def test_every_column_is_explained() -> None:
    text = (ROOT / "docs" / "coming-from.md").read_text()
    for table in TABLES.values():
        if table.name != "data_sets":
            (line,) = [line for line in text.splitlines() if line.startswith(f"| `{table.name}` |")]
            columns = [*(name.rstrip("_") for name in table.fields), *(["position"] if table.is_event else [])]
            assert not [name for name in columns if f"`{name}`" not in line], table.name


# --- starting --------------------------------------------------------------------------------------------------
def test_duckdb_is_loaded_only_for_files(tmp_path: Path) -> None:
    code = f"""
import atexit, os, sys
os.environ["FEDNODE_HOME"] = {str(tmp_path)!r}
atexit.register(lambda: print("loaded:", *sorted(set(sys.modules) & {{"duckdb", "torch", "libp2p"}})))
from node.cli import main
main()
"""
    for arguments in (["mlflow", "x", "--to", "http://127.0.0.1:1"], ["tensorboard", "x", str(tmp_path)]):
        told = subprocess.run(
            [sys.executable, "-c", code, "export", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert told.returncode == 3, told
        assert told.stdout.splitlines()[-1] == "loaded:", told
