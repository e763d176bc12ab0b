"""A store's file with three runs in it, for what looks at runs: figures to work out by hand, and hostile names."""

import json
from pathlib import Path
from typing import Any

from tracker.store import Store
from tracker.tables.rows import (
    ArtifactRow,
    DataSetRow,
    ElectionRow,
    EvaluationRow,
    MetricRow,
    ModelAliasRow,
    ModelRow,
    NodeParameterRow,
    NodeRow,
    ParameterRow,
    ParticipantRow,
    RegisteredModelRow,
    RoundRow,
    Row,
    RunRow,
    SpanRow,
    StatusRow,
    SystemMetricRow,
)

DAY = 1_800_000_000.0
HOSTILE = '<script src="https://evil.example/x.js">alert(1)</script>\x1b[2J\u202e'
NODES = {"n1": "ada", "n2": HOSTILE, "n3": "cy"}
RUNS = ("a1" * 32, "b2" * 32, "c3" * 32)
ROUNDS = 3


def manifest(rate: float, tags: list[str], parent: str = "", mixed: bool = False) -> dict[str, Any]:
    return {
        "name": "run",
        "project": "p",
        "tags": tags,
        "parent": parent,
        "task": {"name": None, "file": "mine.py", "hash": "ef" * 32, "parameters": {"odd key": "x" if mixed else 3}},
        "data": {"name": "digits"},
        "training": {"rounds": ROUNDS, "learning_rate": rate},
    }


def parameters(run: str, value: dict[str, Any], prefix: str = "") -> list[Row]:
    rows: list[Row] = []
    for key, entry in value.items():
        if isinstance(entry, dict):
            rows += parameters(run, entry, f"{prefix}{key}.")
        elif entry is not None:
            text = entry if isinstance(entry, str) else json.dumps(entry)
            rows.append(ParameterRow(run, f"{prefix}{key}", text, type(entry).__name__))
    return rows


def accuracy(run: int, node: int, round_number: int) -> float:
    return round(0.1 * round_number + 0.2 * run + 0.05 * node, 6)


def _measured(run: int, start: int) -> list[Row]:
    """Each node's accuracy and loss after each round, and the live training loss of the first node."""
    redone = _metric(RUNS[run], "n1", "global", "eval", "accuracy", ROUNDS, 0, 0.999, DAY, start + 999)
    rows: list[Row] = [redone]  # the last round was done twice: what came later counts
    for round_number in range(1, ROUNDS + 1):
        at = DAY + 100 * run + 10 * round_number
        for place, node in enumerate(NODES):
            figures = {"accuracy": accuracy(run, place, round_number), "loss": 1.0 / round_number + place}
            for key, value in figures.items():
                rows.append(
                    _metric(RUNS[run], node, "global", "eval", key, round_number, 0, value, at, start + len(rows))
                )
        for step in (1, 2, 3):
            value = 2.0 - 0.1 * (3 * round_number + step)
            rows.append(
                _metric(RUNS[run], "n1", "local", "train", "loss", round_number, step, value, at, start + len(rows))
            )
    return rows


def _metric(
    run: str, node: str, scope: str, split: str, key: str, round_number: int, step: int, value: float, at: float, n: int
) -> MetricRow:
    epoch = 1 if step else 0
    return MetricRow(run, node, scope, split, key, None, round_number, epoch, step, value, 10, at, node, n)


def _busy(run: int, start: int) -> list[Row]:
    """What each node did in each round, and how busy its machine was; of the first run alone."""
    made: list[Row] = []
    for number in range(1, ROUNDS + 1):
        begun = DAY + 100 * run + 10 * number - 9
        for place, node in enumerate(NODES):
            at, what = begun, [("train", "", 3.0 + place, 0), ("upload", "n1", 0.5, 4000), ("wait", "", 2.0, 0)]
            what += [("aggregate", "", 1.0, 0)] if node == "n1" else [("fetch", "n1", 0.4, 3000)]
            for name, peer, seconds, size in what:
                made.append(SpanRow(RUNS[run], node, number, name, peer, at, seconds, size, node, start + len(made)))
                at += seconds
            for key, unit, value in (("cpu_percent", "percent", 10.0 * number), ("memory_used_bytes", "bytes", 5e9)):
                made.append(SystemMetricRow(node, "", "host", key, "", value, unit, 0, begun, node, start + len(made)))
    return made


def _made(run: str) -> list[Row]:
    """What came of a run besides its models' figures."""
    return [
        ArtifactRow(run, "n1", "confusion.json", "picture", "a7" * 32, 1234, DAY + 30, 2),
        ArtifactRow(run, "n2", HOSTILE, "file", "a8" * 32, 99, DAY + 30, 3),
        NodeParameterRow(run, "n1", "warm_up", HOSTILE, "str", DAY + 6),
        RegisteredModelRow("digits-best", 1, run, 2, "2d" * 32, "5e" * 32, DAY + 40),
        ModelAliasRow("digits-best", "champion", 1, DAY + 41),
        ModelAliasRow("digits-best", "old", 1, DAY + 41, removed=True),
        RegisteredModelRow("gone", 1, run, 2, "2d" * 32, "5e" * 32, DAY + 40, removed=True),
        DataSetRow("other-digits", "/home/ada/secret/digits", "folder", 1, "f9" * 32, "{}", DAY),
        EvaluationRow("3d" * 32, run, 3, "/home/ada/secret/x.csv", "f8" * 32, 5, "{}", DAY + 50, "n1", 2),
        EvaluationRow("3d" * 32, run, 3, "other-digits", "f9" * 32, 50, '{"accuracy": 0.75}', DAY + 50, "n1", 1),
    ]


def rows() -> list[Row]:
    """Run a is finished and has refused an update, b follows from it and failed, c was only proposed."""
    made: list[Row] = [NodeRow(node, name, "M", "0.1", "{}", DAY) for node, name in NODES.items()]
    manifests = (manifest(0.1, ["pilot"]), manifest(0.01, ["pilot", "wide"], RUNS[0], mixed=True), manifest(0.5, []))
    for place, (run, name) in enumerate(zip(RUNS, ("study", "study", HOSTILE), strict=True)):
        wanted, at = manifests[place], DAY + 100 * place
        project = "q" if place == 2 else "p"
        made.append(
            RunRow(run, name, project, "e", "g" * 64, "mine.py", "digits", "n1", ROUNDS, at, json.dumps(wanted))
        )
        made += [*parameters(run, wanted), StatusRow(run, "", "PROPOSED", "", 0, at, 10 * place)]
        if place == 2:
            continue
        outcome = ("FINISHED", "") if place == 0 else ("FAILED", HOSTILE)
        made += _measured(place, 1000 * place)
        made += [ParticipantRow(run, node, True, 10, "trainer", f"{node}f" * 16) for node in NODES]
        made += [*_busy(place, 1000), *_made(run)] if place == 0 else []
        made += [StatusRow(run, "", "RUNNING", "", 0, at + 5, 10 * place + 1)]
        made += [StatusRow(run, "", *outcome, ROUNDS, at + 40, 10 * place + 2)]
        made += [ElectionRow(run, 1, "n1", at + 5), ElectionRow(run, 2, "n2", at + 25)]
        for number in range(1, ROUNDS + 1):
            refused = [{"node_id": "n3", "reason": f"not finite: {HOSTILE}"}] if number == 2 else []
            who, term = ("n1", 1) if number < 3 else ("n2", 2)
            hashes = f"{number}c" * 32, f"{number}d" * 32
            made.append(
                RoundRow(run, number, term, who, *hashes, at + 10 * number, 3, json.dumps(refused), 1000, 4.0 + number)
            )
            made.append(ModelRow(run, number, hashes[1], "5e" * 32, 5000, at + 10 * number))
    return made


def make_store(path: Path) -> Path:
    store = Store(path)
    store.write(rows())
    store.close()
    return path
