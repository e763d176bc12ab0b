"""What happens in a run, written into the node's record: one method for every kind of thing that a run's machine tells.

Rows go into the record's buffer and are durable within its flush interval. Whoever shows runs to people is told by
`changed` that there is something new.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from node.seams import Record, TaskOutput
from protocol.checkpoint import open_offer, open_report
from protocol.keys import NodeId, RunId
from protocol.manifest import Manifest
from protocol.run_events import Committed, Elected, Measured, ParticipantState
from tracker.rows import (
    DecisionRow,
    ElectionRow,
    LogRow,
    MetricRow,
    ModelRow,
    ParameterRow,
    ParticipantRow,
    RoundRow,
    Row,
    RunRow,
    StatusRow,
)

NOBODY_REIGNS = (
    "no aggregator is heard: nothing is committed until more than half of the voters hear each other and elect one; "
    "what was learned is kept"
)
_OUTCOMES = ("FINISHED", "STOPPED", "FAILED")
_SIGNED_METRICS_MAX = 64  # of one offer or report: protocol.checkpoint's bound


class Numbers:
    """Numbers upwards, over restarts too: begins at the clock's microseconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._next = int(now() * 1_000_000)

    def __call__(self) -> int:
        self._next += 1
        return self._next


@dataclass(slots=True)
class Live:
    """What of a run is not worth recording, but worth showing while it goes on."""

    note: str = ""
    bytes_sent: int = 0
    bytes_received: int = 0
    round_bytes: int = 0
    committed_at: float = 0.0
    seen_reports: set[tuple[str, int]] = field(default_factory=set)


class Chronicle:
    """One run's entries in this node's record.

    `changed(kind, rows)`: kind "run" when the run looks different now, "metrics" or "log" with new rows.
    """

    def __init__(
        self,
        run: RunId,
        me: NodeId,
        record: Record,
        *,
        now: Callable[[], float],
        sequence: Numbers,
        changed: Callable[[str, tuple[MetricRow, ...] | tuple[LogRow, ...]], None],
    ) -> None:
        self.run = run
        self.live = Live()
        self._me = me
        self._record = record
        self._now = now
        self._sequence = sequence
        self._changed = changed
        self._states: dict[str, tuple[str, str]] = {}
        self._row: RunRow
        self._samples: dict[str, int] = {}  # that each node last trained on, as the record had it

    @property
    def tells_of_others(self) -> bool:
        """Whether the record keeps how others stand, as far as this node has heard."""
        return self._record.tells_of_others

    # --- the run as a whole --------------------------------------------------------------------------------------
    def describe(self, manifest: Manifest, group: str, proposer: NodeId, at: float) -> None:
        """What run this is. First of all calls."""
        self._row = RunRow(
            self.run,
            manifest.name,
            manifest.project,
            manifest.experiment,
            group,
            manifest.task.name or manifest.task.file or "",
            manifest.data.name,
            proposer,
            manifest.training.rounds,
            at,
            json.dumps(manifest.model_dump(mode="json"), sort_keys=True),
        )

    def proposed(self, manifest: Manifest) -> None:
        """The run was proposed in the group's log."""
        parameters = (ParameterRow(self.run, *entry) for entry in _flatten(manifest.model_dump(mode="json")))
        self._record.add(self._row, *parameters)
        self.state("", "PROPOSED", "")

    def restore(self, recorded: Mapping[str, Any], participants: Iterable[Mapping[str, Any]]) -> None:
        """Take up where the record left off, so that a restart writes nothing again. Rows as the record gives them."""
        self._row = replace(self._row, rounds=recorded["rounds"])
        self._states[""] = (recorded["state"], recorded["reason"])
        for row in participants:
            self._states[row["node_id"]] = (row["state"], row["reason"])
            self._samples[row["node_id"]] = row["samples"]

    def decided(self, decision: str, reason: str) -> None:
        self._record.add(DecisionRow(self.run, decision, reason, self._now()))
        self._changed("run", ())

    def started(self, roster: Mapping[str, bool]) -> None:
        """The run has started: `roster` says of every node whether it votes."""
        if roster:
            self._record.add_once(
                ("started", self.run),
                lambda: [
                    ParticipantRow(self.run, node, voter, self._samples.get(node, 0)) for node, voter in roster.items()
                ],
            )
        if self._states.get("", ("", ""))[0] not in _OUTCOMES:
            self.state("", "RUNNING", "")
        self.live.committed_at = self._now()

    def state(self, node: str, state: str, reason: str, round_number: int = 0) -> None:
        """The run ("" for `node`) or a participant is in this state now. Repeating it adds nothing."""
        if self._states.get(node) == (state, reason):
            return
        self._states[node] = (state, reason)
        self._record.add(
            StatusRow(self.run, node, state, reason, round_number, self._now(), self._sequence(), self._me)
        )
        self._changed("run", ())

    def note(self, text: str) -> None:
        self.live.note = text
        self._changed("run", ())

    # --- what the machine tells ----------------------------------------------------------------------------------
    def elected(self, event: Elected) -> None:
        if event.aggregator is not None:
            self._record.add(ElectionRow(self.run, event.term, event.aggregator, self._now()))
        self.note("" if event.aggregator else NOBODY_REIGNS)

    def committed(self, event: Committed, model_bytes: int | None) -> None:
        """A checkpoint is final. What its updates' senders measured while training comes with it.

        `model_bytes` is None where the model is not here.
        """
        checkpoint, at = event.checkpoint, self._now()
        seconds = max(0.0, at - self.live.committed_at) if self.live.committed_at else 0.0
        self.live.committed_at = at
        if model_bytes is not None:
            # An entry that only ends the run has the model of the round before, which who was away has not recorded.
            made_in = checkpoint.round if checkpoint.updates else max(0, checkpoint.round - 1)
            self._record.add(ModelRow(self.run, made_in, checkpoint.model, checkpoint.tensor_schema, model_bytes, at))
        if checkpoint.rounds != self._row.rounds and checkpoint.outcome != "stopped":
            self._row = replace(self._row, rounds=checkpoint.rounds)
            self._record.add(self._row)
        if checkpoint.updates:
            moved = self.live.round_bytes
            self._add_once(
                ("committed", self.run, event.name, str(event.term)),
                lambda: self._round_rows(event, moved, seconds, at),
            )
        self.live.round_bytes = 0
        self._changed("run", ())

    def _round_rows(self, event: Committed, moved: int, seconds: float, at: float) -> list[Row]:
        """The round, and of everybody whose update counted what it measured while it trained."""
        checkpoint = event.checkpoint
        voters = set(checkpoint.voters)
        rows: list[Row] = [self._round_row(event, moved, seconds, at)]
        for entry in checkpoint.updates:
            offer = open_offer(entry.offer).body
            rows.append(ParticipantRow(self.run, offer.node, offer.node in voters, offer.samples))
            rows += self._signed_metrics(offer.node, "local", "train", offer.round, offer.samples, offer.metrics, at)
        return rows

    def _round_row(self, event: Committed, moved: int, seconds: float, at: float) -> RoundRow:
        checkpoint = event.checkpoint
        used = [entry for entry in checkpoint.updates if not entry.refused]
        refused = [
            {"node_id": open_offer(entry.offer).body.node, "reason": f"{entry.refused}: {entry.reason}"}
            for entry in checkpoint.updates
            if entry.refused
        ]
        return RoundRow(
            self.run,
            checkpoint.round,
            event.term,
            checkpoint.maker,
            event.name,
            checkpoint.model,
            at,
            len(used),
            json.dumps(refused),
            moved,
            seconds,
        )

    def measured(self, event: Measured) -> None:
        """Nodes' measurements of checkpoints on their own held-out data; each node's and round's counts once."""
        self._add_once(("measured", self.run, *event.reports), lambda: self._measured_metrics(event.reports))

    def _measured_metrics(self, reports: Iterable[bytes]) -> list[MetricRow]:
        at, rows = self._now(), list[MetricRow]()
        for raw in reports:
            report = open_report(raw).body
            if (report.node, report.round) in self.live.seen_reports:
                continue
            self.live.seen_reports.add((report.node, report.round))
            rows += self._signed_metrics(
                report.node, "global", "eval", report.round, report.samples, report.metrics, at
            )
        return rows

    def participant(self, event: ParticipantState) -> None:
        self.state(event.node, event.state, event.reason, event.round)

    # --- what the task says --------------------------------------------------------------------------------------
    def task_said(self, output: TaskOutput) -> None:
        """A line or a live metric out of our own worker."""
        if output.kind != "metric":
            level = output.level if output.kind == "log" else "INFO"
            self.log(level, f"task.{output.kind}", output.text)
            return
        at, me = self._now(), self._me
        place = (output.round, output.epoch, output.step)
        self._add_metrics(
            [
                MetricRow(self.run, me, "local", "train", key, None, *place, value, 0, at, me, self._sequence())
                for key, value in output.values.items()
            ]
        )

    def log(self, level: str, logger: str, message: str) -> None:
        """A line of this run's log: into the record, and to whoever reads the node's own."""
        row = LogRow(self._me, self.run, level, logger, message, self._now(), self._sequence())
        self._record.add(row)
        self._changed("log", (row,))
        line = message.splitlines()[0] if message else ""
        logging.getLogger(logger).log(
            logging.getLevelName(level), "run %s: %s", self.run[:8], line, extra={"is_recorded": True}
        )

    def moved(self, size: int, *, received: bool) -> None:
        """Bytes of updates or checkpoints came here, or went from here."""
        self.live.round_bytes += size
        if received:
            self.live.bytes_received += size
        else:
            self.live.bytes_sent += size

    def _signed_metrics(
        self,
        node: str,
        scope: str,
        split: str,
        round_number: int,
        samples: int,
        metrics: Mapping[str, float],
        at: float,
    ) -> list[MetricRow]:
        """What a node has signed. Its numbers follow from what they count, so all who record it number it alike."""
        first = (round_number * 2 + (scope == "global")) * _SIGNED_METRICS_MAX
        return [
            MetricRow(
                self.run, node, scope, split, key, None, round_number, 0, 0, value, samples, at, node, first + place
            )
            for place, (key, value) in enumerate(sorted(metrics.items()))
        ]

    def _add_once(self, key: tuple[str | bytes, ...], rows: Callable[[], Sequence[Row]]) -> None:
        """Record what every node makes alike; those who watch are shown the metrics in it."""
        metrics = tuple(row for row in self._record.add_once(key, rows) if isinstance(row, MetricRow))
        if metrics:
            self._changed("metrics", metrics)

    def _add_metrics(self, rows: list[MetricRow]) -> None:
        if rows:
            self._record.add(*rows)
            self._changed("metrics", tuple(rows))


def _flatten(value: Mapping[str, object], prefix: str = "") -> list[tuple[str, str, str]]:
    """Nested keys as dotted names, each with its value as text and its type."""
    entries: list[tuple[str, str, str]] = []
    for key, entry in value.items():
        name = f"{prefix}{key}"
        if isinstance(entry, Mapping):
            entries += _flatten(entry, f"{name}.")
        elif entry is not None:
            text = entry if isinstance(entry, str) else json.dumps(entry)
            entries.append((name, text, type(entry).__name__))
    return entries
