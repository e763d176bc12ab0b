"""The store of a stopped node with one finished run, for tests; and stores of whatever rows a test gives."""

import json

from tracker.store import Store
from tracker.tables.rows import (
    DecisionRow,
    ElectionRow,
    LogRow,
    MetricRow,
    NodeRow,
    ParticipantRow,
    RoundRow,
    RunRow,
    StatusRow,
)

START = 1_790_000_000.0
NODES = ("n-one", "n-two", "n-three")


def rows():
    yield RunRow("run-1", "digits-mlp", "p", "e", "g", "digits", "digits", "n-one", 3, START, "{}")
    yield DecisionRow("run-1", "accepted", "", START)
    yield ElectionRow("run-1", 1, "n-two", START)
    for node in NODES:
        capacity = json.dumps({"cpu_cores": 4, "memory_bytes": 8 * 2**30, "memory_free_bytes": 2**30})
        yield NodeRow(node, node[2:], "m", "0.1.0", capacity, START)
        yield ParticipantRow("run-1", node, True, 100)
        yield StatusRow("run-1", node, "FINISHED", "", 3, START + 9, 1, node)
    yield StatusRow("run-1", "", "RUNNING", "", 0, START + 1, 2, "n-one")
    yield StatusRow("run-1", "", "FINISHED", "all rounds done", 3, START + 9, 3, "n-one")
    sequence = 0
    for at in (1, 2, 3):
        refused = [{"node_id": "n-three", "reason": "not finite"}] if at == 2 else []
        yield RoundRow("run-1", at, 1, "n-two", "c", "m", START + at, 3 - len(refused), json.dumps(refused), 1000, 0.5)
        for index, node in enumerate(NODES):
            sequence += 1
            value = 0.3 * at - 0.05 * index
            yield MetricRow(
                "run-1", node, "global", "eval", "accuracy", None, at, 0, 0, value, 100, START, node, sequence
            )
    yield LogRow("n-one", "run-1", "INFO", "fednode.run", "round 3 committed", START + 3, 1)
    for line in range(40):
        yield LogRow("n-one", "run-1", "INFO", "fednode.run", f"line {line}", START + 3, 2 + line)
    yield LogRow("n-two", "run-1", "WARNING", "fednode.run", "something odd", START + 4, 1)


def store_of(path, rows):
    """A store with these rows, which nobody holds; gives `path`."""
    writing = Store(path)
    writing.write(list(rows))
    writing.close()
    return path
