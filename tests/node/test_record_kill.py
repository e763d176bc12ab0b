"""The record of a process that is killed again and again: at most the last flush interval of it is lost, nothing is
torn, nothing is there twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from node.record.record import FLUSH_INTERVAL_S
from tracker.store import Store

KILLS = (10, pytest.param(50, marks=pytest.mark.slow))
ROWS_MAX = 700  # of one life, about one a millisecond: lives of up to a flush interval and a half
SLACK_S = 1.0  # in which a busy machine may not have let the process run

# One process imports everything once; of it, one after another, come those that write and are killed.
WRITERS = """
import os, sys, time
from pathlib import Path
import trio
from node.record.record import StoreRecord
from tracker.tables.rows import MetricRow
from tracker.store import Store

def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # whole, whichever thread it comes from

class ToldStore(Store):
    def write(self, rows):
        began = time.monotonic()
        written = super().write(rows)
        tell("written", rows[-1].step, began, time.monotonic())
        return written

async def add(life):
    record = StoreRecord(ToldStore(Path(sys.argv[1])))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(record.run)
        number = 0
        while True:
            at = time.monotonic()
            place = life * 1_000_000 + number
            record.add(MetricRow("r", "n", "local", "train", "loss", None, life, 0, number, at, 1, at, "n", place))
            tell("added", number, at)
            number += 1
            await trio.sleep(0.0005)

for life, _ in enumerate(sys.stdin):
    child = os.fork()
    if not child:
        trio.run(add, life)
    tell("child", child)
    os.waitpid(child, 0)
    tell("gone")
"""


class Life:
    """What a writer has told until it was killed."""

    def __init__(self, writers: "subprocess.Popen[str]", rows: int) -> None:
        assert writers.stdin is not None
        self._writers = writers
        self.added: dict[int, float] = {}
        self.writes: list[tuple[int, float, float]] = []  # up to which row, when they began and were done
        self._is_gone = False
        writers.stdin.write("\n")
        writers.stdin.flush()
        child = 0
        while not child or len(self.added) < rows:
            child = self._listen() or child
        os.kill(child, signal.SIGKILL)
        self.killed_at = time.monotonic()
        while not self._is_gone:
            self._listen()

    def _listen(self) -> int:
        """Take in a line. The child's process id, if that is what it says."""
        assert self._writers.stdout is not None
        word, *values = self._writers.stdout.readline().split()
        if word == "added":
            self.added[int(values[0])] = float(values[1])
        elif word == "written":
            self.writes.append((int(values[0]), float(values[1]), float(values[2])))
        elif word == "gone":
            self._is_gone = True
        return int(values[0]) if word == "child" else 0


@pytest.mark.real
@pytest.mark.parametrize("kills", KILLS)
def test_kills_cost_a_flush_interval_each(kills: int, tmp_path: Path) -> None:
    path = tmp_path / "record.duckdb"
    randomness = random.Random(11)
    lost = 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path.cwd(),
    ) as writers:  # fmt: skip
        kept = {}
        for number in range(kills):
            life = Life(writers, randomness.randrange(1, ROWS_MAX))
            kept[number] = check(path, number, life)
            lost += len(life.added) - kept[number]
        assert stored(path) == {life: count for life, count in kept.items() if count}, (
            "what was there after a kill is there after all of them"
        )
        assert writers.stdin is not None
        writers.stdin.close()
        assert writers.wait() == 0
    assert lost > 0, "the kills came when there was nothing to lose"
    assert sum(kept.values()) > 0


def stored(path: Path) -> dict[int, int]:
    """How many rows of each life the store has, each once and none without those before it."""
    store = Store(path)
    try:
        _, rows, _ = store.reader().sql(
            "SELECT round, count(*), count(DISTINCT step), max(step) FROM metrics GROUP BY round ORDER BY round", 1000
        )
    finally:
        store.close()
    for life, count, steps, last in rows:
        assert count == steps == last + 1, f"life {life} left gaps, or something twice"
    return {life: count for life, count, _, _ in rows}


def check(path: Path, number: int, life: Life) -> int:
    """How many rows of a life were kept. Fails where one is lost that was older than a flush interval, counting apart
    what the writes in between took."""
    kept = stored(path).get(number, 0)
    oldest_lost = min((at for row, at in life.added.items() if row >= kept), default=life.killed_at)
    writing_s = sum(done - began for _, began, done in life.writes if done > oldest_lost)
    assert life.killed_at - oldest_lost < FLUSH_INTERVAL_S + writing_s + SLACK_S
    assert all(row < kept for row, _, _ in life.writes), "what was told to be written is not there"
    return kept
