"""The task contract, its default training, the built-in tasks, and the dealing out of data."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch

import fednode
from fednode import Data, Round, Source, Task, TaskError
from node.reproducible import derived_seed, reproducible
from node.seams import TaskOutput, TaskSpec, TrainerFailed
from node.sgd import Progress, sgd
from node.shares import SAMPLES_PER_NODE_MIN, digits_split, dirichlet_shares
from node.task_model import TaskModel
from node.tasks.digits import Digits
from node.tasks.tabular import Standardise, Tabular
from node.training import LoadedTask


def a_round(directory: Path, seed: int = 0, **hyperparameters: Any) -> Round:
    def learn(task: Task, model: Any, data: Data, this_round: Round) -> fednode.Result:
        return sgd(task, model, data, this_round, Progress())

    return Round(1, seed, hyperparameters, directory, learn)


class Linear(Task):
    """A line with noise, for the default training."""

    def model(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Linear(3, 1)

    def data(self, source: Source) -> Data:
        x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
        return Data.split((x, x.sum(1, keepdim=True) + 1))

    def loss(self, model: Any, batch: fednode.Batch) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.mse_loss(model(x), y)


# --- the contract ------------------------------------------------------------------------------------------------


def test_holding_out_is_disjoint_and_depends_on_the_row_count_alone():
    columns = (np.arange(50), np.arange(50) * 2)
    data = Data.split(columns, 0.3)
    assert data.evaluation is not None
    assert sorted([*data.train[0], *data.evaluation[0]]) == list(range(50))
    assert len(data.evaluation[0]) == 15
    assert (data.evaluation[1] == data.evaluation[0] * 2).all()
    other = Data.split((np.arange(50) + 100,), 0.3)
    assert other.evaluation is not None
    assert (other.evaluation[0] == data.evaluation[0] + 100).all()


@pytest.mark.parametrize(("rows", "share", "held"), [(2, 0.2, 1), (1, 0.2, 0), (10, 0, 0), (10, 1, 10), (3, 0.2, 1)])
def test_small_data_holds_out_what_it_can(rows, share, held):
    data = Data.split((np.arange(rows),), share)
    assert len(data.train[0]) == rows - held
    assert (0 if data.evaluation is None else len(data.evaluation[0])) == held


def test_a_share_out_of_range_is_refused():
    with pytest.raises(TaskError, match=r"evaluation_share is 1\.5"):
        Data.split((np.arange(4),), 1.5)


def test_batches_take_every_row_once_an_epoch_in_an_order_of_the_seed(tmp_path):
    batches = list(a_round(tmp_path, 5, epochs=2, batch_size=4).batches(10))
    assert [(epoch, step, len(rows)) for epoch, step, rows in batches] == [
        (1, 1, 4), (1, 2, 4), (1, 3, 2), (2, 4, 4), (2, 5, 4), (2, 6, 2),
    ]  # fmt: skip
    first, second = (np.concatenate([rows for e, _, rows in batches if e == epoch]) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)
    again = list(a_round(tmp_path, 5, epochs=2, batch_size=4).batches(10))
    assert all((a[2] == b[2]).all() for a, b in zip(batches, again, strict=True))
    assert [len(rows) for _, _, rows in a_round(tmp_path, batch_size=0).batches(10)] == [10]


def test_log_does_nothing_outside_a_run_and_reaches_a_listener_within():
    fednode.log({"loss": 1.0})
    heard: list[Any] = []
    with fednode.listening(lambda values, step: heard.append((values, step))):
        fednode.log({"loss": 1.0}, step=3)
    fednode.log({"loss": 2.0})
    assert heard == [({"loss": 1.0}, 3)]


def test_evaluation_weighs_batches_by_their_rows(monkeypatch):
    monkeypatch.setattr(fednode, "EVALUATION_BATCH_ROWS", 4)

    class Rows(Linear):
        def metrics(self, model: Any, batch: fednode.Batch) -> Mapping[str, float]:
            return {"mean": float(batch[0].mean())}

    task, x = Rows({}), torch.arange(10.0).reshape(10, 1).repeat(1, 3)
    result = task.evaluate(task.model(), Data((x, x[:, :1]), (x, x[:, :1])))
    assert result is not None
    assert result.samples == 10
    assert result.metrics["mean"] == pytest.approx(4.5)
    assert result.metrics["loss"] == pytest.approx(float(task.loss(task.model(), (x, x[:, :1])).detach()))


# --- the default training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hyperparameters", "optimizer"),
    [
        ({"learning_rate": 0.05}, lambda p: torch.optim.SGD(p, lr=0.05)),
        ({"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.1},
         lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1)),
        ({"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.1},
         lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
    ],
)  # fmt: skip
def test_the_optimizers_agree_with_torchs(tmp_path, hyperparameters, optimizer):
    task = Linear({})
    data, ours, theirs = task.data(Source(tmp_path)), task.model(), task.model()
    this_round = a_round(tmp_path, epochs=3, batch_size=8, **hyperparameters)
    result = task.train(ours, data, this_round)
    reference = optimizer(theirs.parameters())
    for _, _, rows in this_round.batches(len(data.train[0])):
        reference.zero_grad()
        task.loss(theirs, tuple(column[rows] for column in data.train)).backward()
        reference.step()
    assert (result.samples, result.steps) == (40, 15)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor)


def test_fedprox_pulls_back_to_the_base(tmp_path):
    task = Linear({})
    data, base = task.data(Source(tmp_path)), task.model().weight.detach().clone()

    def distance(mu: float) -> float:
        model = task.model()
        task.train(model, data, a_round(tmp_path, epochs=5, learning_rate=0.05, proximal_mu=mu))
        return float((model.weight.detach() - base).norm())

    assert distance(10.0) < distance(1.0) < distance(0.0)


def test_what_needs_no_gradient_is_left_alone(tmp_path):
    task = Linear({})
    model = task.model()
    model.bias.requires_grad_(False)
    before = model.bias.clone()
    task.train(model, task.data(Source(tmp_path)), a_round(tmp_path))
    assert torch.equal(model.bias, before)


@pytest.mark.parametrize(
    ("hyperparameters", "reason"),
    [
        ({"optimizer": "lbfgs"}, "There is no optimizer 'lbfgs'"),
        ({"learning_rate": 1e30, "epochs": 9}, "The loss became (inf|nan) in epoch"),
    ],
)
def test_training_that_makes_no_sense_is_stopped(tmp_path, hyperparameters, reason):
    task = Linear({})
    with pytest.raises(TaskError, match=reason):
        task.train(task.model(), task.data(Source(tmp_path)), a_round(tmp_path, **hyperparameters))


def test_training_without_samples_is_refused(tmp_path):
    task = Linear({})
    with pytest.raises(TaskError, match="no samples"):
        task.train(task.model(), Data.split((torch.zeros(4, 3), torch.zeros(4, 1)), 1.0), a_round(tmp_path))


def test_an_aborted_call_stops_at_its_next_step(tmp_path):
    task, progress = Linear({}), Progress()
    progress.begin(call=3, round_number=1)
    progress.aborted = 3
    with pytest.raises(fednode.Interrupted):
        sgd(task, task.model(), task.data(Source(tmp_path)), a_round(tmp_path), progress)
    progress.begin(call=4, round_number=2)
    sgd(task, task.model(), task.data(Source(tmp_path)), a_round(tmp_path), progress)


def test_draws_within_follow_from_the_seed_and_those_outside_are_undisturbed():
    def draws() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]

    with reproducible(1, 1):
        first = draws()
    assert first == pytest.approx(first)
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    undisturbed = draws()
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    with reproducible(1, 1):
        assert draws() == first
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 1
    assert draws() == undisturbed
    assert not torch.are_deterministic_algorithms_enabled()


def test_seeds_differ_by_every_name():
    seeds = {
        derived_seed(*names) for names in [(1, "a", 1), (1, "a", 2), (1, "b", 1), (2, "a", 1), (1, "a1"), (1, "a")]
    }
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


# --- models and arrays -------------------------------------------------------------------------------------------


class Normed(Task):
    """Batch normalisation whose statistics stay on the node (FedBN), tied weights, and bfloat16."""

    local = ("norm.*",)

    def model(self) -> torch.nn.Module:
        model = torch.nn.Module()
        model.norm = torch.nn.BatchNorm1d(3)
        model.first = torch.nn.Linear(3, 3)
        model.second = torch.nn.Linear(3, 3)
        model.second.weight = model.first.weight
        model.low = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        return model

    def data(self, source: Source) -> Data:
        return Data((torch.zeros(2, 3),))


def test_local_tensors_stay_and_come_back(tmp_path):
    models = TaskModel(Normed({}), tmp_path)
    schema, raw = models.initial()
    assert [spec.name for spec in schema.tensors if spec.kind != "local"] == [
        "low", "first.weight", "first.bias", "second.bias",
    ]  # fmt: skip
    model = models.filled(schema, raw)
    assert torch.equal(model.norm.running_mean, torch.zeros(3))
    with torch.no_grad():
        model.norm.running_mean.fill_(5)
        model.first.weight.fill_(7)
    trained = models.raw_of(schema, model)
    assert (schema.views(trained)["first.weight"] == 7).all()
    again = TaskModel(Normed({}), tmp_path).filled(schema, raw)  # as after a crash
    assert torch.equal(again.norm.running_mean, torch.full((3,), 5.0))
    assert not (again.second.weight == 7).any()


def test_a_model_that_is_no_module_says_what_to_do(tmp_path):
    class Numbers(Linear):
        def model(self) -> Any:
            return {"w": np.zeros(1)}

    with pytest.raises(TaskError, match=r"model\(\) gave a dict.*override arrays"):
        TaskModel(Numbers({}), tmp_path).initial()


# --- digits ------------------------------------------------------------------------------------------------------


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


# --- tabular -----------------------------------------------------------------------------------------------------

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


# --- dealing out data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nodes", "alpha"), [(1, 0.5), (4, 0.5), (10, 0.1), (100, 0.5), (300, 0.05)])
def test_shares_deal_every_row_once_and_leave_nobody_empty(nodes, alpha):
    labels = np.arange(600) % 10
    shares = dirichlet_shares(labels, nodes, alpha, seed=3)
    assert sorted(np.concatenate(shares).tolist()) == list(range(600))
    assert min(map(len, shares)) >= min(SAMPLES_PER_NODE_MIN, 600 // nodes)
    again = dirichlet_shares(labels, nodes, alpha, seed=3)
    assert all((a == b).all() for a, b in zip(shares, again, strict=True))
    if nodes > 1:
        assert any(
            (len(a) != len(b)) or (a != b).any()
            for a, b in zip(shares, dirichlet_shares(labels, nodes, alpha, 4), strict=True)
        )


def test_a_small_alpha_makes_classes_uneven():
    labels = np.arange(2000) % 10

    def largest_class(alpha: float) -> float:
        shares = dirichlet_shares(labels, 5, alpha, seed=0)
        return float(np.mean([np.bincount(labels[rows]).max() / len(rows) for rows in shares]))

    assert largest_class(100.0) < 0.15 < 0.25 < largest_class(0.1)


@pytest.mark.parametrize(("nodes", "alpha"), [(0, 0.5), (11, 0.5), (2, 0.0)])
def test_shares_that_cannot_be_are_refused(nodes, alpha):
    with pytest.raises(ValueError, match="cannot be dealt"):
        dirichlet_shares(np.zeros(10), nodes, alpha, 0)


def test_digits_are_split_without_overlap_and_written(tmp_path):
    split = digits_split(3, seed=1)
    paths = split.write(tmp_path / "deep" / "er")
    rows = [bytes(row) for x, _ in [*split.shares, split.held_out] for row in x]
    assert len(rows) == 1797
    assert len(split.held_out[0]) == 359
    assert [path.name for path in paths] == ["node-0.npz", "node-1.npz", "node-2.npz"]
    for path, (x, y) in zip(paths, split.shares, strict=True):
        data = Digits({"evaluation_share": 0}).data(Source(path))
        assert torch.equal(data.train[0] * 16, torch.from_numpy(x))
        assert data.train[1].tolist() == y.tolist()


def test_what_a_task_reports_must_be_numbers(tmp_path):
    (tmp_path / "odd_task.py").write_text(
        "import fednode, numpy as np\n"
        "class Odd(fednode.Task):\n"
        "    def model(self): return {'w': np.zeros(1)}\n"
        "    def data(self, source): return fednode.Data((np.zeros(3),))\n"
        "    def arrays(self, model): return model\n"
        "    def load(self, model, arrays): return dict(arrays)\n"
        "    def train(self, model, data, this_round):\n"
        "        fednode.log({'loss': 1}, step=4)\n"
        "        fednode.log({'loss': 'high'})\n"
    )
    said: list[TaskOutput] = []
    spec = TaskSpec("r", "n", str(tmp_path / "odd_task.py"), {}, {}, "fp32", str(tmp_path), {}, 0)
    task = LoadedTask(spec, tmp_path, said.append, Progress())
    first = task.initial_model()
    with pytest.raises(TrainerFailed, match=r"Training failed at odd_task.py, line 9, in train: ValueError"):
        task.train(2, first.schema, first.model)
    assert [(output.values, output.step) for output in said] == [({"loss": 1.0}, 4)]
