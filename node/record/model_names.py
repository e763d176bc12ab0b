"""What a person means by MODEL, and what is told about a model: questions to a record, put by whoever has one.

A model is named in one way everywhere:

    RUN             the newest model of a run that is here (by the run's name, or its id or the beginning of that)
    RUN:12          that of round 12
    NAME            the newest version of a name of the registry
    NAME@ALIAS      the version that the alias stands for; NAME@newest is the newest, NAME@3 the third
    NAME:3          the third version
    3fa9c0d1…       a model by the beginning of its blob's hash, 8 characters at least

A text that names two different models is refused, with a spelling for each that means it alone. Nodes and commands that
open a store's file ask the same: see tracker.queries.asking.
"""

import re
from collections.abc import Sequence
from typing import Any

from node.api.service.service import NotFound
from node.names import PREFIX_CHARACTERS_MIN
from protocol.errors import Refused
from tracker.queries.asking import Asking

Json = dict[str, Any]

NAME_CHARACTERS_MAX = 80  # of a registered name or an alias: what fits a line
BLOB_PREFIX_CHARACTERS_MIN = 8  # so that a blob is seldom taken for a run
NEWEST = "newest"  # as an alias: always the newest version

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")  # no digit first: NAME@3 is a version
_NUMBER = re.compile(r"[0-9]{1,9}")
_HASH_PREFIX = re.compile(rf"[0-9a-f]{{{BLOB_PREFIX_CHARACTERS_MIN},64}}")
_SEE_LIST = "see fednode model list, and fednode run list"


def check_name(name: str) -> None:
    """Raises Refused unless `name` can be a name of the registry."""
    if len(name) > NAME_CHARACTERS_MAX or not _NAME.fullmatch(name):
        raise Refused(
            "bad-name",
            f"{name[:NAME_CHARACTERS_MAX]!r} is no name for a model",
            remedy=f"use up to {NAME_CHARACTERS_MAX} letters, digits, dots, dashes and underscores, no sign first",
        )


def check_alias(alias: str) -> None:
    """Raises Refused unless `alias` can be an alias of a version."""
    if len(alias) > NAME_CHARACTERS_MAX or not _ALIAS.fullmatch(alias) or alias == NEWEST:
        raise Refused(
            "bad-alias",
            f"{alias[:NAME_CHARACTERS_MAX]!r} is no alias for a version",
            remedy=f"use up to {NAME_CHARACTERS_MAX} letters, digits, dots, dashes and underscores, a letter first; "
            f"{NEWEST} always stands for the newest version",
        )


# --- one model -------------------------------------------------------------------------------------------------
def model_named(text: str) -> Asking[Json]:
    """The MODEL (docs/api.md) that `text` means, without `here`. Raises NotFound, and Refused when it means several."""
    found: list[tuple[str, Json]] = []
    whys: list[str] = []
    for reading in (_registered, _of_run, _of_blob):
        spelling, row, why = yield from reading(text)
        if row is not None:
            found.append((spelling, row))
        elif why:
            whys.append(why)
    if not found:
        what = " and ".join(whys) or f"No model is called {text[:NAME_CHARACTERS_MAX]!r}, and no run"
        raise NotFound("no-such-model", what, remedy=_SEE_LIST)
    if len({_identity(row) for _, row in found}) > 1:
        spelt = " or ".join(spelling for spelling, _ in found)
        raise Refused(
            "ambiguous", f"{text!r} names several models: a registered one, a run's, or a blob", remedy=f"write {spelt}"
        )
    return (yield from _with_entries(found[0][1]))


def _identity(row: Json) -> tuple[Any, ...]:
    return row["run_id"], row["round"], row["model"]


Reading = tuple[str, Json | None, str]  # how to spell it unmistakably, the row, and else why there is none
_NOTHING: Reading = ("", None, "")


def _registered(text: str) -> Asking[Reading]:
    """`text` as NAME, NAME@ALIAS, NAME@3 or NAME:3."""
    name, mark, which = text, "", ""
    if not _NAME.fullmatch(text):
        name, mark, which = text.rpartition("@") if "@" in text else text.rpartition(":")
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARACTERS_MAX:
        return _NOTHING
    entries = yield from entries_of(name)
    if not entries:
        return _NOTHING
    chosen = [entry for entry in entries if _is_meant(entry, entries[0], mark, which)]
    if chosen:
        return f"{name}@{chosen[0]['version']}", chosen[0], ""
    aliases = sorted(alias for entry in entries for alias in entry["aliases"])
    there_are = f"its versions end with {entries[0]['version']}, its aliases are {', '.join(aliases) or 'none'}"
    return "", None, f"{name} has no {which[:NAME_CHARACTERS_MAX]!r}: {there_are}"


def _is_meant(entry: Json, newest: Json, mark: str, which: str) -> bool:
    if not mark or (mark == "@" and which == NEWEST):
        return entry is newest
    if _NUMBER.fullmatch(which):
        return bool(entry["version"] == int(which))
    return mark == "@" and which in entry["aliases"]


def entries_of(name: str) -> Asking[list[Json]]:
    """The versions of a registered name that stand, the newest first."""
    rows = yield "registered_models", {"registered": name}
    return [row for row in rows if not row["removed"]]


def _of_run(text: str) -> Asking[Reading]:
    """`text` as RUN, else as RUN:12."""
    run = yield from run_named(text)
    which: int | None = None
    if not run:
        head, mark, tail = text.rpartition(":")
        if not mark or not _NUMBER.fullmatch(tail):
            return _NOTHING
        run, which = (yield from run_named(head)), int(tail)
        if not run:
            return _NOTHING
    rows = yield "committed_models", {"run_id": run["run_id"], "round": which, "limit": 1}
    short = run["run_id"][:12]
    if rows:
        return (f"{short}:{rows[0]['round']}" if which is not None else short), rows[0], ""
    checkpoint = "committed checkpoint" if which is None else f"checkpoint of round {which}"
    return "", None, f"There is no {checkpoint} of the run {run['name'] or short} here"


def run_named(text: str) -> Asking[Json]:
    """`run_id` and `name` of the run with this id or name (the newest), or the only one whose id begins so; or {}."""
    rows = yield "run_names", {"text": text}
    exact = [row for row in rows if row["run_id"] == text] or [row for row in rows if row["name"] == text]
    if exact or len(text) < PREFIX_CHARACTERS_MIN:
        return exact[0] if exact else {}
    return rows[0] if len(rows) == 1 else {}


def _of_blob(text: str) -> Asking[Reading]:
    """`text` as the beginning of a blob's hash. One model may be in several runs: then of the one that made it."""
    if not _HASH_PREFIX.fullmatch(text):
        return _NOTHING
    rows = yield "committed_models", {"prefix": text}
    blobs = sorted({row["model"] for row in rows})
    if len(blobs) > 1:
        raise Refused("ambiguous", f"{len(blobs)} models begin with {text}", remedy=f"write {_distinct(blobs)}")
    if not rows:
        return _NOTHING
    first = min(rows, key=lambda row: (row["time"], row["round"]))
    return first["model"], first, ""


def _distinct(blobs: Sequence[str]) -> str:
    return " or ".join(blobs[:3]) + (" …" if len(blobs) > 3 else "")


def _with_entries(row: Json) -> Asking[Json]:
    """A row as MODEL: with every name that the registry has for it."""
    registered = yield "registered_models", {"run_id": row["run_id"]}
    return told(row, registered)


def told(row: Json, registered: Sequence[Json]) -> Json:
    """A row of committed or registered models as MODEL. `name` and `version` say by which entry it was found, if any;
    `names` are all that it has."""
    names = [
        {"name": entry["name"], "version": entry["version"], "aliases": entry["aliases"]}
        for entry in registered
        if not entry["removed"] and _identity(entry) == _identity(row)
    ]
    kept = (
        "run_id",
        "run",
        "round",
        "checkpoint",
        "model",
        "schema",
        "bytes",
        "time",
        "accuracy",
        "loss",
        "measured_by",
    )
    found_by = {"name": row.get("name", ""), "version": row.get("version", 0), "aliases": row.get("aliases", [])}
    return {**{key: row[key] for key in kept}, **found_by, "tagged_at": row.get("tagged_at"), "names": names}


# --- several ---------------------------------------------------------------------------------------------------
def models_of(text: str | None) -> Asking[list[Json]]:
    """Every version of every registered name; or those of the name `text`, and the models of the run of that name."""
    if text is None:
        rows = yield "registered_models", {}
        return [told(row, rows) for row in rows if not row["removed"]]
    versions: list[Json] = []
    if _NAME.fullmatch(text):
        versions = yield from entries_of(text)
    run = yield from run_named(text)
    rounds: list[Json] = []
    registered: list[Json] = list(versions)
    if run:
        rounds = yield "committed_models", {"run_id": run["run_id"]}
        registered += yield "registered_models", {"run_id": run["run_id"]}
    if not versions and not run:
        what = f"Neither a registered model nor a run is called {text[:NAME_CHARACTERS_MAX]!r}"
        raise NotFound("no-such-model", what, remedy=_SEE_LIST)
    listed = {_identity(row) for row in versions}
    once = list({(entry["name"], entry["version"]): entry for entry in registered}.values())
    return [told(row, once) for row in [*versions, *(row for row in rounds if _identity(row) not in listed)]]
