"""What this node was busy with in a run, measured where the work is done: recorded in full, and told to the others.

Beginnings are by the wall clock that the node was given, lengths by trio's: in a simulation both are virtual, and what
only computes takes no time there. Others get, for each round and kind of work, the sum (docs/protocol.md §8.22).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from node.seams import TrainResult
from node.system.names import unit_of
from protocol.run.checkpoint import SPAN_NAMES, SPANS_MAX, Offer, Report, Span, SpanName
from tracker.tables.rows import SpanRow, SystemMetricRow

UNTOLD_MAX = 64  # sums that nobody was told yet, of a node that has no occasion to tell them: its oldest are let go
_NUMBERS_OF_A_ROUND = 16  # that what others tell can take: more than kinds of spans, and as many as keys of usage
_OF_TRAINING = frozenset({"train", "encode"})  # is over when the offer is made; all else goes on until the commit


@dataclass(slots=True)
class Measured:
    """For who is measured to fill in: the other node, the bytes, and whether there was anything to do at all."""

    peer: str = ""
    bytes: int = 0
    is_kept: bool = True


@dataclass(slots=True)
class _Upload:
    started_at: float
    began: float
    ended: float
    bytes: int = 0


class Spans:
    """One run's, on this node. `record` takes the rows."""

    def __init__(
        self,
        run: str,
        me: str,
        *,
        record: Callable[[SpanRow | SystemMetricRow], None],
        now: Callable[[], float],
        sequence: Callable[[], int],
    ) -> None:
        self._run = run
        self._me = me
        self._record = record
        self._now = now
        self._sequence = sequence
        self._untold: dict[tuple[int, str], Span] = {}
        self._uploads: dict[tuple[int, str], _Upload] = {}
        self._waiting: tuple[int, float, float] | None = None  # round, began at, and by the wall clock

    # --- measuring -----------------------------------------------------------------------------------------------
    @contextmanager
    def measuring(self, name: SpanName, round_number: int) -> Iterator[Measured]:
        """Measure what is done within. What raises is not recorded."""
        began, started_at, measured = trio.current_time(), self._now(), Measured()
        yield measured
        if measured.is_kept:
            seconds = trio.current_time() - began
            self._add(name, round_number, started_at, seconds, measured.peer, measured.bytes)

    def trained(self, round_number: int, seconds: float, stored_s: float, size: int, result: TrainResult) -> None:
        """Training has just ended. It took `seconds`, coding included; then storing the update, of so many bytes, took
        `stored_s`."""
        encode_s = min(max(0.0, result.encode_s), seconds)  # the worker's word
        began_encoding = self._now() - stored_s - encode_s
        self._add("train", round_number, began_encoding - (seconds - encode_s), seconds - encode_s)
        if encode_s + stored_s > 0:
            self._add("encode", round_number, began_encoding, encode_s + stored_s, size=size)
        at, me = self._now(), self._me
        for key, value in result.usage.items():
            place = (me, self._run, "worker", key, "", value, unit_of(key), round_number, at)
            self._record(SystemMetricRow(*place, me, self._sequence()))

    def waits(self, round_number: int) -> None:
        """From now on this node waits for the others in a round, until `busy`."""
        if self._waiting is None:
            self._waiting = round_number, trio.current_time(), self._now()

    def busy(self) -> None:
        """There is something to do again."""
        if self._waiting is not None:
            (round_number, began, started_at), self._waiting = self._waiting, None
            if (seconds := trio.current_time() - began) > 0:
                self._add("wait", round_number, started_at, seconds)

    def uploaded(self, peer: str, round_number: int, seconds: float, size: int) -> None:
        """A piece of our update of a round has just gone to `peer`, and took so long."""
        ended = trio.current_time()
        upload = self._uploads.get((round_number, peer))
        if upload is None:
            upload = self._uploads[round_number, peer] = _Upload(self._now() - seconds, ended - seconds, ended)
        upload.ended = ended
        upload.bytes += size

    def round_over(self) -> None:
        """A checkpoint is committed: nobody waits for it any more, and what was being uploaded is of no more use."""
        self.busy()
        for (round_number, peer), upload in self._uploads.items():
            self._add("upload", round_number, upload.started_at, upload.ended - upload.began, peer, upload.bytes)
        self._uploads.clear()

    def _add(
        self, name: SpanName, round_number: int, started_at: float, seconds: float, peer: str = "", size: int = 0
    ) -> None:
        row = SpanRow(
            self._run, self._me, round_number, name, peer, started_at, seconds, size, self._me, self._sequence()
        )
        self._record(row)
        known = self._untold.get((round_number, name))
        if known is not None:
            started_at, seconds = min(known.started_at, started_at), known.seconds + seconds
            size += known.bytes
        elif len(self._untold) >= UNTOLD_MAX:
            del self._untold[next(iter(self._untold))]
        self._untold[round_number, name] = Span(name, round_number, started_at, seconds, size)

    # --- telling -------------------------------------------------------------------------------------------------
    def to_tell(self, over: int) -> tuple[Span, ...]:
        """What is to be told now, once: of the rounds up to `over`, and of the next one what belongs to training."""
        told = [
            span for span in self._untold.values()
            if span.round <= over or (span.round == over + 1 and span.name in _OF_TRAINING)
        ]  # fmt: skip
        for span in told:
            del self._untold[span.round, span.name]
        return tuple(sorted(told, key=lambda span: span.round)[-SPANS_MAX:])


def told_rows(run: str, note: Offer | Report, at: float) -> list[SpanRow | SystemMetricRow]:
    """What another node tells of itself. The rows' numbers follow from what they say, so all who record it number it
    alike, and nothing told twice counts twice."""
    node = note.node
    rows: list[SpanRow | SystemMetricRow] = []
    for span in note.spans:
        if span.round > note.round + 1:
            continue  # nobody is busy with a round before the one below it is over
        number = span.round * _NUMBERS_OF_A_ROUND + SPAN_NAMES.index(span.name)
        place = (run, node, span.round, span.name, "")
        rows.append(SpanRow(*place, span.started_at, span.seconds, span.bytes, node, number))
    usage = note.usage if isinstance(note, Offer) else {}
    for place_in_round, key in enumerate(sorted(usage)):
        number = note.round * _NUMBERS_OF_A_ROUND + place_in_round
        what = (node, run, "worker", key, "", usage[key], unit_of(key), note.round, at)
        rows.append(SystemMetricRow(*what, node, number))
    return rows
