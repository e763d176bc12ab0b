"""A journal on a simulated disk: what a crash or a bad sector leaves of it, and what opening it again makes of that."""

import random
from collections.abc import Sequence

from tracker.journal import check_inside, encode_record, scan_records


class SimulatedJournal:
    """A journal as its records, which many disks may share: what all nodes write alike is in memory once.

    Its bytes are made only for a fault to change them.
    """

    def __init__(self, records: Sequence[bytes] = ()) -> None:
        self.records = list(records)
        self._torn = b""  # what a crash left of an append
        self._damaged: bytearray | None = None

    def tear(self, randomness: random.Random) -> None:
        """Leave some of an append behind that a crash cut short."""
        torn = encode_record(0, b"what a crash tore")
        self._torn += torn[: randomness.randrange(len(torn))]

    def damage(self, offset: int) -> None:
        raw = self._damaged
        if raw is None:
            raw = bytearray()
            for record in self.records:
                raw += encode_record(len(raw), record)
        raw += self._torn
        raw[offset] ^= 1
        self._damaged, self._torn = raw, b""

    def recover(self, name: str) -> None:
        """What a real journal does when it is opened. Raises FednodeError when records were lost in its middle."""
        if self._damaged is not None:
            raw = bytes(self._damaged)
            records, end = scan_records(raw)
            if end != len(raw):
                check_inside(raw, end, name)
            self.records, self._damaged = records, None
        self._torn = b""  # of one record there is never the whole
