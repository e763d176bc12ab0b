"""A writer that is killed, again and again, loses nothing that it was told is durable, and leaves nothing torn."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tracker.blobs.blobs import BlobStore
from tracker.journal import Journal
from tracker.store import Store

KILLS = 15
ROWS = 200

WRITER = """
import random, sys
from pathlib import Path
from tracker.blobs.blobs import BlobStore
from tracker.journal import Journal
from tracker.tables.rows import MetricRow
from tracker.store import Store

home = Path(sys.argv[1])
journal, blobs, store = Journal(home / "journal"), BlobStore(home / "blobs"), Store(home / "store.duckdb")
number = len(journal.records())
while True:
    journal.append(b"%d" % number)
    first = number * ROWS
    store.write([
        MetricRow("r", "a", "local", "train", "loss", None, number, 0, n, 1.0, 8, 1.5, "a", n)
        for n in range(first, first + ROWS)
    ])
    blob = blobs.put(random.Random(number).randbytes((number % 3) * 700_000))
    print(number, blob, flush=True)
    number += 1
""".replace("ROWS", str(ROWS))


@pytest.mark.real
def test_killed_again_and_again(tmp_path: Path) -> None:
    randomness = random.Random(7)
    acknowledged: dict[int, str] = {}
    for _ in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert writer.stdout is not None
        try:
            for _ in range(randomness.randrange(1, 12)):
                number, blob = writer.stdout.readline().split()
                acknowledged[int(number)] = blob
        finally:
            writer.kill()
            rest, _ = writer.communicate()
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                acknowledged[int(line.split()[0])] = line.split()[1]
        check(tmp_path, acknowledged)
    assert len(acknowledged) > KILLS


def check(home: Path, acknowledged: dict[int, str]) -> None:
    journal, blobs, store = Journal(home / "journal"), BlobStore(home / "blobs"), Store(home / "store.duckdb")
    try:
        written = [int(record) for record in journal.records()]
        assert written == list(range(len(written)))
        assert set(acknowledged) <= set(written)
        _, rounds, _ = store.reader().sql("SELECT round, count(*) FROM metrics GROUP BY round", 10_000)
        assert {count for _, count in rounds} <= {ROWS}
        assert set(acknowledged) <= {number for number, _ in rounds}
        assert set(acknowledged.values()) <= set(blobs.blobs())
        for blob in blobs.blobs():
            blobs.verify(blob)
    finally:
        journal.close()
        store.close()
