"""Who answers about the care of the record: the running node, or this process where the node is stopped."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednode_client import Client, ClientError, NodeNotRunning
from node.cli.common import Answer

if TYPE_CHECKING:
    from tracker.store import Store

CARE_DEADLINE_S = 3600.0  # a store of many gigabytes is read through
RECORD = "record.duckdb"

Json = dict[str, Any]


class StoreClient(Client):
    """The endpoints below /v1/store."""

    def retention(self) -> Json:
        return self._get("store", "retention")

    def set_retention(self, rules: dict[str, str]) -> Json:
        return self._call("PUT", "/v1/store/retention", {"rules": rules})

    def prune(self, *, dry_run: bool) -> Json:
        return self._post("store", "prune", dry_run=dry_run, deadline_s=CARE_DEADLINE_S)

    def compact(self) -> Json:
        return self._post("store", "compact", deadline_s=CARE_DEADLINE_S)

    def check(self, *, deep: bool) -> Json:
        return self._post("store", "check", deep=deep, deadline_s=CARE_DEADLINE_S)

    def take_in(self, file: str, models: Path | None) -> Json:
        folder = None if models is None else str(models.absolute())
        return self._post("store", "import", file=file, models=folder, deadline_s=CARE_DEADLINE_S)

    def backup(self) -> Iterator[bytes]:
        """The pieces of a store's file."""
        with self._exchange("GET", "/v1/store/backup", CARE_DEADLINE_S) as response:
            while piece := response.read(1024 * 1024):
                yield piece


def asked(answer: Answer) -> tuple[StoreClient | None, Path]:
    """The running node, or None where it is stopped, or a file was named; and where the store's file is."""
    client = StoreClient(answer.home)
    if answer.store is not None:
        return None, answer.store
    try:
        client.status()
    except NodeNotRunning:
        place = client.home / RECORD
        if not place.exists():
            raise ClientError(f"There is no record at {place}", remedy="start the node once: fednode start") from None
        return None, place
    return client, client.home / RECORD


def same_file(one: Path, other: Path) -> bool:
    """Under whatever names; also where there is none yet."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def opened(place: Path) -> "Store":
    """The store of a stopped node, for changing it. Raises FednodeError: somebody has it open."""
    from tracker.store import Store  # DuckDB: only where a file is opened here

    return Store(place)
