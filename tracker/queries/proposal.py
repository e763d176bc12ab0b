"""What a run was proposed with, and what differs from the run before it. Pure: rows of the record in, docs/api.md out.

A running node adds to it what it has of the code and the data that the run asks for (node.api.inbox.proposal).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from protocol.errors import FednodeError
from protocol.manifest.words import how_words
from tracker.queries.asking import Asking, answered_now

Json = dict[str, Any]

NOT_COMPARED = frozenset({"name"})  # runs have a name of their own; it stands above the page


def proposal(run: Json, parameters: Sequence[Json], previous: Json | None, parameters_before: Sequence[Json]) -> Json:
    """PROPOSAL of docs/api.md, of a row of the query "run"; whose node proposes it is for others to say."""
    configuration, before = configuration_of(parameters), configuration_of(parameters_before)
    return {
        "run_id": run["run_id"],
        "name": run["name"],
        "state": run["state"],
        "decision": run["decision"],
        "group_id": run["group_id"],
        "proposer": run["proposer"],
        "proposer_name": run["proposer_name"],
        "proposer_member": "",
        "proposer_member_name": "",
        "created_at": run["created_at"],
        "configuration": configuration,
        "how": how_words(configuration),
        "code": code_of(configuration),
        "data": data_of(configuration),
        "previous": previous,
        "differences": differences(before, configuration) if previous else [],
    }


def proposal_asked(run_id: str) -> Asking[Json]:
    """PROPOSAL without its proposer's member. Raises FednodeError where the record does not know the run."""
    runs = yield "run", {"run_id": run_id}
    if not runs:
        raise FednodeError("The record does not know this run", remedy="choose another one")
    before = next(iter((yield "proposed_before", {"run_id": run_id})), None)
    parameters = yield "parameters", {"run_id": run_id}
    parameters_before = (yield "parameters", {"run_id": before["run_id"]}) if before else []
    return proposal(runs[0], parameters, before, parameters_before)


def recorded_proposal(query: Callable[[str, Json], list[Json]], run_id: str) -> Json:
    """PROPOSAL out of a record alone. Blocks as `query` does. Raises FednodeError where it does not know the run."""
    view = answered_now(proposal_asked(run_id), query)
    members = query("nodes", {"node": view["proposer"]})
    return {**view, "proposer_member": members[0]["member_id"] if members else ""}


def configuration_of(parameters: Sequence[Json]) -> Json:
    """Dotted keys with their values, as the query "parameters" has them as texts."""
    return {row["key"]: _value(row["value"], row["type"]) for row in parameters}


def _value(text: str, kind: str) -> Any:
    """What is long or nested stays text: it is for people to read. So does what is no number by an import's word."""
    try:
        return json.loads(text) if kind in ("int", "float", "bool") else text
    except (ValueError, RecursionError):
        return text


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Json]:
    """The keys that do not have the same value, in their order; None where a key is missing."""
    keys = sorted((before.keys() | now.keys()) - NOT_COMPARED)
    return [
        {"key": key, "before": before.get(key), "now": now.get(key)} for key in keys if before.get(key) != now.get(key)
    ]


def code_of(configuration: Mapping[str, Any]) -> Json:
    """What code the run wants to have run, where nothing is known of what is here."""
    task, file, digest = (str(configuration.get(f"task.{key}") or "") for key in ("name", "file", "hash"))
    if not file:
        what = f"It runs the built-in task {task}: code that came with fednode. Nobody else's code runs here."
        return {"task": task, "kind": "built-in", "hash": "", "path": "", "here": True, "what": what}
    what = f"It runs the task file {file} (BLAKE3 {digest[:12]}…), which somebody wrote; code never travels by itself."
    return {"task": file, "kind": "file", "hash": digest, "path": "", "here": False, "what": what}


def data_of(configuration: Mapping[str, Any]) -> Json:
    """What data the run asks for, where nothing is known of what is here."""
    wanted = str(configuration.get("data.name") or "")
    what = f"It trains on a data set of yours called {wanted}. The data stays here; what is learned from it leaves."
    return {"wanted": wanted, "needed": True, "here": [], "what": what}
