"""Reading a scenario file. Every error names the key, what was given, and what is allowed."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from protocol.errors import InvalidFile, Refused
from protocol.manifest.keys import toml_value
from protocol.manifest.read import ManifestError, read_configuration
from simulations.plan.scenario import Scenario

SHIPPED = Path(__file__).parent.parent / "scenarios"
SCENARIO_CHARACTERS_MAX = 64 * 1024  # as of a run's configuration, which may stand in it
_GIVEN_CHARACTERS_MAX = 60

# What a scenario's run is where it does not say: the digits, small and fast.
RUN = """
name = "simulation"
project = "simulations"
[task]
name = "digits"
[data]
name = "digits"
[training]
rounds = 10
epochs = 2
batch_size = 32
learning_rate = 0.1
momentum = 0.9
"""


class ScenarioError(InvalidFile):
    """A scenario is not valid."""

    def __init__(self, source: str, problems: list[str]) -> None:
        remedy = "change the file; docs/scenarios/README.md lists every key"
        super().__init__("bad-scenario", f"The scenario {source}", problems, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Read:
    """A valid scenario, its name, and its run's configuration: TOML, and dotted keys that count instead."""

    name: str
    scenario: Scenario
    run_text: str
    run_overrides: Mapping[str, object]
    path: Path | None = None

    @property
    def rounds(self) -> int:
        return read_configuration(self.run_text, overrides=self.run_overrides).configuration.training.rounds


def with_overrides(read: Read, overrides: Mapping[str, object]) -> Read:
    """The same with other keys of its run. Raises ScenarioError."""
    changed = replace(read, run_overrides={**read.run_overrides, **overrides})
    _check_run(changed)
    return changed


def find_scenario(name: str) -> Path:
    """The file at the path `name`, or the shipped scenario of that name. Raises Refused when there is neither."""
    path = Path(name)
    if path.is_file():
        return path
    names = shipped_names()
    if name in names:
        return SHIPPED / f"{name}.toml"
    near = difflib.get_close_matches(name, names, n=1)
    raise Refused(
        "bad-scenario",
        f"{name} is neither a file nor a scenario that comes with fednode"
        + (f"; did you mean {near[0]}?" if near else ""),
        remedy="fednode simulate --list names those that come with it",
    )


def shipped_names() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_scenario(name: str, overrides: Mapping[str, object] | None = None) -> Read:
    """The scenario of a path or shipped name; `overrides` are dotted keys of its run. Raises Refused."""
    path = find_scenario(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(str(path), [f"it cannot be read: {error}"]) from None
    return read_scenario(text, path.stem, path, overrides)


def read_scenario(
    text: str, name: str, path: Path | None = None, overrides: Mapping[str, object] | None = None
) -> Read:
    """The scenario in `text`. Raises ScenarioError with all errors that could be found."""
    if len(text) > SCENARIO_CHARACTERS_MAX:
        raise ScenarioError(name, [f"it has {len(text):,} characters; allowed are {SCENARIO_CHARACTERS_MAX:,}"])
    try:
        document = _frozen(tomllib.loads(text))
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        raise ScenarioError(name, [_problem(details) for details in error.errors(include_url=False)]) from None
    except (ValueError, RecursionError) as error:
        raise ScenarioError(name, [f"it is not TOML: {error}"]) from None
    run_text = _run_text(scenario, name, path)
    read = Read(name, scenario, run_text, {"name": name, **dict(_dotted(scenario.run)), **(overrides or {})}, path)
    _check_run(read)
    problems = [*_unknown_nodes(scenario), *_impossible(scenario)]
    if problems:
        raise ScenarioError(name, problems)
    return read


def _check_run(read: Read) -> None:
    problems = _run_problems(read.run_text, read.run_overrides)
    file = read.scenario.run_file
    of_file = _run_problems(read.run_text, {}) if file and problems else []
    if problems:
        raise ScenarioError(read.name, [f"{file}: {each}" if each in of_file else f"run.{each}" for each in problems])


def _run_problems(text: str, overrides: Mapping[str, object]) -> Sequence[str]:
    try:
        read_configuration(text, overrides=overrides)
    except ManifestError as error:
        return error.problems
    return ()


def _run_text(scenario: Scenario, name: str, path: Path | None) -> str:
    if not scenario.run_file:
        return RUN
    file = (path.parent if path else Path()) / scenario.run_file
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(name, [f'run_file is "{scenario.run_file}", which cannot be read: {error}']) from None


def _dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return {key: _frozen(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def _unknown_nodes(scenario: Scenario) -> Iterator[str]:
    """A sentence for each place that names nodes which the scenario does not have."""
    cohorts = {cohort.name for cohort in scenario.cohort}
    places = [(f"link {n}: {end}", getattr(link, end), {"all"}) for n, link in enumerate(scenario.link, 1)
              for end in ("source", "target")]  # fmt: skip
    for number, fault in enumerate(scenario.fault, 1):
        words = {"aggregator", "random", "each", "all"} if "+" not in fault.node else set()
        places += [(f"fault {number}: node", who, words) for who in fault.node.split("+")]
        places.append((f"fault {number}: peer", fault.peer, {"aggregator", "random"}))
        places.append((f"fault {number}: by", fault.by, {""}))
    for key in ("refused", "deposed", "out"):
        places += [(f"checks.{key}", who, {"all"}) for who in getattr(scenario.checks, key) or ()]
    for place, who, words in places:
        if who not in words | cohorts and not _is_node_name(who):
            allowed = ", ".join(sorted(words | cohorts))
            yield f'{place} is "{who}"; allowed is a node such as node-3, or one of: {allowed}'
        elif _is_node_name(who) and int(who.removeprefix("node-")) >= scenario.nodes:
            yield f'{place} is "{who}"; the nodes are node-0 to node-{scenario.nodes - 1}'


def _impossible(scenario: Scenario) -> Iterator[str]:
    """A sentence for each number that fits its key, and not the others."""
    counted = sum(cohort.count or 0 for cohort in scenario.cohort)
    if counted > scenario.nodes:
        yield f"the cohorts count {counted} nodes; the scenario has {scenario.nodes}"
    for number, fault in enumerate(scenario.fault, 1):
        if fault.until_s and fault.at_s is not None and fault.until_s < fault.at_s:
            yield f"fault {number}: until_s is {fault.until_s:g}, before at_s, {fault.at_s:g}: it would never happen"


def _is_node_name(text: str) -> bool:
    head, _, number = text.partition("-")
    return head == "node" and number.isdecimal() and len(number) <= 4


# --- errors ----------------------------------------------------------------------------------------------------------
def _problem(details: ErrorDetails) -> str:
    place = _place(details["loc"])
    message = details["msg"].removeprefix("Input should be ")
    match details["type"]:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            near = _nearest(details["loc"])
            return f"{place} is not a known key" + (f"; did you mean {near}?" if near else "")
        case "conflict":
            return f"{place}: {message}" if place else message
    shown = toml_value(details["input"])
    shown = shown if len(shown) <= _GIVEN_CHARACTERS_MAX else shown[:_GIVEN_CHARACTERS_MAX] + " …"
    return f"{place} is {shown}; allowed is {message}"


def _place(location: tuple[int | str, ...]) -> str:
    """`("fault", 1, "kind")` as a person counts: `fault 2: kind`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f" {part + 1}:"
        elif part not in _UNION_BRANCHES and not part.startswith(("constrained", "tuple[", "literal[", "function")):
            text += ("" if not text else " " if text.endswith(":") else ".") + part
    return text.removesuffix(":")


_UNION_BRANCHES = {"float", "int", "str", "tuple"}


def _nearest(location: tuple[int | str, ...]) -> str:
    """The known key that is most like the last part of `location`."""
    model: type[BaseModel] | None = Scenario
    for part in location[:-1]:
        if isinstance(part, str) and model is not None:
            field = model.model_fields.get(part)
            model = _model_in(field.annotation) if field else None
    known = list(model.model_fields) if model is not None else []
    return next(iter(difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)), "")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
