"""A run's manifest as one reads it: dotted keys and texts. Pure."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from tui.facts.fields import Json, safe, text

Parameters = Mapping[str, str]

ABSENT = "–"  # in the place of what is not set
DEPTH_MAX = 16  # of sections and lists in one another; below, all is one value
PARAMETERS_MAX = 2_000  # a manifest has some sixty, and a task's own


def parameters_of(answer: Json) -> Parameters | None:
    """The manifest in an answer of /v1/runs/{run}, or None where it has none."""
    manifest = answer.get("manifest")
    return dict(islice(_flattened(manifest, ""), PARAMETERS_MAX)) if isinstance(manifest, Mapping) else None


def _flattened(section: Mapping[str, Any], before: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        name = f"{before}{safe(str(key))}"
        if isinstance(value, Mapping) and value and depth < DEPTH_MAX:
            yield from _flattened(value, f"{name}.", depth + 1)
        else:
            yield name, _value(value)


def _value(value: Any, depth: int = 0) -> str:
    if value is None or value in ("", {}):
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and depth < DEPTH_MAX:
        return safe(", ".join(_value(each, depth + 1) for each in value)) or ABSENT
    return text({"": value}, "")  # exact: runs may differ in the last digit of a figure
