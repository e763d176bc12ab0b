"""Models of real runs: registered, compared, judged by a worker process on data of the node's own."""

import json
from pathlib import Path

import numpy as np
import pytest
from nodes import DIGITS, ENDLESS, MEAN_TASK, Study, wait_until
from safetensors import safe_open

ROUNDS = 2


@pytest.fixture(scope="module")
def finished(whole_study: Study) -> str:
    run = whole_study.propose(whole_study.nodes[0], ROUNDS, DIGITS)
    for seen in whole_study.all_end(run):
        assert (seen["state"], seen["round"]) == ("FINISHED", ROUNDS)
    return run


def test_a_model_is_registered_judged_and_compared(study: Study, finished: str, tmp_path: Path) -> None:
    node = study.nodes[1]
    made = node.told("model", "tag", f"{finished}:{ROUNDS}", "digits-reader@champion")
    assert (made["name"], made["version"], made["aliases"], made["round"]) == ("digits-reader", 1, ["champion"], ROUNDS)

    out = tmp_path / "predictions.csv"
    done = node.told("predict", "digits-reader@champion", "--data", "digits", "--out", str(out), "--evaluate")
    own = {
        (point["key"], point["samples"]): point["value"]
        for point in node.client.metrics(finished, node=node.node_id, scope="global", split="eval")["metrics"]
        if point["round"] == ROUNDS
    }
    samples = done["samples"]
    # To the bit what this node reported in the run: a worker of the same task did the same on the same rows.
    assert {(key, samples): value for key, value in done["metrics"].items()} == own
    assert len(out.read_text().splitlines()) == samples + 1 == done["predicted"] + 1

    shown = node.told("model", "show", "digits-reader")
    assert [entry["metrics"] for entry in shown["evaluations"]] == [done["metrics"]]
    fingerprints = {entry["node_id"]: entry["data_fingerprint"] for entry in shown["lineage"]["data"]}
    assert fingerprints[node.node_id] == done["data_fingerprint"]
    compared = node.told("model", "compare", "digits-reader", f"{finished}:1")
    assert compared["differences"][0]["norm"] > 0
    assert compared["metrics"][0].keys() == {"accuracy", "loss"}

    target = tmp_path / "model.safetensors"
    node.told("model", "get", "digits-reader", "-o", str(target), "--schema", str(tmp_path / "schema.json"))
    with safe_open(target, "np") as file:
        assert file.metadata()["fednode_run_id"] == finished
        assert file.metadata()["fednode_name"] == "digits-reader"
        names = set(file.keys())
    assert {tensor["name"] for tensor in json.loads((tmp_path / "schema.json").read_text())["tensors"]} == names
    assert study.nodes[0].told("model", "list") == []  # a registry is its node's own


def test_the_registry_is_there_after_a_crash(study: Study, finished: str) -> None:
    """What a command has said is done is durable: the node is killed right after it."""
    node = study.nodes[2]
    node.told("model", "tag", finished, "survivor@champion")
    node.kill()
    node.start()
    found = node.told("model", "list", "survivor")
    assert [(entry["version"], entry["aliases"], entry["run_id"]) for entry in found] == [(1, ["champion"], finished)]


def test_new_data_is_judged_while_a_run_goes_on(study: Study, finished: str, tmp_path: Path) -> None:
    node = study.nodes[0]
    with np.load(study.base / "digits" / sorted(path.name for path in (study.base / "digits").iterdir())[1]) as digits:
        x, y = digits["x"], digits["y"]
    np.savez(tmp_path / "new.npz", x=x, y=y)
    going_on = study.propose(node, ENDLESS)
    node.wait_for_round(going_on, 1)
    out = tmp_path / "predictions.npz"
    done = node.told("predict", finished[:12], "--data", str(tmp_path / "new.npz"), "--out", str(out), "--evaluate")
    with np.load(out, allow_pickle=False) as arrays:
        assert (arrays["digit"] == y).mean() == pytest.approx(done["metrics"]["accuracy"])
    assert (done["rows"], done["samples"]) == ("all", len(y))
    before = node.client.run(going_on)["round"]
    node.wait_for_round(going_on, before + 1)
    node.client.stop_run(going_on, "seen enough")
    study.all_end(going_on)
    wait_until(lambda: not node.workers(), "all workers end")


def test_code_that_this_node_does_not_know_is_not_run(study: Study, tmp_path: Path) -> None:
    node = study.nodes[0]
    run = study.propose(node, 1)
    study.all_end(run)
    copy = tmp_path / "mean_task.py"
    copy.write_text(MEAN_TASK.read_text() + "\n")
    code, error = node.refusal("predict", run, "--data", "digits", "--task", str(copy))
    assert (code, error["code"]) == (4, "wrong-task")
    code, error = node.refusal("predict", run, "--data", "missing")
    assert code == 1
