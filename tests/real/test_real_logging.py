"""What a task logs in real nodes: the example of docs/writing-tasks.md, trained by three of them, and what each then
has of it."""

import json
import re
from pathlib import Path

import pytest
from nodes import Study
from real_node import ROOT, Json, RealNode, wait_until

ROUNDS = 2
DIGITS = {str(digit) for digit in range(10)}


@pytest.fixture(scope="module")
def trained(whole_study: Study) -> str:
    """A run of the example that has ended."""
    [source] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "writing-tasks.md").read_text(), re.DOTALL)
    file = whole_study.base / "centroids.py"
    file.write_text(source)
    first, *others = whole_study.nodes
    run = whole_study.propose(first, ROUNDS, f'[task]\npath = "{file}"\n')
    for node in others:
        node.wait_for_run(run, lambda seen: seen["decision"] == "declined", "the want of the file")
        node.client.accept(run, task=file)
    for seen in whole_study.all_end(run):
        assert (seen["state"], seen["reason"], seen["round"]) == ("FINISHED", "", ROUNDS)
    return run


def rows_of(node: RealNode, statement: str) -> list[list[object]]:
    rows: list[list[object]] = node.client.sql(statement)["rows"]
    return rows


def test_all_nodes_have_everybodys_figures_by_class(study: Study, trained: str) -> None:
    ids = {node.node_id for node in study.nodes}
    wanted = {(node, number) for node in (*ids, "") for number in (1, ROUNDS)}

    def recalls(node: RealNode) -> list[Json]:
        return list(node.client.metrics(trained, key="recall", scope="global", split="eval")["metrics"])

    def is_told_all(node: RealNode) -> bool:
        return {(row["node_id"], row["round"]) for row in recalls(node)} >= wanted

    for node in study.nodes:  # the last round's come after the run's end
        wait_until(lambda node=node: is_told_all(node), f"all figures on {node.name}")
        assert {row["class"] for row in recalls(node)} == DIGITS
        assert {row["node_id"] for row in recalls(node)} == {*ids, ""}
    shown = study.nodes[0].cli("run", "metrics", trained[:12]).stdout
    assert "recall[7]" in shown.splitlines()[0]


def test_live_figures_parameters_and_spans_are_at_their_own_node(study: Study, trained: str) -> None:
    for node in study.nodes:
        live = f"select node_id, class, epoch, step, split from metrics where run_id = '{trained}' and step > 0"
        rows = rows_of(node, f"{live} and key = 'recall' and round = 1")
        assert {(row[0], *row[2:]) for row in rows} == {(node.node_id, 1, 1, "train")}
        assert {row[1] for row in rows} <= DIGITS  # those that it has
        assert len(rows) > 1
        told = rows_of(node, f"select node_id, key, value, type from node_parameters where run_id = '{trained}'")
        assert {(row[0], row[1], row[3]) for row in told} == {(node.node_id, key, "int") for key in ("rows", "classes")}
        spans = rows_of(
            node, f"select distinct node_id, name from spans where run_id = '{trained}' and name like 'task.%'"
        )
        assert spans == [[node.node_id, "task.classify"]]


def test_artifacts_are_listed_and_got_where_they_were_made(study: Study, trained: str, tmp_path: Path) -> None:
    contents = set()
    for node in study.nodes:
        found = node.told("artifacts", "list", trained[:12])
        assert [(entry["node_id"], entry["name"], entry["kind"]) for entry in found] == [
            (node.node_id, "evaluation/confusion.csv", "text"),
            (node.node_id, "means.json", "json"),
        ]
        assert {entry["round"] for entry in found} == {ROUNDS}
        target = tmp_path / f"{node.name}.json"
        told = node.told("artifacts", "get", trained[:12], "means.json", "-o", str(target))
        assert told["bytes"] == target.stat().st_size == found[1]["bytes"]
        assert len(json.loads(target.read_text())) == len(DIGITS)
        contents.add(target.read_bytes())
    assert len(contents) == len(study.nodes)  # each has learned from its own data


def test_an_artifact_is_for_nobody_else(study: Study, trained: str) -> None:
    one, other, _ = study.nodes
    theirs = other.client.artifacts(trained)["artifacts"][0]
    code, error = one.refusal("artifacts", "get", trained[:12], theirs["name"], "--node", other.node_id, "-o", "x.csv")
    assert (code, error["code"]) == (1, "no-such-artifact")
    assert not Path("x.csv").exists()


def test_lines_are_in_the_runs_log(study: Study, trained: str) -> None:
    node = study.nodes[2]
    said = wait_until(
        lambda: [
            line for line in node.client.logs(trained, limit=10_000)["logs"] if line["logger"].startswith("task.")
        ],
        "the task's lines",
    )
    assert {line["message"] for line in said if line["logger"] == "task.stdout"} == {"epoch 1 is over"}
    assert {line["node_id"] for line in said} == {node.node_id}
