"""What a task logs while it runs: metrics, parameters, spans; artifacts are beside it. Import the names from `fednode`.

Everything is handed to a listener, which whoever runs the task sets. Without one nothing happens and nothing is looked
at, so a script with these calls runs alone too. The names are MLflow's and FedML's where those have one. What cannot be
recorded is left out with a warning; only a value of the wrong kind is an error.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

METRIC_VALUES_MAX = 1000  # in one call, each class's counted: the classes of ImageNet
METRIC_NAME_CHARACTERS_MAX = 80
CLASS_CHARACTERS_MAX = 40
PARAMETER_KEY_CHARACTERS_MAX = 250  # MLflow's own bounds, so that exports lose nothing
PARAMETER_CHARACTERS_MAX = 6000
EVENTS_OPEN_MAX = 1000  # begun by `event` and not ended: more were forgotten
WARNINGS_MAX = 100  # in one call of the task; who has not read these reads no more
# Between a metric's key and the class that it is of, where both have to be one name. People do name metrics
# `recall@10`, so a bare @ would not do.
CLASS_MARK = "@class="
# In names of metrics: what a terminal obeys, what turns the direction of writing, what breaks a line. They are signed
# and stand in everybody's tables, which take no such names (protocol.run.checkpoint).
UNFIT_FOR_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

_log = logging.getLogger("fednode")


class TaskError(Exception):
    """Something that the owner of the task or of the data can put right; shown as it is when a task raises it."""

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what}. To fix: {remedy}.")
        self.what = what
        self.remedy = remedy


# --- what the listener is given ----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class LoggedMetrics:
    """By name, as `class_key` makes it. Without `step` the listener counts."""

    values: Mapping[str, float]
    step: int | None = None
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class LoggedParameters:
    """By key, each value as text and its type's name."""

    values: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class LoggedArtifact:
    """Bytes, or a file that is to be copied before the call returns. `details` is a JSON object."""

    name: str
    kind: str
    content: bytes | Path
    details: str


@dataclass(frozen=True, slots=True)
class LoggedSpan:
    """Something has just ended, after so many seconds."""

    name: str
    seconds: float


Logged = LoggedMetrics | LoggedParameters | LoggedArtifact | LoggedSpan
Listener = Callable[[Logged], None]
Clock = Callable[[], float]

_listener: Listener | None = None
_clock: Clock = time.perf_counter
_lock = threading.Lock()  # over the three below: a task may log from several threads
_held: dict[str, float] = {}  # by log(commit=False)
_events: dict[tuple[str, object], float] = {}  # begun by `event`
_warned: set[str] = set()


@contextmanager
def listening(listener: Listener, clock: Clock = time.perf_counter) -> Iterator[None]:
    """Hand on to `listener` meanwhile what is logged, with spans by `clock`. For whoever runs tasks."""
    global _listener, _clock  # a task may log from threads of its own, which inherit no context variables
    before, _listener, _clock = (_listener, _clock), listener, clock
    _forget()
    try:
        yield
        if _held:
            listener(LoggedMetrics(dict(_held)))
    finally:
        _listener, _clock = before
        _forget()


def _forget() -> None:
    with _lock:
        _held.clear()
        _events.clear()
        _warned.clear()


def is_heard() -> bool:
    """Whether anybody records what is logged now."""
    return _listener is not None


def tell(entry: Logged) -> None:
    """Hand `entry` to the listener, if there is one."""
    listener = _listener
    if listener is not None:
        listener(entry)


def leave_out(what: str, why: str) -> None:
    """Say once in a call of the task that something was not recorded."""
    with _lock:
        is_new = what not in _warned and len(_warned) < WARNINGS_MAX
        if is_new:
            _warned.add(what)
    if is_new:
        _log.warning("%s left out: %s", what, why)


# --- metrics -----------------------------------------------------------------------------------------------------
def log(
    values: Mapping[str, Any],
    step: int | None = None,
    *,
    epoch: int | None = None,
    customized_step_key: str | None = None,
    commit: bool = True,
) -> None:
    """Send metrics from inside a task; outside a run nothing happens. May raise `Interrupted`: let it pass.

    Left out, `step` and `epoch` are the default training's, or else `step` counts the calls of this round.

    Args:
        values: numbers, or tensors and arrays of one number. A mapping, or a sequence, of numbers is a figure for each
            class: `{"recall": {"cat": 0.9, "dog": 0.7}}`.
        customized_step_key: which of `values` says the step (or, if it is called "epoch", the epoch), as in FedML.
        commit: False keeps the values for the next call, which sends them with its own.

    Raises:
        TaskError: something among `values` is no number.
    """
    listener = _listener
    if listener is None:
        return
    if not isinstance(values, Mapping):
        raise TaskError(f"log was given a {type(values).__name__}", remedy='give it a mapping: log({"loss": 0.5})')
    given = dict(values)
    if customized_step_key is not None and customized_step_key in given:
        place = _whole(given.pop(customized_step_key), customized_step_key)
        step, epoch = (step, place) if customized_step_key == "epoch" else (place, epoch)
    step = None if step is None else _whole(step, "step")
    epoch = None if epoch is None else _whole(epoch, "epoch")
    flat = flat_metrics(given)
    with _lock:
        flat = {**_held, **flat}
        _held.clear()
        if not commit:
            _held.update(islice(flat.items(), METRIC_VALUES_MAX))
    if commit:
        listener(LoggedMetrics(flat, step, epoch))


def log_metric(key: str, value: Any, step: int | None = None) -> None:
    """One metric, as in MLflow. See `log`."""
    log({key: value}, step)


def log_metrics(metrics: Mapping[str, Any], step: int | None = None) -> None:
    """Several metrics, as in MLflow. See `log`."""
    log(metrics, step)


def flat_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name, where a metric of several classes has become one of each (`class_key`).

    Raises TaskError for what is no number."""
    flat: dict[str, float] = {}
    for key, value in islice(values.items(), METRIC_VALUES_MAX + 1):
        name = _name(key)
        classes = _classes(value)
        if classes is None:
            flat[name] = _number(value, name)
            continue
        for label, figure in islice(classes, METRIC_VALUES_MAX + 1):
            flat[class_key(name, label)] = _number(figure, f"{name} of class {label}")
    if len(flat) > METRIC_VALUES_MAX:
        leave_out("Metrics", f"one call may have {METRIC_VALUES_MAX} values, each class's counted; log fewer at once")
        return dict(islice(flat.items(), METRIC_VALUES_MAX))
    return flat


def class_key(key: str, label: object) -> str:
    """One name for a metric's figure of one class; `split_class` takes it apart. Invisible characters of a label, which
    may come out of data, become spaces."""
    return f"{key}{CLASS_MARK}{UNFIT_FOR_A_NAME.sub(' ', text_of(label))[:CLASS_CHARACTERS_MAX]}"


def split_class(name: str) -> tuple[str, str | None]:
    """A metric's key, and its class if it has one."""
    key, mark, label = name.partition(CLASS_MARK)
    return (key, label) if mark else (name, None)


def _name(key: object) -> str:
    """A metric's name, within its bounds; one that names its class already (`class_key`) is left as it is."""
    key, label = split_class(text_of(key))
    key = key[:METRIC_NAME_CHARACTERS_MAX]
    if not key:
        raise TaskError("A metric has no name", remedy="name every value that is logged")
    if UNFIT_FOR_A_NAME.search(key):
        raise TaskError(
            f"The metric's name {key!a} has control characters, line breaks or invisible characters",
            remedy="name it in letters, digits and punctuation: it stands in everybody's tables",
        )
    return key if label is None else class_key(key, label)


def _classes(value: Any) -> Iterator[tuple[object, Any]] | None:
    """The classes' labels and figures, in order; None where `value` is to be one number."""
    if isinstance(value, Mapping):
        return iter(value.items())
    if isinstance(value, list | tuple) or (hasattr(value, "tolist") and getattr(value, "shape", ()) != ()):
        return enumerate(value)
    return None


def _number(value: Any, of: str) -> float:
    try:
        if isinstance(value, str | bytes):
            raise TypeError("text")
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # RuntimeError: a tensor of several numbers
        raise TaskError(
            f"The metric {of!r} is {repr(value)[:80]}, which is no number",
            remedy="log a number, a tensor of one number, or numbers by class; put text into log_param or print",
        ) from None


def _whole(value: Any, of: str) -> int:
    number = _number(value, of)
    if not (math.isfinite(number) and number >= 0):
        raise TaskError(f"The {of} is {number}", remedy="count it from 0")
    return int(number)


def text_of(value: object) -> str:
    """`value` as text that can be sent: lone surrogates, as of a file's odd name, become question marks."""
    return str(value).encode(errors="replace").decode()


# --- parameters --------------------------------------------------------------------------------------------------
def log_param(key: str, value: Any) -> None:
    """Record a setting of this node's part, such as a size that the task has worked out; as in MLflow."""
    log_params({key: value})


def log_params(params: Mapping[str, Any]) -> None:
    """Record several settings. The run's own configuration is recorded anyway."""
    listener = _listener
    if listener is None:
        return
    if not isinstance(params, Mapping):
        raise TaskError(f"log_params was given a {type(params).__name__}", remedy="give it a mapping: {key: value}")
    listener(LoggedParameters({_key(key): _setting(value) for key, value in params.items()}))


def _key(key: object) -> str:
    return text_of(key)[:PARAMETER_KEY_CHARACTERS_MAX]


def _setting(value: Any) -> tuple[str, str]:
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    text = value if isinstance(value, str) else json_text(value)
    return text_of(text)[:PARAMETER_CHARACTERS_MAX], type(value).__name__


def json_text(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


# --- spans -------------------------------------------------------------------------------------------------------
@contextmanager
def span(name: str) -> Iterator[None]:
    """Record how long something takes, as `with fednode.span("augment"):` or as a decorator of a function."""
    began = _clock()
    try:
        yield
    finally:
        tell(LoggedSpan(_key(name), max(0.0, _clock() - began)))


def event(event_name: str, event_started: bool = True, event_value: object = None) -> None:
    """FedML's form of a span: called when it begins, and with False when it ends. `event_value` tells several apart."""
    if _listener is None:
        return
    key = (event_name, event_value)
    with _lock:
        began = None if event_started else _events.pop(key, None)
        if event_started and len(_events) < EVENTS_OPEN_MAX:
            _events[key] = _clock()
    if began is not None:
        tell(LoggedSpan(_key(event_name), max(0.0, _clock() - began)))
