"""Which items of the inbox somebody has looked at: their ids, kept over restarts in a small file of the node's home."""

import json
import logging

import trio

from node.seams import Disk
from protocol.errors import FednodeError

SEEN_FILE = "inbox-seen.json"
# The oldest are forgotten first: an item that is two weeks old comes into no inbox again, and nobody reads more than
# this in two weeks.
SEEN_MAX = 2000
_ID_CHARACTERS_MAX = 200

log = logging.getLogger("fednode.node")


class SeenItems:
    """Read when it is first needed."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._ids: dict[str, None] = {}
        self._is_read = False
        self._changing = trio.Lock()

    async def load(self) -> frozenset[str]:
        """The ids. A file that is damaged is begun anew, with a warning: then some items are shown once more."""
        async with self._changing:
            await self._read()
            return frozenset(self._ids)

    async def add(self, item_id: str) -> None:
        """Durably. Raises FednodeError when the disk says no."""
        async with self._changing:
            await self._read()
            ids = {**{known: None for known in self._ids if known != item_id}, item_id: None}
            kept = list(ids)[-SEEN_MAX:]
            await self._disk.write(SEEN_FILE, json.dumps(kept).encode())
            self._ids = dict.fromkeys(kept)

    async def _read(self) -> None:
        if self._is_read:
            return
        try:
            self._ids = dict.fromkeys(_ids_in(await self._disk.read(SEEN_FILE)))
        except (ValueError, FednodeError) as error:
            log.warning(
                "%s in the node's home cannot be used (%s) and is begun anew: seen items show again", SEEN_FILE, error
            )
        self._is_read = True


def _ids_in(raw: bytes | None) -> list[str]:
    """Raises ValueError when it is no list of ids."""
    known = json.loads(raw or b"[]")
    if not isinstance(known, list) or not all(isinstance(each, str) for each in known):
        raise ValueError("it is no list of names")
    return [each for each in known if len(each) <= _ID_CHARACTERS_MAX][-SEEN_MAX:]
