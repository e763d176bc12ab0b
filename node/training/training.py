"""The core that worker processes and simulations share: a loaded task that makes, trains and evaluates models.

Everything that decides bits is here: the seeds, the thread count, how a model becomes raw bytes and a difference. With
the same spec, base and data, a worker process, a simulation and a plain loop over `LoadedTask` give the same update.
"""

import mmap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aggregation.codecs.registry import codec_named
from aggregation.tensors.sources import FileSink
from aggregation.tensors.sources import Source as RawModel
from fednode import Data, Result, Round, Source, Task, TaskError, holding_out
from fednode_logging import Clock, flat_metrics, listening
from node.seams import EvaluateResult, InitialModel, TaskOutput, TaskSpec, TrainerFailed
from node.training.carrying import Carrying
from node.training.coded_file import ToldSink
from node.training.predictions import write_predictions
from node.training.reproducible import derived_seed, reproducible
from node.training.sgd import Progress, sgd
from node.training.staged_files import Staging
from node.training.task_loading import make_task, telling_failures
from node.training.task_model import TaskModel
from node.training.task_voice import TaskVoice
from node.training.worker_frames import INLINE_BYTES_MAX
from protocol.limits import EARLY_BYTES_MIN

Say = Callable[[TaskOutput], None]
Model = bytes | Path  # a raw model, or a file with one


@dataclass(frozen=True, slots=True)
class Trained:
    """seams.TrainResult."""

    update: bytes | Path
    samples: int
    metrics: Mapping[str, float]
    steps: int
    encode_s: float = 0.0  # by this process's clock


class LoadedTask:
    """A run's task with this node's data. Its methods block, and raise TrainerFailed for whatever goes wrong inside."""

    def __init__(
        self,
        spec: TaskSpec,
        directory: Path,
        say: Say,
        progress: Progress,
        *,
        staging: Path | None = None,
        clock: Clock = time.perf_counter,
        coded: Callable[[int], None] = lambda upto: None,
    ) -> None:
        """Load the task, and its data if the spec names any. `directory` keeps this participant's state; artifacts
        are put into `staging` (or below the first) until whoever hears of them takes them in. `coded` is told how much
        of a large update lies in its file already."""
        self._spec = spec
        self._draws = spec.draws or spec.node_id
        self._directory = directory
        self._say = say
        self._progress = progress
        self._voice = TaskVoice(say, progress, Staging(staging or directory / ".staged"))
        self._clock = clock
        self._coded = coded
        self._file = ""
        with self._running("Loading the task"):
            self._codec = codec_named(spec.codec)
            self._task, self._file = make_task(spec)
        self._model = TaskModel(self._task, directory, self._warn)
        self._data: Data | None = None
        self._carrying: Carrying | None = None  # of the training under way
        if spec.data_path is not None:
            with self._running("Loading the data"):
                source = Source(Path(spec.data_path), dict(spec.data_options), spec.is_unlabelled)
                with holding_out(everything=spec.holds_out_all):
                    self._data = checked_data(self._task.data(source))

    def initial_model(self) -> InitialModel:
        """The model as the task makes it, drawn from the run's seed."""
        with self._running("Making the model", "model"):
            schema, raw = self._model.initial()
        return InitialModel(schema.to_bytes(), raw)

    def train(
        self, round_number: int, schema: bytes, base: Model, file: Path | None = None, server_state: Model = b""
    ) -> Trained:
        """Train from `base`; the update is the coded difference from it, a large one in `file` where that is given.
        `server_state`: the base checkpoint's, for methods that look into it."""
        raw = mapped(base)
        with self._running("Training", self._draws, round_number):
            data = self._own_data()
            agreed = self._model.agree(schema)
            model = self._model.filled(agreed, raw)
            state = mapped(server_state) if server_state else b""
            carrying = self._carrying = Carrying(self._spec, self._directory, agreed, state, self._warn)
            result = checked_result(self._task.train(model, data, self._round(round_number)))
            carrying.check(result)
            began = self._clock()
            trained = self._model.raw_of(agreed, model)
            update = self._encoded(carrying, raw, trained, result, file)
            self._carrying = None  # and its arrays, which are as long as the model
            encode_s = self._clock() - began
            return Trained(update, result.samples, flat_metrics(result.metrics), result.steps, encode_s)

    def _encoded(
        self, carrying: Carrying, base: bytes | memoryview, trained: RawModel, result: Result, file: Path | None
    ) -> bytes | Path:
        if file is None or carrying.update_bytes <= INLINE_BYTES_MAX:
            return carrying.encode(base, trained, result)
        file.unlink(missing_ok=True)
        with FileSink(file) as sink:
            is_early = carrying.update_bytes >= EARLY_BYTES_MIN
            told = ToldSink(sink, carrying.update_bytes, self._coded) if is_early else sink
            carrying.encode(base, trained, result, told)
        return file

    def _warn(self, text: str) -> None:
        self._say(TaskOutput("log", text=text, level="WARNING"))

    def evaluate(self, round_number: int, schema: bytes, base: Model) -> EvaluateResult | None:
        """`base` on the held-out data; None without any."""
        if self._data is None:
            return None
        raw = mapped(base)
        self._voice.split = "eval"
        try:
            with self._running("Evaluating", self._draws, round_number, "evaluate"):
                return self._evaluated(self._model.filled(self._model.agree(schema), raw))
        finally:
            self._voice.split = "train"

    def predict(self, round_number: int, schema: bytes, base: Model, target: Path) -> int:
        """Write what `base` says of the held-out data, or of all where none is held out, to an .npz file. Gives how
        many rows that are."""
        raw = mapped(base)
        with self._running("Predicting", self._draws, round_number, "predict"):
            data = self._own_data()
            model = self._model.filled(self._model.agree(schema), raw)
            return write_predictions(self._task, model, data.evaluation or data.train, target, self._progress)

    def _evaluated(self, model: Any) -> EvaluateResult | None:
        evaluated = self._task.evaluate(model, self._own_data())
        if evaluated is None:
            return None
        result = checked_result(evaluated)
        return EvaluateResult(result.samples, flat_metrics(result.metrics))

    @contextmanager
    def _running(self, doing: str, *draw: object) -> Iterator[None]:
        """Run the task's code: seeded by `draw`, heard, and with its failures told."""
        with (
            telling_failures(doing, self._file),
            reproducible(self.seed(*draw), self._spec.threads),
            listening(self._voice, self._clock),
        ):
            yield

    def seed(self, *draw: object) -> int:
        """What the draws of a (node, round) start from."""
        return derived_seed(self._spec.seed, *draw)

    def _round(self, number: int) -> Round:
        seed = self.seed(self._draws, number)
        return Round(number, seed, dict(self._spec.hyperparameters), self._directory, self._learn)

    def _learn(self, task: Task, model: Any, data: Data, this_round: Round) -> Result:
        self._voice.default_runs = True
        try:
            corrections = self._carrying.corrections if self._carrying is not None else None
            result = sgd(task, model, data, this_round, self._progress, corrections)
            if self._carrying is not None and corrections is not None:
                self._carrying.used(model)
            return result
        finally:
            self._voice.default_runs = False

    def _own_data(self) -> Data:
        if self._data is None:
            raise TaskError("This node has no data for the run", remedy="add a data set and name it when accepting")
        return self._data


def checked_data(data: Data) -> Data:
    """`data` itself. Raises TaskError unless it is a Data whose columns are equally long."""
    if not isinstance(data, Data):
        raise TaskError(f"The task's data() gave a {type(data).__name__}", remedy="return a fednode.Data")
    for name, columns in (("train", data.train), ("evaluation", data.evaluation)):
        lengths = [len(column) for column in columns or ()]
        if (columns is not None and not lengths) or len(set(lengths)) > 1:
            raise TaskError(
                f"The data for {name} has columns of {lengths} rows",
                remedy="give tensors of equal length, a tuple even of one",
            )
    return data


def checked_result(result: Result) -> Result:
    """`result` itself. Raises TaskError unless it is a Result over at least one sample."""
    if not isinstance(result, Result):
        raise TaskError(f"The task gave a {type(result).__name__}", remedy="return a fednode.Result")
    if not isinstance(result.samples, int) or result.samples < 1 or not isinstance(result.steps, int):
        raise TaskError(f"The task's result is over {result.samples!r} samples", remedy="count the samples used")
    return result


def mapped(model: Model) -> bytes | memoryview:
    """A raw model's bytes; a file's without reading it into memory. Raises TrainerFailed when it cannot be read."""
    if isinstance(model, bytes):
        return model
    try:
        with model.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: the file is empty
        raise TrainerFailed(f"The base model {model} cannot be read ({error})", remedy="check the disk") from error
