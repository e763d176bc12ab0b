"""Whether a second node runs with this node's key: one from a backup of the keys, or a copied home.

Two nodes of one key cut each other's connections, and in a run they could vote twice. Only who has the key can sign an
address record of this node, so a record that is newer than ours, and that we did not make, proves it. Rules:
docs/protocol.md §12.10.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from protocol.group.address_record import AddressRecord

RESTART_S = 1.0  # what a life of before said while it ended, on a machine whose clock was just a little ahead
CLOCK_AHEAD_S = 600.0  # further in the future is no other node, but a record of ours from when the clock was wrong

log = logging.getLogger("fednode.node")


class Copies:
    """Of a node that started at `started_at`, seconds. `found` is told once of the first copy."""

    def __init__(self, started_at: float, now: Callable[[], float], found: Callable[[str], None]) -> None:
        self._started_at = started_at
        self._now = now
        self._found = found
        self.trouble = ""

    def heard(self, record: AddressRecord) -> None:
        """A record of ours that is newer than all that we have made. What a life of before made proves nothing."""
        made_at = record.sequence / 1000
        if not self._started_at + RESTART_S < made_at <= self._now() + CLOCK_AHEAD_S:
            return
        is_first = not self.trouble
        at, where = datetime.fromtimestamp(made_at, UTC), ", ".join(record.addresses[:2]) or "an unknown address"
        self.trouble = (
            f"Another node runs with this node's key: on {at:%Y-%m-%d %H:%M:%S} UTC it said that it is at {where}; "
            "stop one of the two; if it is not yours, somebody has your key: revoke this node (fednode nodes revoke), "
            "or have an admin remove it, and begin with an empty home"
        )
        if is_first:
            log.error("%s", self.trouble)
            self._found(self.trouble)
