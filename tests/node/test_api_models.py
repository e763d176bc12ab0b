"""The local API's endpoints for models, through a real socket, and the commands that ask them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_ground import as_json, run
from look_store import make_store
from memory_models import BLOB, RUN, MemoryModels, model_json
from memory_service import MemoryService
from safetensors.numpy import save

from fednode import Client, RequestRefused
from node.api.http.models import LINES_WAITING_MAX, MODEL_CHARACTERS_MAX
from node.api.service.service import Wanted

ODD_NAMES = ["study/1:3", "../../etc/passwd", "a b@c", "ünïcode@x", "%2F", "'; DROP TABLE models; --", "-x", "."]


@pytest.fixture
def client(service: MemoryService) -> Client:
    return Client(service.home)


# --- the registry ----------------------------------------------------------------------------------------------
def test_every_endpoint_of_models_answers(service: MemoryService, client: Client) -> None:
    assert client.models() == {"models": []}
    assert client.tag_model("study", "reader", "champion")["aliases"] == ["champion"]
    assert [entry["name"] for entry in client.models()["models"]] == ["reader"]
    assert [entry["round"] for entry in client.models("study")["models"]] == [7, 6]
    shown = client.model_info("study:7")
    assert (shown["model"], shown["loss"], shown["lineage"]["seed"]) == (BLOB, None, 1)
    assert client.model_schema("study")["tensors"][0]["name"] == "w"
    assert b"".join(client.model_file("study")) == b"abc"
    assert client.untag_model("reader", "champion") == {}
    assert client.remove_model("reader") == {"versions": 2}
    assert ("untag", "reader", "champion") in service.calls
    assert ("remove", "reader") in service.calls


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_arrive_whole(service: MemoryService, client: Client, name: str) -> None:
    """What they may be is the registry's to say: here they must neither change nor lead to another endpoint."""
    client.tag_model(name, name, name)
    assert ("tag", name, name, name) in service.calls
    client.untag_model(name, name)
    assert service.calls[-1] == ("untag", name, name)
    client.models(name)
    assert service.calls[-1] == ("listed", name)


@pytest.mark.parametrize("name", ["", "x" * (MODEL_CHARACTERS_MAX + 1)])
def test_names_without_measure_are_malformed(service: MemoryService, client: Client, name: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        client.tag_model("study", name)
    assert (refused.value.status, refused.value.code) == (400, "malformed")
    assert service.registry.entries == []


def test_a_model_that_is_gone_says_so(service: MemoryService, client: Client) -> None:
    for ask in (client.model_info, client.model_schema, lambda name: b"".join(client.model_file(name))):
        with pytest.raises(RequestRefused, match="not here any more") as refused:
            ask("gone")
        assert (refused.value.status, refused.value.code) == (404, "no-such-blob")


# --- judging ---------------------------------------------------------------------------------------------------
def test_an_evaluation_comes_with_what_the_task_said(service: MemoryService, client: Client) -> None:
    heard: list[str] = []
    done = client.predict("study", data="digits", rows="all", hear=lambda line: heard.append(line["text"]))
    assert done["metrics"] == {"accuracy": 0.5, "loss": None}
    assert heard == ["looking at the data, 0"]
    assert service.calls[-1] == ("predict", "study", Wanted(data="digits", rows="all"))


def test_predictions_come_byte_for_byte(service: MemoryService, client: Client, tmp_path: Path) -> None:
    service.predictor.predictions = bytes(range(256)) * 10_000 + b'{"type": "done"}\n'
    taken = io.BytesIO()
    done = client.predict("study", path=tmp_path, write=taken.write, options={"target": "y"}, evaluate=False)
    assert taken.getvalue() == service.predictor.predictions
    assert done["predictions_bytes"] == len(taken.getvalue())
    wanted = Wanted(path=str(tmp_path), options={"target": "y"}, evaluate=False, predict=True)
    assert service.calls[-1] == ("predict", "study", wanted)


def test_what_goes_wrong_in_the_task_is_told_with_its_traceback(service: MemoryService, client: Client) -> None:
    service.predictor.fails = True
    with pytest.raises(RequestRefused, match=r"task\.py, line 3") as refused:
        client.predict("study", data="digits")
    assert (refused.value.status, refused.value.details["traceback"]) == (503, "Traceback …")


def test_a_refusal_before_the_work_has_its_status(service: MemoryService, client: Client, tmp_path: Path) -> None:
    for wanted, status, code in (
        ({"data": "digits", "task": tmp_path / "task.py"}, 409, "wrong-task"),
        ({"rows": "some"}, 400, "malformed"),
        ({"data": 3}, 400, "malformed"),
        ({"else": 3}, 400, "malformed"),
    ):
        with pytest.raises(RequestRefused) as refused:
            client.predict("study", **wanted)
        assert (refused.value.status, refused.value.code) == (status, code)


def test_a_reader_that_leaves_ends_the_judging(service: MemoryService, client: Client) -> None:
    service.predictor.waits = True

    def leave(line: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.predict("study", data="digits", hear=leave)
    client.status()
    for _ in client.events():
        break  # the node has had its turn: the connection's end was seen before this one's beginning
    assert service.unsubscribed.wait(30)
    assert service.predictor.cancelled == ["judging"]


def test_a_task_that_says_too_much_loses_lines_and_nothing_else(service: MemoryService, client: Client) -> None:
    service.predictor.lines = LINES_WAITING_MAX + 500
    heard: list[str] = []
    client.predict("study", data="digits", hear=lambda line: heard.append(line["text"]))
    assert LINES_WAITING_MAX <= len(heard) < service.predictor.lines
    assert heard == [f"looking at the data, {number}" for number in range(len(heard))]


# --- the commands ----------------------------------------------------------------------------------------------
def test_the_registry_on_the_command_line(service: MemoryService) -> None:
    assert "None yet" in run("model", "list").stderr
    assert (
        "reader:1 is round 7 of study; reader@champion stands for it"
        in run("model", "tag", "study", "reader@champion").stdout
    )
    assert "reader" in run("model", "list").stdout
    assert "gone" in run("model", "list", "study").stdout
    assert [entry["round"] for entry in as_json("model", "list", "study")] == [7, 6]
    assert as_json("model", "untag", "reader@champion") == {"name": "reader", "alias": "champion"}
    assert "2 versions" in run("model", "remove", "reader").stdout
    shown = run("model", "show", "study").stdout
    assert "accuracy 0.75  on 50 rows of other" in shown
    assert "alpha, 100 samples, data f9f9" in shown


@pytest.mark.parametrize("arguments", [("untag", "reader"), ("untag", "@x"), ("untag", "x@"), ("tag", "study", "x@")])
def test_what_is_no_alias_is_wrong_usage(service: MemoryService, arguments: tuple[str, ...]) -> None:
    assert run("model", *arguments).exit_code == 2
    assert not service.calls


def test_the_schema_is_written_beside_the_model(service: MemoryService, tmp_path: Path) -> None:
    model, schema = tmp_path / "model.safetensors", tmp_path / "schema.json"
    given = as_json("model", "get", "study", "-o", str(model), "--schema", str(schema))
    assert given == {"path": str(model), "bytes": 3, "schema": str(schema)}
    assert json.loads(schema.read_text())["tensors"][0]["dtype"] == "float32"
    assert run("model", "get", "study", "-o", str(tmp_path / "other"), "--schema", str(schema)).exit_code == 1
    assert not (tmp_path / "other").exists()


def test_comparing_models(service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    async def show(self: MemoryModels, model: str) -> dict[str, Any]:
        return {**await honest(self, model), "run_id": f"{model[0] * 64}"}

    async def sql(statement: str, rows_max: int) -> tuple[list[str], list[tuple[str, ...]], bool]:
        told = [(run * 64, key, value, "int") for run in "abc" for key, value in (("seed", run), ("rounds", "3"))]
        return ["run_id", "key", "value", "type"], told, False

    monkeypatch.setattr(service, "sql", sql)
    honest = MemoryModels.show
    monkeypatch.setattr(MemoryModels, "show", show)
    first = {"w": np.zeros((2, 3), np.float32), "n": np.array([5], np.int64)}
    second = {"w": np.full((2, 3), 2, np.float32), "n": np.array([5], np.int64)}
    service.registry.files = {
        f"{'a' * 64}:7": save(first),
        f"{'b' * 64}:7": save(second),
        f"{'c' * 64}:7": save({"x": first["w"]}),
    }
    given = as_json("model", "compare", "a", "b", "c")
    near, other = given["differences"]
    assert near["norm"] == pytest.approx(24**0.5)
    assert {tensor["name"]: tensor["largest"] for tensor in near["tensors"]} == {"w": 2.0, "n": 0.0}
    assert other["tensors"] is None
    text = run("model", "compare", "a", "b").stdout
    assert "Norm of the difference: 4.899" in text
    assert given["parameters"] == {"seed": ["a", "b", "c"]}
    assert given["metrics"][0] == {}  # the round that was measured is another one
    assert run("model", "compare", "a").exit_code == 2


@pytest.mark.parametrize("suffix", ["npz", "csv", "json", "parquet"])
def test_predicting_on_the_command_line(service: MemoryService, tmp_path: Path, suffix: str) -> None:
    packed = io.BytesIO()
    np.savez(packed, prediction=np.arange(9), score=np.eye(9, 2))
    service.predictor.predictions = packed.getvalue()
    (tmp_path / "data.npz").write_bytes(b"")
    out = tmp_path / f"out.{suffix}"
    given = as_json(
        "predict", "study@champion", "--data", str(tmp_path / "data.npz"), "--out", str(out), "--option", "k=1"
    )
    assert (given["path"], given["predicted"]) == (str(out), 9)
    wanted = Wanted(path=str(tmp_path / "data.npz"), options={"k": 1}, evaluate=False, predict=True)
    assert service.calls[-1] == ("predict", "study@champion", wanted)
    assert out.stat().st_size > 100
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".fednode")]
    assert run("predict", "study", "--data", str(tmp_path), "--out", str(out)).exit_code == 1  # it is there already


def test_evaluating_on_the_command_line(service: MemoryService, client: Client, tmp_path: Path) -> None:
    client.add_data("digits", tmp_path)
    result = run("predict", "study", "--data", "digits")
    assert "accuracy  0.5" in result.stdout
    assert "looking at the data" in result.stderr
    assert service.calls[-1] == ("predict", "study", Wanted(data="digits"))
    assert (
        "neither a registered data set nor a path; registered are: digits"
        in run("predict", "study", "--data", "x").stderr
    )
    assert run("predict", "study", "--data", "digits", "--out", "x.xlsx").exit_code == 2
    assert model_json()["run_id"] == RUN


def test_a_stopped_nodes_store_answers_too(tmp_path: Path) -> None:
    path = make_store(tmp_path / "store.duckdb")
    listed = as_json("model", "list", "--store", str(path))
    assert [(entry["name"], entry["version"], entry["here"]) for entry in listed] == [("digits-best", 1, None)]
    first, *_ = listed
    name = f"{first['name']}@{first['version']}"
    assert as_json("model", "show", name, "--store", str(path))["model"] == first["model"]
    compared = as_json("model", "compare", name, f"{first['run_id']}:{first['round']}", "--store", str(path))
    assert compared["differences"] == []
    assert compared["metrics"][0]
    assert run("model", "show", "nobody", "--store", str(path)).exit_code == 1
