"""A store's file with three runs in it, for what looks at runs: figures to work out by hand, and hostile names."""

import json
from pathlib import Path
from typing import Any

from tracker.rows import (
    ElectionRow,
    MetricRow,
    ModelRow,
    NodeRow,
    ParameterRow,
    ParticipantRow,
    RoundRow,
    Row,
    RunRow,
    StatusRow,
)
from tracker.store import Store

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
        made += [ParticipantRow(run, node, True, 10) for node in NODES]
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
