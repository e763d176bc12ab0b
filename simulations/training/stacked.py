"""Training many copies of one model at once: node.training.sgd over stacked parameters.

Decides how nodes with different numbers of samples share a step. Every node sees the batches that it would see alone.
A loss that is no mean over the batch's rows is found out: at the first and the last step one node's loss and gradients
are computed in the plain way too, and must agree.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from aggregation.tensors.flat import F32, take_difference
from aggregation.tensors.schema import Buffer, Schema
from fednode import Batch, Round
from node.training.sgd import optimizer_step
from simulations.training.companion import NotTogether
from simulations.training.gradients import Gradients, Stacks

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

    def orders(self) -> Iterator[Rows]:
        """Its rows in the order of each epoch, which its round cuts into batches: one that has them all is not cut."""
        uncut = replace(self.this_round, hyperparameters={**self.this_round.hyperparameters, "batch_size": 0})
        return (order for _, _, order in uncut.batches(self.samples))


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


def stacked_sgd(gradients: Gradients, stacks: Stacks, members: Sequence[Member], witness: int | None) -> Learned:
    """Train a node of each index in `stacks`, whose tensors are changed, as node.training.sgd would train the model.

    `members` come in the order of falling samples. `witness` is the index of the one whose first gradients are
    computed plainly too, or None when nothing is compared. Raises NotTogether, and whatever the task's loss raises."""
    training = _Training(gradients, stacks, members)
    take_step = optimizer_step(training.leaves, members[0].this_round.hyperparameters)
    steps, per_epoch = training.steps, training.steps_per_epoch
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
        remaining = np.count_nonzero(steps > step + 1)
        for name, stack in stacks.items() if remaining < len(rows) else ():
            ended[name][remaining : len(rows)] = stack.detach()[remaining : len(rows)]
    return Learned(ended, steps.tolist(), list((totals / training.samples).T))


class _Training:
    def __init__(self, gradients: Gradients, stacks: Stacks, members: Sequence[Member]) -> None:
        self._gradients = gradients
        self._model = gradients.model.train()
        self._members = members
        self._columns = _joined([member.columns for member in members])
        hyperparameters = members[0].this_round.hyperparameters
        self.samples = np.array([member.samples for member in members])
        self._full = np.minimum(int(hyperparameters.get("batch_size", 32)) or self.samples, self.samples)  # rows
        self.steps_per_epoch = -(-self.samples // self._full)
        self.steps = self.steps_per_epoch * int(hyperparameters.get("epochs", 1))
        self._stacks = {name: stack.requires_grad_() for name, stack in stacks.items()}
        self.leaves = list(stacks.values())

    def batches(self) -> Iterator[tuple[Rows, Rows]]:
        """For each step the rows of the joined columns, and how many of them are a batch, for all nodes that still
        have one: the first of all, for who has fewer samples makes no more steps."""
        samples, full, per_epoch = self.samples, self._full, self.steps_per_epoch
        offsets = np.cumsum(samples) - samples
        orders = [member.orders() for member in self._members]
        shuffled = np.zeros((len(orders), (full * per_epoch).max()), np.int64)  # rows of the epoch, and some to fill up
        for step in range(self.steps[0]):
            active = np.count_nonzero(self.steps > step)
            batch = step % per_epoch[:active]
            for index in np.flatnonzero(batch == 0).tolist():
                shuffled[index, : samples[index]] = next(orders[index])
            starts = batch * full[:active]
            lengths = np.minimum(full[:active], samples[:active] - starts)
            taken = np.take_along_axis(shuffled[:active], starts[:, None] + np.arange(lengths.max()), axis=1)
            yield offsets[:active, None] + taken, lengths

    def gradients(self, rows: Rows, lengths: Rows) -> npt.NDArray[np.float64]:
        """Every node's mean loss over its rows; their gradients are then with the leaves."""
        of_rows = np.arange(rows.shape[1]) < lengths[:, None]
        weights = torch.from_numpy(of_rows / lengths[:, None]).to(self.leaves[0].dtype)
        taken = torch.from_numpy(rows).reshape(-1)
        columns = tuple(column.index_select(0, taken).view(*rows.shape, *column.shape[1:]) for column in self._columns)
        active = self._stacks
        if len(rows) < len(self._members):
            active = {name: stack[: len(rows)] for name, stack in active.items()}
        losses, gradients = self._gradients(active, columns, weights)
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            if gradient is not None and len(rows) < len(leaf):  # zero for those that have made their last step
                gradient, of_active = torch.zeros_like(leaf), gradient
                gradient[: len(rows)] = of_active
            leaf.grad = gradient
        return losses.numpy().astype(np.float64)

    def compare(self, index: int, rows: Rows, loss: float) -> None:
        """Raises NotTogether unless one node's loss and gradients are what the task gives for its whole batch."""
        trained = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, stack in self._stacks.items():
                trained[name].copy_(stack[index])
        self._model.zero_grad()
        plain = self._gradients.task.loss(self._model, tuple(column[rows] for column in self._columns))
        plain.backward()
        expected = float(plain.detach())
        if not np.isfinite([loss, expected]).all():
            return  # it diverges, which is told where it is trained alone
        ours = [leaf.grad[index] for leaf in self.leaves if leaf.grad is not None]
        theirs = [p.grad for name in self._stacks if (p := trained[name]).grad is not None]
        if len(ours) != len(theirs) or abs(loss - expected) > LOSS_TOLERANCE * abs(expected) + 1e-7:
            raise NotTogether("its loss over a batch is not the mean over its rows")
        off = _norm([a - b for a, b in zip(ours, theirs, strict=True)])
        if off > GRADIENT_TOLERANCE * _norm(theirs) + CANCELLATION_TOLERANCE * abs(expected):
            raise NotTogether("its gradients over a batch are not the means over its rows")


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
