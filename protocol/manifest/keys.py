"""What people read about a configuration's keys: the table, the template, the allowed values, the nearest name.

All of it is made from the classes in protocol.manifest.sections, so it cannot drift from what is checked.
"""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import AfterValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from protocol.manifest.manifest import Configuration
from protocol.wire import Wire

# The order in which people read: what the run is, what is trained on what, who, how; top-level keys come first in TOML.
TOP_LEVEL = ("name", "project", "experiment", "tags", "parent", "audit", "seed")
SECTIONS = (
    *("task", "data", "training", "roster", "round"),
    *("aggregation", "evaluation", "updates", "timing"),
)
# What most runs change: written out in the template, the rest stands there as comments.
WRITTEN_OUT = frozenset(
    {"task.name", "data.name", "training.rounds", "training.epochs", "training.batch_size"}
    | {"training.learning_rate", "roster.nodes_min"}
)
EXAMPLES: dict[str, object] = {
    "name": "my-first-run",
    "task.name": "digits",
    "task.path": "my_task.py",
    "data.name": "digits",
    "parent": "my-earlier-run",
    "aggregation.norm_max": 100.0,
    "aggregation.weighting": "samples",
    "aggregation.weight_max": 10_000,
    "aggregation.screen_factor": 10.0,
    "aggregation.clip_norm": 1.0,
    "aggregation.clip_radius": 1.0,
    "aggregation.checkpoint_codec": "bf16",
    "aggregation.server_learning_rate": 0.05,
    "round.deadline_min_s": 5.0,
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a configuration. `default` is None where there is none; `name` is dotted, `training.rounds`."""

    name: str
    type: str
    default: object
    required: bool
    allowed: str
    meaning: str
    choices: tuple[str, ...] = ()


def _key(name: str, field: FieldInfo) -> Key:
    default = field.get_default(call_default_factory=True)
    return Key(
        name=name,
        type=_type_name(field.annotation),
        default=None if default is PydanticUndefined else default,
        required=field.is_required(),
        allowed=_allowed(name, field),
        meaning=field.description or "",
        choices=_choices(field.annotation),
    )


def _keys() -> Iterator[Key]:
    for name in TOP_LEVEL:
        yield _key(name, Configuration.model_fields[name])
    for section in SECTIONS:
        for name, field in section_class(section).model_fields.items():
            yield _key(f"{section}.{name}", field)


def section_class(section: str) -> type[Wire]:
    """The class that checks `[section]`."""
    annotation = Configuration.model_fields[section].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, Wire)
    return annotation


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = [part for part in get_args(annotation) if part is not NoneType]
    return annotation


def _choices(annotation: Any) -> tuple[str, ...]:
    annotation = _without_none(annotation)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _type_name(annotation: Any) -> str:
    annotation = _without_none(annotation)
    if get_origin(annotation) is Literal:
        return "choice"
    base = get_origin(annotation) or annotation
    return {int: "whole number", float: "number", str: "text", tuple: "list", dict: "table"}[base]


def _allowed(name: str, field: FieldInfo) -> str:
    kind = _type_name(field.annotation)
    longest = next((limit.max_length for limit in field.metadata if isinstance(limit, MaxLen)), None)
    if kind == "choice":
        return " or ".join(toml_value(choice) for choice in _choices(field.annotation))
    if kind in ("number", "whole number"):
        return f"a {kind} {_bounds(field)}"
    if kind == "list":
        return f"a list of at most {longest} names"
    if kind == "text" and any(isinstance(rule, AfterValidator) for rule in field.metadata):
        return f"a name of 1 to {longest} characters on one line"
    if name == "roster.roles":
        return 'a table of node = "trainer", "validator" or "observer"'
    if kind == "table":
        return "a table of numbers, texts, true or false, and lists of these"
    return f"a text of at most {longest} characters" if longest else "a text"


def _bounds(field: FieldInfo) -> str:
    low = high = ""
    for limit in field.metadata:
        match limit:
            case Ge(ge=bound):
                low = f"from {_number(bound)}"
            case Gt(gt=bound):
                low = f"above {_number(bound)}"
            case Le(le=bound):
                high = f"to {_number(bound)}"
            case Lt(lt=bound):
                high = f"to below {_number(bound)}"
    return f"{low} {high}".strip()


def _number(bound: Any) -> str:
    return f"{int(bound):,}" if bound == int(bound) and bound < 1e16 else f"{bound:,}"


def toml_value(value: object) -> str:
    """`value` as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case tuple() | list():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            return "{" + ", ".join(f"{_toml_text(key)} = {toml_value(entry)}" for key, entry in value.items()) + "}"
        case str():
            return _toml_text(value)
        case date() | time():
            return value.isoformat()
    return repr(value)


def _toml_text(text: str) -> str:
    # JSON's escapes are TOML's, but for one character that TOML wants escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


KEYS: dict[str, Key] = {key.name: key for key in _keys()}


def nearest_key(name: str, others: tuple[str, ...] = ()) -> str:
    """The key that somebody who wrote `name` most likely meant, or nothing. `others`: further names that are known."""
    leaf = name.rpartition(".")[2]
    by_leaf: dict[str, str] = {}
    known_names: tuple[str, ...] = (*KEYS, *others, *(() if "." in name else SECTIONS))
    for known in known_names:
        by_leaf.setdefault(known.rpartition(".")[2], known)
    if leaf in by_leaf:
        return by_leaf[leaf]
    for candidate in difflib.get_close_matches(name, known_names, n=1, cutoff=0.7):
        return candidate
    for candidate in difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.7):
        return by_leaf[candidate]
    return ""


def template() -> str:
    """A configuration to start from: every key with its meaning, valid as it stands."""
    lines = [
        "# A run of fednode. Lines that begin with a # and a space explain the next; take the # from a key to set it.",
        "# Start it:   fednode run start THIS_FILE       All keys in a table:   fednode run keys",
        "",
    ]
    for name in TOP_LEVEL:
        lines += _template_lines(KEYS[name])
    for section in SECTIONS:
        lines += ["", f"[{section}]  # {_first_line(section_class(section))}"]
        for name in section_class(section).model_fields:
            lines += _template_lines(KEYS[f"{section}.{name}"])
    return "\n".join(lines) + "\n"


def _template_lines(key: Key) -> list[str]:
    value = EXAMPLES.get(key.name, key.default)
    mark = "" if key.name in WRITTEN_OUT else "#"
    leaf = key.name.rpartition(".")[2]
    return [f"# {key.meaning} ({key.allowed})", f"{mark}{leaf} = {toml_value(value)}"]


def _first_line(section: type[Wire]) -> str:
    return (section.__doc__ or "").splitlines()[0]
