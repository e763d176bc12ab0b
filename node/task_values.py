"""What goes between a node and whatever trains for it (node.seams.Trainer): plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a trainer needs to know of a run. Plain values only: it crosses a pipe."""

    run_id: str
    node_id: str
    task: str  # a built-in task's name, or the path of a local Python file
    task_parameters: Mapping[str, Any]
    hyperparameters: Mapping[str, Any]  # epochs, batch_size, optimizer, learning_rate, momentum, proximal_mu …
    codec: str  # how updates are coded, a name that aggregation knows
    data_path: str | None  # this node's own data; None for the making of a model only
    data_options: Mapping[str, Any]
    seed: int
    threads: int = 1
    draws: str = ""  # what this participant's random draws follow from, besides seed and round; the node's id if empty
    holds_out_all: bool = False  # to judge a model on data that it was not trained on
    is_unlabelled: bool = False  # only predictions are wanted, so the data's labels may be missing
    method: str = "fedavg"  # how updates are averaged, a name that aggregation knows


@dataclass(frozen=True, slots=True)
class InitialModel:
    """`schema`: canonical bytes of the tensor schema (aggregation.schema). `model`: raw tensors in that order."""

    schema: bytes
    model: bytes


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What training one round gave: the coded difference from the base, and figures about it."""

    update: Path | bytes  # coded by aggregation; a file in the worker's directory, or the bytes themselves
    samples: int
    metrics: Mapping[str, float]
    steps: int
    encode_s: float = 0.0  # of the whole call: for taking the difference and coding it
    usage: Mapping[str, float] = field(default_factory=dict)  # of the worker meanwhile, by node.system.names


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    samples: int
    metrics: Mapping[str, float]  # means over the samples, such as loss and accuracy


@dataclass(frozen=True, slots=True)
class Predictions:
    """`file`: an .npz of arrays that all have `rows` entries, in the order of the data. Whoever wrote it may lie."""

    file: Path
    rows: int


@dataclass(frozen=True, slots=True)
class StagedFile:
    """An artifact on its way: `file` is its name in the session's folder (node.training.staged_files)."""

    file: str
    kind: str
    details: str  # JSON


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """Something the task's code said while it ran."""

    kind: str  # "metric", "parameter", "span", "artifact", "log", "stdout" or "stderr"
    text: str = ""
    level: str = "INFO"
    values: Mapping[str, float] = field(default_factory=dict)  # metrics by name, as fednode_logging.class_key has it
    round: int = 0
    epoch: int = 0
    step: int = 0
    split: str = "train"  # or "eval": what the task was at when it told metrics
    parameters: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # value and type, as text
    name: str = ""  # of a span or an artifact
    seconds: float = 0.0  # of a span
    staged: StagedFile | None = None  # of an artifact
