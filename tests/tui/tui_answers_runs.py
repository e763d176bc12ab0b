"""What a node says of earlier runs than the recorded ones: a page of the list, their manifests and their curves."""

import math
from datetime import UTC, datetime, timedelta

from tui_answers_run import MANIFEST
from tui_fakes import recorded

START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
EARLIER = (  # name, learning rate, rule, rounds done of 10, accuracy in the end
    ("digits-slow", 0.01, "mean", 10, 0.8123),
    ("digits-median", 0.05, "median", 10, 0.9342),
    ("digits-hasty", 0.8, "mean", 4, 0.3077),
    ("digits-pilot", 0.05, "mean", 10, 0.9105),
)


def earlier(at):
    name, _, _, done, accuracy = EARLIER[at]
    first = recorded()[0]["runs"][0]
    began = START - timedelta(hours=3 * at)
    run = {
        key: first[key] for key in ("project", "experiment", "task", "data", "proposer", "proposer_name", "elections")
    }
    run |= {"run_id": f"e{at}5f3a9c2e7b41d8", "name": name, "round": done, "rounds": 10, "decision": "accepted"}
    run |= {"state": "FINISHED" if done == 10 else "FAILED", "reason": "" if done == 10 else "loss is not finite"}
    run |= {"created_at": began.isoformat(), "started_at": (began + timedelta(minutes=1)).isoformat()}
    run |= {"ended_at": (began + timedelta(minutes=6 + at)).isoformat(), "term": 1, "seconds_left": None}
    return run | {"accuracy": accuracy, "loss": round(1.4 - accuracy, 4), "aggregator": first["aggregator"]}


def manifest(at):
    name, rate, rule, _, _ = EARLIER[at]
    training = {**MANIFEST["training"], "learning_rate": rate}
    return {**MANIFEST, "name": name, "training": training, "aggregation": {**MANIFEST["aggregation"], "rule": rule}}


def means(at):
    done, accuracy = EARLIER[at][3:]
    place = {"run_id": earlier(at)["run_id"], "node_id": "", "scope": "global", "split": "eval", "class": None}
    for turn in range(1, done + 1):
        value = accuracy * (1 - math.exp(-turn / 2))
        for key, figure in (("accuracy", value), ("loss", 1.4 - value)):
            yield {**place, "key": key, "round": turn, "epoch": 0, "step": 0, "value": round(figure, 4), "samples": 100}


RUNS = [earlier(at) for at in range(len(EARLIER))]
ANSWERS = {
    "runs": {"runs": [*reversed(recorded()[0]["runs"]), *RUNS], "total": 2 + len(RUNS)},
    "projects": {"projects": [{"project": "ward-study", "runs": 2 + len(RUNS)}]},
    "metrics": {"metrics": [figure for at in range(len(EARLIER)) for figure in means(at)]},
    **{run["run_id"]: {**run, "participants": [], "manifest": manifest(at)} for at, run in enumerate(RUNS)},
}
