"""The task contract and the default training: batches, optimizers, seeds, and models between their two forms."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fednode
from fednode import Data, Round, Source, Task, TaskError
from fednode_logging import LoggedMetrics, listening
from node.seams import TaskOutput, TaskSpec, TrainerFailed
from node.training.reproducible import derived_seed, reproducible
from node.training.sgd import Progress, sgd
from node.training.task_model import TaskModel
from node.training.training import LoadedTask


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
    with listening(heard.append):
        fednode.log({"loss": 1.0}, step=3)
    fednode.log({"loss": 2.0})
    assert heard == [LoggedMetrics({"loss": 1.0}, step=3)]


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
    source = models.raw_of(schema, model)
    trained = source.view(0, source.size, memoryview(bytearray(source.size)))
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
    with pytest.raises(TrainerFailed, match="The metric 'loss' is 'high', which is no number"):
        task.train(2, first.schema, first.model)
    assert [(output.values, output.step) for output in said] == [({"loss": 1.0}, 4)]
