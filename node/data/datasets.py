"""The register of this node's own data sets: a name for a path, with a fingerprint of what lies there.

The register is a small file of the node's. A data set's content, path and options never leave the node; name,
fingerprint and size may. What cannot be read is refused when it is registered, not weeks later in a run.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from node.data.files import Found, inspect
from node.seams import Disk
from protocol.errors import FednodeError, Refused
from protocol.limits import NAME_CHARACTERS_MAX

REGISTER = "data.json"
OPTIONS_BYTES_MAX = 16 * 1024  # a few settings, not data

Offload = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """`kind`: npz, csv, parquet or folder. `fingerprint`: BLAKE3 of the content. `added_at`: ISO 8601, UTC."""

    name: str
    path: str
    kind: str
    bytes: int
    fingerprint: str
    added_at: str
    options: Mapping[str, Any]


class DataSets:
    """The register, held in memory and written to `disk` at every change. `offload` runs what reads files."""

    def __init__(self, disk: Disk, offload: Offload, now: Callable[[], datetime]) -> None:
        self._disk = disk
        self._offload = offload
        self._now = now
        self._sets: dict[str, DataSet] = {}
        self._changing = trio.Lock()  # one change at a time, so that none overwrites another

    async def load(self) -> None:
        """Read the register; call it once, first. Raises FednodeError when the file is damaged."""
        raw = await self._disk.read(REGISTER)
        try:
            self._sets = {entry["name"]: DataSet(**entry) for entry in json.loads(raw or b"[]")}
        except (ValueError, TypeError, KeyError) as error:
            raise FednodeError(
                f"The register of data sets, {REGISTER} in the node's home, is damaged ({error})",
                remedy="delete the file and add the data sets again",
            ) from error

    def all(self) -> list[DataSet]:
        """By name."""
        return [self._sets[name] for name in sorted(self._sets)]

    def find(self, name: str) -> DataSet | None:
        return self._sets.get(name)

    def get(self, name: str) -> DataSet:
        """Raises Refused when no data set has this name."""
        found = self._sets.get(name)
        if found is None:
            names = ", ".join(sorted(self._sets)) or "none"
            raise Refused(
                "no-such-data",
                f"No data set is called {name!r}; there are: {names}",
                remedy="add it with fednode data add NAME PATH",
            )
        return found

    async def add(self, name: str, path: str, options: Mapping[str, Any] | None = None) -> DataSet:
        """Register what lies at `path`, absolute or relative to the node's working directory, with `~` for home.

        Raises Refused for a bad or taken name, bad options, or what does not exist or cannot be read.
        """
        _check_name(name)
        if name in self._sets:
            raise Refused(
                "data-exists", f"A data set is called {name!r} already", remedy="remove it, or choose another"
            )
        checked = _check_options(options or {})
        found: Found = await self._offload(partial(inspect, path))
        added_at = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        added = DataSet(name, found.path, found.kind, found.bytes, found.fingerprint, added_at, checked)
        async with self._changing:
            self._check_free(name)  # somebody may have taken it while the files were read
            await self._save(self._sets | {name: added})
        return added

    async def remove(self, name: str) -> None:
        """Forget a data set; its files stay. Raises Refused when no data set has this name."""
        async with self._changing:
            self.get(name)
            await self._save({other: entry for other, entry in self._sets.items() if other != name})

    async def renewed(self, name: str) -> DataSet:
        """The data set with the fingerprint of what lies there now. Raises Refused when it cannot be read any more."""
        known = self.get(name)
        found: Found = await self._offload(partial(inspect, known.path))
        current = replace(known, kind=found.kind, bytes=found.bytes, fingerprint=found.fingerprint)
        async with self._changing:
            if self.get(name) == known != current:
                await self._save(self._sets | {name: current})
        return current

    def _check_free(self, name: str) -> None:
        if name in self._sets:
            raise Refused(
                "data-exists", f"A data set is called {name!r} already", remedy="remove it, or choose another"
            )

    async def _save(self, sets: dict[str, DataSet]) -> None:
        entries = [asdict(sets[name]) for name in sorted(sets)]
        await self._disk.write(REGISTER, json.dumps(entries, indent=1).encode())
        self._sets = sets


def _check_name(name: str) -> None:
    if len(name) > NAME_CHARACTERS_MAX or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise Refused(
            "bad-name",
            f"{name[:NAME_CHARACTERS_MAX]!r} is no name for a data set",
            remedy=f"use up to {NAME_CHARACTERS_MAX} letters, digits, dots, dashes and underscores, no sign first",
        )


def _check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `options` that surely survives being written as JSON."""
    try:
        encoded = json.dumps(dict(options), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Refused("bad-options", f"The options are not plain values ({error})", remedy="use JSON values") from error
    if len(encoded) > OPTIONS_BYTES_MAX:
        raise Refused(
            "bad-options",
            f"The options take {len(encoded)} bytes, the limit is {OPTIONS_BYTES_MAX}",
            remedy="put data into the data set's files",
        )
    copy: dict[str, Any] = json.loads(encoded)
    return copy
