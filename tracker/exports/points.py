"""What the measurements of a run are called, and where they stand, in the tools that people export them to."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

NAME_CHARACTERS_MAX = 250  # what MLflow takes
# A point that a node logs while it trains stands at round * this + its step of the round. More steps than these in one
# round would run into the next round's; no tool of ours draws so many.
STEPS_OF_A_ROUND = 1_000_000
# How FedML and Synergos call the figures of all nodes, so that people find their charts again.
_COMPATIBLE = {
    ("local", "train", "loss"): ("global_train_loss",),
    ("global", "eval", "loss"): ("global_evaluate_loss", "Test/Loss"),
    ("global", "eval", "accuracy"): ("Test/Acc",),
}
_HASH_CHARACTERS = 8
_PATH_TRICKS = {"", ".", ".."}  # MLflow keeps names as paths, and refuses these parts
_UNFIT = re.compile(r"[^/\w.\- ]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Point:
    """One figure of one chart. `node_id` is "" for the mean over nodes, weighted by samples."""

    node_id: str
    name: str
    step: int
    value: float  # NaN for what the record says is not finite
    time: float  # seconds since the epoch
    round: int
    by_time: bool = False  # its time tells it from its neighbours, not its step


def points_of(metrics: Iterable[dict[str, Any]]) -> Iterator[Point]:
    """The points of METRIC rows as docs/api.md has them.

    A round's figures stand at step = round. What a node logged while it trained has a chart of its own, at
    `STEPS_OF_A_ROUND` times the round and its step; it has no mean, for no other node knows it. The mean's figures
    that FedML and Synergos have too come under their names as well.
    """
    for row in metrics:
        is_progress = bool(row["epoch"] or row["step"])
        if is_progress and not row["node_id"]:
            continue
        step = row["round"] * STEPS_OF_A_ROUND + row["step"] if is_progress else row["round"]
        value = float("nan") if row["value"] is None else float(row["value"])
        time = seconds_of(row["time"])
        for name in _names(row, is_progress):
            yield Point(row["node_id"], name, step, value, time, row["round"])


def seconds_of(time: str) -> float:
    """Seconds since the epoch of a time of the API's."""
    return datetime.fromisoformat(time).timestamp()


def clean_name(text: str) -> str:
    """`text` as a name that every tool takes: ASCII letters, digits, `/_.-` and blanks.

    Where that changes it a hash of the whole is added, so that two names never become one.
    """
    fit = _UNFIT.sub("_", text)
    if fit == text and len(text) <= NAME_CHARACTERS_MAX and not _PATH_TRICKS.intersection(text.split("/")):
        return text
    mark = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:_HASH_CHARACTERS]
    sound = "/".join("_" if part in _PATH_TRICKS else part for part in fit.split("/"))
    return f"{sound[: NAME_CHARACTERS_MAX - _HASH_CHARACTERS - 1]}_{mark}"


def folder_name(text: str) -> str:
    """`text` as the name of one folder: nothing in it leads elsewhere, and nothing hides it."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".")[:100] or "_"


def _names(row: dict[str, Any], is_progress: bool) -> list[str]:
    key = row["key"] if row["class"] is None else f"{row['key']}_class_{row['class']}"
    names = [f"{row['scope']}_{row['split']}{'_progress' if is_progress else ''}/{key}"]
    if not row["node_id"]:
        if row["class"] is None:
            names += _COMPATIBLE.get((row["scope"], row["split"], row["key"]), ())
        elif (row["scope"], row["split"]) == ("global", "eval"):
            names.append(key)  # FedML's TPRs_class_0
    return [clean_name(name) for name in names]
