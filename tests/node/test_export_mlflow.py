"""fednode export mlflow against a small server that keeps every point it is sent: what arrives, what a second export
adds, and what is said when the server says no."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_ground import run
from export_ground import ARTIFACT, DAY, MODEL, NODES, PARAMETERS, RUN, Ground, SmallMlflow, small_mlflow

from node.exports import mlflow as export_mlflow
from node.exports.mlflow import MlflowExport
from node.exports.mlflow_api import MlflowError, MlflowServer
from tracker.exports.points import STEPS_OF_A_ROUND
from tracker.tables.rows import NodeRow


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallMlflow]:
    for name in ("TOKEN", "USERNAME", "PASSWORD", "URI"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setattr("node.exports.mlflow_api.AGAIN_AFTER_S", (0.0, 0.0))
    with small_mlflow() as server:
        yield server


def exported(ground: Ground, mlflow: SmallMlflow, **options: Any) -> dict[str, Any]:
    server = MlflowServer(mlflow.uri)
    try:
        return MlflowExport(server, ground.client(), "study", **options).once()
    finally:
        server.close()


def values(mlflow: SmallMlflow, node: str, key: str) -> dict[int, Any]:
    return {step: value for name, step, _, value in mlflow.points_of(node) if name == key}


# --- what arrives ----------------------------------------------------------------------------------------------
def test_everything_arrives_with_its_time_and_step(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.everything()
    told = exported(ground, mlflow)
    first, mean = mlflow.points_of(NODES[0]), mlflow.points_of("")
    assert ("global_eval/accuracy", 3, round((DAY + 3.25) * 1000), 3 / 7) in first
    assert ("local_train/loss", 3, round((DAY + 3.25) * 1000), 2 / 6) in first
    progress = values(mlflow, NODES[0], "local_train_progress/loss")
    assert progress == {2 * STEPS_OF_A_ROUND + step: 1 / step for step in range(1, 1205)}
    assert values(mlflow, NODES[0], "global_eval/norm") == {1: "NaN", 2: "NaN"}
    assert values(mlflow, "", "Test/Acc") == values(mlflow, "", "global_eval/accuracy")
    assert values(mlflow, "", "Test/Acc")[3] == pytest.approx(3 / 7 + 0.5)
    assert values(mlflow, "", "global_evaluate_loss") == values(mlflow, "", "Test/Loss")
    assert values(mlflow, "", "global_train_loss")[2] == pytest.approx(2 / 5)
    assert values(mlflow, "", "TPRs_class_0") == {3: 0.5}
    assert not [point for point in mean if "progress" in point[0]]
    assert told["points_added"] == sum(map(len, mlflow.points.values()))
    assert max(len(batch.get("metrics", ())) for batch in mlflow.batches) == 1000


def test_parent_and_children_parameters_tags_and_the_model(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.everything()
    told = exported(ground, mlflow)
    parent, child = mlflow.of_node(""), mlflow.of_node(NODES[1])
    assert list(mlflow.experiments) == ["hospitals_>_vision_>_one"]
    tags = mlflow.tags(child["info"]["run_id"])
    assert tags["mlflow.parentRunId"] == parent["info"]["run_id"] == told["mlflow_run_id"]
    assert (tags["fed.run_id"], tags["fed.samples"], tags["fed.voter"]) == (RUN, "10", "true")
    params = {param["key"]: param["value"] for param in parent["data"]["params"]}
    assert params == {f"training.key_{number:03}": str(number) for number in range(PARAMETERS)}
    for info in (parent["info"], child["info"]):
        assert (info["status"], info["start_time"]) == ("FINISHED", round((DAY + 0.5) * 1000))
        assert info["end_time"] == round((DAY + 9) * 1000)
    run_tags = mlflow.tags(parent["info"]["run_id"])
    assert (run_tags["fed.algorithm"], run_tags["fed.tags"]) == ("mean", "first, second")
    assert run_tags["fed.model_round"] == "3"
    assert (run_tags["fed.registered_models"], run_tags["fed.aggregator"]) == ("best 2 (round 3): champion", NODES[0])
    assert len(run_tags["fed.configuration_sha256"]) == 64
    assert (tags["fed.role"], tags["fed.data_fingerprint"], tags["fed.version"]) == ("trainer", "bBen00", "0.1")
    assert child["data"]["params"] == [{"key": "warm.up", "value": "4"}]
    own = mlflow.of_node(NODES[0])["info"]["run_id"]
    assert mlflow.artifacts == {
        f"1/{parent['info']['run_id']}/artifacts/global_model.safetensors": MODEL,
        f"1/{own}/artifacts/pictures/first one.png": ARTIFACT,
    }
    assert told["artifacts"] == "1 new, 1 of other nodes stay with them"


def test_machines_have_the_names_and_units_of_mlflow_and_fedml(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.everything()
    exported(ground, mlflow)
    for name, value in (
        *(("system/cpu_utilization_percentage", 12.5), ("system/system_memory_usage_megabytes", 2000.0)),
        *(("system/network_transmit_megabytes", 5.0), ("system/gpu_1_utilization_percentage", 51.0)),
        *(("cpu_utilization", 12.5), ("network_traffic", 12e6), ("gpu_utilization", 50.5)),
    ):
        assert values(mlflow, NODES[1], name) == {0: value, 3: value}, name
    assert values(mlflow, NODES[0], "system/worker_memory_bytes") == {2: 3e8}  # neither has a name for it
    assert not [point for point in mlflow.points_of("") if "system" in point[0]]
    at = [point[2] for point in mlflow.points_of(NODES[0]) if point[0] == "cpu_utilization"]
    assert at == [round((DAY + second) * 1000) for second in (1, 4)]  # while it ran, which it did from 0.5 on


def test_flat_puts_all_into_one_run(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.everything()
    server = MlflowServer(mlflow.uri)
    told = MlflowExport(server, ground.client(), "study", is_flat=True).once()
    assert (told["children"], list(mlflow.runs)) == (0, ["run0"])
    assert values(mlflow, "", "Anna/global_eval/accuracy")[3] == 3 / 7
    assert values(mlflow, "", "Ben/global_eval/accuracy")[3] == 3 / 7 + 1
    assert values(mlflow, "", "Ben_local_loss") == values(mlflow, "", "Ben/local_train/loss")
    assert values(mlflow, "", "Anna/system/cpu_utilization_percentage")
    assert {"key": "Ben/warm.up", "value": "4"} in mlflow.of_node("")["data"]["params"]
    assert len(mlflow.artifacts) == 2
    assert MlflowExport(server, ground.client(), "study", is_flat=True).once()["points_added"] == 0
    ground.write(NodeRow(NODES[0], "Ben", "Mabc", "0.1", "{}", DAY))  # two of one name
    MlflowExport(server, ground.client(), "study", is_flat=True).once()
    assert values(mlflow, "", "Ben-aaaaAnna/global_eval/accuracy")[3] == 3 / 7
    server.close()


def test_a_second_export_adds_nothing(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.everything()
    exported(ground, mlflow)
    before = json.dumps([mlflow.runs, mlflow.points], sort_keys=True)
    sent = len(mlflow.batches)
    mlflow.artifacts.clear()
    told = exported(ground, mlflow)
    assert (told["points_added"], told["model"]) == (0, "there already")
    assert (len(mlflow.batches), told["artifacts"]) == (sent, "0 new, 1 of other nodes stay with them")
    assert not mlflow.artifacts
    for entry in mlflow.runs.values():
        entry["data"].pop("metrics", None)  # what a search adds to its answer
    after = json.dumps([mlflow.runs, mlflow.points], sort_keys=True)
    assert json.loads(after) == json.loads(before)


def test_a_run_that_grows_is_brought_up_to_date(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.state("RUNNING")
    ground.rounds(0, 1, 2, 3)
    exported(ground, mlflow)
    assert mlflow.of_node("")["info"]["status"] == "RUNNING"
    assert set(values(mlflow, NODES[0], "global_eval/accuracy")) == {0, 1, 2, 3}
    assert set(values(mlflow, "", "Test/Acc")) == {0, 1}  # who knows who has not measured yet
    ground.rounds(4)
    ground.state("STOPPED", at=DAY + 5)
    exported(ground, mlflow)
    assert set(values(mlflow, "", "Test/Acc")) == {0, 1, 2, 3, 4}
    assert mlflow.of_node("")["info"]["status"] == mlflow.of_node(NODES[0])["info"]["status"] == "KILLED"
    points = [point[:2] for point in mlflow.points_of("") + mlflow.points_of(NODES[0])]
    assert len([point for point in points if point == ("global_eval/accuracy", 4)]) == 2  # of the mean and the node
    assert mlflow.tags(mlflow.of_node("")["info"]["run_id"])["fed.model_round"] == "4"


def test_a_figure_that_changed_is_added_with_its_later_time(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.everything()
    exported(ground, mlflow)
    ground.write(ground.metric(NODES[0], 3, 0.99, time=DAY + 60))
    assert exported(ground, mlflow)["points_added"] == 3  # the node's, the mean's, and the mean's Test/Acc
    found = [point for point in mlflow.points_of(NODES[0]) if point[:2] == ("global_eval/accuracy", 3)]
    assert [point[2:] for point in found] == [
        (round((DAY + 3.25) * 1000), 3 / 7),
        (round((DAY + 60) * 1000), 0.99),
    ]
    assert exported(ground, mlflow)["points_added"] == 0


def test_following_goes_on_until_the_run_has_ended(
    ground: Ground, mlflow: SmallMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.state("RUNNING")
    ground.rounds(0)
    waits: list[float] = []

    def pass_time(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) <= 20:
            ground.rounds(len(waits))
        elif len(waits) == 21:
            ground.state("FINISHED", at=DAY + 30)
        else:  # it has ended, and a measurement comes late
            ground.write(ground.metric(NODES[0], 1, 0.7, key="late"))

    monkeypatch.setattr(export_mlflow.time, "sleep", pass_time)
    server = MlflowServer(mlflow.uri)
    told = MlflowExport(server, ground.client(), RUN).follow()
    server.close()
    assert waits == [export_mlflow.FOLLOW_INTERVAL_S] * 21 + [export_mlflow.SETTLE_S]
    for node in ("", *NODES):
        points = mlflow.points_of(node)
        assert len({point[:2] for point in points}) == len(points)
        assert set(values(mlflow, node, "global_eval/accuracy")) == set(range(21))
    assert values(mlflow, "", "global_eval/late") == {1: 0.7}
    assert told["state"] == mlflow.of_node("")["info"]["status"] == "FINISHED"


def test_an_export_that_broke_off_is_completed(
    ground: Ground, mlflow: SmallMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.everything()
    whole = mlflow.runs_log_batch
    left = iter(range(7))

    def break_off(asked: dict[str, Any]) -> dict[str, Any] | str:
        return whole(asked) if next(left, None) is not None else "INTERNAL_ERROR: out of order"

    monkeypatch.setattr(mlflow, "runs_log_batch", break_off)
    with pytest.raises(MlflowError, match="out of order"):
        exported(ground, mlflow)
    assert 0 < sum(map(len, mlflow.points.values())) < 1300
    monkeypatch.undo()
    exported(ground, mlflow)
    for node in ("", *NODES):
        points = [point[:2] for point in mlflow.points_of(node)]
        assert len(set(points)) == len(points)
    assert len(values(mlflow, NODES[0], "local_train_progress/loss")) == 1204
    assert len(mlflow.runs) == 3


def test_a_server_without_artifacts_gets_no_model(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.everything()
    mlflow.artifact_root = "/somewhere/"
    told = exported(ground, mlflow)
    assert told["model"].startswith("left out: the server passes no artifacts on")
    assert "fed.model" not in mlflow.tags(told["mlflow_run_id"])


# --- when the server says no -----------------------------------------------------------------------------------
def failing(mlflow: SmallMlflow, status: int, answer: bytes, times: int = 1) -> MlflowError:
    mlflow.answers = [(status, answer)] * times
    server = MlflowServer(mlflow.uri)
    with pytest.raises(MlflowError) as caught:
        server.experiment("x")
    server.close()
    return caught.value


def test_refusals_are_said_in_the_servers_words(mlflow: SmallMlflow) -> None:
    told = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "Name is bad."}).encode()
    error = failing(mlflow, 400, told)
    assert (error.code, "Name is bad" in error.what) == ("INVALID_PARAMETER_VALUE", True)
    error = failing(mlflow, 401, b"You are not authenticated.")
    assert error.code == "mlflow-auth"
    assert "MLFLOW_TRACKING_TOKEN" in error.remedy
    assert failing(mlflow, 404, b"<html>nothing here</html>").code == "mlflow-not-there"
    assert failing(mlflow, 200, b"<html>a page</html>").code == "mlflow-not-there"
    assert failing(mlflow, 301, b"").code == "mlflow-not-there"
    assert failing(mlflow, 500, b"oops").code == "mlflow"


def test_a_busy_server_is_asked_again(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.everything()
    server = MlflowServer(mlflow.uri)
    export = MlflowExport(server, ground.client(), "study")
    export.once()
    expected = mlflow.points_of("")
    mlflow.answers = [(503, b"busy"), (502, b"busy")]
    server.log_batch(export.once()["mlflow_run_id"], tags=[{"key": "a", "value": "b"}])
    mlflow.answers = [(503, b"busy")] * 3
    with pytest.raises(MlflowError, match="busy"):
        server.log_batch("run0", tags=[])
    server.close()
    assert mlflow.points_of("") == expected


def test_credentials_come_from_the_environment(mlflow: SmallMlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    MlflowServer(mlflow.uri).experiment("x")
    assert mlflow.headers[-1]["Authorization"] == "Basic YW5uYTpzZWNyZXQ="
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    MlflowServer(mlflow.uri).experiment("x")
    assert mlflow.headers[-1]["Authorization"] == "Bearer abc"


def test_the_command_says_what_is_wrong(ground: Ground, mlflow: SmallMlflow) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers, and nobody else takes it
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = run("export", "mlflow", "study", "--to", nobody, "--store", str(ground.path))
    assert result.exit_code == 1
    assert f"No MLflow server can be reached at {nobody}" in result.stderr
    result = run("export", "mlflow", "study", "--to", "sqlite:///x", "--store", str(ground.path), "--json")
    assert json.loads(result.stderr)["error"]["code"] == "bad-uri"
    result = run("export", "mlflow", "nobody", "--to", mlflow.uri, "--store", str(ground.path))
    assert (result.exit_code, "No run is called 'nobody'" in result.stderr) == (1, True)


def test_the_command_exports_a_file(ground: Ground, mlflow: SmallMlflow) -> None:
    ground.state("RUNNING")  # and it never will be anything else, for the file is all there is
    ground.rounds(0, 1, 2)
    options = ("--to", mlflow.uri, "--experiment", "mine", "--store", str(ground.path), "--follow", "--json")
    told = json.loads(run("export", "mlflow", "study", *options).stdout)
    assert list(mlflow.experiments) == ["mine"]
    assert set(values(mlflow, "", "Test/Acc")) == {0, 1, 2}
    assert (told["children"], told["model"].startswith("left out: a store's file")) == (2, True)
