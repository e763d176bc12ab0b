"""The built-in tasks: digits and tables."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch

from fednode import Source, TaskError
from node.data.shares import digits_split
from node.seams import TaskSpec
from node.tasks.digits import Digits
from node.tasks.tabular import Standardise, Tabular
from node.training.sgd import Progress
from node.training.training import LoadedTask


def digits_file(directory: Path, **arrays: Any) -> Source:
    whole = {"x": np.random.default_rng(0).integers(0, 17, (20, 8, 8)), "y": np.arange(20) % 10} | arrays
    np.savez(directory / "digits.npz", **{name: array for name, array in whole.items() if array is not None})
    return Source(directory / "digits.npz")


def test_digits_reads_both_shapes_alike(tmp_path):
    square = Digits({}).data(digits_file(tmp_path))
    flat = Digits({}).data(
        digits_file(tmp_path, x=np.random.default_rng(0).integers(0, 17, (20, 8, 8)).reshape(20, 64))
    )
    assert torch.equal(square.train[0], flat.train[0])
    assert square.train[0].dtype == torch.float32
    assert float(square.train[0].max()) == 1.0
    assert len(square.train[0]) == 16


def test_digits_hidden_layers_and_share_are_parameters(tmp_path):
    task = Digits({"hidden": (5,), "evaluation_share": 0.5})
    assert [tuple(p.shape) for p in task.model().parameters()] == [(5, 64), (5,), (10, 5), (10,)]
    assert len(task.data(digits_file(tmp_path)).train[0]) == 10
    owners = Source(tmp_path / "digits.npz", {"evaluation_share": 0.1})
    assert len(task.data(owners).train[0]) == 18
    assert sum(p.numel() for p in Digits({}).model().parameters()) == 50_826


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": None}, "has no array x; it has y"),
        ({"x": np.zeros((20, 63))}, "has x of float64\\(20, 63\\)"),
        ({"y": np.zeros(19)}, "and y of float64\\(19,\\)"),
        ({"y": np.array(["a"] * 20)}, "and y of <U1\\(20,\\)"),
        ({"y": np.full(20, 10)}, "has digits from 10 to 10"),
    ],
)
def test_digits_names_what_is_wrong(tmp_path, arrays, reason):
    with pytest.raises(TaskError, match=reason):
        Digits({}).data(digits_file(tmp_path, **arrays))


@pytest.mark.parametrize("content", [None, b"nonsense", b"\x93NUMPY"])
def test_digits_refuses_what_is_no_file(tmp_path, content):
    if content is not None:
        (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(TaskError, match=r"cannot be read as an \.npz file"):
        Digits({}).data(Source(tmp_path / "x.npz"))


def test_federated_digits_beat_training_alone(tmp_path):
    """FedAvg (arXiv:1602.05629) over four uneven shares, ten rounds of two epochs, with the core that workers run."""
    split = digits_split(4, alpha=0.5, seed=0)
    paths = split.write(tmp_path)
    pooled = tmp_path / "pooled.npz"
    np.savez(pooled, x=np.concatenate([x for x, _ in split.shares]), y=np.concatenate([y for _, y in split.shares]))
    hyperparameters = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9}

    def loaded(path: Path, node: str, options: dict[str, Any]) -> LoadedTask:
        spec = TaskSpec("run", node, "digits", {}, hyperparameters, "fp32", str(path), options, 0)
        return LoadedTask(spec, tmp_path, lambda _: None, Progress())

    judge = loaded(tmp_path / "held-out.npz", "judge", {"evaluation_share": 1})
    first = judge.initial_model()

    def accuracy_of(tasks: list[LoadedTask]) -> float:
        model = np.frombuffer(first.model, "<f4")
        for number in range(1, 11):
            results = [task.train(number, first.schema, model.tobytes()) for task in tasks]
            total = sum(result.samples for result in results)
            model = model + sum(np.frombuffer(r.update, "<f4") * np.float32(r.samples / total) for r in results)
        measured = judge.evaluate(10, first.schema, model.tobytes())
        assert measured is not None
        return measured.metrics["accuracy"]

    nodes = [loaded(path, str(number), {}) for number, path in enumerate(paths)]
    together = accuracy_of(nodes)
    alone = sum(accuracy_of([node]) for node in nodes) / len(nodes)
    ideal = accuracy_of([loaded(pooled, "pooled", {})])
    assert together > alone + 0.1
    assert together > ideal - 0.04


ROWS = [(40, 1.5, "well"), (50, 2.5, "ill"), (60, -1.0, "well"), (70, 0.0, "ill")]
PARAMETERS = {"label": "state", "columns": ["age", "dose"], "classes": ["well", "ill"], "evaluation_share": 0}


def table(directory: Path, kind: str, rows: list[Any] = ROWS) -> Source:
    path = directory / f"patients.{kind}"
    if kind == "csv":
        path.write_text("dose, age ,state\n" + "".join(f"{dose},{age},{state}\n" for age, dose, state in rows) + "\n")
    elif kind == "npz":
        age, dose, state = zip(*rows, strict=True)
        np.savez(path, age=age, dose=dose, state=state)
    else:
        values = ", ".join("(" + ", ".join("NULL" if v == "" else repr(v) for v in row) + ")" for row in rows)
        duckdb.sql(f"select * from (values {values}) t(age, dose, state)").write_parquet(str(path))
    return Source(path)


@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
def test_tables_of_every_kind_give_the_same_data(tmp_path, kind):
    x, y = Tabular(PARAMETERS).data(table(tmp_path, kind)).train
    assert x.tolist() == [[age, dose] for age, dose, _ in ROWS]
    assert (x.dtype, y.tolist()) == (torch.float32, [0, 1, 0, 1])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_empty_cells_are_refused_or_dropped(tmp_path, kind):
    source = table(tmp_path, kind, [*ROWS, ("", 1.0, "ill"), (50, 1.0, "")])
    with pytest.raises(TaskError, match="has 2 rows with empty or infinite cells, the first is row 5"):
        Tabular(PARAMETERS).data(source)
    assert len(Tabular(PARAMETERS | {"missing": "drop"}).data(source).train[0]) == 4


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"columns": ["age", "weight"]}, "has no column 'weight'; its columns are dose, age, state"),
        ({"label": "outcome"}, "has no column 'outcome'"),
        ({"label": ""}, "parameter label is missing"),
        ({"columns": ["age", "state"]}, "Column 'state' of .* has 'well' in row 1, which is no number"),
        ({"classes": ["well"]}, "has labels that are not among the classes: ill"),
        ({"standardise": "given", "means": [1]}, "means has 1 numbers for 2 columns"),
        ({"scales": [1, 0]}, "scales has numbers that are not above 0"),
    ],
)
def test_tabular_names_the_column_at_fault(tmp_path, parameters, reason):
    with pytest.raises(TaskError, match=reason):
        Tabular(PARAMETERS | parameters).data(table(tmp_path, "csv"))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"columns": []}, "is not a list of names"), ({"standardise": "x"}, "standardise is 'x'")],
)
def test_tabular_refuses_parameters_that_make_no_model(parameters, reason):
    with pytest.raises(TaskError, match=reason):
        Tabular(PARAMETERS | parameters)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.txt", "a", "is no table that can be read"),
        ("x.csv", "dose,age,state\n1,2\n", "Line 2 of .* has 2 cells, the header 3"),
        ("x.npz", "nonsense", "cannot be read"),
        ("x.parquet", "nonsense", "cannot be read as parquet"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(TaskError, match=reason):
        Tabular(PARAMETERS).data(Source(tmp_path / name))


def test_given_means_and_scales_are_applied(tmp_path):
    task = Tabular(PARAMETERS | {"means": (50, 0), "scales": (10, 0.5)})
    x, _ = task.data(table(tmp_path, "csv")).train
    assert x.tolist() == [[(age - 50) / 10, dose * 2] for age, dose, _ in ROWS]
    assert [type(layer) for layer in task.model()] == [torch.nn.Linear]


def test_numbered_classes_and_the_owners_label(tmp_path):
    x = np.arange(8.0).reshape(4, 2)
    np.savez(tmp_path / "t.npz", x=x, y=np.array([0.0, 1.0, 2.0, 2.0]))
    task = Tabular({"columns": ["x0", "x1"], "classes": 3, "evaluation_share": 0})
    data = task.data(Source(tmp_path / "t.npz", {"label": "y"}))
    assert data.train[1].tolist() == [0, 1, 2, 2]
    assert data.train[0].tolist() == x.tolist()


def test_batch_standardisation_learns_means_and_bears_a_single_row():
    layer = Standardise(2, momentum=0.5)
    rows = torch.tensor([[10.0, 100.0], [20.0, 300.0]])
    standard = layer(rows)
    torch.testing.assert_close(standard, torch.tensor([[-0.7071, -0.7071], [0.7071, 0.7071]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(layer.mean, torch.tensor([7.5, 100.0]))
    before = layer.mean.clone()
    assert torch.isfinite(layer(rows[:1])).all()
    assert torch.equal(layer.mean, before)
    layer.eval()
    torch.testing.assert_close(layer(before.reshape(1, 2)), torch.zeros(1, 2))


def test_tabular_learns_columns_of_very_different_size(tmp_path):
    draw = np.random.default_rng(0)
    large, small = draw.normal(5000, 1000, 400), draw.normal(0, 0.01, 400)
    y = ((large - 5000) / 1000 + small / 0.01 > 0).astype(int)
    np.savez(tmp_path / "t.npz", large=large, small=small, y=y)
    parameters = {"label": "y", "columns": ["large", "small"]}
    spec = TaskSpec(
        "r", "n", "tabular", parameters, {"epochs": 10, "learning_rate": 0.5}, "fp32", str(tmp_path / "t.npz"), {}, 0
    )
    task = LoadedTask(spec, tmp_path, lambda _: None, Progress())
    first = task.initial_model()
    update = np.frombuffer(task.train(1, first.schema, first.model).update, "<f4")
    model = (np.frombuffer(first.model, "<f4") + update).tobytes()
    measured = task.evaluate(1, first.schema, model)
    assert measured is not None
    assert measured.metrics["accuracy"] > 0.95
