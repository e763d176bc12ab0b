"""Exports read back by their own tools: a real MLflow server with SQLite and its client, and TensorBoard's reader.

Both live in an environment of their own, for they want other versions of what fednode needs; make test-slow makes it.
"""

import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from export_ground import DAY, MODEL, NODES, PARAMETERS, RUN, Ground

from node.export_mlflow import MlflowExport
from node.export_mlflow_api import MlflowError, MlflowServer
from node.export_tensorboard import export_tensorboard
from tracker.export_points import Point, points_of

TOOLS = Path(os.environ.get("FEDNODE_SLOW_PYTHON") or Path(sys.prefix) / "slow" / "bin" / "python")
READBACK = Path(__file__).with_name("export_readback.py")
START_DEADLINE_S = 180  # it took 38 s on a busy machine of two cores
LOOK_EVERY_S = 0.2
QUIET = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not TOOLS.exists(), reason=f"no MLflow and TensorBoard at {TOOLS}; make test-slow installs them"
    ),
]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    ground = Ground(tmp_path)
    ground.everything()
    return ground


def answers(uri: str, process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether the server does, in time; False at once when it has ended."""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return True
        except OSError:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_EVERY_S)
                return False
    return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [TOOLS, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", folder / "artifacts", "--serve-artifacts", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=QUIET, cwd=folder, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        assert answers(uri, process, time.monotonic() + START_DEADLINE_S), (folder / "log").read_text()
        yield uri
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def read_back(*arguments: object) -> Any:
    command = [TOOLS, READBACK, *map(str, arguments)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=QUIET)
    return json.loads(told.stdout.splitlines()[-1])


def export(ground: Ground, uri: str) -> dict[str, Any]:
    connection = MlflowServer(uri)
    try:
        return MlflowExport(connection, ground.client(), "study").once()
    finally:
        connection.close()


def expected_points(ground: Ground) -> list[Point]:
    return list(points_of(ground.record().metrics(RUN)["metrics"]))


def test_mlflow_has_every_point_parameter_tag_artifact_and_child(ground: Ground, server: str) -> None:
    told = export(ground, server)
    expected = expected_points(ground)
    assert told["points_added"] == len(expected)
    for _ in range(2):
        runs = {run["tags"].get("fed.node_id", ""): run for run in read_back("mlflow", server, RUN)}
        assert set(runs) == {"", *NODES}
        for node, found in runs.items():
            wanted = [(p.name, p.step, round(p.time * 1000), repr(p.value)) for p in expected if p.node_id == node]
            assert found["points"] == [list(point) for point in sorted(wanted)]
            assert (found["status"], found["start"]) == ("FINISHED", round((DAY + 0.5) * 1000))
            assert found["end"] == round((DAY + 9) * 1000)
            assert found["experiment"] == "hospitals_>_vision_>_one"
        parent = runs.pop("")
        assert {run["tags"]["mlflow.parentRunId"] for run in runs.values()} == {parent["id"]}
        assert sorted(run["tags"]["mlflow.runName"] for run in runs.values()) == ["Anna", "Ben"]
        assert parent["params"] == {f"training.key_{number:03}": str(number) for number in range(PARAMETERS)}
        assert parent["artifacts"] == {"global_model.safetensors": hashlib.sha256(MODEL).hexdigest()}
        assert (parent["tags"]["fed.algorithm"], parent["tags"]["fed.model_round"]) == ("mean", "3")
        again = export(ground, server)
        assert (again["points_added"], again["model"]) == (0, "there already")
        assert (again["mlflow_run_id"], again["children"]) == (parent["id"], 2)


def test_mlflows_own_message_is_said(server: str) -> None:
    connection = MlflowServer(server)
    with pytest.raises(MlflowError) as caught:
        connection.log_batch("0" * 32, tags=[{"key": "a", "value": "b"}])
    assert (caught.value.code, "not found" in caught.value.what) == ("RESOURCE_DOES_NOT_EXIST", True)
    with pytest.raises(MlflowError) as caught:
        connection.experiment("x" * 501)
    assert (caught.value.code, "500" in caught.value.what) == ("INVALID_PARAMETER_VALUE", True)
    connection.close()


def test_tensorboard_reads_every_scalar(ground: Ground, tmp_path: Path) -> None:
    told = export_tensorboard(ground.client(), "study", tmp_path / "logs", lambda _: None)
    found = read_back("tensorboard", told["folder"])
    expected = expected_points(ground)
    names = {NODES[0]: "Anna-aaaaAnna", NODES[1]: "Ben-bbbbbBen", "": "mean"}
    assert set(found) == set(names.values())
    for node, name in names.items():
        wanted = [[p.name, p.step, p.time, as_read(p.value)] for p in expected if p.node_id == node]
        assert found[name] == sorted(wanted)


def as_read(value: float) -> str:
    """With the 32 bits that TensorBoard keeps."""
    if abs(value) > 3.5e38:
        return repr(float("inf") if value > 0 else float("-inf"))
    return repr(struct.unpack("<f", struct.pack("<f", value))[0])
