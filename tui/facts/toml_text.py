"""Changing single keys in a TOML text that people write too: everything else in it stays as it is. Pure."""

import json
import re
import tomllib
from typing import Any


def read(text: str) -> dict[str, str] | None:
    """The text's plain values by their dotted keys, as one types them into a form; None where it is not TOML."""
    try:
        return _leaves(tomllib.loads(text))
    except (ValueError, RecursionError):  # also of a whole number too long to be written out
        return None


def _leaves(document: dict[str, Any]) -> dict[str, str]:
    values = {}
    for name, entry in document.items():
        leaves = (
            {f"{name}.{leaf}": value for leaf, value in entry.items()} if isinstance(entry, dict) else {name: entry}
        )
        values.update({key: typed(value) for key, value in leaves.items() if not isinstance(value, dict | list)})
    return values


def typed(value: object) -> str:
    """A plain value as one types it into a form."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def literal(text: str, kind: str) -> str:
    """What one typed for a key of the kind that the node names, as TOML writes it.

    A number that is none goes in quotes, so that the node can say what is wrong with it.
    """
    if kind in ("number", "whole number"):
        try:
            float(text)
            tomllib.loads(f"x = {text}")
        except ValueError:
            return _quoted(text)
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for one character that TOML wants escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def with_key(text: str, key: str, value: str) -> str:
    """`text` with the dotted `key` set to `value`, written as TOML; an empty `value` puts a # before the key, and one
    that stands there with a # is taken into use."""
    section, _, leaf = key.rpartition(".")
    lines = text.splitlines()
    start, end = _section(lines, section)
    live, idle = (
        next((at for at in range(start, end) if re.match(rf"{before}{re.escape(leaf)}\s*=", lines[at])), None)
        for before in (r"\s*", "#")
    )
    if not value:
        if live is not None:
            lines[live] = f"#{lines[live].lstrip()}"
    elif (at := live if live is not None else idle) is not None:
        lines[at] = f"{leaf} = {value}"
    else:
        if start > len(lines):
            lines += ["", f"[{section}]"]
            end = len(lines)
        while end > start and not lines[end - 1].strip():
            end -= 1
        lines.insert(end, f"{leaf} = {value}")
    return "\n".join(lines) + "\n"


def _section(lines: list[str], section: str) -> tuple[int, int]:
    """Where the keys of `section` begin and end; beyond the end where there is no such section."""
    heads = [at for at, line in enumerate(lines) if re.match(r"\s*\[", line)]
    if not section:
        return 0, heads[0] if heads else len(lines)
    head = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?$")
    for number, at in enumerate(heads):
        if head.match(lines[at]):
            return at + 1, heads[number + 1] if number + 1 < len(heads) else len(lines)
    return len(lines) + 1, len(lines) + 1
