"""A loaded task of one node as what trains many at once sees it: whether it can be one of them, and its part in it."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregation.tensors.flat import F32
from fednode import Task
from node.seams import EvaluateResult, TaskOutput
from node.training.participant_state import carries_state
from node.training.task_model import TaskModel
from node.training.training import LoadedTask, Trained
from node.training.worker_checks import clean_metrics

if TYPE_CHECKING:
    from simulations.training.stacked import Member


class NotTogether(Exception):
    """The task has to be trained one node after another. Its text is the reason, as a clause."""


class Key(NamedTuple):
    """Equal for nodes that train the same thing in the same way."""

    run_id: str
    task: str
    parameters: str
    hyperparameters: str
    codec: str
    seed: int
    threads: int


class Companion(LoadedTask):
    """A loaded task that can be trained in the company of other nodes'."""

    @property
    def task(self) -> Task:
        return self._task

    @property
    def key(self) -> Key:
        spec = self._spec
        return Key(
            spec.run_id,
            spec.task,
            _text(spec.task_parameters),
            _text(spec.hyperparameters),
            spec.codec,
            spec.seed,
            spec.threads,
        )

    @property
    def order(self) -> tuple[int, str, str]:
        """Nodes with many samples first, so that neighbours have about as many."""
        return -self.samples, self._draws, self._spec.node_id

    @cached_property
    def samples(self) -> int:
        return len(self._data.train[0]) if self._data is not None else 0

    @cached_property
    def batch_rows(self) -> int:
        """How many rows a full batch has."""
        return min(int(self._spec.hyperparameters.get("batch_size", 32)) or self.samples, self.samples)

    @cached_property
    def samples_held_out(self) -> int:
        held_out = self._data.evaluation if self._data is not None else None
        return len(held_out[0]) if held_out is not None else 0

    @property
    def leaves_training(self) -> bool:
        """Whether its training is fednode's own, goes out from the base alone, and there is something to train on."""
        epochs = self._spec.hyperparameters.get("epochs", 1)
        is_own = type(self._task).train is Task.train and isinstance(epochs, int) and epochs > 0
        return is_own and self.samples > 0 and not carries_state(self._spec.codec, self._spec.method)

    @property
    def leaves_evaluation(self) -> bool:
        return type(self._task).evaluate is Task.evaluate and self.samples_held_out > 0

    def is_like(self, task: Task) -> bool:
        """Whether the task's own attributes, which its loss may use, are those of `task`."""
        try:
            return bool(vars(self._task) == vars(task))
        except (TypeError, ValueError, RuntimeError):  # arrays and tensors do not say whether they are equal
            return False

    def own_model(self) -> TaskModel:
        """Another model of the task, to be shared with others. Tensors of kind local are not for it."""
        return TaskModel(self._task, self._directory)

    def member(self, round_number: int) -> "Member":
        from simulations.training.stacked import Member  # torch, which simulations of other tasks do without

        return Member(self._own_data().train, self._round(round_number))

    def trained(self, round_number: int, difference: F32, epoch_losses: npt.NDArray[np.float64], steps: int) -> Trained:
        """The result of a training that made this difference by way of these losses. Says what it would have said."""
        for epoch, loss in enumerate(epoch_losses.tolist(), 1):
            step = epoch * steps // len(epoch_losses)
            values = clean_metrics({"loss": loss})
            self._say(TaskOutput("metric", values=values, round=round_number, epoch=epoch, step=step))
        metrics = clean_metrics({"loss": float(epoch_losses[-1])})
        return Trained(self._codec.encode(difference), self.samples, metrics, steps)

    def tell(self, round_number: int, text: str) -> None:
        """Put a line into this node's log."""
        self._say(TaskOutput("log", text=text, round=round_number))

    def measured(self, model: Any) -> EvaluateResult | None:
        """What `evaluate` gives for a base that `model` already holds, and which is not changed by it."""
        return self._evaluated(model)


def _text(mapping: Mapping[str, Any]) -> str:
    return repr(sorted(mapping.items(), key=repr))
