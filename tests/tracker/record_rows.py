"""A record with a row in every table, for tests; and the making of the samples of stores that older versions wrote.

    python tests/tracker/record_rows.py tests/tracker/samples/store-v2.duckdb.gz

writes the sample of the version that the source has now. Do so when the version is about to grow: never change a
sample afterwards.
"""

import gzip
import sys
import tempfile
from pathlib import Path

from tracker.store import Store
from tracker.tables import rows
from tracker.tables.rows import Row

RUN, OTHER = "aa" * 32, "bb" * 32
BLOBS = ["01" * 32, "02" * 32, "03" * 32]
AT = 1_790_000_000.25


def every_row(run: str = RUN, node: str = "n1") -> list[Row]:
    """One row of each class, of two rounds of a run that has finished."""
    return [
        rows.RunRow(run, "study", "p", "e", "g", "digits", "digits", node, 2, AT, '{"task": {"hash": "ff"}}'),
        rows.ParameterRow(run, "training.rounds", "2", "int"),
        rows.DecisionRow(run, "accepted", "", AT),
        rows.ParticipantRow(run, node, True, 100, "trainer", "fp"),
        rows.ParticipantRow(run, "n2", True, 50, "trainer", "fp2"),
        rows.RoundRow(run, 1, 1, node, "cc" * 32, BLOBS[0], AT + 1, 2, "[]", 1000, 0.5),
        rows.RoundRow(run, 2, 1, node, "dd" * 32, BLOBS[1], AT + 2, 1, '[{"node_id": "n2", "reason": "late"}]', 9, 0.5),
        rows.ModelRow(run, 1, BLOBS[0], BLOBS[2], 40, AT + 1),
        rows.ModelRow(run, 2, BLOBS[1], BLOBS[2], 40, AT + 2),
        rows.ElectionRow(run, 1, node, AT),
        rows.ArtifactRow(run, node, "picture", "image", "04" * 32, 5, AT, 1, '{"width": 3}'),
        rows.NodeParameterRow(run, node, "lr", "0.1", "float", AT),
        rows.RegisteredModelRow("best", 1, run, 2, BLOBS[1], BLOBS[2], AT + 3),
        rows.ModelAliasRow("best", "champion", 1, AT + 3),
        rows.NodeRow(node, "alpha", "m1", "0.2", '{"cpu_cores": 2}', AT),
        rows.DataSetRow("digits", "/home/me/digits", "npz", 9, "fp", "{}", AT, False, '{"rows": 3}'),
        *[
            rows.StatusRow(run, "", state, "", 0, AT + n, 10 + n, node)
            for n, state in enumerate(("PROPOSED", "RUNNING", "FINISHED"))
        ],
        rows.StatusRow(run, "n2", "LOST", "gone", 1, AT, 20, node),
        rows.MetricRow(run, node, "global", "eval", "accuracy", None, 1, 0, 0, 0.5, 20, AT, node, 64),
        rows.MetricRow(run, node, "global", "eval", "accuracy", None, 2, 0, 0, 0.75, 20, AT, node, 65),
        rows.MetricRow(run, node, "local", "train", "loss", "cat", 1, 1, 7, float("nan"), 8, AT, node, 2**50),
        rows.LogRow(node, run, "WARNING", "task", "first line\nsecond", AT, 5),
        rows.LogRow(node, "", "INFO", "fednode.node", "up", AT, 6),
        rows.SpanRow(run, node, 1, "train", "", AT, 0.5, 0, node, 1),
        rows.SystemMetricRow(node, "", "host", "cpu_percent", "", 50.0, "percent", 0, AT, node, 1),
        rows.EvaluationRow(BLOBS[1], run, 2, "digits", "fp", 20, '{"accuracy": 0.75}', AT, node, 1),
    ]


def write_sample(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "store.duckdb"
        store = Store(place)
        store.write(every_row())
        store.close()
        path.write_bytes(gzip.compress(place.read_bytes(), mtime=0))


if __name__ == "__main__":
    write_sample(Path(sys.argv[1]))
