"""A report's lineage: what the run came from, what it learned from, and what came of it."""

import json

from node.cli import show
from node.cli.report_told import Told, utc


def lineage(told: Told) -> str:
    from node.exports.report import heading, table

    first = table(["what", "name or hash", ""], _origin(told), codes=[1])
    return first + heading("Data it learned from") + _data(told) + heading("Models") + _models(told)


def _origin(told: Told) -> list[tuple[str, object, object]]:
    run, manifest = told.run, told.run["manifest"]
    task, newest = manifest.get("task", {}), told.rounds[-1] if told.rounds else {}
    parent = manifest.get("parent") or ""
    configuration = next((source for kind, source, _ in told.lineage if kind == "configuration"), None)
    return [
        ("run", run["run_id"], "the hash of its proposal"),
        ("task", task.get("name") or task.get("file"), "built into fednode" if task.get("name") else "a file"),
        ("task's file, BLAKE3", task.get("hash"), "" if task.get("hash") else "none: the task is built in"),
        ("configuration, SHA-256", configuration, "of the manifest as the record has it"),
        ("data set", run["data"], "each node's own, under this name; it never leaves its node"),
        ("starts from run", parent or None, (told.parent or "not in this record") if parent else "none"),
        *(("a run that starts from it", child, name) for child, name in told.children),
        ("group", run["group_id"], ""),
        ("proposer", run["proposer"], run["proposer_name"]),
        ("newest checkpoint", newest.get("checkpoint"), f"round {newest['round']}" if newest else ""),
        ("newest model", newest.get("model"), ""),
        ("tensor schema", told.models[-1][2] if told.models else None, ""),
    ]


def _data(told: Told) -> str:
    from node.exports.report import note, table

    if not told.participants:
        return note("Nobody takes part yet.")
    rows = [(told.name(node), role, samples, mark) for node, role, samples, mark in told.participants]
    rows.sort(key=lambda row: str(row[0]))
    unknown = note("Who has no fingerprint has not told it.") if any(not row[3] for row in rows) else ""
    return table(["node", "role", "samples", "fingerprint of its data"], rows, codes=[3]) + unknown


def _models(told: Told) -> str:
    from node.exports.report import folded, note, table

    checkpoints = {each["round"]: each["checkpoint"] for each in told.rounds}
    called: dict[int, list[str]] = {}
    for name, version, number, aliases in told.registered:
        called.setdefault(number, []).append(f"{name} {version}" + (f" ({aliases})" if aliases else ""))
    rows = [
        (number, checkpoints.get(number), model, show.size(size), ", ".join(called.get(number, ())))
        for number, model, _, size in told.models
    ]
    if not rows:
        return note("No model yet.")
    columns = ["round", "checkpoint", "model", "size", "registered as"]
    named = [row for row in rows if row[0] in called]
    shown = table(columns, named, codes=[1, 2]) if named else ""
    return shown + folded("Models of all rounds", table(columns, rows, codes=[1, 2])) + _evaluations(told)


def _evaluations(told: Told) -> str:
    from node.exports.report import heading, table

    if not told.evaluations:
        return ""
    rows = [
        (number, data, samples, _figures(metrics), mark, utc(at))
        for _, number, data, mark, samples, metrics, at in told.evaluations
    ]
    columns = ["model of round", "data set here", "samples", "figures", "fingerprint", "time"]
    return heading("Measured here on other data") + table(columns, rows, codes=[4])


def _figures(metrics: str) -> str:
    told = json.loads(metrics)
    return ", ".join(
        f"{key} {show.figure(value) if isinstance(value, float) else value}" for key, value in told.items()
    )


def artifacts(told: Told) -> str:
    from node.exports.report import table

    rows = [
        (told.name(node), name, kind, number, show.size(size), blob, utc(at))
        for node, name, kind, number, size, blob, at in told.artifacts
    ]
    return table(["node", "name", "kind", "round", "size", "blob", "time"], rows, codes=[5])
