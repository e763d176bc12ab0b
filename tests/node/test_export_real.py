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
from export_ground import ARTIFACT, DAY, MODEL, NODES, PARAMETERS, RUN, Ground

from node.exports import mlflow as export_mlflow
from node.exports.mlflow import MlflowExport
from node.exports.mlflow_api import MlflowError, MlflowServer
from node.exports.system import system_points
from node.exports.tensorboard import export_tensorboard
from tracker.exports.points import Point, points_of

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


def expected_points(ground: Ground, *, every: bool = False) -> list[Point]:
    record = ground.record()
    machines = [point for _, point in system_points(record, record.run(RUN))]
    machines = [point for point in machines if every or point.time != DAY + 3.5]  # what was told twice is sent once
    return [*points_of(record.metrics(RUN)["metrics"]), *machines]


def check_points(ground: Ground, runs: dict[str, Any]) -> None:
    """Every point is there, and once; in the run of its node, with its own time."""
    expected = expected_points(ground)
    assert set(runs) == {"", *NODES}
    for node, found in runs.items():
        wanted = [(p.name, p.step, round(p.time * 1000), repr(p.value)) for p in expected if p.node_id == node]
        assert found["points"] == [list(point) for point in sorted(wanted)]


def by_node(server: str, experiment: str = "hospitals_>_vision_>_one") -> dict[str, Any]:
    found = [run for run in read_back("mlflow", server, RUN) if run["experiment"] == experiment]
    runs = {run["tags"].get("fed.node_id", ""): run for run in found}
    assert len(runs) == len(found)
    return runs


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_mlflow_has_every_point_parameter_tag_artifact_and_child(ground: Ground, server: str) -> None:
    told = export(ground, server)
    assert told["points_added"] == len(expected_points(ground))
    for _ in range(2):
        runs = by_node(server)
        check_points(ground, runs)
        for found in runs.values():
            assert (found["status"], found["start"]) == ("FINISHED", round((DAY + 0.5) * 1000))
            assert found["end"] == round((DAY + 9) * 1000)
        parent, anna, ben = (runs[node] for node in ("", *NODES))
        assert parent["params"] == {f"training.key_{number:03}": str(number) for number in range(PARAMETERS)}
        assert (anna["params"], ben["params"]) == ({"warm.up": "3"}, {"warm.up": "4"})
        assert parent["artifacts"] == {"global_model.safetensors": sha256(MODEL)}
        assert anna["artifacts"] == {"pictures/first one.png": sha256(ARTIFACT)}
        assert ben["artifacts"] == {}
        for found, name in ((anna, "Anna"), (ben, "Ben")):
            assert (found["tags"]["mlflow.parentRunId"], found["tags"]["mlflow.runName"]) == (parent["id"], name)
            assert found["tags"]["fed.role"] == "trainer"
        for tag, value in (
            *(("fed.algorithm", "mean"), ("fed.model_round", "3"), ("fed.tags", "first, second")),
            *(("fed.registered_models", "best 2 (round 3): champion"), ("mlflow.runName", "study")),
        ):
            assert parent["tags"][tag] == value
        again = export(ground, server)
        assert (again["points_added"], again["model"]) == (0, "there already")
        assert again["artifacts"].startswith("0 new")
        assert (again["mlflow_run_id"], again["children"]) == (parent["id"], 2)


@pytest.mark.parametrize("calls", [1, 4, 9, 12])
def test_an_export_that_was_interrupted_is_completed(
    ground: Ground, server: str, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The command ends after some calls, the last of which the server did and never answered."""
    connection, sending, experiment = MlflowServer(server), MlflowServer._send, f"interrupted after {calls}"
    left = iter(range(calls))

    def interrupted(self: MlflowServer, *arguments: Any, **more: Any) -> Any:
        done = sending(self, *arguments, **more)
        if next(left, None) is None:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(MlflowServer, "_send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        MlflowExport(connection, ground.client(), "study", experiment=experiment).once()
    monkeypatch.undo()
    MlflowExport(connection, ground.client(), "study", experiment=experiment).once()
    connection.close()
    check_points(ground, by_node(server, experiment))


def test_a_run_that_goes_on_is_followed_to_its_end(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, waits, seen = Ground(tmp_path), iter(range(100)), list[int]()
    ground.state("RUNNING")
    ground.rounds(0)

    def pass_time(_: float) -> None:
        number = next(waits)
        if number == 6:  # what a person sees who looks meanwhile
            runs = by_node(server, "followed")
            seen.extend(step for name, step, *_ in runs[NODES[0]]["points"] if name == "global_eval/accuracy")
            assert runs[""]["status"] == "RUNNING"
        if number < 12:
            ground.rounds(number + 1)
        elif number == 12:
            ground.state("FINISHED", at=DAY + 30)

    monkeypatch.setattr(export_mlflow.time, "sleep", pass_time)
    connection = MlflowServer(server)
    told = MlflowExport(connection, ground.client(), "study", experiment="followed").follow()
    connection.close()
    assert seen == list(range(7))
    runs = by_node(server, "followed")
    check_points(ground, runs)
    assert told["state"] == runs[""]["status"] == "FINISHED"


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
    expected = expected_points(ground, every=True)
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
