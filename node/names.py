"""What people call things: by an id, by a name, or by the beginning of an id."""

from collections.abc import Mapping
from typing import TypeVar

PREFIX_CHARACTERS_MIN = 4  # of an id that somebody types: fewer begin too many

Id = TypeVar("Id", bound=str)


def id_named(text: str, names: Mapping[Id, str]) -> Id | None:
    """The id that is `text`, or has it as its name (the newest), or begins with it (if only one does). `names`: of
    everything, by its id."""
    by_id = [key for key in names if key == text]
    by_name = [key for key, name in names.items() if name == text]
    if by_id or by_name:
        return (by_id or by_name)[-1]
    by_prefix = [key for key in names if key.startswith(text)] if len(text) >= PREFIX_CHARACTERS_MIN else []
    return by_prefix[0] if len(by_prefix) == 1 else None
