"""The task in docs/writing-tasks.md: it runs alone under plain Python, and in a node as it stands."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import fednode
from fednode_logging import class_key
from node.seams import TaskOutput, TaskSpec
from node.training.sgd import Progress
from node.training.training import LoadedTask

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "writing-tasks.md"


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """The example as a reader saves it, with data beside it."""
    [source] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "centroids.py").write_text(source)
    digits = load_digits()
    np.savez(tmp_path / "digits.npz", x=digits.data[:300], y=digits.target[:300])
    return tmp_path / "centroids.py"


def test_alone_it_trains_and_leaves_nothing_behind(task_file: Path) -> None:
    ran = subprocess.run(
        [sys.executable, task_file.name, "digits.npz"],
        cwd=task_file.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    *epochs, accuracy = ran.stdout.splitlines()
    assert epochs == [f"epoch {number} is over" for number in (1, 2, 3)]
    assert float(accuracy.split()[1]) > 0.8
    assert ran.stderr == ""
    assert sorted(path.name for path in task_file.parent.iterdir()) == ["centroids.py", "digits.npz"]


def test_in_a_run_everything_is_recorded(task_file: Path) -> None:
    said: list[TaskOutput] = []
    progress = Progress()
    spec = TaskSpec(
        "run", "node", str(task_file), {}, {"epochs": 2}, "fp32", str(task_file.with_name("digits.npz")), {}, 0
    )
    task = LoadedTask(spec, task_file.parent, said.append, progress, staging=task_file.parent / "staged")
    first = task.initial_model()
    progress.begin(1, 4)
    trained = task.train(4, first.schema, first.model)
    assert trained.samples == 240
    metrics = [output for output in said if output.kind == "metric"]
    assert [(output.round, output.epoch, output.step) for output in metrics] == [(4, 1, 1), (4, 2, 2)]
    assert {class_key("recall", digit) for digit in range(10)} | {"distance"} == set(metrics[0].values)
    [parameters] = [output.parameters for output in said if output.kind == "parameter"]
    assert parameters == {"rows": ("240", "int"), "classes": ("10", "int")}
    assert {output.name for output in said if output.kind == "span"} == {"classify"}
    evaluated = task.evaluate(4, first.schema, first.model)
    assert evaluated is not None
    assert set(evaluated.metrics) == {"accuracy", *(class_key("recall", digit) for digit in range(10))}
    made = {output.name: output.staged for output in said if output.staged is not None}
    assert set(made) == {"means.json", "evaluation/confusion.csv"}
    means = json.loads((task_file.parent / "staged" / made["means.json"].file).read_text())
    assert np.array(means).shape == (10, 64)


def test_the_names_in_the_tables_are_there() -> None:
    text = DOCUMENT.read_text()
    named = set(re.findall(r"fednode\.([a-zA-Z_]+)\b", text)) - {"py"}
    assert {name for name in named if not hasattr(fednode, name)} == set()
    assert {"log", "span", "TaskError", "Interrupted"} <= named
    promised = {
        "log_metric",
        "log_metrics",
        "log_param",
        "log_params",
        "log_artifacts",
        "log_text",
        "log_dict",
        "event",
    }
    exported = {
        alias.asname or alias.name
        for statement in ast.parse((ROOT / "fednode.py").read_text()).body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert promised <= exported
    assert all(name in text for name in promised)
