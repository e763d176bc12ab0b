"""Measures the record as people meet it: how long the dashboard's questions take at one and at ten million metric rows,
and how MLflow's own client does beside it, on its file store and on SQLite, in the same run on the same machine.

MLflow is measured where `make test-slow` has installed it; every ratio says how many times fednode does better.
MLflow's tables are filled by SQL as ours are: how the rows came in does not matter to what asking for them costs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_tracker import FILL, ROOT

MLFLOW_PYTHON = ROOT / ".venv" / "slow" / "bin" / "python"
MILLION = 1_000_000
ROWS_IN = 100_000
MLFLOW_ROWS_IN = {"file": 20_000, "sqlite": 20_000}  # a few seconds each; the rate is what is compared
TURNS = 15  # of each question; the median counts

# What the dashboard asks for when it is opened, when a run is, and each time that a round has ended.
_ASK = """
import json, statistics, sys, time
from pathlib import Path
from tracker.tables.rows import LogRow, RoundRow, RunRow
from tracker.store import Store

TURNS = int(sys.argv[2])
store = Store(Path(sys.argv[1]))
store.write([RunRow(f"run-{n}", "n", "p", "e", "g", "t", "d", "node", 100, 1.8e9 + n, "{}") for n in range(10)])
store.write([RoundRow(f"run-{n}", r, 1, "node-1", "c", "m", 1.8e9 + r, 50, "[]", 1000, 1.0)
             for n in range(10) for r in range(1, 101)])
store.write([LogRow("node-1", f"run-{n % 10}", "INFO", "fednode", "a line of the log", 1.8e9 + n, n)
             for n in range(10_000)])
reader = store.reader()
QUESTIONS = {
    "runs": ("runs", {}),
    "run": ("run", {"run_id": "run-0"}),
    "participants": ("participants", {"run_id": "run-0"}),
    "rounds": ("rounds", {"run_id": "run-0"}),
    "means": ("metrics", {"run_id": "run-0", "node": "", "scope": "global", "split": "eval"}),
    "one_curve": ("metrics", {"run_id": "run-0", "key": "loss", "node": "node-7", "scope": "global"}),
    "newest_round": ("metrics", {"run_id": "run-0", "after_round": 98, "limit": 10_000}),
    "logs": ("logs_tail", {"run_id": "run-0", "limit": 1000}),
}
medians = {}
for name, (query, parameters) in QUESTIONS.items():
    seconds = []
    for _ in range(TURNS + 1):  # the first one warms up
        start = time.perf_counter()
        reader.query(query, parameters)
        seconds.append(time.perf_counter() - start)
    medians[name] = 1000 * statistics.median(seconds[1:])
print()
print(json.dumps(medians))
"""

_OURS_IN = """
import json, sys, time
from pathlib import Path
from tracker.tables.rows import MetricRow
from tracker.store import Store

count = int(sys.argv[2])
store = Store(Path(sys.argv[1]))
start = time.perf_counter()
for first in range(0, count, 1000):
    store.write([MetricRow("run", "node", "local", "train", f"m{n % 8}", None, 0, 0, n // 8, 1 / (1 + n), 32, 1.8e9 + n,
                           "node", n) for n in range(first, first + 1000)])
seconds = time.perf_counter() - start
resident = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print()
print(json.dumps({"rows_per_s": count / seconds, "resident_kib": int(resident)}))
"""

_MLFLOW_IN = """
import json, sys, time
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

count, client = int(sys.argv[2]), MlflowClient(sys.argv[1])
run = client.create_run(client.create_experiment("bench")).info.run_id
start = time.perf_counter()
for first in range(0, count, 1000):  # the most that it takes at once
    client.log_batch(run, metrics=[Metric(f"m{n % 8}", 1 / (1 + n), 1_800_000_000_000 + n, n // 8)
                                   for n in range(first, first + 1000)])
seconds = time.perf_counter() - start
resident = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print()
print(json.dumps({"rows_per_s": count / seconds, "resident_kib": int(resident)}))
"""

# One run of a million points: 200 keys of 5,000 steps each; what is asked is one key's history, and the list of runs.
_MLFLOW_ASK = """
import json, sqlite3, statistics, sys, time
from mlflow.tracking import MlflowClient

path, turns = sys.argv[1], int(sys.argv[2])
client = MlflowClient("sqlite:///" + path)
experiment = client.create_experiment("bench")
run = client.create_run(experiment).info.run_id
client.log_metric(run, "m0", 0.0)
with sqlite3.connect(path) as database:
    for table in ("metrics", "latest_metrics"):
        database.execute(f"DELETE FROM {table}")
    database.executemany(
        "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)",
        ((f"m{n % 200}", 1 / (1 + n), 1_800_000_000_000 + n, run, n // 200) for n in range(1_000_000)))
    database.executemany(
        "INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)",
        ((f"m{n}", 1.0, 1_800_000_000_000 + n, run, 4999) for n in range(200)))
seconds = {"one_curve": [], "runs": []}
for _ in range(turns + 1):
    start = time.perf_counter()
    assert len(client.get_metric_history(run, "m7")) == 5000
    middle = time.perf_counter()
    client.search_runs([experiment])
    seconds["one_curve"].append(middle - start)
    seconds["runs"].append(time.perf_counter() - middle)
print()
print(json.dumps({name: 1000 * statistics.median(times[1:]) for name, times in seconds.items()}))
"""

_OURS_ASK = """
import json, statistics, sys, time
from pathlib import Path
from tracker.tables.rows import RunRow
from tracker.store import Store

store = Store(Path(sys.argv[1]))
store.write([RunRow("run", "n", "p", "e", "g", "t", "d", "node", 100, 1.8e9, "{}")])
store._connection.execute(
    "INSERT INTO metrics SELECT 'run', 'node', 'local', 'train', 'm' || (n % 200), NULL, 1, 0, n // 200, 1 / (1 + n), "
    "32, TIMESTAMP '2026-01-01' + to_microseconds(n * 1000), 'node', n, n FROM range(1000000) t(n)")
reader, seconds = store.reader(), {"one_curve": [], "runs": []}
for _ in range(int(sys.argv[2]) + 1):
    start = time.perf_counter()
    assert len(reader.query("metrics", {"run_id": "run", "key": "m7", "node": "node"})) == 5000
    middle = time.perf_counter()
    reader.query("runs", {})
    seconds["one_curve"].append(middle - start)
    seconds["runs"].append(time.perf_counter() - middle)
print()
print(json.dumps({name: 1000 * statistics.median(times[1:]) for name, times in seconds.items()}))
"""


def figures() -> dict[str, float]:
    """Medians in ms of each question at 1 and 10 million rows and the slowest of them; and, where MLflow is installed,
    how many times faster rows come in here, in how much less memory, and how many
    times faster one curve is read and the runs are listed."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        found = _dashboard(place)
        if MLFLOW_PYTHON.exists():
            found |= _beside_mlflow(place)
    return {name: round(value, 2) for name, value in found.items()}


def _dashboard(place: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for millions in (1, 10):
        store = place / f"{millions}.duckdb"
        _run(sys.executable, FILL, store, millions * MILLION)
        medians = _run(sys.executable, _ASK, store, TURNS)
        found[f"dashboard_{millions}m_ms"] = max(medians.values())
        found |= {f"{name}_{millions}m_ms": value for name, value in medians.items()}
    return found


def _beside_mlflow(place: Path) -> dict[str, float]:
    ours = _run(sys.executable, _OURS_IN, place / "ours.duckdb", ROWS_IN)
    found: dict[str, float] = {}
    for kind, uri in (("file", f"file://{place}/files"), ("sqlite", f"sqlite:///{place}/in.sqlite")):
        theirs = _run(MLFLOW_PYTHON, _MLFLOW_IN, uri, MLFLOW_ROWS_IN[kind])
        found[f"ingest_vs_mlflow_{kind}"] = ours["rows_per_s"] / theirs["rows_per_s"]
        found[f"resident_vs_mlflow_{kind}"] = theirs["resident_kib"] / ours["resident_kib"]
    asked = _run(sys.executable, _OURS_ASK, place / "asked.duckdb", TURNS)
    theirs_asked = _run(MLFLOW_PYTHON, _MLFLOW_ASK, place / "asked.sqlite", TURNS)
    found["curve_vs_mlflow_sqlite"] = theirs_asked["one_curve"] / asked["one_curve"]
    found["run_list_vs_mlflow_sqlite"] = theirs_asked["runs"] / asked["runs"]
    return found


def _run(python: str | Path, code: str, place: str | Path, count: int) -> dict[str, float]:
    """What a program prints on its last line, run by itself: DuckDB draws a progress bar before it."""
    done = subprocess.run(
        [str(python), "-c", code, str(place), str(count)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "MLFLOW_ALLOW_FILE_STORE": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise RuntimeError(f"a measurement failed with exit code {done.returncode}")
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
