"""The files of a run in MLflow: its newest model beside the parent run, this node's artifacts beside its child run.

A file's tag says which blob it is, and is written after the file: what broke off half-way is sent again, to its place.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from fednode_client import Client, RequestRefused
from node.exports.mlflow_api import MlflowServer
from node.exports.mlflow_target import Target
from node.exports.source import Source
from tracker.exports.points import clean_name

MODEL_FILE = "global_model.safetensors"
ARTIFACTS_MAX = 1000  # of one node in one run: more are no longer looked through by anybody
ARTIFACT_TAG = "fed.artifact/"
_NOT_PASSED_ON = "left out: the server passes no artifacts on (mlflow server --serve-artifacts does)"
_ONLY_FILE = "left out: a store's file has no {}; export from the running node"


def put_model(server: MlflowServer, source: Source, run_id: str, parent: Target, tell: Callable[[str], None]) -> str:
    """Put the newest model beside the run; gives what became of it."""
    if not isinstance(source, Client):
        return _ONLY_FILE.format("models")
    rows = source.sql(f"SELECT round, model FROM models WHERE run_id = '{run_id}' ORDER BY round DESC", 1)["rows"]
    if not rows:
        return "left out: no checkpoint is committed"
    number, model = rows[0]
    if parent.tags.get("fed.model") == model:
        return "there already"
    tell(f"the model of round {number}")
    said = _put(server, parent, MODEL_FILE, partial(source.model, run_id, number))
    if said:
        return said
    parent.tag({"fed.model": model, "fed.model_round": str(number)})
    return f"round {number}"


def put_artifacts(
    server: MlflowServer, source: Source, run_id: str, targets: Mapping[str, Target], tell: Callable[[str], None]
) -> str:
    """Put what this node's task made beside this node's run; gives what became of it. Other nodes' stay with them."""
    rows = source.sql(
        f"SELECT node_id, name, blob FROM artifacts WHERE run_id = '{run_id}' ORDER BY name", ARTIFACTS_MAX
    )["rows"]
    if not rows:
        return "none"
    if not isinstance(source, Client):
        return _ONLY_FILE.format("artifacts")
    me = source.status()["node_id"]
    made = 0
    for node, name, blob in rows:
        target, tag = targets.get(node), clean_name(ARTIFACT_TAG + name)
        if node != me or target is None or target.tags.get(tag) == blob:
            continue
        tell(f"the artifact {name}")
        said = _put(server, target, clean_name(name), partial(source.artifact, run_id, me, name))
        if said:
            return said
        target.tag({tag: blob})
        made += 1
    others = sum(node != me for node, _, _ in rows)
    return f"{made} new" + (f", {others} of other nodes stay with them" if others else "")


def _put(server: MlflowServer, target: Target, name: str, pieces: Callable[[], Iterable[bytes]]) -> str:
    """Send a file; gives why it could not be, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        try:
            with path.open("wb") as file:
                file.writelines(pieces())
        except RequestRefused as error:
            return f"left out: {error.what}"
        return "" if server.upload(target.artifact_uri, name, path) else _NOT_PASSED_ON
