"""What a running node can be asked about its record, its blobs and what is on its way: part of `service`."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoreCopy:
    """A copy of the whole record: its length in bytes, and the bytes in pieces."""

    size: int
    chunks: AsyncIterator[bytes]


class StoreService(Protocol):
    """The care of the record. Everything may raise FednodeError for the disk's sake."""

    async def retention(self) -> Json: ...

    async def set_retention(self, rules: Mapping[str, str]) -> Json:
        """Change the rules of some kinds (tracker.retention). Raises Refused."""

    async def prune(self, *, dry_run: bool) -> Json: ...

    async def compact(self) -> Json: ...

    async def backup(self) -> StoreCopy: ...

    async def check(self, *, deep: bool) -> Json: ...

    async def take_in(self, name: str, models: str | None) -> Json:
        """Take in the file `name` of the work folder, which tracker.imports.read.stage wrote, and the blobs in the
        folder `models`. Raises Refused."""


class BlobService(Protocol):
    """The care of the blobs. Everything may raise FednodeError for the disk's sake."""

    async def usage(self) -> Json:
        """What they are, by kind and by run, and how much room they have."""

    async def verify(self) -> Json:
        """Read all of them. What is damaged is set aside, and fetched again from whoever of its run has it."""

    async def collect(self, *, dry_run: bool) -> Json:
        """Remove what nothing needs; with `dry_run` only say what that is."""


class TransferService(Protocol):
    """Blobs on their way, and how fast they may go."""

    async def listed(self) -> list[Json]:
        """What has been going on for over a second."""

    async def limits(self) -> Json: ...

    async def set_limits(self, texts: Mapping[str, str]) -> Json:
        """Change some of node.home.home.LIMITS, at once and for later. Raises Refused."""
