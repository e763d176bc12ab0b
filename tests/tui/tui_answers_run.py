"""What a node says of the recorded run's past: curves, updates, what befell it, spans, its manifest."""

from datetime import datetime, timedelta

from tui_fakes import recorded

IDS = [peer["node_id"] for peer in recorded()[0]["peers"]]
NAMES = [peer["name"] for peer in recorded()[0]["peers"]]
START = datetime.fromisoformat("2026-11-21T14:00:08+00:00")
ROUND_S = 2.0  # a round, in the recording


def at(seconds):
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def happening(seconds, number, kind, node=None, text=""):
    who = {"node_id": "" if node is None else IDS[node], "node_name": "" if node is None else NAMES[node]}
    return {"time": at(seconds), "round": number, "kind": kind, **who, "text": text}


def update(number, node, outcome="used", **more):
    row = {"run_id": "r", "round": number, "time": at(ROUND_S * number), "node_id": IDS[node], "node_name": NAMES[node]}
    row |= {"samples": 120 + 17 * node, "bytes": 1_240_000, "weight": 100, "norm": 1.1 + node / 10 - number / 20}
    return row | {"outcome": outcome, "reason": "", "audited": 2, **more}


def updates(rounds=6):
    """Each node's in each round; one is refused, one late, and of one nobody has computed the norm."""
    rows = []
    for number in range(rounds, 0, -1):
        for node in range(5):
            more = {"norm": None} if node == 1 else {}
            if (number, node) == (6, 4):
                more = {"outcome": "refused", "reason": "norm-too-large: its norm 41.2 is over the bound of 10"}
                more |= {"weight": 0, "norm": None}
            if (number, node) == (6, 3):
                more = {"outcome": "late"}
            if not (node == 2 and number >= 5):
                rows.append(update(number, node, **more))
    return rows


def span(number, node, name, began, seconds):
    place = {"run_id": "r", "node_id": IDS[node], "round": number, "name": name, "peer": "", "bytes": 0}
    return place | {"started_at": at(began), "seconds": seconds, "source_node": IDS[node]}


def spans(rounds=7):
    rows = []
    for number in range(1, rounds + 1):
        began = ROUND_S * (number - 1)
        for node in range(5):
            train = 0.7 + 0.13 * node
            rows += [
                span(number, node, "fetch", began, 0.12),
                span(number, node, "train", began + 0.12, train),
                span(number, node, "encode", began + 0.12 + train, 0.06),
                span(number, node, "upload", began + 0.18 + train, 0.16),
                span(number, node, "wait", began + 0.34 + train, 1.9 - train - 0.34),
            ]
            if node == 2:
                rows.append(span(number, node, "aggregate", began + 1.5, 0.2))
            rows.append(span(number, node, "evaluate", began + 1.9, 0.1))
    return rows


MANIFEST = {
    "name": "digits-mlp",
    "task": {"name": "digits", "parameters": {"hidden": [256, 128]}},
    "data": {"name": "digits"},
    "training": {"rounds": 10, "epochs": 2, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.05},
    "aggregation": {"rule": "mean", "norm_max": 10.0, "server_optimizer": "none", "codec": "fp32"},
    "roster": {"nodes_min": 3, "nodes_max": 8},
    "audit": "spot",
    "parent": None,
    "seed": 7,
}
KINDS = [("global", "eval", "accuracy"), ("global", "eval", "loss"), ("local", "train", "accuracy")]
KINDS += [("local", "train", "loss")]
ANSWERS = {
    "series": {
        "series": [
            {"scope": scope, "split": split, "key": key, "class": None, "nodes": 5, "rows": 30, "last_round": 6}
            for scope, split, key in KINDS
        ]
    },
    "timeline": {
        "events": [
            happening(-2, 1, "started"),
            happening(-1.5, 1, "elected", 2, "term 1"),
            happening(6, 3, "refused", 4, "norm 41.2 is over the limit of 10"),
            happening(8.9, 5, "lost", 2, "connection lost"),
            happening(9.4, 5, "silent", None, "no aggregator is heard"),
            happening(9.8, 5, "elected", 3, "term 2"),
        ]
    },
    "updates": {"updates": updates()},
    "spans": {"spans": spans()},
    "005f3a9c2e7b41d8": {"run_id": "005f3a9c2e7b41d8", "manifest": MANIFEST},
}
