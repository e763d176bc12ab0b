"""Where a committed model comes from, and what was measured of it, as the record knows it.

Put as questions to whoever has the record: see tracker.queries.asking.
"""

from collections.abc import Mapping
from typing import Any

from tracker.queries.asking import Asking

Json = dict[str, Any]
EVALUATIONS_SHOWN = 100


def lineage_of(model: Mapping[str, Any]) -> Asking[Json]:
    """Where a MODEL comes from, as docs/api.md has it, and what was measured of it here."""
    runs = yield "run", {"run_id": model["run_id"]}
    run: Json = runs[0] if runs else {}
    manifest: Json = run.get("manifest") or {}
    task: Json = manifest.get("task") or {}
    committed = yield "rounds", {"run_id": model["run_id"], "after_round": model["round"] - 1}
    at = next((row for row in committed if row["round"] == model["round"]), {})
    data = yield "model_data", {"run_id": model["run_id"]}
    evaluations = yield "evaluations", {"model": model["model"], "limit": EVALUATIONS_SHOWN}
    facts = {key: run.get(key, "") for key in ("project", "experiment", "group_id", "task", "proposer", "created_at")}
    lineage = {
        **facts,
        "task_hash": task.get("hash") or "",
        "task_parameters": task.get("parameters") or {},
        "parent": manifest.get("parent") or "",
        "seed": manifest.get("seed"),
        "term": at.get("term"),
        "aggregator": at.get("aggregator", ""),
        "updates_used": at.get("updates_used"),
        "data": data,
    }
    return {"lineage": lineage, "evaluations": evaluations}
