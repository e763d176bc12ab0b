"""The default training of a task: SGD with momentum, or Adam, over seeded batches, optionally held back by FedProx.

The rules are written out rather than taken from torch.optim, whose optimizers import another 0.8 CPU seconds' worth of
torch. They agree with it (a test compares them). Bits depend on (seed, node, round), the data and the thread count.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fednode import Data, Interrupted, Result, Round, Task, TaskError, log

if TYPE_CHECKING:
    import torch

ADAM_BETAS = (0.9, 0.999)  # the defaults of the paper (arXiv:1412.6980) and of torch
ADAM_EPSILON = 1e-8

Step = Callable[[], None]  # changes the parameters by their gradients


@dataclass(slots=True)
class Progress:
    """Where a task's code is in its round. `ticks` counts signs of life.

    Calls are numbered upwards; another thread sets `aborted` to the number of the last that nobody waits for any more.
    """

    call: int = 0
    aborted: int = -1
    round: int = 0
    epoch: int = 0
    step: int = 0
    ticks: int = 0

    def begin(self, call: int, round_number: int) -> None:
        self.call, self.round, self.epoch, self.step = call, round_number, 0, 0

    def at(self, epoch: int, step: int) -> None:
        """Note the place. Raises Interrupted when nobody waits for this call any more."""
        self.epoch, self.step = epoch, step
        self.ticks += 1
        if self.call <= self.aborted:
            raise Interrupted


def sgd(
    task: Task,
    model: Any,
    data: Data,
    this_round: Round,
    progress: Progress,
    corrections: Mapping[str, Any] | None = None,
) -> Result:
    """Train `model` in place on `data.train`. The result's loss is the last epoch's mean, seen while learning.

    `corrections`: arrays that are added to every gradient, by the parameter's name (SCAFFOLD).

    Raises TaskError when there is nothing to learn from, a hyper-parameter makes no sense, or the loss is not finite.
    """
    samples = len(data.train[0])
    if not samples:
        raise TaskError("There are no samples to train on", remedy="register more data, or hold out less of it")
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = list(named.values())
    take_step = optimizer_step(parameters, this_round.hyperparameters, _tensors(named, corrections or {}))
    model.train()
    losses = _EpochLoss()
    step = 0
    for epoch, step, rows in this_round.batches(samples):
        losses.enter(epoch, progress)
        progress.at(epoch, step)
        batch = tuple(column[rows] for column in data.train)
        for parameter in parameters:
            parameter.grad = None
        loss = task.loss(model, batch)
        loss.backward()
        take_step()
        losses.add(_finite(float(loss.detach()), epoch, step), len(rows))
    losses.leave()
    return Result(samples, {"loss": losses.mean}, step)


class _EpochLoss:
    """The mean loss of the epoch under way, sent with `log` at its end."""

    def __init__(self) -> None:
        self.epoch, self.rows, self.total, self.mean = 0, 0, 0.0, 0.0

    def enter(self, epoch: int, progress: Progress) -> None:
        if epoch != self.epoch:
            self.leave()
            progress.epoch = self.epoch = epoch

    def add(self, loss: float, rows: int) -> None:
        self.rows += rows
        self.total += loss * rows

    def leave(self) -> None:
        if self.rows:
            self.mean = self.total / self.rows
            log({"loss": self.mean})
        self.rows, self.total = 0, 0.0


def _finite(loss: float, epoch: int, step: int) -> float:
    if not math.isfinite(loss):
        raise TaskError(
            f"The loss became {loss} in epoch {epoch}, step {step}",
            remedy="lower the learning rate, or look for values in the data that are not finite or very large",
        )
    return loss


def _tensors(named: Mapping[str, "torch.Tensor"], arrays: Mapping[str, Any]) -> "dict[int, torch.Tensor]":
    """The arrays as tensors like the parameters, by the parameters' indices."""
    import torch

    return {
        index: torch.from_numpy(arrays[name]).to(parameter)
        for index, (name, parameter) in enumerate(named.items())
        if name in arrays
    }


def optimizer_step(
    parameters: Sequence["torch.Tensor"],
    hyperparameters: Mapping[str, Any],
    corrections: "Mapping[int, torch.Tensor] | None" = None,
) -> Step:
    """The optimizer named by the hyper-parameters, with weight decay, FedProx's pull and SCAFFOLD's `corrections`, by
    index, put into the gradients.

    It works element by element, so that the parameters of many models can be stacked."""
    import torch

    rate = float(hyperparameters.get("learning_rate", 0.1))
    decay = float(hyperparameters.get("weight_decay", 0.0))
    mu = float(hyperparameters.get("proximal_mu", 0.0))
    name = hyperparameters.get("optimizer", "sgd")
    if name == "sgd":
        rule = _momentum(parameters, rate, float(hyperparameters.get("momentum", 0.0)))
    elif name == "adam":
        rule = _adam(parameters, rate)
    else:
        raise TaskError(f"There is no optimizer {name!r}", remedy="choose sgd or adam, or give the task its own train")
    base = [parameter.detach().clone() for parameter in parameters] if mu else []
    corrections = corrections or {}

    def take_step() -> None:
        with torch.no_grad():
            for index, parameter in enumerate(parameters):
                gradient = parameter.grad
                if gradient is None:  # the loss did not depend on it
                    continue
                if decay:
                    gradient.add_(parameter, alpha=decay)
                if mu:
                    gradient.add_(parameter - base[index], alpha=mu)
                if index in corrections:
                    gradient.add_(corrections[index])
                rule(index, parameter, gradient)

    return take_step


Rule = Callable[[int, "torch.Tensor", "torch.Tensor"], None]


def _momentum(parameters: Sequence["torch.Tensor"], rate: float, momentum: float) -> Rule:
    velocities: list[torch.Tensor | None] = [None] * len(parameters)

    def rule(index: int, parameter: "torch.Tensor", gradient: "torch.Tensor") -> None:
        if momentum:
            velocity = velocities[index]
            gradient = gradient.clone() if velocity is None else velocity.mul_(momentum).add_(gradient)
            velocities[index] = gradient
        parameter.add_(gradient, alpha=-rate)

    return rule


def _adam(parameters: Sequence["torch.Tensor"], rate: float) -> Rule:
    """arXiv:1412.6980, algorithm 1, with weight decay in the gradient as in torch.optim.Adam."""
    import torch

    first = [torch.zeros_like(parameter) for parameter in parameters]
    second = [torch.zeros_like(parameter) for parameter in parameters]
    times = [0] * len(parameters)

    def rule(index: int, parameter: "torch.Tensor", gradient: "torch.Tensor") -> None:
        times[index] += 1
        first[index].mul_(ADAM_BETAS[0]).add_(gradient, alpha=1 - ADAM_BETAS[0])
        second[index].mul_(ADAM_BETAS[1]).addcmul_(gradient, gradient, value=1 - ADAM_BETAS[1])
        correction = math.sqrt(1 - ADAM_BETAS[1] ** times[index])
        root = (second[index].sqrt() / correction).add_(ADAM_EPSILON)
        parameter.addcdiv_(first[index], root, value=-rate / (1 - ADAM_BETAS[0] ** times[index]))

    return rule
