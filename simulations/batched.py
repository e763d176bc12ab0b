"""Training the nodes of a simulation together, where their task allows it, with the results of training each alone.

In a simulation nearly all participants are asked to train the same round from the same base at nearly the same virtual
time, and each answer is due only when its training's virtual time is over. So requests are collected, and all that came
until the first is due are computed then. No threads; who shares a stack, and in which order, follows from the nodes and
not from their arrival.

Together goes what leaves `train` to fednode, draws nothing at random, says nothing while it computes and has a model
without buffers or tensors of its own for each node. Whatever else comes up (a loss that vmap cannot do, gradients that
disagree with plain ones) has the run trained one node after another from then on, and the log says why, once.
"""

import logging
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

import fednode
from aggregation.schema import Schema
from node.capture import captured_in_process
from node.reproducible import reproducible
from node.seams import EvaluateResult, TaskOutput
from node.sgd import Progress
from node.training import Trained
from simulations.companion import Companion, Key, NotTogether

if TYPE_CHECKING:
    from simulations.stacked import Learned

log = logging.getLogger("fednode.simulation")

TOGETHER_MIN = 4  # fewer take as long as one after another: a stacked step costs as much as some plain ones
STACK_BYTES_MAX = 64 * 1024 * 1024  # of the parameters; gradients, momentum and results take as much each
# A step of a stack costs about 0.6 ms whatever is in it, in which about so many products of a row with a parameter are
# made. More than that wasted on filling up shorter batches, and another stack is cheaper.
WASTED_PRODUCTS_MAX = 3_000_000
REASON_CHARACTERS_MAX = 300  # of an exception's text, which may hold a whole tensor


class BatchedTraining:
    """The one of a simulation; its nodes' trainers share it."""

    def __init__(self) -> None:
        self._runs: WeakValueDictionary[Key, _Run] = WeakValueDictionary()

    def seat(self, task: Companion) -> "Seat":
        """A place for a node's loaded task, to be held as long as that is in use."""
        run = self._runs.get(task.key)
        if run is None:
            run = self._runs[task.key] = _Run(task)
        return Seat(task, run)


class Seat:
    """One node's task among those of its run."""

    def __init__(self, task: Companion, run: "_Run") -> None:
        self._task = task
        self._run = run

    def request(self, round_number: int, schema: bytes, base: bytes | Path) -> "Request | None":
        """Register a training whose result is asked for later; None when it has to be trained alone."""
        if not isinstance(base, bytes) or not self._task.leaves_training or not self._run.allows(self._task):
            return None
        return Request(self._task, self._run.batch(round_number, schema, base))

    def evaluate(self, round_number: int, schema: bytes, base: bytes | Path) -> EvaluateResult | None:
        """What the task finds on its held-out data, with the same bits as alone: the model is loaded once for all."""
        if isinstance(base, bytes) and self._task.leaves_evaluation and self._run.allows(self._task):
            model = self._run.model_with(schema, base)
            if model is not None:
                return self._task.evaluate_on(round_number, model)
        return self._task.evaluate(round_number, schema, base)


class Request:
    """One node's training of one round. Withdraw it when it is not waited for any more."""

    def __init__(self, task: Companion, batch: "_Batch") -> None:
        self.task = task
        self.samples = task.samples
        self.learned: tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.float64]] | None = None
        self._batch = batch
        batch.requests.append(self)

    def result(self) -> Trained:
        """The result, computed now with all that were requested so far, if it is not there. Raises TrainerFailed."""
        batch = self._batch
        batch.close()
        if self.learned is None:
            return self.task.train(batch.round, batch.schema, batch.base)
        return self.task.trained(batch.round, batch.run.schema(batch.schema), batch.base, *self.learned)

    def withdraw(self) -> None:
        if self in self._batch.requests:
            self._batch.requests.remove(self)


@dataclass(eq=False)
class _Batch:
    """Requests for one round from one base."""

    run: "_Run"
    round: int
    schema: bytes
    base: bytes

    def __post_init__(self) -> None:
        self.requests: list[Request] = []

    def is_for(self, round_number: int, schema: bytes, base: bytes) -> bool:
        return (self.round, self.schema) == (round_number, schema) and self.base == base

    def close(self) -> None:
        """Compute what is open, and take no more requests. Requests that are left without a result go alone."""
        if self not in self.run.open:
            return
        self.run.open.remove(self)
        requests, self.requests = sorted(self.requests, key=lambda request: request.task.order), []
        if len(requests) >= TOGETHER_MIN:
            self.run.learn(self, requests)


class _Run:
    """What the nodes of a run share: a model of its task, and whether they can be trained together."""

    def __init__(self, first: Companion) -> None:
        self.open: list[_Batch] = []
        self._task = first.task
        self._key = first.key
        self._refused = ""  # why not
        self._shared = first.own_model()
        self._filled: tuple[bytes, bytes, Any] | None = None  # the schema and base that the model holds unchanged

    def allows(self, task: Companion) -> bool:
        return not self._refused and task.is_like(self._task)

    def batch(self, round_number: int, schema: bytes, base: bytes) -> _Batch:
        """Where requests for this are collected."""
        self.open = [batch for batch in self.open if batch.requests]
        for batch in self.open:
            if batch.is_for(round_number, schema, base):
                return batch
        self.open.append(_Batch(self, round_number, schema, base))
        return self.open[-1]

    def schema(self, schema: bytes) -> Schema:
        return self._shared.agree(schema)

    def model_with(self, schema: bytes, base: bytes) -> Any:
        """The model filled with `base`, not to be changed; None when the nodes cannot share one."""
        if self._filled is None or self._filled[:2] != (schema, base):
            self._filled = None
            with self._refusing():
                self._filled = schema, base, self._fill(schema, base)
        return self._filled[2] if self._filled else None

    def learn(self, batch: _Batch, requests: Sequence[Request]) -> None:
        """Train these together, in the order of falling samples."""
        self._filled = None
        with self._refusing():
            model = self._fill(batch.schema, batch.base)
            for part in _stacks(requests, sum(parameter.numel() for parameter in model.parameters())):
                learned = self._learn(model, part, batch.round)
                _hand_out(learned, part)
        if self._refused:
            for request in requests:
                request.learned = None

    def _learn(self, model: Any, requests: Sequence[Request], round_number: int) -> "Learned":
        from simulations.stacked import stacked, stacked_sgd

        with _nothing_drawn():
            members = [request.task.member(round_number) for request in requests]
            stacks = stacked(model, len(requests))
            return stacked_sgd(self._task, model, stacks, members, witness=round_number % len(members))

    def _fill(self, schema: bytes, base: bytes) -> Any:
        """The model with `base` in it. Raises NotTogether for models that nodes cannot share."""
        agreed = self._shared.agree(schema)
        if self._shared.own_arrays:
            raise NotTogether("it has arrays of its own")
        if any(spec.kind not in ("averaged", "frozen") for spec in agreed.tensors):
            raise NotTogether("its model has tensors that are not averaged")
        model = self._shared.filled(agreed, base)
        if next(model.buffers(), None) is not None:
            raise NotTogether("its model has buffers")
        return model

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Within, the task's code runs for many nodes. Whatever is amiss with that has the run refused."""
        said: list[TaskOutput] = []
        try:
            with (
                captured_in_process(said.append, Progress()),
                fednode.listening(lambda values, step: said.append(TaskOutput("metric"))),
                reproducible(self._key.seed, self._key.threads),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")  # of operations that vmap does slowly
                yield
            if said:
                raise NotTogether("its code says something while it computes")
        except NotTogether as reason:
            self._refuse(str(reason))
        except Exception as error:  # noqa: BLE001 - a task's code is anybody's; trained alone, its failure is told
            self._refuse(f"{type(error).__name__}: {str(error).strip()[:REASON_CHARACTERS_MAX]}")

    def _refuse(self, reason: str) -> None:
        self._refused = reason
        log.info("the nodes of run %s are trained one after another: %s", self._key.run_id[:8], reason)


def _stacks(requests: Sequence[Request], parameters: int) -> Iterator[Sequence[Request]]:
    """Parts of what is to be trained that go into a stack each; those that would be too small go alone."""
    part: list[Request] = []
    wasted = 0
    for request in requests:
        if part:
            wasted += (part[0].samples - request.samples) * parameters
            if wasted > WASTED_PRODUCTS_MAX or (len(part) + 1) * parameters * 4 > STACK_BYTES_MAX:
                yield part
                part, wasted = [], 0
        part.append(request)
    yield part


def _hand_out(learned: "Learned", requests: Sequence[Request]) -> None:
    """Each its part. One whose loss was not finite at some step is left to be trained, and to fail, alone."""
    arrays = {name: stack.numpy() for name, stack in learned.parameters.items()}
    for index, request in enumerate(requests):
        if np.isfinite(learned.epoch_losses[index]).all():
            request.learned = {name: array[index] for name, array in arrays.items()}, learned.epoch_losses[index]


@contextmanager
def _nothing_drawn() -> Iterator[None]:
    """Raises NotTogether when a generator was drawn from within: each node would have drawn for itself."""
    before = _generators()
    yield
    if _generators() != before:
        raise NotTogether("its training draws at random")


def _generators() -> tuple[Any, ...]:
    import torch

    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tobytes(), numpy_state[2], torch.get_rng_state().numpy().tobytes()
