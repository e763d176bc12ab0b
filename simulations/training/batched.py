"""Training the nodes of a simulation together, where their task allows it, with the results of training each alone.

In a simulation nearly all participants are asked to train the same round from the same base at nearly the same virtual
time, and each answer is due only when its training's virtual time is over. So requests are collected, and all that came
until the first is due are computed then. No threads; who shares a stack, and in which order, follows from the nodes and
not from their arrival.

Together goes what leaves `train` to fednode, draws nothing at random, says nothing while it computes and has a model
without buffers or tensors of its own for each node. Whatever else comes up (a loss that vmap cannot do, gradients that
disagree with plain ones) has the run trained one node after another from then on, and the log says why, once.
"""

import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from aggregation.tensors.flat import F32
from fednode_logging import listening
from node.seams import EvaluateResult, TaskOutput
from node.training.capture import captured_in_process
from node.training.reproducible import reproducible
from node.training.sgd import Progress
from node.training.training import Trained
from simulations.training.companion import Companion, Key, NotTogether

if TYPE_CHECKING:
    from simulations.training.gradients import Gradients

T = TypeVar("T")

# With fewer the whole of a simulation gains less than loading what vmap needs takes, some 0.2 CPU seconds.
TOGETHER_MIN = 16
STACK_BYTES_MAX = 64 * 1024 * 1024  # of the parameters; gradients, momentum and results take as much each
# A step of a stack costs about 0.6 ms whatever is in it, in which about so many products of a row with a parameter are
# made. More than that wasted on filling up shorter batches, and another stack is cheaper.
WASTED_PRODUCTS_MAX = 3_000_000
# A loss that is no mean over rows shows at once; one that is none for some data is looked for now and then. Comparing
# costs about a step of a stack.
COMPARED_EVERY_BATCHES = 8
REASON_CHARACTERS_MAX = 300  # of an exception's text, which may hold a whole tensor


class BatchedTraining:
    """The one of a simulation; its nodes' trainers share it. Fewer than `together_min` are trained one by one."""

    def __init__(self, together_min: int = TOGETHER_MIN) -> None:
        self._together_min = together_min
        self._runs: WeakValueDictionary[Key, _Run] = WeakValueDictionary()

    def seat(self, task: Companion) -> "Seat":
        """A place for a node's loaded task, to be held as long as that is in use."""
        run = self._runs.get(task.key)
        if run is None:
            run = self._runs[task.key] = _Run(task, self._together_min)
        return Seat(task, run)


class Seat:
    """One node's task among those of its run."""

    def __init__(self, task: Companion, run: "_Run") -> None:
        self._task = task
        self._run = run

    def training(self, round_number: int, schema: bytes, base: bytes | Path) -> "Training | None":
        """Register a training whose result is asked for later; None when it has to be done alone."""
        if not self._task.leaves_training or not self._run.allows(self._task) or not isinstance(base, bytes):
            return None
        return Training(self._task, self._run.batch(Training, round_number, schema, base))

    def evaluation(self, round_number: int, schema: bytes, base: bytes | Path) -> "Evaluation | None":
        """Register an evaluation whose result is asked for later; None when it has to be done alone."""
        if not self._task.leaves_evaluation or not self._run.allows(self._task) or not isinstance(base, bytes):
            return None
        return Evaluation(self._task, self._run.batch(Evaluation, round_number, schema, base))


class Request(ABC, Generic[T]):
    """What one node wants done in one round. Withdraw it when it is not waited for any more."""

    def __init__(self, task: Companion, batch: "_Batch") -> None:
        self.task = task
        self.batch = batch
        batch.requests.append(self)

    @property
    @abstractmethod
    def samples(self) -> int:
        """On how many samples it works."""

    @abstractmethod
    def result(self) -> T | None:
        """The result, computed now with all that were requested so far, if it is not there. None: do it alone."""

    def withdraw(self) -> None:
        if self in self.batch.requests:
            self.batch.requests.remove(self)


class Training(Request[Trained]):
    """One node's training of one round."""

    learned: tuple[F32, npt.NDArray[np.float64], int] | None = None  # its difference, loss in each epoch, and steps

    @property
    def samples(self) -> int:
        return self.task.samples

    def result(self) -> Trained | None:
        self.batch.close(self.task)
        return self.task.trained(self.batch.round, *self.learned) if self.learned is not None else None


class Evaluation(Request[EvaluateResult]):
    """One node's evaluation of one model, which is loaded once for all. With the same bits as alone."""

    found: EvaluateResult | None = None

    @property
    def samples(self) -> int:
        return self.task.samples_held_out

    def result(self) -> EvaluateResult | None:
        self.batch.close(self.task)
        return self.found


@dataclass(eq=False)
class _Batch:
    """Requests of one kind for one round from one base."""

    run: "_Run"
    kind: type[Request[Any]]
    round: int
    schema: bytes
    base: bytes

    def __post_init__(self) -> None:
        self.requests: list[Any] = []

    def is_for(self, kind: type[Request[Any]], round_number: int, schema: bytes, base: bytes) -> bool:
        return (self.kind, self.round, self.schema) == (kind, round_number, schema) and self.base == base

    def close(self, asker: Companion) -> None:
        """Compute what is open, and take no more requests. Those that are left without a result are done alone."""
        if self not in self.run.open:
            return
        self.run.open.remove(self)
        requests, self.requests = sorted(self.requests, key=lambda request: request.task.order), []
        if self.kind is Evaluation:
            self.run.measure(self, requests)
        elif len(requests) >= self.run.together_min:
            self.run.learn(self, requests)
        self.run.tell(asker, self.round)


class _Run:
    """What the nodes of a run share: a model of its task, and whether they can work together."""

    def __init__(self, first: Companion, together_min: int) -> None:
        self.together_min = together_min
        self.open: list[_Batch] = []
        self._task = first.task
        self._key = first.key
        self._refused = ""  # why not
        self._told = False
        self._shared = first.own_model()
        self._batches = 0
        self._gradients: Gradients | None = None

    def allows(self, task: Companion) -> bool:
        return not self._refused and task.is_like(self._task)

    def batch(self, kind: type[Request[Any]], round_number: int, schema: bytes, base: bytes) -> _Batch:
        """Where requests for this are collected."""
        self.open = [batch for batch in self.open if batch.requests]
        for batch in self.open:
            if batch.is_for(kind, round_number, schema, base):
                return batch
        self.open.append(_Batch(self, kind, round_number, schema, base))
        return self.open[-1]

    def learn(self, batch: _Batch, requests: Sequence[Training]) -> None:
        """Train these, in the order of falling samples."""
        from simulations.training.gradients import Gradients  # torch, which simulations of other tasks do without
        from simulations.training.stacked import stacked, stacked_sgd

        compare = self._batches % COMPARED_EVERY_BATCHES == 0
        self._batches += 1
        with self._refusing():
            model = self._fill(batch.schema, batch.base)
            if self._gradients is None:
                self._gradients = Gradients(self._task, model)
            for part in _stacks(requests, sum(parameter.numel() for parameter in model.parameters())):
                with _nothing_drawn():
                    members = [request.task.member(batch.round) for request in part]
                    stacks = stacked(self._fill(batch.schema, batch.base), len(part))
                    witness = batch.round % len(part) if compare else None
                    learned = stacked_sgd(self._gradients, stacks, members, witness)
                differences = learned.differences(self._shared.agree(batch.schema), batch.base)
                results = zip(differences, learned.epoch_losses, learned.steps, strict=True)
                for request, (difference, losses, steps) in zip(part, results, strict=True):
                    if np.isfinite(losses).all():  # else it fails alone, and says where
                        request.learned = difference, losses, steps
        if self._refused:
            for request in requests:
                request.learned = None

    def measure(self, batch: _Batch, requests: Sequence[Evaluation]) -> None:
        """Evaluate these."""
        with self._refusing():
            model = self._fill(batch.schema, batch.base)
            with _nothing_drawn():
                for request in requests:
                    request.found = request.task.measured(model)
        if self._refused:
            for request in requests:
                request.found = None

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
                listening(lambda entry: said.append(TaskOutput("metric"))),
                reproducible(self._key.seed, self._key.threads),
                _unfilled_memory(),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")  # of operations that vmap does slowly
                yield
            if said:
                raise NotTogether("its code says something while it computes")
        except NotTogether as reason:
            self._refused = str(reason)
        except Exception as error:  # noqa: BLE001 - a task's code is anybody's; trained alone, its failure is told
            self._refused = f"{type(error).__name__}: {str(error).strip()[:REASON_CHARACTERS_MAX]}"

    def tell(self, task: Companion, round_number: int) -> None:
        """Say in the log of the node that asked, if nobody was told yet, that its run is refused."""
        if self._refused and not self._told:
            self._told = True
            task.tell(round_number, f"the run's nodes are trained one after another: {self._refused}")


def _stacks(requests: Sequence[Training], parameters: int) -> Iterator[Sequence[Training]]:
    """Parts of what is to be trained, each for a stack."""
    part: list[Training] = []
    wasted = 0
    for request in requests:
        if part:
            wasted += (part[0].task.batch_rows - request.task.batch_rows) * parameters
            if wasted > WASTED_PRODUCTS_MAX or (len(part) + 1) * parameters * 4 > STACK_BYTES_MAX:
                yield part
                part, wasted = [], 0
        part.append(request)
    yield part


@contextmanager
def _nothing_drawn() -> Iterator[None]:
    """Raises NotTogether when a generator was drawn from within: each node would have drawn for itself."""
    before = _generators()
    yield
    if _generators() != before:
        raise NotTogether("its training draws at random")


@contextmanager
def _unfilled_memory() -> Iterator[None]:
    """torch fills memory with NaN before its deterministic algorithms write to it, a fifth of a small step's time."""
    import torch

    deterministic: Any = torch.utils.deterministic
    before = deterministic.fill_uninitialized_memory
    deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        deterministic.fill_uninitialized_memory = before


def _generators() -> tuple[Any, ...]:
    import torch

    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tobytes(), numpy_state[2], torch.get_rng_state().numpy().tobytes()
