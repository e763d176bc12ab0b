"""fednode simulate: the same seed gives the same trace, in another process too, and the results can be looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.simulate import Progress, simulate


def fednode(*words: str, hash_seed: str = "0") -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "fednode", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulated") / "store.duckdb"


@pytest.fixture(scope="module")
def first(store: Path) -> dict[str, object]:
    words = ("simulate", "--nodes", "4", "--rounds", "3", "--seed", "7", "--store", str(store), "--json")
    return json.loads(fednode(*words, hash_seed="1"))  # type: ignore[no-any-return]


def test_the_run_is_trained_to_its_end(first: dict[str, object]) -> None:
    assert (first["outcome"], first["rounds_committed"], first["elections"]) == ("FINISHED", 3, 1)
    assert float(str(first["accuracy"])) > 0.5


def test_another_process_with_the_same_seed_gives_the_same_trace(first: dict[str, object], tmp_path: Path) -> None:
    words = ("simulate", "--nodes", "4", "--rounds", "3", "--seed", "7", "--store", str(tmp_path / "s"), "--json")
    again = json.loads(fednode(*words, hash_seed="2"))
    same = ("trace", "events", "virtual_s", "accuracy", "run_id", "aggregator")
    assert {key: again[key] for key in same} == {key: first[key] for key in same}


def test_another_seed_gives_another_trace_and_progress_is_told(first: dict[str, object]) -> None:
    told: list[Progress] = []
    other = simulate(4, 3, 8, None, on_progress=told.append)
    assert other.trace != first["trace"]
    assert told[-1].rounds == 3
    assert [progress.virtual_s for progress in told] == sorted(progress.virtual_s for progress in told)


def test_the_store_opens_like_a_nodes_own(first: dict[str, object], store: Path) -> None:
    rows = json.loads(fednode("sql", "--store", str(store), "--json", "select round, updates_used from rounds"))["rows"]
    assert sorted(rows) == [[1, 4], [2, 4], [3, 4]]
    states = json.loads(fednode("sql", "--store", str(store), "--json", "select distinct state from current_states"))
    assert states["rows"] == [["FINISHED"]]
    shown = json.loads(fednode("tui", "--store", str(store), "--once", "--json"))
    assert shown["runs"][0]["run_id"] == first["run_id"]


def test_run_commands_read_the_store(first: dict[str, object], store: Path) -> None:
    (listed,) = json.loads(fednode("run", "list", "--store", str(store), "--json"))
    shown = json.loads(fednode("run", "show", "simulation", "--store", str(store), "--json"))
    assert listed["run_id"] == shown["run_id"] == first["run_id"]
    assert [participant["state"] for participant in shown["participants"]] == ["FINISHED"] * 4
    words = ("run", "metrics", str(first["run_id"])[:8], "--key", "accuracy", "--store", str(store), "--json")
    assert {point["round"] for point in json.loads(fednode(*words))} == {0, 1, 2, 3}
    lines = fednode("run", "logs", "simulation", "--node", "node-1", "--follow", "--store", str(store))
    assert "round 3 is committed" in lines
