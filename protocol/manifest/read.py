"""From the TOML that a person wrote to a `Configuration`, or to all of its errors at once.

Each error names the key as it was written, what was given, what is allowed, and for an unknown key the nearest known.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from protocol.errors import InvalidFile
from protocol.limits import NAME_CHARACTERS_MAX
from protocol.manifest.aliases import (
    ALGORITHM_NEEDS,
    ALIASES,
    ELSEWHERE,
    FEDML_SECTIONS,
    GROUPS,
    LEFT_OUT,
    NEAR,
    PROMISES,
    SERVER_MOMENTUM,
    SERVER_OPTIMIZER,
    Translation,
    defence,
    server_sgd,
    translate_value,
)
from protocol.manifest.keys import KEYS, SECTIONS, TOP_LEVEL, nearest_key, toml_value
from protocol.manifest.manifest import CONFLICT, Configuration
from protocol.manifest.rules import base_name

_INTEGER_BITS_MAX = 4096  # Python itself writes no number of more than 4,300 digits
CONFIGURATION_CHARACTERS_MAX = 64 * 1024  # twice a manifest's size: comments come on top
_GIVEN_CHARACTERS_MAX = 60  # of a value repeated in an error: enough to recognise it


class ManifestError(InvalidFile):
    """A configuration is not valid. `source` names its file, where it has one."""

    def __init__(self, problems: list[str], source: str = "") -> None:
        remedy = "change the file; fednode run keys lists every key, fednode run template prints a valid file"
        super().__init__("bad-manifest", source or "The configuration", problems, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Reading:
    """A valid configuration, and a sentence for everything that was taken in another sense than its letter."""

    configuration: Configuration
    taken_as: tuple[str, ...]


def read_configuration(text: str, *, source: str = "", overrides: Mapping[str, object] | None = None) -> Reading:
    """The configuration in `text`.

    Args:
        text: TOML, as a person wrote it.
        source: the file's name or path; names the run where the text does not, and the file in errors.
        overrides: dotted keys, ours or an alias, that count instead of what the text says.

    Raises:
        ManifestError: with all errors that could be found.
    """
    if len(text) > CONFIGURATION_CHARACTERS_MAX:
        problem = f"it has {len(text):,} characters; allowed are {CONFIGURATION_CHARACTERS_MAX:,}"
        raise ManifestError([problem], source)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits is a bare ValueError
        raise ManifestError([f"it is not TOML: {error}"], source) from None
    try:
        return _reading(document, source, overrides or {})
    except (ValueError, RecursionError):
        raise ManifestError(["it is nested too deep, or holds a number of thousands of digits"], source) from None


def _reading(document: Mapping[str, object], source: str, overrides: Mapping[str, object]) -> Reading:
    reader = _Reader()
    reader.take(document)
    reader.take(_nested(overrides), override=True)
    tree = reader.tree()
    if not tree.get("name"):
        tree["name"] = _name_from(source)
    configuration = _validated(tree, reader)
    if reader.problems or configuration is None:
        raise ManifestError(reader.problems, source)
    return Reading(configuration, tuple(reader.notes))


@dataclass(slots=True)
class _Entry:
    """A value and where it was written; `place` is the key as the person wrote it."""

    place: str
    value: object
    override: bool


@dataclass(slots=True)
class _Reader:
    """Collects what a document says, by our keys."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    grouped: dict[Callable[[Mapping[str, object]], Translation], dict[str, _Entry]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, document: Mapping[str, object], *, override: bool = False) -> None:
        for key, value in document.items():
            if key in PROMISES:
                self._promise(key, value)
            elif key in SECTIONS or key in FEDML_SECTIONS:
                if isinstance(value, dict):
                    for leaf, entry in value.items():
                        self._key(key, leaf, _frozen(entry), override)
                else:
                    self.problems.append(f"{key} is {_shown(value)}; allowed is a table, [{key}]")
            else:
                self._key("", key, _frozen(value), override)

    def _key(self, section: str, leaf: str, value: object, override: bool) -> None:
        place = f"{section}.{leaf}" if section else leaf
        foreign = section not in SECTIONS  # at the top level, or in a section of FedML's
        alias = ALIASES.get(leaf, "")
        if place in KEYS and (section or leaf in TOP_LEVEL):
            self._own(place, _Entry(place, value, override))
        elif alias and (foreign or alias.startswith(f"{section}.")):
            if self._own(alias, _Entry(place, value, override)):
                self.notes.append(f"{place} taken as {alias}")
        elif foreign and leaf in GROUPS:
            self.grouped.setdefault(GROUPS[leaf], {})[leaf] = _Entry(place, value, override)
        elif foreign and leaf in LEFT_OUT:
            self.notes.append(f"{place} left out: {LEFT_OUT[leaf]}")
        else:
            near = NEAR.get(leaf, "") if section in ("", "aggregation") or foreign else ""
            near = near or nearest_key(place, tuple(ALIASES) if foreign else ())
            self.problems.append(f"{place} is not a known key" + (f"; did you mean {near}?" if near else ""))

    def _own(self, target: str, entry: _Entry) -> bool:
        """Note that `target` is given. False when it was given before and that counts."""
        known = self.entries.get(target)
        if known is not None and not entry.override:
            self.problems.append(f"{known.place} and {entry.place} mean the same; keep one")
            return False
        if known is not None and isinstance(known.value, dict) and isinstance(entry.value, dict):
            entry.value = {**known.value, **entry.value}
        value = translate_value(target, entry.value, KEYS[target].choices)
        if value != entry.value:
            self.notes.append(f"{entry.place} = {_shown(entry.value)} taken as {_shown(value)}")
            entry.value = value
        self.entries[target] = entry
        return True

    def _promise(self, section: str, value: object) -> None:
        asked = value if isinstance(value, dict) else {section: value}
        switches = [entry for key, entry in asked.items() if key.startswith("enable")]
        if switches and not any(switches):
            self.notes.append(f"{section} left out: nothing in it is enabled")
        elif section == "defense_args" and switches:
            entries = {leaf: _Entry(f"{section}.{leaf}", _frozen(entry), False) for leaf, entry in asked.items()}
            self.grouped[defence] = entries
        else:
            self.problems.append(f"{section} asks for what fednode does not have; remove it to run without")

    def tree(self) -> dict[str, object]:
        """Everything taken, as the nested tables that `Configuration` checks."""
        for translate, entries in self.grouped.items():
            self._translate(translate, entries)
        self._take_server_sgd()
        tree: dict[str, object] = {}
        sections: dict[str, dict[str, object]] = {"task": {}, "data": {}}  # these have keys that must be given
        for target, entry in self.entries.items():
            section, _, leaf = target.rpartition(".")
            (sections.setdefault(section, {}) if section else tree)[leaf] = entry.value
        return tree | sections

    def _translate(self, translate: Callable[[Mapping[str, object]], Translation], entries: dict[str, _Entry]) -> None:
        translation = translate({leaf: entry.value for leaf, entry in entries.items()})
        if translation.problem:
            self.problems.append(translation.problem)
        places = " and ".join(entry.place for entry in entries.values())
        override = any(entry.override for entry in entries.values())
        for target, value in translation.values.items():
            if self._own(target, _Entry(places, value, override)):
                self.notes.append(f"{places} taken as {target} = {_shown(value)}")
        for entry in entries.values():
            needed = ALGORITHM_NEEDS.get(entry.value.lower(), "") if isinstance(entry.value, str) else ""
            if needed and needed not in self.entries:
                self.problems.append(f"{entry.place} is {_shown(entry.value)}, which needs {needed}; it is not given")

    def _take_server_sgd(self) -> None:
        """A word of FedML's whose sense depends on what stands beside it, so it is taken last."""
        optimizer = self.entries.get(SERVER_OPTIMIZER)
        if optimizer is None or not isinstance(optimizer.value, str) or optimizer.value.strip().lower() != "sgd":
            return
        taken = server_sgd({target: entry.value for target, entry in self.entries.items()})
        why = ", plain averaging, for no momentum is given" if taken[SERVER_OPTIMIZER] == "none" else ""
        why = " with server_momentum = 0, for none is given" if SERVER_MOMENTUM in taken else why
        note = f"{optimizer.place} = {_shown(optimizer.value)} taken as {_shown(taken[SERVER_OPTIMIZER])}{why}"
        self.notes.append(note)
        for target, value in taken.items():
            self.entries[target] = _Entry(optimizer.place, value, optimizer.override)

    def place(self, target: str) -> str:
        return self.entries[target].place if target in self.entries else target


def _nested(overrides: Mapping[str, object]) -> dict[str, object]:
    """Dotted keys as tables: {"training.rounds": 5} as {"training": {"rounds": 5}}."""
    tree: dict[str, object] = {}
    for dotted, value in overrides.items():
        *tables, leaf = dotted.split(".")
        table = tree
        for name in tables:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                break  # "a" and "a.b" at once: the shorter stands, and is complained about as no table
            table = inner
        else:
            table[leaf] = value
    return tree


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {key: _frozen(entry) for key, entry in value.items()}
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS_MAX:
        raise ValueError("nobody could be shown this number")
    return value


def _name_from(source: str) -> str:
    stem = base_name(source).rsplit(".", 1)[0]
    return re.sub(r"[^\w.+@() -]", "-", stem)[:NAME_CHARACTERS_MAX].strip(" .+@()-_") or "run"


def _validated(tree: dict[str, object], reader: _Reader) -> Configuration | None:
    """The configuration, or None after its problems were added to the reader's."""
    try:
        return Configuration.model_validate(tree)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            for problem in _problems(details, reader):
                if problem not in reader.problems:
                    reader.problems.append(problem)
        return None


def _problems(details: ErrorDetails, reader: _Reader) -> list[str]:
    context = details.get("ctx", {})
    if details["type"] == CONFLICT:
        return list(context["problems"])
    path = [str(part) for part in details["loc"]]
    target = ".".join(path[:2]) if path[0] in SECTIONS else path[0]
    place = ".".join([reader.place(target), *path[2:3]])
    if details["type"] == "missing":
        return [f"{place} is missing: {KEYS[target].meaning}"]
    if details["type"] == "parameter":
        return [f"{place}.{context['entry']} is {_shown(context['given'])}; allowed is {details['msg']}"]
    given = details["input"]
    meant = ELSEWHERE.get(re.sub(r"[\s-]+", "_", given.lower()), "") if isinstance(given, str) else ""
    said = f"{place} is {_shown(given)}; allowed is {KEYS[target].allowed}"
    return [f"{said}; {meant}" if meant and target.startswith("aggregation.") else said]


def _shown(value: object) -> str:
    text = toml_value(value)
    return text if len(text) <= _GIVEN_CHARACTERS_MAX else text[:_GIVEN_CHARACTERS_MAX] + " …"
