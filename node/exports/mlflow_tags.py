"""What of a run MLflow is told in tags and states, and how the experiment is called."""

from typing import Any

from fednode_client import Client
from node.exports.source import Source

Json = dict[str, Any]
ENDED = frozenset({"FINISHED", "STOPPED", "FAILED"})
# MLflow knows five states.
STATES = {
    "PROPOSED": "SCHEDULED",
    "GATHERING": "SCHEDULED",
    "RUNNING": "RUNNING",
    "FINISHED": "FINISHED",
    "STOPPED": "KILLED",
    "FAILED": "FAILED",
}
CHILD_STATES = {
    "INVITED": "SCHEDULED",
    "READY": "SCHEDULED",
    "DECLINED": "KILLED",
    "FINISHED": "FINISHED",
    "FAILED": "FAILED",
    "LOST": "FAILED",
}
NAME_CHARACTERS_MAX = 500  # of an experiment: MLflow's limit
_ROWS_MAX = 10_000  # nodes of a run, or names of its models
_SEPARATOR = "_>_"  # as Synergos names its experiments
_MEANING = (
    "{task}, trained together by {nodes} nodes with fednode. Figures here are means over the nodes, weighted by their "
    "samples; each node's own are in its child run. The step is the round; in charts called progress it is the round "
    "times 1,000,000 and the step."
)


def experiment_name(source: Source, view: Json) -> str:
    """Group, project and experiment, as far as the run has them."""
    group = view["group_id"][:12]
    if isinstance(source, Client):
        names = {entry["group_id"]: entry["name"] for entry in source.groups()["groups"]}
        group = names.get(view["group_id"], group)
    parts = [part for part in (group, view["project"], view["experiment"]) if part]
    return _SEPARATOR.join(parts)[:NAME_CHARACTERS_MAX] or "fednode"


def run_tags(source: Source, view: Json) -> dict[str, str]:
    manifest = view.get("manifest") or {}
    told = {
        "mlflow.runName": view["name"],
        "mlflow.user": view["proposer_name"] or view["proposer"],
        "mlflow.source.name": view["task"],
        "mlflow.source.type": "JOB",
        "mlflow.note.content": _MEANING.format(task=view["task"], nodes=len(view["participants"])),
        "fed.run_id": view["run_id"],
        "fed.group_id": view["group_id"],
        "fed.project": view["project"],
        "fed.experiment": view["experiment"],
        "fed.task": view["task"],
        "fed.task_hash": manifest.get("task", {}).get("hash"),
        "fed.algorithm": manifest.get("aggregation", {}).get("rule"),
        "fed.data": view["data"],
        "fed.proposer": view["proposer"],
        "fed.parent_run_id": manifest.get("parent"),
        "fed.configuration_sha256": _configuration(source, view["run_id"]),
        "fed.registered_models": _registered(source, view["run_id"]),
        "fed.tags": ", ".join(manifest.get("tags", [])),
        "fed.state": view["state"],
        "fed.reason": view["reason"],
        "fed.rounds": view["rounds"],
        "fed.elections": view["elections"],
        "fed.aggregator": view["aggregator"],
    }
    return _given(told)


def _configuration(source: Source, run_id: str) -> str:
    rows = source.sql(f"SELECT source FROM lineage WHERE kind = 'configuration' AND run_id = '{run_id}'", 1)["rows"]
    return str(rows[0][0]) if rows else ""


def _registered(source: Source, run_id: str) -> str:
    """The names that this node has given the run's models: `digits 3 (round 20): champion`."""
    statement = f"""SELECT m.name, m.version, m.round, string_agg(a.alias, ', ' ORDER BY a.alias)
        FROM registered_models m LEFT JOIN model_aliases a
            ON a.name = m.name AND a.version = m.version AND NOT a.removed
        WHERE m.run_id = '{run_id}' AND NOT m.removed GROUP BY ALL ORDER BY m.name, m.version"""
    rows = source.sql(statement, _ROWS_MAX)["rows"]
    return "; ".join(
        f"{name} {version} (round {number})" + (f": {aliases}" if aliases else "")
        for name, version, number, aliases in rows
    )


def node_tags(source: Source, run_id: str) -> dict[str, dict[str, str]]:
    """What the record says about each node of a run beside its state: role, data, owner, version."""
    statement = f"""SELECT node_id, role, data_fingerprint, member_id, version
        FROM participants LEFT JOIN nodes USING (node_id) WHERE run_id = '{run_id}'"""
    names = ("fed.role", "fed.data_fingerprint", "fed.member_id", "fed.version")
    rows = source.sql(statement, _ROWS_MAX)["rows"]
    return {node: _given(dict(zip(names, values, strict=True))) for node, *values in rows}


def child_tags(view: Json, participant: Json, name: str, parent: str) -> dict[str, str]:
    told = {
        "mlflow.parentRunId": parent,
        "mlflow.runName": name,
        "mlflow.user": name,
        "mlflow.source.name": view["task"],
        "mlflow.source.type": "JOB",
        "fed.run_id": view["run_id"],
        "fed.node_id": participant["node_id"],
        "fed.node_name": name,
        "fed.state": participant["state"],
        "fed.reason": participant["reason"],
        "fed.samples": participant["samples"],
        "fed.voter": str(participant["voter"]).lower(),
    }
    return _given(told)


def _given(told: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in told.items() if value is not None and value != ""}
