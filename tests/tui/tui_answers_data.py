"""What a node of the tests answers about its data sets, models and artifacts, by the last part of the path."""

RUN, MEMBER = "005f3a9c2e7b41d8", "12D3KooWaaaaaa000war"
ADDED = "2026-11-20T09:30:00Z"


def data_set(name, kind, size, fingerprint, rows):
    base = {"name": name, "path": f"/srv/study/{name}", "kind": kind, "bytes": size, "fingerprint": fingerprint}
    return {**base, "added_at": ADDED, "options": {}, "rows": rows}


def model(version, round_number, accuracy, *aliases, here=True):
    told = {"run_id": RUN, "run": "digits-mlp", "round": round_number, "checkpoint": "c4" * 32, "here": here}
    told |= {"model": f"{version}b" * 32, "schema": "5c" * 32, "bytes": 9_920_000, "time": "2026-11-21T14:00:18Z"}
    told |= {"accuracy": accuracy, "loss": 1 - accuracy, "measured_by": 5, "name": "digits", "version": version}
    names = [{"name": "digits", "version": version, "aliases": list(aliases)}]
    return told | {"aliases": list(aliases), "tagged_at": ADDED, "names": names}


def artifact(name, kind, size, round_number, **details):
    made = {"run_id": RUN, "node_id": MEMBER, "node_name": "ward-north", "name": name, "round": round_number}
    return {**made, "kind": kind, "bytes": size, "blob": "ef" * 32, "time": "2026-11-21T14:00:12Z", "details": details}


SETS = [
    data_set("patients", "csv", 4_200_000, "a91c33d04e5f6071", 18_240),
    data_set("scans", "folder", 3_900_000_000, "77be01c2a4d96e35", None),
    data_set("digits", "npz", 910_000, "0c55aa19e2b7f480", 1_797),
]
COLUMNS = [
    {"name": "age", "type": "integer", "missing": 12, "unique": 83, "min": 18.0, "max": 97.0, "mean": 54.2}
    | {"std": 17.1, "quartiles": [41.0, 55.0, 68.0]},
    {"name": "ward", "type": "varchar", "missing": 0, "unique": 4}
    | {"top": [["north", 7200], ["south", 5100], ["icu", 4200], ["lab", 1740]]},
    {"name": "crp", "type": "double", "missing": 431, "unique": 9_801, "min": 0.1, "max": 312.0, "mean": 24.7}
    | {"std": 40.3, "quartiles": [2.0, 8.5, 31.0]},
    {"name": "outcome", "type": "boolean", "missing": 0, "unique": 2, "top": [["false", 15_900], ["true", 2_340]]},
]
STATISTICS = {"rows": 18_240, "rows_read": 18_240, "columns": COLUMNS}
FOLDER = {"files": 9_000, "suffixes": [[".png", 8_990], [".txt", 10]], "folders": [["healthy", 6_000], ["ill", 3_000]]}
LINEAGE = {"project": "wards", "experiment": "baseline", "group_id": "g1", "task": "digits", "task_hash": "7a" * 32}
LINEAGE |= {"task_parameters": {"hidden": 256}, "parent": "", "seed": 7, "proposer": MEMBER, "created_at": ADDED}
LINEAGE |= {"term": 2, "aggregator": "12D3KooWcccccc002icu", "updates_used": 5}
TRAINED = {"node_id": MEMBER, "name": "ward-north", "role": "trainer", "samples": 1_200}
LINEAGE |= {"data": [TRAINED | {"data_fingerprint": "0c55aa19e2b7f480"}]}
EVALUATION = {"model": "3b" * 32, "run_id": RUN, "round": 6, "data": "digits", "data_fingerprint": "0c55"}
EVALUATION |= {"rows": "held-out", "samples": 360, "metrics": {"accuracy": 0.9417, "loss": 0.21}, "time": ADDED}
MODELS = [model(3, 6, 0.8123, "candidate"), model(2, 4, 0.7412, "production"), model(1, 1, 0.3668, here=False)]

ANSWERS = {
    "data": {"data": SETS},
    "patients": {**SETS[0], "statistics": STATISTICS},
    "scans": {**SETS[1], "statistics": FOLDER},
    "digits": {**SETS[2], "statistics": {"note": "no statistics: the file is damaged"}},
    "models": {"models": MODELS},
    "digits@3": {**MODELS[0], "lineage": LINEAGE, "evaluations": [EVALUATION]},
    "digits@2": {**MODELS[1], "lineage": LINEAGE, "evaluations": []},
    "artifacts": {
        "artifacts": [
            artifact("confusion.png", "figure", 48_000, 6, width=640, height=480),
            artifact("errors/misread.csv", "table", 12_300, 6, rows=61),
            artifact("weights-histogram.npz", "array", 220_000, 5),
        ]
    },
}
