"""Measures the store: rows a second into it, and the memory of a node's store at ten million metric rows.

`figures()` gives both under their names in the table of targets. Each is measured in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS_IN_STORE = 10_000_000
ROWS_IN = 200_000
ROOT = Path(__file__).resolve().parents[1]

_INGEST = """
import sys, time
from pathlib import Path
from tracker.tables.rows import MetricRow
from tracker.store import Store

count, batch = int(sys.argv[2]), 2000  # what the node's record hands over at a time
store = Store(Path(sys.argv[1]))
start = time.perf_counter()
for first in range(0, count, batch):
    store.write([
        MetricRow("run-1", f"node-{n % 50}", "local", "train", "loss", None, n // 5000, 0, n // 50, 1 / (1 + n), 32,
                  1.8e9 + n / 100, f"node-{n % 50}", n // 50)
        for n in range(first, first + batch)
    ])
seconds = time.perf_counter() - start
store.close()
print(count / seconds)
"""

# The rows are made inside DuckDB: how they came in does not matter to what holding and asking them costs.
FILL = """
import sys
from pathlib import Path
from tracker.store import Store

store = Store(Path(sys.argv[1]))
store._connection.execute(
    "INSERT INTO metrics SELECT 'run-' || (i // 1000000), 'node-' || (i % 50), "
    "CASE WHEN i % 10 = 0 THEN 'global' ELSE 'local' END, CASE WHEN i % 10 = 0 THEN 'eval' ELSE 'train' END, "
    "['loss', 'accuracy', 'f1', 'lr'][1 + (i // 50) % 4], NULL, (i % 1000000) // 10000, 0, (i % 10000) // 200, "
    "random(), 32, TIMESTAMP '2026-01-01' + to_microseconds(i * 1000), 'node-' || (i % 50), i // 50, i "
    f"FROM range({sys.argv[2]}) t(i)"
)
store.close()
print()
print(0)
"""

_RESIDENT = """
import sys
from pathlib import Path

def peak_resident_mb():  # of this process image alone: ru_maxrss would count the one that started it too
    kib = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    return int(kib) * 1024 / 1e6

empty = peak_resident_mb()
from tracker.retention import Kept, removable
from tracker.tables.rows import MetricRow, RunRow
from tracker.store import Store

store = Store(Path(sys.argv[1]))
store.write([RunRow(f"run-{n}", "n", "p", "e", "g", "t", "d", "node", 100, 1.8e9 + n, "{}") for n in range(10)])
reader = store.reader()
for turn in range(5):
    first = 10_000_000 + turn * 2000
    store.write([MetricRow("run-9", "node-1", "local", "train", "loss", None, 100, 0, n, 0.5, 32, 1.8e9, "node-1", n)
                 for n in range(first, first + 2000)])
    for name, parameters in [("runs", {}), ("metrics", {"run_id": "run-9", "limit": 1000}),
                             ("metrics", {"run_id": "run-3", "node": "", "key": "loss"}),
                             ("logs_tail", {}), ("highest_sequences", {})]:
        reader.query(name, parameters)
# The care of the record, too, happens while the node goes on.
store.change(lambda connection: removable(connection, "metrics", Kept(days=1), 1.8e9, ()))
reader.check()
print(peak_resident_mb() - empty)
"""


def figures(rows_in_store: int = ROWS_IN_STORE) -> dict[str, float]:
    """ingest_rows_per_s, and store_resident_mb over an empty process, while writing and answering queries."""
    with tempfile.TemporaryDirectory() as directory:
        ingest = _run(_INGEST, Path(directory) / "ingest.duckdb", ROWS_IN)
        _run(FILL, Path(directory) / "full.duckdb", rows_in_store)
        resident = _run(_RESIDENT, Path(directory) / "full.duckdb", rows_in_store)
    return {"ingest_rows_per_s": round(ingest), "store_resident_mb": round(resident, 1)}


def _run(code: str, path: Path, rows: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(rows)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])  # DuckDB draws a progress bar before it in a process started with -c


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
