"""What a worker's frames say, checked: a task's code may have written anything into its pipe.

Whatever makes no sense raises ValueError, TypeError, KeyError or AttributeError; the session is given up then.
"""

import json
from collections.abc import Mapping
from typing import Any

from fednode_artifacts import DETAILS_CHARACTERS_MAX, KIND_CHARACTERS_MAX
from fednode_logging import (
    CLASS_CHARACTERS_MAX,
    METRIC_NAME_CHARACTERS_MAX,
    METRIC_VALUES_MAX,
    PARAMETER_CHARACTERS_MAX,
    PARAMETER_KEY_CHARACTERS_MAX,
    UNFIT_FOR_A_NAME,
    class_key,
    split_class,
    text_of,
)
from node.seams import StagedFile, TaskOutput

PARAMETERS_MAX = 1000  # in one call
COUNT_MAX = 2**53  # of samples or steps: what an offer may claim
PLACE_MAX = 2**31 - 1  # of a round or an epoch: what the record has room for
DETAILS_NESTING_MAX = 20  # of an artifact's details, so that reading them takes no deep stack
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def output_of(frame: Mapping[str, Any]) -> TaskOutput:
    """What a frame of kind "output" says."""
    kind, at = frame["kind"], _place(frame, "round")
    match kind:
        case "metric":
            values, step = clean_metrics(frame.get("values", {})), count(frame.get("step", 0))
            split = "eval" if frame["split"] == "eval" else "train"
            return TaskOutput(kind, values=values, split=split, step=step, epoch=_place(frame, "epoch"), round=at)
        case "parameter":
            return TaskOutput(kind, parameters=_clean_parameters(frame.get("parameters", {})), round=at)
        case "span":
            name = _text(frame["name"])[:PARAMETER_KEY_CHARACTERS_MAX]
            return TaskOutput(kind, name=name, seconds=_seconds(frame.get("seconds", 0.0)), round=at)
        case "artifact":
            file, sort, details = (_text(frame["staged"][key]) for key in ("file", "kind", "details"))
            staged = StagedFile(file, sort[:KIND_CHARACTERS_MAX], _clean_details(details))
            return TaskOutput(kind, name=_text(frame["name"]), staged=staged, round=at)
        case "log":
            level = frame.get("level")
            text = _text(frame.get("text", ""))
            return TaskOutput(kind, text=text, level=level if level in LEVELS else "INFO", round=at)
        case other:
            raise ValueError(f"a task says nothing of kind {shown(other)}")


def clean_metrics(values: Any) -> dict[str, float]:
    """The values of one call of fednode.log as plain numbers. Raises ValueError or TypeError for what is none."""
    if len(values) > METRIC_VALUES_MAX:
        raise ValueError(f"{len(values)} metrics at once are over the limit of {METRIC_VALUES_MAX}")
    return {_clean_name(str(key)): number(value) for key, value in values.items()}


def number(value: Any) -> float:
    """`value`, which a worker sent. Raises ValueError unless it is a number, or a text of one."""
    try:
        return float(value)
    except (TypeError, ValueError):  # which tell all of a text, however long
        raise ValueError(f"{shown(value)} is no number") from None


def failure_of(frame: Mapping[str, Any]) -> dict[str, str]:
    """What a frame of kind "failure" says, as TrainerFailed takes it."""
    return {key: _text(frame.get(key, "")) for key in ("what", "remedy", "traceback", "brief")}


def _text(value: Any) -> str:
    """`value`, if it is a text. Whatever else it is, nested without end perhaps, is not turned into one."""
    if not isinstance(value, str):
        raise TypeError(f"{shown(value)} is no text")
    return value


def shown(value: Any) -> str:
    """Something that a worker sent, for an error's text: its beginning, or its type where that may be anything."""
    if isinstance(value, str):
        return repr(value[:20])
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def _clean_name(name: str) -> str:
    key, label = split_class(name)
    key = UNFIT_FOR_A_NAME.sub(" ", key[:METRIC_NAME_CHARACTERS_MAX])
    return key if label is None else class_key(key, label[:CLASS_CHARACTERS_MAX])


def _clean_details(text: str) -> str:
    """A JSON object that the record can hold and everybody can read; an empty one in the place of any other text."""
    try:
        value = json.loads(text) if len(text) <= DETAILS_CHARACTERS_MAX else None
        if isinstance(value, dict) and _is_shallow(value, DETAILS_NESTING_MAX):
            return text_of(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        pass
    return "{}"


def _is_shallow(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(entry, levels - 1) for entry in inner)


def _clean_parameters(values: Any) -> dict[str, tuple[str, str]]:
    if len(values) > PARAMETERS_MAX:
        raise ValueError(f"{len(values)} parameters at once are over the limit of {PARAMETERS_MAX}")
    return {
        _text(key)[:PARAMETER_KEY_CHARACTERS_MAX]: (_text(text)[:PARAMETER_CHARACTERS_MAX], _text(kind)[:40])
        for key, (text, kind) in values.items()
    }


def count(value: Any, count_max: int = COUNT_MAX) -> int:
    """`value`, which a worker sent. Raises ValueError unless it is a count."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= count_max:
        raise ValueError(f"{shown(value)} is no count")
    return value


def _place(frame: Mapping[str, Any], key: str) -> int:
    return count(frame.get(key, 0), PLACE_MAX)


def _seconds(value: Any) -> float:
    seconds = number(value)
    if not 0 <= seconds <= PLACE_MAX:
        raise ValueError(f"{seconds} s is no length of time")
    return seconds


def level_name(number: int) -> str:
    """The level at or below a record's: people may have levels of their own between the usual ones."""
    return LEVELS[min(max(number // 10 - 1, 0), len(LEVELS) - 1)]
