"""Steps that are played from a tape: the bits of the steps themselves, and no tape where there can be none."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_batched import PARAMETERS, play, write_nodes

from fednode import Batch, Data, Source, Task
from simulations.training import gradients
from simulations.training.batched import BatchedTraining
from simulations.training.gradients import Gradients
from simulations.training.tape import record

UNEVEN = [40, 12, 40, 25, 33, 40]
NEVER = 10**9


def weighted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (torch.tensor([1.0, 2.0, 3.0]) * x).sum() * y.softmax(0)


def test_a_tape_gives_the_same_bits_for_other_values():
    x, y = torch.randn(4, 3), torch.randn(5)
    outputs, tape = record(lambda: (weighted(x, y), None, y), (x, y))
    assert tape is not None
    for values in ((x, y), (torch.randn(4, 3), torch.randn(5))):
        played = tape(*values)
        assert played[0] is not None
        assert torch.equal(played[0], weighted(*values))
        assert played[1] is None
        assert played[2] is values[1]
    assert outputs[0] is not None
    assert torch.equal(outputs[0], weighted(x, y))


def test_what_is_taken_from_elsewhere_is_on_the_tape_by_reference():
    x, elsewhere = torch.ones(3), torch.ones(3)
    _, tape = record(lambda: (x * elsewhere,), (x,))
    assert tape is not None
    elsewhere.fill_(5)
    assert torch.equal(tape(x)[0], torch.full((3,), 5.0))


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.clone().add_(1),
        lambda x: x * float(x.sum()),
        lambda x: x + torch.rand(3, generator=torch.Generator()),
    ],
    ids=["in-place", "number", "generator"],
)
def test_what_is_no_list_of_operations_on_tensors_is_not_recorded(work: Callable[[torch.Tensor], torch.Tensor]):
    x = torch.ones(3)
    (output,), tape = record(lambda: (work(x),), (x,))
    assert output is not None
    assert tape is None


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "training",
    [
        {"batch_size": 8, "epochs": 3},
        {"batch_size": 8, "epochs": 2, "momentum": 0.9, "weight_decay": 0.01, "proximal_mu": 0.1},
        {"batch_size": 0, "epochs": 3, "optimizer": "adam", "learning_rate": 0.001},
    ],
    ids=["sgd", "all-of-sgd", "adam"],
)
def test_a_simulation_played_from_tapes_has_the_same_bits(tmp_path, monkeypatch, tied, training):
    specs = write_nodes(tmp_path, UNEVEN, hyperparameters=training, task_parameters={**PARAMETERS, "tied": tied})
    made: list[bool] = []

    def counted(work: Any, inputs: Any) -> Any:
        outputs, tape = record(work, inputs)
        made.append(tape is not None)
        return outputs, tape

    monkeypatch.setattr(gradients, "record", counted)
    results = []
    for after in (NEVER, 1):
        monkeypatch.setattr(gradients, "RECORDED_AFTER_STEPS", after)
        results.append(play(specs, BatchedTraining(together_min=2), rounds=4))
    assert made
    assert all(made)
    assert results[0].trained == results[1].trained
    assert results[0].said == results[1].said


class Drifting(Task):
    """Its loss is another at every call, which it keeps from torch."""

    calls = 0

    def model(self) -> torch.nn.Module:
        return torch.nn.Linear(3, 1)

    def data(self, source: Source) -> Data:
        raise NotImplementedError

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        type(self).calls += 1
        loss: torch.Tensor = model(batch[0]).square().mean() * float(self.calls)
        return loss


def test_a_tape_that_does_not_give_the_same_bits_is_not_used(monkeypatch):
    monkeypatch.setattr(gradients, "RECORDED_AFTER_STEPS", 2)
    monkeypatch.setattr(Drifting, "calls", 0)
    task = Drifting({})
    model = task.model()
    step = Gradients(task, model)
    stacks = {name: value.detach().expand(4, *value.shape).clone() for name, value in model.named_parameters()}
    stacks = {name: stack.requires_grad_() for name, stack in stacks.items()}
    columns, weights = (torch.randn(4, 5, 3),), torch.full((4, 5), 0.2)
    losses = [step(stacks, columns, weights)[0] for _ in range(6)]
    for number, loss in enumerate(losses, 1):
        torch.testing.assert_close(loss, losses[0] * number)


def test_shapes_are_bounded(monkeypatch):
    monkeypatch.setattr(gradients, "RECORDED_AFTER_STEPS", 2)
    monkeypatch.setattr(gradients, "SHAPES_MAX", 1)
    recorded: list[int] = []

    def counted(work: Any, inputs: Any) -> Any:
        recorded.append(len(inputs[-1]))
        return record(work, inputs)

    monkeypatch.setattr(gradients, "record", counted)
    task = Drifting({})
    model = task.model()
    step = Gradients(task, model)
    for nodes in (4, 3, 4, 3, 3):
        stacks = {n: p.detach().expand(nodes, *p.shape).clone().requires_grad_() for n, p in model.named_parameters()}
        step(stacks, (torch.randn(nodes, 5, 3),), torch.full((nodes, 5), 0.2))
    assert recorded == [4]
