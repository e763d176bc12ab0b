"""FedBN: normalisation stays with each node, for trainings and evaluations alike (arXiv:2102.07623)."""

from pathlib import Path

import numpy as np
import pytest

from aggregation.combine import combine
from aggregation.settings import CombineSettings
from aggregation.tensors.schema import Schema
from aggregation.updates import update_of
from node.seams import TaskOutput, TaskSpec
from node.training.carried_files import name_next, use_named
from node.training.sgd import Progress
from node.training.task_model import LOCAL_FILE
from node.training.training import LoadedTask

TASK = """
import fednode
import numpy as np
import torch

class Shifted(fednode.Task):
    local = {local}

    def model(self):
        layers = torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        return torch.nn.Sequential(*layers)

    def data(self, source):
        with np.load(source.path) as file:
            x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
        return fednode.Data((x[:150], y[:150]), (x[150:], y[150:]))

    def loss(self, model, batch):
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])
"""
UPDATE = "a" * 64


class Ground:
    """Nodes whose features are measured in units of their own."""

    def __init__(self, folder: Path, local: str, method: str = "fedavg", codec: str = "fp32") -> None:
        self.folder = folder
        self.said: list[TaskOutput] = []
        self.method, self.codec = method, codec
        folder.mkdir()
        (folder / "shifted_task.py").write_text(TASK.replace("{local}", local))
        random = np.random.default_rng(5)
        for number, (scale, shift) in enumerate([(1.0, 0.0), (30.0, 50.0), (0.05, -3.0)]):
            x = random.standard_normal((200, 4))
            y = np.tanh(x[:, :1] - x[:, 1:2] * x[:, 2:3])
            x = x * scale + shift
            (folder / f"node-{number}").mkdir()
            np.savez(folder / f"node-{number}.npz", x=x.astype("f4"), y=y.astype("f4"))
        self.nodes = [self.node(number) for number in range(3)]
        first = self.nodes[0].initial_model()
        self.schema, self.base, self.state = first.schema, first.model, b""

    def node(self, number: int) -> LoadedTask:
        spec = TaskSpec(
            "run",
            f"node-{number}",
            str(self.folder / "shifted_task.py"),
            {},
            {"epochs": 3, "learning_rate": 0.1},
            self.codec,
            str(self.folder / f"node-{number}.npz"),
            {},
            1,
            method=self.method,
        )
        return LoadedTask(spec, self.folder / f"node-{number}", self.said.append, Progress())

    def round(self, number: int) -> None:
        updates = []
        for at, node in enumerate(self.nodes):
            learned = node.train(number, self.schema, self.base, server_state=self.state)
            updates.append(update_of(f"node-{at}", learned.update, learned.samples, steps=learned.steps))
            name_next(self.folder / f"node-{at}", number, UPDATE)
            use_named(self.folder / f"node-{at}", number, UPDATE)
        settings = CombineSettings(method=self.method, update_codec=self.codec)
        schema = Schema.from_bytes(self.schema)
        combined = combine(self.base, schema, updates, settings, self.state, roster_nodes=3)
        assert not combined.refused
        self.base, self.state = combined.model, combined.server_state

    def losses(self) -> list[float]:
        found = [node.evaluate(9, self.schema, self.base) for node in self.nodes]
        return [each.metrics["loss"] for each in found if each is not None]


def test_local_normalisation_helps_where_features_are_shifted(tmp_path: Path) -> None:
    shared, own = Ground(tmp_path / "shared", "()"), Ground(tmp_path / "own", '("0.*",)')
    for number in range(1, 9):
        shared.round(number)
        own.round(number)
    assert max(own.losses()) < 0.6 * max(shared.losses())
    kinds = {spec.name: spec.kind for spec in Schema.from_bytes(own.schema).tensors}
    assert {name for name, kind in kinds.items() if kind == "local"} == {
        "0.weight",
        "0.bias",
        "0.running_mean",
        "0.running_var",
        "0.num_batches_tracked",
    }
    # Counters that are shared take the greatest.
    views = Schema.from_bytes(shared.schema).views(shared.base)
    assert int(views["0.num_batches_tracked"]) == 8 * 3 * 5


@pytest.mark.parametrize(("method", "codec"), [("scaffold", "fp32"), ("fednova", "bf16"), ("scaffold", "int8")])
def test_it_goes_with_the_methods(tmp_path: Path, method: str, codec: str) -> None:
    ground = Ground(tmp_path / "own", '("0.*",)', method, codec)
    before = ground.losses()
    for number in range(1, 7):
        ground.round(number)
    assert max(ground.losses()) < 0.6 * max(before)


def test_a_node_that_is_started_again_evaluates_with_its_own(tmp_path: Path) -> None:
    ground = Ground(tmp_path / "own", '("0.*",)')
    for number in (1, 2):
        ground.round(number)
    expected = ground.losses()
    ground.nodes = [ground.node(number) for number in range(3)]
    assert ground.losses() == expected
    ground.nodes = [ground.node(number) for number in range(3)]
    file = tmp_path / "own" / "node-1" / LOCAL_FILE
    file.write_bytes(file.read_bytes()[:-1])
    again = ground.losses()
    assert (again[0], again[2]) == (expected[0], expected[2])
    assert again[1] != expected[1]
    said = [output.text for output in ground.said if output.kind == "log"]
    assert len(said) == 1
    assert said[0].startswith("the tensors that this node keeps to itself cannot be read")
