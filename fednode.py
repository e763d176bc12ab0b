"""The public face of fednode: write a `Task`, record what it does with `log` and its like, ask a node with a `Client`.

A task gives a model, this node's own data, a loss and metrics; the rest has defaults made for PyTorch. A task that
uses something else overrides `arrays`, `load`, `train` and `evaluate`. Importing this module imports no torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednode_artifacts import Artifact as Artifact
from fednode_artifacts import log_artifact as log_artifact
from fednode_artifacts import log_artifacts as log_artifacts
from fednode_artifacts import log_dict as log_dict
from fednode_artifacts import log_figure as log_figure
from fednode_artifacts import log_text as log_text
from fednode_client import AsyncClient as AsyncClient
from fednode_client import Client as Client
from fednode_client import ClientError as ClientError
from fednode_client import NodeNotRunning as NodeNotRunning
from fednode_client import RequestRefused as RequestRefused
from fednode_endpoints import home_path as home_path
from fednode_endpoints import socket_path as socket_path
from fednode_logging import TaskError as TaskError
from fednode_logging import event as event
from fednode_logging import flat_metrics, split_class
from fednode_logging import log as log
from fednode_logging import log_metric as log_metric
from fednode_logging import log_metrics as log_metrics
from fednode_logging import log_param as log_param
from fednode_logging import log_params as log_params
from fednode_logging import span as span

if TYPE_CHECKING:
    import numpy as np

Batch = tuple[Any, ...]
EVALUATION_BATCH_ROWS = 1024  # a forward pass needs far less memory than training; larger batches gain nothing


class Interrupted(BaseException):
    """Raised inside a task when nobody waits for this round's training any more. Let it pass."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where this node's own data lies: a file or folder, and what its owner registered with it.

    `is_unlabelled`: only predictions are wanted. The labels may be missing; what stands in their place does not count.
    """

    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    is_unlabelled: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """Tensors or arrays of equal length, samples first: `train` to learn from, `evaluation` held out of it."""

    train: Batch
    evaluation: Batch | None = None

    @classmethod
    def split(cls, columns: Batch, share: float = 0.2, seed: int = 0) -> Data:
        """Hold out a random `share` of the rows. The draw depends on `seed` and the number of rows alone, so that a
        run which continues another one never evaluates on what that one trained on."""
        import numpy as np

        if not 0 <= float(share) <= 1:
            raise TaskError(f"evaluation_share is {share}", remedy="give a number from 0 to 1")
        if _all_is_held_out:
            return cls(columns, columns)
        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(columns[0]))
        cut = round(len(order) * float(share)) or int(float(share) > 0 and len(order) > 1)
        held, rest = np.sort(order[:cut]), np.sort(order[cut:])
        return cls(tuple(c[rest] for c in columns), tuple(c[held] for c in columns) if cut else None)


_all_is_held_out = False


@contextmanager
def holding_out(*, everything: bool) -> Iterator[None]:
    """Have `Data.split` hold out every row meanwhile, in their order. For whoever judges a model on other data."""
    global _all_is_held_out  # a task may read its data in threads of its own, which inherit no context variables
    before, _all_is_held_out = _all_is_held_out, everything
    try:
        yield
    finally:
        _all_is_held_out = before


@dataclass(frozen=True, slots=True)
class Round:
    """One round of training. `seed` depends on the run's seed, the node and the round alone, so draws from it replay.

    `directory` is this participant's own for the whole run: what a task writes there it finds in later rounds.
    """

    number: int
    seed: int
    hyperparameters: Mapping[str, Any]
    directory: Path
    learn: Callable[[Task, Any, Data, Round], Result]  # the default training

    def batches(self, samples: int) -> Iterator[tuple[int, int, np.ndarray[Any, Any]]]:
        """Epoch and step, both from 1, and the batch's row numbers, reshuffled every epoch."""
        import numpy as np

        draw = np.random.Generator(np.random.PCG64(self.seed))
        rows = int(self.hyperparameters.get("batch_size", 32)) or samples  # 0: everything is one batch
        step = 0
        for epoch in range(1, int(self.hyperparameters.get("epochs", 1)) + 1):
            order = draw.permutation(samples)
            for start in range(0, samples, rows):
                step += 1
                yield epoch, step, order[start : start + rows]


@dataclass(frozen=True, slots=True)
class Result:
    """What `train` or `evaluate` came to. `samples` weighs it against other nodes'; `metrics` are means over them, each
    a number or, as in `log`, numbers by class. The group's nodes all get them, up to 64 numbers."""

    samples: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0


class Task(ABC):
    """What a run trains. Subclass it once in a module; `parameters` come from the run's manifest.

    `local` and `frozen` are patterns (as in `*.running_mean`) of tensors that each node keeps for itself, or that
    nobody changes; neither travels.
    """

    local: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = dict(parameters)

    @abstractmethod
    def model(self) -> Any:
        """The untrained model, a `torch.nn.Module` unless the task overrides what uses it."""

    @abstractmethod
    def data(self, source: Source) -> Data:
        """This node's own data, from `source` and from nowhere else."""

    def loss(self, model: Any, batch: Batch) -> Any:
        """The mean loss over `batch` as a scalar tensor; `batch` holds some rows of each of `Data`'s tensors."""
        raise TaskError(
            "The task has no loss", remedy="give it loss(self, model, batch), or its own train and evaluate"
        )

    def metrics(self, model: Any, batch: Batch) -> Mapping[str, Any]:
        """Means over `batch`, such as the accuracy; fednode adds the loss and weighs batches by their rows.

        One may be numbers by class: `{"recall": {"cat": 0.9, "dog": 0.7}}`, or a list. A class that the batch lacks is
        left out, or NaN."""
        return {}

    def train(self, model: Any, data: Data, this_round: Round) -> Result:
        """Change `model` in place by learning from `data.train`. By default by SGD or Adam, as the
        hyper-parameters say: epochs, batch_size, optimizer, learning_rate, momentum, weight_decay, proximal_mu."""
        return this_round.learn(self, model, data, this_round)

    def evaluate(self, model: Any, data: Data) -> Result | None:
        """How good `model` is on `data.evaluation`; None without any."""
        if data.evaluation is None or len(data.evaluation[0]) == 0:
            return None
        import torch

        samples, sums, rows = len(data.evaluation[0]), dict[str, float](), dict[str, int]()
        model.eval()
        with torch.no_grad():
            for start in range(0, samples, EVALUATION_BATCH_ROWS):
                batch = tuple(column[start : start + EVALUATION_BATCH_ROWS] for column in data.evaluation)
                means = {"loss": float(self.loss(model, batch)), **self.metrics(model, batch)}
                for key, mean in flat_metrics(means).items():
                    if math.isnan(mean) and split_class(key)[1] is not None:
                        continue  # nobody of this class is in the batch
                    sums[key] = sums.get(key, 0.0) + mean * len(batch[0])
                    rows[key] = rows.get(key, 0) + len(batch[0])
        return Result(samples, {key: total / rows[key] for key, total in sums.items()})

    def predict(self, model: Any, batch: Batch) -> Any:
        """What `model` says of each row of `batch`: an array with an entry for each, or several such arrays by name.

        By default what a torch module gives for all columns but the last, which is taken for the label. A task whose
        model wants something else, or that would rather name classes than give scores, overrides this."""
        import torch

        if not isinstance(model, torch.nn.Module):
            raise TaskError("The task has no predict for its model", remedy="give it predict(self, model, batch)")
        model.eval()
        with torch.no_grad():
            return model(*(batch[:-1] or batch))

    def arrays(self, model: Any) -> dict[str, np.ndarray[Any, Any]]:
        """The model's numbers by name. Names, dtypes and shapes must be the same on every node and in every round."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}

    def load(self, model: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """`model` with these numbers in the place of its own: the same object changed, or a new one."""
        import torch

        state = model.state_dict()
        with torch.no_grad():
            for name, array in arrays.items():
                state[name].copy_(torch.from_numpy(array if array.flags.writeable else array.copy()))
        return model


if __name__ == "__main__":
    # `python -m fednode` is the command. It is found by name while running: nothing on this floor imports from above.
    import_module("node.cli").main()
