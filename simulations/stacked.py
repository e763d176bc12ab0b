"""Training many copies of one model at once: node.sgd over stacked parameters, with torch.func.vmap.

Decides how nodes with different numbers of samples share a step. A task's loss is a mean over the batch's rows, so it
is taken of each row alone and then averaged with weights; rows that only fill up a shorter batch weigh nothing. Every
node sees the batches that it would see alone. A loss that is no such mean is found out: at the first and the last step
one node's loss and gradients are computed in the plain way too, and must agree.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch.func import functional_call, vmap

from aggregation.flat import F32, take_difference
from aggregation.schema import Buffer, Schema
from fednode import Batch, Round, Task
from node.sgd import optimizer_step
from simulations.companion import NotTogether

Stacks = dict[str, torch.Tensor]  # (nodes, …) by the parameter's name
Rows = npt.NDArray[np.int64]

# Gradients may differ by the order of float32 sums; a wrong one differs by more. Relative to its norm, and to the loss
# where the rows' gradients nearly cancel out.
GRADIENT_TOLERANCE = 1e-3
CANCELLATION_TOLERANCE = 1e-5
LOSS_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Member:
    """One node's part: the columns of its training data, and the round that gives its batches."""

    columns: Batch
    this_round: Round

    @cached_property
    def samples(self) -> int:
        return len(self.columns[0])

    @cached_property
    def steps_per_epoch(self) -> int:
        rows = int(self.this_round.hyperparameters.get("batch_size", 32)) or self.samples
        return -(-self.samples // rows)

    @cached_property
    def steps(self) -> int:
        return self.steps_per_epoch * int(self.this_round.hyperparameters.get("epochs", 1))


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of it. `epoch_losses` has for each node its mean loss in each epoch; not finite where it diverged."""

    parameters: Stacks
    steps: list[int]
    epoch_losses: list[npt.NDArray[np.float64]]

    def differences(self, schema: Schema, base: Buffer) -> F32:
        """The flat difference of each node from `base`, of which its update is the code: (nodes, elements).

        `schema` may have averaged and frozen tensors alone."""
        differences = np.zeros((len(self.epoch_losses), schema.averaged_elements), np.float32)
        before, start = schema.views(base), 0
        for spec in schema.averaged:
            stop = start + spec.elements
            if spec.name in self.parameters:
                after = self.parameters[spec.name].numpy().reshape(len(differences), -1)
                take_difference(spec.dtype, before[spec.name].reshape(-1), after, out=differences[:, start:stop])
            start = stop
        return differences


def stacked(model: torch.nn.Module, nodes: int) -> Stacks:
    """What training changes of `model`, so many times. Raises NotTogether for models that cannot be stacked."""
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found or {parameter.dtype for parameter in found.values()} - {torch.float32, torch.float64}:
        raise NotTogether("its model's parameters are not float32 or float64")
    return {name: value.detach().expand(nodes, *value.shape).clone() for name, value in found.items()}


def stacked_sgd(
    task: Task, model: torch.nn.Module, stacks: Stacks, members: Sequence[Member], witness: int | None
) -> Learned:
    """Train a node of each index in `stacks`, whose tensors are changed, as node.sgd would train `model` with them.

    `members` come in the order of falling samples. `witness` is the index of the one whose first gradients are
    computed plainly too, or None when nothing is compared. Raises NotTogether, and whatever the task's loss raises."""
    training = _Training(task, model, stacks, members)
    take_step = optimizer_step(training.leaves, members[0].this_round.hyperparameters)
    steps = [member.steps for member in members]
    per_epoch = np.array([member.steps_per_epoch for member in members])
    ended = {name: torch.empty_like(stack) for name, stack in stacks.items()}
    totals = np.zeros((steps[0] // per_epoch[0], len(members)))
    for step, (rows, lengths) in enumerate(training.batches()):
        losses = training.gradients(rows, lengths)
        totals[step // per_epoch[: len(rows)], np.arange(len(rows))] += losses * lengths
        if witness is not None and step in (0, steps[0] - 1):
            at = witness if step == 0 else 0
            training.compare(at, rows[at, : lengths[at]], float(losses[at]))
        take_step()
        # A node that has made its last step is put aside: its stacked copy moves on, to no end.
        done = [index for index in range(len(rows)) if steps[index] == step + 1]
        if done:
            for name, stack in stacks.items():
                ended[name][done[0] : done[-1] + 1] = stack.detach()[done[0] : done[-1] + 1]
    means = totals / np.array([member.samples for member in members])
    return Learned(ended, steps, list(means.T))


class _Training:
    def __init__(self, task: Task, model: torch.nn.Module, stacks: Stacks, members: Sequence[Member]) -> None:
        self._task = task
        self._model = model.train()
        self._members = members
        self._columns = _joined([member.columns for member in members])
        self._offsets = np.cumsum([0, *(member.samples for member in members)])[:-1]
        self._stacks = {f"_model.{name}": stack.requires_grad_() for name, stack in stacks.items()}
        self._loss = _Loss(task, model)
        self.leaves = list(stacks.values())

    def batches(self) -> Iterator[tuple[Rows, Rows]]:
        """For each step the rows of the joined columns, and how many of them are a batch, for all nodes that still
        have one: the first of all, for who has fewer samples makes no more steps."""
        draws = [member.this_round.batches(member.samples) for member in self._members]
        for _ in range(self._members[0].steps):
            batches = [drawn[2] for draw in draws if (drawn := next(draw, None)) is not None]
            lengths = np.array([len(batch) for batch in batches])
            rows = np.repeat(self._offsets[: len(batches), None], lengths.max(), axis=1)
            for row, batch in zip(rows, batches, strict=True):
                row[: len(batch)] += batch
            yield rows, lengths

    def gradients(self, rows: Rows, lengths: Rows) -> npt.NDArray[np.float64]:
        """Every node's mean loss over its rows; their gradients are then with the leaves."""
        for leaf in self.leaves:
            leaf.grad = None
        of_rows = np.arange(rows.shape[1]) < lengths[:, None]
        weights = torch.from_numpy(of_rows / lengths[:, None]).to(self.leaves[0].dtype)
        taken = torch.from_numpy(rows)
        active = self._stacks
        if len(rows) < len(self._members):  # the gradients of those that have made their last step are zero then
            active = {name: stack[: len(rows)] for name, stack in active.items()}
        losses = vmap(self._of_node)(active, tuple(column[taken] for column in self._columns), weights)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach().numpy().astype(np.float64)

    def _of_node(self, parameters: Stacks, columns: Batch, weights: torch.Tensor) -> torch.Tensor:
        losses = vmap(self._of_row, in_dims=(None, 0))(parameters, columns)
        if losses.shape != weights.shape:
            raise NotTogether(f"its loss has the shape {list(losses.shape[1:])}")
        return (losses * weights).sum()

    def _of_row(self, parameters: Stacks, row: Batch) -> torch.Tensor:
        batch = tuple(value.unsqueeze(0) for value in row)
        loss: torch.Tensor = functional_call(self._loss, parameters, (batch,))
        return loss

    def compare(self, index: int, rows: Rows, loss: float) -> None:
        """Raises NotTogether unless one node's loss and gradients are what the task gives for its whole batch."""
        trained = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, stack in self._stacks.items():
                trained[name.removeprefix("_model.")].copy_(stack[index])
        self._model.zero_grad()
        plain = self._task.loss(self._model, tuple(column[rows] for column in self._columns))
        plain.backward()
        expected = float(plain.detach())
        if not np.isfinite([loss, expected]).all():
            return  # it diverges, which is told where it is trained alone
        ours = [leaf.grad[index] for leaf in self.leaves if leaf.grad is not None]
        theirs = [p.grad for name in self._stacks if (p := trained[name.removeprefix("_model.")]).grad is not None]
        if len(ours) != len(theirs) or abs(loss - expected) > LOSS_TOLERANCE * abs(expected) + 1e-7:
            raise NotTogether("its loss over a batch is not the mean over its rows")
        off = _norm([a - b for a, b in zip(ours, theirs, strict=True)])
        if off > GRADIENT_TOLERANCE * _norm(theirs) + CANCELLATION_TOLERANCE * abs(expected):
            raise NotTogether("its gradients over a batch are not the means over its rows")


class _Loss(torch.nn.Module):
    """The task's loss as a module over its model, so that functional_call can put other parameters into the model."""

    def __init__(self, task: Task, model: torch.nn.Module) -> None:
        super().__init__()
        self._task = task
        self._model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = self._task.loss(self._model, batch)
        return loss


def _joined(members: Sequence[Batch]) -> Batch:
    """Each column of all nodes, one node after another. Raises NotTogether when they do not fit together."""
    for columns in members:
        if not all(isinstance(column, torch.Tensor) and column.device.type == "cpu" for column in columns):
            raise NotTogether("its data is not all tensors on the CPU")
        forms = [(column.dtype, column.shape[1:]) for column in columns]
        if forms != [(column.dtype, column.shape[1:]) for column in members[0]]:
            raise NotTogether("its nodes' rows differ in shape or dtype")
    return tuple(torch.cat(parts) for parts in zip(*members, strict=True))


def _norm(tensors: Sequence[torch.Tensor | None]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors if tensor is not None))
