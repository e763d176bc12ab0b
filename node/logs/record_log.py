"""The node's own log lines, into its record: `fednode logs` and the dashboard then show them beside the runs'."""

import logging
import threading
from collections.abc import Callable

from tracker.tables.rows import LogRow

MESSAGE_CHARACTERS_MAX = 4000  # a traceback; what is longer is cut, the log file has it whole


class RecordHandler(logging.Handler):
    """Makes a row of every line at INFO or above, but for those that a run's chronicle has recorded already.

    Lines out of other threads are left to the log file: the record belongs to the node's own thread.
    """

    def __init__(
        self, node_id: str, take: Callable[[LogRow], None], now: Callable[[], float], sequence: Callable[[], int]
    ) -> None:
        super().__init__(logging.INFO)
        self._node_id = node_id
        self._take = take
        self._now = now
        self._sequence = sequence
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "is_recorded", False) or threading.get_ident() != self._thread:
            return
        message = record.getMessage()[:MESSAGE_CHARACTERS_MAX]
        self._take(LogRow(self._node_id, "", record.levelname, record.name, message, self._now(), self._sequence()))
